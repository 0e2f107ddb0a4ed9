"""Deaths, hangs and floods of a running instance; each is provoked on the real one."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import httpx
import pytest
from host import Host, wait_until
from openai_api import answers

UNIT = "vllm@smollm2.service"
GUARD = "python3 /opt/gpufleet/vllm/current/guard/llm_guard.py"
# A start costs a minute of both cores; a hang is found within a minute before that.
RECOVERY_SECONDS = 300.0


@pytest.fixture(autouse=True)
def healthy(host: Host, url: str, model: str) -> Iterator[None]:
    """Begin and end every test with a service that answers, and with a fresh start limit."""
    host.run(f"systemctl reset-failed {UNIT}")
    wait_until("the service answers", lambda: answers(url, model), RECOVERY_SECONDS)
    yield
    wait_until("the service answers again", lambda: answers(url, model), RECOVERY_SECONDS)


def restarts(host: Host) -> int:
    return int(host.show(UNIT, "NRestarts")["NRestarts"])


def engine_processes(host: Host) -> list[str]:
    """Return every vLLM process of the host, inside the unit or not."""
    # In brackets, so that the shell that runs this does not match itself.
    return host.run("pgrep --full '[V]LLM::|[v]llm serve' || true").split()


def state(host: Host) -> str:
    checked = host.run(f"{GUARD} check smollm2 --json", check=False)
    return str(json.loads(checked)["state"])


@pytest.mark.parametrize("victim", ["VLLM::EngineCore", "VLLM::Worker", "vllm serve", "llm_guard"])
def test_death_is_repaired(host: Host, url: str, model: str, victim: str) -> None:
    before = host.processes(UNIT)
    host.run(f"kill -KILL {host.pid_of(UNIT, victim)}")
    wait_until("systemd restarts it", lambda: restarts(host) == 1, 60)
    seconds = wait_until("it answers", lambda: answers(url, model), RECOVERY_SECONDS)
    print(f"{victim}: killed, answered again {seconds:.0f} s after the restart")
    assert restarts(host) == 1
    after = host.processes(UNIT)
    assert not set(before) & set(after), "a process of before is still there"
    outside = set(engine_processes(host)) - {str(pid) for pid in after}
    assert not outside, f"orphans: {outside}"


@pytest.mark.parametrize("victim", ["VLLM::Worker", "VLLM::EngineCore"])
def test_hang_is_repaired(host: Host, url: str, model: str, victim: str) -> None:
    host.run(f"kill -STOP {host.pid_of(UNIT, victim)}")
    assert httpx.get(f"{url}/v1/models").status_code == 200, "a hung engine still lists its model"
    assert state(host) == "hung"
    seconds = wait_until("the guard ends it", lambda: restarts(host) == 1, 90)
    print(f"{victim}: stopped, restarted within {seconds:.0f} s of the check")
    wait_until("it answers", lambda: answers(url, model), RECOVERY_SECONDS)
    assert restarts(host) == 1


def test_flood_is_busy_and_restarts_nothing(host: Host, url: str, model: str) -> None:
    pid = host.show(UNIT, "MainPID")["MainPID"]
    body = {
        "model": model,
        "prompt": "Tell me a long story.",
        "max_tokens": 120,
        "ignore_eos": True,
    }

    def long_request() -> int:
        try:
            return httpx.post(f"{url}/v1/completions", json=body, timeout=400).status_code
        except httpx.HTTPError:
            return 0

    with ThreadPoolExecutor(48) as pool:
        flood = [pool.submit(long_request) for _ in range(48)]
        time.sleep(5)
        seen = {state(host)}
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline and not all(request.done() for request in flood):
            seen.add(state(host))
        statuses = {request.result() for request in flood}
    assert "busy" in seen, f"states during the flood: {seen}"
    assert "hung" not in seen
    assert statuses == {200}
    assert host.show(UNIT, "MainPID")["MainPID"] == pid
    assert restarts(host) == 0


def test_bare_unit_shows_the_upstream_defect(host: Host) -> None:
    """Without the guard, a killed engine is a success for systemd, and nothing restarts it."""
    # Two instances on two cores would starve each other.
    host.run(f"systemctl stop {UNIT}")
    current, config, cache = "/opt/gpufleet/vllm/current", "/run/vllm-bare.yaml", "vllm-bare"
    host.run(f"sed 's/^port: .*/port: 8100/' {current}/instances/smollm2.yaml >{config}")
    environment = {
        "PYTHONPATH": "metadata",
        "HOME": f"/var/cache/{cache}",
        "VLLM_CACHE_ROOT": f"/var/cache/{cache}",
        "VLLM_CPU_KVCACHE_SPACE": "1",
        "HF_HUB_OFFLINE": "1",
    }
    host.run(
        "systemd-run --quiet --unit=vllm-bare --property=User=vllm --property=Restart=on-failure "
        f"--property=CacheDirectory={cache} --property=WorkingDirectory={current} "
        + " ".join(f"--setenv={name}={value}" for name, value in environment.items())
        + f" {current}/venv/bin/vllm serve --config {config}"
    )
    try:
        health = (
            "python3 -c 'import urllib.request as request; "
            'request.urlopen("http://127.0.0.1:8100/health")\' 2>/dev/null; echo $?'
        )
        wait_until("the bare unit answers", lambda: host.run(health) == "0", RECOVERY_SECONDS)
        host.run(f"kill -KILL {host.pid_of('vllm-bare', 'VLLM::EngineCore')}")
        wait_until(
            "the bare unit ends",
            lambda: host.show("vllm-bare", "ActiveState")["ActiveState"] == "inactive",
            60,
        )
        time.sleep(5)
        shown = host.show("vllm-bare", "ActiveState", "Result", "NRestarts")
        assert shown == {"ActiveState": "inactive", "Result": "success", "NRestarts": "0"}
    finally:
        host.run(f"systemctl stop vllm-bare; rm -f {config}", check=False)
        host.run(f"systemctl start {UNIT}")
