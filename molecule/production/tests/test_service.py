"""The service over TLS and with keys, on two hosts and two distributions."""

from __future__ import annotations

from typing import Any

import httpx
import pytest
from chat_request import ask
from host import Host


def test_answers_over_tls_with_a_key(api: httpx.Client, keys: dict[str, Any]) -> None:
    response = ask(api, keys["nginx_api_clients"][1]["key"])
    assert response.status_code == 200
    assert "Paris" in response.json()["choices"][0]["message"]["content"]


def test_refuses_without_a_key(api: httpx.Client) -> None:
    assert ask(api, "planted-key-that-nobody-has").status_code == 401


def test_distributions(edge: Host, llm: Host) -> None:
    assert edge.run(". /etc/os-release && echo $VERSION_CODENAME") == "trixie"
    assert llm.run(". /etc/os-release && echo $VERSION_CODENAME") == "bookworm"


@pytest.mark.parametrize("key", ["", "planted-key-from-chat-to-gateway-1"])
def test_instances_refuse_whoever_is_not_the_gateway(llm: Host, key: str) -> None:
    direct = f"http://{llm.address}:8000/v1/models"
    response = httpx.get(direct, headers={"Authorization": f"Bearer {key}"} if key else {})
    assert response.status_code == 401


def test_nothing_failed(edge: Host, llm: Host) -> None:
    for host in (edge, llm):
        assert host.run("systemctl --failed --no-legend --plain") == ""
