"""The service through its gateway, after converge and a second run."""

from __future__ import annotations

import json

import httpx
import pytest
from host import Host
from openai_api import ask, stream

UNITS = ["vllm@smollm2.service", "chainlit.service", "nginx.service"]


def test_answers(url: str, model: str) -> None:
    assert "Paris" in ask(url, model)


def test_streams(url: str, model: str) -> None:
    pieces = list(stream(url, model))
    assert "Paris" in "".join(pieces)
    assert len([piece for piece in pieces if piece]) > 3


def test_lists_the_model(url: str, model: str) -> None:
    listed = httpx.get(f"{url}/v1/models").json()
    assert [entry["id"] for entry in listed["data"]] == [model]


def test_health(url: str) -> None:
    response = httpx.get(f"{url}/v1/health")
    assert response.status_code == 200
    assert response.json()["state"] == "ready"


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/metrics"),
        ("GET", "/docs"),
        ("GET", "/openapi.json"),
        ("GET", "/health"),
        ("GET", "/healthz"),
        ("GET", "/readyz"),
        ("GET", "/version"),
        ("POST", "/invocations"),
        ("POST", "/tokenize"),
        ("POST", "/detokenize"),
        ("POST", "/scale_elastic_ep"),
        ("POST", "/v1/messages"),
        ("POST", "/v1/responses"),
        ("POST", "/v1/load_lora_adapter"),
    ],
)
def test_everything_else_is_404(url: str, method: str, path: str) -> None:
    body = {"model": "smollm2-135m-instruct", "prompt": "x", "input": "x", "messages": []}
    response = httpx.request(method, url + path, json=body if method == "POST" else None)
    assert response.status_code == 404, response.text[:200]


def test_instances_are_reached_through_the_gateway_alone(host: Host) -> None:
    for port in (8000, 9000, 7860):
        with pytest.raises(httpx.ConnectError):
            httpx.get(f"http://{host.address}:{port}/health")


@pytest.mark.parametrize("unit", UNITS)
def test_started_once(host: Host, unit: str) -> None:
    """A second run of site.yml restarted nothing: every line is of one invocation."""
    shown = host.show(unit, "NRestarts", "ActiveState", "InvocationID", "UnitFileState")
    assert shown["ActiveState"] == "active"
    assert shown["UnitFileState"] == "enabled"
    assert shown["NRestarts"] == "0"
    journal = host.run(f"journalctl --unit {unit} --output json --output-fields=INVOCATION_ID")
    invocations = {json.loads(line).get("INVOCATION_ID") for line in journal.splitlines()}
    assert invocations - {None} == {shown["InvocationID"]}


def test_runs_from_its_release(host: Host) -> None:
    for unit, service in (("vllm@smollm2", "vllm"), ("chainlit", "chainlit")):
        pid = host.show(unit, "MainPID")["MainPID"]
        release = host.run(f"readlink /proc/{pid}/cwd")
        assert release == host.run(f"readlink -f /opt/gpufleet/{service}/current")
        assert release.startswith(f"/opt/gpufleet/{service}/releases/")


def test_guard_says_ready(host: Host) -> None:
    guard = "/opt/gpufleet/vllm/current/guard/llm_guard.py"
    checked = json.loads(host.run(f"python3 {guard} check smollm2 --json"))
    assert checked["state"] == "ready"


def test_access_log_is_json(host: Host, url: str, model: str) -> None:
    ask(url, model)
    last = json.loads(host.run("tail --lines 1 /var/log/gpufleet/gateway_access.log"))
    assert last["status"] in (200, "200")
    assert last["upstream_first_byte_seconds"]


def test_nothing_failed(host: Host) -> None:
    assert host.run("systemctl --failed --no-legend --plain") == ""


def test_instances_wait_for_the_disks_of_models_and_environments(host: Host) -> None:
    mounts = host.show(UNITS[0], "RequiresMountsFor")["RequiresMountsFor"]
    assert {"/var/lib/gpufleet/models", "/opt/gpufleet/venvs"} <= set(mounts.split())
