// Chainlit's login page shows a text for the status line of a refusal, which HTTP/2 has not: give
// it the refusal's own reason.
const send = window.fetch;

window.fetch = async (input, init) => {
  const response = await send(input, init);
  const path = new URL(input instanceof Request ? input.url : input, location.href).pathname;
  if (response.ok || !/\/(login|auth\/header)$/.test(path)) return response;
  const body = await response.text();
  let reason = "default";
  try {
    const { detail } = JSON.parse(body);
    if (/^\w+$/.test(detail)) reason = detail;
  } catch {
    // Not the chat's own answer.
  }
  const { status, headers } = response;
  return new Response(body, { status, headers, statusText: reason });
};
