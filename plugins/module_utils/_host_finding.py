# Copyright: The gpufleet maintainers
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a check of a host returns: what it saw, and what is wrong with it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

# AnsibleModule.run_command: status, output and errors of a command.
RunCommand = Callable[..., "tuple[int, str, str]"]


# An error refuses the host, a warning is told, and advice stands in the report alone.
ERROR, WARNING, ADVICE = "error", "warning", "advice"


@dataclass(frozen=True)
class Finding:
    """What is wrong, the variable or part of the host it is about, and what to do about it."""

    variable: str
    problem: str
    remedy: str
    severity: str = ERROR


@dataclass
class Seen:
    """What one check saw, in a few words, and its findings."""

    text: str
    findings: list[Finding] = field(default_factory=list)


def listed(items: list[str], last: str = "and") -> str:
    """Items as a sentence has them: `a, b and c`."""
    return f" {last} ".join(part for part in (", ".join(items[:-1]), *items[-1:]) if part)


def human(size: int) -> str:
    """A size in bytes as people read it: with one digit of GiB, or below one GiB in MiB."""
    return f"{size / 2**30:.1f} GiB" if size >= 2**30 else f"{size / 2**20:.0f} MiB"
