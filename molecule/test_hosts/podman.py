"""Podman on this machine, which runs the test hosts."""

from __future__ import annotations

import os
import subprocess


def podman(*arguments: str, text: str = "") -> None:
    """Run podman as root; raises AssertionError with its words when it refuses."""
    as_root = [] if os.geteuid() == 0 else ["sudo"]
    command = [*as_root, "podman", *arguments]
    done = subprocess.run(command, input=text, text=True, check=False, capture_output=True)
    assert done.returncode == 0, f"{command}: {done.stderr}"
