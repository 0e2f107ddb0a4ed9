"""What a person does on the chat page, and what they see there."""

from __future__ import annotations

import time
from collections.abc import Callable
from urllib.parse import urlsplit

from playwright.sync_api import Locator, Page, Request, expect

CHROMIUM = "/usr/bin/chromium"
CHROMIUM_FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
# Seconds a whole answer may take on a slow machine.
ANSWER_SECONDS = 120.0
# How soon something is to be seen.
FIRST_PAINT_MS = 1000


class ChatPage:
    """One open page of the chat."""

    def __init__(self, page: Page, url: str) -> None:
        self.page = page
        self.url = url
        self.foreign_requests: list[str] = []
        self.console_errors: list[str] = []
        page.on("request", self._note_request)
        page.on(
            "console",
            lambda message: (
                self.console_errors.append(message.text) if message.type == "error" else None
            ),
        )

    def open(self) -> None:
        """Load the page and wait until one can type."""
        self.page.goto(self.url)
        expect(self.page.locator("#chat-input")).to_be_visible(timeout=20_000)

    def ask(self, question: str) -> None:
        """Type a question and send it."""
        self.page.locator("#chat-input").fill(question)
        # Sending is refused without a connection.
        expect(self.page.locator("#chat-submit")).to_be_enabled(timeout=20_000)
        self.page.locator("#chat-submit").click()

    def answers(self) -> list[str]:
        """The texts of all messages of the assistant, notices included."""
        return [text.strip() for text in self.page.locator(".ai-message").all_inner_texts()]

    def last_answer(self) -> str:
        """The text of the newest message of the assistant; empty when there is none."""
        answers = self.answers()
        return answers[-1] if answers else ""

    def stop(self) -> None:
        """Press stop, if an answer still grows.

        In one step: where the stop button was, the button that sends is when the answer has ended.
        """
        self.page.evaluate("() => document.querySelector('#stop-button')?.click()")

    def wait_answered(self, seconds: float = ANSWER_SECONDS) -> None:
        """Wait until nothing runs any more."""
        expect(self.page.locator("#stop-button")).to_have_count(0, timeout=seconds * 1000)

    def watch_growth(self) -> None:
        """From now on let the page itself note each length of the newest answer."""
        self.page.evaluate(
            """() => {
              window.seenLengths = [];
              new MutationObserver(() => {
                const answer = [...document.querySelectorAll(".ai-message")].pop();
                const length = answer ? answer.innerText.trim().length : 0;
                if (length > (window.seenLengths.at(-1) ?? 0)) window.seenLengths.push(length);
              }).observe(document.body, {childList: true, subtree: true, characterData: true});
            }"""
        )

    def seen_lengths(self) -> list[int]:
        """The growing lengths noted since watch_growth."""
        return list(self.page.evaluate("window.seenLengths"))

    def wait_for_lengths(self, count: int, seconds: float = ANSWER_SECONDS) -> None:
        """Wait until the answer has grown so many times."""
        self.until(lambda: len(self.seen_lengths()) >= count, seconds)

    def until(self, condition: Callable[[], bool], seconds: float) -> None:
        """Wait until the condition holds.

        Playwright's own wait_for_function evaluates text, which the page's policy forbids.
        """
        deadline = time.monotonic() + seconds
        while not condition():
            assert time.monotonic() < deadline, f"not seen within {seconds} s"
            self.page.wait_for_timeout(50)

    def paints(self) -> dict[str, float]:
        """When the page has painted something, and something of its own, in milliseconds."""
        entries = "performance.getEntriesByType('paint').map((e) => [e.name, e.startTime])"
        found: dict[str, float] = dict(self.page.evaluate(entries))
        assert found.keys() == {"first-paint", "first-contentful-paint"}
        return found

    def banner(self) -> Locator:
        """The bar that tells the state of the service."""
        return self.page.locator("#service-banner")

    def _note_request(self, request: Request) -> None:
        host = urlsplit(request.url).hostname
        if host and host != urlsplit(self.url).hostname:
            self.foreign_requests.append(request.url)
