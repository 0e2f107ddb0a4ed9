# Copyright: The gpufleet maintainers
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The GPUs of a host as its bus and its kernel log show them, with a driver or without.

The guard brings this file along as well, and looks for lost cards before each start.
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path

KERNEL_LOG = Path("/dev/kmsg")
PCI = Path("/sys/bus/pci/devices")
# The GPU has fallen off the bus (NVIDIA, "XID Errors").
FALLEN = 79
_XID = re.compile(r"NVRM: Xid \(PCI:([0-9a-fA-F:.]+)\): (\d+)")
_NVIDIA = "0x10de"
_GPU_CLASSES = ("0x0300", "0x0302")
_SWITCH_CLASSES = ("0x0680",)
# What the bus answers for a device that is not there any more.
_NOBODY = b"\xff\xff"


@dataclass(frozen=True)
class Device:
    """A GPU or NVSwitch: `0000:3b:00.0`, `0x2335`, its NUMA node if any, and whether it answers."""

    address: str
    device_id: str
    numa_node: int | None
    answers: bool


def gpus(pci: Path = PCI) -> list[Device]:
    """NVIDIA's GPUs in bus order, which is the order of the indexes in `gpus` of an instance."""
    return _devices(pci, _GPU_CLASSES)


def switches(pci: Path = PCI) -> list[Device]:
    """NVSwitches, without which GPUs of one board do not reach each other."""
    return _devices(pci, _SWITCH_CLASSES)


def xids(log: Path = KERNEL_LOG) -> dict[str, list[int]]:
    """Numbers of the errors that the driver reported since the boot, by address, each once.

    Raises OSError when the kernel log cannot be read.
    """
    found: dict[str, list[int]] = {}
    for address, number in _XID.findall(_read(log)):
        numbers = found.setdefault(_address(address), [])
        if int(number) not in numbers:
            numbers.append(int(number))
    return found


def fallen(errors: dict[str, list[int]], pci: Path = PCI) -> list[str]:
    """Addresses of cards that have fallen off the bus; one that answers was reset since."""
    return sorted(
        address
        for address, numbers in errors.items()
        if FALLEN in numbers and not _answers(pci / address)
    )


def _devices(pci: Path, kinds: tuple[str, ...]) -> list[Device]:
    found = []
    for entry in sorted(pci.iterdir()) if pci.is_dir() else []:
        if _value(entry, "vendor") == _NVIDIA and _value(entry, "class")[:6] in kinds:
            node = _value(entry, "numa_node")
            # The kernel writes -1 where the firmware tells no node.
            numa_node = int(node) if node.isdecimal() else None
            found.append(Device(entry.name, _value(entry, "device"), numa_node, _answers(entry)))
    return found


def _value(device: Path, name: str) -> str:
    try:
        return (device / name).read_text(encoding="ascii").strip()
    except OSError:
        return ""


def _answers(device: Path) -> bool:
    try:
        with (device / "config").open("rb") as stream:
            return stream.read(2) not in (_NOBODY, b"")
    except OSError:
        return False


def _address(text: str) -> str:
    """`0000:3b:00` or `0000:3b:00.0` as sysfs writes it."""
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
