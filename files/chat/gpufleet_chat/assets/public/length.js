// Keeps a question that is too long on the page: sent, it would only break the connection.
import { text } from "./language.js";
import values from "./values.js";

const SHOWN_MS = 6000;

const notice = document.createElement("div");
notice.id = "length-notice";
notice.setAttribute("role", "alert");
document.body.append(notice);
let timer = 0;

function isTooLong(input) {
  return input !== null && input.value.length > values.most;
}

function refuse(event) {
  event.preventDefault();
  event.stopImmediatePropagation();
  notice.textContent = text("too_long");
  window.clearTimeout(timer);
  timer = window.setTimeout(() => (notice.textContent = ""), SHOWN_MS);
}

// Before the page's own handlers, which are on the root.
window.addEventListener(
  "keydown",
  (event) => {
    if (event.key === "Enter" && !event.shiftKey && event.target.id === "chat-input" && isTooLong(event.target)) {
      refuse(event);
    }
  },
  { capture: true },
);
window.addEventListener(
  "click",
  (event) => {
    const sends = (button, input) => event.target.closest?.(button) && isTooLong(document.querySelector(input));
    if (sends("#chat-submit", "#chat-input") || sends(".confirm-edit", "#edit-chat-input")) refuse(event);
  },
  { capture: true },
);
