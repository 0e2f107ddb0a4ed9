# Copyright: The gpufleet maintainers
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The NVIDIA driver of a host: what is loaded, what is installed for each kernel, what may load."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from ansible_collections.gpufleet.llm.plugins.module_utils._host_finding import RunCommand
from ansible_collections.gpufleet.llm.plugins.module_utils._host_process import (
    Process,
    read_process,
)

_LOADED = re.compile(r"NVRM version: .*?Kernel Module.*?\s(\d+\.[\d.]*\d)\s")
_VERSION = re.compile(r"\d+\.[\d.]*\d")
# `nvidia/580.95.05, 6.1.0-40-amd64, x86_64: installed`; before dkms 3 `nvidia, 580.95.05, …`.
# nvidia-fs (GPUDirect Storage) and nvidia-peer-memory are not the driver.
_DKMS = re.compile(r"(nvidia(?!-fs|-peer)[\w-]*)[/,] ?([\w.-]+)(?:, ([^,]+), [^:]+)?: (\w+)")
_SECURE_BOOT = "sys/firmware/efi/efivars/SecureBoot-8be4df61-93ca-11d2-aa0d-00e098032b8c"
# Keys with which a host signs the modules that it builds itself, where dkms and shim keep them.
_OWN_KEYS = ("var/lib/dkms/mok.pub", "var/lib/shim-signed/mok/MOK.der")
# The driver's own, by as much of their names as the kernel keeps: they end when it is unloaded.
_OWN_DAEMONS = ("nvidia-persiste", "nv-fabricmanage")
# The module's name as NVIDIA has it, and as Debian does.
_MODULE_NAMES = ("nvidia", "nvidia-current-open", "nvidia-current")
# Other drivers for the same cards.
RIVALS = ("nouveau", "nova_drm", "nova_core")
# In the order in which they can be removed.
_LOADABLE = ("nvidia_uvm", "nvidia_drm", "nvidia_modeset", "nvidia_peermem", "nvidia", *RIVALS)
_LOG_LINES = 15
# Of a compiler and of make; what lies between is the command lines of other files.
_TELLING = re.compile(r"\berror\b|\*\*\*", re.IGNORECASE)


@dataclass(frozen=True)
class Kernel:
    """An installed kernel, and the driver's module for it: version, signer, and dkms's word."""

    release: str
    running: bool
    headers: bool
    module: str | None
    signer: str | None
    dkms: str | None

    @property
    def sound(self) -> bool:
        """Whether it has its module, wholly built."""
        return self.module is not None and self.dkms in (None, "installed")


@dataclass(frozen=True)
class Driver:
    """What is loaded and what would be; `dkms` is the version that dkms is to build, if any."""

    loaded: str | None
    open_module: bool | None
    modules: list[str]
    devices: list[str]
    holders: list[Process]
    kernels: list[Kernel]
    dkms: str | None
    build_log: list[str]
    runfile: bool
    secure_boot: bool
    own_key_enrolled: bool | None


def read_driver(run_command: RunCommand, root: Path = Path("/")) -> Driver:
    """Look at this host; files are read below `root`."""
    loaded, open_module = _loaded(root / "proc/driver/nvidia/version")
    built = _dkms(run_command)
    kernels = _kernels(run_command, root, {kernel: state for _v, kernel, state in built})
    return Driver(
        loaded=loaded,
        open_module=open_module,
        modules=[name for name in _LOADABLE if (root / "sys/module" / name).is_dir()],
        devices=sorted(path.name for path in (root / "dev").glob("nvidia*")),
        holders=_holders(root / "proc"),
        kernels=kernels,
        dkms=built[0][0] if built else None,
        build_log=[] if all(kernel.module for kernel in kernels) else build_log(root),
        runfile=(root / "usr/bin/nvidia-uninstall").exists(),
        secure_boot=_secure_boot(root),
        own_key_enrolled=_own_key_enrolled(run_command, root),
    )


def unbuilt_kernels(run_command: RunCommand, root: Path = Path("/")) -> list[str]:
    """Kernels that dkms can build a module for, having their headers, and has not.

    Packages have it build for the running kernel and the newest at most. None without dkms's word
    of the driver.
    """
    built = _dkms(run_command)
    kernels = _kernels(run_command, root, {kernel: state for _v, kernel, state in built})
    return [kernel.release for kernel in kernels if built and kernel.headers and not kernel.sound]


def fabric_manager(run_command: RunCommand) -> tuple[str | None, bool]:
    """Version of the Fabric Manager, None without one, and whether its unit is active."""
    found = _VERSION.search(output_of(run_command, "nv-fabricmanager", "--version"))
    state = output_of(run_command, "systemctl", "is-active", "nvidia-fabricmanager").strip()
    return found.group() if found else None, state == "active"


def build_log(root: Path = Path("/")) -> list[str]:
    """Errors of the newest log of a build by dkms, else its last lines; none without a log."""
    logs = [path for path in (root / "var/lib/dkms").glob("nvidia*/**/make.log") if path.is_file()]
    if not logs:
        return []
    newest = max(logs, key=lambda path: path.stat().st_mtime)
    lines = newest.read_text(encoding="utf-8", errors="replace").splitlines()
    errors = [line for line in lines if _TELLING.search(line)]
    return errors[:_LOG_LINES] or lines[-_LOG_LINES:]


def output_of(run_command: RunCommand, *command: str) -> str:
    """Output of a command, empty where there is no such program."""
    try:
        _status, output, _errors = run_command(list(command), handle_exceptions=False)
    except FileNotFoundError:
        return ""
    return output


def _loaded(file: Path) -> tuple[str | None, bool | None]:
    try:
        text = file.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return None, None
    found = _LOADED.search(text)
    return (found.group(1) if found else None), "Open Kernel Module" in text


def _kernels(run_command: RunCommand, root: Path, dkms: dict[str, str]) -> list[Kernel]:
    try:
        running = (root / "proc/sys/kernel/osrelease").read_text().strip()
    except OSError:
        running = ""

    def field(kernel: str, name: str, module: str) -> str | None:
        text = output_of(run_command, "modinfo", "-k", kernel, "-F", name, module).strip()
        return text.splitlines()[0] if text else None

    def read(place: Path) -> Kernel:
        release = place.name
        tried = ((name, field(release, "version", name)) for name in _MODULE_NAMES)
        module, version = next((found for found in tried if found[1]), ("", None))
        return Kernel(
            release=release,
            running=release == running,
            headers=(place / "build").exists(),
            module=version,
            signer=field(release, "signer", module) if module else None,
            dkms=dkms.get(release),
        )

    # Of a kernel that was removed, modules built on the host may be left, but not its own.
    return [read(place.parent) for place in sorted((root / "lib/modules").glob("*/kernel"))]


def _dkms(run_command: RunCommand) -> list[tuple[str, str, str]]:
    """Version, kernel and state of each build; the kernel is empty for what is only added."""
    lines = output_of(run_command, "dkms", "status").splitlines()
    found = [match for match in map(_DKMS.match, lines) if match]
    return [(match.group(2), match.group(3) or "", match.group(4)) for match in found]


def _holders(proc: Path) -> list[Process]:
    """Processes that have a device of the driver open, so that it cannot be unloaded."""
    found = []
    for entry in sorted(proc.iterdir()) if proc.is_dir() else []:
        if not entry.name.isdigit():
            continue
        try:
            links = [str(link.readlink()) for link in (entry / "fd").iterdir()]
            if any(link.startswith("/dev/nvidia") for link in links):
                found.append(read_process(entry))
        except OSError:
            continue  # it ended meanwhile
    return [process for process in found if process.name not in _OWN_DAEMONS]


def _secure_boot(root: Path) -> bool:
    """The last byte of the firmware's variable, after four bytes of attributes."""
    try:
        return (root / _SECURE_BOOT).read_bytes()[-1:] == b"\x01"
    except OSError:
        return False  # started without UEFI


def _own_key_enrolled(run_command: RunCommand, root: Path) -> bool | None:
    """Whether the firmware trusts what this host signs; None where it has no key of its own."""
    keys = [root / key for key in _OWN_KEYS if (root / key).exists()]
    told = [output_of(run_command, "mokutil", "--test-key", str(key)) for key in keys]
    known = ["is already enrolled" in text for text in told if "enrolled" in text]
    return any(known) if known else None
