// Reads an answer aloud, to those who have a screen reader, once it is complete.
const MOST = 2000;

const region = document.createElement("div");
region.id = "answer-read-aloud";
region.className = "only-read-aloud";
region.setAttribute("role", "status");
document.body.append(region);
let running = false;

new MutationObserver(() => {
  const runs = document.getElementById("stop-button") !== null;
  if (runs === running) return;
  running = runs;
  const answer = [...document.querySelectorAll(".ai-message .message-content")].pop();
  // Word by word, as it comes, nobody could follow it.
  region.textContent = runs ? "" : (answer?.innerText ?? "").slice(0, MOST);
}).observe(document.getElementById("root"), { childList: true, subtree: true });
