# Copyright: The gpufleet maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a check of the inventory or of a host finds, and how people read it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass

from ansible_collections.gpufleet.llm.plugins.module_utils._host_finding import ERROR

# In place of a host's name, where a finding is about no single host.
INVENTORY = "the inventory"
# Of more hosts than this, a message names the first ones only; the report names all.
NAMED_HOSTS = 6


@dataclass(frozen=True, order=True)
class Finding:
    """Where something is, what is wrong there, what to do about it, and whether it refuses."""

    host: str
    variable: str
    problem: str
    remedy: str
    severity: str = ERROR


def merge(findings: Iterable[Finding]) -> list[tuple[list[str], Finding]]:
    """Findings that differ only in their host as one, with all hosts; by host, then variable."""
    hosts: dict[tuple[str, str, str, str], list[str]] = {}
    for finding in sorted(set(findings)):
        same = (finding.variable, finding.problem, finding.remedy, finding.severity)
        hosts.setdefault(same, []).append(finding.host)
    return [(names, Finding(names[0], *same)) for same, names in hosts.items()]


def as_records(findings: Iterable[Finding]) -> list[dict[str, str]]:
    """Findings as data for the report, one record per host."""
    return [asdict(finding) for finding in sorted(set(findings))]


def as_merged_records(findings: Iterable[Finding]) -> list[dict[str, str]]:
    """Findings as data for a task's result, where `host` may be several names with commas."""
    return [{**asdict(finding), "host": ", ".join(names)} for names, finding in merge(findings)]


def render(findings: Iterable[Finding]) -> str:
    """Text of the findings that refuse, one group of lines each."""
    merged = merge(finding for finding in findings if finding.severity == ERROR)
    count = f"{len(merged)} finding{'s' if len(merged) > 1 else ''}"
    lines = [f"Refused before anything was changed, {count}:"]
    for names, finding in merged:
        lines += ["", *paragraph(names, finding)]
    return "\n".join(lines)


def paragraph(names: list[str], finding: Finding) -> list[str]:
    """Lines of one finding on the hosts of these names."""
    return [
        f"{_hosts(names)}: {finding.variable}",
        f"    {finding.problem}",
        f"    Remedy: {finding.remedy}",
    ]


def _hosts(names: list[str]) -> str:
    if len(names) <= NAMED_HOSTS:
        return ", ".join(names)
    shown = NAMED_HOSTS // 2
    return f"{', '.join(names[:shown])} and {len(names) - shown} more hosts"
