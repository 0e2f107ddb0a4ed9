// Shows at the top of the page whether the assistant is recovering, offline, in great demand or back.
const BACK_SHOWN_MS = 4000;
const DAY_MS = 86_400_000;

const banner = document.createElement("div");
banner.id = "service-banner";
// There from the beginning: of a region that comes with its text, nothing is read aloud.
banner.setAttribute("role", "status");
banner.setAttribute("aria-live", "polite");
banner.dataset.state = "hidden";
document.body.append(banner);
let timer = 0;

function show(state, text) {
  banner.textContent = text;
  banner.dataset.state = state;
}

function hide() {
  banner.dataset.state = "hidden";
  banner.textContent = "";
}

// By this browser's clock, which need not be that of the service.
function since(seconds) {
  const begin = new Date(Date.now() - seconds * 1000);
  const day = Date.now() - begin > DAY_MS ? { day: "numeric", month: "short" } : {};
  return begin.toLocaleString(navigator.language, { ...day, hour: "2-digit", minute: "2-digit" });
}

window.addEventListener("message", (message) => {
  const data = message.data;
  // Other windows may post messages too; only the page itself speaks for the service.
  if (message.origin !== window.location.origin || data?.type !== "service-state") return;
  const shown = banner.dataset.state;
  if (data.state !== "up") {
    window.clearTimeout(timer);
    show(data.state, data.text.replace("{since}", since(data.seconds)));
  } else if (shown === "down" || shown === "offline") {
    show("up", data.text);
    timer = window.setTimeout(hide, BACK_SHOWN_MS);
  } else if (shown === "saturated") {
    // It was never away.
    hide();
  }
});
