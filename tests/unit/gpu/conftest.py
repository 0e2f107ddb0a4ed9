"""A host with one healthy GPU."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

# The test helpers of this and other folders are imported by their full name.
sys.path.insert(0, str(Path(__file__).resolve().parents[3]))

from tests.unit.gpu.fake_host import FakeHost


@pytest.fixture
def host(tmp_path: Path) -> FakeHost:
    """Return a host with one healthy GPU and its driver."""
    return FakeHost(tmp_path / "root")
