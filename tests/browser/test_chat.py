"""What a person does with the chat, in a real browser on the whole stack."""

from __future__ import annotations

import re
from collections.abc import Callable

from chat_page import FIRST_PAINT_MS, ChatPage
from playwright.sync_api import Browser, expect

OpenChat = Callable[..., ChatPage]
QUESTION = "What is the capital of France?"
LONG_QUESTION = "Write a long story about a river, with many details."


def test_answer_grows_and_is_right(open_chat: OpenChat) -> None:
    chat = open_chat()
    chat.watch_growth()
    chat.ask(QUESTION)
    expect(chat.page.locator(".ai-message").last).to_contain_text("Paris", timeout=60_000)
    chat.wait_answered()
    assert len(chat.seen_lengths()) >= 3
    assert len(chat.answers()) == 1


def test_conversation_is_remembered_until_a_new_chat(open_chat: OpenChat) -> None:
    chat = open_chat()
    chat.ask(QUESTION)
    expect(chat.page.locator(".ai-message").last).to_contain_text("Paris", timeout=60_000)
    chat.wait_answered()
    chat.page.locator("#new-chat-button").click()
    chat.page.locator("#confirm").click()
    expect(chat.page.locator("#welcome-screen")).to_be_visible()
    assert chat.answers() == []


def test_stop_keeps_what_was_written(open_chat: OpenChat) -> None:
    chat = open_chat()
    chat.watch_growth()
    chat.ask(LONG_QUESTION)
    chat.wait_for_lengths(3)
    chat.page.locator("#stop-button").click()
    chat.wait_answered(5)
    chat.page.wait_for_timeout(1000)  # what was on its way
    stopped = chat.last_answer()
    chat.page.wait_for_timeout(1500)
    assert chat.answers() == [stopped]
    assert "manually" not in stopped
    # The session takes the next question.
    chat.ask(QUESTION)
    expect(chat.page.locator(".ai-message")).to_have_count(2, timeout=60_000)


def test_page_speaks_chinese_to_a_chinese_browser(open_chat: OpenChat) -> None:
    chat = open_chat(locale="zh-CN")
    expect(chat.page.locator("#starters")).to_contain_text("解释一个现象")
    placeholder = chat.page.locator("#message-composer").inner_html()
    assert re.search(r"[\u4e00-\u9fff]", placeholder)
    chat.page.locator("#readme-button").click()
    expect(chat.page.get_by_role("dialog")).to_contain_text("欢迎使用")
    assert chat.page.evaluate("document.documentElement.lang") == "zh-CN"


def test_welcome_is_shown(open_chat: OpenChat) -> None:
    chat = open_chat()
    expect(chat.page.locator("#welcome-screen img.logo")).to_be_visible()
    assert chat.page.locator("#welcome-screen img.logo").evaluate("image => image.naturalWidth") > 0
    expect(chat.page.locator("#starters button")).to_have_count(3)
    chat.page.locator("#readme-button").click()
    expect(chat.page.get_by_role("dialog")).to_contain_text("Welcome to")


def test_starter_asks_its_question(open_chat: OpenChat) -> None:
    chat = open_chat()
    chat.page.locator("#starters button").last.click()
    expect(chat.page.locator(".ai-message").last).to_contain_text("Paris", timeout=60_000)


def test_nothing_comes_from_elsewhere_and_nothing_is_refused(open_chat: OpenChat) -> None:
    chat = open_chat()
    chat.ask("Show a line of Python code.")
    expect(chat.page.locator(".ai-message").last).to_be_visible(timeout=60_000)
    chat.wait_answered()
    assert chat.foreign_requests == []
    # A violation of the content security policy would be noted here.
    assert chat.console_errors == []


def test_first_paint_waits_for_no_foreign_host(browser: Browser, chat_url: str) -> None:
    context = browser.new_context(ignore_https_errors=True)
    chat = ChatPage(context.new_page(), chat_url)
    # A foreign host that does not answer would hold the page up for the whole test.
    own = re.escape(chat_url.split("/")[2])
    chat.page.route(re.compile(rf"^https?://(?!{own})"), lambda _: None)
    chat.open()
    paints = chat.paints()
    context.close()
    assert max(paints.values()) <= FIRST_PAINT_MS
