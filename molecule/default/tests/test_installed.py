"""The collection as users install it does what the checkout does."""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[3]


def run(*command: str, folder: Path) -> str:
    """Run a command away from the checkout, with the installed collection alone."""
    environment = {
        **os.environ,
        "ANSIBLE_COLLECTIONS_PATH": str(folder),
        "ANSIBLE_CONFIG": "",
        # Molecule asks for colours, whose codes stand between the words.
        "ANSIBLE_FORCE_COLOR": "0",
        "ANSIBLE_NOCOLOR": "1",
    }
    done = subprocess.run(
        command, cwd=folder, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, f"{command}: {done.stdout[-3000:]}{done.stderr[-1000:]}"
    return done.stdout


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Build the collection from the checkout, install it and return the place."""
    place = tmp_path_factory.mktemp("installed")
    run("ansible-galaxy", "collection", "build", "--output-path", ".", str(ROOT), folder=place)
    (archive,) = place.glob("*.tar.gz")
    install = ["ansible-galaxy", "collection", "install", "--offline", "--collections-path", "."]
    run(*install, archive.name, folder=place)
    return place


def test_site_of_the_installed_collection_changes_nothing(installed: Path) -> None:
    inventory = os.environ["TEST_INVENTORY"]
    output = run("ansible-playbook", "-i", inventory, "gpufleet.llm.site", folder=installed)
    recap = re.findall(r"ok=(\d+) +changed=(\d+) +unreachable=0 +failed=0", output)
    assert len(recap) == 1, output[-2000:]
    assert recap[0][1] == "0", [line for line in output.splitlines() if "changed:" in line]
    assert "Ask every model for an answer" in output


def test_modules_are_documented(installed: Path) -> None:
    listed = run("ansible-doc", "--list", "gpufleet.llm", folder=installed)
    for module in ("gated_unit", "llm_health", "locked_venv", "model_revision", "release"):
        assert f"gpufleet.llm.{module}" in listed
        shown = run("ansible-doc", f"gpufleet.llm.{module}", folder=installed)
        assert "EXAMPLES" in shown
        assert "RETURN VALUES" in shown
