"""Playbooks of the checkout against a scenario's inventory, as an operator runs them."""

from __future__ import annotations

import json
import os
import signal
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).resolve().parents[2]


def inventory() -> Path:
    """Return the folder of the scenario's inventory, from molecule/test_hosts/tasks/pytest.yml."""
    return Path(os.environ["TEST_INVENTORY"])


def instances() -> list[dict[str, Any]]:
    """Return the scenario's `vllm_instances`, to be changed by a test and handed to `run`."""
    text = (inventory() / "group_vars" / "all" / "main.yml").read_text()
    found: list[dict[str, Any]] = yaml.safe_load(text)["vllm_instances"]
    return found


def run(
    playbook: str,
    variables: Mapping[str, object] | None = None,
    options: Sequence[str] = (),
    wrapper: Sequence[str] = (),
) -> subprocess.CompletedProcess[str]:
    """Run a playbook, such as `site.yml`, to its end; what it printed is in `stdout`.

    `variables` win over the inventory; `wrapper` is a command that runs the whole.
    """
    started = start(playbook, variables, options, wrapper)
    output, _nothing = started.communicate()
    return subprocess.CompletedProcess(started.args, started.returncode, output)


def start(
    playbook: str,
    variables: Mapping[str, object] | None = None,
    options: Sequence[str] = (),
    wrapper: Sequence[str] = (),
) -> subprocess.Popen[str]:
    """Start a playbook in a process group of its own, as a shell does."""
    # A shell that runs this in the background has made it deaf to Ctrl-C.
    command = ["env", "--default-signal=INT", *wrapper, "ansible-playbook"]
    command += ["--inventory", str(inventory()), *options]
    return subprocess.Popen(
        [*command, "--extra-vars", json.dumps(variables or {}), str(ROOT / playbook)],
        # Of its own: ssh makes it non-blocking, and Ansible refuses to start with such a one.
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        cwd=ROOT,
        start_new_session=True,
        # Molecule asks for colours, whose codes stand between the words.
        env={**os.environ, "ANSIBLE_FORCE_COLOR": "0", "ANSIBLE_NOCOLOR": "1"},
    )


def press_ctrl_c(started: subprocess.Popen[str]) -> str:
    """Interrupt a playbook as a terminal does, and return what it printed."""
    os.killpg(started.pid, signal.SIGINT)
    output, _nothing = started.communicate(timeout=60)
    return output
