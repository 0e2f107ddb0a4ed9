"""What the tests of the chat application share."""

from __future__ import annotations

import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from chat_process import ChatProcess, Start
    from fake_upstream import FakeUpstream

HERE = Path(__file__).resolve().parent
# The package is run from its directory, not installed.
sys.path[:0] = [str(HERE), str(HERE.parent), str(HERE.parents[2] / "tests")]


@pytest.fixture
async def fake() -> AsyncIterator[FakeUpstream]:
    """A running fake back end that is healthy and answers "Paris."."""
    from fake_upstream import FakeUpstream

    server = FakeUpstream()
    await server.start()
    yield server
    await server.stop()


@pytest.fixture
async def start(fake: FakeUpstream, tmp_path: Path) -> AsyncIterator[Start]:
    """Start the real application with these settings, on the fake back end."""
    from chat_process import ChatProcess, until_status

    processes: list[ChatProcess] = []

    async def run(credentials: dict[str, str] | None = None, **settings: object) -> ChatProcess:
        process = ChatProcess(tmp_path, fake.url, credentials, **settings)  # type: ignore[arg-type]
        processes.append(process)
        await process.start()
        await until_status(f"{process.url}/readyz", 200)
        return process

    yield run
    for process in processes:
        await process.kill()
