"""What every response carries, and which origins may ask."""

from __future__ import annotations

import base64
import hashlib
import re
from urllib.parse import urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

# A file that a person has uploaded is theirs: as a page of this host it could run scripts.
_UPLOADED_PATH = "/project/file/"
_UPLOADED_HEADERS = {
    "content-security-policy": "sandbox; default-src 'none'",
    "content-disposition": "attachment",
}
_INLINE_SCRIPT = re.compile(r"<script>(.*?)</script>", re.DOTALL)


def content_security_policy(html: str) -> str:
    """A policy that lets the page load from its own host only; its inline scripts by hash."""
    hashes = " ".join(
        f"'sha256-{base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()}'"
        for script in _INLINE_SCRIPT.findall(html)
    )
    return "; ".join(
        [
            "default-src 'self'",
            f"script-src 'self' {hashes}".strip(),
            # The components of the page set styles from their scripts.
            "style-src 'self' 'unsafe-inline'",
            "img-src 'self' data: blob:",
            "font-src 'self' data:",
            "worker-src 'self' blob:",
            "object-src 'none'",
            "base-uri 'self'",
            "form-action 'self'",
            "frame-ancestors 'self'",
        ]
    )


class Guard:
    """ASGI middleware: refuses foreign origins, adds security headers, marks cookies Secure."""

    def __init__(self, app: ASGIApp, policy: str) -> None:
        self._app = app
        self._headers = {
            "content-security-policy": policy,
            "x-content-type-options": "nosniff",
            "referrer-policy": "same-origin",
        }

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one request or websocket."""
        if scope["type"] not in ("http", "websocket"):
            await self._app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        if not _same_origin(headers):
            await self._refuse(scope, receive, send)
            return
        secure = scope["scheme"] in ("https", "wss")
        uploaded = _UPLOADED_PATH in scope["path"]

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                self._decorate(MutableHeaders(scope=message), secure, uploaded)
            await send(message)

        await self._app(scope, receive, send_with_headers)

    async def _refuse(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "websocket":
            await send({"type": "websocket.close", "code": 1008, "reason": "foreign origin"})
            return
        response = JSONResponse({"error": "requests of another origin are refused"}, 403)
        await response(scope, receive, send)

    def _decorate(self, headers: MutableHeaders, secure: bool, uploaded: bool) -> None:
        added = self._headers | _UPLOADED_HEADERS if uploaded else self._headers
        for name, value in added.items():
            headers[name] = value
        if secure:
            cookies = headers.getlist("set-cookie")
            del headers["set-cookie"]
            for cookie in cookies:
                marked = cookie if "secure" in cookie.lower() else f"{cookie}; Secure"
                headers.append("set-cookie", marked)


def _same_origin(headers: Headers) -> bool:
    """Whether the Origin, when one is given, names the host that is asked.

    Ports are not compared: a gateway on another port may not pass its own on.
    """
    origin = headers.get("origin")
    if origin is None:
        return True
    return urlsplit(origin).hostname == urlsplit(f"//{headers.get('host', '')}").hostname
