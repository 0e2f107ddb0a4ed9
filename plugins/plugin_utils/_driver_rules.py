# Copyright: The gpufleet maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""When a driver is not installed, when a host is not restarted, and what is still to be done.

Each function takes what the module `nvidia_driver_info` returned for a host; each text says what
is wrong and what to do.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

Info = Mapping[str, Any]
# What is wanted of the host, as the role's vars have it in __nvidia_driver_plan.
Plan = Mapping[str, Any]

# R580 is the last branch for Maxwell, Pascal and Volta (NVIDIA, release notes of R580).
_LAST_PROPRIETARY_BRANCH = 580


def open_modules(info: Info, asked: str) -> bool:
    """Whether the open modules are to be installed; `asked` is nvidia_driver_modules."""
    if asked != "auto":
        return asked == "open"
    return all(gpu["open_modules"] for gpu in info["gpus"])


def refusals(info: Info, plan: Plan) -> list[str]:
    """Say why nothing of a driver may be installed as planned, one text for each reason."""
    found = [
        *_of_settings(plan),
        *_of_modules(info, plan),
    ]
    if info["secure_boot"] and plan["built"] and not info["signing_key_enrolled"]:
        found.append(
            "Secure Boot is on, and the firmware does not know the key that DKMS signs modules "
            "with: the kernel would refuse the driver.\n"
            "Remedy: at the host's console, `mokutil --import /var/lib/dkms/mok.pub` (made by "
            "`dkms generate_mok`), restart and confirm the key; or switch Secure Boot off in the "
            "firmware; or on Ubuntu nvidia_driver_source: distribution, whose modules are signed."
        )
    if info["runfile"]:
        found.append(
            "A driver was installed here by NVIDIA's .run file, and packages would overwrite parts "
            "of it.\nRemedy: run `nvidia-uninstall` on the host, then this play again."
        )
    return found


def _of_settings(plan: Plan) -> list[str]:
    found = []
    version, branch = str(plan["version"]), str(plan["branch"])
    if version and version.split(".")[0] != branch:
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
    if plan["reboot"] != "never" and plan["connection"] == "local":
        found.append(
            "nvidia_driver_reboot would restart the machine that runs this play.\n"
            "Remedy: nvidia_driver_reboot: never, and restart it by hand; or run the play from "
            "another machine."
        )
    return found


def _of_modules(info: Info, plan: Plan) -> list[str]:
    found = []
    closed_only = [gpu for gpu in info["gpus"] if not gpu["open_modules"]]
    open_only = [gpu for gpu in info["gpus"] if not gpu["proprietary_modules"]]
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


def _named(gpus: list[Mapping[str, Any]]) -> str:
    return ", ".join(f"the GPU at {gpu['address']} (device {gpu['device']})" for gpu in gpus)


def faults(info: Info) -> list[str]:
    """Say why a host with these packages must not be restarted, one text for each reason."""
    found = []
    for kernel in info["kernels"]:
        release, dkms = kernel["release"], kernel["dkms"]
        if kernel["module"] and (not dkms or dkms.startswith("installed")):
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
        log = "\n".join(["Last lines of the build:", *info["build_log"]])
        found.append(
            f"The driver is not installed for kernel {release}: {state}.\n{log}\n"
            "Remedy: another version of the driver (nvidia_driver_version), or remove that kernel; "
            f"`dkms autoinstall -k {release}` tries again."
        )
    versions = {kernel["module"] for kernel in info["kernels"] if kernel["module"]}
    library, manager = info["library_version"], info["fabric_manager_version"]
    if versions and library and versions != {library}:
        found.append(
            f"The modules are of version {', '.join(sorted(versions))}, and the libraries of "
            f"{library}: programs would end with 'Driver/library version mismatch'.\n"
            "Remedy: run this play with nvidia_driver_version set to one of them."
        )
    if info["nvswitches"] and manager != library:
        found.append(
            f"Fabric Manager is of version {manager or 'none'}, and the driver of {library}: the "
            "GPUs behind the NVSwitches would not start.\n"
            "Remedy: run this play with nvidia_driver_version set to one that the repository has "
            "both of."
        )
    return found


def pending(info: Info) -> dict[str, str]:
    """Say what brings the installed driver into use, and why: reload, reboot or nothing."""
    nothing = {"action": "none", "reason": ""}
    running = info["running_kernel"]
    module = next((k["module"] for k in info["kernels"] if k["release"] == running), "")
    if not info["gpus"]:
        return nothing
    if not module:
        return {
            "action": "reboot",
            "reason": f"the running kernel {running} has no module of the driver",
        }
    if info["rival_modules"]:
        return {
            "action": "reboot",
            "reason": f"{', '.join(info['rival_modules'])} drives the GPUs until the next start",
        }
    loaded = info["loaded_version"]
    if loaded == module:
        return nothing
    reason = (
        f"module {loaded} is loaded and {module} installed, so programs end with "
        "'Driver/library version mismatch'"
        if loaded
        else f"module {module} is installed and not loaded"
    )
    return {"action": "reload", "reason": reason}
