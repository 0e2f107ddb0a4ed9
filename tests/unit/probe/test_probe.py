"""Every state of the vLLM and gateway probe."""

from __future__ import annotations

import pytest
from ansible_collections.gpufleet.llm.plugins.module_utils._probe import (
    Canary,
    Client,
    Kind,
    Level,
    Target,
    answer_text,
    check,
    generated_tokens,
    model_names,
    parse_heartbeat,
)
from fake_vllm import FakeVllm

from tests.free_port import free_port

PARIS = Canary("What is the capital of France?", "Paris")

# behaviour of the server, level asked for, state, level reported, part of the detail, final
CASES: list[tuple[dict[str, object], Level, str, str, str, bool]] = [
    ({}, "port", "ready", "port", "port open", False),
    ({}, "http", "ready", "http", "200", False),
    ({}, "model", "ready", "model", "serves m", False),
    ({}, "token", "ready", "token", "one token", False),
    ({}, "canary", "ready", "canary", "Paris", False),
    ({"chat_template": "no"}, "canary", "ready", "canary", "Paris", False),
    ({"health": "503"}, "token", "dead", "http", "engine is dead", False),
    ({"health": "404"}, "token", "dead", "http", "404", False),
    ({"health": "html"}, "token", "dead", "http", "web page", False),
    ({"health": "hang"}, "token", "hung", "http", "did not answer", False),
    ({"models": "hang"}, "token", "hung", "model", "did not answer", False),
    ({"models": "html"}, "token", "wrong_model", "model", "is this vLLM", True),
    ({"models": "empty"}, "token", "wrong_model", "model", "lists no model", True),
    ({"model": "other"}, "token", "wrong_model", "model", "serves other, not m", True),
    ({"keys": ["secret"]}, "token", "wrong_answer", "model", "API key", True),
    ({"completions": "503"}, "token", "busy", "token", "503", False),
    ({"completions": "429"}, "token", "busy", "token", "429", False),
    ({"completions": "500"}, "token", "dead", "token", "500", False),
    ({"completions": "404"}, "token", "wrong_answer", "token", "404", True),
    ({"completions": "empty"}, "token", "wrong_answer", "token", "no token", False),
    ({"completions": "close"}, "token", "dead", "token", "connection failed", False),
    ({"completions": "hang"}, "token", "hung", "token", "stands still", False),
    ({"completions": "hang", "heartbeat": "hang"}, "token", "hung", "token", "stands", False),
    ({"completions": "hang", "heartbeat": "moving"}, "token", "busy", "token", "moves", False),
    ({"completions": "hang", "heartbeat": "absent"}, "token", "busy", "token", "no heartb", False),
    ({"answer": "!!!!"}, "canary", "wrong_answer", "canary", "!!!!", True),
    ({"answer": ""}, "canary", "wrong_answer", "canary", "''", True),
]


@pytest.mark.parametrize(("behaviour", "level", "state", "reached", "detail", "final"), CASES)
def test_states(
    behaviour: dict[str, object], level: Level, state: str, reached: str, detail: str, final: bool
) -> None:
    with FakeVllm(**behaviour) as server:
        seen = check(Target(Client(server.url), "m", PARIS), level, timeout=1.0)
    assert (seen.state, seen.level, seen.final) == (state, reached, final)
    assert detail in seen.detail
    assert "\n" not in seen.detail
    assert seen.seconds < 3


GATEWAY: list[tuple[dict[str, object], str, str]] = [
    ({}, "ready", "one token"),
    ({"health": "503"}, "dead", "no instance is ready"),
    ({"health": "html"}, "dead", "web page"),
    ({"completions": "hang"}, "busy", "no heartbeat"),
]


@pytest.mark.parametrize(("behaviour", "state", "detail"), GATEWAY)
def test_gateway(behaviour: dict[str, object], state: str, detail: str) -> None:
    with FakeVllm(**behaviour) as server:
        seen = check(Target(Client(server.url), kind="gateway"), "token", timeout=1.0)
    assert seen.state == state
    assert detail in seen.detail


@pytest.mark.parametrize(("alive", "state"), [(True, "starting"), (False, "dead")])
def test_refused_port(alive: bool, state: str) -> None:
    seen = check(Target(Client(f"http://127.0.0.1:{free_port()}")), "http", 1.0, alive=alive)
    assert (seen.state, seen.level, seen.detail) == (state, "port", "port refused")


@pytest.mark.parametrize("kind", ["vllm", "gateway"])
def test_key_is_sent_and_never_shown(kind: Kind) -> None:
    with FakeVllm(keys=["secret"]) as server:
        right = check(Target(Client(server.url, api_key="secret"), "m", kind=kind), "token", 1.0)
        wrong = check(Target(Client(server.url, api_key="geheim"), "m", kind=kind), "token", 1.0)
    assert right.ready
    assert wrong.state == "wrong_answer"
    assert "geheim" not in str(wrong.as_dict())


def test_healthy_probe_reads_no_metrics_and_sends_one_generation() -> None:
    with FakeVllm(heartbeat="hang") as server:
        assert check(Target(Client(server.url), "m"), "token", 5.0).seconds < 1
        assert server.completions == 1


@pytest.mark.parametrize("url", ["127.0.0.1:8000", "ftp://host", "http://", ""])
def test_url_is_checked(url: str) -> None:
    with pytest.raises(ValueError, match="write http://HOST:PORT"):
        Client(url)


@pytest.mark.parametrize("key", ["geheimnis\n", "geheimnis\r\nX: y", "geheimniß", "geheim\tnis"])
def test_key_that_no_header_takes_is_not_repeated(key: str) -> None:
    with pytest.raises(ValueError, match="printable ASCII") as refused:
        Client("http://127.0.0.1:1", api_key=key)
    assert "geheim" not in str(refused.value)


METRICS: list[tuple[str, float | None]] = [
    ("", None),
    ("vllm:iteration_tokens_total_sum 4\n", None),
    ('vllm:iteration_tokens_total_count{engine="0",model_name="a b"} 8.0\n', 8.0),
    ("vllm:iteration_tokens_total_count 8\n", 8.0),
    (
        'vllm:iteration_tokens_total_count{engine="0"} 8.0\n'
        'vllm:iteration_tokens_total_count{engine="1"} 1e2\n',
        108.0,
    ),
]


@pytest.mark.parametrize(("text", "value"), METRICS)
def test_heartbeat(text: str, value: float | None) -> None:
    assert parse_heartbeat(text) == value


DOCUMENTS: list[tuple[object, list[str], int, str]] = [
    (None, [], 0, ""),
    ([], [], 0, ""),
    ({"data": 1, "usage": 2, "choices": 3}, [], 0, ""),
    ({"data": [{"id": "a"}, {"no": 1}, 7], "usage": {"completion_tokens": 2}}, ["a"], 2, ""),
    ({"choices": [{"text": "t"}]}, [], 0, "t"),
    ({"choices": [{"message": {"content": None, "reasoning": "r"}}]}, [], 0, "r"),
    ({"choices": [{"message": {"content": "c", "reasoning_content": "r"}}]}, [], 0, "r\nc"),
]


@pytest.mark.parametrize(("document", "names", "tokens", "text"), DOCUMENTS)
def test_documents(document: object, names: list[str], tokens: int, text: str) -> None:
    assert model_names(document) == names
    assert generated_tokens(document) == tokens
    assert answer_text(document) == text
