"""How often one person may ask: so many times in any minute, told with the seconds to wait."""

from __future__ import annotations

import math
import time
from collections import deque
from collections.abc import Callable

WINDOW_SECONDS = 60.0


class RateLimit:
    """A moving window for each person; 0 messages a minute stands for no limit.

    The library limits would do, but its memory storage keeps a key of every person for good, and
    its asynchronous one visits a thread for each of them at every message (5.8.0).
    """

    def __init__(
        self, messages_per_minute: int, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._limit = messages_per_minute
        self._clock = clock
        self._times: dict[str, deque[float]] = {}

    def __len__(self) -> int:
        """How many people are remembered."""
        return len(self._times)

    def take(self, person: str) -> int:
        """Count a message now and return 0, or return the whole seconds until one is allowed."""
        if self._limit == 0:
            return 0
        now = self._clock()
        self._forget(now - WINDOW_SECONDS)
        times = self._times.setdefault(person, deque())
        while times and times[0] <= now - WINDOW_SECONDS:
            times.popleft()
        if len(times) >= self._limit:
            return max(1, math.ceil(times[0] + WINDOW_SECONDS - now))
        times.append(now)
        # Whoever asked last stands last, so that the oldest are found without a search.
        self._times[person] = self._times.pop(person)
        return 0

    def _forget(self, before: float) -> None:
        while self._times:
            person, times = next(iter(self._times.items()))
            if times[-1] > before:
                break
            del self._times[person]
