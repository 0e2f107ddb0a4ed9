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
from ansible_collections.gpufleet.llm.plugins.module_utils._host_finding import (
    ADVICE,
    ERROR,
    WARNING,
)
from ansible_collections.gpufleet.llm.plugins.plugin_utils._findings import (
    Finding,
    as_merged_records,
    as_records,
    merge,
    paragraph,
    render,
)

# By host: what the inventory was checked for, and what was looked at on the host itself.
Checked = Mapping[str, Mapping[str, Any]]
_TITLES = {ERROR: "Refused", WARNING: "Warnings", ADVICE: "Advice"}


def conclude(path: str, findings: list[Finding], checked: Checked) -> dict[str, Any]:
    """Write the report to `path`, unless that is empty, and return the task's result.

    Raises AnsibleActionFail when the report cannot be written.
    """
    if path:
        report = Path(path).expanduser()
        write_report(report, findings, checked)
        write(readable_path(report), readable(findings, checked))
    result: dict[str, Any] = {"changed": False, "findings": as_merged_records(findings)}
    warnings = [finding for finding in findings if finding.severity == WARNING]
    if warnings:
        result["warnings"] = ["\n".join(paragraph(*told)) for told in merge(warnings)]
    if any(finding.severity == ERROR for finding in findings):
        where = f"\n\nThe report is in {path}" if path else ""
        result.update(failed=True, msg=render(findings) + where)
    return result


def readable_path(path: Path) -> Path:
    """Where the report for people stands, beside that for programs."""
    ends = path.suffix == ".json"
    return path.with_suffix(".txt") if ends else path.with_name(f"{path.name}.txt")


def readable(findings: list[Finding], checked: Checked) -> str:
    """The report as people read it: what is wrong, the gravest first, then what was seen."""
    lines: list[str] = []
    for severity, title in _TITLES.items():
        told = merge(finding for finding in findings if finding.severity == severity)
        lines += [f"{title}: {len(told) or 'none'}", ""]
        for names, finding in told:
            lines += [*paragraph(names, finding), ""]
    for host, record in checked.items():
        lines += [host, *_seen(record.get("host") or {}), ""]
    return "\n".join(lines).rstrip() + "\n"


def _seen(record: Mapping[str, Any]) -> list[str]:
    width = max(map(len, record), default=0)
    return [f"    {name:{width}}  {text}" for name, text in record.items() if text]


def write_report(path: Path, findings: list[Finding], checked: Checked) -> None:
    """Write the report for programs."""
    record = {"findings": as_records(findings), "hosts": checked}
    write(path, json.dumps(record, indent=2, default=str) + "\n")


def write(path: Path, text: str) -> None:
    """Write a file in one step, for its owner alone."""
    beside = ""
    try:
        handle, beside = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
        with os.fdopen(handle, "w", encoding="utf-8") as stream:
            stream.write(text)
        Path(beside).replace(path)
    except OSError as error:
        if beside:
            Path(beside).unlink(missing_ok=True)
        raise AnsibleActionFail(
            f"The report {path} cannot be written: {error.strerror}. Remedy: set "
            'preflight_report_path to a file that you may write, or to "" for no report.'
        ) from error
