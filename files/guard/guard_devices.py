# Copyright: (c) The gpufleet maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Has a GPU of this instance fallen off the bus? Then no restart helps, only one of the host.

The driver reports it as Xid 79 in the kernel log (NVIDIA, "XID Errors"). The unit's sandbox hides
that log, so the command ``devices`` runs before it, as root, and leaves its finding for ``run``.
"""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from pathlib import Path

FINDING = "gpu_lost"
_KERNEL_LOG = Path("/dev/kmsg")
_PCI = Path("/sys/bus/pci/devices")
_XID_79 = re.compile(r"NVRM: Xid \(PCI:([0-9a-fA-F:.]+)\): 79,")
_NVIDIA = "0x10de"
_DISPLAY_CLASSES = ("0x0300", "0x0302")
# What the bus answers for a device that is not there any more.
_NOBODY = b"\xff\xff"


def look(gpus: Sequence[int] | None, log: Path = _KERNEL_LOG, pci: Path = _PCI) -> str | None:
    """Return what is wrong with the GPUs of these indexes in bus order (None: with any), or None.

    Raises OSError when the kernel log cannot be read.
    """
    fallen = sorted({_address(match) for match in _XID_79.findall(_read(log))})
    # A card that answers was reset since.
    fallen = [address for address in fallen if not _answers(pci / address)]
    if gpus is not None and fallen:
        # With a card gone from the bus, indexes shift: what is left does not tell which it was.
        present = sorted(entry.name for entry in pci.iterdir() if _is_gpu(entry))
        ordered = sorted({*present, *fallen})
        own = {ordered[index] for index in gpus if index < len(ordered)}
        fallen = [address for address in fallen if address in own]
    if not fallen:
        return None
    return f"GPU {', '.join(fallen)} has fallen off the bus (Xid 79 in the kernel log)"


def leave(finding: str, directory: Path) -> None:
    """Write the finding where ``run`` looks; the directory belongs to another user."""
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW
    with os.fdopen(os.open(directory / FINDING, flags, 0o644), "w", encoding="utf-8") as stream:
        stream.write(finding)
    # The unit's umask would hide it from the service.
    (directory / FINDING).chmod(0o644)


def _address(text: str) -> str:
    """``0000:3b:00`` or ``0000:3b:00.0`` as sysfs writes it."""
    return text.lower() if "." in text else f"{text.lower()}.0"


def _read(log: Path) -> str:
    """Read the kernel log as far as it goes, without waiting for more."""
    descriptor = os.open(log, os.O_RDONLY | os.O_NONBLOCK)
    parts: list[bytes] = []
    try:
        while True:
            try:
                part = os.read(descriptor, 8192)
            except BlockingIOError:
                break
            except BrokenPipeError:  # the oldest line was overwritten meanwhile
                continue
            if not part:
                break
            parts.append(part)
    finally:
        os.close(descriptor)
    return b"".join(parts).decode("utf-8", "replace")


def _answers(device: Path) -> bool:
    try:
        return (device / "config").read_bytes()[:2] not in (_NOBODY, b"")
    except OSError:
        return False


def _is_gpu(device: Path) -> bool:
    try:
        vendor = (device / "vendor").read_text(encoding="ascii").strip()
        kind = (device / "class").read_text(encoding="ascii").strip()
    except OSError:
        return False
    return vendor == _NVIDIA and kind[:6] in _DISPLAY_CLASSES
