"""What the tests of a running gateway share; verify.yml sets the environment variables.

`GATEWAY_ADDRESS` is the host's address, `GATEWAY_SSH` the command that runs a shell line there.
"""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "test_hosts"))

ADDRESS = os.environ["GATEWAY_ADDRESS"]
KEYS = {"team-a": "Key.of+team/A-0123456789", "bulk": "key-of-the-bulk-client"}
FORGET_SECONDS = 3.1  # an upstream that failed is left out for more than 2, in whole seconds


class Backends:
    """The control port of fake_backend.py."""

    def __init__(self) -> None:
        self.control = httpx.Client(base_url=f"http://{ADDRESS}:9000")
        self.broken: set[int] = set()

    def set(self, mode: str, *ports: int) -> None:
        """Put the backends at `ports` into `mode`, and forget their requests."""
        for port in ports:
            self.control.put(f"/{port}/{mode}").raise_for_status()
            if mode != "ok":
                self.broken.add(port)

    def requests(self, *ports: int) -> list[dict[str, Any]]:
        """All requests that arrived at `ports`."""
        return [request for port in ports for request in self.control.get(f"/{port}").json()]

    def heal(self) -> None:
        """All back to `ok`, and as long as nginx leaves out those that failed."""
        self.set("ok", 9001, 9002, 9101, 9102, 9201, 9202)
        if self.broken - {9101, 9102}:  # the guards are always tried
            time.sleep(FORGET_SECONDS)
        self.broken.clear()


@pytest.fixture
def backends() -> Iterator[Backends]:
    """Backends that all answer, before the test and after it."""
    fakes = Backends()
    fakes.heal()
    yield fakes
    if fakes.broken:
        fakes.heal()


@pytest.fixture
def web() -> Iterator[httpx.Client]:
    """A browser without cookies."""
    with httpx.Client(base_url=f"http://{ADDRESS}", timeout=20) as client:
        yield client


@pytest.fixture
def api() -> Iterator[httpx.Client]:
    """A client with the key of team-a."""
    headers = {"Authorization": f"Bearer {KEYS['team-a']}"}
    with httpx.Client(base_url=f"http://{ADDRESS}", headers=headers, timeout=20) as client:
        yield client


def on_host(line: str) -> str:
    """Run a shell line on the gateway's host and return what it printed."""
    command = [*shlex.split(os.environ["GATEWAY_SSH"]), line]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout
