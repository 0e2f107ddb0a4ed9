# Copyright: The gpufleet maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""When a driver is not installed, when a host is not restarted, and what is still to be done.

Each function takes what the module `gpu_facts` returned for a host; each text says what is wrong
and what to do.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ansible_collections.gpufleet.llm.plugins.module_utils._gpu_driver import RIVALS

Gpus = Mapping[str, Any]
# What is wanted of the host, as the role's vars have it in __nvidia_driver_plan.
Plan = Mapping[str, Any]

# R580 is the last branch for Maxwell, Pascal and Volta (NVIDIA, release notes of R580).
_LAST_PROPRIETARY_BRANCH = 580
# Device ids grow with the generations (pci-ids.ucw.cz): Volta ends at 1df6, Turing begins at 1e02.
# The open modules support Turing and later (README of NVIDIA/open-gpu-kernel-modules).
_TURING = 0x1E00
# GB100 begins at 2900; the last Ada is 28f8. NVIDIA: only the open modules support Blackwell.
_BLACKWELL = 0x2900
# Grace Hopper, which they alone support too.
_GRACE_HOPPER = (0x2342, 0x2345, 0x2348)


def open_modules(gpus: Gpus, asked: str) -> bool:
    """Whether the open modules are to be installed; `asked` is nvidia_driver_modules."""
    if asked != "auto":
        return asked == "open"
    return not _closed_only(gpus)


def _closed_only(gpus: Gpus) -> list[Mapping[str, Any]]:
    """Cards that the open modules do not support; one whose device is not told is none."""
    return [card for card in gpus["cards"] if 0 < _device(card) < _TURING]


def _open_only(gpus: Gpus) -> list[Mapping[str, Any]]:
    """Cards that the proprietary modules do not support."""
    return [
        card
        for card in gpus["cards"]
        if _device(card) >= _BLACKWELL or _device(card) in _GRACE_HOPPER
    ]


def _of_blackwell(gpus: Gpus) -> bool:
    return any(_device(card) >= _BLACKWELL for card in gpus["cards"])


def _device(card: Mapping[str, Any]) -> int:
    return int(card["device_id"] or "0", 16)


def refusals(gpus: Gpus, plan: Plan) -> list[str]:
    """Say why nothing of a driver may be installed as planned, one text for each reason."""
    found = [
        *_of_settings(gpus, plan),
        *_of_modules(gpus, plan),
    ]
    driver = gpus["driver"]
    if driver["secure_boot"] and plan["built"] and not driver["own_key_enrolled"]:
        found.append(
            "Secure Boot is on, and the firmware does not know the key that DKMS signs modules "
            "with: the kernel would refuse the driver.\n"
            "Remedy: at the host's console, `mokutil --import /var/lib/dkms/mok.pub` (made by "
            "`dkms generate_mok`), restart and confirm the key; or switch Secure Boot off in the "
            "firmware; or on Ubuntu nvidia_driver_source: distribution, whose modules are signed."
        )
    if driver["runfile"]:
        found.append(
            "A driver was installed here by NVIDIA's .run file, and packages would overwrite parts "
            "of it.\nRemedy: run `nvidia-uninstall` on the host, then this play again."
        )
    return found


def _of_settings(gpus: Gpus, plan: Plan) -> list[str]:
    found = []
    version, branch = str(plan["version"]), str(plan["branch"])
    if version and version.partition(".")[0] != branch:
        found.append(
            f"nvidia_driver_version {version} is not of nvidia_driver_branch {branch}.\n"
            "Remedy: correct one of them."
        )
    if plan["source"] == "local" and not plan["directory"]:
        found.append(
            "nvidia_driver_source is local, and no directory is named.\n"
            "Remedy: name the directory on the host in nvidia_driver_local_directory."
        )
    if plan["source"] == "distribution" and not plan["distribution_has_it"]:
        found.append(
            f"{plan['system']} has no driver of NVIDIA in its own archive.\n"
            "Remedy: nvidia_driver_source: nvidia, or local."
        )
    if plan["source"] == "distribution" and plan["nvlink5"] and _of_blackwell(gpus):
        found.append(
            "nvidia_driver_fabric_manager is always, and no distribution has the NVLink subnet "
            "manager, without which the NVSwitches beside Blackwell stay down.\n"
            "Remedy: nvidia_driver_source: nvidia; or nvidia_driver_fabric_manager: auto on a "
            "machine without NVSwitches."
        )
    if plan["reboot"] != "never" and plan["connection"] == "local":
        found.append(
            "nvidia_driver_reboot would restart the machine that runs this play.\n"
            "Remedy: nvidia_driver_reboot: never, and restart it by hand; or run the play from "
            "another machine."
        )
    return found


def _of_modules(gpus: Gpus, plan: Plan) -> list[str]:
    found = []
    closed_only, open_only = _closed_only(gpus), _open_only(gpus)
    if plan["open"] and closed_only:
        found.append(
            f"The open kernel modules do not support {_named(closed_only)}, which "
            "came before Turing.\nRemedy: nvidia_driver_modules: auto, or proprietary."
        )
    if not plan["open"] and open_only:
        found.append(
            f"Only the open kernel modules support {_named(open_only)}.\n"
            + (
                "Remedy: take the GPUs that came before Turing out of this host."
                if closed_only
                else "Remedy: nvidia_driver_modules: auto, or open."
            )
        )
    if closed_only and int(plan["branch"]) > _LAST_PROPRIETARY_BRANCH:
        found.append(
            f"Branch {plan['branch']} does not support {_named(closed_only)}, which came before "
            f"Turing.\nRemedy: nvidia_driver_branch: {_LAST_PROPRIETARY_BRANCH}."
        )
    return found


def _named(cards: list[Mapping[str, Any]]) -> str:
    return ", ".join(f"the GPU at {card['address']} (device {card['device_id']})" for card in cards)


def faults(gpus: Gpus, switched: bool = False) -> list[str]:
    """Say why a host with these packages must not be restarted, one text for each reason.

    `switched`: the host has NVSwitches, also where none is on PCI.
    """
    found = []
    driver = gpus["driver"]
    for kernel in driver["kernels"]:
        release, dkms = kernel["release"], kernel["dkms"]
        if kernel["module"] and dkms in (None, "installed"):
            continue
        if not kernel["module"] and not kernel["headers"]:
            found.append(
                f"Kernel {release} has no headers, so the driver could not be built for it: "
                "started with it, this host would have no GPU.\n"
                f"Remedy: install its headers, or remove that kernel; `dkms autoinstall -k "
                f"{release}` builds."
            )
            continue
        state = f"`dkms status` says {dkms}" if dkms else "`dkms status` does not know of it"
        log = "\n".join(["The log of the build:", *driver["build_log"]])
        found.append(
            f"The driver is not installed for kernel {release}: {state}.\n{log}\n"
            "Remedy: another version of the driver (nvidia_driver_version), or remove that kernel; "
            f"`dkms autoinstall -k {release}` tries again."
        )
    versions = {kernel["module"] for kernel in driver["kernels"] if kernel["module"]}
    library, manager = gpus["user_space"], gpus["fabric_manager"]
    if versions and library and versions != {library}:
        found.append(
            f"The modules are of version {', '.join(sorted(versions))}, and the libraries of "
            f"{library}: programs would end with 'Driver/library version mismatch'.\n"
            "Remedy: run this play with nvidia_driver_version set to one of them."
        )
    if (gpus["switches"] or switched) and versions and manager not in versions:
        found.append(
            f"Fabric Manager is of version {manager or 'none'}, and the driver of "
            f"{', '.join(sorted(versions))}: the GPUs behind the NVSwitches would not start.\n"
            "Remedy: run this play with nvidia_driver_version set to one that the repository has "
            "both of."
        )
    return found


def pending(gpus: Gpus) -> dict[str, str]:
    """Say what brings the installed driver into use (reload, reboot, none), why, and what holds it.

    The reason and the holders are words.
    """
    action, reason = _pending(gpus)
    holders = [
        f"{held['name']} (pid {held['pid']}{', ' if held['unit'] else ''}{held['unit']})"
        for held in gpus["driver"]["holders"]
    ]
    return {"action": action, "reason": reason, "holders": ", ".join(holders)}


def _pending(gpus: Gpus) -> tuple[str, str]:
    driver = gpus["driver"]
    loaded = driver["loaded"]
    module = next((kernel["module"] for kernel in driver["kernels"] if kernel["running"]), None)
    rivals = [name for name in driver["modules"] if name in RIVALS]
    if not gpus["cards"]:
        return "none", ""
    if not module:
        return "reboot", "the running kernel has no module of the driver"
    if rivals:
        return "reboot", f"{', '.join(rivals)} drives the GPUs until the next start"
    if loaded == module:
        return "none", ""
    if not loaded:
        return "reload", f"module {module} is installed and not loaded"
    return (
        "reload",
        f"module {loaded} is loaded and {module} installed, so programs end with "
        "'Driver/library version mismatch'",
    )
