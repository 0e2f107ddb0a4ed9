# Copyright: The gpufleet maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""From the variables of all hosts, as Ansible has them, to everything that is wrong with them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ansible.parsing.dataloader import DataLoader
from ansible_collections.gpufleet.llm.plugins.plugin_utils._check_variables import (
    check_names,
    check_values,
)
from ansible_collections.gpufleet.llm.plugins.plugin_utils._check_vllm_options import KnownOptions
from ansible_collections.gpufleet.llm.plugins.plugin_utils._findings import Finding
from ansible_collections.gpufleet.llm.plugins.plugin_utils._fleet import Fleet, Host, roles_of
from ansible_collections.gpufleet.llm.plugins.plugin_utils._inventory_rules import check_fleet
from ansible_collections.gpufleet.llm.plugins.plugin_utils._redact import redact, secrets_in
from ansible_collections.gpufleet.llm.plugins.plugin_utils._role_variables import (
    ROOT,
    evaluate,
    load_roles,
)


class Inspection:
    """One look at an inventory: `findings`, and by host the roles that were `checked`."""

    def __init__(
        self,
        variables: Mapping[str, Mapping[str, Any]],
        groups: Mapping[str, list[str]],
        loader: DataLoader,
    ) -> None:
        """Look at it.

        `variables` holds for every host its own variables, not templated, with `hostvars` among
        them; `groups` the names of the hosts of every group.
        """
        self._loader = loader
        self._roles = load_roles(loader)
        registered = (role.registered for role in self._roles.values())
        options = (role.options for role in self._roles.values())
        self._known = frozenset().union(*options, *registered)
        self._secrets: set[str] = set()
        self._found: list[Finding] = []
        hosts = tuple(self._host(name, variables[name]) for name in sorted(variables))
        known_options = KnownOptions(ROOT / "files" / "locks" / "vllm-options.json")
        self._found += check_fleet(Fleet(hosts, groups), known_options)
        self.findings = redact(self._found, self._secrets)
        self.checked = {host.name: {"inventory": self._roles_on(host.groups)} for host in hosts}

    def _roles_on(self, groups: frozenset[str]) -> list[str]:
        return [role for role in roles_of(groups) if role in self._roles]

    def _host(self, name: str, variables: Mapping[str, Any]) -> Host:
        """One host as data; what is wrong with its variables as such is noted on the way."""
        groups = frozenset(variables["group_names"])
        values: dict[str, Any] = {}
        for role in (self._roles[role] for role in self._roles_on(groups)):
            evaluated, unreadable = evaluate(role, name, variables, self._loader)
            self._secrets |= secrets_in(role.options, evaluated)
            absent = {finding.variable for finding in unreadable}
            checked = check_values(role.name, role.options, name, evaluated, absent)
            self._found += unreadable + checked.findings
            values.update(checked.values)
        ignored = values.get("preflight_ignored_variables", [])
        self._found += check_names(name, variables, ignored, self._roles, self._known)
        return Host(name, groups, frozenset(variables), values)
