// Shows at the top of the page whether the assistant is recovering, offline, in great demand or back.
(() => {
  "use strict";
  const BACK_SHOWN_MS = 4000;
  let banner = null;
  let timer = 0;

  function show(state, text) {
    if (!banner) {
      banner = document.createElement("div");
      banner.id = "service-banner";
      banner.setAttribute("role", "status");
      banner.setAttribute("aria-live", "polite");
      document.body.append(banner);
    }
    banner.textContent = text;
    banner.dataset.state = state;
  }

  function hide() {
    banner.dataset.state = "hidden";
    banner.textContent = "";
  }

  window.addEventListener("message", (message) => {
    const data = message.data;
    // Other windows may post messages too; only the page itself speaks for the service.
    if (message.origin !== window.location.origin || data?.type !== "service-state") return;
    const shown = banner?.dataset.state;
    if (data.state !== "up") {
      window.clearTimeout(timer);
      show(data.state, data.text);
    } else if (shown === "down" || shown === "offline") {
      show("up", data.text);
      timer = window.setTimeout(hide, BACK_SHOWN_MS);
    } else if (shown === "saturated") {
      // It was never away.
      hide();
    }
  });

  // For screen readers and fonts: the page says which language it is in.
  document.documentElement.lang = navigator.language;
})();
