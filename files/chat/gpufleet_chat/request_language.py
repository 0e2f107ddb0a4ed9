"""In which language the person reads who sends the request that is being answered."""

from __future__ import annotations

from contextvars import ContextVar

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Receive, Scope, Send

_language: ContextVar[str | None] = ContextVar("request_language", default=None)


class RequestLanguage:
    """ASGI middleware: keeps the language for hooks that are not given the request."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one request or websocket."""
        if scope["type"] not in ("http", "websocket"):
            await self._app(scope, receive, send)
            return
        token = _language.set(first_language(Headers(scope=scope)))
        try:
            await self._app(scope, receive, send)
        finally:
            _language.reset(token)


def first_language(headers: Headers) -> str:
    """The language that the browser names first."""
    return headers.get("accept-language", "").split(",")[0].split(";")[0].strip()


def request_language() -> str | None:
    """The language of the request; None outside of one."""
    return _language.get()
