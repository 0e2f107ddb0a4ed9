"""Who may use the chat, by which proof; each login, refusal and logout is one line of the log."""

from __future__ import annotations

import asyncio
import hashlib
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from gpufleet_chat import oauth_login, proxy_login
from gpufleet_chat.login_throttle import LoginThrottle
from gpufleet_chat.logs import event
from gpufleet_chat.settings import Secrets, Settings, SettingsError
from gpufleet_chat.users import Users, account, parse_users

log = logging.getLogger(__name__)

SHORTEST_SECRET = 16
# The name of sessions that a check signs with auth_secret itself (llm_health does). The space keeps
# it from every name of users and proxies.
PROBE_NAME = "gpufleet probe"
# One check of a password takes a core, and the memory that its hash asks for.
CHECKS_AT_ONCE = 2
CHECKS_WAITING = 50
BUSY_SECONDS = 5


class LoginRefused(Exception):
    """The proof is not good enough; it is not told what was wrong with it."""


class TooManyLogins(LoginRefused):
    """Not looked at: seconds is how long to wait."""

    def __init__(self, seconds: int) -> None:
        super().__init__(seconds)
        self.seconds = seconds


@dataclass(frozen=True)
class Login:
    """A person who is in; mark ties the session to the proof that it began with."""

    name: str
    mark: str


class Logins:
    """The one way to log in that the settings name: password, header or oauth."""

    def __init__(
        self, settings: Settings, secrets: Secrets, throttle: LoginThrottle | None = None
    ) -> None:
        self.method = settings.login
        self._settings = settings
        self._throttle = throttle or LoginThrottle()
        self._users: Users | None = None
        self._secret = ""
        self.environment: dict[str, str] = {}
        self._checks = asyncio.Semaphore(CHECKS_AT_ONCE)
        self._checks_waiting = 0
        if self.method == "none":
            return
        _strong("auth_secret", secrets.auth_secret)
        if self.method == "password":
            self._users = parse_users(_given("users", secrets.users))
        elif self.method == "header":
            self._secret = _strong("login_secret", secrets.login_secret)
        else:
            self.environment = oauth_login.parse_environment(_given("oauth", secrets.oauth))

    async def by_password(self, name: str, password: str, address: str) -> Login:
        """The person with this name and password; raises LoginRefused."""
        if self._users is None:
            raise LoginRefused
        known = self._users.find(name)
        # Not the name that was typed: it may be a password in the wrong field.
        shown = known.name if known else "(unknown)"
        seconds = self._throttle.take(account(name), address)
        if not seconds and self._checks_waiting >= CHECKS_WAITING:
            seconds = BUSY_SECONDS
        if seconds:
            self._note("throttled", shown, address, seconds=seconds)
            raise TooManyLogins(seconds)
        self._checks_waiting += 1
        try:
            async with self._checks:
                user = await asyncio.to_thread(self._users.check, name, password)
        finally:
            self._checks_waiting -= 1
        if user is None:
            self._note("failure", shown, address)
            raise LoginRefused
        self._throttle.succeeded(account(name), address)
        self._note("success", user.name, address)
        return Login(user.name, user.mark)

    def by_header(self, names: Sequence[str], proofs: Sequence[str], address: str) -> Login:
        """The person whom the proxy names; raises LoginRefused."""
        try:
            name = proxy_login.identity(names, proofs, self._secret)
        except proxy_login.NotBelieved as error:
            # The name that is claimed was not proven.
            self._note("failure", "(unknown)", address, reason=str(error))
            raise LoginRefused from None
        self._note("success", name, address)
        return Login(name, self._mark(name))

    def proven(self, names: Sequence[str], proofs: Sequence[str]) -> str | None:
        """The person whom the proxy names with a request; None where it does not."""
        if self.method != "header":
            return None
        try:
            return proxy_login.identity(names, proofs, self._secret)
        except proxy_login.NotBelieved:
            return None

    def by_provider(
        self, provider: str, identifier: str, raw: Mapping[str, object], address: str
    ) -> Login:
        """The person whom the identity provider names; raises LoginRefused."""
        allowed = oauth_login.allowed(identifier, raw, self._settings.login_oauth_allowed)
        if not allowed or identifier == PROBE_NAME:
            self._note("failure", identifier, address, provider=provider, reason="not_allowed")
            raise LoginRefused
        self._note("success", identifier, address, provider=provider)
        return Login(identifier, self._mark(identifier))

    def holds(self, name: str, mark: object) -> bool:
        """Whether a session that began with this login may still go on."""
        if name == PROBE_NAME:
            # Its signature is its proof.
            return True
        if self._users is not None:
            user = self._users.find(name)
            return user is not None and mark == user.mark
        if self.method == "oauth" and not oauth_login.allowed(
            name, {}, self._settings.login_oauth_allowed
        ):
            return False
        return mark == self._mark(name)

    def left(self, name: str, address: str) -> None:
        """A person has logged out."""
        self._note("logout", name, address)

    def _mark(self, name: str) -> str:
        # A new secret of the proxy ends the sessions that the old one has begun.
        return hashlib.sha256(f"{self.method} {self._secret} {name}".encode()).hexdigest()[:16]

    def _note(self, outcome: str, user: str, address: str, **more: object) -> None:
        fields = {"outcome": outcome, "method": self.method, "user": user[:128], **more}
        level = logging.INFO if outcome in ("success", "logout") else logging.WARNING
        log.log(level, event("login", **fields, address=address))


def _given(name: str, value: str | None) -> str:
    if not value:
        raise SettingsError(f'the credential "{name}" is missing; this way to log in needs it')
    return value


def _strong(name: str, value: str | None) -> str:
    secret = _given(name, value)
    if len(secret) < SHORTEST_SECRET:
        raise SettingsError(
            f'the credential "{name}" has fewer than {SHORTEST_SECRET} characters; '
            "`openssl rand -hex 24` makes one"
        )
    return secret
