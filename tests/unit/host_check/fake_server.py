"""A web server whose answers a test sets, by path; it also is a proxy that refuses or forwards."""

from __future__ import annotations

import socket
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

# Status, headers and body.
Reply = tuple[int, dict[str, str], str]


class FakeServer(ThreadingHTTPServer):
    """Answers with `replies` by path, 404 for others, and keeps what it was asked."""

    daemon_threads = True

    def __init__(self, pair: tuple[Path, Path] | None) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.scheme = "http"
        if pair:
            tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            tls.load_cert_chain(*pair)
            self.socket = tls.wrap_socket(self.socket, server_side=True)
            self.scheme = "https"
        self.replies: dict[str, Reply] = {}
        self.asked: list[tuple[str, dict[str, str]]] = []  # path and headers of each request
        self.tunnel: Reply | None = None  # answer to CONNECT; without one the way is opened

    @property
    def url(self) -> str:
        """Return the address."""
        return f"{self.scheme}://127.0.0.1:{self.server_port}"

    def reply(self, path: str, body: str = "", status: int = 200, **headers: str) -> None:
        """Set the answer for a path; underscores in names of headers become dashes."""
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        self.replies[path] = (status, named, body)

    def handle_error(self, request: object, client_address: object) -> None:
        """Say nothing about clients that go away."""


class _Handler(BaseHTTPRequestHandler):
    server: FakeServer

    def do_GET(self) -> None:
        self.server.asked.append((self.path, dict(self.headers)))
        self._answer(*self.server.replies.get(self.path, (404, {}, "")))

    def do_CONNECT(self) -> None:
        self.server.asked.append((self.path, dict(self.headers)))
        if self.server.tunnel:
            self._answer(*self.server.tunnel)
            return
        host, _colon, port = self.path.rpartition(":")
        with socket.create_connection((host, int(port))) as far:
            self._answer(200, {}, "")
            back = threading.Thread(target=_copy, args=(far, self.connection), daemon=True)
            back.start()
            _copy(self.connection, far)

    def _answer(self, status: int, headers: dict[str, str], body: str) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        if self.command != "CONNECT" and "Content-Length" not in headers:
            self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body.encode())

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing."""


def _copy(source: socket.socket, target: socket.socket) -> None:
    try:
        while data := source.recv(65536):
            target.sendall(data)
    except OSError:
        return


@contextmanager
def serving(pair: tuple[Path, Path] | None = None) -> Iterator[FakeServer]:
    """Yield a running server, with TLS when there is a certificate and its key for it."""
    with FakeServer(pair) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
        thread.start()
        try:
            yield server
        finally:
            server.shutdown()
            thread.join()
