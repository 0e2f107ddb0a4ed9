"""A hub with one repository: as much of Hugging Face and ModelScope as their own tools ask for.

It also answers as a proxy: the address's host is not looked at.
"""

from __future__ import annotations

import hashlib
import json
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import parse_qs, unquote, urlsplit

NAME = "example/tiny"
COMMIT = "0123456789abcdef0123456789abcdef01234567"
LARGE = (".safetensors",)  # kept in LFS, hence listed with a SHA-256


class FakeHub(ThreadingHTTPServer):
    """Serves the files below a folder as NAME at COMMIT; the attributes say how it misbehaves."""

    daemon_threads = True

    def __init__(self, folder: Path, certificate: Path | None = None) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.scheme = "http"
        if certificate:
            tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            tls.load_cert_chain(certificate)
            self.socket = tls.wrap_socket(self.socket, server_side=True)
            self.scheme = "https"
        self.files = {
            path.relative_to(folder).as_posix(): path.read_bytes()
            for path in sorted(folder.rglob("*"))
            if path.is_file()
        }
        self.token: str | None = None  # wanted from every client
        self.tampered: set[str] = set()  # served with a flipped last byte
        self.refused: set[str] = set()  # answered with 403
        self.cuts: dict[str, list[int]] = {}  # next answers for a file end after so many bytes
        self.stalled = ""  # this file's download waits, once reached, until resume is set
        self.reached = threading.Event()
        self.resume = threading.Event()
        self.down = False  # every request is answered with 403
        self.pad = 0  # bytes added to every listed size
        self.fetched: list[tuple[str, str | None]] = []  # file and Range header of each download

    @property
    def url(self) -> str:
        """Return the endpoint."""
        return f"{self.scheme}://127.0.0.1:{self.server_port}"


def git_sha1(content: bytes) -> str:
    """Return the name that git gives to a file's content."""
    return hashlib.sha1(b"blob %d\0" % len(content) + content, usedforsecurity=False).hexdigest()


class _Handler(BaseHTTPRequestHandler):
    server: FakeHub
    protocol_version = "HTTP/1.1"

    def do_HEAD(self) -> None:
        self.do_GET()

    def do_GET(self) -> None:
        parts = urlsplit(self.path)
        path, query = unquote(parts.path), parse_qs(parts.query)
        revision = query.get("Revision", [COMMIT])[0]
        if self.server.down:
            self._refuse(403, "")
        elif self.server.token and not self._token_is_right():
            # Some servers repeat what they were sent.
            self._refuse(401, "GatedRepo", str(self.headers.get("Authorization")))
        elif path.startswith(f"/api/models/{NAME}/tree/"):
            if path.split("/")[-1] != COMMIT:
                self._refuse(404, "RevisionNotFound")
            else:
                self._json([self._huggingface_record(name) for name in self.server.files])
        elif path.startswith(f"/api/models/{NAME}/revision/"):
            if path.split("/")[-1] != COMMIT:
                self._refuse(404, "RevisionNotFound")
            else:
                siblings = [self._huggingface_sibling(name, query) for name in self.server.files]
                self._json({"id": NAME, "sha": COMMIT, "siblings": siblings})
        elif path.startswith(f"/{NAME}/resolve/{COMMIT}/"):
            self._file(path.split(f"/resolve/{COMMIT}/")[1])
        elif path == f"/api/v1/models/{NAME}/repo/files" and revision == COMMIT:
            files = [self._modelscope_record(name) for name in self.server.files]
            self._json({"Code": 200, "Data": {"Files": files}})
        elif path == f"/api/v1/models/{NAME}/repo" and revision == COMMIT:
            self._file(query["FilePath"][0])
        else:
            self._refuse(404, "RepoNotFound")

    def _token_is_right(self) -> bool:
        return self.headers.get("Authorization") == f"Bearer {self.server.token}" or (
            f"m_session_id={self.server.token}" in self.headers.get("Cookie", "")
        )

    def _huggingface_record(self, name: str) -> dict[str, object]:
        content = self.server.files[name]
        size = len(content) + self.server.pad
        record: dict[str, object] = {"type": "file", "path": name, "size": size}
        record["oid"] = git_sha1(content)
        if name.endswith(LARGE):
            sha256 = hashlib.sha256(content).hexdigest()
            record["lfs"] = {"oid": sha256, "size": size, "pointerSize": 130}
        return record

    def _huggingface_sibling(self, name: str, query: dict[str, list[str]]) -> dict[str, object]:
        record: dict[str, object] = {"rfilename": name}
        if query.get("blobs"):
            record["size"] = len(self.server.files[name]) + self.server.pad
        return record

    def _modelscope_record(self, name: str) -> dict[str, object]:
        content = self.server.files[name]
        return {
            "Path": name,
            "Name": name.split("/")[-1],
            "Type": "blob",
            "Size": len(content) + self.server.pad,
            "Sha256": hashlib.sha256(content).hexdigest(),
        }

    def _file(self, name: str) -> None:
        content = self.server.files.get(name)
        if content is None:
            self._refuse(404, "EntryNotFound")
            return
        if name in self.server.refused:
            self._refuse(403, "")
            return
        wanted = self.headers.get("Range")
        if self.command == "GET":
            self.server.fetched.append((name, wanted))
            if name == self.server.stalled:
                self.server.reached.set()
                self.server.resume.wait(60)
        sha256 = hashlib.sha256(content).hexdigest()
        etag = sha256 if name.endswith(LARGE) else git_sha1(content)
        if name in self.server.tampered:
            content = content[:-1] + bytes([content[-1] ^ 1])
        first, last = 0, len(content) - 1
        if wanted:
            begin, end = wanted.removeprefix("bytes=").split("-")
            first, last = int(begin), int(end or last)
        body = content[first : last + 1]
        self.send_response(206 if wanted else 200)
        if wanted:
            self.send_header("Content-Range", f"bytes {first}-{last}/{len(content)}")
        self.send_header("ETag", f'"{etag}"')
        self.send_header("X-Repo-Commit", COMMIT)
        self.send_header("Content-Length", str(len(body)))
        self.send_header("Content-Type", "application/octet-stream")
        self.end_headers()
        if self.command == "GET":
            cuts = self.server.cuts.get(name)
            if cuts:
                body = body[: cuts.pop(0)]
                self.close_connection = True
            self.wfile.write(body)

    def _json(self, document: object) -> None:
        body = json.dumps(document).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def _refuse(self, status: int, code: str, message: str = "") -> None:
        text = message or code
        body = json.dumps({"error": text, "Code": status, "Message": text}).encode()
        self.send_response(status)
        if code:
            self.send_header("X-Error-Code", code)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing."""


@contextmanager
def serving(folder: Path, certificate: Path | None = None) -> Iterator[FakeHub]:
    """Yield a running hub, with TLS when there is a certificate (with its key) for it."""
    with FakeHub(folder, certificate) as hub:
        thread = threading.Thread(target=hub.serve_forever, args=(0.02,), daemon=True)
        thread.start()
        try:
            yield hub
        finally:
            hub.shutdown()
            thread.join()
