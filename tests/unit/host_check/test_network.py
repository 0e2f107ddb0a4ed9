"""Every way not to get an answer, made by real sockets, and the words for it."""

from __future__ import annotations

import socket
import time
from pathlib import Path

import pytest
from ansible_collections.gpufleet.llm.plugins.module_utils import _host_network as network
from ansible_collections.gpufleet.llm.plugins.module_utils._host_finding import Finding
from ansible_collections.gpufleet.llm.plugins.module_utils._host_network import (
    NotAskedError,
    Route,
    Unreachable,
    get,
    in_parallel,
    refusal,
)

from tests.free_port import free_port
from tests.unit.host_check.conftest import MakeCertificate
from tests.unit.host_check.fake_server import FakeServer, serving

ADDRESS, PROXY, BUNDLE = "model_hub_endpoint", "model_proxy", "model_ca_bundle"


def route(proxy: str = "", ca_bundle: str = "") -> Route:
    return Route("model", proxy, ca_bundle)


def told(way: Route, url: str) -> Finding:
    with pytest.raises(Unreachable) as raised:
        get(way, url, ADDRESS)
    return raised.value.finding


@pytest.fixture
def closed() -> str:
    """An address that refuses connections."""
    return f"127.0.0.1:{free_port()}"


def test_an_answer_is_an_answer(server: FakeServer) -> None:
    server.reply("/page?a=1", "content", 503, X_Why="busy")
    answer = get(route(), f"{server.url}/page?a=1", ADDRESS, limit=4)
    assert (answer.status, answer.body, answer.headers["x-why"]) == (503, b"cont", "busy")


def test_refused(closed: str) -> None:
    finding = told(route(), f"http://{closed}/x")
    assert (finding.variable, finding.problem) == (ADDRESS, f"{closed} refuses the connection.")
    assert PROXY in finding.remedy


def test_unknown_name() -> None:
    finding = told(route(), "https://hub.invalid/x")
    assert finding.variable == ADDRESS
    assert "hub.invalid cannot be reached: its name is unknown to this host" in finding.problem
    assert "getent hosts hub.invalid" in finding.remedy


def test_silence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(network, "STEP_SECONDS", 0.2)
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        held.listen()
        finding = told(route(), f"http://127.0.0.1:{held.getsockname()[1]}/")
    assert "does not answer within" in finding.problem


def test_no_such_scheme() -> None:
    assert "is no http or https address" in told(route(), "ftp://hub.example.com/x").problem


def test_a_server_that_is_no_web_server(server: FakeServer) -> None:
    assert (
        "does not speak TLS as it should"
        in told(route(), server.url.replace("http:", "https:")).problem
    )


@pytest.mark.parametrize(
    ("dates", "name", "trusted", "words"),
    [
        ({}, "127.0.0.1", False, "certificate_authorities"),
        ({}, "127.0.0.2", True, "the name that stands in its certificate"),
        ({"end": "20210101000000Z"}, "127.0.0.1", True, "clock"),
    ],
    ids=["untrusted", "other name", "expired"],
)
def test_certificates(
    make_certificate: MakeCertificate,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    dates: dict[str, str],
    name: str,
    trusted: bool,
    words: str,
) -> None:
    # Authorities that are not those of the server.
    (tmp_path / "mozilla").mkdir()
    (tmp_path / "mozilla" / "some.crt").write_text(make_certificate(stem="some")[0].read_text())
    monkeypatch.setattr(network, "MOZILLA", tmp_path / "mozilla")
    certificate, key = make_certificate(name=name, **dates)
    with serving((certificate, key)) as server:
        finding = told(route(ca_bundle=str(certificate) if trusted else ""), server.url)
    assert finding.variable == ADDRESS
    assert f"The certificate of 127.0.0.1:{server.server_port} is refused" in finding.problem
    assert words.replace("_", " ") in finding.remedy
    assert (BUNDLE in finding.remedy) is not trusted


def test_authorities_come_from_bundle_environment_or_none(
    make_certificate: MakeCertificate, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    pair = make_certificate(name="127.0.0.1")
    monkeypatch.setattr(network, "MOZILLA", tmp_path / "absent")
    with serving(pair) as server:
        assert get(route(ca_bundle=str(pair[0])), server.url, ADDRESS).status == 404
        # A bare host has no authorities, and uv will bring its own.
        assert get(route(), server.url, ADDRESS).status == 404
        monkeypatch.setattr(network, "SYSTEM_BUNDLE", str(tmp_path / "to-come.crt"))
        assert get(route(ca_bundle=network.SYSTEM_BUNDLE), server.url, ADDRESS).status == 404
        monkeypatch.setenv("SSL_CERT_FILE", str(pair[0]))
        assert get(route(), server.url, ADDRESS).status == 404
        monkeypatch.setenv("SSL_CERT_FILE", str(make_certificate(stem="other")[0]))
        assert "is refused" in told(route(), server.url).problem


def test_a_bundle_that_is_none(tmp_path: Path) -> None:
    missing = told(route(ca_bundle=str(tmp_path / "ca.pem")), "https://127.0.0.1:9/")
    assert (missing.variable, missing.problem) == (BUNDLE, f"There is no file {tmp_path}/ca.pem.")
    (tmp_path / "ca.pem").write_text("nothing\n")
    empty = told(route(ca_bundle=str(tmp_path / "ca.pem")), "https://127.0.0.1:9/")
    assert (empty.variable, "holds no certificate authorities" in empty.problem) == (BUNDLE, True)


@pytest.mark.parametrize("scheme", ["http", "https"])
def test_a_proxy_that_is_not_there(closed: str, scheme: str) -> None:
    finding = told(route(f"http://user:secret@{closed}"), f"{scheme}://hub.example.com/x")
    assert finding.variable == PROXY
    assert finding.problem == f"The proxy {closed} refuses the connection."
    assert "secret" not in str(finding)


@pytest.mark.parametrize(
    ("status", "words"), [(407, "407 Proxy Authentication Required"), (403, "403 Forbidden")]
)
def test_a_proxy_that_refuses_the_way(server: FakeServer, status: int, words: str) -> None:
    server.tunnel = (status, {}, "")
    finding = told(route(server.url), "https://hub.example.com/x")
    assert finding.variable == PROXY
    assert f"refuses the way to hub.example.com: {words}" in finding.problem


def test_a_proxy_leads_there(server: FakeServer, make_certificate: MakeCertificate) -> None:
    server.reply("http://hub.example.com/x", "by proxy")
    proxy = server.url.replace("//", "//me:p%40ss@")
    assert get(route(proxy), "http://hub.example.com/x", ADDRESS, limit=99).body == b"by proxy"
    assert server.asked[-1][1]["Proxy-Authorization"] == "Basic bWU6cEBzcw=="
    pair = make_certificate(name="127.0.0.1")
    with serving(pair) as far:
        far.reply("/x", "by tunnel")
        way = route(proxy, str(pair[0]))
        assert get(way, f"{far.url}/x", ADDRESS, limit=99).body == b"by tunnel"
        assert "Proxy-Authorization" not in far.asked[-1][1]
    path, headers = server.asked[-1]
    assert path == f"127.0.0.1:{far.server_port}"
    assert headers["Proxy-Authorization"] == "Basic bWU6cEBzcw=="


def test_the_proxy_of_the_environment(server: FakeServer, monkeypatch: pytest.MonkeyPatch) -> None:
    server.reply("http://hub.example.com/x", "by proxy")
    monkeypatch.setenv("http_proxy", server.url)
    assert get(route(), "http://hub.example.com/x", ADDRESS).status == 200
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    assert get(route(), f"{server.url}/x", ADDRESS).status == 404
    assert server.asked[-1][0] == "/x"


def test_proxies_of_other_kinds() -> None:
    socks = told(route("socks5://127.0.0.1:1080"), "http://hub.example.com/")
    assert (socks.variable, "SOCKS" in socks.problem) == (PROXY, True)
    with pytest.raises(NotAskedError, match="the way to the proxy"):
        get(route("https://127.0.0.1:3128"), "http://hub.example.com/", ADDRESS)


def test_secrets_stay_with_the_server_they_are_for(server: FakeServer) -> None:
    secrets = {"Authorization": "Bearer token"}
    with serving() as other:
        server.reply("/a", status=302, Location="/b")
        server.reply("/b", status=307, Location=f"{other.url}/c")
        other.reply("/c", "end")
        assert get(route(), f"{server.url}/a", ADDRESS, secrets=secrets).status == 200
        assert [headers.get("Authorization") for _path, headers in server.asked] == [
            "Bearer token"
        ] * 2
        assert "Authorization" not in other.asked[0][1]
    server.reply("/circle", status=302, Location="/circle")
    assert "leads in a circle" in told(route(), f"{server.url}/circle").problem


def test_user_and_password_of_an_address_are_sent(server: FakeServer) -> None:
    server.reply("/x")
    get(route(), server.url.replace("//", "//me:secret@") + "/x", ADDRESS)
    assert server.asked[0][1]["Authorization"] == "Basic bWU6c2VjcmV0"


@pytest.mark.parametrize(
    ("status", "remedy"),
    [(401, "user and password"), (403, "may ask"), (407, "proxy"), (404, "Correct"), (503, "Wait")],
)
def test_a_status_that_is_no_success(server: FakeServer, status: int, remedy: str) -> None:
    server.reply("/x", status=status)
    address = server.url.replace("//", "//me:secret@") + "/x"
    finding = refusal(get(route(), address, ADDRESS), ADDRESS)
    assert f"{server.url}/x answers with status {status}." == finding.problem
    assert remedy in finding.remedy


def test_jobs_run_together_and_end_in_time() -> None:
    def fail() -> None:
        raise ValueError("no")

    def wait(seconds: float) -> float:
        time.sleep(seconds)
        return seconds

    started = time.monotonic()
    results = in_parallel(
        {
            "one": lambda: wait(0.3),
            "two": lambda: wait(0.31),
            "broken": fail,
            "endless": lambda: wait(5),
        },
        seconds=0.6,
    )
    assert time.monotonic() - started < 1.5
    assert (results["one"], results["two"]) == (0.3, 0.31)
    assert isinstance(results["broken"], ValueError)
    assert isinstance(results["endless"], TimeoutError)
