# Copyright: The gpufleet maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Checks the whole inventory on the control node; the module of this name documents it."""

from __future__ import annotations

from typing import Any

from ansible.plugins.action import ActionBase
from ansible_collections.gpufleet.llm.plugins.plugin_utils._inspect import Inspection
from ansible_collections.gpufleet.llm.plugins.plugin_utils._report import conclude


class ActionModule(ActionBase):
    """Look at every host of the inventory, whatever the play is limited to."""

    TRANSFERS_FILES = False
    _requires_connection = False

    def run(
        self, tmp: str | None = None, task_vars: dict[str, Any] | None = None
    ) -> dict[str, Any]:
        """Return all findings, and fail when there is one."""
        super().run(tmp, task_vars)
        task_variables = task_vars or {}
        hostvars = task_variables["hostvars"]
        variables = {name: {**hostvars.raw_get(name), "hostvars": hostvars} for name in hostvars}
        seen = Inspection(variables, task_variables["groups"], self._loader)
        report_path = str(self._task.args.get("report_path") or "")
        result = conclude(report_path, seen.findings, seen.checked)
        # For the report on the hosts; beside a refusal it would only bury it.
        return result if result.get("failed") else {**result, "checked": seen.checked}
