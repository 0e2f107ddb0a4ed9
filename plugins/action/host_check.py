# Copyright: The gpufleet maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Controller side of the module `host_check`: fills in its options, and measures the clock."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping
from typing import Any

from ansible.plugins.action import ActionBase
from ansible.template import Templar
from ansible_collections.gpufleet.llm.plugins.plugin_utils._findings import Finding
from ansible_collections.gpufleet.llm.plugins.plugin_utils._fleet import roles_of
from ansible_collections.gpufleet.llm.plugins.plugin_utils._host_clock import VARIABLE, check_clock
from ansible_collections.gpufleet.llm.plugins.plugin_utils._host_options import GROUPS, host_options
from ansible_collections.gpufleet.llm.plugins.plugin_utils._role_variables import (
    ROOT,
    Role,
    evaluate,
    load_roles,
)


class ActionModule(ActionBase):
    """Check one host with the variables of its roles."""

    TRANSFERS_FILES = False

    def run(
        self, tmp: str | None = None, task_vars: dict[str, Any] | None = None
    ) -> dict[str, Any]:
        """Return the module's result, with what only the control node sees."""
        super().run(tmp, task_vars)
        variables = task_vars or {}
        roles = load_roles(self._loader)
        values, unknown = self._values(roles, variables)
        if unknown:
            return {"changed": False, "findings": _records(unknown), "checked": {}}

        groups = [group for group in GROUPS if group in variables["group_names"]]
        options, found = host_options(
            groups, values, self._vllm_versions(roles, values), ROOT / "files" / "locks"
        )
        if VARIABLE in values:
            options["clock_tolerance"] = values[VARIABLE]
        options.update(self._task.args)
        before = time.time()
        result: dict[str, Any] = self._execute_module(
            module_name="gpufleet.llm.host_check", module_args=options, task_vars=variables
        )
        after = time.time()
        # Locks' packages would drown whatever else -v shows.
        result.pop("invocation", None)
        if result.get("failed") or "began" not in result:
            return result

        clock = check_clock(
            before,
            result.pop("began"),
            result.pop("ended"),
            after,
            options.get("clock_tolerance", 60),
        )
        result["checked"]["clock"] = clock.text
        result["findings"] += _records([*found, *clock.findings])
        return result

    def _values(
        self, roles: Mapping[str, Role], variables: Mapping[str, Any]
    ) -> tuple[dict[str, Any], list[Finding]]:
        """Variables of all roles that the host gets, and a finding for each without a value."""
        values: dict[str, Any] = {}
        findings: list[Finding] = []
        for name in roles_of(frozenset(variables["group_names"])):
            if name in roles:
                host = variables["inventory_hostname"]
                known, unknown = evaluate(roles[name], host, variables, self._loader)
                values.update(known)
                findings += unknown
        return values, findings

    def _vllm_versions(self, roles: Mapping[str, Role], values: Mapping[str, Any]) -> list[str]:
        """Versions of Python that the lock of this host's vLLM was made for."""
        if "vllm_variant" not in values:
            return []
        templar = Templar(loader=self._loader, variables=dict(values))
        versions: list[str] = templar.template(roles["vllm"].private["__vllm_python_versions"])
        return versions


def _records(findings: Iterable[Any]) -> list[dict[str, str]]:
    """Findings of either side as the module returns them."""
    return [
        {
            "variable": item.variable,
            "problem": item.problem,
            "remedy": item.remedy,
            "severity": item.severity,
        }
        for item in findings
    ]
