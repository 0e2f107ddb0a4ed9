"""A machine that cannot run the test hosts is told so before anything is installed on it."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

SETUP = Path(__file__).resolve().parents[3] / "molecule" / "test_hosts" / "setup.sh"


@pytest.mark.parametrize(
    ("need", "words"),
    [
        ("GPUFLEET_NEEDED_MEMORY_GIB", ["GiB of memory", "Remedy: use a larger machine"]),
        ("GPUFLEET_NEEDED_DISK_GIB", ["GiB free", "Remedy: free some space"]),
    ],
)
def test_refuses_a_small_machine(need: str, words: list[str]) -> None:
    done = subprocess.run(
        [str(SETUP)],
        env={**os.environ, need: "1000000"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    assert "Installing" not in done.stdout
    for word in words:
        assert word in done.stderr


def test_refuses_a_user_without_sudo(tmp_path: Path) -> None:
    """With a PATH that holds no sudo and an `id` that says: not root."""
    for tool in ("bash", "dirname", "printf", "env"):
        (tmp_path / tool).symlink_to(f"/usr/bin/{tool}")
    fake_id = tmp_path / "id"
    fake_id.write_text("#!/bin/sh\necho 1000\n")
    fake_id.chmod(0o755)
    done = subprocess.run(
        [str(SETUP)], env={"PATH": str(tmp_path)}, capture_output=True, text=True, check=False
    )
    assert done.returncode == 1
    assert "there is no sudo" in done.stderr
    assert "Remedy:" in done.stderr
