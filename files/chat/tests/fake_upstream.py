"""A server that misbehaves on command, as no real back end can be made to do at will."""

from __future__ import annotations

import asyncio
import json
from collections import deque
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Answer:
    """Streams the pieces, then ends as told.

    The ends: "done", "length" (longest answer reached), "abort" (vLLM is stopped), "cut"
    (connection lost), "late cut" (lost after the reason of the end), "short" (no end mark), "hang",
    "error".
    """

    pieces: tuple[str, ...]
    end: str = "done"
    pause_seconds: float = 0.0
    field_name: str = "content"


@dataclass(frozen=True)
class Status:
    """Answers with a status before any piece."""

    code: int
    headers: tuple[tuple[str, str], ...] = ()
    message: str = ""


@dataclass(frozen=True)
class Silence:
    """Takes the request and never answers."""


Behaviour = Answer | Status | Silence


@dataclass
class FakeUpstream:
    """Serves /v1/health, /v1/models and /v1/chat/completions on a port of 127.0.0.1.

    Requests take their behaviours from the script in turn, then the default; one for a model that
    is not among its own gets 404, as from vLLM.
    """

    default: Behaviour = Answer(("Paris", "."))
    healthy: bool = True
    # Answers that are no HTTP.
    garbage: bool = False
    health_code: str = "no_instance_is_ready"
    models: tuple[str, ...] = ("fake",)
    context_tokens: int | None = None
    prompt_tokens: int | None = None
    port: int = 0
    script: deque[Behaviour] = field(default_factory=deque)
    requests: list[dict[str, Any]] = field(default_factory=list)
    authorizations: list[str | None] = field(default_factory=list)
    aborted: asyncio.Event = field(default_factory=asyncio.Event)
    _server: asyncio.Server | None = None
    _connections: set[asyncio.Task[None]] = field(default_factory=set)

    @property
    def url(self) -> str:
        """What upstream_url must be."""
        return f"http://127.0.0.1:{self.port}/v1"

    async def start(self) -> None:
        """Listen; on the same port again after a stop."""
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", self.port)
        self.port = self._server.sockets[0].getsockname()[1]

    async def stop(self) -> None:
        """Refuse connections and break the open ones."""
        if self._server is not None:
            self._server.close()
        for task in list(self._connections):
            task.cancel()
        await asyncio.sleep(0)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._connections.add(task)
        try:
            await self._respond(reader, writer)
        except (ConnectionError, asyncio.IncompleteReadError):
            self.aborted.set()
        except asyncio.CancelledError:
            writer.transport.abort()
        finally:
            self._connections.discard(task)
            writer.close()

    async def _respond(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = (await reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
        headers = dict(line.lower().split(": ", 1) for line in head[1:] if ": " in line)
        values = {
            name.lower(): value
            for name, _, value in (line.partition(": ") for line in head[1:] if line)
        }
        path = head[0].split(" ")[1]
        body = await reader.readexactly(int(headers.get("content-length", "0")))
        if path == "/v1/health":
            error = {"error": {"message": "", "code": self.health_code}}
            await _plain(writer, 200 if self.healthy else 503, {} if self.healthy else error)
        elif path == "/v1/models":
            listed = [{"id": name, "max_model_len": self.context_tokens} for name in self.models]
            await _plain(writer, 200, {"data": listed})
        else:
            self.requests.append(json.loads(body))
            self.authorizations.append(values.get("authorization"))
            if self.garbage:
                writer.write(b"\x00\x01 no status\r\n\r\n")
                return
            if self.requests[-1]["model"] not in self.models:
                await self._behave(Status(404, message="The model does not exist."), reader, writer)
                return
            behaviour = self.script.popleft() if self.script else self.default
            await self._behave(behaviour, reader, writer)

    async def _behave(
        self, behaviour: Behaviour, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        if isinstance(behaviour, Status):
            body = {"error": {"message": behaviour.message, "code": behaviour.code}}
            await _plain(writer, behaviour.code, body, behaviour.headers)
            return
        if isinstance(behaviour, Silence):
            await self._until_client_leaves(reader)
            return
        writer.write(
            b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n"
            b"transfer-encoding: chunked\r\nconnection: close\r\n\r\n"
        )
        for piece in behaviour.pieces:
            await _chunk(writer, {"choices": [{"delta": {behaviour.field_name: piece}}]})
            await asyncio.sleep(behaviour.pause_seconds)
        if behaviour.end == "cut":
            writer.transport.abort()
        elif behaviour.end == "hang":
            await self._until_client_leaves(reader)
        elif behaviour.end == "short":
            await _end(writer)
        elif behaviour.end == "error":
            await _chunk(writer, {"error": {"message": "EngineCore died", "code": 500}})
            await _end(writer)
        else:
            reason = behaviour.end if behaviour.end in ("length", "abort") else "stop"
            await _chunk(writer, {"choices": [{"delta": {}, "finish_reason": reason}]})
            if behaviour.end == "late cut":
                await asyncio.sleep(0.2)
                writer.transport.abort()
                return
            if self.prompt_tokens is not None:
                usage = {"prompt_tokens": self.prompt_tokens}
                await _chunk(writer, {"choices": [], "usage": usage})
            await _chunk(writer, "[DONE]")
            await _end(writer)

    async def _until_client_leaves(self, reader: asyncio.StreamReader) -> None:
        await reader.read()
        self.aborted.set()


async def _plain(
    writer: asyncio.StreamWriter,
    code: int,
    body: dict[str, Any],
    headers: tuple[tuple[str, str], ...] = (),
) -> None:
    data = json.dumps(body).encode()
    head = f"HTTP/1.1 {code} X\r\ncontent-type: application/json\r\nconnection: close\r\n"
    head += "".join(f"{name}: {value}\r\n" for name, value in headers)
    writer.write(head.encode() + f"content-length: {len(data)}\r\n\r\n".encode() + data)
    await writer.drain()


async def _chunk(writer: asyncio.StreamWriter, data: dict[str, Any] | str) -> None:
    text = data if isinstance(data, str) else json.dumps(data)
    payload = f"data: {text}\n\n".encode()
    writer.write(f"{len(payload):x}\r\n".encode() + payload + b"\r\n")
    await writer.drain()


async def _end(writer: asyncio.StreamWriter) -> None:
    writer.write(b"0\r\n\r\n")
    await writer.drain()
