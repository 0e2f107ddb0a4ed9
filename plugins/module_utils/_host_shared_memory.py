# Copyright: The gpufleet maintainers
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Is there shared memory for the processes of the instances, which pass each other their work?"""

from __future__ import annotations

import os
from pathlib import Path

from ansible_collections.gpufleet.llm.plugins.module_utils._host_finding import (
    Finding,
    Seen,
    human,
)

# Measured: 64 MiB, the default of containers, fail at the start; 2 GiB are enough for one.
_INSTANCE = 2**30
_LEAST_FREE = 2**28
_SHM = Path("/", "dev", "shm")


def check_shared_memory(instances: int, shm: Path = _SHM) -> Seen:
    """Compare /dev/shm with what this number of instances needs.

    Instances that run hold some of it already, so the size is judged, and what is free only where
    hardly anything is.
    """
    if not shm.is_dir():
        problem = f"There is no {shm}, through which the processes of an instance talk."
        return Seen("absent", [Finding(str(shm), problem, f"mount -t tmpfs tmpfs {shm}")])
    status = os.statvfs(shm)
    size, free = status.f_blocks * status.f_frsize, status.f_bavail * status.f_frsize
    seen = Seen(f"{human(size)}, {human(free)} free")
    needed, plural = instances * _INSTANCE, "s" if instances > 1 else ""
    if size < needed:
        seen.findings.append(
            Finding(
                str(shm),
                f"{shm} has {human(size)}; {instances} instance{plural} need {human(needed)}.",
                f"mount -o remount,size=50% {shm}; of a container, --shm-size.",
            )
        )
    elif free < _LEAST_FREE:
        seen.findings.append(
            Finding(
                str(shm),
                f"{shm} has {human(free)} free of {human(size)}.",
                f"See what fills it (ls -lS {shm}), and remove what no process uses.",
            )
        )
    return seen
