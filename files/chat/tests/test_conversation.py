"""How much of a conversation is sent."""

from __future__ import annotations

import pytest
from gpufleet_chat.conversation import Conversation, Exchange
from gpufleet_chat.upstream import ChatMessage


def conversation_of(count: int, length: int = 40) -> Conversation:
    conversation = Conversation()
    for number in range(count):
        conversation.add(Exchange(str(number), f"{number}" + "q" * (length - 1), "a" * length))
    return conversation


def test_what_fits_stays() -> None:
    conversation = conversation_of(10)
    conversation.fit("?", conversation.tokens(conversation.messages("?")))
    assert len(conversation) == 10
    assert not conversation.news_of_forgetting()


def test_the_oldest_is_left_out_and_that_is_told_once() -> None:
    conversation = conversation_of(10)
    most = conversation.tokens(conversation.messages("?")) - 1
    conversation.fit("?", most)
    assert 0 < len(conversation) < 10
    assert conversation.tokens(conversation.messages("?")) <= most
    assert conversation.messages("?")[0]["content"].startswith(str(10 - len(conversation)))
    assert len(conversation.exchanges) == 10
    assert conversation.news_of_forgetting()
    conversation.forget_oldest()
    assert not conversation.news_of_forgetting()


def test_the_beginning_does_not_move_with_every_question() -> None:
    conversation = conversation_of(100)
    most = conversation.tokens(conversation.messages("?")) - 1
    conversation.fit("?", most)
    first = conversation.first_sent
    for number in range(10):
        conversation.add(Exchange(f"n{number}", "q" * 40, "a" * 40))
        conversation.fit("?", most)
    assert conversation.first_sent == first


@pytest.mark.parametrize("bytes_per_token", [1, 4, 10])
def test_the_estimate_learns_from_the_back_end(bytes_per_token: int) -> None:
    conversation = Conversation()
    sent: list[ChatMessage] = [{"role": "user", "content": "x" * 1000}]
    conversation.measure(sent, 1000 // bytes_per_token + 8)
    assert conversation.tokens(sent) == 1000 // bytes_per_token + 8


def test_an_edited_question_lets_the_beginning_in_again() -> None:
    conversation = conversation_of(10)
    conversation.fit("?", 100)
    conversation.begin("3")
    assert len(conversation) == 3
    assert not conversation.news_of_forgetting()


def test_nothing_is_left_out_for_good_where_it_does_not_help() -> None:
    conversation = conversation_of(4)
    while conversation.forget_oldest():
        pass
    assert len(conversation) == 0
    conversation.send_again_from(1)
    assert len(conversation) == 3
