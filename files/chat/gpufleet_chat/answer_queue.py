"""Who is answered next: a bounded queue in front of the back end, fair between people."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field

# A place that comes this soon is no wait worth telling.
TELL_AFTER_SECONDS = 0.3
TELL_EVERY_SECONDS = 1.0
# Saturated: somebody has waited this long for a place, and until nobody has for so long.
SATURATED_AFTER_SECONDS = 2.0
CALM_AFTER_SECONDS = 5.0


@dataclass(eq=False)
class _Waiter:
    """One question that waits for a place."""

    person: str
    asked_at: float
    since: float
    granted: asyncio.Event = field(default_factory=asyncio.Event)


class AnswerQueue:
    """Places for answers: at_once are in use at a time, length more may wait.

    A free place goes to the person with the fewest answers in progress, and among equals to the
    question that was asked first; but a person's next question counts as asked when the answer
    before it ended. So many questions of one person pass nobody, and none waits for ever.
    per_person bounds what one person has in progress and waiting.
    """

    def __init__(self, at_once: int, length: int, per_person: int) -> None:
        self.at_once = at_once
        self.length = length
        self.per_person = per_person
        self._admitted: Counter[str] = Counter()
        self._running: Counter[str] = Counter()
        # When the last answer of a person ended, as long as they have a question here.
        self._ended: dict[str, float] = {}
        self._waiters: list[_Waiter] = []
        self._ahead: dict[_Waiter, int] | None = None
        self._paused_until = 0.0
        self._last_saturated = float("-inf")

    @property
    def running(self) -> int:
        """Places in use."""
        return self._running.total()

    @property
    def waiting(self) -> int:
        """Questions that wait for a place."""
        return len(self._waiters)

    def is_full(self, leaving: int = 0) -> bool:
        """Whether no further question may come; those that wait for a recovery count too."""
        return self._admitted.total() - leaving >= self.at_once + self.length

    @property
    def is_saturated(self) -> bool:
        """Whether people wait because of others; it does not flicker at the edge."""
        now = time.monotonic()
        if any(now - waiter.since >= SATURATED_AFTER_SECONDS for waiter in self._waiters):
            self._last_saturated = now
        return now - self._last_saturated < CALM_AFTER_SECONDS

    def has_enough(self, person: str, leaving: int = 0) -> bool:
        """Whether this person has as many questions in progress and waiting as one may have.

        leaving is how many of them are ending now.
        """
        return self._admitted[person] - leaving >= self.per_person

    @contextmanager
    def admitted(self, person: str) -> Iterator[None]:
        """Count a question from its arrival to its end."""
        self._admitted[person] += 1
        try:
            yield
        finally:
            _take_one(self._admitted, person)
            if person not in self._admitted:
                self._ended.pop(person, None)

    @asynccontextmanager
    async def place(
        self, person: str, asked_at: float, tell: Callable[[int], Awaitable[None]]
    ) -> AsyncIterator[None]:
        """Wait for a place and hold it; tell gets the number of questions before this one.

        asked_at is a time of the monotonic clock. Whoever leaves by an error comes back for the
        same answer, with the same rank; whoever is cancelled does not.
        """
        waiter = _Waiter(person, asked_at, time.monotonic())
        self._waiters.append(waiter)
        self._changed()
        comes_back = False
        try:
            await self._wait(waiter, tell)
            yield
        except Exception:
            comes_back = True
            raise
        finally:
            if waiter.granted.is_set():
                _take_one(self._running, person)
                if not comes_back:
                    self._ended[person] = time.monotonic()
            else:
                self._waiters.remove(waiter)
            self._changed()

    def pause(self, seconds: float) -> None:
        """Give no place for so long: the back end has said that it is full."""
        self._last_saturated = time.monotonic()
        until = self._last_saturated + seconds
        if until > self._paused_until:
            self._paused_until = until
            asyncio.get_running_loop().call_later(seconds, self._grant)

    async def _wait(self, waiter: _Waiter, tell: Callable[[int], Awaitable[None]]) -> None:
        told: int | None = None
        pause = TELL_AFTER_SECONDS
        while not await _is_set_within(waiter.granted, pause):
            pause = TELL_EVERY_SECONDS
            ahead = self._count_ahead(waiter)
            if ahead != told:
                told = ahead
                await tell(ahead)
        if told:
            await tell(0)

    def _changed(self) -> None:
        self._ahead = None
        # Later, so that of all who come in one moment, as after a recovery, the first asked wins.
        asyncio.get_running_loop().call_soon(self._grant)

    def _grant(self) -> None:
        # A timer may fire a moment before its time.
        if time.monotonic() < self._paused_until - 0.01:
            return
        while self._waiters and self.running < self.at_once:
            waiter = self._order()[0]
            self._waiters.remove(waiter)
            self._running[waiter.person] += 1
            self._ahead = None
            waiter.granted.set()

    def _count_ahead(self, waiter: _Waiter) -> int:
        if self._ahead is None:
            self._ahead = {each: index for index, each in enumerate(self._order())}
        return self._ahead.get(waiter, 0)

    def _order(self) -> list[_Waiter]:
        """The waiters as they will be served if no answer ends before the next begins."""
        taken = Counter(self._running)
        ranks: dict[_Waiter, tuple[int, float]] = {}
        for waiter in sorted(self._waiters, key=lambda each: each.asked_at):
            person = waiter.person
            since = max(waiter.asked_at, self._ended.get(person, waiter.asked_at))
            ranks[waiter] = (taken[person], since)
            taken[person] += 1
        return sorted(ranks, key=ranks.__getitem__)


def _take_one(counter: Counter[str], person: str) -> None:
    counter[person] -= 1
    if counter[person] == 0:
        del counter[person]


async def _is_set_within(event: asyncio.Event, seconds: float) -> bool:
    try:
        async with asyncio.timeout(seconds):
            await event.wait()
    except TimeoutError:
        return event.is_set()
    return True
