// Gives a name to what Chainlit shows as a mere picture, in the language of the page.
import { text } from "./language.js";
import values from "./values.js";

const NAMES = {
  "#new-chat-button": "new_chat",
  "#theme-toggle": "theme",
  "#upload-button": "add_file",
  "#chat-settings-open-modal": "settings",
  "#chat-submit": "send",
  "#stop-button": "stop",
  "#chat-input": "question",
  "#edit-chat-input": "question",
  ".edit-message": "edit",
  "button:has(> svg.lucide-copy)": "copy",
  "button:has(> svg.lucide-check)": "copied",
  "button:has(> svg.lucide-refresh-cw)": "regenerate",
  "button:has(> svg.lucide-file-down)": "export_markdown",
  "button:has(> svg.lucide-braces)": "export_json",
  "button:has(> svg.lucide-arrow-down)": "scroll_down",
  '[role="dialog"] > button:has(> svg.lucide-x)': "close",
};

function set(element, attribute, value) {
  // Each change would call the observer again.
  if (element.getAttribute(attribute) !== value) element.setAttribute(attribute, value);
}

function name() {
  for (const [selector, key] of Object.entries(NAMES)) {
    for (const element of document.querySelectorAll(selector)) set(element, "aria-label", text(key));
  }
  for (const button of document.querySelectorAll('button[role="presentation"]')) button.removeAttribute("role");
  for (const slider of document.querySelectorAll('[role="slider"]')) {
    const label = slider.closest("div:has(label)")?.querySelector("label");
    if (label) set(slider, "aria-label", label.textContent);
  }
  for (const answer of document.querySelectorAll(".ai-message")) {
    set(answer, "role", "group");
    set(answer, "aria-label", text("answer"));
  }
}

const heading = document.createElement("header");
heading.className = "only-read-aloud";
heading.append(document.createElement("h1"));
heading.firstChild.textContent = values.title;
document.body.prepend(heading);
document.getElementById("root").setAttribute("role", "main");

let planned = false;
new MutationObserver(() => {
  // Once per frame, however many tokens come.
  if (planned) return;
  planned = true;
  window.requestAnimationFrame(() => {
    planned = false;
    name();
  });
}).observe(document.body, { childList: true, subtree: true, attributeFilter: ["class", "role"] });
