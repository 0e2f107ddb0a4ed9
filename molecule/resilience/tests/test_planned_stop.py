"""A planned stop: open answers come to their end, and new requests are sent elsewhere."""

from __future__ import annotations

import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from threading import Event, Semaphore

import httpx
import pytest
import yaml
from host import Host
from inbox import Inbox
from instance import CONFIG, UNIT, changed_file, config, orphans, vllm_processes

pytestmark = pytest.mark.usefixtures("healthy")
STREAMS = 4
TOKENS = 200


def read(url: str, model: str, begun: Semaphore) -> tuple[int, str]:
    """Read one long answer; return how many tokens vLLM says that it has, and its last event."""
    body = {
        "model": model,
        "prompt": "Tell me a long story.",
        "max_tokens": TOKENS,
        "ignore_eos": True,
        "stream": True,
        "stream_options": {"include_usage": True},
    }
    events: list[str] = []
    with httpx.stream("POST", f"{url}/v1/completions", json=body, timeout=120) as response:
        for line in response.iter_lines():
            if line.startswith("data: "):
                events.append(line.removeprefix("data: "))
                if len(events) == 1:
                    begun.release()
    return json.loads(events[-2])["usage"]["completion_tokens"], events[-1]


def ask(url: str, model: str) -> str:
    """Ask for two tokens; return the status, and what else is wrong with the answer."""
    body = {"model": model, "prompt": "Once", "max_tokens": 2, "ignore_eos": True}
    response = httpx.post(f"{url}/v1/completions", json=body, timeout=60)
    if response.status_code == 200 and response.json()["usage"]["completion_tokens"] != 2:
        return f"200 with {response.text}"
    return str(response.status_code)


@contextmanager
def asked_on_and_on(url: str, model: str) -> Iterator[list[str]]:
    """Ask again and again meanwhile; yields what came of it so far."""
    found: list[str] = []
    over = Event()

    def go_on() -> None:
        while not over.is_set():
            found.append(ask(url, model))
            # The gateway has a limit of requests per second.
            over.wait(0.2)

    with ThreadPoolExecutor(STREAMS) as pool:
        asking = [pool.submit(go_on) for _ in range(STREAMS)]
        try:
            yield found
        finally:
            over.set()
    for one in asking:
        one.result()


def restart_under_streams(host: Host, url: str, model: str) -> None:
    """Restart the instance while answers are under way, and others are asked for."""
    before = vllm_processes(host)
    begun = Semaphore(0)
    with ThreadPoolExecutor(STREAMS) as pool:
        answers = [pool.submit(read, url, model, begun) for _ in range(STREAMS)]
        for _ in range(STREAMS):
            assert begun.acquire(timeout=60)
        with asked_on_and_on(url, model) as asked:
            host.run(f"systemctl restart {UNIT}")
        assert [answer.result() for answer in answers] == [(TOKENS, "[DONE]")] * STREAMS
    # With 503 a gateway asks another instance; 500 would reach the client, and so would no text.
    assert set(asked) == {"200", "503"}, asked
    assert not before & vllm_processes(host)
    assert orphans(host) == set()


def test_with_several_api_servers(host: Host, url: str, model: str, inbox: Inbox) -> None:
    found = host.run("pgrep --full --count '[V]LLM::APIServer'")
    assert int(found) == 2, "vLLM calls its API servers otherwise: guard_api_servers.py"
    restart_under_streams(host, url, model)
    inbox.expect_nothing()


def test_with_one_api_server(host: Host, url: str, model: str, inbox: Inbox) -> None:
    single = yaml.safe_dump({**config(host), "api-server-count": 1})
    with changed_file(host, CONFIG, single):
        # Two API servers stop, and one starts.
        host.run(f"systemctl restart {UNIT}")
        restart_under_streams(host, url, model)
    inbox.expect_nothing()
