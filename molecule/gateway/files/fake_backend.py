"""Backends that fail on demand, for the tests of the gateway.

`fake_backend.py` plays two vLLM instances (9001, 9002), their guards (9101, 9102) and two chats
(9201, 9202). Each behaves as its mode says; the control port 9000 sets it and tells what arrived:

    PUT /PORT/MODE            one of the modes below
    GET /PORT                 JSON list of the requests since the last PUT: method, path, headers

Modes: `ok`, `busy` (503 in JSON), `full` (503 beyond `PLACES` requests at once), `bad_gateway`
(502), `drop` (reads the request, closes), `silent` (reads the request, never answers), `closed`
(refuses connections).
"""

from __future__ import annotations

import base64
import hashlib
import json
import struct
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

EVENTS = 8
EVENT_PAUSE = 0.3  # seconds
PLACES = 4
PLACE_SECONDS = 0.4  # that a request has its place
MODES = ("ok", "busy", "full", "bad_gateway", "drop", "silent", "closed")
WEBSOCKET_GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"


class Handler(BaseHTTPRequestHandler):
    """Answers of one backend; `kind` is vllm, guard or chat."""

    protocol_version = "HTTP/1.1"
    backend: Backend

    def handle_request(self) -> None:
        """Read the request whole, note it, answer as the mode says."""
        self.rfile.read(int(self.headers.get("Content-Length") or 0))
        backend = self.backend
        backend.requests.append(
            {"method": self.command, "path": self.path, "headers": dict(self.headers)}
        )
        if backend.mode == "busy":
            self.answer(503, {"error": {"message": "busy", "code": 503}})
        elif backend.mode == "full":
            self.answer_in_a_place()
        elif backend.mode == "bad_gateway":
            self.answer(502, {"error": "bad gateway"})
        elif backend.mode in ("drop", "closed"):  # a closed port leaves old connections
            self.close_connection = True
        elif backend.mode == "silent":
            time.sleep(30)
            self.close_connection = True
        elif self.headers.get("Upgrade", "").lower() == "websocket":
            self.echo()
        elif backend.kind == "vllm" and self.command == "POST":
            self.stream()
        else:
            self.answer(200, {"backend": backend.port, "path": self.path})

    do_GET = do_POST = do_PUT = do_DELETE = do_HEAD = handle_request

    def answer(self, status: int, body: object) -> None:
        """One JSON answer, with a cookie without `Secure` as Chainlit sets it."""
        content = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(content)))
        if self.backend.kind == "chat":
            self.send_header("Set-Cookie", "X-Chainlit-Session-id=new; Path=/; HttpOnly")
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)

    def answer_in_a_place(self) -> None:
        """Answer after a while, or at once with 503 where no place is free."""
        if not self.backend.places.acquire(blocking=False):
            self.answer(503, {"error": {"message": "busy", "code": 503}})
            return
        time.sleep(PLACE_SECONDS)
        self.backend.places.release()
        self.answer(200, {"backend": self.backend.port})

    def stream(self) -> None:
        """`EVENTS` server-sent events in chunks, `EVENT_PAUSE` apart."""
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        for number in range(EVENTS):
            event = f"data: {json.dumps({'backend': self.backend.port, 'event': number})}\n\n"
            self.chunk(event.encode())
            time.sleep(EVENT_PAUSE)
        self.chunk(b"data: [DONE]\n\n")
        self.chunk(b"")

    def chunk(self, content: bytes) -> None:
        """One chunk of a chunked body; an empty one ends it."""
        self.wfile.write(f"{len(content):x}\r\n".encode() + content + b"\r\n")

    def echo(self) -> None:
        """Accept a websocket and return its first frame, which must be short and masked."""
        key = self.headers["Sec-WebSocket-Key"].encode()
        accept = base64.b64encode(
            hashlib.sha1(key + WEBSOCKET_GUID, usedforsecurity=False).digest()
        )
        self.send_response(101)
        self.send_header("Upgrade", "websocket")
        self.send_header("Connection", "Upgrade")
        self.send_header("Sec-WebSocket-Accept", accept.decode())
        self.end_headers()
        first, length = self.rfile.read(2)
        mask = self.rfile.read(4)
        text = bytes(b ^ mask[i % 4] for i, b in enumerate(self.rfile.read(length & 0x7F)))
        reply = text + f" from {self.backend.port}".encode()
        self.wfile.write(struct.pack("!BB", first, len(reply)) + reply)
        self.close_connection = True

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing: the tests read the requests at the control port."""


class Backend:
    """One listening port with its mode and the requests it got."""

    def __init__(self, port: int, kind: str) -> None:
        self.port = port
        self.kind = kind
        self.mode = "closed"
        self.places = threading.Semaphore(PLACES)
        self.requests: list[dict[str, Any]] = []
        self.server: ThreadingHTTPServer | None = None
        self.set_mode("ok")

    def set_mode(self, mode: str) -> None:
        """Change the behaviour, forget the requests so far; open or close the port where needed."""
        self.requests.clear()
        self.mode = mode
        if mode == "closed" and self.server is not None:
            self.server.shutdown()
            self.server.server_close()
            self.server = None
        elif mode != "closed" and self.server is None:
            handler = type("BoundHandler", (Handler,), {"backend": self})
            self.server = ThreadingHTTPServer(("127.0.0.1", self.port), handler)
            threading.Thread(target=self.server.serve_forever, args=(0.05,), daemon=True).start()


class Control(BaseHTTPRequestHandler):
    """The control port: `backends` by their port."""

    backends: dict[int, Backend]

    def do_PUT(self) -> None:
        """Set a mode."""
        _, port, mode = self.path.split("/")
        if mode not in MODES:
            self.send_error(400, f"mode must be one of {', '.join(MODES)}")
            return
        self.backends[int(port)].set_mode(mode)
        self.answer([])

    def do_GET(self) -> None:
        """Tell what arrived."""
        self.answer(self.backends[int(self.path[1:])].requests)

    def answer(self, body: object) -> None:
        """200 with JSON."""
        content = json.dumps(body).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)


def main() -> None:
    """Open all ports and serve until killed."""
    kinds = {9000: "vllm", 9100: "guard", 9200: "chat"}
    Control.backends = {
        base + number: Backend(base + number, kind)
        for base, kind in kinds.items()
        for number in (1, 2)
    }
    ThreadingHTTPServer(("", 9000), Control).serve_forever()


if __name__ == "__main__":
    main()
