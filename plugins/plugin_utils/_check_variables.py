# Copyright: The gpufleet maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Are the variables known, of the right type, and within their ranges?"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from fnmatch import fnmatch
from functools import cache
from typing import Any

from ansible.module_utils.common.arg_spec import ArgumentSpecValidator
from ansible_collections.gpufleet.llm.plugins.plugin_utils._findings import Finding
from ansible_collections.gpufleet.llm.plugins.plugin_utils._names import (
    item_path,
    looks_secret,
    nearest,
    one_typo_apart,
    shown,
)
from ansible_collections.gpufleet.llm.plugins.plugin_utils._ranges import range_problem

_NAMES_OF_TYPES = {
    "str": "a text, in quotes",
    "path": "a path, in quotes",
    "int": "a whole number, without quotes",
    "float": "a number, without quotes",
    "bool": "true or false, without quotes",
    "list": "a list",
    "dict": "a dictionary",
}
# What one role gives to another when it includes it, and no inventory has to.
_GIVEN_BY_ROLES = frozenset({"model_name", "model_revision", "python_release_lock"})


def check_names(
    host: str,
    given: Iterable[str],
    ignored: list[str],
    prefixes: Iterable[str],
    known: frozenset[str],
) -> list[Finding]:
    """Variables of the inventory that carry a role's name, or nearly a known one, and are unknown.

    `given` are the names that the inventory sets for `host`, `ignored` patterns of other people's.
    """
    findings = []
    for name in sorted(set(given) - known):
        ours = any(name.startswith(f"{prefix}_") for prefix in prefixes)
        typo = _meant(name, known)
        if not (ours or typo) or any(fnmatch(name, pattern) for pattern in ignored):
            continue
        guess = typo or nearest(name, known)
        findings.append(
            Finding(
                host,
                name,
                "No role has this variable.",
                (f"Did you mean {guess}? " if guess else "")
                + "If it belongs to a role of others, name it in preflight_ignored_variables.",
            )
        )
    return findings


@cache
def _meant(name: str, known: frozenset[str]) -> str | None:
    """The known name of which `name` is a typing error; hosts share names, so once for all."""
    return next((other for other in sorted(known) if one_typo_apart(name, other)), None)


@dataclass
class Checked:
    """The values of a role's variables without their wrong parts, and what was wrong."""

    values: dict[str, Any] = field(default_factory=dict)
    findings: list[Finding] = field(default_factory=list)


def check_values(
    role: str, options: Mapping[str, Any], host: str, values: Mapping[str, Any], absent: set[str]
) -> Checked:
    """Compare `values` with the argument spec of `role`.

    `absent` are the variables that another finding already tells to have no value.
    """
    walk = _Walk(role, host)
    checked = Checked(findings=walk.findings)
    for name, spec in options.items():
        if name in values:
            before = len(walk.findings)
            sound = walk.sound(name, spec, values[name])
            if len(walk.findings) == before and values[name] and "options" in spec:
                walk.ask_ansible(name, spec, values[name])
            if sound is not None:
                checked.values[name] = sound
        elif spec.get("required") and name not in _GIVEN_BY_ROLES | absent:
            walk.missing(name, spec)
    return checked


class _Walk:
    """Goes through values along their spec; what is wrong is noted and left out of the result."""

    def __init__(self, role: str, host: str) -> None:
        self._where = f"roles/{role}/README.md"
        self._host = host
        self.findings: list[Finding] = []

    def note(self, path: str, problem: str, remedy: str) -> None:
        self.findings.append(Finding(self._host, path, problem, remedy))

    def missing(self, path: str, spec: Mapping[str, Any]) -> None:
        kind = _NAMES_OF_TYPES.get(spec.get("type", "str"), "a value")
        self.note(path, "It is missing.", f"Set {path} to {kind}; {self._where} describes it.")

    def sound(self, path: str, spec: Mapping[str, Any], value: object) -> object:
        """Return the sound part of `value`; None where nothing of it is."""
        kind = spec.get("type", "str")
        if not _is(kind, value):
            what = "empty" if value is None else f"{shown(path, value)}, {_kind_of(value)}"
            self.note(
                path,
                f"It is {what}: it must be {_NAMES_OF_TYPES[kind]}.",
                f"{_advice(kind, value)} {self._where} describes it.",
            )
            return None
        if spec.get("choices") and value not in spec["choices"]:
            choices = ", ".join(map(str, spec["choices"]))
            guess = nearest(str(value), map(str, spec["choices"]))
            self.note(
                path,
                f"It is {shown(path, value)}: it must be one of {choices}.",
                f"Did you mean {guess}?" if guess else "Choose one of these.",
            )
            return None
        outside = range_problem(path, value)
        if outside:
            self.note(path, *outside)
            return None
        if isinstance(value, (list, tuple)) and "elements" in spec:
            return self._list(path, spec, value)
        if isinstance(value, Mapping) and "options" in spec:
            return self._dictionary(path, spec["options"], value)
        return value

    def _list(self, path: str, spec: Mapping[str, Any], value: Iterable[object]) -> list[object]:
        element = {**spec, "type": spec["elements"], "choices": spec.get("choices")}
        del element["elements"]
        parts = [
            self.sound(item_path(path, index, item), element, item)
            for index, item in enumerate(value)
        ]
        if element["type"] == "dict":
            # Positions stay, so that the rules after this one name the same item.
            return [{} if item is None else item for item in parts]
        return [item for item in parts if item is not None]

    def _dictionary(
        self, path: str, options: Mapping[str, Any], value: Mapping[object, object]
    ) -> dict[str, object]:
        for key in value:
            if key not in options:
                self._unknown_key(path, key, options)
        parts: dict[str, object] = {}
        for name, spec in options.items():
            if name in value:
                part = self.sound(f"{path}.{name}", spec, value[name])
                if part is not None:
                    parts[name] = part
            elif spec.get("required"):
                self.missing(f"{path}.{name}", spec)
            elif "default" in spec:
                parts[name] = spec["default"]
        return parts

    def _unknown_key(self, path: str, key: object, options: Mapping[str, Any]) -> None:
        known = ", ".join(sorted(options))
        if isinstance(key, str):
            guess = nearest(key, options)
            hint = f"Did you mean {guess}? " if guess else ""
            self.note(f"{path}.{key}", "This key is not known.", f"{hint}Known are {known}.")
        else:
            self.note(
                f"{path}.{key}",
                f"YAML reads this key as {key}, which is no text.",
                f"Known are {known}; YAML takes on, off, yes, no and digits for other things.",
            )

    def ask_ansible(self, name: str, spec: Mapping[str, Any], value: object) -> None:
        """Note what Ansible itself, when it starts the role, would refuse beyond the above."""
        result = ArgumentSpecValidator({name: dict(spec)}).validate(
            {name: value}, validate_role_argument_spec=True
        )
        for message in result.error_messages:
            detail = "Its value is refused" if looks_secret(name) else message
            self.note(name, f"{detail}.", f"Correct it; {self._where} describes it.")


def _is(kind: str, value: object) -> bool:
    if kind in ("str", "path"):
        return isinstance(value, str)
    if kind == "int":
        return isinstance(value, int) and not isinstance(value, bool)
    if kind == "float":
        return isinstance(value, (int, float)) and not isinstance(value, bool)
    if kind == "bool":
        return isinstance(value, bool)
    if kind == "list":
        return isinstance(value, (list, tuple))
    if kind == "dict":
        return isinstance(value, Mapping)
    return True


def _kind_of(value: object) -> str:
    if isinstance(value, bool):
        return "true or false"
    if isinstance(value, str):
        return "a text"
    if isinstance(value, (int, float)):
        return "a number"
    return "a dictionary" if isinstance(value, Mapping) else "a list"


def _advice(kind: str, value: object) -> str:
    if value is None:
        return 'Remove the line, or give it a value ("" is an empty text).'
    if kind in ("int", "float", "bool") and isinstance(value, str):
        return "Take the quotes away; on the command line, give JSON: -e '{\"name\": 1}'."
    if kind in ("str", "path") and not isinstance(value, (Mapping, list, tuple)):
        return "Put it into quotes."
    return "Correct it."
