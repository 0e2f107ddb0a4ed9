"""Passwords are checked by their hashes, and a check tells nothing of who exists."""

from __future__ import annotations

import json
import time
from statistics import median

import pytest
from argon2 import PasswordHasher
from gpufleet_chat.settings import SettingsError
from gpufleet_chat.users import HASH, hash_password, parse_users

FAST = PasswordHasher(time_cost=1, memory_cost=8, parallelism=1)


def users(**passwords: str) -> str:
    """The credential for these people."""
    return json.dumps([{"name": name, "hash": FAST.hash(word)} for name, word in passwords.items()])


def test_right_passwords_only() -> None:
    people = parse_users(users(Anna="correct horse", ben="battery staple"))
    found = people.check(" anna", "correct horse")
    assert found is not None
    assert found.name == "Anna"
    assert people.check("anna", "battery staple") is None
    assert people.check("anna", "") is None
    # The decoy's own password opens nothing.
    assert people.check("nobody", "correct horse") is None


def test_a_long_password_is_not_cut() -> None:
    people = parse_users(users(anna="x" * 1024))
    assert people.check("anna", "x" * 1024)
    assert people.check("anna", "x" * 1025) is None


def test_unknown_people_cost_as_much_as_others() -> None:
    slow = PasswordHasher(time_cost=2, memory_cost=8192, parallelism=1).hash("correct horse")
    people = parse_users(json.dumps([{"name": "anna", "hash": slow}]))

    def seconds(name: str) -> float:
        started = time.process_time()
        people.check(name, "wrong")
        return time.process_time() - started

    known, unknown = (median(seconds(name) for _ in range(9)) for name in ("anna", "nobody"))
    assert 0.5 < unknown / known < 2


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("{", "is not JSON"),
        ("{}", "is no list"),
        ("[]", "names nobody; add a user"),
        ('[{"name": "a b", "hash": ""}]', "a user's name must be"),
        ('[{"name": "anna", "hash": "plain"}]', "make one with --hash-password"),
        ('[{"name": "anna", "hash": "$2b$12$abcdefghijklmnopqrstuv"}]', "no argon2id hash"),
        ('["anna"]', "a user's name must be"),
    ],
)
def test_wrong_lists_are_refused_without_the_secret(content: str, said: str) -> None:
    with pytest.raises(SettingsError) as raised:
        parse_users(content)
    assert said in str(raised.value)
    assert "$2b$" not in str(raised.value)


def test_one_name_is_one_person() -> None:
    with pytest.raises(SettingsError, match="same name"):
        parse_users(users(anna="correct horse", Anna="battery staple"))


def test_hashes_for_the_inventory() -> None:
    made = hash_password("correct horse")
    assert HASH.fullmatch(made)
    with pytest.raises(ValueError, match="8 to 1024"):
        hash_password("short")
    people = parse_users(json.dumps([{"name": "anna", "hash": made}]))
    assert people.check("anna", "correct horse")
    assert made not in repr(people.find("anna"))
