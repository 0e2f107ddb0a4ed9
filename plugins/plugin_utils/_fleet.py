# Copyright: The gpufleet maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The inventory as plain data, which all rules read."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ansible_collections.gpufleet.llm.plugins.plugin_utils._names import item_path

GROUPS = ("inference", "chat", "gateway", "monitoring")
# Roles whose variables a host needs, by its groups; those of every host come last.
_ROLES_OF_GROUPS = {
    "inference": ("vllm", "model", "nvidia_driver"),
    "chat": ("chainlit",),
    "gateway": ("nginx",),
}
_ROLES_OF_ALL = ("preflight", "logging", "alerting", "python_release")


def roles_of(groups: frozenset[str]) -> list[str]:
    """Names of the roles that hosts of `groups` get, without repetition."""
    named = [
        role for group in GROUPS if group in groups for role in _ROLES_OF_GROUPS.get(group, ())
    ]
    return list(dict.fromkeys([*named, *_ROLES_OF_ALL]))


@dataclass(frozen=True)
class Host:
    """One host: its groups, the names that its inventory sets, and its roles' variables.

    `values` holds what could be evaluated and is of the right type; parts that are not are absent.
    """

    name: str
    groups: frozenset[str]
    given: frozenset[str]
    values: Mapping[str, Any]

    def text(self, variable: str) -> str:
        """Value of a text variable; empty where it is empty, absent or refused elsewhere."""
        return str(self.values.get(variable) or "")

    def items(self, variable: str) -> list[tuple[str, dict[str, Any]]]:
        """Path and content of every item of a list of dictionaries."""
        return [
            (item_path(variable, index, item), item)
            for index, item in enumerate(self.values.get(variable) or [])
        ]


@dataclass(frozen=True)
class Fleet:
    """All hosts, and all groups with the names of their hosts."""

    hosts: tuple[Host, ...]
    groups: Mapping[str, list[str]]

    def of(self, group: str) -> list[Host]:
        """Hosts of one group, in the inventory's order."""
        by_name = {host.name: host for host in self.hosts}
        return [by_name[name] for name in self.groups.get(group, []) if name in by_name]
