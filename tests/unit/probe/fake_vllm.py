"""A server that behaves like a vLLM in trouble, for what the real one cannot be made to do.

In a test: ``with FakeVllm(completions="hang") as server``. As a command: ``vllm serve --config
FILE`` with the keys of ``Behaviour`` in the file; POST /fake changes them while it runs.
"""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import importlib
import json
import os
import signal
import subprocess
import sys
import threading
import time
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import TracebackType
from typing import Any

PR_SET_NAME = 15


@dataclass
class Behaviour:
    """What the server does; texts that are numbers are HTTP statuses."""

    model: str = "m"
    models: str = "ok"  # ok, hang, html, empty, or a status
    health: str = "200"  # a status, hang, html
    completions: str = "ok"  # ok, hang, close, empty, or a status
    heartbeat: str = "still"  # still (but for answers), moving, probed, absent, hang
    answer: str = "The capital of France is Paris."
    chat_template: str = "yes"
    keys: list[str] = field(default_factory=list)
    # As a command only.
    delay: float = 0.0
    exit_status: int = -1
    exit_after: float = 0.0
    # engine: VLLM::EngineCore and below it VLLM::Worker, in other sessions. servers: and two API
    # servers, which leave it to the engine to stop.
    children: str = ""
    on_term: str = "exit"  # exit, ignore


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self, port: int, behaviour: Behaviour) -> None:
        super().__init__(("127.0.0.1", port), _Handler)
        self.behaviour = behaviour
        self.closing = threading.Event()
        self.completions = 0
        self.generated = 0.0
        # What the option `middleware` names, for the requests that generate.
        self.middleware: Any = None

    def handle_error(self, request: object, client_address: object) -> None:
        """Clients that leave are part of the game."""


class _Handler(BaseHTTPRequestHandler):
    server: _Server

    def log_message(self, format: str, *args: object) -> None:
        """Stay silent."""

    def do_GET(self) -> None:
        behaviour = self.server.behaviour
        if self.path in ("/health", "/v1/health"):
            self._play(behaviour.health, {"status": "ok"})
        elif self.path == "/v1/models" and self._authorised():
            self._play(behaviour.models, {"data": [{"id": behaviour.model}]})
        elif self.path == "/metrics":
            self._metrics(behaviour.heartbeat)
        else:
            self._reply(404, b"{}")

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        behaviour = self.server.behaviour
        if self.path == "/fake":
            for key, value in json.loads(body).items():
                setattr(behaviour, key, value)
            self._reply(200, b"{}")
            return
        if self._turned_away() or not self._authorised():
            return
        self.server.completions += 1
        if self.path == "/v1/chat/completions" and behaviour.chat_template == "no":
            self._reply(400, b'{"error": "no chat template"}')
            return
        choice = (
            {"message": {"content": behaviour.answer}}
            if "chat" in self.path
            else {"text": behaviour.answer}
        )
        self._play(behaviour.completions, {"choices": [choice], "usage": {"completion_tokens": 1}})

    def _turned_away(self) -> bool:
        sent: list[dict[str, Any]] = []

        async def send(message: dict[str, Any]) -> None:
            sent.append(message)

        async def app(scope: object, receive: object, send: object) -> None:
            pass

        if self.server.middleware is not None:
            headers = [(k.lower().encode(), v.encode()) for k, v in self.headers.items()]
            scope = {"method": "POST", "headers": headers}
            asyncio.run(self.server.middleware(app)(scope, None, send))
        if sent:
            self._reply(sent[0]["status"], sent[1]["body"])
        return bool(sent)

    def _authorised(self) -> bool:
        keys = self.server.behaviour.keys
        if keys and self.headers.get("Authorization") not in [f"Bearer {key}" for key in keys]:
            self._reply(401, b'{"error": "Unauthorized"}')
            return False
        return True

    def _play(self, mode: str, document: dict[str, object]) -> None:
        if mode == "hang":
            self.server.closing.wait(60)
        elif mode == "close":
            self.close_connection = True
        elif mode == "html":
            self._reply(200, b"<!doctype html>", "text/html; charset=utf-8")
        elif mode == "empty":
            self._reply(200, b"{}")
        elif mode in ("ok", "200"):
            self._reply(200, json.dumps(document).encode())
        else:
            self._reply(int(mode), b'{"error": "as told"}')

    def _metrics(self, mode: str) -> None:
        if mode == "hang":
            self.server.closing.wait(60)
            return
        if mode == "probed" and self.server.completions > self.server.generated:
            self.server.generated += 0.5  # a request is outstanding, and the engine works on it
        value = time.monotonic() if mode == "moving" else self.server.generated
        lines = [
            "# TYPE vllm:iteration_tokens_total histogram",
            'vllm:iteration_tokens_total_bucket{engine="0",le="1.0"} 3.0',
            f'vllm:iteration_tokens_total_count{{engine="0"}} {value}',
            'vllm:iteration_tokens_total_count{engine="1"} 0.0',
        ]
        text = "# nothing here\n" if mode == "absent" else "\n".join(lines) + "\n"
        self._reply(200, text.encode(), "text/plain")

    def _reply(self, status: int, body: bytes, kind: str = "application/json") -> None:
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


class FakeVllm:
    """The server inside a test."""

    def __init__(self, **behaviour: object) -> None:
        self._server = _Server(0, Behaviour())
        self.change(**behaviour)
        self.port = self._server.server_address[1]
        self.url = f"http://127.0.0.1:{self.port}"

    def change(self, **behaviour: object) -> None:
        """Change what the server does from now on."""
        for key, value in behaviour.items():
            setattr(self._server.behaviour, key, value)

    @property
    def completions(self) -> int:
        """How many generations were asked for."""
        return self._server.completions

    def __enter__(self) -> FakeVllm:
        threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True).start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._server.closing.set()
        self._server.shutdown()
        self._server.server_close()


def set_title(title: str) -> None:
    """Name this process as vLLM names its own."""
    ctypes.CDLL(None).prctl(PR_SET_NAME, title.encode(), 0, 0, 0)


def engine() -> None:
    """Play EngineCore: start a worker in another session, then sleep; a signal ends it."""
    set_title("VLLM::EngineCore")

    def on_term(number: int, frame: object) -> None:
        print(f"fake engine: signal {number}", flush=True)
        os._exit(0)

    signal.signal(signal.SIGTERM, on_term)
    subprocess.Popen([sys.executable, __file__, "worker"], start_new_session=True)
    time.sleep(300)


def read_config(path: Path) -> tuple[int, Behaviour]:
    """Read ``key: value`` lines."""
    values = dict(line.split(": ", 1) for line in path.read_text().splitlines() if line)
    behaviour = Behaviour(keys=json.loads(values.pop("api-key", "[]")))
    port = int(values.pop("port"))
    for key, value in values.items():
        setattr(behaviour, key, type(getattr(behaviour, key))(value))
    return port, behaviour


def serve(path: Path) -> int:
    """Play ``vllm serve``; return the exit status."""
    port, behaviour = read_config(path)
    terms: list[int] = []
    stopped = threading.Event()

    def on_term(number: int, frame: object) -> None:
        terms.append(number)
        print(f"fake vLLM: signal {number}, {len(terms)} so far", flush=True)
        if behaviour.on_term == "exit":
            stopped.set()

    signal.signal(signal.SIGTERM, on_term)
    print(f"fake vLLM: {len(behaviour.keys)} keys, MARK={os.environ.get('MARK')}", flush=True)
    if behaviour.children == "servers":
        for _number in range(2):
            subprocess.Popen([sys.executable, __file__, "server"], start_new_session=True)
    if behaviour.children:
        subprocess.Popen([sys.executable, __file__, "engine"], start_new_session=True)
    if behaviour.exit_status >= 0 and not behaviour.exit_after:
        return behaviour.exit_status
    time.sleep(behaviour.delay)
    server = _Server(port, behaviour)
    if "--middleware" in sys.argv:
        module, name = sys.argv[sys.argv.index("--middleware") + 1].rsplit(".", 1)
        server.middleware = getattr(importlib.import_module(module), name)
    threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
    end = time.monotonic() + (behaviour.exit_after or 3600)
    # In short steps: a signal that another thread receives does not wake a waiting main thread.
    while time.monotonic() < end and not stopped.wait(0.05):
        pass
    return max(0, behaviour.exit_status)


if __name__ == "__main__":
    with contextlib.suppress(KeyboardInterrupt):
        if sys.argv[1] == "engine":
            engine()
        elif sys.argv[1] == "worker":
            set_title("VLLM::Worker")
            time.sleep(300)
        elif sys.argv[1] == "server":
            set_title("VLLM::APIServer_0")
            # As uvicorn's event loop turns.
            for _ in range(3000):
                time.sleep(0.1)
        else:
            # An end without clean-up, as the real one often makes.
            os._exit(serve(Path(sys.argv[sys.argv.index("--config") + 1])))
