"""A host as files below a folder: GPUs on PCI, kernels, the driver in them, and what holds it."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[3]))

from ansible_collections.gpufleet.llm.plugins.module_utils import _driver_state

H200, V100, B200, T4 = "0x2335", "0x1db6", "0x2901", "0x1eb8"
KERNEL = "6.1.0-40-amd64"
DRIVER = "580.95.05"
SECURE_BOOT = "sys/firmware/efi/efivars/SecureBoot-8be4df61-93ca-11d2-aa0d-00e098032b8c"


class FakeHost:
    """Writes the files that a host with GPUs has, and answers commands."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.answers: dict[str, str] = {}

    def write(self, path: str, content: str = "") -> Path:
        """Write a file below the root."""
        place = self.root / path
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_text(content)
        return place

    def pci(
        self, address: str, device: str, kind: str = "0x030200", vendor: str = "0x10de"
    ) -> None:
        """Plug a device in."""
        for name, value in (("vendor", vendor), ("class", kind), ("device", device)):
            self.write(f"sys/bus/pci/devices/{address}/{name}", f"{value}\n")

    def kernel(self, release: str = KERNEL, headers: bool = True, module: str = DRIVER) -> None:
        """Install a kernel, its headers, and the driver's module in this version."""
        self.write(f"boot/vmlinuz-{release}")
        self.write(f"lib/modules/{release}/modules.dep")
        if headers:
            self.write(f"lib/modules/{release}/build/Makefile")
        if module:
            path = self.write(f"lib/modules/{release}/updates/dkms/nvidia-current-open.ko")
            self.write(f"lib/modules/{release}/updates/dkms/nvidia-current-open-uvm.ko")
            self.answers[f"modinfo -F version {path}"] = f"{module}\n"
            self.dkms(release, "installed")

    def dkms(self, release: str, state: str) -> None:
        """Let `dkms status` say this of a kernel."""
        line = f"nvidia-current-open/{DRIVER}, {release}, x86_64: {state}\n"
        self.answers["dkms status"] = self.answers.get("dkms status", "") + line

    def load(self, version: str = DRIVER) -> None:
        """Load the driver's module."""
        for name in ("nvidia", "nvidia_uvm"):
            self.write(f"sys/module/{name}/refcnt", "0")
        text = (
            f"NVRM version: NVIDIA UNIX Open Kernel Module for x86_64  {version}  Release Build\n"
        )
        self.write("proc/driver/nvidia/version", text + "GCC version:  gcc version 12.2.0\n")

    def libraries(self, version: str = DRIVER) -> None:
        """Install the user space as Debian does, over a link of alternatives."""
        real = self.write(f"usr/lib/x86_64-linux-gnu/nvidia/current/libnvidia-ml.so.{version}")
        (self.root / "usr/lib/x86_64-linux-gnu/libnvidia-ml.so.1").symlink_to(real)

    def hold(self, pid: int, name: str) -> None:
        """Let a process have a GPU open."""
        self.write(f"proc/{pid}/comm", f"{name}\n")
        (self.root / f"proc/{pid}/fd").mkdir()
        (self.root / f"proc/{pid}/fd/3").symlink_to("/dev/nvidia0")

    def state(self, running: str = KERNEL) -> dict[str, Any]:
        """Return what the module nvidia_driver_info returns for this host."""
        answers = self.answers
        return _driver_state.state(self.root, lambda c: answers.get(" ".join(c), ""), running)

    @classmethod
    def sound(cls, root: Path) -> FakeHost:
        """Return a host on which everything is as it should be."""
        host = cls(root)
        host.pci("0000:17:00.0", H200)
        host.kernel()
        host.load()
        host.libraries()
        return host


@pytest.fixture
def host(tmp_path: Path) -> FakeHost:
    """Return a host on which everything is as it should be."""
    return FakeHost.sound(tmp_path)


@pytest.fixture
def bare(tmp_path: Path) -> FakeHost:
    """Return a host with nothing."""
    return FakeHost(tmp_path)
