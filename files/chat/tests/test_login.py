# The Socket.IO client has no type information.
# mypy: disable-error-code=import-untyped
"""Logging in to the real application, and everything that must not get in."""

from __future__ import annotations

import asyncio
import json
import sys
import time
from typing import Any

import httpx
import jwt
import pytest
from argon2 import PasswordHasher
from chat_process import CHAT, ChatProcess, Page, Start, sign_session
from fake_upstream import FakeUpstream
from gpufleet_chat.login_throttle import PAIR
from gpufleet_chat.logins import PROBE_NAME
from gpufleet_chat.users import User
from socketio.exceptions import ConnectionError as Refused

SECRET = "auth-secret-of-the-tests-0123456789"
PROOF = "login-secret-of-the-proxy-0123456789"
HASHER = PasswordHasher(time_cost=1, memory_cost=8192, parallelism=1)
HASHES = {"Anna": HASHER.hash("correct horse"), "ben": HASHER.hash("battery staple")}
PASSWORDS = {"anna": "correct horse", "ben": "battery staple"}
USERS = json.dumps([{"name": name, "hash": hashed} for name, hashed in HASHES.items()])
PASSWORD = {"login": "password", "credentials": {"auth_secret": SECRET, "users": USERS}}
HEADER = {"login": "header", "credentials": {"auth_secret": SECRET, "login_secret": PROOF}}


async def log_in(chat: ChatProcess, name: str, password: str, **headers: str) -> httpx.Response:
    """Send the form of the login page."""
    async with httpx.AsyncClient(trust_env=False) as client:
        form = {"username": name, "password": password}
        return await client.post(f"{chat.url}/login", data=form, headers=headers)


async def cookie(chat: ChatProcess, name: str = "anna") -> str:
    """The session's token of somebody who has logged in."""
    response = await log_in(chat, name, PASSWORDS[name])
    assert response.status_code == 200, response.text
    return response.cookies["access_token"]


async def user(chat: ChatProcess, token: str) -> httpx.Response:
    """Who the application thinks asks."""
    async with httpx.AsyncClient(trust_env=False, cookies={"access_token": token}) as client:
        return await client.get(f"{chat.url}/user")


def page(chat: ChatProcess, token: str | None) -> Page:
    """A page with this session."""
    headers = {} if token is None else {"Cookie": f"access_token={token}"}
    return Page(chat.url, **headers)


def audit(chat: ChatProcess) -> list[str]:
    """The lines of logins."""
    return [line for line in chat.log.read_text().splitlines() if "event=login " in line]


async def test_in_with_the_password_and_out_again(start: Start, fake: FakeUpstream) -> None:
    chat = await start(**PASSWORD, login_session_hours=2)
    response = await log_in(chat, "anna", "correct horse")
    header = response.headers["set-cookie"]
    assert "HttpOnly" in header
    assert "SameSite=lax" in header
    assert "Max-Age=7200" in header
    assert "Secure" not in header
    token = response.cookies["access_token"]
    assert (await user(chat, token)).json()["identifier"] == "Anna"
    opened = page(chat, token)
    await opened.open()
    await opened.ask("Capital of France?")
    await opened.sees("Paris.")
    await opened.close()
    async with httpx.AsyncClient(trust_env=False, cookies={"access_token": token}) as client:
        gone = await client.post(f"{chat.url}/logout")
    assert gone.json() == {"success": True}
    assert 'access_token=""' in gone.headers["set-cookie"]
    lines = audit(chat)
    assert [line.split("event=login ")[1] for line in lines] == [
        "outcome=success method=password user=Anna address=127.0.0.1",
        "outcome=logout method=password user=Anna address=127.0.0.1",
    ]
    assert "correct horse" not in chat.log.read_text()


async def test_cookie_is_secure_under_https(start: Start) -> None:
    chat = await start(**PASSWORD)
    forwarded = {"X-Forwarded-Proto": "https", "X-Forwarded-For": "192.0.2.7"}
    response = await log_in(chat, "anna", "correct horse", **forwarded)
    assert "; Secure" in response.headers["set-cookie"]
    assert "address=192.0.2.7" in audit(chat)[-1]


async def test_limit_of_messages_counts_per_login(start: Start, fake: FakeUpstream) -> None:
    chat = await start(**PASSWORD, messages_per_minute=1)
    first, other = page(chat, await cookie(chat)), page(chat, await cookie(chat))
    someone = page(chat, await cookie(chat, "ben"))
    for opened in (first, other, someone):
        await opened.open()
    await first.ask("one")
    await first.sees("Paris.")
    # Another browser of the same person.
    await other.ask("two")
    await other.sees("ask again in")
    await someone.ask("three")
    await someone.sees("Paris.")
    for opened in (first, other, someone):
        await opened.close()


async def test_who_exists_shows_neither_in_words_nor_in_time(start: Start) -> None:
    # Far dearer than the request around it, lest that hides who was not looked up.
    hashed = PasswordHasher(time_cost=3, memory_cost=65536, parallelism=1).hash("correct horse")
    users = json.dumps([{"name": "Anna", "hash": hashed}])
    chat = await start(login="password", credentials={"auth_secret": SECRET, "users": users})
    answers: dict[str, tuple[object, list[str]]] = {}
    seconds: dict[str, list[float]] = {"anna": [], "nobody": []}
    # In turn and the fastest of each: another process on the machine only ever adds time.
    for number in range(9):
        for name, times in seconds.items():
            # From addresses of their own, lest the bound answers instead.
            forwarded = {"X-Forwarded-For": f"192.0.2.{number}"}
            started = time.perf_counter()
            response = await log_in(chat, name, "wrong", **forwarded)
            times.append(time.perf_counter() - started)
            assert response.status_code == 401
            answers[name] = (response.json(), sorted(response.headers.keys()))
    assert answers["anna"] == answers["nobody"]
    assert answers["anna"][0] == {"detail": "refused"}
    assert 0.5 < min(seconds["anna"]) / min(seconds["nobody"]) < 2
    # Whoever types the password into the field of the name does not find it in the log.
    assert "nobody" not in chat.log.read_text()


async def test_guessing_is_slowed_and_the_person_gets_in_from_elsewhere(start: Start) -> None:
    chat = await start(**PASSWORD)
    # All at once: none is looked at before the others have been counted.
    guesses = await asyncio.gather(*(log_in(chat, "anna", f"guess {n}") for n in range(20)))
    statuses = sorted(response.status_code for response in guesses)
    assert statuses == [401] * PAIR.free + [429] * (20 - PAIR.free)
    response = await log_in(chat, "anna", "correct horse")
    assert response.status_code == 429
    assert response.json() == {"detail": "wait5"}
    assert 1 <= int(response.headers["retry-after"]) <= 5
    elsewhere = {"X-Forwarded-For": "198.51.100.1"}
    assert (await log_in(chat, "anna", "correct horse", **elsewhere)).status_code == 200
    # A name that nobody has is treated alike.
    other = {"X-Forwarded-For": "203.0.113.1"}
    unknown = [(await log_in(chat, "nobody", "x", **other)).status_code for _ in range(6)]
    assert unknown == [401] * PAIR.free + [429]
    throttled = [line for line in audit(chat) if "outcome=throttled" in line]
    assert "user=Anna" in throttled[0]
    assert "seconds=" in throttled[0]


def forged() -> dict[str, str]:
    """Tokens that must not be taken; each wrong in one thing."""
    mark = User("Anna", HASHES["Anna"]).mark
    now = int(time.time())
    claims = {
        "identifier": "Anna",
        "display_name": None,
        "metadata": {"login": mark},
        "iat": now,
        "exp": now + 600,
    }
    lasting = {name: value for name, value in claims.items() if name != "exp"}
    return {
        "genuine": jwt.encode(claims, SECRET, "HS256"),
        "wrong signature": jwt.encode(claims, "another-secret-0123456789-0123456789", "HS256"),
        "empty secret": jwt.encode(claims, "", "none"),
        "no signature": jwt.encode(claims, SECRET, "HS256").rpartition(".")[0] + ".",
        "expired": jwt.encode(claims | {"exp": now - 1}, SECRET, "HS256"),
        "without end": jwt.encode(lasting, SECRET, "HS256"),
        "another person": jwt.encode(claims | {"identifier": "ben"}, SECRET, "HS256"),
        "unknown person": jwt.encode(claims | {"identifier": "eve"}, SECRET, "HS256"),
        "without mark": jwt.encode(claims | {"metadata": {}}, SECRET, "HS256"),
        "older password": jwt.encode(claims | {"metadata": {"login": "0" * 16}}, SECRET, "HS256"),
        "no token": "x",
        "nothing": "",
    }


async def test_forged_cookies_open_nothing(start: Start, fake: FakeUpstream) -> None:
    chat = await start(**PASSWORD)
    tokens = forged()
    genuine = tokens.pop("genuine")
    assert (await user(chat, genuine)).status_code == 200
    for kind, token in tokens.items():
        assert (await user(chat, token)).status_code == 401, kind
        opened = page(chat, token)
        with pytest.raises(Refused):
            await opened.open()
        async with httpx.AsyncClient(trust_env=False, cookies={"access_token": token}) as client:
            upload = await client.post(
                f"{chat.url}/project/file",
                params={"session_id": opened.session_id},
                files={"file": ("a.txt", b"text", "text/plain")},
            )
            assert upload.status_code == 401, kind
    missing = page(chat, None)
    with pytest.raises(Refused):
        await missing.open()
    assert fake.requests == []


async def test_a_session_cannot_be_prolonged_by_itself(start: Start) -> None:
    chat = await start(**PASSWORD)
    bearer = {"Authorization": f"Bearer {await cookie(chat)}"}
    async with httpx.AsyncClient(trust_env=False) as client:
        response = await client.post(f"{chat.url}/auth/jwt", headers=bearer)
    assert response.status_code == 404
    assert "set-cookie" not in response.headers


@pytest.mark.parametrize("settings", [PASSWORD, HEADER])
async def test_a_check_chats_in_a_session_that_it_signs(
    start: Start, fake: FakeUpstream, settings: dict[str, Any]
) -> None:
    chat = await start(**settings)
    opened = page(chat, sign_session(SECRET))
    await opened.open()
    await opened.ask("Capital of France?")
    await opened.sees("Paris.")
    await opened.close()
    assert (await user(chat, sign_session("another-secret-0123456789"))).status_code == 401


async def test_nobody_is_called_as_a_check_is(start: Start) -> None:
    chat = await start(**HEADER)
    response = await proxied(chat, (NAME_HEADER, PROBE_NAME), (PROOF_HEADER, PROOF))
    assert response.status_code == 401
    assert "reason=no_valid_name" in audit(chat)[-1]


async def proxied(chat: ChatProcess, *headers: tuple[str, str]) -> httpx.Response:
    """Open the login page as a proxy does, or somebody who pretends to be one."""
    async with httpx.AsyncClient(trust_env=False) as client:
        return await client.post(f"{chat.url}/auth/header", headers=list(headers))


NAME_HEADER, PROOF_HEADER = "X-Forwarded-User", "X-Login-Secret"


async def test_the_proxy_names_the_person(start: Start) -> None:
    chat = await start(**HEADER)
    response = await proxied(chat, (NAME_HEADER, "anna@example.com"), (PROOF_HEADER, PROOF))
    assert response.status_code == 200
    token = response.cookies["access_token"]
    assert (await user(chat, token)).json()["identifier"] == "anna@example.com"
    assert "outcome=success method=header user=anna@example.com" in audit(chat)[-1]
    assert PROOF not in chat.log.read_text()


@pytest.mark.parametrize(
    ("headers", "reason"),
    [
        ([(NAME_HEADER, "anna")], "no_secret"),
        ([(NAME_HEADER, "anna"), (PROOF_HEADER, "x" * 36)], "wrong_secret"),
        ([(NAME_HEADER, "eve"), (NAME_HEADER, "anna"), (PROOF_HEADER, PROOF)], "doubled_name"),
        ([(NAME_HEADER, "anna"), (PROOF_HEADER, "x"), (PROOF_HEADER, PROOF)], "doubled_secret"),
        ([(NAME_HEADER, "eve,anna"), (PROOF_HEADER, PROOF)], "no_valid_name"),
        ([(PROOF_HEADER, PROOF)], "no_name"),
    ],
)
async def test_header_login_is_not_spoofed(
    start: Start, headers: list[tuple[str, str]], reason: str
) -> None:
    chat = await start(**HEADER)
    response = await proxied(chat, *headers)
    assert response.status_code == 401
    assert "set-cookie" not in response.headers or "access_token" not in str(response.headers)
    assert f"outcome=failure method=header user=(unknown) reason={reason}" in audit(chat)[-1]
    # Nor do the headers open a socket.
    opened = Page(chat.url, **dict(headers))
    with pytest.raises(Refused):
        await opened.open()


async def test_a_session_is_not_for_the_next_person_at_the_proxy(start: Start) -> None:
    chat = await start(**HEADER)
    anna = {"X-Forwarded-User": "anna", "X-Login-Secret": PROOF}
    token = (await proxied(chat, *anna.items())).cookies["access_token"]
    # Ben logs in at the proxy with the browser that has Anna's cookie.
    ben = {**anna, "X-Forwarded-User": "ben"}
    claimed = {"X-Forwarded-User": "ben"}
    for headers, status in (({}, 200), (anna, 200), (claimed, 200), (ben, 401)):
        async with httpx.AsyncClient(trust_env=False, cookies={"access_token": token}) as client:
            asked = await client.get(f"{chat.url}/user", headers=headers)
        assert asked.status_code == status, headers
        opened = Page(chat.url, Cookie=f"access_token={token}", **headers)
        if status == 200:
            await opened.open()
            await opened.close()
        else:
            with pytest.raises(Refused):
                await opened.open()
    # A check of the chat has no name of the proxy.
    check = httpx.AsyncClient(trust_env=False, cookies={"access_token": sign_session(SECRET)})
    assert (await check.get(f"{chat.url}/user", headers=ben)).status_code == 200
    await check.aclose()


async def test_header_is_nothing_where_people_have_passwords(start: Start) -> None:
    chat = await start(**PASSWORD)
    response = await proxied(chat, (NAME_HEADER, "anna"), (PROOF_HEADER, PROOF))
    assert response.status_code == 400


async def test_oauth_leads_to_the_provider(start: Start) -> None:
    variables = {
        "OAUTH_GITHUB_CLIENT_ID": "client-of-the-tests",
        "OAUTH_GITHUB_CLIENT_SECRET": "secret-of-the-provider",
    }
    chat = await start(
        login="oauth",
        login_oauth_allowed=["@example.com"],
        credentials={"auth_secret": SECRET, "oauth": json.dumps(variables)},
    )
    async with httpx.AsyncClient(trust_env=False) as client:
        offered = (await client.get(f"{chat.url}/auth/config")).json()
        redirect = await client.get(f"{chat.url}/auth/oauth/github")
        # Without the cookie of the one who began.
        stray = await client.get(f"{chat.url}/auth/oauth/github/callback?code=x&state=y")
    assert offered["oauthProviders"] == ["github"]
    assert redirect.headers["location"].startswith("https://github.com/login/oauth/authorize")
    assert "oauth_state" in redirect.headers["set-cookie"]
    assert "error=oauthSignin" in stray.headers["location"]
    assert "secret-of-the-provider" not in chat.log.read_text()
    with pytest.raises(Refused):
        await Page(chat.url).open()


async def test_the_page_has_the_texts(start: Start) -> None:
    chat = await start(**PASSWORD)
    async with httpx.AsyncClient(trust_env=False) as client:
        for language, name, wait in (
            ("en-US", "User name", "in 2 minutes"),
            ("zh-CN", "用户名", "2 分钟"),
            ("de-DE", "E-Mail", "in 2 minutes"),
        ):
            url = f"{chat.url}/project/translations?language={language}"
            login = (await client.get(url)).json()["translation"]["auth"]["login"]
            assert name in login["form"]["email"]["label"]
            assert wait in login["errors"]["wait120"]
            assert login["errors"]["refused"]


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"login": "password", "credentials": {"auth_secret": SECRET}}, '"users" is missing'),
        ({"login": "password", "credentials": {"users": USERS}}, '"auth_secret" is missing'),
        ({"login": "header", "credentials": {"auth_secret": SECRET}}, '"login_secret" is missing'),
        ({**PASSWORD, "credentials": {"auth_secret": "short", "users": USERS}}, "fewer than 16"),
        ({"login": "ldap"}, '"login" must be one of'),
        ({"login": "oauth", "credentials": {"auth_secret": SECRET}}, '"login_oauth_allowed" is'),
    ],
)
async def test_wrong_settings_do_not_start(
    start: Start, settings: dict[str, Any], said: str
) -> None:
    with pytest.raises(RuntimeError, match=said):
        await start(**settings)


async def test_hash_of_a_password_from_standard_input() -> None:
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "gpufleet_chat",
        "--hash-password",
        cwd=CHAT,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
    )
    output, _ = await process.communicate(b"correct horse\n")
    assert process.returncode == 0
    assert PasswordHasher().verify(output.decode().strip(), "correct horse")
