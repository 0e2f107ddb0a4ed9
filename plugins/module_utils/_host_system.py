# Copyright: The gpufleet maintainers
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Is this a system that the roles know, started by a systemd that knows their units' keys?"""

from __future__ import annotations

import os
import platform
import pwd
import re
from dataclasses import dataclass
from pathlib import Path

from ansible_collections.gpufleet.llm.plugins.module_utils._host_finding import (
    Finding,
    RunCommand,
    Seen,
    listed,
)

# Versions by distribution.
DISTRIBUTIONS = {"debian": ("12", "13"), "ubuntu": ("24.04",)}
# The role nginx asks systemctl for --timestamp=unix, which came with systemd 251, and the units
# were tried on 252 and newer. Ubuntu 22.04 has 249.
_SYSTEMD = 252
# The locks carry wheels for this processor alone.
_MACHINE = "x86_64"
_WITH_LOCKS = {"inference", "chat"}


@dataclass(frozen=True)
class System:
    """What a host is: distribution and version, processor, process 1, systemd, and our user.

    `systemd` is its version, 0 where there is none.
    """

    distribution: str
    version: str
    machine: str
    init: str
    systemd: int
    user: str


def read_system(run_command: RunCommand, root: Path = Path("/")) -> System:
    """Look at this host; files are read below `root`."""
    release = {}
    for line in (root / "etc/os-release").read_text().splitlines():
        name, _equals, value = line.partition("=")
        release[name] = value.strip().strip("\"'")
    return System(
        distribution=release.get("ID", "unknown"),
        version=release.get("VERSION_ID", ""),
        machine=platform.machine(),
        init=(root / "proc/1/comm").read_text().strip(),
        systemd=_systemd_version(run_command),
        user=pwd.getpwuid(os.geteuid()).pw_name,
    )


def _systemd_version(run_command: RunCommand) -> int:
    try:
        _status, shown, _errors = run_command(["systemctl", "--version"], handle_exceptions=False)
    except FileNotFoundError:
        return 0
    found = re.match(r"systemd (\d+)", shown)
    return int(found.group(1)) if found else 0


def check_system(system: System, groups: list[str]) -> Seen:
    """Compare the host with what the roles of its groups run on."""
    here = f"{system.distribution} {system.version or '(no version)'}"
    findings = []
    known = DISTRIBUTIONS.get(system.distribution, ())
    foreign = bool(groups) and system.version not in known
    if foreign:
        findings.append(
            Finding(
                "groups",
                f"It runs {here}; {_the_groups(groups)} run on {_known()} only.",
                f"Take this host out of {_the_groups(groups)}, or install one of these systems.",
            )
        )
    if system.init != "systemd":
        findings.append(
            Finding(
                "groups",
                f"Process 1 is {system.init}, not systemd, so no unit can run.",
                "Use a host that systemd starts; a container needs /sbin/init as its command.",
            )
        )
    old = bool(groups) and system.systemd < _SYSTEMD
    if old and not foreign and system.init == "systemd":
        findings.append(
            Finding(
                "groups",
                f"It has systemd {system.systemd}; {_the_groups(groups)} need {_SYSTEMD} or newer.",
                f"Take this host out of {_the_groups(groups)}, or upgrade its system.",
            )
        )
    locked = [group for group in groups if group in _WITH_LOCKS]
    if locked and system.machine != _MACHINE:
        findings.append(
            Finding(
                "groups",
                f"Its processor is {system.machine}; the locks for {_the_groups(locked)} are made "
                f"for {_MACHINE} alone.",
                f"Take this host out of {_the_groups(locked)}.",
            )
        )
    if system.user != "root":
        findings.append(
            Finding(
                "ansible_become",
                f"Ansible works here as {system.user}, without root's rights: nothing else of this "
                "host was checked.",
                "Connect as root, or let Ansible become root (become: true, and a user with sudo).",
            )
        )
    return Seen(f"{here}, systemd {system.systemd}, {system.machine}, {system.user}", findings)


def _the_groups(groups: list[str]) -> str:
    return f"the group{'s' if len(groups) > 1 else ''} {listed(groups)}"


def _known() -> str:
    return listed(
        [
            f"{name.capitalize()} {version}"
            for name, versions in DISTRIBUTIONS.items()
            for version in versions
        ]
    )
