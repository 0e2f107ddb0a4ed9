# Copyright: The gpufleet maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The roles of this collection, and the values that their variables have for one host."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ansible.errors import AnsibleError
from ansible.parsing.dataloader import DataLoader
from ansible.template import Templar
from ansible_collections.gpufleet.llm.plugins.plugin_utils._findings import Finding
from ansible_collections.gpufleet.llm.plugins.plugin_utils._names import looks_secret

# The collection, as a checkout and as installed.
ROOT = Path(__file__).resolve().parents[2]
# Ansible's own, which hold the variables of all hosts.
_MAGIC = {"hostvars", "vars", "groups"}
_REGISTERS = re.compile(r"^\s*register:\s*(\w+)\s*$", re.MULTILINE)


@dataclass(frozen=True)
class Role:
    """One role: its options by variable, its defaults and own variables as trusted templates.

    `registered` are the variables that its tasks register, which a later play finds on the host.
    """

    name: str
    path: Path
    options: Mapping[str, Any]
    defaults: Mapping[str, Any]
    private: Mapping[str, Any]
    registered: frozenset[str]


def load_roles(loader: DataLoader) -> dict[str, Role]:
    """Every role that has argument specs, by name."""
    specs = sorted(ROOT.glob("roles/*/meta/argument_specs.yml"))
    return {spec.parents[1].name: _load(spec.parents[1], loader) for spec in specs}


def _load(path: Path, loader: DataLoader) -> Role:
    def content(name: str) -> dict[str, Any]:
        file = path / name
        if not file.is_file():
            return {}
        return loader.load_from_file(str(file), unsafe=True, trusted_as_template=True) or {}

    entry_points = content("meta/argument_specs.yml")["argument_specs"].values()
    tasks = [file.read_text(encoding="utf-8") for file in sorted(path.glob("tasks/*.yml"))]
    return Role(
        name=path.name,
        path=path,
        options={name: spec for entry in entry_points for name, spec in entry["options"].items()},
        defaults=content("defaults/main.yml"),
        private=content("vars/main.yml"),
        registered=frozenset(name for text in tasks for name in _REGISTERS.findall(text)),
    )


def evaluate(
    role: Role, host: str, variables: Mapping[str, Any], loader: DataLoader
) -> tuple[dict[str, Any], list[Finding]]:
    """Return the values of a role's variables for `host`, and a finding for each without one.

    `variables` are the host's own, not templated: `hostvars.raw_get(host)` with `hostvars` added,
    or a task's variables. A variable that neither they nor the role's defaults set is absent.
    """
    available = {
        **role.defaults,
        **variables,
        **role.private,
        "role_name": role.name,
        "role_path": str(role.path),
    }
    templar = Templar(loader=loader, variables=available)
    values: dict[str, Any] = {}
    findings: list[Finding] = []
    for name in role.options:
        if name in available:
            try:
                values[name] = templar.template(available[name])
            except (AnsibleError, RecursionError) as error:
                findings.append(_finding(host, name, error, available, templar))
    return values, findings


def _finding(
    host: str, name: str, error: Exception, available: Mapping[str, Any], templar: Templar
) -> Finding:
    """Say why `name` has no value, by the variable that is to blame and without any value."""
    used = _used(available[name], available)
    broken = sorted(other for other in used if _is_undecryptable(other, available, templar))
    if _is_vault(error) or broken:
        which = ", ".join(broken) or name
        return Finding(
            host,
            name,
            f"Missing or unreadable secret: {which} cannot be decrypted.",
            "Give the vault's password with --vault-password-file or --ask-vault-pass. If it is "
            "lost, write the secret anew with ansible-vault encrypt_string.",
        )
    undefined = re.search(r"'(\w+)' is undefined", str(error))
    if undefined:
        missing = undefined.group(1)
        if looks_secret(name) or missing.startswith("vault"):
            return Finding(
                host,
                name,
                f"Missing or unreadable secret: {missing} is not defined for this host.",
                f"Define {missing} in a file that ansible-vault encrypts, and name the vault's "
                "password with --vault-password-file.",
            )
        return Finding(
            host,
            name,
            f"It needs {missing}, which is not defined for this host.",
            f"Define {missing} for this host, or correct its name in {name}.",
        )
    # A template's error may quote the values that it works on.
    quiet = any(looks_secret(other) or other.startswith("vault") for other in {name, *used})
    detail = "" if quiet else f": {_first_line(error)}"
    return Finding(
        host,
        name,
        f"Its template cannot be evaluated{detail}",
        f"Correct the template; ansible -m debug -a var={name} {host} shows what it gives.",
    )


def _used(value: object, available: Mapping[str, Any]) -> set[str]:
    """Names of variables in the templates of `value`, and in the templates of those."""
    used: set[str] = set()
    waiting = [value]
    while waiting:
        for text in _texts(waiting.pop()):
            for word in set(re.findall(r"\w+", text)) & available.keys() - used - _MAGIC:
                used.add(word)
                waiting.append(available[word])
    return used


def _texts(value: object) -> Iterator[str]:
    """Every text with a template in it; what is encrypted is none."""
    if isinstance(value, str):
        if "{{" in value or "{%" in value:
            yield value
    elif isinstance(value, Mapping):
        for item in value.values():
            yield from _texts(item)
    elif isinstance(value, (list, tuple)):
        for item in value:
            yield from _texts(item)


def _is_undecryptable(name: str, available: Mapping[str, Any], templar: Templar) -> bool:
    value = available[name]
    if _used(value, available) or isinstance(value, (str, int, float, Mapping, list)):
        return False
    try:
        templar.template(value)
    except AnsibleError as error:
        return _is_vault(error)
    return False


def _is_vault(error: BaseException | None) -> bool:
    # Templating has an error of its own for this, which only Ansible itself may import.
    while error is not None:
        if "Vault" in type(error).__name__:
            return True
        error = error.__cause__
    return False


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0][:200]
