"""upstream.py PORT RATE: stands in for vLLM, whose two processor cores would not feed 60 chats.

As in vLLM, one step gives every open stream its next token, RATE times a second. A token is the
time of its emission in microseconds of the machine's monotonic clock. The last message of a request
is the number of tokens it asks for.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from dataclasses import dataclass, field
from typing import Any

import uvloop

MODEL = "emitter"


@dataclass(eq=False)
class Stream:
    """An answer in progress."""

    writer: asyncio.StreamWriter
    left: int
    ended: asyncio.Event = field(default_factory=asyncio.Event)

    def emit(self) -> None:
        """Send the next token, or the end."""
        if self.left > 0:
            self.left -= 1
            self._event(_chunk({"content": f"{time.monotonic_ns() // 1000} "}, None))
            return
        self._event(_chunk({}, "stop"))
        self._event("[DONE]")
        self.writer.write(b"0\r\n\r\n")
        self.ended.set()

    def _event(self, data: dict[str, Any] | str) -> None:
        text = data if isinstance(data, str) else json.dumps(data)
        payload = f"data: {text}\n\n".encode()
        self.writer.write(b"%x\r\n%b\r\n" % (len(payload), payload))


def _chunk(delta: dict[str, str], finish_reason: str | None) -> dict[str, Any]:
    """The fields that vLLM sends with every token."""
    choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish_reason}
    return {
        "id": "chatcmpl-9d2c1b8f4f0e4a59b1c1d0a7c1a0f3e2",
        "object": "chat.completion.chunk",
        "created": 1767225600,
        "model": MODEL,
        "choices": [choice],
    }


class Emitter:
    """The server, with the steps that feed all its streams."""

    def __init__(self, rate: float) -> None:
        self._rate = rate
        self._streams: set[Stream] = set()

    async def run(self, port: int) -> None:
        """Serve until cancelled."""
        server = await asyncio.start_server(self._serve, "127.0.0.1", port)
        async with server:
            await self._step()

    async def _step(self) -> None:
        due = time.monotonic()
        while True:
            due += 1 / self._rate
            await asyncio.sleep(max(0.0, due - time.monotonic()))
            for stream in list(self._streams):
                stream.emit()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while True:
                head = (await reader.readuntil(b"\r\n\r\n")).decode().lower()
                length = head.partition("content-length: ")[2].partition("\r\n")[0]
                body = await reader.readexactly(int(length or 0))
                await self._respond(head.split(" ")[1], body, writer)
        except (asyncio.IncompleteReadError, ConnectionError):
            writer.close()

    async def _respond(self, path: str, body: bytes, writer: asyncio.StreamWriter) -> None:
        if not path.endswith("/chat/completions"):
            content = json.dumps({"data": [{"id": MODEL}]}).encode()
            writer.write(_head("application/json", f"content-length: {len(content)}") + content)
            return
        writer.write(_head("text/event-stream", "transfer-encoding: chunked"))
        stream = Stream(writer, int(json.loads(body)["messages"][-1]["content"]))
        self._streams.add(stream)
        try:
            await stream.ended.wait()
        finally:
            self._streams.discard(stream)


def _head(content_type: str, length: str) -> bytes:
    return f"HTTP/1.1 200 OK\r\ncontent-type: {content_type}\r\n{length}\r\n\r\n".encode()


if __name__ == "__main__":
    uvloop.run(Emitter(float(sys.argv[2])).run(int(sys.argv[1])))
