"""The gate of the unit: what it takes for an answering chat, and when it gives up."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread

import pytest
from gpufleet_chat import gate
from gpufleet_chat.settings import Settings, parse_settings

ALIVE = (200, '{"status": "alive"}')
OPEN = (200, '0{"sid": "x"}')
PAGE = (200, "<html>any path</html>")


@pytest.fixture
def answers() -> dict[str, tuple[int, str]]:
    return {"/healthz": ALIVE, "/ws/socket.io/": OPEN}


@pytest.fixture
def settings(answers: dict[str, tuple[int, str]]) -> Iterator[Settings]:
    class FakeChat(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            status, body = answers[self.path.partition("?")[0]]
            self.send_response(status)
            self.end_headers()
            self.wfile.write(body.encode())

        def log_message(self, format: str, *args: object) -> None:
            """Keep quiet."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), FakeChat)
    Thread(target=server.serve_forever, daemon=True).start()
    yield parse_settings(
        {
            "upstream_url": "http://127.0.0.1/v1",
            "state_directory": "/nowhere",
            "listen_address": "0.0.0.0",
            "port": server.server_port,
        }
    )
    server.shutdown()
    server.server_close()


def test_passes_when_both_answer(settings: Settings) -> None:
    assert gate.wait(settings, 1) is None


@pytest.mark.parametrize(
    ("path", "answer", "reason"),
    [
        ("/healthz", (503, '{"status": "broken"}'), "broken"),
        ("/healthz", PAGE, "no answer"),
        ("/ws/socket.io/", PAGE, "opens no socket"),
    ],
)
def test_refuses(
    answers: dict[str, tuple[int, str]],
    settings: Settings,
    path: str,
    answer: tuple[int, str],
    reason: str,
) -> None:
    answers[path] = answer
    assert reason in (gate.wait(settings, 0.1) or "")


def test_gives_up_when_the_app_has_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    monkeypatch.setenv("MAINPID", str(ended.pid))
    nothing = {"upstream_url": "http://127.0.0.1/v1", "state_directory": "/nowhere", "port": 1}
    assert "has ended" in (gate.wait(parse_settings(nothing), 60) or "")
    monkeypatch.setenv("MAINPID", str(os.getpid()))
    assert "no answer" in (gate.wait(parse_settings(nothing), 0.1) or "")
