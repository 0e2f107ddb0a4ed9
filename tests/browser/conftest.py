"""A real browser on a running chat; its address comes from the environment."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from playwright.sync_api import Browser, BrowserContext, sync_playwright

if TYPE_CHECKING:
    from chat_page import ChatPage
    from own_chat import OwnChat

# The tests and the script for pictures share chat_page.py, which lies beside them.
sys.path.insert(0, str(Path(__file__).parent))


@pytest.fixture(scope="session")
def chat_url() -> str:
    """Where the chat answers, such as http://127.0.0.1:7860/."""
    url = os.environ.get("CHAT_URL")
    if not url:
        pytest.fail("set CHAT_URL to the address of a running chat")
    return url


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    """One headless browser for all tests."""
    from chat_page import CHROMIUM, CHROMIUM_FLAGS

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=CHROMIUM_FLAGS)
        yield browser
        browser.close()


@pytest.fixture
def open_chat(browser: Browser, chat_url: str) -> Iterator[Callable[..., ChatPage]]:
    """Open the chat as a person with a fresh browser profile of this language."""
    from chat_page import ChatPage

    contexts: list[BrowserContext] = []

    def open_page(locale: str = "en-US") -> ChatPage:
        context = browser.new_context(locale=locale, ignore_https_errors=True)
        contexts.append(context)
        page = ChatPage(context.new_page(), chat_url)
        page.open()
        return page

    yield open_page
    for context in contexts:
        context.close()


@pytest.fixture
def own_chat(tmp_path: Path) -> Iterator[OwnChat]:
    """A chat of the test's own, whose back end does what the test says."""
    from own_chat import OwnChat

    with OwnChat(tmp_path) as chat:
        yield chat


@pytest.fixture
def visit(browser: Browser) -> Iterator[Callable[..., ChatPage]]:
    """Open a chat as a person with a fresh browser profile; options are those of the profile."""
    from chat_page import ChatPage

    contexts: list[BrowserContext] = []

    def open_page(url: str, locale: str = "en-US", **options: Any) -> ChatPage:
        context = browser.new_context(locale=locale, **options)
        contexts.append(context)
        page = ChatPage(context.new_page(), url)
        page.open()
        return page

    yield open_page
    for context in contexts:
        context.close()
