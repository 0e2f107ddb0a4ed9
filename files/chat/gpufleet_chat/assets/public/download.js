// Saves a file that the service sends to this page, such as an exported conversation.
window.addEventListener("message", (message) => {
  const data = message.data;
  // Other windows may post messages too; only the page itself speaks for the service.
  if (message.origin !== window.location.origin || data?.type !== "download") return;
  const link = document.createElement("a");
  link.href = URL.createObjectURL(new Blob([data.text], { type: data.mime }));
  link.download = data.name;
  link.click();
  // The browser has taken the content by then.
  window.setTimeout(() => URL.revokeObjectURL(link.href), 10_000);
});
