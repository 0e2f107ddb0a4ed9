"""A server that speaks as much of Chainlit as a probe hears, and can be told to misbehave."""

from __future__ import annotations

import json
import queue
import threading
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType


@dataclass
class Behaviour:
    """What the server does; texts that are numbers are HTTP statuses."""

    health: str = "ok"  # ok, html, a status
    socket: str = "ok"  # ok, html, a status
    turn: str = "ok"  # ok, error, silent, refuse, ping


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self, behaviour: Behaviour) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.behaviour = behaviour
        self.packets: queue.Queue[str] = queue.Queue()
        self.received: list[str] = []
        self.cookies: set[str] = set()

    def handle_error(self, request: object, client_address: object) -> None:
        """Clients that leave are part of the game."""


class _Handler(BaseHTTPRequestHandler):
    server: _Server

    def log_message(self, format: str, *args: object) -> None:
        """Stay silent."""

    def do_GET(self) -> None:
        behaviour = self.server.behaviour
        if self.path.startswith("/ws/"):
            self.server.cookies.add(self.headers.get("Cookie", ""))
        if self.path == "/health":
            self._play(behaviour.health, '{"status": "ok"}')
        elif not self.path.startswith("/ws/socket.io/?EIO=4&transport=polling"):
            self._play("html", "")
        elif "sid=" not in self.path:
            self._play(behaviour.socket, '0{"sid":"s","pingInterval":25000}')
        else:
            try:
                self._play("ok", self.server.packets.get(timeout=10))
            except queue.Empty:
                self._play("400", "")

    def do_POST(self) -> None:
        packet = self.rfile.read(int(self.headers["Content-Length"])).decode()
        self.server.received.append(packet)
        self._play("ok", "OK")
        turn = self.server.behaviour.turn
        put = self.server.packets.put
        if packet.startswith("40"):
            put('44{"message":"authentication failed"}' if turn == "refuse" else '40{"sid":"x"}')
        elif "connection_successful" in packet:
            # As the real one: an end without a start, then the welcome of the chat's start.
            put('42["task_end",{}]\x1e42["clear_ask",{}]\x1e42["task_start",{}]')
        elif "client_message" in packet:
            if turn == "ping":
                put("2")
            elif turn != "silent":
                self._answer(turn == "error")
        elif packet == "3":
            self._answer(failed=False)

    def _answer(self, failed: bool) -> None:
        step = {"id": "a", "type": "assistant_message", "isError": failed, "output": "The cap"}
        run = {"id": "r", "type": "run", "output": "Lyon"}
        begun = [["task_start", {}], ["new_message", run], ["task_start", {}]]  # twice, ends once
        first = [["task_end", {}], *begun, ["stream_start", step]]
        then = [["stream_token", {"id": "a", "token": "ital is Paris"}], ["task_end", {}]]
        for events in (first, then):
            self.server.packets.put("\x1e".join("42" + json.dumps(event) for event in events))

    def _play(self, mode: str, text: str) -> None:
        status, kind = (200, "application/json") if mode in ("ok", "html") else (int(mode), "a/b")
        if mode == "html":
            text, kind = "<!doctype html>", "text/html"
        body = text.encode()
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


class FakeChainlit:
    """The server inside a test."""

    def __init__(self, **behaviour: str) -> None:
        self._server = _Server(Behaviour(**behaviour))
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"
        self.received = self._server.received
        self.cookies = self._server.cookies

    def __enter__(self) -> FakeChainlit:
        threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True).start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._server.shutdown()
        self._server.server_close()
