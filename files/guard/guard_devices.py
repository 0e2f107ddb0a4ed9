# Copyright: (c) The gpufleet maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Has a GPU of this instance fallen off the bus? Then no restart helps, only one of the host.

The driver reports it in the kernel log. The unit's sandbox hides that log, so the command
``devices`` runs before it, as root, and leaves its finding for ``run``.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

import _gpu_bus as bus

FINDING = "gpu_lost"


def look(gpus: Sequence[int] | None, log: Path = bus.KERNEL_LOG, pci: Path = bus.PCI) -> str | None:
    """Return what is wrong with the GPUs of these indexes in bus order (None: with any), or None.

    Raises OSError when the kernel log cannot be read.
    """
    fallen = bus.fallen(bus.xids(log), pci)
    if gpus is not None and fallen:
        # With a card gone from the bus, indexes shift: what is left does not tell which it was.
        ordered = sorted({*(card.address for card in bus.gpus(pci)), *fallen})
        own = {ordered[index] for index in gpus if index < len(ordered)}
        fallen = [address for address in fallen if address in own]
    if not fallen:
        return None
    return f"GPU {', '.join(fallen)} has fallen off the bus (Xid {bus.FALLEN} in the kernel log)"


def leave(finding: str, directory: Path) -> None:
    """Write the finding where ``run`` looks; the directory belongs to another user."""
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW
    with os.fdopen(os.open(directory / FINDING, flags, 0o644), "w", encoding="utf-8") as stream:
        stream.write(finding)
    # The unit's umask would hide it from the service.
    (directory / FINDING).chmod(0o644)
