"""Whether a question is taken at all: the limits of one person, and the bound of the queue."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager

from gpufleet_chat.answer_queue import AnswerQueue
from gpufleet_chat.logs import event
from gpufleet_chat.metrics import Metrics
from gpufleet_chat.rate_limit import RateLimit
from gpufleet_chat.turn import Failure, Turn
from gpufleet_chat.turns import Turns


class NotTaken(Exception):
    """The question was refused; seconds is how long to wait, 0 where nobody knows."""

    def __init__(self, failure: Failure, seconds: int = 0) -> None:
        super().__init__(failure.value)
        self.failure = failure
        self.seconds = seconds


log = logging.getLogger(__name__)


class Admission:
    """Takes questions or refuses them, before anything is kept of them."""

    def __init__(
        self,
        queue: AnswerQueue,
        limit: RateLimit,
        turns: Turns,
        metrics: Metrics,
        message_max_chars: int,
    ) -> None:
        self._queue = queue
        self._limit = limit
        self._turns = turns
        self._metrics = metrics
        self._message_max_chars = message_max_chars

    @contextmanager
    def taken(self, turn: Turn, replaced: int = 0) -> Iterator[None]:
        """Count the turn from its arrival to its end; raises NotTaken.

        replaced is how many of the person's turns end for it.
        """
        refusal = self._refusal(turn, replaced)
        if refusal is not None:
            reason = refusal.failure.name.lower()
            self._metrics.question_ended("refused", reason)
            log.info(event("turn_refused", ref=turn.reference, reason=reason))
            raise refusal
        with self._queue.admitted(turn.person):
            yield

    def _refusal(self, turn: Turn, replaced: int) -> NotTaken | None:
        if self._turns.draining:
            return NotTaken(Failure.RESTARTING)
        if len(turn.question) > self._message_max_chars:
            return NotTaken(Failure.TOO_LONG)
        if self._queue.has_enough(turn.person, replaced):
            return NotTaken(Failure.TOO_MANY_AT_ONCE)
        if self._queue.is_full(replaced):
            return NotTaken(Failure.QUEUE_FULL)
        # Last, for it counts: a question refused for another reason costs nothing.
        seconds = self._limit.take(turn.person)
        return NotTaken(Failure.TOO_OFTEN, seconds) if seconds else None
