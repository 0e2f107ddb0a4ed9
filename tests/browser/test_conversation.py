"""What a person does with a conversation: settings, files, another answer, a copy to keep."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from chat_page import ChatPage
from playwright.sync_api import FilePayload, Page, expect

OpenChat = Callable[..., ChatPage]
QUESTION = "What is the capital of France?"
LONG_QUESTION = "Write a long story about a river, with many details."


def answered(chat: ChatPage, question: str = QUESTION) -> None:
    """Ask and wait for the end of the answer."""
    before = len(chat.answers())
    chat.ask(question)
    chat.until(lambda: len(chat.answers()) > before, 60)
    chat.wait_answered()


def attach(page: Page, name: str, content: bytes) -> None:
    """Add a file to the next question and wait until it is there."""
    # Without a connection a file has no chat to go to.
    page.locator("#chat-input").fill("connected?")
    expect(page.locator("#chat-submit")).to_be_enabled(timeout=20_000)
    file: FilePayload = {"name": name, "mimeType": "", "buffer": content}
    page.locator("#upload-button-input").set_input_files(file)
    expect(page.locator("#message-composer")).to_contain_text(name)


def test_settings_are_taken_and_wrong_ones_told(open_chat: OpenChat) -> None:
    chat = open_chat()
    page = chat.page
    page.locator("#chat-settings-open-modal").click()
    page.locator("#temperature").fill("warm")
    page.get_by_role("button", name="Confirm").click()
    expect(page.get_by_text("must be a number from 0 to 2")).to_be_visible()
    page.locator("#chat-settings-open-modal").click()
    # The panel shows what holds.
    assert page.locator("#temperature").input_value() != "warm"
    page.locator("#temperature").fill("0,2")
    page.locator("#system_prompt").fill("Answer in one word.")
    page.get_by_role("button", name="Confirm").click()
    answered(chat)
    page.locator("#chat-settings-open-modal").click()
    expect(page.locator("#system_prompt")).to_have_value("Answer in one word.")


def test_settings_speak_chinese(open_chat: OpenChat) -> None:
    chat = open_chat(locale="zh-CN")
    chat.page.locator("#chat-settings-open-modal").click()
    expect(chat.page.get_by_role("dialog")).to_contain_text("最长回答")


def test_last_answer_is_had_anew_and_can_be_copied(open_chat: OpenChat) -> None:
    chat = open_chat()
    answered(chat)
    # The same words may come so soon that no look falls between both answers.
    chat.page.evaluate("() => { document.querySelector('.ai-message').dataset.first = 'yes'; }")
    chat.page.locator("button:has(svg.lucide-refresh-cw)").click()
    expect(chat.page.locator(".ai-message[data-first]")).to_have_count(0, timeout=60_000)
    expect(chat.page.locator("button:has(svg.lucide-refresh-cw)")).to_have_count(1, timeout=60_000)
    assert len(chat.answers()) == 1
    expect(chat.page.locator("button:has(svg.lucide-copy)")).to_have_count(1)


def test_edited_question_is_answered_anew_and_can_be_stopped(open_chat: OpenChat) -> None:
    chat = open_chat()
    answered(chat)
    answered(chat, "And of Spain?")
    page = chat.page
    page.get_by_text(QUESTION).hover()
    page.locator(".edit-message").first.click()
    page.locator("#edit-chat-input").fill(LONG_QUESTION)
    page.get_by_role("button", name="Confirm").click()
    expect(page.locator("#stop-button")).to_be_visible()
    chat.until(lambda: len(chat.last_answer()) > 20, 60)
    page.locator("#stop-button").click()
    chat.wait_answered(5)
    page.wait_for_timeout(1000)  # what was on its way
    stopped = chat.answers()
    assert len(stopped) == 1
    page.wait_for_timeout(1500)
    assert chat.answers() == stopped


@pytest.mark.parametrize(("icon", "suffix"), [("file-down", ".md"), ("braces", ".json")])
def test_conversation_is_saved_as_a_file(open_chat: OpenChat, icon: str, suffix: str) -> None:
    chat = open_chat()
    answered(chat)
    with chat.page.expect_download() as download:
        chat.page.locator(f"button:has(svg.lucide-{icon})").click()
    assert download.value.suggested_filename.endswith(suffix)
    text = Path(download.value.path()).read_text(encoding="utf-8")
    if suffix == ".json":
        assert json.loads(text)["messages"][-2]["content"] == QUESTION
    else:
        assert f"## Question\n\n{QUESTION}" in text
    assert chat.console_errors == []


def test_file_goes_with_the_question(open_chat: OpenChat) -> None:
    chat = open_chat()
    attach(chat.page, "main.rs", b'fn main() { println!("hello"); }')
    answered(chat, "What does it print?")
    expect(chat.page.get_by_text("main.rs")).to_be_visible()
    assert "not asked" not in chat.last_answer()


@pytest.mark.parametrize(
    ("locale", "said"), [("en-US", "your question was not asked"), ("zh-CN", "您的问题没有提交")]
)
def test_file_without_text_is_refused(open_chat: OpenChat, locale: str, said: str) -> None:
    chat = open_chat(locale=locale)
    attach(chat.page, "program.bin", b"\x7fELF\x00\x01")
    chat.ask("What is it?")
    expect(chat.page.locator(".ai-message").last).to_contain_text(said, timeout=15_000)
