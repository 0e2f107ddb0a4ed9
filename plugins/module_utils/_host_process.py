# Copyright: The gpufleet maintainers
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A process of this host, and the unit that it belongs to."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

# The unit is the innermost name of a control group that ends like one.
_UNIT = re.compile(r"([^/]+\.(?:service|scope))(?:/|$)")


@dataclass(frozen=True)
class Process:
    """A process, by number, name and the unit that it belongs to, if any."""

    pid: int
    name: str
    unit: str


def read_process(entry: Path) -> Process:
    """Read the process of a directory of /proc. Raises OSError when it ended meanwhile."""
    unit = ""
    for line in (entry / "cgroup").read_text().splitlines():
        path = line.split(":", 2)[2]
        unit = (_UNIT.findall(path) or [unit])[-1]
    return Process(int(entry.name), (entry / "comm").read_text().strip(), unit)
