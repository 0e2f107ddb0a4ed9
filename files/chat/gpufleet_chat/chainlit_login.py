# mypy: untyped-calls-exclude=chainlit
"""The adapter's part of logging in: Chainlit's hooks, and what its sessions must still prove."""

from __future__ import annotations

import chainlit.auth
from chainlit.auth import get_token_from_cookies
from chainlit.auth.jwt import decode_jwt
from chainlit.config import config
from chainlit.user import User
from fastapi import HTTPException, Request, Response
from starlette.datastructures import Headers

from gpufleet_chat import services
from gpufleet_chat.client_address import client_address
from gpufleet_chat.login_texts import REFUSED, wait_key
from gpufleet_chat.logins import PROBE_NAME, Login, LoginRefused, TooManyLogins
from gpufleet_chat.proven_name import proven_name

_parts = services.current()
_logins = _parts.logins


async def by_password(name: str, password: str) -> User:
    """The form of the login page was sent."""
    try:
        return _user(await _logins.by_password(name, password, client_address()))
    except LoginRefused as refusal:
        raise _refusal(refusal) from None


async def by_header(headers: Headers) -> User:
    """The login page was opened behind a proxy that logs people in."""
    settings = _parts.settings
    names = headers.getlist(settings.login_header)
    proofs = headers.getlist(settings.login_secret_header)
    try:
        return _user(_logins.by_header(names, proofs, client_address()))
    except LoginRefused as refusal:
        raise _refusal(refusal) from None


async def by_provider(
    provider: str, _token: str, raw: dict[str, str], user: User, _id_token: str | None = None
) -> User | None:
    """A person has come back from the identity provider."""
    try:
        login = _logins.by_provider(provider, user.identifier, raw, client_address())
    except LoginRefused:
        return None
    return _user(login)


async def on_logout(request: Request, _response: Response) -> dict[str, bool]:
    """The cookie is being cleared."""
    try:
        user = session_user(get_token_from_cookies(request.cookies) or "")
    except Exception:  # whatever is wrong with the cookie, nobody was logged in
        user = None
    if user is not None:
        _logins.left(user.identifier, client_address())
    return {"success": True}


def session_user(token: str) -> User:
    """The person of a session's token; raises for one that is forged, old, or has lost its right.

    Chainlit's tokens outlive the person's removal and every change of the password.
    """
    user: User = decode_jwt(token)
    if not _logins.holds(user.identifier, user.metadata.get("login")):
        raise ValueError("the login of this session holds no more")
    # Somebody else has logged in at the proxy, in the same browser.
    if user.identifier != PROBE_NAME and proven_name() not in (None, user.identifier):
        raise ValueError("the proxy names another person")
    return user


def _user(login: Login) -> User:
    return User(identifier=login.name, metadata={"login": login.mark})


def _refusal(refusal: LoginRefused) -> HTTPException:
    if isinstance(refusal, TooManyLogins):
        retry = {"Retry-After": str(refusal.seconds)}
        return HTTPException(429, wait_key(refusal.seconds), headers=retry)
    return HTTPException(401, REFUSED)


# Not by Chainlit's decorators, which swallow the refusals and their reasons.
if _logins.method == "password":
    config.code.password_auth_callback = by_password
elif _logins.method == "header":
    config.code.header_auth_callback = by_header
elif _logins.method == "oauth":
    config.code.oauth_callback = by_provider
if _logins.method != "none":
    config.code.on_logout = on_logout
    # The name by which Chainlit looks at every cookie, of requests and of sockets.
    vars(chainlit.auth)["decode_jwt"] = session_user
