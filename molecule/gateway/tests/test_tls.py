"""A running gateway with TLS, an open API and no chat."""

from __future__ import annotations

import json
import socket
import ssl
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import httpx
import pytest

from .conftest import ADDRESS, Backends, on_host


@pytest.fixture
def trust() -> ssl.SSLContext:
    """Trusts the gateway's certificate, and offers HTTP/2."""
    context = ssl.create_default_context(cadata=on_host("cat /etc/ssl/test.pem"))
    context.set_alpn_protocols(["h2", "http/1.1"])
    return context


@pytest.fixture
def api(trust: ssl.SSLContext) -> Iterator[httpx.Client]:
    """A client without a key."""
    trust.set_alpn_protocols(["http/1.1"])
    with httpx.Client(base_url=f"https://{ADDRESS}", verify=trust) as client:
        yield client


def test_http2_is_offered(trust: ssl.SSLContext) -> None:
    with (
        socket.create_connection((ADDRESS, 443), timeout=5) as connection,
        trust.wrap_socket(connection, server_hostname=ADDRESS) as secure,
    ):
        assert secure.selected_alpn_protocol() == "h2"


def test_configuration_has_no_warnings() -> None:
    assert "warn" not in on_host("nginx -t 2>&1")


def test_key_is_for_root_alone() -> None:
    key = "/etc/ssl/private/test.pem"
    assert on_host(f"stat --format '%a %U' {key}").split() == ["600", "root"]
    read = f"setpriv --reuid www-data --regid www-data --clear-groups cat {key} 2>&1 || true"
    assert "Permission denied" in on_host(read)


def test_http_redirects() -> None:
    response = httpx.post(f"http://{ADDRESS}/v1/completions?x=1")
    assert response.status_code == 308
    assert response.headers["location"] == f"https://{ADDRESS}/v1/completions?x=1"


def test_open_api(backends: Backends, api: httpx.Client) -> None:
    response = api.get("/v1/models", headers={"Authorization": "Bearer of-somebody"})
    assert response.status_code == 200
    assert "max-age" in response.headers["strict-transport-security"]
    (request,) = backends.requests(9001, 9002)
    assert "of-somebody" not in json.dumps(request)
    line = json.loads(on_host("tail -1 /var/log/gpufleet/gateway_access.log"))
    assert line["client"] == "anonymous"


def test_limit_is_per_address(api: httpx.Client) -> None:
    with ThreadPoolExecutor(8) as pool:
        answers = pool.map(lambda _: api.get("/v1/models").status_code, range(200))
    assert set(answers) == {200, 429}
    on_host("python3 -c 'import urllib.request as u, ssl; u.urlopen(\"https://127.0.0.1/v1/models\","
            " context=ssl._create_unverified_context())'")  # fmt: skip


def test_without_chat(api: httpx.Client) -> None:
    response = api.get("/")
    assert response.status_code == 503
    assert "back in a moment" in response.text
    assert api.get("/ws/socket.io/").status_code == 503
