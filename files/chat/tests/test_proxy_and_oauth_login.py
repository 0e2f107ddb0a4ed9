"""Whose word counts: that of a proxy with the secret, and that of a provider for our people."""

from __future__ import annotations

import pytest
from gpufleet_chat.logins import PROBE_NAME, LoginRefused, Logins
from gpufleet_chat.oauth_login import allowed, parse_environment
from gpufleet_chat.proxy_login import NotBelieved, identity
from gpufleet_chat.settings import Secrets, Settings, SettingsError

SECRET = "s" * 32


def test_the_proxy_is_believed_with_its_secret() -> None:
    assert identity(["anna@example.com"], [SECRET], SECRET) == "anna@example.com"


@pytest.mark.parametrize(
    ("names", "proofs", "why"),
    [
        (["anna"], [], "no_secret"),
        (["anna"], [""], "wrong_secret"),
        (["anna"], ["x" * 32], "wrong_secret"),
        (["anna"], [SECRET + "é"], "wrong_secret"),
        (["anna"], [SECRET, SECRET], "doubled_secret"),
        ([], [SECRET], "no_name"),
        (["root", "anna"], [SECRET], "doubled_name"),
        (["root,anna"], [SECRET], "no_valid_name"),
        (["root, anna"], [SECRET], "no_valid_name"),
        ([""], [SECRET], "no_valid_name"),
        (["a" * 129], [SECRET], "no_valid_name"),
    ],
)
def test_anybody_else_is_not(names: list[str], proofs: list[str], why: str) -> None:
    with pytest.raises(NotBelieved, match=why):
        identity(names, proofs, SECRET)


@pytest.mark.parametrize(
    ("identifier", "raw", "people", "expected"),
    [
        ("Anna@Example.com", {}, ["@example.com"], True),
        ("anna@example.com", {}, ["anna@example.com"], True),
        ("anna", {}, ["*"], True),
        ("anna@example.com.evil.net", {}, ["@example.com"], False),
        ("anna@evilexample.com", {}, ["@example.com"], False),
        ("anna@example.com", {"email_verified": False}, ["*"], False),
        ("anna@example.com", {"verified_email": False}, ["@example.com"], False),
        ("example.com", {}, ["@example.com"], False),
        ("anna", {}, [], False),
    ],
)
def test_only_our_people(
    identifier: str, raw: dict[str, object], people: list[str], expected: bool
) -> None:
    assert allowed(identifier, raw, people) is expected


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("x", "is not JSON"),
        ("{}", "names no provider"),
        ('{"OAUTH_X_CLIENT_ID": 5}', '"OAUTH_X_CLIENT_ID"'),
        ('{"OAUTH_X_CLIENT_ID": "a", "LD_PRELOAD": "b"}', '"LD_PRELOAD"'),
        ('{"OAUTH_AZURE_AD_HYBRID_CLIENT_ID": "a"}', r"use the variables OAUTH_AZURE_AD_\*"),
    ],
)
def test_only_the_variables_of_providers(content: str, said: str) -> None:
    with pytest.raises(SettingsError, match=said):
        parse_environment(content)


def test_the_provider_beside_it_is_taken() -> None:
    assert parse_environment('{"OAUTH_AZURE_AD_CLIENT_ID": "a"}')


def test_no_provider_names_a_check() -> None:
    settings = Settings("http://127.0.0.1:9", "/nowhere", login="oauth", login_oauth_allowed=("*",))
    secrets = Secrets(auth_secret=SECRET, oauth='{"OAUTH_GITHUB_CLIENT_ID": "a"}')
    logins = Logins(settings, secrets)
    assert logins.by_provider("github", "anna", {}, "192.0.2.1").name == "anna"
    with pytest.raises(LoginRefused):
        logins.by_provider("github", PROBE_NAME, {}, "192.0.2.1")
