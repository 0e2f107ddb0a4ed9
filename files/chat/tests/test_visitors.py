"""Whom a question counts for."""

from __future__ import annotations

import pytest
from gpufleet_chat.visitors import COOKIE, person

BROWSER = "a" * 22
SCOPE = {"client": ("192.0.2.7", 1234)}


@pytest.mark.parametrize(
    ("login", "cookies", "expected"),
    [
        ("anna", f"{COOKIE}={BROWSER}", "login anna"),
        (None, f"x=1; {COOKIE}={BROWSER}", f"browser {BROWSER}"),
        (None, "", "address 192.0.2.7"),
        # Not of the form that the chat gives.
        (None, f"{COOKIE}=short", "address 192.0.2.7"),
        (None, f"{COOKIE}={'a' * 5000}", "address 192.0.2.7"),
    ],
)
def test_person(login: str | None, cookies: str, expected: str) -> None:
    assert person(login, {"HTTP_COOKIE": cookies, "asgi.scope": SCOPE}) == expected


def test_kinds_never_meet() -> None:
    assert person(BROWSER, {}) != person(None, {"HTTP_COOKIE": f"{COOKIE}={BROWSER}"})
    assert person(None, {}) == "address unknown"
