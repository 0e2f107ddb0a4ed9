"""People with passwords: their argon2 hashes, and a check that tells nothing of who exists."""

from __future__ import annotations

import hashlib
import json
import re
from dataclasses import dataclass, field

from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerificationError

from gpufleet_chat.settings import SettingsError

HASH = re.compile(r"\$argon2id\$v=19\$m=\d+,t=\d+,p=\d+\$[A-Za-z0-9+/]{11,}\$[A-Za-z0-9+/]{22,}")
NAME = re.compile(r"[\w.@+-]{1,128}")
# Longer ones only serve to keep the server busy.
LONGEST_PASSWORD = 1024
SHORTEST_PASSWORD = 8


@dataclass(frozen=True)
class User:
    """One person who may log in."""

    name: str
    hash: str = field(repr=False)

    @property
    def mark(self) -> str:
        """What a session carries of the password it began with: a new password ends it."""
        return hashlib.sha256(self.hash.encode()).hexdigest()[:16]


class Users:
    """All people with passwords; their names are compared without regard to case."""

    def __init__(self, users: list[User]) -> None:
        if not users:
            raise SettingsError("the credential users names nobody; add a user")
        self._users = {account(user.name): user for user in users}
        self._hasher = PasswordHasher()
        # For unknown names: as costly as the others, and no password fits.
        self._decoy = users[0].hash

    def find(self, name: str) -> User | None:
        """The user of this name."""
        return self._users.get(account(name))

    def check(self, name: str, password: str) -> User | None:
        """The user, when the password is theirs; costs the same for a name that nobody has."""
        user = self.find(name)
        right = self._fits(user.hash if user else self._decoy, password)
        return user if right else None

    def _fits(self, hashed: str, password: str) -> bool:
        try:
            return self._hasher.verify(hashed, password[: LONGEST_PASSWORD + 1]) and (
                len(password) <= LONGEST_PASSWORD
            )
        except (VerificationError, InvalidHashError):
            return False


def account(name: str) -> str:
    """What two spellings of one person's name have in common."""
    return name.strip().casefold()


def parse_users(text: str) -> Users:
    """Read the credential: a JSON list of objects with name and hash; raises SettingsError."""
    try:
        items = json.loads(text)
    except ValueError:
        raise SettingsError("the credential users is not JSON; render it again") from None
    if not isinstance(items, list):
        raise SettingsError("the credential users is no list; render it again")
    users: list[User] = []
    for item in items:
        name, hashed = (item.get("name"), item.get("hash")) if isinstance(item, dict) else (0, 0)
        if not isinstance(name, str) or not NAME.fullmatch(name):
            raise SettingsError(
                "a user's name must be of letters, digits and . _ @ + -, 128 at most; correct it"
            )
        if not isinstance(hashed, str) or not HASH.fullmatch(hashed):
            raise SettingsError(
                f'the hash of the user "{name}" is no argon2id hash; make one with --hash-password'
            )
        users.append(User(name, hashed))
    if len({account(user.name) for user in users}) < len(users):
        raise SettingsError("two users have the same name, but for its case; rename one")
    return Users(users)


def hash_password(password: str) -> str:
    """The hash to put into the inventory; raises ValueError for a password that is no use."""
    if not SHORTEST_PASSWORD <= len(password) <= LONGEST_PASSWORD:
        raise ValueError(
            f"a password has {SHORTEST_PASSWORD} to {LONGEST_PASSWORD} characters; choose another"
        )
    return PasswordHasher().hash(password)
