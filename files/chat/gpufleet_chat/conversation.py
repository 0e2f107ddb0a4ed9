"""What one session has said so far, as pairs of question and answer."""

from __future__ import annotations

from dataclasses import dataclass

from gpufleet_chat.upstream import ChatMessage


@dataclass(frozen=True)
class Exchange:
    """A question with the answer it got, which may be incomplete."""

    question_id: str
    question: str
    answer: str


class Conversation:
    """The exchanges of a session in order; only what a person or the model said gets in."""

    def __init__(self, system_prompt: str | None = None) -> None:
        self._system_prompt = system_prompt
        self._exchanges: list[Exchange] = []

    def __len__(self) -> int:
        return len(self._exchanges)

    def messages(self, question: str) -> list[ChatMessage]:
        """The messages to send for a new question."""
        messages: list[ChatMessage] = []
        if self._system_prompt:
            messages.append({"role": "system", "content": self._system_prompt})
        for exchange in self._exchanges:
            messages.append({"role": "user", "content": exchange.question})
            messages.append({"role": "assistant", "content": exchange.answer})
        messages.append({"role": "user", "content": question})
        return messages

    def begin(self, question_id: str) -> None:
        """Make room for a question: one asked before, and all after it, is asked anew."""
        for index, exchange in enumerate(self._exchanges):
            if exchange.question_id == question_id:
                del self._exchanges[index:]
                return

    def add(self, exchange: Exchange) -> None:
        """Keep an exchange; one without an answer is dropped, for roles must alternate."""
        if exchange.answer.strip():
            self._exchanges.append(exchange)

    def forget_oldest(self) -> bool:
        """Drop the oldest quarter to make it shorter; False when nothing is left to drop."""
        if not self._exchanges:
            return False
        del self._exchanges[: max(1, len(self._exchanges) // 4)]
        return True
