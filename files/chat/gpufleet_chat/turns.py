"""The turns that run now: counted for a drain, cancelled by name."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager

from gpufleet_chat.turn import StopReason, Turn


class Turns:
    """All running turns of the process, with the session each belongs to."""

    def __init__(self) -> None:
        self._running: dict[asyncio.Task[object], tuple[str, Turn]] = {}
        self.draining = False

    def __len__(self) -> int:
        return len(self._running)

    @contextmanager
    def running(self, session_id: str, turn: Turn) -> Iterator[None]:
        """Count the current task as one that answers a turn."""
        task = asyncio.current_task()
        if task is None:
            raise RuntimeError("a turn runs inside a task")
        self._running[task] = (session_id, turn)
        try:
            yield
        finally:
            del self._running[task]

    def session_busy(self, session_id: str) -> bool:
        """Whether a turn of this session runs or waits for its place."""
        return any(turn[0] == session_id for turn in self._running.values())

    def move(self, session_id: str, to: str) -> None:
        """Let the turns of one session belong to another."""
        for task, (owner, turn) in self._running.items():
            if owner == session_id:
                self._running[task] = (to, turn)

    def stop(self, reason: StopReason, session_id: str | None = None) -> int:
        """Cancel the turns of one session, or all; returns how many are ending."""
        stopped = 0
        for task, (owner, turn) in list(self._running.items()):
            if session_id is None or owner == session_id:
                stopped += 1
                # One that is ending already would be torn from closing its answer.
                if not task.cancelling():
                    turn.stop_reason = reason
                    task.cancel()
        return stopped

    async def wait_ended(self, seconds: float) -> None:
        """Wait until the turns that run now have ended, for so long at most."""
        if self._running:
            await asyncio.wait(list(self._running), timeout=seconds)
