"""What the tests of this scenario share: both hosts, the gateway's address and the planted keys."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "test_hosts"))
sys.path.insert(0, str(Path(__file__).resolve().parent))

import ansible_playbook
from chat_request import AUTHORITY
from host import Host


@pytest.fixture(scope="session")
def edge() -> Host:
    """Return the host of the chat and the gateway."""
    return Host.from_environment()


@pytest.fixture(scope="session")
def llm(edge: Host) -> Host:
    """Return the host of the models."""
    return replace(edge, address="10.89.87.30")


@pytest.fixture(scope="session")
def keys() -> dict[str, Any]:
    """Return the planted variables of the inventory."""
    document = yaml.safe_load((ansible_playbook.inventory() / "hosts.yml").read_text())
    variables: dict[str, Any] = document["all"]["children"]["planted"]["vars"]
    return variables


@pytest.fixture
def api(edge: Host) -> httpx.Client:
    """Return a client of the gateway that knows the tests' authority and has no key."""
    return httpx.Client(
        base_url=f"https://{edge.address}", verify=str(AUTHORITY / "ca.pem"), timeout=60
    )
