# Copyright: (c) The gpufleet maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What "healthy" means for a vLLM instance and for the gateway before it.

The single source of that knowledge: the guard on each host and the module ``llm_health``
both ask here. Standard library only; Python 3.9 or newer.

A check climbs *levels* and stops at the first that fails::

    port -> http -> model -> token -> canary

and ends in one *state*:

============ ==================================================================
ready        every level asked for has passed
starting     the port refuses, but the process is alive
busy         503 or 429, or no token in time while the heartbeat moves
hung         connected, no answer in time, and the heartbeat stands still
dead         nothing answers, or the server says that its engine is gone
wrong_model  something answers that does not serve this model
wrong_answer it answers, but refuses the request or gives a wrong answer
============ ==================================================================

The *heartbeat* is ``vllm:iteration_tokens_total_count`` in ``/metrics``, summed over engines:
it grows with every engine step, so it tells load from a hang. ``/health`` cannot: it says 200
while the engine is stopped.
"""

from __future__ import annotations

import http.client
import json
import re
import socket
import ssl
import threading
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any, Literal
from urllib.parse import urlsplit

Level = Literal["port", "http", "model", "token", "canary"]
State = Literal["ready", "starting", "busy", "hung", "dead", "wrong_model", "wrong_answer"]
Kind = Literal["vllm", "gateway"]

LEVELS: tuple[Level, ...] = ("port", "http", "model", "token", "canary")
HEARTBEAT = "vllm:iteration_tokens_total_count"
HEALTH_PATHS: dict[Kind, str] = {"vllm": "/health", "gateway": "/v1/health"}

_MAX_BODY = 16 * 1024 * 1024
_METRICS_TIMEOUT = 5.0
# Healthy probes end well before this, so they cost no /metrics read.
_QUIET_SECONDS = 2.0
_BEAT_INTERVAL = 1.0


class Unreachable(Exception):
    """No HTTP answer. ``reason`` is ``refused``, ``timeout`` or ``broken``."""

    def __init__(self, reason: Literal["refused", "timeout", "broken"], detail: str) -> None:
        super().__init__(detail)
        self.reason = reason


@dataclass(frozen=True)
class Reply:
    """One HTTP answer, whatever its status."""

    status: int
    content_type: str
    body: bytes

    def json(self) -> object:
        """Return the decoded body, or None when it is not JSON."""
        try:
            return json.loads(self.body)
        except ValueError:
            return None

    def excerpt(self) -> str:
        """Return the start of the body on one line, for messages."""
        return " ".join(self.body[:600].decode("utf-8", "replace").split())[:160]


class Client:
    """HTTP requests to one base URL, each under a deadline in seconds; proxies are not used."""

    def __init__(
        self,
        url: str,
        *,
        api_key: str | None = None,
        ca_path: str | None = None,
        validate_certs: bool = True,
        headers: dict[str, str] | None = None,
    ) -> None:
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise ValueError(f"url {url!r} is not a URL: write http://HOST:PORT or https://HOST")
        # http.client refuses such a header too, and repeats it.
        if api_key and not (api_key.isascii() and api_key.isprintable()):
            raise ValueError(
                "api_key must be of printable ASCII characters: look for a line's end at its end"
            )
        self.url = url.rstrip("/")
        self.host = parts.hostname
        self.port = parts.port or (443 if parts.scheme == "https" else 80)
        # As a browser writes it: without the scheme's own port.
        usual = {"http": ":80", "https": ":443"}[parts.scheme]
        self.origin = f"{parts.scheme}://{parts.netloc.removesuffix(usual)}"
        self._prefix = parts.path.rstrip("/")
        self._api_key = api_key
        self._headers = headers or {}
        self._tls: ssl.SSLContext | None = None
        if parts.scheme == "https":
            self._tls = ssl.create_default_context(cafile=ca_path)
            if not validate_certs:
                self._tls.check_hostname = False
                self._tls.verify_mode = ssl.CERT_NONE

    def connect(self, timeout: float) -> None:
        """Open and close a TCP connection; raise Unreachable when that fails."""
        try:
            socket.create_connection((self.host, self.port), timeout).close()
        except OSError as error:
            raise _unreachable(error, timeout) from error

    def request(
        self,
        method: str,
        path: str,
        timeout: float,
        *,
        body: bytes | None = None,
        headers: dict[str, str] | None = None,
    ) -> Reply:
        """Send one request and read its whole answer; raise Unreachable when none comes."""
        end = time.monotonic() + timeout
        connection = self._connection(timeout)
        own = {"User-Agent": "gpufleet-probe", "Connection": "close", **self._headers}
        all_headers = {**own, **(headers or {})}
        if self._api_key:
            all_headers["Authorization"] = f"Bearer {self._api_key}"
        try:
            connection.request(method, self._prefix + path, body, all_headers)
            response = connection.getresponse()
            chunks: list[bytes] = []
            size = 0
            while chunk := response.read1(65536):
                chunks.append(chunk)
                size += len(chunk)
                if time.monotonic() > end:
                    raise TimeoutError
                if size > _MAX_BODY:
                    raise Unreachable("broken", f"answer to {path} exceeds {_MAX_BODY} bytes")
            content_type = response.headers.get_content_type()
            return Reply(response.status, content_type, b"".join(chunks))
        except (OSError, http.client.HTTPException) as error:
            raise _unreachable(error, timeout) from error
        finally:
            connection.close()

    def post_json(self, path: str, payload: dict[str, Any], timeout: float) -> Reply:
        """POST a JSON document."""
        headers = {"Content-Type": "application/json"}
        body = json.dumps(payload).encode()
        return self.request("POST", path, timeout, body=body, headers=headers)

    def _connection(self, timeout: float) -> http.client.HTTPConnection:
        if self._tls is not None:
            return http.client.HTTPSConnection(
                self.host, self.port, timeout=timeout, context=self._tls
            )
        return http.client.HTTPConnection(self.host, self.port, timeout=timeout)


def _unreachable(error: Exception, timeout: float) -> Unreachable:
    if isinstance(error, ConnectionRefusedError):
        return Unreachable("refused", "port refused")
    if isinstance(error, (TimeoutError, socket.timeout)):  # two classes before Python 3.10
        return Unreachable("timeout", f"no answer in {timeout:.0f} s")
    return Unreachable("broken", f"connection failed: {error or type(error).__name__}")


@dataclass(frozen=True)
class Canary:
    """A question with a known answer; ``expect`` is a regular expression, searched."""

    prompt: str
    expect: str
    max_tokens: int = 32


@dataclass(frozen=True)
class Target:
    """One vLLM instance or gateway. An empty model name means: the first one listed."""

    client: Client
    served_model_name: str = ""
    canary: Canary | None = None
    kind: Kind = "vllm"


@dataclass(frozen=True)
class Check:
    """The outcome of one check.

    ``level`` is the last level tried, ``seconds`` how long the check took, ``detail`` one line
    for people, and ``final`` says that waiting will not mend it.
    """

    state: State
    level: str
    seconds: float
    detail: str
    final: bool = False

    @property
    def ready(self) -> bool:
        """True when every level asked for has passed."""
        return self.state == "ready"

    def as_dict(self) -> dict[str, Any]:
        """Return the fields for JSON, seconds to the millisecond."""
        return {**asdict(self), "seconds": round(self.seconds, 3)}


class Finding(Exception):
    """A level that has not passed; check functions raise it and ``Check`` reports it."""

    def __init__(self, state: State, detail: str, *, final: bool = False) -> None:
        super().__init__(detail)
        self.state: State = state
        self.detail = detail
        self.final = final


def check(
    target: Target, level: Level = "token", timeout: float = 20.0, *, alive: bool = False
) -> Check:
    """Climb to ``level`` within ``timeout`` seconds and say what was found.

    ``alive`` says that the process is known to run: a refused port then means ``starting``.
    """
    climb = _Climb(target, timeout, alive)
    steps: dict[Level, Callable[[], str]] = {
        "port": climb.port,
        "http": climb.http,
        "model": climb.model,
        "token": climb.token,
        "canary": climb.canary,
    }
    started = time.monotonic()
    detail = ""
    for step in LEVELS[: LEVELS.index(level) + 1]:
        try:
            detail = steps[step]()
        except Finding as finding:
            spent = time.monotonic() - started
            return Check(finding.state, step, spent, finding.detail, finding.final)
    return Check("ready", level, time.monotonic() - started, detail)


class _Climb:
    """The levels of one check, each with the time that is left."""

    def __init__(self, target: Target, timeout: float, alive: bool) -> None:
        self._target = target
        self._client = target.client
        self._timeout = timeout
        self._end = time.monotonic() + timeout
        self._alive = alive
        self._model = target.served_model_name

    def _left(self) -> float:
        # Never zero: a socket timeout of 0 means "do not block".
        return max(0.05, self._end - time.monotonic())

    def _lost(self, error: Unreachable, what: str) -> Finding:
        if error.reason == "refused":
            return Finding("starting" if self._alive else "dead", "port refused")
        if error.reason == "timeout":
            return Finding("hung", f"{what} in {self._timeout:.0f} s")
        return Finding("dead", str(error))

    def port(self) -> str:
        try:
            self._client.connect(self._left())
        except Unreachable as error:
            if error.reason == "timeout":  # a hung server still accepts: this one is not there
                raise Finding("dead", f"no connection in {self._timeout:.0f} s") from error
            raise self._lost(error, "") from error
        return "port open"

    def http(self) -> str:
        path = HEALTH_PATHS[self._target.kind]
        try:
            reply = self._client.request("GET", path, self._left())
        except Unreachable as error:
            raise self._lost(error, f"connected, but {path} did not answer") from error
        if reply.status == 503 and self._target.kind == "vllm":
            raise Finding("dead", f"{path} says 503: the engine is dead")
        if reply.status == 503:
            raise Finding("dead", f"{path} says 503: no instance is ready")
        if reply.status != 200:
            raise Finding("dead", f"{path} says {reply.status}")
        if reply.content_type == "text/html":
            raise Finding("dead", f"{path} is a web page: something else answers at this address")
        return f"{path} says 200"

    def model(self) -> str:
        try:
            reply = self._client.request("GET", "/v1/models", self._left())
        except Unreachable as error:
            raise self._lost(error, "/v1/models did not answer") from error
        _refuse_status(reply, "/v1/models")
        names = model_names(reply.json())
        if not names:
            raise Finding("wrong_model", "/v1/models lists no model: is this vLLM?", final=True)
        self._model = self._model or names[0]
        if self._model not in names:
            listed = ", ".join(names)
            raise Finding("wrong_model", f"serves {listed}, not {self._model}", final=True)
        return f"serves {self._model}"

    def token(self) -> str:
        started = time.monotonic()
        reply = self._generate(lambda left: send_token_probe(self._client, self._model, left))
        if not generated_tokens(reply.json()):
            raise Finding("wrong_answer", f"no token generated: {reply.excerpt()}")
        return f"one token in {time.monotonic() - started:.2f} s"

    def canary(self) -> str:
        canary = self._target.canary
        if canary is None:
            raise ValueError("level canary needs a canary")
        reply = self._generate(lambda left: send_canary(self._client, self._model, canary, left))
        answer = answer_text(reply.json())
        if not re.search(canary.expect, answer):
            said = " ".join(answer.split())[:80]
            detail = f"canary: expected /{canary.expect}/, got {said!r}"
            raise Finding("wrong_answer", detail, final=True)
        return f"canary answered as expected (/{canary.expect}/)"

    def _generate(self, send: Callable[[float], Reply]) -> Reply:
        timeout = self._left()
        seen = observe(self._client, send, timeout, with_heartbeat=self._target.kind == "vllm")
        if seen.reply is not None:
            _refuse_status(seen.reply, "generation")
            return seen.reply
        error = seen.error or Unreachable("broken", "no answer")
        if error.reason != "timeout":
            raise self._lost(error, "") from error
        waited = f"no token in {timeout:.0f} s"
        if seen.moved is None:
            raise Finding("busy", f"{waited}; no heartbeat to tell load from a hang")
        if seen.moved:
            raise Finding("busy", f"{waited}, but the heartbeat moves")
        raise Finding("hung", f"{waited} and the heartbeat stands still")


def _refuse_status(reply: Reply, what: str) -> None:
    status = reply.status
    if status == 200:
        return
    if status in (429, 503):
        raise Finding("busy", f"{what} says {status}: the queue is full")
    if status in (401, 403):
        raise Finding("wrong_answer", f"{what} says {status}: the API key is refused", final=True)
    if status >= 500:
        raise Finding("dead", f"{what} says {status}: {reply.excerpt()}")
    raise Finding("wrong_answer", f"{what} says {status}: {reply.excerpt()}", final=True)


@dataclass(frozen=True)
class Observed:
    """A request and the heartbeat during it.

    ``moved`` is True when the heartbeat changed, False when it stood still or /metrics gave no
    answer at all, None when nothing can be said: no such metric, or too short to look.
    ``heartbeat`` is the last value read.
    """

    reply: Reply | None
    error: Unreachable | None
    moved: bool | None
    heartbeat: float | None


def observe(
    client: Client,
    send: Callable[[float], Reply],
    timeout: float,
    *,
    baseline: float | None = None,
    with_heartbeat: bool = True,
) -> Observed:
    """Call ``send(timeout)`` and read the heartbeat while its answer is outstanding.

    ``baseline`` is a value read before, when there is one. Raises nothing that is not a bug.
    """
    outcome: list[Reply | Unreachable] = []

    def work() -> None:
        try:
            outcome.append(send(timeout))
        except Unreachable as error:
            outcome.append(error)

    end = time.monotonic() + timeout
    thread = threading.Thread(target=work, name="probe", daemon=True)
    thread.start()
    thread.join(min(_QUIET_SECONDS, timeout / 2))
    pulse = _Pulse(baseline)
    while with_heartbeat and thread.is_alive() and time.monotonic() < end:
        pulse.read(client, min(_METRICS_TIMEOUT, max(0.1, end - time.monotonic())))
        thread.join(min(_BEAT_INTERVAL, timeout / 10))
    # The sender keeps its own deadline; a little grace lets it report.
    thread.join(max(0.0, end - time.monotonic()) + 1.0)
    first = outcome[0] if outcome else Unreachable("timeout", f"no answer in {timeout:.0f} s")
    moved = pulse.moved if with_heartbeat else None
    if isinstance(first, Reply):
        return Observed(first, None, moved, pulse.last)
    return Observed(None, first, moved, pulse.last)


class _Pulse:
    """Heartbeat readings during one request."""

    def __init__(self, baseline: float | None) -> None:
        self.last = baseline
        self._looks = 0 if baseline is None else 1
        self._changed = False
        self._absent = False
        self._silent = False

    def read(self, client: Client, timeout: float) -> None:
        self._looks += 1
        try:
            value = read_heartbeat(client, timeout)
        except Unreachable:
            self._silent = True
            return
        if value is None:
            self._absent = True
            return
        if self.last is not None and value != self.last:
            self._changed = True
        self.last = value

    @property
    def moved(self) -> bool | None:
        if self._changed:
            return True
        compared = self._looks > 1 or self._silent
        return False if compared and not self._absent else None


def read_heartbeat(client: Client, timeout: float) -> float | None:
    """Return the heartbeat, or None where /metrics has none; raise Unreachable on no answer."""
    reply = client.request("GET", "/metrics", timeout)
    if reply.status != 200:
        return None
    return parse_heartbeat(reply.body.decode("utf-8", "replace"))


def parse_heartbeat(metrics: str) -> float | None:
    """Sum the heartbeat over engines in a Prometheus text; None when the metric is absent."""
    values = [
        float(line.rsplit(" ", 1)[1])
        for line in metrics.splitlines()
        if line.startswith((HEARTBEAT + "{", HEARTBEAT + " "))
    ]
    return sum(values) if values else None


def model_names(document: object) -> list[str]:
    """Return the ids of a /v1/models document; an empty list for anything else."""
    data = document.get("data") if isinstance(document, dict) else None
    if not isinstance(data, list):
        return []
    return [str(item["id"]) for item in data if isinstance(item, dict) and "id" in item]


def send_token_probe(client: Client, model: str, timeout: float) -> Reply:
    """Ask for one token."""
    payload = {"model": model, "prompt": "Hi", "max_tokens": 1, "temperature": 0}
    return client.post_json("/v1/completions", payload, timeout)


def send_canary(client: Client, model: str, canary: Canary, timeout: float) -> Reply:
    """Ask the canary question, as chat where the model has a chat template."""
    end = time.monotonic() + timeout
    greedy = {"model": model, "max_tokens": canary.max_tokens, "temperature": 0}
    chat = {
        "messages": [{"role": "user", "content": canary.prompt}],
        # A thinking model would spend its few tokens before the answer.
        "chat_template_kwargs": {"enable_thinking": False},
    }
    reply = client.post_json("/v1/chat/completions", {**greedy, **chat}, timeout)
    if reply.status == 400 and b"chat template" in reply.body:
        left = max(0.05, end - time.monotonic())
        return client.post_json("/v1/completions", {**greedy, "prompt": canary.prompt}, left)
    return reply


def generated_tokens(document: object) -> int:
    """Return how many tokens a completion reports; 0 for anything else."""
    usage = document.get("usage") if isinstance(document, dict) else None
    count = usage.get("completion_tokens") if isinstance(usage, dict) else None
    return count if isinstance(count, int) else 0


def answer_text(document: object) -> str:
    """Return the text of a chat or text completion, reasoning included; empty when none."""
    choices = document.get("choices") if isinstance(document, dict) else None
    if not isinstance(choices, list) or not choices or not isinstance(choices[0], dict):
        return ""
    message = choices[0].get("message")
    if not isinstance(message, dict):
        return str(choices[0].get("text") or "")
    parts = (message.get(key) for key in ("reasoning", "reasoning_content", "content"))
    return "\n".join(str(part) for part in parts if part)
