"""Write the pictures of the documentation: python tests/browser/screenshots.py [docs/images].

The chat is a real one; what it says is given, so that the pictures change only when the page does.
"""

from __future__ import annotations

import json
import secrets
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

from chat_page import CHROMIUM, CHROMIUM_FLAGS, ChatPage
from own_chat import CHAT, CHAT_PYTHON, REPOSITORY, Answer, OwnChat
from playwright.sync_api import Browser, ViewportSize, expect, sync_playwright

DESKTOP: ViewportSize = {"width": 1280, "height": 800}
PHONE: ViewportSize = {"width": 390, "height": 844}
CAPITAL = {"en-US": "What is the capital of France?", "zh-CN": "法国的首都是哪里"}
PARIS = {"en-US": "The capital of France is **Paris**.", "zh-CN": "法国的首都是**巴黎**。"}
SORT = "How do I sort a list of names by their length in Python?"
SORTED = """Give `sorted` the length as its key:

```python
names = ["Alexandra", "Bo", "Chen"]
print(sorted(names, key=len))  # ['Bo', 'Chen', 'Alexandra']
```

| You want | Write |
|---|---|
| a new list | `sorted(names, key=len)` |
| the same list | `names.sort(key=len)` |
| the longest first | `sorted(names, key=len, reverse=True)` |

Names of the same length keep their order.
"""
EXPLAIN = {"en-US": "Explain how a rainbow forms.", "zh-CN": "请解释彩虹是怎样形成的。"}
RAINBOW = {
    "en-US": "Sunlight bends in raindrops, is thrown back inside them, and leaves them in colours.",
    "zh-CN": "阳光在雨滴中折射并反射、离开时分成不同的颜色。",
}
LEAF = (
    '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 32 32"><circle cx="16" cy="16" r="16" '
    'fill="#9333ea"/><path d="M8 20C8 12 14 8 24 8c0 10-4 16-12 16l-2-2 6-7-7 6z" fill="#fff"/>'
    "</svg>"
)


@dataclass
class Camera:
    """Takes pictures of the pages of one browser into one directory."""

    browser: Browser
    directory: Path

    def visit(
        self, chat: OwnChat, locale: str = "en-US", size: ViewportSize = DESKTOP, dark: bool = False
    ) -> ChatPage:
        """A page that is ready."""
        context = self.browser.new_context(
            locale=locale, viewport=size, color_scheme="dark" if dark else "light"
        )
        page = ChatPage(context.new_page(), chat.url)
        page.open()
        # The welcome screen fades in.
        page.page.wait_for_timeout(1000)
        return page

    def take(self, page: ChatPage, name: str) -> None:
        """Write one picture, once nothing moves any more."""
        page.page.mouse.move(0, 0)
        page.page.wait_for_timeout(800)
        page.page.screenshot(path=self.directory / f"{name}.png")


def answered(chat: OwnChat, page: ChatPage, question: str, answer: str) -> None:
    """Ask, and wait for the whole answer."""
    before = len(page.answers())
    chat.fake.script.append(Answer((answer,)))
    page.ask(question)
    page.until(lambda: len(page.answers()) > before, 15)
    page.wait_answered()


def conversations(camera: Camera, chat: OwnChat) -> None:
    """The welcome and answers."""
    page = camera.visit(chat)
    camera.take(page, "chat-welcome")
    answered(chat, page, SORT, SORTED)
    camera.take(page, "chat-desktop")
    for name, locale, size in (
        ("chat-zh-CN", "zh-CN", DESKTOP),
        ("chat-phone", "en-US", PHONE),
    ):
        page = camera.visit(chat, locale, size)
        answered(chat, page, CAPITAL[locale], PARIS[locale])
        camera.take(page, name)


def recovering(camera: Camera, chat: OwnChat) -> None:
    """Pages while the back end is away, and one when it is back."""
    pages = {
        "chat-recovering": ("en-US", camera.visit(chat)),
        "chat-phone-recovering-zh-CN": ("zh-CN", camera.visit(chat, "zh-CN", PHONE)),
    }
    for locale, page in pages.values():
        answered(chat, page, CAPITAL[locale], PARIS[locale])
    chat.fail()
    for name, (locale, page) in pages.items():
        expect(page.banner()).to_have_attribute("data-state", "down", timeout=15_000)
        page.ask(EXPLAIN[locale])
        expect(page.page.locator(".ai-message")).to_have_count(2, timeout=15_000)
        camera.take(page, name)
        # Answered in the order of asking.
        chat.fake.script.append(Answer((RAINBOW[locale],)))
    chat.recover()
    page = pages["chat-recovering"][1]
    expect(page.banner()).to_have_attribute("data-state", "up", timeout=15_000)
    page.wait_answered()
    camera.take(page, "chat-back")


def queued(camera: Camera, chat: OwnChat, places: int) -> None:
    """Pages whose question waits behind those of others."""
    chat.fake.script.extend([Answer(("Once upon a time",), "hang")] * places)
    crowd = [camera.visit(chat) for _ in range(places + 1)]
    for page in crowd:
        page.ask("Write a long story about a river.")
        page.page.wait_for_timeout(300)
    for name, locale, size in (
        ("chat-queued", "en-US", DESKTOP),
        ("chat-phone-queued-zh-CN", "zh-CN", PHONE),
    ):
        page = camera.visit(chat, locale, size)
        page.ask(EXPLAIN[locale])
        expect(page.page.locator(".ai-message")).to_have_count(1, timeout=15_000)
        expect(page.banner()).to_have_attribute("data-state", "saturated", timeout=15_000)
        camera.take(page, name)


def history(camera: Camera, directory: Path) -> None:
    """The conversations of somebody who has logged in, in the sidebar."""
    credentials = directory / "credentials"
    credentials.mkdir()
    password = secrets.token_urlsafe()
    hashed = subprocess.run(
        [CHAT_PYTHON, "-m", "gpufleet_chat", "--hash-password"],
        input=password,
        env={"PYTHONPATH": str(CHAT)},
        capture_output=True,
        text=True,
        check=True,
    ).stdout.strip()
    users = [{"name": "reader", "hash": hashed}]
    (credentials / "users").write_text(json.dumps(users), encoding="utf-8")
    (credentials / "auth_secret").write_text(secrets.token_urlsafe(), encoding="utf-8")
    with OwnChat(directory, credentials, login="password") as chat:
        context = camera.browser.new_context(locale="en-US", viewport=DESKTOP, color_scheme="light")
        page = ChatPage(context.new_page(), chat.url)
        page.page.goto(chat.url)
        page.page.locator("#email").fill("reader")
        page.page.locator("#password").fill(password)
        page.page.locator("button[type=submit]").click()
        expect(page.page.locator("#chat-input")).to_be_visible(timeout=20_000)
        for question, answer in (
            (EXPLAIN["en-US"], RAINBOW["en-US"]),
            (CAPITAL["en-US"], PARIS["en-US"]),
            (SORT, SORTED),
        ):
            page.page.goto(chat.url)
            expect(page.page.locator("#chat-input")).to_be_visible(timeout=20_000)
            answered(chat, page, question, answer)
        expect(page.page.locator("#thread-history a")).to_have_count(3)
        camera.take(page, "chat-history")


def own_looks(camera: Camera, directory: Path) -> None:
    """A name, a logo and a colour of one's own, in the dark."""
    (directory / "logo.svg").write_text(LEAF, encoding="utf-8")
    looks = {"title": "Leaf Assistant", "logo_path": "logo.svg", "primary_color": "#9333ea"}
    with OwnChat(directory, **looks) as chat:
        page = camera.visit(chat, dark=True)
        camera.take(page, "chat-dark-welcome")
        answered(chat, page, SORT, SORTED)
        camera.take(page, "chat-dark")


def main() -> None:
    """Take all pictures."""
    directory = Path(sys.argv[1]) if len(sys.argv) > 1 else REPOSITORY / "docs" / "images"
    directory.mkdir(parents=True, exist_ok=True)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=CHROMIUM_FLAGS)
        camera = Camera(browser, directory)
        with tempfile.TemporaryDirectory() as place, OwnChat(Path(place)) as chat:
            conversations(camera, chat)
            recovering(camera, chat)
        with (
            tempfile.TemporaryDirectory() as place,
            OwnChat(Path(place), concurrent_answers=2) as chat,
        ):
            queued(camera, chat, 2)
        with tempfile.TemporaryDirectory() as place:
            own_looks(camera, Path(place))
        with tempfile.TemporaryDirectory() as place:
            history(camera, Path(place))
        browser.close()


if __name__ == "__main__":
    main()
