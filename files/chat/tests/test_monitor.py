"""The shared watch over the back end."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterable

import pytest
from gpufleet_chat.monitor import Monitor, State
from gpufleet_chat.settings import MonitorSettings
from gpufleet_chat.upstream import Health

HEALTH = {"+": Health.READY, "-": Health.NOT_READY, "0": Health.NONE_RUNS}
OFFLINE_SECONDS = 0.2


def monitor(answers: Iterable[str], failures: int = 3) -> Monitor:
    remaining = iter(answers)

    async def check() -> Health:
        return HEALTH[next(remaining)]

    settings = MonitorSettings(interval_seconds=0.05, failures=failures)
    return Monitor(settings, check, OFFLINE_SECONDS)


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
        ("+000+", "UUUDU"),
    ],
)
async def test_states(answers: str, states: str) -> None:
    watch = monitor(answers)
    assert watch.state.value == "unknown"
    seen = ""
    for _ in answers:
        await watch.check_now()
        seen += "U" if watch.state is State.UP else "D"
    assert seen == states


async def test_offline_once_nothing_has_run_for_long() -> None:
    watch = monitor("+000-000+")
    for expected in ("up", "up", "up", "down", "down", "down"):
        await watch.check_now()
        assert watch.state.value == expected
    # An answer meanwhile, even a bad one, shows that somebody is at work.
    await asyncio.sleep(OFFLINE_SECONDS)
    for expected in ("offline", "offline", "up"):
        await watch.check_now()
        watch.report_down() if expected != "up" else None
        assert watch.state.value == expected


async def test_a_check_that_breaks_is_logged_and_the_watch_goes_on(
    caplog: pytest.LogCaptureFixture,
) -> None:
    # A mark without a meaning raises KeyError.
    watch = monitor("?+++++++++")
    runner = asyncio.create_task(watch.run())
    assert await watch.wait_up(2)
    assert "event=health_check_error" in caplog.text
    runner.cancel()
    with pytest.raises(asyncio.CancelledError):
        await runner


async def test_wait_up_ends_at_recovery() -> None:
    watch = monitor("--++++")
    await watch.check_now()
    assert not await watch.wait_up(0.01)
    runner = asyncio.create_task(watch.run())
    started = time.monotonic()
    assert await watch.wait_up(5)
    assert time.monotonic() - started < 1
    runner.cancel()


async def test_wait_change_wakes_every_waiter() -> None:
    watch = monitor("+")
    waiters = [asyncio.create_task(watch.wait_change(5)) for _ in range(3)]
    await asyncio.sleep(0)
    await watch.check_now()
    _, pending = await asyncio.wait(waiters, timeout=1)
    assert not pending
