"""Every state of the Chainlit probe."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import uuid

import pytest
from ansible_collections.gpufleet.llm.plugins.module_utils._probe import Client
from ansible_collections.gpufleet.llm.plugins.module_utils._probe_chainlit import (
    Turn,
    check_chainlit,
)
from fake_chainlit import FakeChainlit
from fake_vllm import FakeVllm

PARIS = Turn("What is the capital of France?", "capital is Paris")

# behaviour, turn or not, state, level, part of the detail
CASES: list[tuple[dict[str, str], Turn | None, str, str, str]] = [
    ({}, None, "ready", "socket", "opens"),
    ({}, PARIS, "ready", "turn", "chat answered"),
    ({"turn": "ping"}, PARIS, "ready", "turn", "chat answered"),
    ({"health": "404"}, None, "ready", "socket", ""),
    ({"health": "404", "socket": "html"}, None, "wrong_answer", "socket", "does not open"),
    ({"health": "html"}, None, "wrong_answer", "http", "text/html"),
    ({"health": "502"}, None, "dead", "http", "502"),
    ({"health": "503"}, None, "busy", "http", "503"),
    ({"socket": "html"}, None, "wrong_answer", "socket", "does not open"),
    ({"socket": "401"}, None, "wrong_answer", "socket", "401"),
    ({"turn": "error"}, PARIS, "wrong_answer", "turn", "shows an error"),
    ({"turn": "refuse"}, PARIS, "wrong_answer", "turn", "authentication failed"),
    ({"turn": "silent"}, PARIS, "busy", "turn", "no complete answer in 1 s"),
    ({}, Turn("x", "Lyon"), "wrong_answer", "turn", "'The capital is Paris'"),
]


@pytest.mark.parametrize(("behaviour", "turn", "state", "level", "detail"), CASES)
def test_states(
    behaviour: dict[str, str], turn: Turn | None, state: str, level: str, detail: str
) -> None:
    with FakeChainlit(**behaviour) as server:
        seen = check_chainlit(Client(server.url), turn, timeout=1.0)
    assert (seen.state, seen.level) == (state, level)
    assert detail in seen.detail


def test_turn_leaves_no_session_behind() -> None:
    with FakeChainlit() as server:
        assert check_chainlit(Client(server.url), PARIS, 5.0).ready
    connect, _, message, *farewell = server.received
    session = json.loads(connect[2:])["sessionId"]
    assert server.cookies == {f"X-Chainlit-Session-id={session}"}
    assert uuid.UUID(json.loads(message[2:])[1]["message"]["id"]).version == 4
    assert farewell == ['42["clear_session"]', "41"]


def test_turn_where_people_log_in_has_a_session_of_its_own() -> None:
    secret = "secret-of-the-sessions"
    turn = Turn(PARIS.message, PARIS.expect, secret)
    with FakeChainlit() as server:
        assert check_chainlit(Client(server.url), turn, 5.0).ready
    (cookie,) = server.cookies
    token = cookie.partition("; access_token=")[2]
    signed, _dot, signature = token.rpartition(".")
    made = hmac.new(secret.encode(), signed.encode(), hashlib.sha256).digest()
    assert decoded(signature) == made
    claims = json.loads(decoded(signed.partition(".")[2]))
    assert claims["identifier"] == "gpufleet probe"
    assert 0 < claims["exp"] - claims["iat"] < 600
    assert secret not in repr(turn)


def decoded(text: str) -> bytes:
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))


def test_vllm_is_not_taken_for_chainlit() -> None:
    with FakeVllm(health="html") as server:
        assert check_chainlit(Client(server.url), None, 1.0).state == "wrong_answer"


def test_nothing_there() -> None:
    seen = check_chainlit(Client("http://127.0.0.1:9"), None, 1.0)
    assert (seen.state, seen.level) == ("dead", "port")


@pytest.mark.parametrize(
    ("url", "origin"),
    [
        ("http://chat.example:80", "http://chat.example"),
        ("https://chat.example:443/base", "https://chat.example"),
        ("http://chat.example:443", "http://chat.example:443"),
        ("http://chat.example:8080", "http://chat.example:8080"),
        ("http://[::1]:80", "http://[::1]"),
    ],
)
def test_origin_is_a_browsers(url: str, origin: str) -> None:
    assert Client(url).origin == origin
