# Copyright: The gpufleet maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Checks the whole inventory on the control node; the module of this name documents it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ansible.plugins.action import ActionBase
from ansible.vars.hostvars import HostVars
from ansible_collections.gpufleet.llm.plugins.plugin_utils._check_variables import (
    check_names,
    check_values,
)
from ansible_collections.gpufleet.llm.plugins.plugin_utils._check_vllm_options import KnownOptions
from ansible_collections.gpufleet.llm.plugins.plugin_utils._findings import Finding
from ansible_collections.gpufleet.llm.plugins.plugin_utils._fleet import Fleet, Host, roles_of
from ansible_collections.gpufleet.llm.plugins.plugin_utils._inventory_rules import check_fleet
from ansible_collections.gpufleet.llm.plugins.plugin_utils._redact import redact, secrets_in
from ansible_collections.gpufleet.llm.plugins.plugin_utils._report import conclude
from ansible_collections.gpufleet.llm.plugins.plugin_utils._role_variables import (
    ROOT,
    evaluate,
    load_roles,
)


class ActionModule(ActionBase):
    """Look at every host of the inventory, whatever the play is limited to."""

    TRANSFERS_FILES = False
    _requires_connection = False

    def run(
        self, tmp: str | None = None, task_vars: dict[str, Any] | None = None
    ) -> dict[str, Any]:
        """Return all findings, and fail when there is one."""
        super().run(tmp, task_vars)
        report_path = str(self._task.args.get("report_path") or "")
        variables = task_vars or {}
        self._roles = load_roles(self._loader)
        self._options = {
            name: spec for role in self._roles.values() for name, spec in role.options.items()
        }
        registered = (role.registered for role in self._roles.values())
        self._known = frozenset(self._options).union(*registered)
        self._findings: list[Finding] = []
        self._secrets: set[str] = set()

        hostvars, groups = variables["hostvars"], variables["groups"]
        hosts = tuple(self._host(name, hostvars) for name in sorted(hostvars))
        known_options = KnownOptions(ROOT / "files" / "locks" / "vllm-options.json")
        findings = self._findings + check_fleet(Fleet(hosts, groups), known_options)
        checked = {host.name: {"inventory": self._roles_on(host.groups)} for host in hosts}
        result = conclude(report_path, redact(findings, self._secrets), checked)
        # For the report on the hosts; beside findings it would only bury them.
        return result if result.get("failed") else {**result, "checked": checked}

    def _roles_on(self, groups: frozenset[str]) -> list[str]:
        return [role for role in roles_of(groups) if role in self._roles]

    def _host(self, name: str, hostvars: HostVars) -> Host:
        """One host as data; what is wrong with its variables as such is noted on the way."""
        raw: Mapping[str, Any] = {**hostvars.raw_get(name), "hostvars": hostvars}
        groups = frozenset(raw["group_names"])
        values: dict[str, Any] = {}
        for role in (self._roles[role] for role in self._roles_on(groups)):
            evaluated, unreadable = evaluate(role, name, raw, self._loader)
            self._secrets |= secrets_in(role.options, evaluated)
            absent = {finding.variable for finding in unreadable}
            checked = check_values(role.name, role.options, name, evaluated, absent)
            self._findings += unreadable + checked.findings
            values.update(checked.values)
        self._findings += check_names(
            name,
            raw,
            values.get("preflight_ignored_variables", []),
            self._roles,
            self._known,
        )
        return Host(name, groups, frozenset(raw), values)
