"""What the tests of the alerts share: receivers that run, and the way to them."""

from __future__ import annotations

import socket
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

# The package is run from its directory, not installed.
sys.path[:0] = [str(Path(__file__).parent), str(Path(__file__).parent.parent)]

if TYPE_CHECKING:
    from authority import Certificate
    from gpufleet_alert.notice import Notice
    from gpufleet_alert.services import Services
    from gpufleet_alert.settings import Settings
    from receivers import Receivers

HOOK = "hook.example.com"
DINGTALK_SECRET = "SECabcdef0123456789"


@pytest.fixture(scope="session")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Certificate:
    """Return a certificate for every name of the receivers, and its authority."""
    import authority
    from receivers import NAMES

    return authority.issue(tmp_path_factory.mktemp("tls"), [HOOK, "localhost", *NAMES])


@pytest.fixture
def them(certificate: Certificate, monkeypatch: pytest.MonkeyPatch) -> Iterator[Receivers]:
    """Running receivers, to which all names lead; their authority is trusted."""
    from receivers import NAMES, Receivers

    real = socket.getaddrinfo
    with Receivers(certificate.certificate, certificate.key, DINGTALK_SECRET) as receivers:

        def lookup(host: str, port: int, *args: Any, **kwargs: Any) -> Any:
            if host in (HOOK, *NAMES):
                return real("127.0.0.1", receivers.port, *args, **kwargs)
            return real(host, port, *args, **kwargs)

        monkeypatch.setattr(socket, "getaddrinfo", lookup)
        monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(certificate.authority))
        monkeypatch.setenv("SSL_CERT_FILE", str(certificate.authority))
        yield receivers


@pytest.fixture(autouse=True)
def without_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the seconds that apprise leaves between two messages to one service."""
    import apprise

    monkeypatch.setattr(apprise.URLBase, "request_rate_per_sec", 0)
    monkeypatch.setattr(apprise.NotifyBase, "request_rate_per_sec", 0)


@pytest.fixture
def urls(them: Receivers) -> dict[str, str]:
    """One URL of each service, as an inventory has it."""
    return {
        "dingtalk": f"dingtalk://{DINGTALK_SECRET}@tokenofdingtalk/",
        "wecombot": "wecombot://key-of-wecom",
        "feishu": "feishu://tokenoffeishu",
        "slack": "slack://T1JJ3T3L2/A1BRTD4JD/TIiajkdnlazkcOXrIdevi7FQ/",
        "webhook": f"jsons://{HOOK}/secret-path",
        "mail": f"mailto://localhost:{them.smtp_port}/?from=host@example.com&to=ops@example.com",
    }


@pytest.fixture
def services(urls: dict[str, str]) -> Callable[..., Services]:
    """Return a function that makes services of these names."""

    def make(*names: str) -> Services:
        from gpufleet_alert.services import Services

        return Services("\n".join(urls[name] for name in names))

    return make


@pytest.fixture
def settings(tmp_path: Path, certificate: Certificate) -> Settings:
    """Settings whose directories are the test's own."""
    from gpufleet_alert.settings import Settings

    return Settings(
        host="gpu1",
        keep_days=7,
        log_lines=0,
        restarts_every_minutes=15,
        ca_bundle=certificate.authority,
        notices=(tmp_path / "notices",),
        incidents=tmp_path / "incidents",
        state=tmp_path / "alert",
    )


@pytest.fixture
def notice() -> Callable[..., Notice]:
    """Return a function that makes a notice like the guard's, with other fields."""

    def make(**changes: Any) -> Notice:
        from gpufleet_alert.notice import Notice

        now = time.time()
        fields: dict[str, Any] = {
            "kind": "restarted",
            "unit": "vllm@smollm2.service",
            "instance": "smollm2",
            "what": "vLLM ended unasked (status 0)",
            "since": now - 3,
            "at": now,
            "restarts": 1,
        }
        return Notice(**{**fields, **changes})

    return make


@pytest.fixture
def program(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str, str], Path]:
    """Return a function that puts a shell script before the programs of the PATH, as a fake.

    Its arguments go to the file that is returned, one a line.
    """
    folder = tmp_path / "fake-programs"

    def make(name: str, script: str) -> Path:
        folder.mkdir(exist_ok=True)
        arguments = folder / f"{name}.arguments"
        fake = folder / name
        fake.write_text(f"#!/bin/sh\nprintf '%s\\n' \"$@\" >{arguments}\n{script}\n")
        fake.chmod(0o755)
        monkeypatch.setenv("PATH", f"{folder}:/usr/bin:/bin")
        return arguments

    return make
