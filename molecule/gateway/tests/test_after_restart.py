"""The host after a restart: what it logged before is there, and nginx is in its sandbox again."""

from __future__ import annotations

import httpx

from .conftest import ADDRESS, on_host


def test_journal_is_there() -> None:
    said = on_host("journalctl --output cat SYSLOG_IDENTIFIER=gateway-test").splitlines()
    assert sorted(said) == ["line in memory", "line on disk"]
    assert "File path: /var/log/journal/" in on_host("journalctl --header")
    place = "stat --format '%a %U %G' /var/log/journal"
    assert on_host(place).split() == ["2755", "root", "systemd-journal"]


def test_nginx_is_in_its_sandbox() -> None:
    assert httpx.get(f"http://{ADDRESS}/v1/models").status_code == 401
    status = on_host("cat /proc/$(cat /run/nginx.pid)/status")
    assert "NoNewPrivs:\t1" in status
    assert "Seccomp:\t2" in status
