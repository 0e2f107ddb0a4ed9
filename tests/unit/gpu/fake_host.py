"""A host with GPUs that is not there: its files below a directory, its programs, and its NVML.

The library is a stand-in behind the real calls by ctypes: it fills the very structures and numbers.
"""

from __future__ import annotations

import ctypes
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ansible_collections.gpufleet.llm.plugins.module_utils._gpu_facts import Gpus, read_gpus

GIB = 2**30
VERSION = "580.95.05"
KERNEL, OTHER_KERNEL = "6.1.0-40-amd64", "6.1.0-41-amd64"
_MODULE = (
    "NVRM version: NVIDIA UNIX Open Kernel Module for x86_64  {}  Release Build  (root@host)\n"
    "GCC version:  gcc version 12.2.0 (Debian 12.2.0-14)\n"
)
_SECURE_BOOT = "SecureBoot-8be4df61-93ca-11d2-aa0d-00e098032b8c"


@dataclass
class FakeCard:
    """What NVML tells of a card; None, or a number in `status`, for what it does not."""

    address: str
    name: str = "NVIDIA H200"
    memory: int = 141 * GIB
    used: int = 0
    capability: tuple[int, int] = (9, 0)
    mig: int = 0
    volatile: int = 0
    aggregate: int = 0
    rows: tuple[int, int, int, int] | None = (0, 0, 0, 0)
    pages_pending: int | None = None
    persistence: int = 1
    processes: dict[int, int] = field(default_factory=dict)
    status: int = 0
    listed: bool = True


class FakeNvml:
    """NVML of nvml.h, for the functions that are asked."""

    def __init__(self, cards: list[FakeCard], version: str = VERSION, status: int = 0) -> None:
        self._cards = cards
        self._version = version
        self._status = status
        self.open = 0

    def nvmlInit_v2(self) -> int:
        self.open += 0 if self._status else 1
        return self._status

    def nvmlShutdown(self) -> int:
        self.open -= 1
        return 0

    def nvmlSystemGetDriverVersion(self, text: Any, _length: ctypes.c_uint) -> int:
        text.value = self._version.encode()
        return 0

    def nvmlSystemGetCudaDriverVersion_v2(self, number: Any) -> int:
        number._obj.value = 13000
        return 0

    def nvmlDeviceGetCount_v2(self, count: Any) -> int:
        count._obj.value = len([card for card in self._cards if card.listed])
        return 0

    def nvmlDeviceGetHandleByIndex_v2(self, index: ctypes.c_uint, handle: Any) -> int:
        card = [card for card in self._cards if card.listed][index.value]
        handle._obj.value = self._cards.index(card) + 1
        return card.status

    def nvmlDeviceGetHandleByPciBusId_v2(self, address: Any, handle: Any) -> int:
        for number, card in enumerate(self._cards):
            if card.address == address.value.decode():
                handle._obj.value = number + 1
                return card.status
        return 6

    def nvmlDeviceGetPciInfo_v3(self, handle: Any, pci: Any) -> int:
        domain, _colon, rest = self._card(handle).address.partition(":")
        pci._obj.address = f"{int(domain, 16):08X}:{rest.upper()}".encode()
        return 0

    def nvmlDeviceGetName(self, handle: Any, text: Any, _length: Any) -> int:
        text.value = self._card(handle).name.encode()
        return 0

    def nvmlDeviceGetUUID(self, handle: Any, text: Any, _length: Any) -> int:
        text.value = f"GPU-{handle.value}".encode()
        return 0

    def nvmlDeviceGetMemoryInfo_v2(self, handle: Any, memory: Any) -> int:
        if memory._obj.version != 0x02000028:  # nvmlMemory_v2 of nvml.h
            return 2
        memory._obj.total, memory._obj.used = self._card(handle).memory, self._card(handle).used
        return 0

    def nvmlDeviceGetCudaComputeCapability(self, handle: Any, major: Any, minor: Any) -> int:
        major._obj.value, minor._obj.value = self._card(handle).capability
        return 0

    def nvmlDeviceGetMigMode(self, handle: Any, current: Any, pending: Any) -> int:
        current._obj.value = pending._obj.value = self._card(handle).mig
        return 0

    def nvmlDeviceGetTotalEccErrors(self, handle: Any, kind: Any, since: Any, count: Any) -> int:
        card = self._card(handle)
        if kind.value != 1:
            return 2
        count._obj.value = (card.volatile, card.aggregate)[since.value]
        return 0

    def nvmlDeviceGetRemappedRows(self, handle: Any, *numbers: Any) -> int:
        rows = self._card(handle).rows
        if rows is None:
            return 3
        for number, value in zip(numbers, rows):
            number._obj.value = value
        return 0

    def nvmlDeviceGetRetiredPagesPendingStatus(self, handle: Any, pending: Any) -> int:
        value = self._card(handle).pages_pending
        pending._obj.value = value or 0
        return 3 if value is None else 0

    def nvmlDeviceGetPersistenceMode(self, handle: Any, mode: Any) -> int:
        mode._obj.value = self._card(handle).persistence
        return 0

    def nvmlDeviceGetComputeRunningProcesses_v3(self, handle: Any, count: Any, array: Any) -> int:
        processes = self._card(handle).processes
        if not processes:
            count._obj.value = 0
            return 0
        if array is None:
            count._obj.value = len(processes)
            return 7
        for place, (pid, memory) in zip(array, processes.items()):
            place.pid, place.memory = pid, memory
        count._obj.value = len(processes)
        return 0

    def _card(self, handle: Any) -> FakeCard:
        card: FakeCard = self._cards[handle.value - 1]
        return card


class FakeHost:
    """One healthy card with a driver built by dkms for one kernel; tests break what they need."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.cards: list[FakeCard] = []
        self.nvml_version = VERSION
        self.nvml_status = 0
        # What programs print, by their command line; absent ones are not installed.
        self.programs: dict[str, str] = {}
        self.pci = root / "sys/bus/pci/devices"
        self.pci.mkdir(parents=True)
        (root / "proc/driver/nvidia").mkdir(parents=True)
        (root / "proc/sys/kernel").mkdir(parents=True)
        (root / "proc/sys/kernel/osrelease").write_text(f"{KERNEL}\n")
        (root / "dev").mkdir()
        (root / "dev/kmsg").write_text("6,1,1,-;Linux version\n")
        for name in ("nvidia0", "nvidiactl", "nvidia-uvm"):
            (root / "dev" / name).touch()
        self.device("0000:00:1f.0", vendor="0x8086", kind="0x0c0330")
        self.card("0000:3b:00.0")
        self.load(VERSION)
        self.kernel(KERNEL)
        self.dkms({KERNEL: "installed"})

    def device(
        self,
        address: str,
        vendor: str = "0x10de",
        kind: str = "0x030200",
        node: int = 0,
        device_id: str = "0x2335",
    ) -> None:
        """Put a device onto the bus."""
        device = self.pci / address
        device.mkdir()
        for name, value in (("vendor", vendor), ("class", kind), ("device", device_id)):
            (device / name).write_text(f"{value}\n")
        (device / "numa_node").write_text(f"{node}\n")
        (device / "config").write_bytes(b"\xde\x10\x35\x23")

    def card(self, address: str, node: int = 0, device_id: str = "0x2335", **told: Any) -> FakeCard:
        """Put a GPU onto the bus, which NVML knows as well."""
        self.device(address, node=node, device_id=device_id)
        card = FakeCard(address, **told)
        self.cards.append(card)
        return card

    def switch(self, address: str = "0000:05:00.0") -> None:
        """Put an NVSwitch onto the bus."""
        self.device(address, kind="0x068000")

    def load(self, version: str | None) -> None:
        """Load the driver's module, or none."""
        file = self.root / "proc/driver/nvidia/version"
        file.unlink(missing_ok=True)
        if version:
            file.write_text(_MODULE.format(version))

    def libraries(self, version: str) -> None:
        """Have libraries of another version than the loaded module."""
        self.nvml_status = 18
        (self.root / "proc/self").mkdir(exist_ok=True)
        (self.root / "proc/self/maps").write_text(
            f"7f0 r-xp 0 8:1 5  /lib/libnvidia-ml.so.{version}\n"
        )

    def kernel(
        self, release: str, module: str | None = VERSION, signer: str | None = "DKMS key"
    ) -> None:
        """Install a kernel with its headers, and the driver's module for it."""
        (self.root / "lib/modules" / release / "kernel").mkdir(parents=True, exist_ok=True)
        (self.root / "lib/modules" / release / "build").mkdir(exist_ok=True)
        for name, value in (("version", module), ("signer", signer if module else None)):
            line = f"{value}\n" if value else ""
            self.programs[f"modinfo -k {release} -F {name} nvidia"] = line

    def build_log(self, text: str, folder: str = "nvidia/580.95.05/build") -> None:
        """Leave what a build by dkms printed."""
        place = self.root / "var/lib/dkms" / folder
        place.mkdir(parents=True, exist_ok=True)
        (place / "make.log").write_text(text)

    def remove_headers(self, release: str) -> None:
        """Take a kernel's headers away."""
        (self.root / "lib/modules" / release / "build").rmdir()

    def dkms(self, states: dict[str, str] | None, version: str = VERSION) -> None:
        """Say what dkms tells of each kernel; None for a host without dkms."""
        self.programs.pop("dkms status", None)
        if states is not None:
            lines = [f"nvidia/{version}, {kernel}, x86_64: {s}" for kernel, s in states.items()]
            self.programs["dkms status"] = "\n".join(lines or [f"nvidia/{version}: added"])

    def secure_boot(self) -> None:
        """Turn Secure Boot on."""
        folder = self.root / "sys/firmware/efi/efivars"
        folder.mkdir(parents=True)
        (folder / _SECURE_BOOT).write_bytes(b"\x06\x00\x00\x00\x01")

    def own_key(self, enrolled: bool) -> None:
        """Give the host a key of its own for modules."""
        key = self.root / "var/lib/dkms/mok.pub"
        key.parent.mkdir(parents=True)
        key.touch()
        told = "is already enrolled" if enrolled else "is not enrolled"
        self.programs[f"mokutil --test-key {key}"] = f"{key} {told}\n"

    def process(self, pid: int, name: str, unit: str, *opened: str) -> None:
        """Run a process that has files open."""
        entry = self.root / "proc" / str(pid)
        (entry / "fd").mkdir(parents=True)
        (entry / "comm").write_text(f"{name}\n")
        (entry / "cgroup").write_text(f"0::/system.slice/{unit}\n" if unit else "0::/\n")
        for number, path in enumerate(opened):
            (entry / "fd" / str(number)).symlink_to(path)

    def xid(self, address: str, number: int) -> None:
        """Let the driver report an error of a card."""
        with (self.root / "dev/kmsg").open("a") as log:
            log.write(f"3,8,1,-;NVRM: Xid (PCI:{address[:-2]}): {number}, pid=1, something\n")

    def falls_off(self, address: str) -> None:
        """Let a card fall off the bus."""
        self.xid(address, 79)
        (self.pci / address / "config").write_bytes(b"\xff" * 64)

    def run_command(self, command: list[str], **_options: object) -> tuple[int, str, str]:
        """Answer as AnsibleModule.run_command does."""
        line = " ".join(command)
        if line in self.programs:
            return (0 if self.programs[line] else 1), self.programs[line], ""
        if command[0] == "systemctl":
            return 3, "inactive\n", ""
        raise FileNotFoundError(command[0])

    def gpus(self) -> Gpus:
        """The facts of this host."""
        library = FakeNvml(self.cards, self.nvml_version, self.nvml_status)
        found = read_gpus(self.run_command, self.root, lambda: library)
        assert library.open == 0, "NVML is left open"
        return found
