"""Who asks, where nobody logs in: one browser is one person."""

from __future__ import annotations

import re
import secrets
from collections.abc import Mapping
from typing import Any

from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import cookie_parser
from starlette.types import ASGIApp, Message, Receive, Scope, Send

COOKIE = "gpufleet_chat_browser"
_VALUE = re.compile(r"[A-Za-z0-9_-]{22}")


class Visitors:
    """ASGI middleware: gives each browser that opens the page a random cookie for its session."""

    def __init__(self, app: ASGIApp, path: str) -> None:
        self._app = app
        self._path = path

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one request; only a page sets the cookie."""
        if scope["type"] != "http" or _browser(Headers(scope=scope).get("cookie", "")):
            await self._app(scope, receive, send)
            return

        async def send_with_cookie(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                if headers.get("content-type", "").startswith("text/html"):
                    headers.append("set-cookie", self._new_cookie())
            await send(message)

        await self._app(scope, receive, send_with_cookie)

    def _new_cookie(self) -> str:
        value = secrets.token_urlsafe(16)
        return f"{COOKIE}={value}; Path={self._path}; HttpOnly; SameSite=Lax"


def person(login: str | None, environ: Mapping[str, Any]) -> str:
    """Whom a question counts for: the login, else the browser, else the address.

    Not the chat's session, which every new tab begins anew; and the address last, since a whole
    office may share one. environ is that of the websocket's handshake; the address in it is the
    client's where nginx on this host has told it.
    """
    if login:
        return f"login {login}"
    browser = _browser(str(environ.get("HTTP_COOKIE", "")))
    if browser:
        return f"browser {browser}"
    client = environ.get("asgi.scope", {}).get("client") or ("unknown", 0)
    return f"address {client[0]}"


def _browser(cookies: str) -> str | None:
    value = cookie_parser(cookies).get(COOKIE, "")
    return value if _VALUE.fullmatch(value) else None
