"""The back end dies and comes back while people have the page open.

CHAT_STOP_COMMAND breaks the back end, CHAT_START_COMMAND restores it and may return at once.
CHAT_HEALTH_URL is the gateway's /v1/health when it is not beside the chat.
"""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable, Iterator

import pytest
from chat_page import ChatPage
from playwright.sync_api import Error, Page, expect

OpenChat = Callable[..., ChatPage]
TOLD_DOWN_MS = 10_000
TOLD_BACK_MS = 5_000
RECOVERY_MS = 300_000
QUESTION = "What is the capital of France?"
LONG_QUESTION = "Write a long story about a river, with many details."


def command(name: str) -> None:
    """Run the command that an environment variable holds."""
    line = os.environ.get(name)
    if not line:
        pytest.fail(f"set {name} to a command that acts on the back end")
    subprocess.run(["bash", "-c", line], check=True, timeout=300)


def healthy(page: Page, url: str) -> bool:
    """Whether the gateway says that an instance is ready."""
    try:
        return page.request.get(url, timeout=2000).status == 200
    except Error:
        return False


@pytest.fixture(autouse=True)
def restored() -> Iterator[None]:
    """Leave the back end running, whatever happens in the test."""
    yield
    command("CHAT_START_COMMAND")


def test_open_pages_are_told_without_sending_anything(open_chat: OpenChat, chat_url: str) -> None:
    english, chinese = open_chat(), open_chat(locale="zh-CN")
    command("CHAT_STOP_COMMAND")
    expect(english.banner()).to_contain_text("is recovering", timeout=TOLD_DOWN_MS)
    expect(chinese.banner()).to_contain_text("恢复中", timeout=TOLD_DOWN_MS)
    command("CHAT_START_COMMAND")
    health = os.environ.get("CHAT_HEALTH_URL", f"{chat_url.rstrip('/')}/v1/health")
    english.until(lambda: healthy(english.page, health), RECOVERY_MS / 1000)
    expect(english.banner()).to_have_text("The assistant is back.", timeout=TOLD_BACK_MS)
    expect(chinese.banner()).to_have_text("助手已恢复。", timeout=1000)
    expect(english.banner()).to_have_text("", timeout=10_000)
    # "Back" was true: the next question is answered.
    english.ask(QUESTION)
    expect(english.page.locator(".ai-message").last).to_contain_text("Paris", timeout=60_000)


def test_questions_asked_meanwhile_are_answered_by_themselves(open_chat: OpenChat) -> None:
    english, chinese = open_chat(), open_chat(locale="zh-CN")
    command("CHAT_STOP_COMMAND")
    expect(english.banner()).to_contain_text("recovering", timeout=TOLD_DOWN_MS)
    for chat, notice in ((english, "Your question is kept"), (chinese, "您的问题已保留")):
        chat.ask(QUESTION)
        expect(chat.page.locator(".ai-message").last).to_contain_text(notice, timeout=10_000)
    command("CHAT_START_COMMAND")
    for chat in (english, chinese):
        answer = chat.page.locator(".ai-message").last
        expect(answer).to_contain_text("Paris", timeout=RECOVERY_MS)
        chat.wait_answered()
        # The notice has given way to the answer.
        assert len(chat.answers()) == 1


def test_answer_cut_in_the_middle_goes_on_in_place(open_chat: OpenChat) -> None:
    chat = open_chat()
    chat.watch_growth()
    chat.ask(LONG_QUESTION)
    chat.wait_for_lengths(5)
    command("CHAT_STOP_COMMAND")
    notice = chat.page.locator(".ai-message").last
    expect(notice).to_contain_text("interrupted", timeout=60_000)
    before = chat.answers()[0]
    command("CHAT_START_COMMAND")
    chat.until(lambda: len(chat.answers()[0]) > len(before) + 20, RECOVERY_MS / 1000)
    chat.wait_answered()
    answers = chat.answers()
    # A long story may reach the longest length, which is told below it.
    assert [text for text in answers[1:] if "longest length" not in text] == []
    assert answers[0].startswith(before)
