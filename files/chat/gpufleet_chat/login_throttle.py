"""How often somebody may try to log in: free attempts first, then a wait that doubles."""

from __future__ import annotations

import ipaddress
import math
import time
from collections.abc import Callable
from dataclasses import dataclass

# Whoever has not tried for so long begins anew.
FORGET_SECONDS = 3600.0
MOST_KEYS = 20_000


@dataclass(frozen=True)
class Bound:
    """Attempts without a wait; then the first wait, doubled each time, up to the longest."""

    free: int
    first_seconds: float
    longest_seconds: float

    def wait(self, attempts: int) -> float:
        """The seconds from the last of these attempts to the next one."""
        over = attempts - self.free
        if over < 0:
            return 0.0
        return min(self.longest_seconds, self.first_seconds * 2.0 ** min(over, 30))


# One account from one address; one address over all accounts; one account from everywhere. The
# last is loose and its wait short, so that no stranger can lock a person out.
PAIR = Bound(5, 5.0, 900.0)
ADDRESS = Bound(20, 5.0, 900.0)
ACCOUNT = Bound(100, 5.0, 60.0)


@dataclass
class _Attempts:
    count: int
    last: float


class LoginThrottle:
    """Counts attempts without success, for accounts that exist and those that do not."""

    def __init__(
        self, clock: Callable[[], float] = time.monotonic, most_keys: int = MOST_KEYS
    ) -> None:
        self._clock = clock
        self._most_keys = most_keys
        self._attempts: dict[str, _Attempts] = {}

    def __len__(self) -> int:
        """How many counts are kept."""
        return len(self._attempts)

    def take(self, account: str, address: str) -> int:
        """Count an attempt and return 0, or return the whole seconds until one is allowed.

        Counted before the password is looked at: many attempts at once are not one.
        """
        now = self._clock()
        self._forget(now)
        bounds = _bounds(account, address)
        waits = [self._wait(key, bound, now) for key, bound in bounds.items()]
        if max(waits) > 0:
            return math.ceil(max(waits))
        for key in bounds:
            # Whoever tried last stands last, so that the oldest are found without a search.
            attempts = self._attempts.pop(key, _Attempts(0, now))
            self._attempts[key] = _Attempts(attempts.count + 1, now)
        return 0

    def succeeded(self, account: str, address: str) -> None:
        """The attempt was a right one: it does not count, and this person begins anew here."""
        pair, *others = _bounds(account, address)
        self._attempts.pop(pair, None)
        for key in others:
            attempts = self._attempts.get(key)
            if attempts is not None:
                attempts.count -= 1

    def _wait(self, key: str, bound: Bound, now: float) -> float:
        attempts = self._attempts.get(key)
        return 0.0 if attempts is None else attempts.last + bound.wait(attempts.count) - now

    def _forget(self, now: float) -> None:
        while self._attempts:
            key, oldest = next(iter(self._attempts.items()))
            if oldest.last > now - FORGET_SECONDS and len(self._attempts) <= self._most_keys - 3:
                break
            del self._attempts[key]


def _bounds(account: str, address: str) -> dict[str, Bound]:
    network = _network(address)
    # The name is typed by a stranger and may be of any length.
    account = account[:128]
    return {
        f"pair {network} {account}": PAIR,
        f"address {network}": ADDRESS,
        f"account {account}": ACCOUNT,
    }


def _network(address: str) -> str:
    """One customer's addresses: with IPv6 they have 2 to the power of 64 of them."""
    try:
        parsed = ipaddress.ip_address(address)
    except ValueError:
        return address
    if parsed.version == 4:
        return address
    if parsed.ipv4_mapped is not None:
        return str(parsed.ipv4_mapped)
    return str(ipaddress.ip_network((parsed.packed[:8] + bytes(8), 64)))
