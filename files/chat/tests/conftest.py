"""What the tests of the chat application share."""

from __future__ import annotations

import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from fake_upstream import FakeUpstream

# The package is run from its directory, not installed.
sys.path[:0] = [str(Path(__file__).parent), str(Path(__file__).parent.parent)]


@pytest.fixture
async def fake() -> AsyncIterator[FakeUpstream]:
    """A running fake back end that is healthy and answers "Paris."."""
    from fake_upstream import FakeUpstream

    server = FakeUpstream()
    await server.start()
    yield server
    await server.stop()
