#!/usr/bin/python
# Copyright: The gpufleet maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: nvidia_driver_packages
short_description: Bring the packages of NVIDIA's driver to one version and hold them
version_added: 0.1.0
author: The gpufleet maintainers (@gpufleet)
description:
  - Installs packages in a version of the driver, with what every installed kernel needs beside it,
    and holds them together with the kernels, so that no upgrade parts them.
  - Works in check mode before the repository of the driver is there, which the modules for single
    package managers cannot.
  - What is there in the wanted version stays as it is. Moving to another branch goes both ways.
attributes:
  check_mode:
    description: Says what would be installed, held or removed, and changes nothing.
    support: full
  diff_mode:
    description: Shows the packages of the driver and of the kernels, before and after.
    support: full
options:
  manager:
    description: The package manager of the host.
    type: str
    choices: [apt, dnf]
    required: true
  state:
    description: Whether the driver is to be there.
    type: str
    choices: [present, absent]
    default: present
  version:
    description: Version of the driver, whole or its beginning, such as V(580).
    type: str
    required: true
  prerequisites:
    description: Packages that bring a repository or a tool that the others need.
    type: list
    elements: str
    default: []
  driver:
    description:
      - Packages that have the version of the driver. C(a|b) is the first of both that there is.
    type: list
    elements: str
    default: []
  others:
    description: Packages with versions of their own.
    type: list
    elements: str
    default: []
  per_kernel:
    description: Beginnings of the names of packages that every installed kernel needs.
    type: list
    elements: str
    default: []
  driver_patterns:
    description: What the driver's packages are called. O(state=absent) removes those.
    type: list
    elements: str
    required: true
  kernel_patterns:
    description: What the packages of kernels are called, which are held with the driver.
    type: list
    elements: str
    required: true
  upgrade:
    description: Bring kernels and driver, held or not, to the newest within O(version).
    type: bool
    default: false
  sources:
    description:
      - With apt, the file of the driver's sources. Where others cannot be reached, as on hosts
        without a way out, what is known of them is enough. Without it, all must be reached.
    type: path
  built:
    description:
      - Whether DKMS builds the driver's modules. It is then told to for every kernel, for packages
        have it build for the running one and the newest at most.
    type: bool
    default: false
"""

EXAMPLES = r"""
- name: Install the driver
  gpufleet.llm.nvidia_driver_packages:
    manager: apt
    version: "580"
    driver: [nvidia-driver-cuda, nvidia-kernel-open-dkms]
    per_kernel: [linux-headers-]
    driver_patterns: [nvidia-*, libnvidia-*, libcuda1]
    kernel_patterns: [linux-image-*, linux-headers-*]
    built: true
"""

RETURN = r"""
installed:
  description: Packages that were or would be installed, upgraded or removed.
  type: list
  elements: str
  returned: always
held:
  description: Packages that were or would be held, or released.
  type: list
  elements: str
  returned: always
built:
  description:
    - Kernels that a module was or would be built for, beside those that the packages build for.
  type: list
  elements: str
  returned: always
"""

from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.gpufleet.llm.plugins.module_utils._driver_packages import (
    Apt,
    CommandError,
    Dnf,
    PackageError,
    Packages,
    Run,
    build,
    choose,
    in_version,
    is_there,
    matching,
    summary,
    version_in,
)
from ansible_collections.gpufleet.llm.plugins.module_utils._gpu_driver import (
    build_log,
    unbuilt_kernels,
)
from ansible_collections.gpufleet.llm.plugins.module_utils._host_finding import RunCommand

_REMEDY = (
    "Remedy: another version of the driver (nvidia_driver_version), or remove the kernel that it "
    "cannot be built for, then run this play again. Do not restart the host before."
)
_REMEDY_OF_DEPENDENCIES = (
    "Remedy: where the modules of two kernels are of two versions of the driver, as old kernels of "
    "Ubuntu have them, remove the older kernel; otherwise set nvidia_driver_version to a version "
    "that the repository has whole."
)
_REMEDY_OF_SOURCES = (
    "Remedy: another file in /etc/apt/sources.list.d names the same repository with another key; "
    "remove it, for the role names the repository itself."
)


def lacking(
    packages: Packages, params: dict[str, Any], installed: dict[str, str]
) -> dict[str, str]:
    """Beginning of the version by entry, of all that are not installed as they should be."""
    kernels = packages.kernels(installed)
    beside = [f"{prefix}{kernel}" for prefix in params["per_kernel"] for kernel in kernels]
    wanted = {
        **dict.fromkeys(params["driver"], exact_version(params, installed)),
        **dict.fromkeys([*params["others"], *beside], ""),
    }
    return {
        entry: prefix for entry, prefix in wanted.items() if not is_there(entry, prefix, installed)
    }


def exact_version(params: dict[str, Any], installed: dict[str, str]) -> str:
    """Version that all the driver's packages share: as asked for, else that of the first."""
    version = str(params["version"])
    if version_in(version) or not params["driver"]:
        return version
    there = (installed[name] for name in params["driver"][0].split("|") if name in installed)
    return next((version_in(own) for own in there if in_version(own, version)), version)


def install(packages: Packages, params: dict[str, Any], missing: dict[str, str]) -> None:
    """Install what is missing, the driver's packages in the version of the first of them."""
    wanted: dict[str, str] = {}
    shared = ""
    for entry, prefix in missing.items():
        of_driver = entry in params["driver"]
        name, wanted[name] = choose(packages, entry, shared or prefix if of_driver else prefix)
        if of_driver:
            shared = shared or version_in(wanted[name])
    packages.install(wanted)


def bring(packages: Packages, params: dict[str, Any], check: bool) -> tuple[list[str], list[str]]:
    """Install, upgrade and hold; returns what was or would be installed, and held."""
    try:
        changes = change(packages, params, check)
    except PackageError:
        # Package managers let go of what they change, also when they fail half-way.
        hold(packages, params, check)
        raise
    return changes, hold(packages, params, check, anew=bool(changes))


def change(packages: Packages, params: dict[str, Any], check: bool) -> list[str]:
    """Install and upgrade; returns what was or would be."""
    installed = packages.installed()
    patterns = [*params["driver_patterns"], *params["kernel_patterns"]]
    first = [name for name in params["prerequisites"] if name not in installed]
    missing = lacking(packages, params, installed)
    changes = [*first, *missing]
    if changes and not check:
        packages.refresh()
        if first:
            packages.install(dict.fromkeys(first, ""))
            packages.refresh()
        if missing:
            install(packages, params, missing)
    if params["upgrade"]:
        if not check and not changes:
            packages.refresh()
        if version_in(str(params["version"])):
            # One version is asked for, and only the kernels have a newer one.
            patterns = params["kernel_patterns"]
        changes += packages.upgrade(matching(packages.installed(), patterns), check)
    return changes


def hold(packages: Packages, params: dict[str, Any], check: bool, anew: bool = False) -> list[str]:
    """Hold what of driver and kernels is there; returns what was or would be.

    With `anew` also what is held: the locks of dnf name versions, which may be those of before.
    """
    there = matching(packages.installed(), [*params["driver_patterns"], *params["kernel_patterns"]])
    loose = sorted(set(there) - packages.held())
    if (loose or anew) and not check:
        packages.hold(there if anew else loose)
    return loose


def take_away(
    packages: Packages, params: dict[str, Any], check: bool
) -> tuple[list[str], list[str]]:
    """Remove the driver and release the kernels; returns what was or would be so."""
    names = matching(packages.installed(), params["driver_patterns"])
    if names and not check:
        packages.remove(names)
    held = matching(packages.held(), [*params["driver_patterns"], *params["kernel_patterns"]])
    if held and not check:
        packages.release(held)
    return names, held


def build_rest(look: RunCommand, run: Run, params: dict[str, Any], check: bool) -> list[str]:
    """Have DKMS build for the kernels that the packages left out; returns them."""
    # Before the packages come there is no DKMS to ask.
    kernels = unbuilt_kernels(look) if params["built"] else []
    for kernel in [] if check else kernels:
        build(run, kernel)
    return kernels


def explained(error: PackageError) -> str:
    """What went wrong; where a module could not be built, with the log and what to do."""
    if isinstance(error, CommandError) and "unmet dependencies" in str(error):
        return f"{error}\n{_REMEDY_OF_DEPENDENCIES}"
    if "Conflicting values" in str(error):
        return f"{error}\n{_REMEDY_OF_SOURCES}"
    if not isinstance(error, CommandError) or "dkms" not in str(error):
        return str(error)
    return "\n".join([str(error), "The log of the build by DKMS:", *build_log(), _REMEDY])


def main() -> None:
    names = {"type": "list", "elements": "str"}
    module = AnsibleModule(
        argument_spec={
            "manager": {"type": "str", "choices": ["apt", "dnf"], "required": True},
            "state": {"type": "str", "choices": ["present", "absent"], "default": "present"},
            "version": {"type": "str", "required": True},
            "prerequisites": {**names, "default": []},
            "driver": {**names, "default": []},
            "others": {**names, "default": []},
            "per_kernel": {**names, "default": []},
            "driver_patterns": {**names, "required": True},
            "kernel_patterns": {**names, "required": True},
            "upgrade": {"type": "bool", "default": False},
            "sources": {"type": "path"},
            "built": {"type": "bool", "default": False},
        },
        supports_check_mode=True,
    )
    params = module.params

    def run(command: list[str]) -> tuple[int, str, str]:
        quiet = {"DEBIAN_FRONTEND": "noninteractive", "LC_ALL": "C.UTF-8"}
        status, output, errors = module.run_command(command, environ_update=quiet)
        return int(status), str(output), str(errors)

    packages: Packages = Dnf(run)
    if params["manager"] == "apt":
        packages = Apt(run, params["sources"] or "")
    patterns = [*params["driver_patterns"], *params["kernel_patterns"]]
    act = bring if params["state"] == "present" else take_away
    try:
        before = summary(packages.installed(), patterns, packages.held())
        changes, held = act(packages, params, module.check_mode)
        built = build_rest(module.run_command, run, params, module.check_mode)
        after = (
            before
            if module.check_mode
            else summary(packages.installed(), patterns, packages.held())
        )
    except PackageError as error:
        module.fail_json(msg=explained(error))
    if module.check_mode:
        after += "".join(f"{name} (to come or to go)\n" for name in changes)
        after += "".join(f"{name} (its hold to change)\n" for name in held)
    after += "".join(f"module for kernel {kernel}\n" for kernel in built)
    module.exit_json(
        changed=bool(changes or held or built),
        installed=changes,
        held=held,
        built=built,
        diff={"before": before, "after": after},
    )


if __name__ == "__main__":
    main()
