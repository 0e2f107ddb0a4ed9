"""A web server with one file, which can break in every way a download meets."""

from __future__ import annotations

import re
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path


class FakeArchiveServer(ThreadingHTTPServer):
    """Serves `body` at any path; the attributes say how it misbehaves."""

    daemon_threads = True

    def __init__(self, body: bytes, certificate: Path | None = None) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.scheme = "http"
        if certificate:
            tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            tls.load_cert_chain(certificate)
            self.socket = tls.wrap_socket(self.socket, server_side=True)
            self.scheme = "https"
        self.body = body
        self.ranges = True  # answer Range requests with 206
        self.cuts: list[int] = []  # next answers end after so many bytes
        self.status: list[int] = []  # next answers have this status and no body
        self.announce: int | None = None  # Content-Length told instead of the true one
        self.seen: list[str | None] = []  # Range header of each request

    @property
    def url(self) -> str:
        """Return the address of the file."""
        return f"{self.scheme}://127.0.0.1:{self.server_port}/files/tiny.tar.gz"


class _Handler(BaseHTTPRequestHandler):
    server: FakeArchiveServer

    def do_GET(self) -> None:
        wanted = self.headers.get("Range")
        self.server.seen.append(wanted)
        if self.server.status:
            self.send_response(self.server.status.pop(0))
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        body = self.server.body
        start = int(re.sub(r"\D", "", wanted)) if wanted and self.server.ranges else 0
        if start and start >= len(body):
            self.send_response(416)
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        self.send_response(206 if start else 200)
        if start:
            self.send_header("Content-Range", f"bytes {start}-{len(body) - 1}/{len(body)}")
        body = body[start:]
        self.send_header("Content-Length", str(self.server.announce or len(body)))
        self.end_headers()
        if self.server.cuts:
            body = body[: self.server.cuts.pop(0)]
            self.close_connection = True
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing."""


@contextmanager
def serving(body: bytes, certificate: Path | None = None) -> Iterator[FakeArchiveServer]:
    """Yield a running server, with TLS when there is a certificate (with its key) for it."""
    with FakeArchiveServer(body, certificate) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
        thread.start()
        try:
            yield server
        finally:
            server.shutdown()
            thread.join()
