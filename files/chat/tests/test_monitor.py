"""The shared watch over the back end."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterable

import pytest
from gpufleet_chat.monitor import Monitor, State
from gpufleet_chat.settings import MonitorSettings


def monitor(answers: Iterable[bool], failures: int = 3) -> Monitor:
    remaining = iter(answers)

    async def check() -> bool:
        return next(remaining)

    return Monitor(MonitorSettings(interval_seconds=0.05, failures=failures), check)


@pytest.mark.parametrize(
    ("answers", "states"),
    [
        ("+", "U"),
        ("-", "D"),
        ("+--", "UUU"),
        ("+---", "UUUD"),
        ("+---+", "UUUDU"),
        ("+--+--+", "UUUUUUU"),
        ("--+", "DDU"),
    ],
)
async def test_states(answers: str, states: str) -> None:
    watch = monitor(answer == "+" for answer in answers)
    assert watch.state.value == "unknown"
    seen = ""
    for _ in answers:
        await watch.check_now()
        seen += "U" if watch.state is State.UP else "D"
    assert seen == states


async def test_wait_up_ends_at_recovery() -> None:
    watch = monitor([False, False, True, True, True, True])
    await watch.check_now()
    assert not await watch.wait_up(0.01)
    runner = asyncio.create_task(watch.run())
    started = time.monotonic()
    assert await watch.wait_up(5)
    assert time.monotonic() - started < 1
    runner.cancel()


async def test_wait_change_wakes_every_waiter() -> None:
    watch = monitor([True])
    waiters = [asyncio.create_task(watch.wait_change(5)) for _ in range(3)]
    await asyncio.sleep(0)
    await watch.check_now()
    _, pending = await asyncio.wait(waiters, timeout=1)
    assert not pending
