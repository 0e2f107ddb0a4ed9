# The provider has no type information.
# mypy: disable-error-code=import-untyped
"""Logging in at an identity provider that speaks OpenID Connect, by the real application."""

from __future__ import annotations

import json
from collections.abc import Iterator

import httpx
import pytest
from chat_process import ChatProcess, Page, Start
from fake_upstream import FakeUpstream
from oidc_provider_mock import User, run_server_in_thread

SECRET = "auth-secret-of-the-tests-0123456789"
CLIENT_SECRET = "client-secret-of-the-tests-0123456789"
# The provider's own.
pytestmark = pytest.mark.filterwarnings("ignore:get_jwt_config:DeprecationWarning")
PEOPLE = {
    "ann": {"email": "ann@example.com", "email_verified": True},
    "unverified": {"email": "ben@example.com", "email_verified": False},
    "stranger": {"email": "eve@example.net", "email_verified": True},
}


@pytest.fixture(scope="module")
def provider() -> Iterator[str]:
    """Return the address of a provider that knows these people."""
    known = [User(sub=name, claims=claims) for name, claims in PEOPLE.items()]
    with run_server_in_thread(user_claims=known) as server:
        yield f"http://localhost:{server.server_port}"


async def with_provider(start: Start, provider: str) -> ChatProcess:
    """A chat for the people of example.com, as the provider names them."""
    variables = {
        "OAUTH_GENERIC_CLIENT_ID": "chat",
        "OAUTH_GENERIC_CLIENT_SECRET": CLIENT_SECRET,
        "OAUTH_GENERIC_AUTH_URL": f"{provider}/oauth2/authorize",
        "OAUTH_GENERIC_TOKEN_URL": f"{provider}/oauth2/token",
        "OAUTH_GENERIC_USER_INFO_URL": f"{provider}/userinfo",
        "OAUTH_GENERIC_SCOPES": "openid email",
    }
    return await start(
        login="oauth",
        login_oauth_allowed=["@example.com"],
        credentials={"auth_secret": SECRET, "oauth": json.dumps(variables)},
    )


async def come_back(client: httpx.AsyncClient, chat: ChatProcess, name: str) -> str:
    """Be somebody at the provider, as in a browser; returns where the chat leads in the end."""
    gone = await client.get(f"{chat.url}/auth/oauth/generic")
    back = await client.post(gone.headers["location"], data={"sub": name})
    assert back.headers["location"].startswith(f"{chat.url}/auth/oauth/generic/callback?")
    return str((await client.get(back.headers["location"])).headers["location"])


async def test_a_person_of_the_provider_chats(
    start: Start, fake: FakeUpstream, provider: str
) -> None:
    chat = await with_provider(start, provider)
    async with httpx.AsyncClient(trust_env=False) as client:
        assert "/login/callback" in await come_back(client, chat, "ann")
        shown = await client.get(f"{chat.url}/user")
        token = client.cookies["access_token"]
    assert shown.json()["identifier"] == "ann@example.com"
    page = Page(chat.url, Cookie=f"access_token={token}")
    await page.open()
    await page.ask("Capital of France?")
    await page.sees("Paris.")
    await page.close()
    log = chat.log.read_text()
    assert "outcome=success method=oauth user=ann@example.com provider=generic" in log
    assert CLIENT_SECRET not in log


@pytest.mark.parametrize("name", ["unverified", "stranger"])
async def test_others_do_not(start: Start, provider: str, name: str) -> None:
    chat = await with_provider(start, provider)
    async with httpx.AsyncClient(trust_env=False) as client:
        assert "error=oauthSignin" in await come_back(client, chat, name)
        assert "access_token" not in client.cookies
        assert (await client.get(f"{chat.url}/user")).status_code == 401
    assert "outcome=failure method=oauth" in chat.log.read_text()


async def test_a_callback_is_for_the_browser_that_began(start: Start, provider: str) -> None:
    chat = await with_provider(start, provider)
    async with httpx.AsyncClient(trust_env=False) as attacker:
        gone = await attacker.get(f"{chat.url}/auth/oauth/generic")
        back = await attacker.post(gone.headers["location"], data={"sub": "ann"})
    async with httpx.AsyncClient(trust_env=False) as victim:
        led = await victim.get(back.headers["location"])
        assert "error=oauthSignin" in led.headers["location"]
        assert "access_token" not in victim.cookies
