"""What people see of each other: a limit, a line and its end, in a real browser on the whole stack.

CHAT_MESSAGES is the chat's chainlit_messages_per_minute, CHAT_PLACES its number of answers at once.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable

from chat_page import ChatPage
from playwright.sync_api import expect

OpenChat = Callable[..., ChatPage]
MESSAGES = int(os.environ.get("CHAT_MESSAGES", "10"))
PLACES = int(os.environ.get("CHAT_PLACES", "8"))
LONG_QUESTION = "Write a long story about a river, with many details."


def test_limit_tells_the_seconds_and_keeps_the_question(open_chat: OpenChat) -> None:
    chat = open_chat()
    for number in range(MESSAGES):
        chat.ask(f"Say {number}.")
        expect(chat.page.locator(".ai-message")).to_have_count(number + 1, timeout=60_000)
        chat.stop()
        chat.wait_answered(10)
    chat.ask("This one is too many.")
    refusal = chat.page.locator(".ai-message").last
    expect(refusal).to_contain_text(re.compile(r"ask again in \d+ seconds"), timeout=10_000)
    expect(chat.page.get_by_text("This one is too many.", exact=True)).to_be_visible()
    expect(chat.page.get_by_role("button", name="Try again")).to_be_visible()
    # A new tab of the same browser is the same person, another browser is not.
    tab = ChatPage(chat.page.context.new_page(), chat.url)
    tab.open()
    tab.ask("Hello")
    expect(tab.page.locator(".ai-message").last).to_contain_text("ask again in", timeout=10_000)
    other = open_chat()
    other.ask("Hello")
    expect(other.page.locator(".ai-message").last).not_to_contain_text("again", timeout=60_000)


def test_line_is_shown_and_moves(open_chat: OpenChat) -> None:
    crowd = [open_chat() for _ in range(PLACES)]
    second, last = open_chat(), open_chat(locale="zh-CN")
    watcher = open_chat()
    for chat in (*crowd, second):
        chat.ask(LONG_QUESTION)
    notice = second.page.locator(".ai-message").last
    expect(notice).to_contain_text("is next", timeout=20_000)
    last.ask("你好")
    expect(last.page.locator(".ai-message").last).to_contain_text("前面还有 1 个", timeout=20_000)
    # Pages that ask nothing are told too.
    expect(watcher.banner()).to_have_attribute("data-state", "saturated", timeout=20_000)
    expect(watcher.banner()).to_contain_text("Many people are asking")
    second.stop()
    expect(notice).to_have_text("Stopped.", timeout=5_000)
    expect(last.page.locator(".ai-message").last).to_contain_text("下一个", timeout=10_000)
    for chat in crowd:
        chat.stop()
    last.wait_answered()
    # The notice has given way to the answer.
    assert not any("前面" in text for text in last.answers())
    # Calm again, and nothing claims that the assistant was away.
    expect(watcher.banner()).to_have_attribute("data-state", "hidden", timeout=20_000)
