# Copyright: The gpufleet maintainers
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Is the driver of this host the one that vLLM needs, whole, and also there after a restart?"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import replace

from ansible_collections.gpufleet.llm.plugins.module_utils._gpu_driver import Driver, Kernel
from ansible_collections.gpufleet.llm.plugins.module_utils._gpu_facts import Gpus
from ansible_collections.gpufleet.llm.plugins.module_utils._gpu_nvml import OTHER_VERSION
from ansible_collections.gpufleet.llm.plugins.module_utils._host_finding import (
    ERROR,
    WARNING,
    Finding,
    Seen,
    listed,
)

VARIABLE = "nvidia_driver"
# Oldest branch of the driver by CUDA's major version (NVIDIA, "CUDA Toolkit Release Notes").
_BRANCHES = {12: 525, 13: 580}
_INSTALLED = "installed"
_RELOAD = (
    "systemctl stop nvidia-persistenced nvidia-fabricmanager; modprobe -r nvidia-uvm nvidia-drm "
    "nvidia-modeset nvidia-peermem nvidia; modprobe nvidia-uvm; then start both again."
)


def check_driver(
    gpus: Gpus, cuda: str, managed: bool, switched: bool = False, signed: bool = False
) -> Seen:
    """Judge the driver for vLLM's `cuda`, such as 13.0; nothing is judged where that is empty.

    `managed`: the role nvidia_driver is to bring the driver, so what it cures refuses nothing.
    `switched`: the host has NVSwitches, also where none is on PCI.
    `signed`: the modules that the role brings are signed by the distribution.
    """
    driver = gpus.driver
    curable = [*_absent(gpus), *_branch(gpus, cuda), *_mismatch(gpus), *_kernels(driver)]
    curable += [*_fabric_manager(gpus, switched), *_devices(driver)]
    incurable: list[Finding] = []
    (curable if signed else incurable).extend(_secure_boot(driver))
    # Libraries that are missing come with the packages; what is wrong with others stays.
    (incurable if gpus.user_space else curable).extend(_nvml(gpus))
    if managed:
        curable = [replace(finding, severity=WARNING) for finding in curable]
    loaded = driver.loaded or "not loaded"
    kind = ", open module" if driver.open_module else ""
    boot = ", Secure Boot" if driver.secure_boot else ""
    text = f"{loaded}{kind}, user space {gpus.user_space or 'absent'}{boot}"
    return Seen(text, [*curable, *incurable])


def _running(driver: Driver) -> Kernel | None:
    return next((kernel for kernel in driver.kernels if kernel.running), None)


def _absent(gpus: Gpus) -> Iterator[Finding]:
    driver, running = gpus.driver, _running(gpus.driver)
    if not gpus.cards or driver.loaded or _refused_by_firmware(driver, running):
        return
    if running and running.module:
        yield Finding(
            VARIABLE,
            f"The driver {running.module} is installed and not loaded.",
            "modprobe nvidia; where it refuses, journalctl --dmesg --grep 'NVRM|nvidia|nouveau' "
            "says why (often nouveau, which a restart gets rid of).",
        )
    else:
        yield Finding(
            VARIABLE,
            "No NVIDIA driver is loaded, and none is installed for the running kernel.",
            f"Install the driver of the branch {_BRANCHES[13]} or newer, with its user space "
            "(libnvidia-ml, libcuda).",
        )


def _branch(gpus: Gpus, cuda: str) -> Iterator[Finding]:
    needed = _BRANCHES.get(int(cuda.partition(".")[0] or 0))
    loaded = gpus.driver.loaded
    if needed and loaded and int(loaded.partition(".")[0]) < needed:
        yield Finding(
            VARIABLE,
            f"The driver {loaded} is loaded; vLLM's packages are made for CUDA {cuda}, which needs "
            f"{needed} or newer.",
            f"Install the driver of the branch {needed} or newer, then restart the host.",
        )


def _mismatch(gpus: Gpus) -> Iterator[Finding]:
    """A module in the kernel that is not of the version of the libraries: nothing works."""
    driver, user_space = gpus.driver, gpus.user_space
    if not driver.loaded or not user_space or driver.loaded == user_space:
        if driver.loaded and gpus.nvml_status == OTHER_VERSION and not user_space:
            yield Finding(
                VARIABLE,
                f"The loaded module {driver.loaded} and the libraries are of two versions.",
                "Restart the host; where it is the same after it, install both in one version.",
            )
        return
    running = _running(driver)
    problem = f"The module {driver.loaded} is loaded, the libraries are {user_space}"
    if not running or running.module != user_space:
        installed = running.module if running and running.module else "none"
        yield Finding(
            VARIABLE,
            f"{problem}, and the module installed for the running kernel is {installed}.",
            f"Install the module and the libraries in one version: neither a reload nor a restart "
            f"cures this. For DKMS: dkms install nvidia/{user_space}",
        )
    elif driver.holders:
        holders = listed(
            [f"{item.name} (pid {item.pid}{_unit(item.unit)})" for item in driver.holders[:5]]
        )
        yield Finding(
            VARIABLE,
            f"{problem}. {user_space} is installed; the old module is held by {holders}.",
            f"Restart the host. Or stop what holds it, then reload: {_RELOAD}",
        )
    else:
        yield Finding(
            VARIABLE,
            f"{problem}. {user_space} is installed, and nothing holds the old module.",
            f"Reload it, without a restart: {_RELOAD}",
        )


def _unit(name: str) -> str:
    return f", {name}" if name else ""


def _kernels(driver: Driver) -> Iterator[Finding]:
    """Each kernel that may be started next has the module, else the GPUs are gone after it."""
    # Where no kernel has one, modinfo is missing, or the driver lies elsewhere.
    modules_are_told = any(kernel.module for kernel in driver.kernels)
    for kernel in driver.kernels:
        severity = ERROR if kernel.running else WARNING
        after = "" if kernel.running else " After a restart into it there would be no GPU."
        if driver.dkms is None:
            if driver.loaded and modules_are_told and not kernel.module:
                yield Finding(
                    VARIABLE,
                    f"No module of the driver is installed for the kernel {kernel.release}.{after}",
                    "Install the package of the module for this kernel, or remove the kernel.",
                    severity,
                )
        elif kernel.dkms != _INSTALLED and (kernel.dkms or not kernel.module):
            headers = f"linux-headers-{kernel.release}"
            state = f"dkms says {kernel.dkms}" if kernel.dkms else "dkms has built none"
            build = f"dkms install nvidia/{driver.dkms} -k {kernel.release}"
            if not kernel.headers:
                problem = f"its headers ({headers}) are missing"
                remedy = f"apt-get install {headers}, then {build}"
            else:
                log = f"/var/lib/dkms/nvidia/{driver.dkms}/build/make.log"
                problem = "the build failed, or never ran"
                remedy = f"{build}; where it fails, {log} says why."
            yield Finding(
                VARIABLE,
                f"The driver {driver.dkms} is not built for the kernel {kernel.release} ({state}): "
                f"{problem}.{after}",
                remedy,
                severity,
            )


def _refused_by_firmware(driver: Driver, kernel: Kernel | None) -> bool:
    """Whether Secure Boot is in the way of the module that is installed."""
    if not driver.secure_boot or driver.loaded or not kernel or not kernel.module:
        return False
    # Only what was built here is signed with the host's own key.
    return kernel.signer is None or (kernel.dkms is not None and driver.own_key_enrolled is False)


def _secure_boot(driver: Driver) -> Iterator[Finding]:
    if not _refused_by_firmware(driver, _running(driver)):
        return
    kernel = _running(driver)
    signer = kernel.signer if kernel else None
    how = "is not signed" if signer is None else f"is signed by {signer}, which it does not know"
    yield Finding(
        VARIABLE,
        f"Secure Boot is on, and the driver's module {how}: the kernel does not load it.",
        "Use the signed modules of the distribution. Or enrol this host's key: mokutil --import "
        "/var/lib/dkms/mok.pub, restart, and confirm it at the console. Or turn Secure Boot off "
        "in the firmware.",
    )


def _devices(driver: Driver) -> Iterator[Finding]:
    if driver.loaded and "nvidia-uvm" not in driver.devices:
        yield Finding(
            VARIABLE,
            "There is no /dev/nvidia-uvm, without which CUDA does not start; the sandbox of the "
            "instances does not let them make it.",
            "nvidia-modprobe -c 0 -u; for each start of the host: echo nvidia-uvm > "
            "/etc/modules-load.d/nvidia-uvm.conf",
        )


def _fabric_manager(gpus: Gpus, switched: bool) -> Iterator[Finding]:
    """With NVSwitches, CUDA starts only when a Fabric Manager of the driver's version runs."""
    version, loaded = gpus.fabric_manager, gpus.driver.loaded
    if not (gpus.switches or switched) or not loaded:
        return
    has = "This host has NVSwitches"
    start = "systemctl enable --now nvidia-fabricmanager"
    package = f"nvidia-fabricmanager-{loaded.partition('.')[0]}"
    if not gpus.switches:
        has += ", as nvidia_driver_fabric_manager says"
        package = f"nvlink5-{loaded.partition('.')[0]}"
    if version != loaded:
        here = f"it is {version}" if version else "there is none"
        yield Finding(
            VARIABLE,
            f"{has}; their Fabric Manager must be {loaded} as the driver; {here}.",
            f"Install {package} in the version {loaded}, then {start}",
        )
    elif not gpus.fabric_manager_active:
        yield Finding(
            VARIABLE,
            f"{has}; their Fabric Manager does not run.",
            start if gpus.switches else f"{start}; it needs nvlsm, which comes with {package}.",
        )


def _nvml(gpus: Gpus) -> Iterator[Finding]:
    """The driver is loaded, and its library does not work for another reason than its version."""
    if gpus.driver.loaded and gpus.nvml_error and gpus.nvml_status != OTHER_VERSION:
        yield Finding(
            VARIABLE,
            f"The driver is loaded, and its library tells nothing. {_sentence(gpus.nvml_error)}",
            "Install the libraries of the driver's version, until `nvidia-smi` shows the cards.",
        )


def _sentence(text: str) -> str:
    return re.sub(r"\.*$", ".", text)
