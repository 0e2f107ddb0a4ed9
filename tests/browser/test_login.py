"""Logging in with a password, in a real browser on a running chat with chainlit_login: password.

CHAT_USER and CHAT_PASSWORD are those of one of its users. The last test makes this machine's
address wait, for at most a quarter of an hour when it is run again and again.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator

import pytest
from chat_page import ChatPage
from playwright.sync_api import Browser, BrowserContext, Page, expect

USER = os.environ.get("CHAT_USER", "")
PASSWORD = os.environ.get("CHAT_PASSWORD", "")
REFUSED = {"en-US": "user name or the password is not right", "zh-CN": "用户名或密码不正确"}
WAIT = {"en-US": r"try again in \d+ seconds", "zh-CN": r"请在 \d+ 秒后重试"}
OpenLogin = Callable[..., Page]


@pytest.fixture
def open_login(browser: Browser, chat_url: str) -> Iterator[OpenLogin]:
    """Open the chat as a stranger, who is shown the login page."""
    if not USER or not PASSWORD:
        pytest.fail("set CHAT_USER and CHAT_PASSWORD to those of a user of the chat")
    contexts: list[BrowserContext] = []

    def open_page(locale: str = "en-US") -> Page:
        context = browser.new_context(locale=locale, ignore_https_errors=True)
        contexts.append(context)
        page = context.new_page()
        page.goto(chat_url)
        expect(page.locator("#password")).to_be_visible(timeout=20_000)
        return page

    yield open_page
    for context in contexts:
        context.close()


def log_in(page: Page, name: str, password: str) -> None:
    """Fill in the form and send it."""
    page.locator("#email").fill(name)
    page.locator("#password").fill(password)
    page.locator("button[type=submit]").click()


def test_in_and_out(open_login: OpenLogin, chat_url: str) -> None:
    page = open_login()
    expect(page.get_by_text("User name")).to_be_visible()
    expect(page.get_by_role("heading", name="Log in")).to_be_visible()
    log_in(page, USER, PASSWORD)
    expect(page.locator("#chat-input")).to_be_visible(timeout=20_000)
    chat = ChatPage(page, chat_url)
    chat.ask("What is the capital of France?")
    expect(page.locator(".ai-message")).to_have_count(1, timeout=60_000)
    chat.wait_answered()
    cookies = {cookie["name"]: cookie for cookie in page.context.cookies()}
    session = cookies["access_token"]
    assert session["httpOnly"]
    assert session["sameSite"] == "Lax"
    assert session["secure"] == chat_url.startswith("https:")
    # Still in after a reload.
    page.reload()
    expect(page.locator("#chat-input")).to_be_visible(timeout=20_000)
    page.locator("#user-nav-button").click()
    page.get_by_role("menuitem", name="Logout").click()
    expect(page.locator("#password")).to_be_visible(timeout=20_000)
    assert "access_token" not in {cookie["name"] for cookie in page.context.cookies()}
    page.goto(chat_url)
    expect(page.locator("#password")).to_be_visible(timeout=20_000)


@pytest.mark.parametrize("locale", ["en-US", "zh-CN"])
def test_wrong_password_and_waiting_are_said_plainly(open_login: OpenLogin, locale: str) -> None:
    page = open_login(locale)
    # A name that nobody has: nobody is kept out by this test.
    name = f"nobody-{locale}"
    log_in(page, name, "wrong password")
    expect(page.get_by_text(REFUSED[locale])).to_be_visible(timeout=10_000)
    expect(page.locator("[data-sonner-toast]")).to_have_count(0)
    for _ in range(6):
        expect(page.locator("button[type=submit]")).to_be_enabled()
        log_in(page, name, "wrong password")
        page.wait_for_timeout(500)
    expect(page.get_by_text(re.compile(WAIT[locale]))).to_be_visible(timeout=10_000)
    # Said once, in words, and not as a toast with the line of the status.
    expect(page.locator("[data-sonner-toast]")).to_have_count(0)
