"""How much one request may bring, and how much all uploads may fill, whoever sends them."""

from __future__ import annotations

import asyncio
from pathlib import Path

from starlette.datastructures import Headers
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from gpufleet_chat.messages import Messages
from gpufleet_chat.request_language import first_language

UPLOAD_PATH = "/project/file"
# What a form puts around a file.
SMALL_BYTES = 1024 * 1024
# So many uploads of the largest size are kept at once: more would fill the disk of the host.
KEPT_UPLOADS = 200
# What Socket.IO takes by itself.
_SOCKET_BYTES = 1_000_000
# A character is six bytes where JSON escapes it.
_CHARACTER_BYTES = 6
_AROUND_BYTES = 100_000


def socket_bytes(message_max_chars: int) -> int:
    """The largest message of a websocket, in which a question of the longest length has room."""
    return max(_SOCKET_BYTES, message_max_chars * _CHARACTER_BYTES + _AROUND_BYTES)


class _TooLarge(Exception):
    """More has come than may."""


class BodyBound:
    """ASGI middleware: refuses a body that is too large before all of it is here.

    An upload is refused too while the directory of uploads is full; those of closed pages are
    deleted from it.
    """

    def __init__(
        self,
        app: ASGIApp,
        upload_max_mib: int,
        message_max_chars: int,
        uploads: Path,
        messages: Messages,
    ) -> None:
        self._app = app
        self._uploads = uploads
        self._messages = messages
        self._upload_bytes = upload_max_mib * 1024 * 1024 + SMALL_BYTES
        self._kept_bytes = KEPT_UPLOADS * upload_max_mib * 1024 * 1024
        # Where websockets do not get through, questions come as requests.
        self._other_bytes = max(SMALL_BYTES, socket_bytes(message_max_chars))

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        upload = scope["path"].endswith(UPLOAD_PATH)
        if upload and await asyncio.to_thread(_size, self._uploads) > self._kept_bytes:
            language = first_language(Headers(scope=scope))
            # The page shows the detail as it is.
            full = {"detail": self._messages.text("file.full", language)}
            await JSONResponse(full, 507)(scope, receive, send)
            return
        left = self._upload_bytes if upload else self._other_bytes
        told = Headers(scope=scope).get("content-length", "0")
        begun = False

        async def bounded() -> Message:
            nonlocal left
            message = await receive()
            left -= len(message.get("body", b""))
            if left < 0:
                raise _TooLarge
            return message

        async def noted(message: Message) -> None:
            nonlocal begun
            if left < 0:
                # What reads a form makes an answer of its own of every failure.
                raise _TooLarge
            begun = begun or message["type"] == "http.response.start"
            await send(message)

        try:
            # A number that is none is refused by the server itself.
            if told.isdecimal() and int(told) > left:
                raise _TooLarge
            await self._app(scope, bounded, noted)
        except _TooLarge:
            if not begun:
                response = JSONResponse({"error": "the request is too large"}, 413)
                await response(scope, receive, send)


def _size(directory: Path) -> int:
    """Bytes of all files below; what is deleted meanwhile does not count."""
    total = 0
    for path in directory.rglob("*"):
        try:
            total += path.stat().st_size if path.is_file() else 0
        except FileNotFoundError:
            continue
    return total
