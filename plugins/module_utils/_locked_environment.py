# Copyright: The gpufleet maintainers
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Where the environment of a lock is, or would be built, and with which Python."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from ansible_collections.gpufleet.llm.plugins.module_utils._host_finding import RunCommand
from ansible_collections.gpufleet.llm.plugins.module_utils._host_interpreter import (
    Interpreter,
    InterpreterError,
    find_interpreter,
    version_of,
)

# Part of the name: raise it when the way of building changes what is in the directory.
_LAYOUT = "1"


@dataclass(frozen=True)
class Environment:
    """The place of one environment, its interpreter, and whether it is there already."""

    place: Path
    interpreter: Interpreter
    built: bool


def environment_name(requirements: str, build_constraints: str, version: str) -> str:
    """Name of the environment: 16 hexadecimal digits from the hash of all that goes into it."""
    digest = hashlib.sha256()
    for part in (_LAYOUT, version, requirements, build_constraints):
        digest.update(part.encode())
        digest.update(b"\0")
    return digest.hexdigest()[:16]


def locate(
    run_command: RunCommand,
    directory: Path,
    name_of: Callable[[str], str],
    versions: list[str],
    python: str = "",
) -> Environment:
    """Return the environment that belongs to the interpreter found; `name_of` a version names it.

    Where no interpreter is in PATH any more, one that was built before and runs will do. Raises
    InterpreterError when there is neither.
    """
    try:
        interpreter = find_interpreter(run_command, versions, python)
    except InterpreterError:
        for version in [] if python else versions:
            place = directory / name_of(version)
            if runs(run_command, place, version):
                own = Interpreter(str(place / "bin" / "python"), version)
                return Environment(place, own, built=True)
        raise
    place = directory / name_of(interpreter.version)
    return Environment(place, interpreter, built=runs(run_command, place, interpreter.version))


def runs(run_command: RunCommand, place: Path, version: str) -> bool:
    """Whether an environment is there whose Python runs: the one it was built with may be gone."""
    return place.is_dir() and version_of(run_command, place / "bin" / "python") == version
