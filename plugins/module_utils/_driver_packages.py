# Copyright: The gpufleet maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Packages of the driver and of the kernel, by apt or by dnf, behind one set of methods."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from fnmatch import fnmatchcase
from typing import Protocol

# Status, output and errors of a command with these further environment variables.
Run = Callable[[list[str]], tuple[int, str, str]]
_VERSION = re.compile(r"\b\d{3}\.\d+(?:\.\d+)?\b")


class PackageError(Exception):
    """The packages cannot be brought to what is wanted; the text says why and what to do."""


class CommandError(PackageError):
    """A command of the package manager failed; the text has the end of what it printed."""


def version_in(text: str) -> str:
    """First version of a driver in a text, such as 580.95.05, or an empty string."""
    found = _VERSION.search(text)
    return found.group() if found else ""


def in_version(version: str, prefix: str) -> bool:
    """Whether a package's version is of a driver version, such as 3:580.95.05-1 of 580."""
    upstream = version.partition(":")[2] or version
    return upstream == prefix or upstream.startswith((f"{prefix}.", f"{prefix}-"))


def _numbers(version: str) -> list[int]:
    """What a version is sorted by."""
    return [int(digits) for digits in re.findall(r"\d+", version)]


def matching(names: Iterable[str], patterns: Iterable[str]) -> list[str]:
    """Names that match one of the patterns; those of container tools are never the driver's."""
    wanted = list(patterns)
    return sorted(
        name
        for name in names
        if "container" not in name and any(fnmatchcase(name, pattern) for pattern in wanted)
    )


class Packages(Protocol):
    """What apt and dnf have in common here."""

    def installed(self) -> dict[str, str]:
        """Version of every package that is wholly installed."""

    def kernels(self, installed: dict[str, str]) -> list[str]:
        """Suffixes of the kernels' packages, for the packages that each of them needs beside it."""

    def available(self, name: str) -> list[str]:
        """Versions that the repositories have of a package, the newest first."""

    def refresh(self) -> None:
        """Read the indexes of the repositories anew."""

    def install(self, wanted: dict[str, str]) -> None:
        """Install packages, each in the version given, or in any where it is empty."""

    def upgrade(self, names: list[str], rehearse: bool) -> list[str]:
        """Bring installed packages up to date and return what changes; or only return it."""

    def remove(self, names: list[str]) -> None:
        """Remove packages and their settings."""

    def held(self) -> set[str]:
        """Packages that no upgrade touches."""

    def hold(self, names: list[str]) -> None:
        """Keep upgrades off packages."""

    def release(self, names: list[str]) -> None:
        """Let upgrades touch packages again."""


def _call(run: Run, command: list[str]) -> str:
    status, output, errors = run(command)
    if status != 0:
        said = f"{output}\n{errors}".strip()
        raise CommandError(f"{' '.join(command[:3])} ended with {status}:\n{said[-2500:]}")
    return output


def build(run: Run, kernel: str) -> None:
    """Have DKMS build and install what it knows of for one kernel."""
    _call(run, ["dkms", "autoinstall", "-k", kernel])


class Apt:
    """Debian and Ubuntu."""

    # The holds are this module's own, and those of dependencies would stop apt as well.
    _CHANGE = (
        "--ignore-hold",
        "--allow-change-held-packages",
        "--allow-downgrades",
        "--no-install-recommends",
    )
    _APT = ("apt-get", "--yes", "--quiet", "--option=DPkg::Lock::Timeout=300")
    _KEEP = ("--option=Dpkg::Options::=--force-confdef", "--option=Dpkg::Options::=--force-confold")

    def __init__(self, run: Run, alone: str = "") -> None:
        """`alone` is a file of sources to go on with where others cannot be reached."""
        self._run, self._alone = run, alone

    def installed(self) -> dict[str, str]:
        """Version of every package that is wholly installed."""
        form = "${Package}\t${Version}\t${db:Status-Abbrev}\n"
        lines = _call(self._run, ["dpkg-query", "--show", f"--showformat={form}"]).splitlines()
        fields = (line.split("\t") for line in lines)
        return {name: version for name, version, status in fields if status[1:2] == "i"}

    def kernels(self, installed: dict[str, str]) -> list[str]:
        """Releases of kernels, and flavours such as amd64, whose package brings the newest one."""
        found = []
        for name in installed:
            suffix = re.sub(r"^linux-image-(unsigned-)?|-unsigned$", "", name)
            # Ubuntu's virtual is the kernel of generic, and nothing else is named after it.
            suffix = re.sub(r"^virtual(?=$|-)", "generic", suffix)
            if name.startswith("linux-image-") and not suffix.endswith("-dbg"):
                found.append(suffix)
        return sorted(set(found))

    def available(self, name: str) -> list[str]:
        """Versions that the repositories have of a package, the newest first."""
        lines = _call(self._run, ["apt-cache", "madison", name]).splitlines()
        fields = (line.split("|") for line in lines)
        return [field[1].strip() for field in fields if len(field) > 2 and "Packages" in field[2]]

    def refresh(self) -> None:
        """Read the indexes of the repositories anew."""
        update = [*self._APT, "--option=APT::Update::Error-Mode=any", "update"]
        try:
            _call(self._run, update)
        except CommandError:
            if not self._alone:
                raise
            only = ("SourceList=" + self._alone, "SourceParts=-")
            kept = "--option=APT::Get::List-Cleanup=0"
            _call(self._run, [*update, *(f"--option=Dir::Etc::{option}" for option in only), kept])

    def install(self, wanted: dict[str, str]) -> None:
        """Install packages, each in the version given, or in any where it is empty."""
        specs = [f"{name}={version}" if version else name for name, version in wanted.items()]
        _call(self._run, [*self._APT, *self._KEEP, *self._CHANGE, "install", *specs])

    def upgrade(self, names: list[str], rehearse: bool) -> list[str]:
        """Bring installed packages up to date and return what changes; or only return it."""
        step = [*self._KEEP, *self._CHANGE, "--only-upgrade", "install", *names]
        planned = _call(self._run, [*self._APT, "--simulate", *step])
        changes = re.findall(r"^(?:Inst|Remv) (\S+)", planned, re.MULTILINE)
        if changes and not rehearse:
            _call(self._run, [*self._APT, *step])
        return sorted(changes)

    def remove(self, names: list[str]) -> None:
        """Remove packages and their settings."""
        _call(self._run, [*self._APT, "--allow-change-held-packages", "purge", *names])

    def held(self) -> set[str]:
        """Packages that no upgrade touches."""
        return set(_call(self._run, ["apt-mark", "showhold"]).split())

    def hold(self, names: list[str]) -> None:
        """Keep upgrades off packages."""
        _call(self._run, ["apt-mark", "hold", *names])

    def release(self, names: list[str]) -> None:
        """Let upgrades touch packages again."""
        _call(self._run, ["apt-mark", "unhold", *names])


class Dnf:
    """Red Hat Enterprise Linux and its rebuilds; holds are those of the plugin versionlock."""

    # Without the plugin, which would hide every version but the one that is locked.
    _DNF = ("dnf", "--assumeyes", "--quiet")
    _UNLOCKED = (*_DNF, "--disableplugin=versionlock")

    def __init__(self, run: Run) -> None:
        self._run = run

    def installed(self) -> dict[str, str]:
        """Version of every package, and of each kernel-devel by its release: there are several."""
        form = "%{NAME}\t%{VERSION}-%{RELEASE}\n"
        lines = _call(self._run, ["rpm", "--query", "--all", f"--queryformat={form}"]).splitlines()
        found = [line.split("\t") for line in lines]
        several = {f"{name}-{own}": own for name, own in found if name == "kernel-devel"}
        return {**dict(found), **several}

    def kernels(self, installed: dict[str, str]) -> list[str]:
        """Releases of the installed kernels."""
        form = "%{VERSION}-%{RELEASE}\n"
        return sorted(
            _call(self._run, ["rpm", "--query", f"--queryformat={form}", "kernel-core"]).split()
        )

    def available(self, name: str) -> list[str]:
        """Versions that the repositories have of a package, the newest first."""
        form = "%{version}-%{release}\n"
        query = [*self._UNLOCKED, "repoquery", f"--queryformat={form}", name]
        # dnf sorts them as words, by which 95 comes after 105.
        return sorted(_call(self._run, query).split(), key=_numbers, reverse=True)

    def refresh(self) -> None:
        """Read the indexes of the repositories anew."""
        _call(self._run, [*self._UNLOCKED, "makecache", "--refresh"])

    def install(self, wanted: dict[str, str]) -> None:
        """Install packages, each in the version given, or in any where it is empty."""
        specs = [f"{name}-{version}" if version else name for name, version in wanted.items()]
        _call(self._run, [*self._UNLOCKED, "install", "--allowerasing", *specs])

    def upgrade(self, names: list[str], rehearse: bool) -> list[str]:
        """Bring installed packages up to date and return what changes; or only return it."""
        status, output, errors = self._run([*self._UNLOCKED, "check-update", *names])
        if status not in (0, 100):
            raise PackageError(f"dnf check-update ended with {status}:\n{output}\n{errors}")
        listed = output.partition("Obsoleting Packages")[0].splitlines()
        changes = sorted({line.split(".")[0] for line in listed if line.strip()})
        if changes and not rehearse:
            _call(self._run, [*self._UNLOCKED, "upgrade", *names])
        return changes

    def remove(self, names: list[str]) -> None:
        """Remove packages."""
        _call(self._run, [*self._UNLOCKED, "remove", *names])

    def held(self) -> set[str]:
        """Packages that no upgrade touches."""
        status, output, _errors = self._run([*self._DNF, "versionlock", "list"])
        # Without the plugin, which comes with the packages, nothing is locked.
        lines = output.splitlines() if status == 0 else []
        return {re.sub(r"-\d+:.*$", "", line.strip()) for line in lines if ":" in line}

    def hold(self, names: list[str]) -> None:
        """Keep upgrades off packages."""
        _call(self._run, [*self._DNF, "versionlock", "delete", *names])
        _call(self._run, [*self._DNF, "versionlock", "add", *names])

    def release(self, names: list[str]) -> None:
        """Let upgrades touch packages again."""
        _call(self._run, [*self._DNF, "versionlock", "delete", *names])


def is_there(entry: str, prefix: str, installed: dict[str, str]) -> bool:
    """Whether one of the names of an entry is installed, in a version that begins with `prefix`."""
    versions = (installed[name] for name in entry.split("|") if name in installed)
    return any(not prefix or in_version(version, prefix) for version in versions)


def choose(packages: Packages, entry: str, prefix: str) -> tuple[str, str]:
    """Name and version to install for one entry; the version is empty where any will do.

    `entry` may offer names that mean the same in other branches, as `nvidia-dkms-580|nvidia-dkms`.
    Raises PackageError when the repositories have none of them in a version of `prefix`.
    """
    names = entry.split("|")
    others: list[str] = []
    for name in names:
        found = packages.available(name)
        fitting = [version for version in found if not prefix or in_version(version, prefix)]
        if fitting:
            return name, fitting[0] if prefix else ""
        others += [f"{name} {version}" for version in found]
    wanted = " or ".join(names)
    if prefix:
        has = f"they have {', '.join(others)}" if others else "they have no version of it at all"
        raise PackageError(
            f"The package repositories have no {wanted} of version {prefix}; {has}.\n"
            "Remedy: set nvidia_driver_branch or nvidia_driver_version to what they have, or "
            "nvidia_driver_source to where that version is."
        )
    if wanted.startswith("linux-modules-nvidia-"):
        raise PackageError(
            f"The package repositories have no {wanted}: the driver was never built for that "
            "kernel.\nRemedy: bring the kernel up to date or remove its package; or "
            "nvidia_driver_source: nvidia, which builds on the host."
        )
    if re.match(r"(linux-headers|kernel-devel)-", wanted):
        raise PackageError(
            f"The package repositories have no {wanted}, and no module can be built for a kernel "
            "without its headers.\nRemedy: remove that kernel's package, or bring its headers."
        )
    raise PackageError(
        f"The package repositories have no {wanted}.\n"
        "Remedy: bring it to the repository that nvidia_driver_source names."
    )


def summary(installed: dict[str, str], patterns: list[str], held: set[str]) -> str:
    """Packages that match, with version and hold, as lines for a diff."""
    lines = []
    for name in matching(installed, patterns):
        hold = " (held)" if name in held else ""
        lines.append(f"{name} {installed[name]}{hold}\n")
    return "".join(lines)
