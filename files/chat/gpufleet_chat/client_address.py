"""From where the request comes that is being answered."""

from __future__ import annotations

from contextvars import ContextVar

from starlette.types import ASGIApp, Receive, Scope, Send

_address: ContextVar[str] = ContextVar("client_address", default="unknown")


class ClientAddress:
    """ASGI middleware: keeps the address for hooks that are not given the request."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one request or websocket."""
        client = scope.get("client")
        token = _address.set(client[0] if client else "unknown")
        try:
            await self._app(scope, receive, send)
        finally:
            _address.reset(token)


def client_address() -> str:
    """The client's address, where nginx on this host has told it; else that of the peer."""
    return _address.get()
