# Copyright: The gpufleet maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Does the locked vLLM know every option of a host's instances?"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ansible_collections.gpufleet.llm.plugins.filter.vllm_instances import (
    ROLES_OPTIONS,
    ROLES_OPTIONS_REMEDY,
)
from ansible_collections.gpufleet.llm.plugins.plugin_utils._findings import Finding
from ansible_collections.gpufleet.llm.plugins.plugin_utils._fleet import Host
from ansible_collections.gpufleet.llm.plugins.plugin_utils._names import nearest, shown


class KnownOptions:
    """The options of `vllm serve` in one version, as files/locks/vllm_options.py writes them."""

    def __init__(self, path: Path) -> None:
        content = json.loads(path.read_text(encoding="utf-8"))
        self.version: str = content["version"]
        self._options: dict[str, dict[str, Any]] = content["options"]

    def problem(self, path: str, name: object, value: object) -> tuple[str, str] | None:
        """Problem and remedy of one option, or None where vLLM would take it."""
        if not isinstance(name, str):
            return "An option's name must be a text.", "Put it into quotes."
        # A dot leads into a dictionary: compilation-config.level.
        long_name = name.replace("_", "-").split(".", 1)[0]
        if long_name in ROLES_OPTIONS:
            return "It must not stand in options.", ROLES_OPTIONS_REMEDY
        option = self._options.get(long_name)
        if option is None:
            return (
                f"vLLM {self.version} has no such option: it would not start.",
                self._instead(name, long_name),
            )
        takes = "required" if "." in name else option.get("value", "required")
        if takes == "never" and not isinstance(value, bool):
            return f"It is {shown(path, value)}: it must be true or false.", "Write true or false."
        if takes == "required" and isinstance(value, bool) and "." not in name:
            return f"It is {value}, but it takes a value.", "Give the value, or remove the option."
        choices: list[str] = option.get("choices", [])
        given = value if isinstance(value, (list, tuple)) else [value]
        wrong = [item for item in given if choices and str(item) not in choices]
        if wrong:
            guess = nearest(str(wrong[0]), choices)
            return (
                f"It is {shown(path, wrong[0])}: it must be one of {', '.join(choices)}.",
                f"Did you mean {guess}?" if guess else "Choose one of these.",
            )
        return None

    def _instead(self, name: str, long_name: str) -> str:
        """Advice in the writing of `name`: with dashes or with underscores."""
        opposite = long_name.replace("disable-", "enable-", 1)
        guess = opposite if opposite in self._options else nearest(long_name, self._options)
        written = guess.replace("-", "_") if guess and "_" in name else guess
        if guess and guess == opposite:
            return f"Remove it, or write {written}: false."
        hint = f"Did you mean {written}?" if guess else "Remove it."
        return f"{hint} `vllm serve --help=all` lists all."


def check_vllm_options(host: Host, known: KnownOptions) -> list[Finding]:
    """Options that vLLM would refuse, that the role sets, or that blind the guard."""
    places: list[tuple[str, Mapping[Any, Any]]] = [
        ("vllm_options", host.values.get("vllm_options") or {})
    ]
    places += [
        (f"{path}.options", instance.get("options") or {})
        for path, instance in host.items("vllm_instances")
    ]
    findings = []
    for place, options in places:
        for name, value in options.items():
            path = f"{place}.{name}"
            problem = known.problem(path, name, value) or _blinds_guard(name, value)
            if problem:
                findings.append(Finding(host.name, path, *problem))
    return findings


def _blinds_guard(name: str, value: object) -> tuple[str, str] | None:
    if name.replace("_", "-") == "disable-log-stats" and value is True:
        return (
            "Without statistics the guard cannot tell a busy engine from a hung one.",
            "Remove it: the guard reads vllm:iteration_tokens_total from /metrics.",
        )
    return None
