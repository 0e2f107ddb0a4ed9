"""What one session has said so far, as pairs of question and answer."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from gpufleet_chat.upstream import ChatMessage

# Until the back end has counted once; English and Chinese both come near it.
BYTES_PER_TOKEN = 4.0
# What the template of a model puts around each message.
TOKENS_PER_MESSAGE = 8


@dataclass(frozen=True)
class Exchange:
    """A question with the answer it got, which may be incomplete."""

    question_id: str
    question: str
    answer: str


class Conversation:
    """The exchanges of a session in order; only what a person or the model said gets in.

    The oldest may be left out of what is sent, so that the rest fits into the model's context.
    """

    def __init__(self, system_prompt: str | None = None) -> None:
        self.system_prompt = system_prompt
        self._exchanges: list[Exchange] = []
        self._first_sent = 0
        self._bytes_per_token = BYTES_PER_TOKEN
        self._told = False

    def __len__(self) -> int:
        """How many exchanges are sent along with a question."""
        return len(self._exchanges) - self._first_sent

    @property
    def exchanges(self) -> Sequence[Exchange]:
        """All that was said, also what is no longer sent."""
        return tuple(self._exchanges)

    def messages(self, question: str) -> list[ChatMessage]:
        """The messages to send for a new question."""
        messages: list[ChatMessage] = []
        if self.system_prompt:
            messages.append({"role": "system", "content": self.system_prompt})
        for exchange in self._exchanges[self._first_sent :]:
            messages.append({"role": "user", "content": exchange.question})
            messages.append({"role": "assistant", "content": exchange.answer})
        messages.append({"role": "user", "content": question})
        return messages

    def begin(self, question_id: str) -> None:
        """Make room for a question: one asked before, and all after it, is asked anew."""
        for index, exchange in enumerate(self._exchanges):
            if exchange.question_id == question_id:
                del self._exchanges[index:]
                # What had to make room may fit again.
                self._first_sent = 0
                self._told = False
                return

    def add(self, exchange: Exchange) -> None:
        """Keep an exchange; one without an answer is dropped, for roles must alternate."""
        if exchange.answer.strip():
            self._exchanges.append(exchange)

    def measure(self, messages: Sequence[ChatMessage], tokens: int) -> None:
        """Learn from the back end how many tokens messages have had."""
        counted = tokens - TOKENS_PER_MESSAGE * len(messages)
        if counted > 0:
            self._bytes_per_token = max(0.5, _bytes(messages) / counted)

    def tokens(self, messages: Sequence[ChatMessage]) -> int:
        """How many tokens messages have, as near as can be told without the model."""
        return int(_bytes(messages) / self._bytes_per_token) + TOKENS_PER_MESSAGE * len(messages)

    def fit(self, question: str, most_tokens: int) -> None:
        """Leave out the oldest exchanges when all would have more tokens."""
        if self.tokens(self.messages(question)) <= most_tokens:
            return
        # Some more than must be: the back end keeps what it has computed for as long as the
        # beginning stays the same.
        while len(self) and self.tokens(self.messages(question)) > most_tokens * 3 // 4:
            self._first_sent += 1

    def forget_oldest(self) -> bool:
        """Leave out the oldest quarter too; False when nothing is left."""
        if not len(self):
            return False
        self._first_sent += max(1, len(self) // 4)
        return True

    @property
    def first_sent(self) -> int:
        """The number of exchanges that are left out."""
        return self._first_sent

    def send_again_from(self, first_sent: int) -> None:
        """Take back what fit and forget_oldest have left out since then."""
        self._first_sent = first_sent

    def news_of_forgetting(self) -> bool:
        """Whether a person must now be told that the beginning is left out; true once."""
        if self._first_sent == 0 or self._told:
            return False
        self._told = True
        return True


def _bytes(messages: Sequence[ChatMessage]) -> int:
    return sum(len(message["content"].encode()) for message in messages)
