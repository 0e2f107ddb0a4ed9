# Copyright: The gpufleet maintainers
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Find a Python on this host for which a lock was made."""

from __future__ import annotations

import os
import shutil
from dataclasses import dataclass
from pathlib import Path

from ansible_collections.gpufleet.llm.plugins.module_utils._host_finding import (
    RunCommand,
    listed,
)


class InterpreterError(Exception):
    """There is no Python for the lock: what is wrong, and what to do about it."""

    def __init__(self, problem: str, remedy: str) -> None:
        super().__init__(f"{problem} {remedy}")
        self.problem = problem
        self.remedy = remedy


@dataclass(frozen=True)
class Interpreter:
    """One interpreter: its path, and its version as `major.minor`."""

    path: str
    version: str


def version_of(run_command: RunCommand, path: str | Path) -> str:
    """Return `major.minor` of the interpreter at `path`, or an empty string when it is none."""
    if not os.access(path, os.X_OK):
        return ""
    try:
        status, output, _errors = run_command(
            [str(path), "-c", "import sys; print('%d.%d' % sys.version_info[:2])"],
            # Deaf to the settings of whoever calls: Python takes an empty one for none.
            environ_update={name: "" for name in os.environ if name.startswith("PYTHON")},
            expand_user_and_vars=False,
            handle_exceptions=False,
        )
    except OSError:
        return ""
    return output.strip() if status == 0 else ""


def find_interpreter(run_command: RunCommand, versions: list[str], path: str = "") -> Interpreter:
    """Return the interpreter at `path`, or without one the first of `versions` that is in PATH.

    Its version is asked of itself. No `versions` means that any will do. Raises InterpreterError.
    """
    if path:
        return _named(run_command, versions, path)
    for version in versions:
        found = shutil.which("python" + version)
        if found and version_of(run_command, found) == version:
            return Interpreter(found, version)
    raise InterpreterError(
        f"There is no Python {listed(versions, 'or')} in PATH; the lock was made for "
        f"{'these' if len(versions) > 1 else 'this'}.",
        "Install one (Debian 12: apt-get install python3.11; Ubuntu 24.04 has 3.12, Debian 13 "
        "3.13), or name its path in python_release_python.",
    )


def _named(run_command: RunCommand, versions: list[str], path: str) -> Interpreter:
    version = version_of(run_command, path)
    if not version:
        missing = "There is no" if not Path(path).exists() else "It does not run as a Python:"
        raise InterpreterError(
            f"{missing} {path}.",
            "Name an interpreter of this host, or leave python_release_python empty.",
        )
    if versions and version not in versions:
        raise InterpreterError(
            f"{path} is Python {version}; the lock was made for {listed(versions, 'or')}.",
            "Name one of these, or leave python_release_python empty to take the first in PATH.",
        )
    return Interpreter(path, version)
