"""Write pictures of the chat into a directory: python screenshots.py URL DIRECTORY.

With CHAT_STOP_COMMAND and CHAT_START_COMMAND set, the recovering page is among them; with
CHAT_PLACES, the number of answers that the chat has in progress at once, the page in line is.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from chat_page import CHROMIUM, CHROMIUM_FLAGS, ChatPage
from playwright.sync_api import Browser, ViewportSize, expect, sync_playwright

QUESTION = {"en-US": "What is the capital of France?", "zh-CN": "法国的首都是哪里"}
DESKTOP: ViewportSize = {"width": 1280, "height": 800}
PHONE: ViewportSize = {"width": 390, "height": 844}


def chat_page(browser: Browser, url: str, locale: str, viewport: ViewportSize) -> ChatPage:
    """A fresh page that is ready."""
    context = browser.new_context(locale=locale, viewport=viewport, ignore_https_errors=True)
    chat = ChatPage(context.new_page(), url)
    chat.open()
    # The welcome screen fades in.
    chat.page.wait_for_timeout(1000)
    return chat


def pictures(browser: Browser, url: str, directory: Path) -> None:
    """The welcome and an answer, per language and size."""
    for name, locale, viewport in (
        ("desktop-en", "en-US", DESKTOP),
        ("phone-en", "en-US", PHONE),
        ("desktop-zh", "zh-CN", DESKTOP),
    ):
        chat = chat_page(browser, url, locale, viewport)
        chat.page.screenshot(path=directory / f"{name}-welcome.png")
        chat.ask(QUESTION[locale])
        expect(chat.page.locator(".ai-message").last).to_be_visible(timeout=60_000)
        chat.wait_answered()
        chat.page.screenshot(path=directory / f"{name}-answer.png")
        chat.page.locator("#readme-button").click()
        chat.page.wait_for_timeout(500)
        chat.page.screenshot(path=directory / f"{name}-readme.png")


def recovering(browser: Browser, url: str, directory: Path) -> None:
    """A page while the back end is away, and when it is back."""
    pages = {
        "desktop-en": chat_page(browser, url, "en-US", DESKTOP),
        "phone-zh": chat_page(browser, url, "zh-CN", PHONE),
    }
    subprocess.run(["bash", "-c", os.environ["CHAT_STOP_COMMAND"]], check=True)
    for name, chat in pages.items():
        expect(chat.banner()).to_have_attribute("data-state", "down", timeout=15_000)
        chat.ask(QUESTION["zh-CN" if name.endswith("zh") else "en-US"])
        expect(chat.page.locator(".ai-message")).to_have_count(1, timeout=15_000)
        chat.page.wait_for_timeout(500)
        chat.page.screenshot(path=directory / f"{name}-recovering.png")
    subprocess.run(["bash", "-c", os.environ["CHAT_START_COMMAND"]], check=True)
    for name, chat in pages.items():
        expect(chat.banner()).to_have_attribute("data-state", "up", timeout=300_000)
        chat.page.wait_for_timeout(400)
        chat.page.screenshot(path=directory / f"{name}-back.png")


def queued(browser: Browser, url: str, directory: Path) -> None:
    """Pages whose question waits behind those of others."""
    crowd = [
        chat_page(browser, url, "en-US", DESKTOP) for _ in range(int(os.environ["CHAT_PLACES"]) + 1)
    ]
    waiting = {
        "desktop-en": chat_page(browser, url, "en-US", DESKTOP),
        "phone-zh": chat_page(browser, url, "zh-CN", PHONE),
    }
    for chat in crowd:
        chat.ask("Write a long story about a river, with many details.")
    for name, chat in waiting.items():
        chat.ask(QUESTION["zh-CN" if name.endswith("zh") else "en-US"])
    for name, chat in waiting.items():
        expect(chat.page.locator(".ai-message")).to_have_count(1, timeout=15_000)
        expect(chat.banner()).to_have_attribute("data-state", "saturated", timeout=15_000)
        chat.page.wait_for_timeout(500)
        chat.page.screenshot(path=directory / f"{name}-queued.png")
    for chat in crowd:
        if chat.page.locator("#stop-button").is_visible():
            chat.page.locator("#stop-button").click()


def main() -> None:
    """Take all pictures."""
    url, directory = sys.argv[1], Path(sys.argv[2])
    directory.mkdir(parents=True, exist_ok=True)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=CHROMIUM_FLAGS)
        pictures(browser, url, directory)
        if "CHAT_STOP_COMMAND" in os.environ and "CHAT_START_COMMAND" in os.environ:
            recovering(browser, url, directory)
        if "CHAT_PLACES" in os.environ:
            queued(browser, url, directory)
        browser.close()


if __name__ == "__main__":
    main()
