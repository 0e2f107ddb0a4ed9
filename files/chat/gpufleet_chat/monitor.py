"""One watch over the back end, shared by all sessions."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable
from enum import Enum

from gpufleet_chat.logs import event
from gpufleet_chat.settings import MonitorSettings
from gpufleet_chat.upstream import Health

log = logging.getLogger(__name__)


# Between two starts of an instance nothing of it runs, but never for so long.
OFFLINE_SECONDS = 60.0


class State(Enum):
    """What is known of the back end.

    UNKNOWN lasts until the first check; DOWN recovers by itself; OFFLINE waits for a person.
    SATURATED is up with more questions than places: the queue knows it, not the monitor.
    """

    UNKNOWN = "unknown"
    UP = "up"
    DOWN = "down"
    OFFLINE = "offline"
    SATURATED = "saturated"


class Monitor:
    """Checks at an interval; some failures in a row are down, one success is up.

    check answers how the back end is; what raises counts as not ready. offline_seconds is how long
    nothing may run there before nobody is expected to bring it back.
    """

    def __init__(
        self,
        settings: MonitorSettings,
        check: Callable[[], Awaitable[Health]],
        offline_seconds: float = OFFLINE_SECONDS,
    ) -> None:
        self._settings = settings
        self._check = check
        self._offline_seconds = offline_seconds
        self._failures = 0
        self._nothing_runs_since: float | None = None
        self._away_since: float | None = None
        self._up = asyncio.Event()
        self._changed = asyncio.Event()
        self.state = State.UNKNOWN

    async def run(self) -> None:
        """Watch until cancelled."""
        while True:
            await self.check_now()
            await asyncio.sleep(self._settings.interval_seconds)

    async def check_now(self) -> bool:
        """Check once out of turn; the answer counts like any other."""
        health = await self._health()
        if health is Health.READY:
            self._failures = 0
            self._nothing_runs_since = None
            self._enter(State.UP)
            return True
        self._failures += 1
        if self._is_abandoned(health):
            self._enter(State.OFFLINE)
        # Before the first success there is no blip to ride out.
        elif self.state is not State.UP or self._failures >= self._settings.failures:
            self._enter(State.DOWN)
        return False

    async def _health(self) -> Health:
        try:
            return await self._check()
        except Exception:
            # A watch that ends would show the last state for ever.
            log.exception(event("health_check_error"))
            return Health.NOT_READY

    def _is_abandoned(self, health: Health) -> bool:
        if health is not Health.NONE_RUNS:
            self._nothing_runs_since = None
            return False
        now = time.monotonic()
        if self._nothing_runs_since is None:
            self._nothing_runs_since = now
        return now - self._nothing_runs_since >= self._offline_seconds

    def away_seconds(self) -> float:
        """For how long the back end has not been up; 0 while it is."""
        return 0.0 if self._away_since is None else time.monotonic() - self._away_since

    async def wait_up(self, seconds: float) -> bool:
        """Wait until the back end is up, for so long at most; answers whether it is."""
        try:
            async with asyncio.timeout(max(0.0, seconds)):
                await self._up.wait()
        except TimeoutError:
            return self._up.is_set()
        return True

    async def wait_change(self, seconds: float) -> None:
        """Return at the next change of state, or after so many seconds."""
        changed = self._changed
        try:
            async with asyncio.timeout(seconds):
                await changed.wait()
        except TimeoutError:
            return

    def report_down(self) -> None:
        """Enter the state DOWN now: the caller has seen more than one failed check."""
        self._failures = max(self._failures, self._settings.failures)
        if self.state is not State.OFFLINE:
            self._enter(State.DOWN)

    def _enter(self, state: State) -> None:
        if state is self.state:
            return
        log.info(event("backend_state", before=self.state.value, now=state.value))
        self.state = state
        if state is State.UP:
            self._away_since = None
            self._up.set()
        else:
            # From recovering to offline it is the same absence.
            self._away_since = self._away_since or time.monotonic()
            self._up.clear()
        # A fresh event for the next change; those who waited hold the old one.
        self._changed.set()
        self._changed = asyncio.Event()
