# Copyright: The gpufleet maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""How names are compared: the nearest known one, typing errors, and names of secrets."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Mapping

_SECRET_WORDS = {"key", "token", "secret", "password", "passwd", "passphrase", "credential"}


def nearest(name: str, known: Iterable[str]) -> str | None:
    """Return the known name that looks most like `name`, or None when none does."""
    found = difflib.get_close_matches(name, list(known), n=1, cutoff=0.6)
    return found[0] if found else None


def one_typo_apart(one: str, other: str) -> bool:
    """Whether one letter was forgotten, added, exchanged, or swapped with its neighbour."""
    if one == other or abs(len(one) - len(other)) > 1:
        return False
    short, long = sorted((one, other), key=len)
    same = 0
    while same < len(short) and short[same] == long[same]:
        same += 1
    if len(short) < len(long):
        return short[same:] == long[same + 1 :]
    swapped = long[same + 1 : same + 2] + long[same : same + 1] + long[same + 2 :]
    return short[same + 1 :] == long[same + 1 :] or short[same:] == swapped


def looks_secret(name: str) -> bool:
    """Whether a variable, key or environment variable of this name may hold a secret."""
    return not _SECRET_WORDS.isdisjoint(re.split(r"[^a-z0-9]+", name.lower()))


def item_path(variable: str, index: int, item: object) -> str:
    """Path of one item of a list variable: by its `name` where it has one, else by position."""
    name = item.get("name") if isinstance(item, Mapping) else None
    return f"{variable}[{name if isinstance(name, str) and name else index}]"


def generic(path: str) -> str:
    """The path without the names or positions of items: `vllm_instances[qwen3].port` and all."""
    return re.sub(r"\[[^\]]*\]", "[]", path)


def shown(path: str, value: object) -> str:
    """`value` for a message, unless its path says that it may be a secret."""
    if looks_secret(path):
        return "a secret, not shown here"
    text = f'"{value}"' if isinstance(value, str) else f"{value}"
    return text if len(text) <= 60 else f"{text[:57]}..."
