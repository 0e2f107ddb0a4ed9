"""A host with one healthy GPU."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.unit.gpu.fake_host import FakeHost


@pytest.fixture
def host(tmp_path: Path) -> FakeHost:
    """Return a host with one healthy GPU and its driver."""
    return FakeHost(tmp_path / "root")
