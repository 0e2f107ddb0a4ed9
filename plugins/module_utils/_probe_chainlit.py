# Copyright: (c) The gpufleet maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What "healthy" means for a Chainlit application.

Chainlit answers 200 with a web page on any path, and its ``/health`` is a constant. So a check
climbs ``port -> http -> socket -> turn``: the JSON body of ``/health``, the opening of Engine.IO,
and, on request, one message sent as a browser would and its answer.
"""

from __future__ import annotations

import json
import re
import time
import uuid
from dataclasses import dataclass, field

from ansible_collections.gpufleet.llm.plugins.module_utils._chat_session import sign_session
from ansible_collections.gpufleet.llm.plugins.module_utils._probe import (
    Check,
    Client,
    Finding,
    Reply,
    Unreachable,
)

_SOCKET_PATH = "/ws/socket.io/?EIO=4&transport=polling"
_SEPARATOR = "\x1e"  # between the packets of one polling answer
_PING, _PONG = "2", "3"
_CONNECT, _CONNECT_REFUSED, _DISCONNECT, _EVENT = "40", "44", "41", "42"


@dataclass(frozen=True)
class Turn:
    """A message to send, and a regular expression that its answer must contain.

    ``session_secret`` is what the application signs sessions with, where people log in.
    """

    message: str
    expect: str = "."
    session_secret: str = field(default="", repr=False)


def check_chainlit(client: Client, turn: Turn | None = None, timeout: float = 20.0) -> Check:
    """Check one application within ``timeout`` seconds; with ``turn``, hold a conversation."""
    started = time.monotonic()
    climb = _Climb(client, started + timeout, timeout, turn.session_secret if turn else "")
    steps = [("port", climb.port), ("http", climb.http), ("socket", climb.socket)]
    if turn is not None:
        steps.append(("turn", lambda: climb.turn(turn)))
    level = detail = ""
    for level, step in steps:
        try:
            detail = step()
        except Finding as finding:
            spent = time.monotonic() - started
            return Check(finding.state, level, spent, finding.detail, finding.final)
        except Unreachable as error:
            spent = time.monotonic() - started
            if error.reason == "timeout" and level != "port":
                return Check("hung", level, spent, f"connected, but no answer in {timeout:.0f} s")
            return Check("dead", level, spent, str(error))
    return Check("ready", level, time.monotonic() - started, detail)


class _Climb:
    """The levels of one check under one deadline."""

    def __init__(self, client: Client, end: float, timeout: float, session_secret: str) -> None:
        self._client = client
        self._end = end
        self._timeout = timeout
        # Gateways keep a browser on one application by this cookie, which its page sets.
        self._session = str(uuid.uuid4())
        self._headers = {
            "Origin": client.origin,
            "Content-Type": "text/plain;charset=UTF-8",
            "Cookie": f"X-Chainlit-Session-id={self._session}",
        }
        if session_secret:
            # Chainlit looks at the cookies of the first request. A session is longer than the
            # check: the clocks of two machines differ.
            token = sign_session(session_secret, timeout + 300)
            self._headers["Cookie"] += f"; access_token={token}"
        self._path = _SOCKET_PATH

    def _left(self) -> float:
        return max(0.05, self._end - time.monotonic())

    def port(self) -> str:
        self._client.connect(self._left())
        return "port open"

    def http(self) -> str:
        reply = self._client.request("GET", "/health", self._left())
        if reply.status == 404:
            # Chainlit answers any path: a gateway hides this one, and the socket tells more.
            return "/health is hidden by a gateway"
        _refuse_status(reply, "/health")
        document = reply.json()
        if not isinstance(document, dict) or document.get("status") != "ok":
            detail = f"/health is {reply.content_type}, not Chainlit's JSON: what answers here?"
            raise Finding("wrong_answer", detail)
        return "/health is ok"

    def socket(self) -> str:
        reply = self._client.request("GET", self._path, self._left(), headers=self._headers)
        _refuse_status(reply, "Engine.IO")
        text = reply.body.decode("utf-8", "replace")
        opened = _document(text[1:]) if text.startswith("0{") else None
        if not isinstance(opened, dict) or "sid" not in opened:
            detail = f"Engine.IO does not open: {reply.excerpt() or 'empty answer'}"
            raise Finding("wrong_answer", detail)
        self._path = f"{_SOCKET_PATH}&sid={opened['sid']}"
        return "Engine.IO opens"

    def turn(self, turn: Turn) -> str:
        started = time.monotonic()
        auth = {"sessionId": self._session, "clientType": "webapp"}
        self._send(_CONNECT + json.dumps(auth))
        self._await_connection()
        self._emit("connection_successful")
        self._poll()  # its own task_end must not be taken for the end of the turn
        message = {
            "id": str(uuid.uuid4()),
            "name": "probe",
            "type": "user_message",
            "output": turn.message,
            "createdAt": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        }
        self._emit("client_message", {"message": message, "fileReferences": []})
        answer = self._await_answer()
        # The application would otherwise keep the session until its timeout.
        self._emit("clear_session")
        self._send(_DISCONNECT)
        if not re.search(turn.expect, answer):
            said = " ".join(answer.split())[:80]
            raise Finding("wrong_answer", f"expected /{turn.expect}/ in the answer, got {said!r}")
        return f"chat answered in {time.monotonic() - started:.1f} s"

    def _send(self, packet: str) -> None:
        reply = self._client.request(
            "POST", self._path, self._left(), body=packet.encode(), headers=self._headers
        )
        _refuse_status(reply, "Engine.IO")

    def _emit(self, event: str, *arguments: object) -> None:
        self._send(_EVENT + json.dumps([event, *arguments]))

    def _poll(self) -> list[str]:
        """Wait for packets; answer pings on the way."""
        reply = self._client.request("GET", self._path, self._left(), headers=self._headers)
        _refuse_status(reply, "Engine.IO")
        packets = reply.body.decode("utf-8", "replace").split(_SEPARATOR)
        if _PING in packets:
            self._send(_PONG)
        return packets

    def _await_connection(self) -> None:
        while True:
            for packet in self._poll():
                if packet.startswith(_CONNECT_REFUSED):
                    detail = f"the chat refuses the connection: {packet[2:160]}"
                    raise Finding("wrong_answer", detail, final=True)
                if packet.startswith(_CONNECT):
                    return

    def _await_answer(self) -> str:
        transcript = Transcript()
        while not transcript.complete:
            if time.monotonic() >= self._end:
                raise Finding("busy", f"no complete answer in {self._timeout:.0f} s")
            try:
                packets = self._poll()
            except Unreachable as error:
                if error.reason != "timeout":
                    raise
                continue
            for packet in packets:
                if packet.startswith(_EVENT):
                    transcript.add(_document(packet[len(_EVENT) :]))
        if transcript.failed:
            raise Finding("wrong_answer", "the chat shows an error: see the application's journal")
        return transcript.text


class Transcript:
    """Collects the answer from the events that follow a message."""

    def __init__(self) -> None:
        self._texts: dict[str, str] = {}
        self._running = False
        self.failed = False
        self.complete = False

    @property
    def text(self) -> str:
        """All assistant messages, in order."""
        return "\n".join(text for text in self._texts.values() if text)

    def add(self, event: object) -> None:
        """Take one Socket.IO event: ``[name, data]``."""
        if not isinstance(event, list) or not event:
            return
        data = event[1] if len(event) > 1 and isinstance(event[1], dict) else {}
        if event[0] == "task_start":
            self._running = True
        elif event[0] == "task_end":
            # A state for the page, not a count: an application may begin twice and end once. Also
            # the start of a chat is a task: only the end with an answer counts.
            self.complete = self._running and (bool(self.text) or self.failed)
            self._running = False
        elif event[0] == "stream_token":
            key = str(data.get("id"))
            before = "" if data.get("isSequence") else self._texts.get(key, "")
            self._texts[key] = before + str(data.get("token", ""))
        elif data.get("type") == "assistant_message":
            self._texts[str(data.get("id"))] = str(data.get("output") or "")
            self.failed = self.failed or bool(data.get("isError"))


def _refuse_status(reply: Reply, what: str) -> None:
    if reply.status == 200:
        return
    if reply.status in (429, 503):
        raise Finding("busy", f"{what} says {reply.status}")
    if reply.status >= 500:
        raise Finding("dead", f"{what} says {reply.status}: {reply.excerpt()}")
    final = reply.status in (401, 403)
    raise Finding("wrong_answer", f"{what} says {reply.status}: {reply.excerpt()}", final=final)


def _document(text: str) -> object:
    try:
        document: object = json.loads(text)
    except ValueError:
        return None
    return document
