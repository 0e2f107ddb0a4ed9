"""As much load as the host can bear, and more: it is busy, and nobody takes that for a hang.

GPUFLEET_LOAD_SECONDS says for how long; docs/testing.md names the long run.
"""

from __future__ import annotations

import os
import time
from concurrent.futures import ThreadPoolExecutor

import httpx
import pytest
from host import Host
from inbox import Inbox
from instance import UNIT, state

SECONDS = float(os.environ.get("GPUFLEET_LOAD_SECONDS", "45"))
CLIENTS = 48
# A request may wait behind those of all other clients.
PATIENCE_SECONDS = 400


@pytest.mark.usefixtures("healthy")
def test_load_is_busy_and_restarts_nothing(host: Host, url: str, model: str, inbox: Inbox) -> None:
    before = host.show(UNIT, "MainPID", "NRestarts")
    body = {
        "model": model,
        "prompt": "Tell me a long story.",
        "max_tokens": 120,
        "ignore_eos": True,
    }
    deadline = time.monotonic() + SECONDS

    def client() -> list[int]:
        statuses = []
        while time.monotonic() < deadline:
            try:
                answer = httpx.post(f"{url}/v1/completions", json=body, timeout=PATIENCE_SECONDS)
                statuses.append(answer.status_code)
            except httpx.HTTPError:
                statuses.append(0)
        return statuses

    with ThreadPoolExecutor(CLIENTS) as pool:
        load = [pool.submit(client) for _ in range(CLIENTS)]
        time.sleep(5)
        seen = set()
        while not all(one.done() for one in load):
            seen.add(state(host))
        statuses = [status for one in load for status in one.result()]
    print(f"{len(statuses)} answers, states: {sorted(seen)}")
    assert "busy" in seen, "this was no load"
    assert "hung" not in seen
    assert set(statuses) == {200}
    assert host.show(UNIT, "MainPID", "NRestarts") == before
    inbox.expect_nothing()
