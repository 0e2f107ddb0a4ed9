"""A planned stop lets open answers come to their end, with one API server of vLLM and with two."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from threading import Semaphore

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


def restart_under_streams(host: Host, url: str, model: str) -> None:
    """Restart the instance while answers are under way; each must come to its end."""
    before = vllm_processes(host)
    begun = Semaphore(0)
    with ThreadPoolExecutor(STREAMS) as pool:
        answers = [pool.submit(read, url, model, begun) for _ in range(STREAMS)]
        for _ in range(STREAMS):
            assert begun.acquire(timeout=60)
        host.run(f"systemctl restart {UNIT}")
        assert [answer.result() for answer in answers] == [(TOKENS, "[DONE]")] * STREAMS
    assert not before & vllm_processes(host)
    assert orphans(host) == set()


def test_open_answers_come_to_their_end(host: Host, url: str, model: str, inbox: Inbox) -> None:
    several = yaml.safe_dump({**config(host), "api-server-count": 2})
    with changed_file(host, CONFIG, several):
        # One API server stops, and two start.
        restart_under_streams(host, url, model)
        found = host.run("pgrep --full --count '[V]LLM::APIServer'")
        assert int(found) == 2, "vLLM calls its API servers otherwise: guard_stop.py looks for them"
    restart_under_streams(host, url, model)
    inbox.expect_nothing()
