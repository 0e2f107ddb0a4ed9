"""A pool of five instances, of which nothing listens for three."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor

import httpx

from .conftest import Backends

CHAT = {"model": "m", "messages": [{"role": "user", "content": "Hi"}], "stream": True}


def test_no_request_is_lost(backends: Backends, api: httpx.Client) -> None:
    """Longer than an instance that refuses is left out, with open answers at the others."""

    def ask(number: int) -> int:
        time.sleep(max(0.0, start + number / 12 - time.monotonic()))
        return api.post("/v1/chat/completions", json=CHAT).status_code

    start = time.monotonic()
    with ThreadPoolExecutor(40) as pool:
        assert set(pool.map(ask, range(100))) == {200}
