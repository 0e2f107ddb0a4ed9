"""clients.py KIND URL CHATS TOKENS: so many people ask at once; prints how long each token took.

KIND is page, for the pages of a chat app, or stream, for the API without any app. Prints "ready"
when all are connected, waits for a line, and in the end prints a JSON list of milliseconds.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
import uuid

import aiohttp
import httpx
import uvloop

SETTLE_SECONDS = 1.0
PATIENCE_SECONDS = 120.0


class Stopwatch:
    """Takes texts as they come and reads from each the times of emission it holds."""

    def __init__(self) -> None:
        self._arrivals: list[tuple[int, str]] = []

    def arrived(self, text: str) -> int:
        """Note a text; returns how many tokens it holds."""
        self._arrivals.append((time.monotonic_ns() // 1000, text))
        return len(text.split())

    def milliseconds(self) -> list[float]:
        """How long each token was on its way."""
        return [(at - int(token)) / 1000 for at, text in self._arrivals for token in text.split()]


class Page:
    """A person's open page, with no more of Socket.IO than a page of Chainlit speaks.

    The usual client takes longer for an event than the apps do, and would measure itself.
    """

    def __init__(self, socket: aiohttp.ClientWebSocketResponse, stopwatch: Stopwatch) -> None:
        self._socket = socket
        self._stopwatch = stopwatch
        self._missing = 0

    async def open(self) -> None:
        """Connect as Chainlit's page does."""
        auth = {"sessionId": str(uuid.uuid4()), "clientType": "webapp"}
        await self._until("0")
        await self._socket.send_str(f"40{json.dumps(auth)}")
        await self._until("40")
        await self._emit("connection_successful")
        await self._until('42["task_end"')

    async def ask(self, tokens: int) -> None:
        """Ask for so many tokens, and wait for all of them and the end."""
        self._missing = tokens
        message = {
            "id": str(uuid.uuid4()),
            "name": "user",
            "type": "user_message",
            "output": str(tokens),
            "createdAt": "2026-01-01T00:00:00Z",
        }
        await self._emit("client_message", {"message": message, "fileReferences": []})
        await self._until('42["task_end"')

    async def _emit(self, *event: object) -> None:
        await self._socket.send_str(f"42{json.dumps(event)}")

    async def _until(self, start: str) -> None:
        """Read what comes, up to a message with this beginning and no token missing."""
        while True:
            text = await self._socket.receive_str()
            if text.startswith('42["stream_token"'):
                self._missing -= self._stopwatch.arrived(json.loads(text[2:])[1]["token"])
            elif text.startswith('42["stream_start"'):
                self._missing -= self._stopwatch.arrived(json.loads(text[2:])[1]["output"])
            elif text == "2":
                await self._socket.send_str("3")
            elif text.startswith(start) and self._missing <= 0:
                return


async def pages(url: str, chats: int, tokens: int) -> Stopwatch:
    """Ask on open pages."""
    stopwatch = Stopwatch()
    address = f"{url}/ws/socket.io/?EIO=4&transport=websocket"
    connector = aiohttp.TCPConnector(limit=0)
    async with aiohttp.ClientSession(connector=connector) as session:
        # Browsers offer compression too.
        sockets = [await session.ws_connect(address, compress=15) for _ in range(chats)]
        opened = [Page(socket, stopwatch) for socket in sockets]
        for page in opened:
            await page.open()
        await asyncio.sleep(SETTLE_SECONDS)
        await start_signal()
        async with asyncio.timeout(PATIENCE_SECONDS):
            await asyncio.gather(*(page.ask(tokens) for page in opened))
        for socket in sockets:
            await socket.close()
    return stopwatch


async def streams(url: str, chats: int, tokens: int) -> Stopwatch:
    """Ask the API itself."""
    stopwatch = Stopwatch()
    limits = httpx.Limits(max_connections=None)
    timeout = httpx.Timeout(PATIENCE_SECONDS)
    async with httpx.AsyncClient(timeout=timeout, limits=limits, trust_env=False) as client:
        await start_signal()
        await asyncio.gather(*(stream(client, url, tokens, stopwatch) for _ in range(chats)))
    return stopwatch


async def stream(client: httpx.AsyncClient, url: str, tokens: int, stopwatch: Stopwatch) -> None:
    """Read one answer."""
    messages = [{"role": "user", "content": str(tokens)}]
    body = {"model": "emitter", "messages": messages, "stream": True}
    async with client.stream("POST", f"{url}/chat/completions", json=body) as response:
        async for line in response.aiter_lines():
            if line.startswith("data: {"):
                delta = json.loads(line[6:])["choices"][0]["delta"]
                stopwatch.arrived(delta.get("content", ""))


async def start_signal() -> None:
    """Say that all is ready, and wait for the word."""
    print("ready", flush=True)
    await asyncio.to_thread(sys.stdin.readline)


def main() -> None:
    """Run what the command line asks for."""
    kind, url, chats, tokens = sys.argv[1:]
    run = {"page": pages, "stream": streams}[kind]
    print(json.dumps(uvloop.run(run(url, int(chats), int(tokens))).milliseconds()))


if __name__ == "__main__":
    main()
