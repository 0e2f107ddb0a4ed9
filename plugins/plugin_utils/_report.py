# Copyright: The gpufleet maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The report of `preflight` on the control node, and what a task says and returns."""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ansible.errors import AnsibleActionFail
from ansible_collections.gpufleet.llm.plugins.plugin_utils._findings import (
    Finding,
    as_merged_records,
    as_records,
    render,
)

# By host: what the inventory was checked for, and what was looked at on the host itself.
Checked = Mapping[str, Mapping[str, Any]]


def conclude(path: str, findings: list[Finding], checked: Checked) -> dict[str, Any]:
    """Write the report to `path`, unless that is empty, and return the task's result.

    Raises AnsibleActionFail when the report cannot be written.
    """
    if path:
        write_report(Path(path).expanduser(), findings, checked)
    result: dict[str, Any] = {"changed": False, "findings": as_merged_records(findings)}
    if findings:
        where = f"\n\nThe report is in {path}" if path else ""
        result.update(failed=True, msg=render(findings) + where)
    return result


def write_report(path: Path, findings: list[Finding], checked: Checked) -> None:
    """Write the report in one step, for its owner alone."""
    text = json.dumps({"findings": as_records(findings), "hosts": checked}, indent=2, default=str)
    beside = ""
    try:
        handle, beside = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
        with os.fdopen(handle, "w", encoding="utf-8") as stream:
            stream.write(text + "\n")
        Path(beside).replace(path)
    except OSError as error:
        if beside:
            Path(beside).unlink(missing_ok=True)
        raise AnsibleActionFail(
            f"The report {path} cannot be written: {error.strerror}. Remedy: set "
            'preflight_report_path to a file that you may write, or to "" for no report.'
        ) from error
