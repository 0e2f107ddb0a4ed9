"""The login that a proxy has done: its word counts only with a secret that it shares with us."""

from __future__ import annotations

import hmac
from collections.abc import Sequence

from gpufleet_chat.users import NAME


class NotBelieved(Exception):
    """The headers prove nothing; the message says why, for the log."""


def identity(names: Sequence[str], proofs: Sequence[str], secret: str) -> str:
    """Who the proxy says asks: the values of its two headers as they came.

    Raises NotBelieved. A doubled header is one that the proxy added to a person's own.
    """
    if len(proofs) != 1:
        raise NotBelieved("no_secret" if not proofs else "doubled_secret")
    if not hmac.compare_digest(proofs[0].encode(), secret.encode()):
        raise NotBelieved("wrong_secret")
    if len(names) != 1:
        raise NotBelieved("no_name" if not names else "doubled_name")
    # Some proxies join doubled headers by a comma, which no name has.
    if not NAME.fullmatch(names[0]):
        raise NotBelieved("no_valid_name")
    return names[0]
