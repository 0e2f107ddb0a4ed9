"""The files in which a person keeps a conversation."""

from __future__ import annotations

import json

import pytest
from gpufleet_chat.conversation import Conversation, Exchange
from gpufleet_chat.export import export
from gpufleet_chat.messages import Messages

MESSAGES = Messages()


@pytest.fixture
def conversation() -> Conversation:
    conversation = Conversation("Be brief.")
    conversation.add(Exchange("a", "法国的首都", "**巴黎**。"))
    conversation.add(Exchange("b", "And its river?", "The Seine."))
    conversation.forget_oldest()
    return conversation


def test_markdown(conversation: Conversation) -> None:
    file = export("markdown", conversation, "Chat", MESSAGES, "en")
    assert (file.name[:5], file.name[-3:], file.mime) == ("chat-", ".md", "text/markdown")
    lines = file.text.splitlines()
    assert lines[0] == "# Chat"
    assert lines[2].endswith(" UTC")
    assert lines[4:] == [
        "## Instruction",
        "",
        "Be brief.",
        "",
        "## Question",
        "",
        "法国的首都",
        "",
        "## Answer",
        "",
        "**巴黎**。",
        "",
        "## Question",
        "",
        "And its river?",
        "",
        "## Answer",
        "",
        "The Seine.",
    ]
    assert "## 提问" in export("markdown", conversation, "Chat", MESSAGES, "zh-CN").text


def test_json_is_what_the_api_takes(conversation: Conversation) -> None:
    file = export("json", conversation, "Chat", MESSAGES, "en")
    data = json.loads(file.text)
    assert file.name.endswith(".json")
    assert data["messages"] == [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "法国的首都"},
        {"role": "assistant", "content": "**巴黎**。"},
        {"role": "user", "content": "And its river?"},
        {"role": "assistant", "content": "The Seine."},
    ]
    assert "巴黎" in file.text


def test_without_an_instruction() -> None:
    empty = export("json", Conversation(), "Chat", MESSAGES, "en")
    assert json.loads(empty.text)["messages"] == []
    assert "Instruction" not in export("markdown", Conversation(""), "Chat", MESSAGES, "en").text
