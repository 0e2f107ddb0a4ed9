# Copyright: The gpufleet maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a host has of GPUs and of NVIDIA's driver, read from sysfs, /proc and the kernels' trees.

Everything works without a driver. `root` is the directory that stands for `/`.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

# Runs a command and returns its output, or an empty string when it fails or is not there.
Ask = Callable[[list[str]], str]

_NVIDIA = "0x10de"
# PCI classes: display controllers (VGA, 3D), and other bridges.
_GPU_CLASSES = ("0x0300", "0x0302")
_NVSWITCH_CLASS = "0x0680"
# Device ids grow with the generations (pci-ids.ucw.cz): Volta ends at 1df6, Turing begins at 1e02.
# The open modules support Turing and later (README of NVIDIA/open-gpu-kernel-modules).
_TURING = 0x1E00
# GB100 begins at 2900; the last Ada is 28f8. NVIDIA: only the open modules support Blackwell.
_BLACKWELL = 0x2900
# Grace Hopper, which they alone support too.
_GRACE_HOPPER = (0x2342, 0x2345, 0x2348)
_VERSION = re.compile(r"\b(\d{3}\.\d+(?:\.\d+)?)\b")
_SECURE_BOOT = "sys/firmware/efi/efivars/SecureBoot-8be4df61-93ca-11d2-aa0d-00e098032b8c"
# Keys that DKMS signs with: its own, and Ubuntu's and Debian's of shim.
_SIGNING_KEYS = ("var/lib/dkms/mok.pub", "var/lib/shim-signed/mok/MOK.der")
# In the order in which they can be removed.
_KERNEL_MODULES = ("nvidia_uvm", "nvidia_drm", "nvidia_modeset", "nvidia_peermem", "nvidia")
# As NVIDIA calls the module, and as Debian does.
_MODULE_FILES = ("nvidia", "nvidia-current-open", "nvidia-current")
# They hold the GPU themselves, and are stopped before the module is taken out.
_OWN_DAEMONS = ("nvidia-persiste", "nv-fabricmanage")
_LOG_LINES = 15


def read(path: Path) -> str:
    """Text of a small file, or an empty string when it cannot be read."""
    try:
        return path.read_text(errors="replace").strip()
    except OSError:
        return ""


def version_in(text: str) -> str:
    """First version of a driver in a text, such as 580.95.05, or an empty string."""
    found = _VERSION.search(text)
    return found.group(1) if found else ""


def pci_devices(root: Path) -> tuple[list[dict[str, Any]], int]:
    """GPUs of NVIDIA in the order of their addresses, and the number of NVSwitches."""
    gpus: list[dict[str, Any]] = []
    switches = 0
    for place in sorted((root / "sys/bus/pci/devices").glob("*")):
        if read(place / "vendor").lower() != _NVIDIA:
            continue
        kind = read(place / "class").lower()[:6]
        switches += kind == _NVSWITCH_CLASS
        if kind in _GPU_CLASSES:
            device = int(read(place / "device") or "0", 16)
            gpus.append(
                {
                    "address": place.name,
                    "device": f"0x{device:04x}",
                    "open_modules": device >= _TURING,
                    "proprietary_modules": device < _BLACKWELL and device not in _GRACE_HOPPER,
                }
            )
    return gpus, switches


def kernels(root: Path, ask: Ask) -> list[dict[str, Any]]:
    """Installed kernels: whether their headers are there, and which module of the driver is."""
    states = dkms_states(ask(["dkms", "status"]))
    found = []
    for place in sorted((root / "lib/modules").glob("*")):
        images = (root / "boot" / f"vmlinuz-{place.name}", place / "vmlinuz")
        if not any(image.exists() for image in images):
            continue
        files = (p for p in place.glob("**/nvidia*.ko*") if p.name.split(".")[0] in _MODULE_FILES)
        module = next(files, None)
        version = ask(["modinfo", "-F", "version", str(module)]).strip() if module else ""
        found.append(
            {
                "release": place.name,
                "headers": (place / "build" / "Makefile").exists(),
                "module": version,
                "dkms": states.get(place.name, ""),
            }
        )
    return found


def dkms_states(status: str) -> dict[str, str]:
    """State of the driver by kernel, from `dkms status`: installed, built, added or a warning."""
    found = {}
    for line in status.splitlines():
        # nvidia-current/535.261.03, 6.1.0-40-amd64, x86_64: installed (WARNING! ...)
        match = re.match(r"nvidia[^,/]*[/,]\s*[^,]+,\s*([^,]+),[^:]+:\s*(.+)", line)
        if match:
            found[match.group(1)] = match.group(2).strip()
    return found


def library_version(root: Path) -> str:
    """Version of the user space, which the file behind libnvidia-ml.so.1 has in its name."""
    for pattern in ("usr/lib/*-linux-gnu", "usr/lib64", "usr/lib"):
        for folder in sorted(root.glob(pattern)):
            link = folder / "libnvidia-ml.so.1"
            if link.exists():
                return version_in(link.resolve().name)
    return ""


def build_log(root: Path) -> list[str]:
    """Last lines of the newest log of a build of the driver."""
    logs = [path for path in (root / "var/lib/dkms").glob("nvidia*/**/make.log") if path.is_file()]
    if not logs:
        return []
    return read(max(logs, key=lambda path: path.stat().st_mtime)).splitlines()[-_LOG_LINES:]


def holders(root: Path) -> list[str]:
    """Processes that have a device of the driver open, but for its own daemons."""
    found = []
    for process in sorted((root / "proc").glob("[0-9]*"), key=lambda path: int(path.name)):
        name = read(process / "comm")
        if name.startswith(_OWN_DAEMONS):
            continue
        try:
            opened = [str(path.readlink()) for path in (process / "fd").iterdir()]
        except OSError:
            continue
        if any(target.startswith("/dev/nvidia") for target in opened):
            found.append(f"{name} (process {process.name})")
    return found


def secure_boot(root: Path) -> bool:
    """Whether only signed modules may be loaded, by the variable's byte after its attributes."""
    try:
        return (root / _SECURE_BOOT).read_bytes()[4:5] == b"\x01"
    except OSError:
        return False


def key_enrolled(root: Path, ask: Ask) -> bool:
    """Whether the firmware knows the key that DKMS signs with."""
    keys = (root / key for key in _SIGNING_KEYS)
    return any(
        "already enrolled" in ask(["mokutil", "--test-key", str(key)])
        for key in keys
        if key.exists()
    )


def state(root: Path, ask: Ask, running_kernel: str) -> dict[str, Any]:
    """All of it, as the module nvidia_driver_info returns it."""
    gpus, switches = pci_devices(root)
    locked = secure_boot(root)
    loaded = [name for name in _KERNEL_MODULES if (root / "sys/module" / name).is_dir()]
    return {
        "gpus": gpus,
        "nvswitches": switches,
        "running_kernel": running_kernel,
        "kernels": kernels(root, ask),
        "loaded_version": version_in(read(root / "proc/driver/nvidia/version")),
        "loaded_modules": loaded,
        "rival_modules": [
            name
            for name in ("nouveau", "nova_core", "nova_drm")
            if (root / "sys/module" / name).is_dir()
        ],
        "library_version": library_version(root),
        "fabric_manager_version": version_in(ask(["nv-fabricmanager", "--version"])),
        "secure_boot": locked,
        "signing_key_enrolled": locked and key_enrolled(root, ask),
        "runfile": (root / "usr/bin/nvidia-uninstall").exists(),
        "holders": holders(root),
        "build_log": build_log(root),
    }
