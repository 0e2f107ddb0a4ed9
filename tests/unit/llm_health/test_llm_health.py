"""The module llm_health, run as a module: arguments in, JSON out."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pytest
from fake_chainlit import FakeChainlit
from fake_vllm import FakeVllm

COLLECTIONS = Path(__file__).resolve().parents[3] / ".collections"
CANARY = {"prompt": "What is the capital of France?", "expect": "Paris"}


def health(targets: list[dict[str, Any]], **options: object) -> dict[str, Any]:
    """Run the module in a process of its own; return its result."""
    arguments = {"targets": targets, "deadline": 5, "interval": 0.1, "probe_timeout": 3, **options}
    module = "ansible_collections.gpufleet.llm.plugins.modules.llm_health"
    process = subprocess.run(
        [sys.executable, "-m", module],
        input=json.dumps({"ANSIBLE_MODULE_ARGS": arguments}),
        env={**os.environ, "PYTHONPATH": str(COLLECTIONS), "LC_ALL": "C.UTF-8"},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    result: dict[str, Any] = json.loads(process.stdout)
    assert bool(result.get("failed")) == (process.returncode != 0)
    return result


def test_all_kinds_ready() -> None:
    with FakeVllm() as vllm, FakeChainlit() as chat:
        result = health(
            [
                {"name": "qwen", "url": vllm.url, "level": "canary", "canary": CANARY},
                {"name": "gateway", "kind": "gateway", "url": vllm.url},
                {
                    "name": "chat",
                    "kind": "chainlit",
                    "url": chat.url,
                    "chat_turn": True,
                    "expect": "Paris",
                },
            ]
        )
    assert (result["ready"], result["changed"]) == (True, False)
    seen = [
        (c["target"], c["kind"], c["state"], c["level"], c["attempts"]) for c in result["checks"]
    ]
    assert seen == [
        ("qwen", "vllm", "ready", "canary", 1),
        ("gateway", "gateway", "ready", "token", 1),
        ("chat", "chainlit", "ready", "turn", 1),
    ]
    assert result["checks"][0].keys() == {
        "target", "kind", "url", "state", "level", "seconds", "detail", "attempts",
    }  # fmt: skip


# behaviour of vLLM, target options, state, words of the message
FAILURES: list[tuple[dict[str, str], dict[str, Any], str, str]] = [
    ({"completions": "hang"}, {}, "hung", "journalctl -n 100 -u vllm@qwen"),
    ({"health": "503"}, {}, "dead", "Next: read its journal: journalctl -n 100 -u vllm@qwen"),
    ({"health": "503"}, {"kind": "gateway"}, "dead", "journalctl -n 100 -u nginx"),
    ({"health": "html"}, {"kind": "chainlit"}, "wrong_answer", "not Chainlit's JSON"),
    ({"completions": "503"}, {}, "busy", "add capacity"),
    ({}, {"served_model_name": "other"}, "wrong_model", "compare served_model_name"),
    ({"answer": "!"}, {"level": "canary", "canary": CANARY}, "wrong_answer", "dtype"),
]


@pytest.mark.parametrize(("behaviour", "options", "state", "words"), FAILURES)
def test_failures_say_what_to_do(
    behaviour: dict[str, str], options: dict[str, Any], state: str, words: str
) -> None:
    with FakeVllm(**behaviour) as vllm:
        result = health([{"name": "qwen", "url": vllm.url, **options}], deadline=4)
    assert result["failed"]
    assert not result["ready"]
    assert result["checks"][0]["state"] == state
    assert result["msg"].startswith("1 of 1 targets not ready after ")
    assert words in result["msg"]


def recover_when_asked_twice(vllm: FakeVllm) -> None:
    while vllm.completions < 2:
        time.sleep(0.05)
    vllm.change(completions="ok")


def test_waits_until_ready() -> None:
    with FakeVllm(completions="503") as vllm:
        threading.Thread(target=recover_when_asked_twice, args=(vllm,), daemon=True).start()
        result = health([{"name": "qwen", "url": vllm.url}], deadline=20)
    assert result["ready"]
    assert result["checks"][0]["attempts"] > 1


@pytest.mark.parametrize(("model", "waits"), [("other", False), ("m", True)])
def test_waits_only_where_it_helps(model: str, waits: bool) -> None:
    started = time.monotonic()
    with FakeVllm(completions="503") as vllm:
        health([{"name": "qwen", "url": vllm.url, "served_model_name": model}], deadline=4)
    assert (time.monotonic() - started > 4) == waits


def hang_when_asked_once(vllm: FakeVllm) -> None:
    while vllm.completions < 1:
        time.sleep(0.05)
    vllm.change(completions="hang")


def test_a_probe_that_the_deadline_cuts_short_finds_no_hang() -> None:
    with FakeVllm(completions="503") as vllm:
        threading.Thread(target=hang_when_asked_once, args=(vllm,), daemon=True).start()
        result = health(
            [{"name": "qwen", "url": vllm.url}], deadline=5, interval=1, probe_timeout=30
        )
    assert result["checks"][0]["attempts"] > 1
    assert result["checks"][0]["state"] == "busy"


def test_one_bad_target_among_good_ones() -> None:
    with FakeVllm() as vllm:
        result = health(
            [{"name": "a", "url": vllm.url}, {"name": "b", "url": "http://127.0.0.1:9"}], deadline=1
        )
    assert result["msg"].startswith("1 of 2 targets not ready")
    assert "b (http://127.0.0.1:9) is dead" in result["msg"]
    assert [check["state"] for check in result["checks"]] == ["ready", "dead"]


def test_key_is_used_and_hidden() -> None:
    with FakeVllm(keys=["geheimnis"]) as vllm:
        target = {"name": "a", "url": vllm.url}
        assert health([target], deadline=1)["failed"]
        result = health([{**target, "api_key": "geheimnis"}])
    assert result["ready"]
    assert "geheimnis" not in json.dumps(result)


def test_key_that_no_header_takes_is_hidden() -> None:
    with FakeVllm(keys=["geheimnis"]) as vllm:
        result = health([{"name": "a", "url": vllm.url, "api_key": "geheimnis\n"}], deadline=1)
    assert result["msg"].startswith("a: api_key must be of printable ASCII")
    assert "geheimnis" not in json.dumps(result)


def test_check_mode_checks_as_well() -> None:
    with FakeVllm() as vllm:
        assert health([{"name": "a", "url": vllm.url}], _ansible_check_mode=True)["ready"]
        assert vllm.completions == 1


WRONG: list[tuple[list[dict[str, Any]], dict[str, Any], str]] = [
    ([], {}, "targets is empty"),
    ([{"name": "a", "url": "localhost:80"}], {}, "a: url 'localhost:80' is not a URL"),
    ([{"name": "a", "url": "http://h", "level": "canary"}], {}, "canary"),
    ([{"name": "a", "url": "http://h", "expect": "("}], {}, "not a regular expression"),
    ([{"name": "a", "url": "https://h", "ca_path": "/none"}], {}, "ca_path /none cannot"),
    ([{"name": "a", "url": "http://h"}], {"deadline": 0}, "deadline must be above 0"),
    ([{"name": "a", "url": "http://h", "kind": "x"}], {}, "value of kind must be one of"),
]


@pytest.mark.parametrize(("targets", "options", "words"), WRONG)
def test_arguments(targets: list[dict[str, Any]], options: dict[str, Any], words: str) -> None:
    result = health(targets, **options)
    assert result["failed"]
    assert words in result["msg"]
