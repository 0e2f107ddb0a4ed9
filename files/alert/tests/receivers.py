"""The services that alerts go to, played on this machine, each as its maker documents it.

A test starts them, asks what came, and may have them fail for a while:

    with Receivers(certificate, key, dingtalk_secret="…", port=443, address="10.89.87.1") as them:
        them.fail("dingtalk", Failure.REFUSE, times=2)
        …
        assert [got.title for got in them.got("dingtalk")] == ["…"]
        assert them.wrong == []

DingTalk, WeCom, Feishu and Slack are told apart by the name that was asked for; every other name
is the `webhook`. All answer on one port by TLS, and mail comes by SMTP on another.
"""

from __future__ import annotations

import asyncio
import base64
import email
import email.policy
import hashlib
import hmac
import json
import socket
import ssl
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import Enum
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import TracebackType
from typing import Any, cast
from urllib.parse import parse_qs, urlsplit

from aiosmtpd.controller import Controller
from aiosmtpd.smtp import SMTP, Envelope, Session

NAMES = {
    "oapi.dingtalk.com": "dingtalk",
    "qyapi.weixin.qq.com": "wecombot",
    "open.feishu.cn": "feishu",
    "hooks.slack.com": "slack",
}
SERVICES = (*NAMES.values(), "webhook", "mail")
WECOM_MAX_BYTES = 2048
# How far DingTalk lets a sender's clock be off.
DINGTALK_TOLERANCE_SECONDS = 3600
# Longer than any sender waits.
HANG_SECONDS = 60


class Failure(Enum):
    """How a service does not take a message."""

    # DingTalk, WeCom, Feishu: status 200 with a code that says no. Mail: 451. Others: as ERROR.
    REFUSE = "refuse"
    ERROR = "error"  # status 500
    HANG = "hang"  # no answer


@dataclass(frozen=True)
class Got:
    """One message that a service took."""

    service: str
    at: float
    # Where the service has a title of its own; else it is the first line of the text.
    title: str
    text: str


class Wrong(Exception):
    """A request that the real service would refuse; the text says why."""

    def __init__(self, code: int, text: str) -> None:
        super().__init__(text)
        self.code, self.text = code, text


class Receivers:
    """All services. Ports of 0 are chosen; `port` and `smtp_port` tell which, once started."""

    def __init__(
        self,
        certificate: Path,
        key: Path,
        dingtalk_secret: str = "",
        address: str = "127.0.0.1",
        port: int = 0,
        smtp_port: int = 0,
    ) -> None:
        """`certificate` must be for all NAMES and for the webhook's own name."""
        self.dingtalk_secret = dingtalk_secret
        # What a real service would have refused, by service: "dingtalk: sign not match".
        self.wrong: list[str] = []
        # What robots refuse to carry, as one of DingTalk does without its keyword; mail: to whom.
        self.forbidden: set[str] = set()
        # Every request, also those that failed: service and time.
        self.attempts: list[tuple[str, float]] = []
        self._got: list[Got] = []
        self._failures: dict[str, deque[Failure]] = {name: deque() for name in SERVICES}
        self._lock = threading.Lock()
        self._ended = threading.Event()
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate, key)
        self._http = _Server((address, port), self)
        self._http.socket = context.wrap_socket(
            self._http.socket, server_side=True, do_handshake_on_connect=False
        )
        self._mail = Controller(
            _Mail(self),
            hostname=address,
            port=smtp_port or _free_port(address),
            tls_context=context,
        )

    def __enter__(self) -> Receivers:
        """Start."""
        threading.Thread(target=self._http.serve_forever, daemon=True).start()
        self._mail.start()
        return self

    def __exit__(
        self,
        _kind: type[BaseException] | None,
        _error: BaseException | None,
        _trace: TracebackType | None,
    ) -> None:
        """Stop; what hangs is let go."""
        self._ended.set()
        self._http.shutdown()
        self._http.server_close()
        self._mail.stop()

    @property
    def port(self) -> int:
        """Port of all services but mail."""
        return int(self._http.server_address[1])

    @property
    def smtp_port(self) -> int:
        """Port of mail."""
        return int(self._mail.port)

    def got(self, service: str) -> list[Got]:
        """What a service took, oldest first."""
        with self._lock:
            return [got for got in self._got if got.service == service]

    def wait_for(self, service: str, count: int, seconds: float) -> list[Got]:
        """Wait until a service has taken `count` messages; return what it took by then."""
        deadline = time.monotonic() + seconds
        while len(self.got(service)) < count and time.monotonic() < deadline:
            time.sleep(0.05)
        return self.got(service)

    def clear(self) -> None:
        """Forget what came, and all failures that were asked for."""
        with self._lock:
            self._got.clear()
            self.attempts.clear()
            self.wrong.clear()
            for failures in self._failures.values():
                failures.clear()

    def fail(self, service: str, failure: Failure, times: int = 1) -> None:
        """Have the next `times` requests to a service fail."""
        self._failures[service].extend([failure] * times)

    def attempt(self, service: str) -> Failure | None:
        """Count a request, and return how it is to fail."""
        with self._lock:
            self.attempts.append((service, time.time()))
            failures = self._failures[service]
            return failures.popleft() if failures else None

    def hang(self) -> None:
        """Wait, longer than any sender does."""
        self._ended.wait(HANG_SECONDS)

    def take(self, service: str, title: str, text: str) -> None:
        """Note a message that was taken."""
        with self._lock:
            self._got.append(Got(service, time.time(), title, text))

    def refuse(self, service: str, why: str) -> None:
        """Note a message that a real service would have refused."""
        with self._lock:
            self.wrong.append(f"{service}: {why}")


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self, address: tuple[str, int], receivers: Receivers) -> None:
        super().__init__(address, _Handler)
        self.receivers = receivers

    def handle_error(self, request: object, client_address: object) -> None:
        """Say nothing: senders that do not trust the certificate, or give up, are part of tests."""


class _Handler(BaseHTTPRequestHandler):
    timeout = HANG_SECONDS

    def do_POST(self) -> None:
        """Answer as the service whose name was asked for."""
        receivers = cast(_Server, self.server).receivers
        service = NAMES.get(self.headers.get("Host", "").partition(":")[0], "webhook")
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        failure = receivers.attempt(service)
        if failure is Failure.HANG:
            receivers.hang()
            return
        if failure is Failure.ERROR or (failure and service not in _REFUSALS):
            self._answer(500, {"error": "asked for by the test"})
            return
        if failure is Failure.REFUSE:
            self._answer(200, _REFUSALS[service](310000, "asked for by the test"))
            return
        url = urlsplit(self.path)
        query = {name: values[0] for name, values in parse_qs(url.query).items()}
        try:
            if (
                "application/json" not in self.headers.get("Content-Type", "")
                and service != "slack"
            ):
                raise Wrong(43004, "the content is no JSON by its header")
            payload = json.loads(body)
            title, text = _READERS[service](receivers, url.path, query, payload)
            if any(word in title + text for word in receivers.forbidden):
                raise Wrong(310000, "keywords not in content")
        except Wrong as wrong:
            receivers.refuse(service, wrong.text)
            if service in _REFUSALS:
                self._answer(200, _REFUSALS[service](wrong.code, wrong.text))
            else:
                self._answer(400, {"error": wrong.text})
            return
        except (ValueError, KeyError, TypeError) as error:
            receivers.refuse(service, f"not in the documented form: {error!r}")
            self._answer(400, {"error": "form"})
            return
        receivers.take(service, title, text)
        self._answer(200, _CONSENT[service])

    def _answer(self, status: int, content: Mapping[str, object]) -> None:
        # Slack says "ok" and no JSON.
        slack = content == _CONSENT["slack"]
        text = b"ok" if slack else json.dumps(content).encode()
        self.send_response(status)
        self.send_header("Content-Type", "text/html" if slack else "application/json")
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text)

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing."""


_CONSENT: dict[str, dict[str, object]] = {
    "dingtalk": {"errcode": 0, "errmsg": "ok"},
    "wecombot": {"errcode": 0, "errmsg": "ok"},
    "feishu": {
        "StatusCode": 0,
        "StatusMessage": "success",
        "code": 0,
        "data": {},
        "msg": "success",
    },
    "slack": {"slack": "ok"},
    # Whoever wrote it has codes of their own.
    "webhook": {"code": 200, "errcode": 1},
}


def _errcode(code: int, text: str) -> dict[str, object]:
    return {"errcode": code, "errmsg": text}


def _code(code: int, text: str) -> dict[str, object]:
    return {"code": code, "msg": text, "data": {}}


_REFUSALS: dict[str, Callable[[int, str], dict[str, object]]] = {
    "dingtalk": _errcode,
    "wecombot": _errcode,
    "feishu": _code,
}


def _dingtalk(
    receivers: Receivers, path: str, query: Mapping[str, str], payload: dict[str, Any]
) -> tuple[str, str]:
    """open.dingtalk.com: custom robots, with a signature."""
    if path != "/robot/send" or not query.get("access_token"):
        raise Wrong(300001, "token is not exist")
    if receivers.dingtalk_secret:
        timestamp = query.get("timestamp", "")
        signed = f"{timestamp}\n{receivers.dingtalk_secret}".encode()
        digest = hmac.new(receivers.dingtalk_secret.encode(), signed, hashlib.sha256).digest()
        if not hmac.compare_digest(base64.b64encode(digest).decode(), query.get("sign", "")):
            raise Wrong(310000, "sign not match")
        # In milliseconds.
        if abs(time.time() - int(timestamp) / 1000) > DINGTALK_TOLERANCE_SECONDS:
            raise Wrong(310000, "invalid timestamp")
    if payload["msgtype"] == "markdown":
        return str(payload["markdown"]["title"]), str(payload["markdown"]["text"])
    if payload["msgtype"] != "text":
        raise Wrong(400105, "msgtype is not known")
    return _split(payload["text"]["content"])


def _wecombot(
    _receivers: Receivers, path: str, query: Mapping[str, str], payload: dict[str, Any]
) -> tuple[str, str]:
    """developer.work.weixin.qq.com: group robots."""
    if path != "/cgi-bin/webhook/send" or not query.get("key"):
        raise Wrong(93000, "invalid webhook url")
    if payload["msgtype"] != "text":
        raise Wrong(40008, "invalid message type")
    content = str(payload["text"]["content"])
    if len(content.encode()) > WECOM_MAX_BYTES:
        raise Wrong(45002, "content size out of limit")
    return _split(content)


def _feishu(
    _receivers: Receivers, path: str, _query: Mapping[str, str], payload: dict[str, Any]
) -> tuple[str, str]:
    """open.feishu.cn: custom bots, without a signature."""
    if not path.startswith("/open-apis/bot/v2/hook/"):
        raise Wrong(19001, "param invalid: incoming webhook access token invalid")
    if payload["msg_type"] != "text":
        raise Wrong(19002, "params error, msg_type need")
    return _split(payload["content"]["text"])


def _slack(
    _receivers: Receivers, path: str, _query: Mapping[str, str], payload: dict[str, Any]
) -> tuple[str, str]:
    """api.slack.com: incoming webhooks."""
    if not path.startswith("/services/") or path.count("/") != 4:
        raise Wrong(404, "no_service")
    attachments = payload.get("attachments", [])
    text = "\n".join([str(payload.get("text", "")), *(str(part["text"]) for part in attachments)])
    if not text.strip():
        raise Wrong(400, "no_text")
    title = next((str(part["title"]) for part in attachments if part.get("title")), "")
    return title, text.strip()


def _webhook(
    _receivers: Receivers, _path: str, _query: Mapping[str, str], payload: dict[str, Any]
) -> tuple[str, str]:
    return str(payload["title"]), str(payload["message"])


_READERS: dict[
    str, Callable[[Receivers, str, Mapping[str, str], dict[str, Any]], tuple[str, str]]
] = {
    "dingtalk": _dingtalk,
    "wecombot": _wecombot,
    "feishu": _feishu,
    "slack": _slack,
    "webhook": _webhook,
}


def _split(content: str) -> tuple[str, str]:
    title, _, text = content.partition("\n")
    return title.strip(), text


def _free_port(address: str) -> int:
    with socket.create_server((address, 0)) as server:
        return int(server.getsockname()[1])


class _Mail:
    """What aiosmtpd calls."""

    def __init__(self, receivers: Receivers) -> None:
        self._receivers = receivers

    async def handle_RCPT(
        self, _server: SMTP, _session: Session, envelope: Envelope, address: str, _options: object
    ) -> str:
        """Know every recipient but those that are forbidden."""
        if address in self._receivers.forbidden:
            return "550 5.1.1 asked for by the test"
        envelope.rcpt_tos.append(address)
        return "250 OK"

    async def handle_DATA(self, _server: SMTP, _session: Session, envelope: Envelope) -> str:
        """Take a message, or fail as was asked for."""
        failure = self._receivers.attempt("mail")
        if failure is Failure.HANG:
            await asyncio.sleep(HANG_SECONDS)
        if failure:
            return "451 4.3.0 asked for by the test"
        content = envelope.content
        raw = content if isinstance(content, bytes) else (content or "").encode()
        message = email.message_from_bytes(raw, policy=email.policy.default)
        body = message.get_body(("plain", "html"))
        text = body.get_content() if body else ""
        self._receivers.take("mail", str(message["Subject"]), text)
        return "250 OK"
