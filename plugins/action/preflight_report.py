# Copyright: The gpufleet maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Gathers what `host_check` found on all hosts; the module of this name documents it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ansible.plugins.action import ActionBase
from ansible_collections.gpufleet.llm.plugins.module_utils._host_finding import ERROR
from ansible_collections.gpufleet.llm.plugins.plugin_utils._findings import Finding
from ansible_collections.gpufleet.llm.plugins.plugin_utils._report import conclude


class ActionModule(ActionBase):
    """Print, write and judge the findings of every host of the play."""

    TRANSFERS_FILES = False
    _requires_connection = False

    def run(
        self, tmp: str | None = None, task_vars: dict[str, Any] | None = None
    ) -> dict[str, Any]:
        """Return all findings, and fail when there is one."""
        super().run(tmp, task_vars)
        report_path = str(self._task.args.get("report_path") or "")
        variables = task_vars or {}
        inventory = variables.get("__preflight_inventory", {})
        findings = [Finding(**record) for record in inventory.get("findings", [])]
        checked = {name: dict(record) for name, record in inventory.get("checked", {}).items()}
        for host in sorted(variables["ansible_play_hosts_all"]):
            result = variables["hostvars"].raw_get(host).get("__preflight_host", {})
            findings += findings_of(host, result)
            record = checked.setdefault(host, {})
            record["host"] = result.get("checked", {})
            if result.get("gpus"):
                record["gpus"] = result["gpus"]
        return conclude(report_path, findings, checked)


def findings_of(host: str, result: Mapping[str, Any]) -> list[Finding]:
    """Findings in the result of `host_check` on one host, however that ended."""
    found = [
        Finding(
            host,
            str(record["variable"]),
            str(record["problem"]),
            str(record["remedy"]),
            str(record.get("severity", ERROR)),
        )
        for record in result.get("findings", [])
    ]
    if result.get("unreachable"):
        found.append(
            Finding(
                host,
                "ansible_host",
                f"It cannot be reached: {_one_line(result)}",
                f"Correct the address or the access, until `ansible -m ping {host}` answers pong; "
                f"or leave it out: --limit 'all:!{host}'.",
            )
        )
    elif not result or (result.get("failed") and not found):
        found.append(
            Finding(
                host,
                "host_check",
                f"It could not be checked: {_one_line(result)}",
                "Correct what the message names, then run again.",
            )
        )
    return found


def _one_line(result: Mapping[str, Any]) -> str:
    return " ".join(str(result.get("msg", "it gave no result")).split())[:300]
