"""The login at an identity provider: which of its people are ours."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence

from gpufleet_chat.settings import SettingsError

# Chainlit reads these when it is imported; any other name could change how the process runs.
_VARIABLE = re.compile(r"OAUTH_[A-Z0-9_]+|CHAINLIT_URL")
# It sends people back by a form from its own site, which is refused as every request of another.
_HYBRID = "OAUTH_AZURE_AD_HYBRID_"
_VERIFIED = ("email_verified", "verified_email")


def parse_environment(text: str) -> dict[str, str]:
    """Read the credential: a JSON object of the providers' variables; raises SettingsError."""
    try:
        values = json.loads(text)
    except ValueError:
        raise SettingsError("the credential oauth is not JSON; render it again") from None
    if not isinstance(values, dict) or not any(name.startswith("OAUTH_") for name in values):
        raise SettingsError("the credential oauth names no provider; give its OAUTH_ variables")
    for name, value in values.items():
        if not _VARIABLE.fullmatch(name) or not isinstance(value, str):
            raise SettingsError(
                f'"{name}" in the credential oauth must be an OAUTH_ variable or CHAINLIT_URL, '
                "with a text; correct it"
            )
        if name.startswith(_HYBRID):
            raise SettingsError(
                f'nobody could log in by "{name}" in the credential oauth; use the variables '
                "OAUTH_AZURE_AD_* instead"
            )
    return values


def allowed(identifier: str, raw: Mapping[str, object], people: Sequence[str]) -> bool:
    """Whether this person of the provider may use the chat.

    People are names, domains as in @example.com, or * for everyone whom the provider knows. An
    address that the provider has not verified is anybody's.
    """
    if any(raw.get(key) in (False, "false") for key in _VERIFIED):
        return False
    name = identifier.casefold()
    domain = "@" + name.rpartition("@")[2] if "@" in name else None
    return any(person.casefold() in ("*", name, domain) for person in people)
