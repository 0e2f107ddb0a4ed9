# Copyright: (c) The gpufleet maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""How many processes of this unit the kernel has killed because its memory was exhausted."""

from __future__ import annotations

from pathlib import Path

_ROOT = Path("/")


def oom_kills(root: Path = _ROOT) -> int:
    """Read the count of the unit's control group, of either version; 0 where it cannot be read.

    The kernel's documents name it ``oom_kill``: cgroup-v2.rst, and cgroup-v1/memory.rst.
    """
    try:
        lines = (root / "proc/self/cgroup").read_text(encoding="ascii").splitlines()
    except OSError:
        return 0
    for line in lines:
        _number, controllers, path = line.split(":", 2)
        if "memory" in controllers.split(","):
            return _count(root / f"sys/fs/cgroup/memory{path}/memory.oom_control")
    for line in lines:
        if line.startswith("0::"):
            return _count(root / f"sys/fs/cgroup{line[3:]}/memory.events")
    return 0


def _count(file: Path) -> int:
    try:
        text = file.read_text(encoding="ascii")
    except OSError:
        return 0
    counts = dict(line.split(" ", 1) for line in text.splitlines() if " " in line)
    return int(counts.get("oom_kill", 0))
