"""Whom the proxy names with the request that is being answered."""

from __future__ import annotations

from contextvars import ContextVar

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Receive, Scope, Send

from gpufleet_chat.logins import Logins
from gpufleet_chat.settings import Settings

_name: ContextVar[str | None] = ContextVar("proven_name", default=None)


class ProvenName:
    """ASGI middleware: keeps the name for hooks that are not given the request."""

    def __init__(self, app: ASGIApp, settings: Settings, logins: Logins) -> None:
        self._app = app
        self._settings = settings
        self._logins = logins

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one request or websocket."""
        if scope["type"] not in ("http", "websocket"):
            await self._app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        names = headers.getlist(self._settings.login_header)
        proofs = headers.getlist(self._settings.login_secret_header)
        token = _name.set(self._logins.proven(names, proofs))
        try:
            await self._app(scope, receive, send)
        finally:
            _name.reset(token)


def proven_name() -> str | None:
    """The person whom the proxy names; None where it names nobody, or where nobody proves it."""
    return _name.get()
