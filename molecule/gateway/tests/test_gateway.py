"""A running gateway with two backends of each kind, API keys and low limits."""

from __future__ import annotations

import json
import socket
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from statistics import median
from typing import Any

import httpx
import pytest

from .conftest import ADDRESS, KEYS, Backends, on_host
from .websocket import exchange

CHAT = {"model": "m", "messages": [{"role": "user", "content": "Hi"}], "stream": True}


def error_of(response: httpx.Response) -> dict[str, Any]:
    """The error in OpenAI's form; fails when the answer has another."""
    assert response.headers["content-type"] == "application/json"
    error = response.json()["error"]
    assert set(error) == {"message", "type", "param", "code"}
    assert isinstance(error, dict)
    return error


def ask(client: httpx.Client) -> httpx.Response:
    """One chat completion."""
    return client.post("/v1/chat/completions", json=CHAT)


def arrivals(client: httpx.Client) -> list[float]:
    """Seconds from the request to each event of one stream, the last being [DONE]."""
    start = time.monotonic()
    with client.stream("POST", "/v1/chat/completions", json=CHAT) as response:
        assert response.status_code == 200
        times = [(time.monotonic() - start, line) for line in response.iter_lines() if line]
    assert times[-1][1] == "data: [DONE]"
    return [seconds for seconds, _ in times]


def workers() -> set[str]:
    """Process ids of nginx's workers, those of before a reload included while they finish."""
    return set(on_host("pgrep --parent $(cat /run/nginx.pid)").split())


def test_stream_arrives_event_by_event(backends: Backends, api: httpx.Client) -> None:
    times = arrivals(api)
    assert len(times) == 9
    assert times[0] < 1  # the whole takes 2.4 seconds
    gaps = [later - earlier for earlier, later in zip(times, times[1:])]
    # A busy machine delays one or another; what is held back comes all at once.
    assert median(gaps) > 0.15
    assert times[-1] > 2


def test_reload_keeps_an_open_stream(backends: Backends, api: httpx.Client) -> None:
    old = workers()
    with ThreadPoolExecutor() as pool:
        stream = pool.submit(arrivals, api)
        time.sleep(0.5)
        on_host("systemctl reload nginx")
        assert len(stream.result()) == 9
    deadline = time.monotonic() + 10
    while old & workers():
        assert time.monotonic() < deadline, "the old workers stay"
        time.sleep(0.5)


def test_killed_master_comes_back(backends: Backends, web: httpx.Client) -> None:
    main_pid = "systemctl show --property=MainPID --value nginx"
    before = on_host(main_pid).strip()
    on_host("systemctl kill --signal=KILL --kill-who=main nginx")
    # The tests have little of a busy machine's time.
    deadline = time.monotonic() + 60
    # For a moment the workers of the old one still answer.
    while on_host(main_pid).strip() in ("0", before) and time.monotonic() < deadline:
        time.sleep(0.2)
    while time.monotonic() < deadline:
        try:
            if web.get("/v1/health").status_code == 200:
                break
        except httpx.TransportError:
            time.sleep(0.2)
    assert web.get("/v1/health").status_code == 200


def test_requests_reach_vllm_as_they_should(backends: Backends, api: httpx.Client) -> None:
    response = api.get("/v1/models", headers={"Cookie": "session=1", "X-Request-ID": "forged"})
    assert response.status_code == 200
    (request,) = backends.requests(9001, 9002)
    headers = {name.lower(): value for name, value in request["headers"].items()}
    assert request["path"] == "/v1/models"
    assert headers["authorization"] == "Bearer upstream-key-of-the-test"
    assert "cookie" not in headers
    assert headers["x-request-id"] == response.headers["x-request-id"] != "forged"
    assert response.headers.get_list("x-content-type-options") == ["nosniff"]


@pytest.mark.parametrize("route", ["chat/completions", "completions", "embeddings"])
def test_every_generating_route(backends: Backends, api: httpx.Client, route: str) -> None:
    assert api.post(f"/v1/{route}", json={}).status_code == 200


@pytest.mark.parametrize(
    "authorization",
    ["", "Bearer", "Bearer wrong", "Bearer " + KEYS["team-a"].lower(), f"Basic {KEYS['team-a']}",
     f"Bearer {KEYS['team-a']}x", "Bearer upstream-key-of-the-test",
     "Bearer " + KEYS["team-a"].replace(".", "_")],
)  # fmt: skip
def test_wrong_key(backends: Backends, web: httpx.Client, authorization: str) -> None:
    headers = {"Authorization": authorization} if authorization else {}
    response = web.post("/v1/chat/completions", json=CHAT, headers=headers)
    assert response.status_code == 401
    assert error_of(response)["code"] == "invalid_api_key"
    assert response.headers["www-authenticate"] == "Bearer"
    assert backends.requests(9001, 9002) == []


HIDDEN = Path(__file__).with_name("hidden_paths.txt").read_text().split()


@pytest.mark.parametrize("path", HIDDEN)
@pytest.mark.parametrize("method", ["GET", "POST"])
def test_what_is_not_served(backends: Backends, method: str, path: str) -> None:
    # http.client and httpx tidy paths up: a bare socket does not.
    with socket.create_connection((ADDRESS, 80), timeout=5) as connection:
        lines = [f"{method} {path} HTTP/1.1", f"Host: {ADDRESS}", "Connection: close"]
        lines += [f"Authorization: Bearer {KEYS['team-a']}", "Content-Length: 0", "", ""]
        connection.sendall("\r\n".join(lines).encode())
        head, _, body = connection.makefile("rb").read().partition(b"\r\n\r\n")
    assert head.split()[1] == b"404"
    assert json.loads(body)["error"]["code"] == "not_found"
    assert backends.requests(9001, 9002, 9101, 9102, 9201, 9202) == []


@pytest.mark.parametrize(
    ("method", "path", "allow"),
    [("GET", "/v1/chat/completions", "POST"), ("DELETE", "/v1/completions", "POST"),
     ("POST", "/v1/models", "GET"), ("OPTIONS", "/v1/embeddings", "POST"),
     ("POST", "/v1/health", "GET")],
)  # fmt: skip
def test_wrong_method(api: httpx.Client, method: str, path: str, allow: str) -> None:
    response = api.request(method, path)
    assert response.status_code == 405
    assert response.headers["allow"] == allow
    assert error_of(response)["code"] == "method_not_allowed"


def test_too_large(api: httpx.Client) -> None:
    response = api.post("/v1/completions", content=b"x" * 1_100_000)
    assert response.status_code == 413
    assert error_of(response)["code"] == "request_too_large"


def test_limit_is_per_client(backends: Backends, api: httpx.Client) -> None:
    headers = {"Authorization": f"Bearer {KEYS['bulk']}"}
    with httpx.Client(base_url=f"http://{ADDRESS}", headers=headers) as bulk:
        with ThreadPoolExecutor(8) as pool:
            answers = list(pool.map(lambda _: bulk.get("/v1/models"), range(150)))
        refused = [answer for answer in answers if answer.status_code == 429]
        assert len(answers) - len(refused) >= 40  # the burst
        assert refused
        assert refused[0].headers["retry-after"] == "1"
        assert error_of(refused[0])["type"] == "rate_limit_error"
        assert api.get("/v1/models").status_code == 200
        time.sleep(1)
        assert bulk.get("/v1/models").status_code == 200


@pytest.mark.parametrize("mode", ["busy", "bad_gateway", "drop", "closed"])
@pytest.mark.parametrize("port", [9001, 9002])
def test_another_instance_tries(
    backends: Backends, api: httpx.Client, mode: str, port: int
) -> None:
    backends.set(mode, port)
    other = 9003 + 9000 - port
    answers = [ask(api) for _ in range(2)]
    assert [answer.status_code for answer in answers] == [200, 200]
    assert all(f'"backend": {other}' in answer.text for answer in answers)


def test_all_instances_down(backends: Backends, api: httpx.Client) -> None:
    backends.set("closed", 9001, 9002)
    response = ask(api)
    assert response.status_code == 503
    assert error_of(response)["code"] == "service_unavailable"
    assert response.headers["retry-after"] == "5"
    assert response.headers["cache-control"] == "no-store"


def test_all_instances_busy(backends: Backends, api: httpx.Client) -> None:
    backends.set("busy", 9001, 9002)
    response = ask(api)
    assert response.status_code == 503
    assert response.headers["retry-after"] == "5"
    assert response.json()["error"]["message"] == "busy"  # vLLM's own words
    assert len(backends.requests(9001, 9002)) == 2


def test_silence_is_not_tried_again(backends: Backends, api: httpx.Client) -> None:
    backends.set("silent", 9001, 9002)
    response = ask(api)
    assert response.status_code == 504
    assert error_of(response)["code"] == "timeout"
    assert len(backends.requests(9001, 9002)) == 1


@pytest.mark.parametrize("mode", ["busy", "silent", "closed", "drop"])
def test_health_while_one_is_ready(backends: Backends, web: httpx.Client, mode: str) -> None:
    backends.set(mode, 9101)
    answers = [web.get("/v1/health") for _ in range(2)]
    assert [answer.status_code for answer in answers] == [200, 200]
    assert {answer.json()["path"] for answer in answers} == {"/health"}


@pytest.mark.parametrize(
    ("mode", "code"),
    [
        ("busy", "no_instance_is_ready"),
        ("silent", "no_instance_runs"),
        ("closed", "no_instance_runs"),
        ("drop", "no_instance_runs"),
    ],
)
def test_health_while_none_is_ready(
    backends: Backends, web: httpx.Client, mode: str, code: str
) -> None:
    backends.set(mode, 9101, 9102)
    response = web.get("/v1/health")
    assert response.status_code == 503
    assert error_of(response)["code"] == code
    backends.set("ok", 9102)
    assert web.get("/v1/health").status_code == 200  # at once, nothing remembers the failure


CHAT_PATHS = Path(__file__).with_name("chat_paths.txt").read_text().split()


@pytest.mark.parametrize("path", CHAT_PATHS)
def test_paths_of_the_chat(backends: Backends, web: httpx.Client, path: str) -> None:
    response = web.get(path)
    assert response.status_code == 200
    assert response.json()["path"] == path
    assert response.headers["set-cookie"] == "X-Chainlit-Session-id=new; Path=/; HttpOnly"


@pytest.mark.parametrize(
    ("method", "path"),
    [("POST", "/login"), ("POST", "/logout"), ("POST", "/set-session-cookie"),
     ("PUT", "/feedback"), ("DELETE", "/project/thread"), ("HEAD", "/")],
)  # fmt: skip
def test_methods_of_the_chat(backends: Backends, web: httpx.Client, method: str, path: str) -> None:
    assert web.request(method, path).status_code == 200


def test_conversation_stays_with_one_chat(backends: Backends, web: httpx.Client) -> None:
    homes = {}
    for number in range(12):
        session = f"session-{number}"
        headers = {"Cookie": f"theme=dark; X-Chainlit-Session-id={session}; other=1"}
        seen = {web.get("/user", headers=headers).json()["backend"] for _ in range(4)}
        status, reply = exchange(ADDRESS, headers, "hello")
        assert (status, reply[:10]) == (101, "hello from")
        seen.add(int(reply.split()[-1]))
        assert len(seen) == 1, f"{session} was at {seen}"
        homes[session] = seen.pop()
    assert set(homes.values()) == {9201, 9202}
    home = homes["session-0"]
    backends.set("closed", home)
    headers = {"Cookie": "X-Chainlit-Session-id=session-0"}
    assert web.get("/user", headers=headers).json()["backend"] != home


def test_all_tabs_of_a_browser_stay_with_one_chat(backends: Backends, web: httpx.Client) -> None:
    homes = set()
    for browser in range(12):
        seen = set()
        # Each tab that connects puts its own session into the browser's one cookie.
        for session in range(4):
            cookies = [f"X-Chainlit-Session-id=tab-{session}", f"gpufleet_chat_browser=b-{browser}"]
            for order in (cookies, cookies[::-1]):
                headers = {"Cookie": "; ".join(order)}
                seen.add(web.get("/user", headers=headers).json()["backend"])
                status, reply = exchange(ADDRESS, headers, "hello")
                assert (status, reply[:10]) == (101, "hello from")
                seen.add(int(reply.split()[-1]))
        assert len(seen) == 1, f"browser {browser} was at {seen}"
        homes |= seen
    assert homes == {9201, 9202}


@pytest.mark.parametrize(
    ("origin", "status"),
    [(f"http://{ADDRESS}", 101), ("", 101), ("https://portal.example.com", 101),
     ("https://portal.example.com.evil.net", 403), ("https://portalxexample.com", 403),
     ("http://evil.net", 403), (f"http://{ADDRESS}.evil.net", 403), ("null", 403)],
)  # fmt: skip
def test_origin_of_the_websocket(backends: Backends, origin: str, status: int) -> None:
    headers = {"Origin": origin} if origin else {}
    assert exchange(ADDRESS, headers, "hello")[0] == status


@pytest.mark.parametrize(
    ("languages", "words"),
    [("en-US,en;q=0.9", "back in a moment"), ("zh-CN,zh;q=0.9,en;q=0.8", "服务即将恢复"),
     ("en,zh;q=0.5", "back in a moment"), ("de", "back in a moment")],
)  # fmt: skip
def test_page_when_no_chat_answers(
    backends: Backends, web: httpx.Client, languages: str, words: str
) -> None:
    backends.set("closed", 9201, 9202)
    response = web.get("/thread/1", headers={"Accept-Language": languages})
    assert response.status_code == 503
    assert response.headers["content-type"].startswith("text/html")
    assert response.headers["retry-after"] == "5"
    response.encoding = "utf-8"
    assert words in response.text
    assert "http://" not in response.text
    assert "https://" not in response.text
    assert web.post("/login").status_code == 503
    assert exchange(ADDRESS, {}, "hello")[0] == 503


def test_log(backends: Backends, api: httpx.Client) -> None:
    backends.set("closed", 9001)
    answers = [ask(api) for _ in range(2)]
    api.get("/project/settings?token=secret-in-query")
    text = on_host("cat /var/log/gpufleet/gateway_access.log")
    lines = [json.loads(line) for line in text.splitlines()]
    for secret in ("secret-in-query", "upstream-key", *KEYS.values()):
        assert secret not in text
    by_id = {line["request_id"]: line for line in lines}
    tried = [by_id[answer.headers["x-request-id"]] for answer in answers]
    assert any(line["upstream"].split(", ")[-2:] == ["127.0.0.1:9001", "127.0.0.1:9002"]
               for line in tried)  # fmt: skip
    line = tried[0]
    assert (line["client"], line["status"]) == ("team-a", 200)
    assert (line["method"], line["path"]) == ("POST", "/v1/chat/completions")
    first_byte = float(line["upstream_first_byte_seconds"].split(", ")[-1])
    assert first_byte < 1 < 2 < line["request_seconds"]
