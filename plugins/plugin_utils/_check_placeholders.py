# Copyright: The gpufleet maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Was a value of the examples left as it was?"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping

from ansible_collections.gpufleet.llm.plugins.plugin_utils._findings import Finding
from ansible_collections.gpufleet.llm.plugins.plugin_utils._fleet import Host
from ansible_collections.gpufleet.llm.plugins.plugin_utils._names import item_path, looks_secret

_WORDS = re.compile(r"REPLACE_|CHANGE_?ME|example-password", re.IGNORECASE)
# <commit> as a whole, or as a part of an address.
_BRACKETS = re.compile(r"<[A-Za-z][\w .-]*>|\w+://\S*<[A-Za-z]\S*")
# Where angle brackets mean something: vLLM's own options, what models are asked, patterns.
_FREE = re.compile(r"options\.|\.prompt$|\.expect$|_system_prompt$")


def check_placeholders(host: Host) -> list[Finding]:
    """Findings for every text in the host's variables that stands for another one."""
    return [
        Finding(
            host.name,
            path,
            "It is still a placeholder" + ("." if looks_secret(path) else f": {text}."),
            "Put your own value in its place.",
        )
        for name, value in host.values.items()
        for path, text in _texts(name, value)
        if is_placeholder(path, text)
    ]


def is_placeholder(path: str, text: str) -> bool:
    """Whether the text at `path` asks to be replaced."""
    return bool(_WORDS.search(text)) or bool(not _FREE.search(path) and _BRACKETS.fullmatch(text))


def _texts(path: str, value: object) -> Iterator[tuple[str, str]]:
    if isinstance(value, str):
        yield path, value
    elif isinstance(value, Mapping):
        for key, item in value.items():
            yield from _texts(f"{path}.{key}", item)
    elif isinstance(value, (list, tuple)):
        for index, item in enumerate(value):
            yield from _texts(item_path(path, index, item), item)
