# Copyright: (c) The gpufleet maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Runs inside vLLM: before its gate has passed and while it stops, others are told so with 503.

A gateway then asks another instance. vLLM opens its port before anybody knows whether the release
answers well; while it stops it says 500, or with several API servers 200 and no text, neither of
which a gateway repeats (measured with 0.32).
"""

from __future__ import annotations

import hmac
import json
import os
from collections.abc import Awaitable, MutableMapping
from pathlib import Path
from typing import Any, Callable

# Environment variable of vLLM: the path of the file that is there while others are turned away.
CLOSED_FILE = "LLM_GUARD_CLOSED_FILE"
# The guard's own probes send the file's content with it. In an empty file nobody's does.
HEADER = "X-LLM-Guard"

_Message = MutableMapping[str, Any]
_Receive = Callable[[], Awaitable[_Message]]
_Send = Callable[[_Message], Awaitable[None]]
_App = Callable[[_Message, _Receive, _Send], Awaitable[None]]

_BODY = json.dumps(
    {
        "error": {
            "message": "This instance starts or stops: ask again in a moment, or ask another.",
            "type": "service_unavailable",
            "param": None,
            "code": 503,
        }
    }
).encode()
_HEADERS = [
    (b"content-type", b"application/json"),
    (b"content-length", str(len(_BODY)).encode()),
    (b"connection", b"close"),
]


class GateMiddleware:
    """ASGI middleware, as the option ``middleware`` of vLLM takes it."""

    def __init__(self, app: _App) -> None:
        self._app = app
        # On a file system in memory, /run: to look costs microseconds.
        self._closed = Path(os.environ[CLOSED_FILE])

    def _lets_through(self, scope: _Message) -> bool:
        if scope.get("method") != "POST" or not self._closed.exists():
            return True
        try:
            secret = self._closed.read_bytes()
        except FileNotFoundError:
            return True
        given = dict(scope.get("headers", ())).get(HEADER.lower().encode(), b"")
        return bool(secret) and hmac.compare_digest(given, secret)

    async def __call__(self, scope: _Message, receive: _Receive, send: _Send) -> None:
        """Answer what asks the engine for something; let the rest through, /metrics for one."""
        if self._lets_through(scope):
            await self._app(scope, receive, send)
            return
        await send({"type": "http.response.start", "status": 503, "headers": _HEADERS})
        await send({"type": "http.response.body", "body": _BODY})
