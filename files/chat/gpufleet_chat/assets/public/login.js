// Chainlit's login page shows the text for the status line of a refusal, which HTTP/2 has not, and
// the status line itself as a toast. As the message of a failure the reason is shown once, as text.
const send = window.fetch;

window.fetch = async (input, init) => {
  const response = await send(input, init);
  const path = new URL(input instanceof Request ? input.url : input, location.href).pathname;
  if (response.ok || !/\/(login|auth\/header)$/.test(path)) return response;
  const body = await response.json().catch(() => ({}));
  throw new Error(/^\w+$/.test(body.detail) ? body.detail : "default");
};
