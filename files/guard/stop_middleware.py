# Copyright: (c) The gpufleet maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Runs inside vLLM: while an instance stops, new requests are told so with status 503.

A gateway then asks another instance. vLLM itself says 500 meanwhile, or with several API servers
200 and no text, neither of which a gateway repeats (measured with 0.32).
"""

from __future__ import annotations

import json
import os
from collections.abc import Awaitable, MutableMapping
from pathlib import Path
from typing import Any, Callable

# Environment variable of vLLM: the path of the file that is there while the instance stops.
STOPPING_FILE = "LLM_GUARD_STOPPING_FILE"

_Message = MutableMapping[str, Any]
_Receive = Callable[[], Awaitable[_Message]]
_Send = Callable[[_Message], Awaitable[None]]
_App = Callable[[_Message, _Receive, _Send], Awaitable[None]]

_BODY = json.dumps(
    {
        "error": {
            "message": "This instance is being stopped: ask again in a moment, or ask another.",
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


class StopMiddleware:
    """ASGI middleware, as the option ``middleware`` of vLLM takes it."""

    def __init__(self, app: _App) -> None:
        self._app = app
        # On a file system in memory, /run: to look costs microseconds.
        self._stopping = Path(os.environ[STOPPING_FILE])

    def _is_stopping(self) -> bool:
        return self._stopping.exists()

    async def __call__(self, scope: _Message, receive: _Receive, send: _Send) -> None:
        """Answer what asks the engine for something; let the rest through, /metrics for one."""
        if scope.get("method") == "POST" and self._is_stopping():
            await send({"type": "http.response.start", "status": 503, "headers": _HEADERS})
            await send({"type": "http.response.body", "body": _BODY})
        else:
            await self._app(scope, receive, send)
