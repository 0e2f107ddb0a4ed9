"""The host of the scenario, and runs of the role on it."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "test_hosts"))
sys.path.insert(0, str(Path(__file__).resolve().parent))

from host import Host


@pytest.fixture(scope="session")
def host() -> Host:
    """Return the host with the GPU."""
    return Host.from_environment()
