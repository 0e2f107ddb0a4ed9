"""What the tests of this scenario share."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "test_hosts"))
sys.path.insert(0, str(Path(__file__).resolve().parent))

from host import Host


@pytest.fixture(scope="session")
def host() -> Host:
    """Return the host of the scenario."""
    return Host.from_environment()


@pytest.fixture(scope="session")
def url(host: Host) -> str:
    """Return the address of the gateway."""
    return f"http://{host.address}"


@pytest.fixture(scope="session")
def model() -> str:
    """Return the served model name of inventories/local."""
    return "smollm2-135m-instruct"
