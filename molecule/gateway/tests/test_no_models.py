"""A running gateway that knows no model yet, with chats and API keys."""

from __future__ import annotations

import httpx

from .conftest import ADDRESS, Backends


def test_api(api: httpx.Client) -> None:
    response = api.post("/v1/chat/completions", json={})
    assert response.status_code == 503
    assert response.headers["retry-after"] == "5"
    assert response.json()["error"]["code"] == "service_unavailable"


def test_key_first() -> None:
    assert httpx.get(f"http://{ADDRESS}/v1/models").status_code == 401


def test_health(web: httpx.Client) -> None:
    assert web.get("/v1/health").status_code == 503


def test_chat(backends: Backends, web: httpx.Client) -> None:
    assert web.get("/").status_code == 200
