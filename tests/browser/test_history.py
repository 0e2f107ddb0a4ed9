"""The history in the sidebar, in a real browser on a chat with a login.

CHAT_USER and CHAT_PASSWORD fill the page's login; CHAT_HEADERS, a JSON object, is sent with each
request instead, as a proxy that has logged somebody in does. CHAT_RESTART_COMMAND restarts the
chat and waits for it.
"""

from __future__ import annotations

import json
import os
import subprocess
import uuid
from collections.abc import Callable, Iterator

import pytest
from chat_page import ChatPage
from playwright.sync_api import Browser, expect

QUESTION = "What is the capital of France?"


@pytest.fixture
def chat(browser: Browser, chat_url: str) -> Iterator[ChatPage]:
    """The page of somebody who has logged in."""
    headers = json.loads(os.environ.get("CHAT_HEADERS", "{}"))
    context = browser.new_context(
        locale="en-US", ignore_https_errors=True, extra_http_headers=headers
    )
    page = ChatPage(context.new_page(), chat_url)
    page.page.goto(chat_url)
    if not headers:
        page.page.locator("#email").fill(os.environ["CHAT_USER"])
        page.page.locator("#password").fill(os.environ["CHAT_PASSWORD"])
        page.page.locator("button[type=submit]").click()
    expect(page.page.locator("#chat-input")).to_be_visible(timeout=20_000)
    yield page
    context.close()


@pytest.fixture
def asked(chat: ChatPage) -> str:
    """A question with a word of its own, asked and answered."""
    question = f"{QUESTION} {uuid.uuid4().hex[:8]}"
    chat.ask(question)
    # What a small model answers to such a question is its own affair.
    chat.until(lambda: bool(chat.last_answer()), 60)
    chat.wait_answered()
    # The page draws the message anew with each of these, and closes what hangs from it.
    expect(chat.page.locator(".lucide-refresh-cw")).to_have_count(1)
    expect(chat.page.locator("#thread-history a", has_text=question.split()[-1])).to_have_count(1)
    return question


def test_the_sidebar_shows_renames_searches_and_deletes(chat: ChatPage, asked: str) -> None:
    page, word = chat.page, asked.split()[-1]
    entry = page.locator("#thread-history a", has_text=word)
    expect(entry).to_have_count(1)
    page.reload()
    expect(entry).to_have_count(1, timeout=20_000)

    new_name = f"Geography {word}"
    _menu(chat, word, "#rename-thread")
    page.get_by_role("dialog").locator("#name").fill(new_name)
    page.get_by_role("dialog").get_by_role("button", name="Confirm").click()
    expect(page.locator("#thread-history a", has_text=new_name)).to_have_count(1)

    page.locator("#search-chats-button").click()
    page.get_by_placeholder("Search conversations...").fill(f"geography {word}")
    found = page.get_by_role("dialog").get_by_role("option")
    expect(found).to_have_count(1, timeout=10_000)
    expect(found).to_contain_text(new_name)
    page.keyboard.press("Escape")

    _menu(chat, word, "#delete-thread")
    page.get_by_role("alertdialog").get_by_role("button", name="Confirm").click()
    expect(entry).to_have_count(0)
    page.reload()
    expect(page.locator("#chat-input")).to_be_visible(timeout=20_000)
    expect(entry).to_have_count(0)


def test_a_kept_conversation_goes_on(chat: ChatPage, asked: str) -> None:
    page, word = chat.page, asked.split()[-1]
    answer = chat.last_answer().split()
    assert answer
    page.locator("#new-chat-button").click()
    _confirm_new_chat(chat)
    expect(page.locator(".ai-message")).to_have_count(0)
    page.locator("#thread-history a", has_text=word).click()
    chat.until(lambda: chat.last_answer().split() == answer, 20)
    # The buttons below the last answer are back.
    again = page.locator(".lucide-refresh-cw")
    expect(again).to_have_count(1)
    again.click()
    expect(page.locator(".ai-message")).to_have_count(1)
    chat.wait_answered()
    chat.ask(QUESTION)
    chat.wait_answered()
    expect(page.locator(".ai-message")).to_have_count(2)


@pytest.mark.skipif("CHAT_RESTART_COMMAND" not in os.environ, reason="nothing restarts the chat")
def test_a_page_that_is_open_goes_on_after_a_restart(chat: ChatPage, asked: str) -> None:
    page, word = chat.page, asked.split()[-1]
    subprocess.run(["bash", "-c", os.environ["CHAT_RESTART_COMMAND"]], check=True)
    chat.ask("And of Italy?")
    _until_answers(chat, 2)
    page.reload()
    _until_answers(chat, 2)
    expect(page.locator("#thread-history a", has_text=word)).to_have_count(1)


def test_a_thumb_and_its_comment_are_kept(chat: ChatPage, asked: str) -> None:
    page = chat.page
    page.locator(".negative-feedback-off").last.click()
    page.get_by_role("dialog").get_by_placeholder("Your feedback...").fill("Too short.")
    page.locator("#submit-feedback").click()
    expect(page.locator(".negative-feedback-on")).to_have_count(1)
    page.reload()
    expect(page.locator(".negative-feedback-on")).to_have_count(1, timeout=20_000)


def _menu(chat: ChatPage, word: str, item: str) -> None:
    entry = chat.page.locator("#thread-history a", has_text=word)
    entry.hover()
    entry.locator("#thread-options").click()
    chat.page.locator(item).click()


def _confirm_new_chat(chat: ChatPage) -> None:
    chat.page.locator("#new-chat-dialog").locator("#confirm").click()


def _until_answers(chat: ChatPage, count: int) -> None:
    def shown() -> bool:
        return len(chat.answers()) == count

    condition: Callable[[], bool] = shown
    chat.until(condition, 60)
    chat.wait_answered()
