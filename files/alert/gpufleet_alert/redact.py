"""Takes out of a line what must not leave the host: secrets, and what people have asked."""

from __future__ import annotations

import re
from collections.abc import Iterable

_STARS = "***"
_CONTROL = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]|[\x00-\x08\x0a-\x1f\x7f]")
# From here on the line is a conversation.
_PROMPT = re.compile(
    r"""(?i)(?<![a-z_])(["']?(?:prompt|prompts|prompt_token_ids|messages|content|input|inputs)["']?"""
    r"""\s*[=:]).*"""
)
_SECRETS = [
    # name=value, name: value, 'name': ['value', …]
    (
        re.compile(
            r"""(?i)((?:api[_-]?key|token|secret|passw(?:or)?d|passphrase|credential|authorization)s?"""
            r"""(?<!tokens)["']?\s*[=:]\s*)(?:\[[^\]]*\]?|(?:(?:bearer|basic)\s+)?["']?[^\s"',;]+)"""
        ),
        rf"\1{_STARS}",
    ),
    (re.compile(r"(?i)\b(bearer\s+)\S+"), rf"\1{_STARS}"),
    (re.compile(r"(://)[^/\s@]+@"), rf"\1{_STARS}@"),
    (re.compile(r"(?i)([?&](?:key|sign|sig|auth)=)[^&\s\"']+"), rf"\1{_STARS}"),
    (re.compile(r"\b(?:sk-|hf_|ghp_|xox[a-z]-)[\w-]{8,}"), _STARS),
]


def clean(text: str) -> str:
    """One printable line of `text` without secrets and prompts."""
    line = _CONTROL.sub(" ", text)
    for pattern, instead in _SECRETS:
        line = pattern.sub(instead, line)
    return _PROMPT.sub(r"\1 [left out]", line).strip()


def without(text: str, secrets: Iterable[str]) -> str:
    """One printable line of `text` with each of the secrets replaced by stars."""
    for secret in sorted(secrets, key=len, reverse=True):
        text = text.replace(secret, _STARS)
    return clean(text)
