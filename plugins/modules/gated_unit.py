#!/usr/bin/python
# Copyright: The gpufleet maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: gated_unit
short_description: Bring a systemd unit to its release and wait for its gate
version_added: 0.1.0
author: The gpufleet maintainers (@gpufleet)
description:
  - Enables the unit, and restarts it only when it must. It must when it is not active, when what
    it runs from differs from what its release holds, or when one of O(files) changed after it
    started.
  - What it runs from is read from the working directory of its main process, so a run that was
    interrupted between switch and restart is put right by the next one. A unit that is still
    starting from what it should is waited for, not restarted.
  - Waits for the gate (C(ExecStartPost=)) and tells how far it is. C(systemd) reports a unit as
    active only when the gate has passed.
  - When the gate fails, or the process ends before, the unit is stopped, and the module fails with
    its errors and the last lines of its journal. The unit's own restarts are for crashes, not for
    bad releases.
  - Never uses up the unit's start limit, which planned restarts share with crashes.
attributes:
  check_mode:
    description: Says whether the unit would be restarted and why, also where no unit exists yet.
    support: full
  diff_mode:
    description: Not needed; RV(reason) tells.
    support: none
  action:
    description: Waits on the control node, so that progress is seen.
    support: full
options:
  name:
    description: The unit, such as C(vllm@qwen3.service).
    type: str
    required: true
  inputs:
    description:
      - What the unit is to run from, as a dictionary from path in the release to SHA-256, in the
        form that the module M(gpufleet.llm.release) returns as C(digests).
    type: dict
    default: {}
  files:
    description: Other files whose change asks for a restart, such as credentials.
    type: list
    elements: path
    default: []
  changed_files:
    description: Says that O(files) changed in this run. Check mode needs to be told.
    type: bool
    default: false
  enabled:
    description: Whether the unit starts with the host.
    type: bool
    default: true
  wants:
    description:
      - Of a target, the units that it is to start. Others that it starts until now are stopped and
        disabled first. The target itself is started alone and not waited for.
    type: list
    elements: str
  deadline:
    description:
      - Seconds until the gate must have let the unit through, once what ran before has ended.
    type: int
    default: 900
  since:
    description: When the call began, in seconds since 1970 by the host's clock. The action plugin
      sets it.
    type: int
    default: 0
  step:
    description: What this call does; the action plugin sets it.
    type: str
    choices: [begin, look, stop]
    default: begin
"""

EXAMPLES = r"""
- name: Bring the instance to the new release
  gpufleet.llm.gated_unit:
    name: vllm@qwen3.service
    inputs: "{{ vllm_release.digests }}"
    files: [/etc/systemd/system/vllm@.service]
    deadline: 900
"""

RETURN = r"""
enabled:
  description: Whether the unit was, or would be, enabled by this run.
  type: bool
  returned: always
stopped:
  description: Units that were, or would be, stopped and disabled because O(wants) lacks them.
  type: list
  elements: str
  returned: with O(wants)
reason:
  description: Why the unit was, or would be, restarted. Empty when it was left alone.
  type: str
  returned: always
  sample: instances/qwen3.yaml differs from the running release
state:
  description: C(ActiveState) and C(SubState) of the unit.
  type: str
  returned: always
  sample: active (running)
seconds:
  description: How long the unit took to pass its gate.
  type: float
  returned: when restarted
errors:
  description: The last lines that the unit logged as errors in this run.
  type: list
  elements: str
  returned: on failure
journal:
  description: The last lines that the unit wrote.
  type: list
  elements: str
  returned: on failure
"""

import hashlib
import time
from pathlib import Path
from typing import Any

from ansible.module_utils.basic import AnsibleModule

PROPERTIES = (
    "LoadState",
    "ActiveState",
    "SubState",
    "Result",
    "MainPID",
    "NRestarts",
    "ExecMainStartTimestampMonotonic",
    "UnitFileState",
    "NeedDaemonReload",
    "Job",
)


def systemctl(module: AnsibleModule, *arguments: str) -> tuple[int, str, str]:
    """Run systemctl and return its status, output and errors, for the caller to look at."""
    status, output, errors = module.run_command(["systemctl", *arguments])
    return status, output, errors


def show(module: AnsibleModule, unit: str) -> dict[str, str]:
    """Properties of the unit by name; empty values where systemd knows none."""
    _status, output, _errors = systemctl(module, "show", "--property=" + ",".join(PROPERTIES), unit)
    pairs = (line.partition("=") for line in output.splitlines())
    found = {name: value for name, _equals, value in pairs}
    return {name: found.get(name, "") for name in PROPERTIES}


def state_of(shown: dict[str, str]) -> str:
    """State for people, such as `activating (start-post)`."""
    return "{} ({})".format(shown["ActiveState"] or "unknown", shown["SubState"] or "unknown")


def digest_of(path: Path) -> str:
    """SHA-256 of a file's content or of a link's target; empty when there is neither."""
    try:
        content = str(path.readlink()).encode() if path.is_symlink() else path.read_bytes()
    except OSError:
        return ""
    return hashlib.sha256(content).hexdigest()


def starts(shown: dict[str, str]) -> bool:
    """Whether the unit's main process runs and its gate has not passed yet."""
    return shown["SubState"] in ("start", "start-post") and shown["MainPID"] not in ("", "0")


def queued(shown: dict[str, str]) -> bool:
    """Whether systemd has a job for the unit that waits, for a unit before it as an example."""
    return shown["Job"] not in ("", "0")


def unwanted(target: str, wants: list[str]) -> list[str]:
    """Units that the target starts with the host and that `wants` lacks, sorted."""
    enabled = Path("/etc/systemd/system", f"{target}.wants")
    return sorted(link.name for link in enabled.glob("*") if link.name not in wants)


def restart_reason(shown: dict[str, str], inputs: dict[str, str], files: list[str]) -> str:
    """Why the unit must be restarted, or an empty string."""
    if shown["ActiveState"] != "active" and not starts(shown):
        return f"it is {state_of(shown)}"
    running = Path("/proc", shown["MainPID"], "cwd")
    for path, digest in sorted(inputs.items()):
        if digest_of(running / path) != digest:
            return f"{path} differs from the running release"
    # By today's clock: one that was set since, as after a boot, would put the start after the file.
    age = time.monotonic() - int(shown["ExecMainStartTimestampMonotonic"] or 0) / 1_000_000
    started = time.time() - age
    for name in files:
        if Path(name).exists() and Path(name).stat().st_mtime > started:
            return f"{name} changed after it started"
    return ""


def journal_of(module: AnsibleModule, unit: str, lines: int, *options: str) -> list[str]:
    """The last lines of the unit, without dates."""
    wanted = ["--unit", unit, "--lines", str(lines), "--output", "cat", "--no-pager", *options]
    _status, output, _errors = module.run_command(["journalctl", *wanted])
    return str(output).splitlines()


def begin(module: AnsibleModule) -> dict[str, Any]:
    """Enable the unit and restart it if it must be, without waiting for it."""
    unit, check = module.params["name"], module.check_mode
    shown = show(module, unit)
    if not check and (shown["NeedDaemonReload"] == "yes" or shown["LoadState"] == "not-found"):
        systemctl(module, "daemon-reload")
        shown = show(module, unit)
    wants = module.params["wants"]
    if wants is not None and queued(shown):
        reason = ""  # a target is active only after all that it wants
    else:
        reason = restart_reason(shown, module.params["inputs"], module.params["files"])
    if not reason and check and module.params["changed_files"]:
        reason = "its unit file or credentials change"
    to_enable = module.params["enabled"] and shown["UnitFileState"] != "enabled"
    to_stop = [] if wants is None else unwanted(unit, wants)
    result = {
        "began": int(time.time()),
        "changed": bool(reason or to_enable or to_stop),
        "enabled": to_enable,
        "reason": reason,
        "starting": not reason and starts(shown),
        "state": state_of(shown),
        "stopped": to_stop,
    }
    if check:
        return result
    if shown["LoadState"] != "loaded":
        module.fail_json(
            msg=f"{unit} cannot be started: systemd has it as '{shown['LoadState']}'. "
            f"Look at 'systemctl status {unit}' on the host."
        )
    for other in to_stop:
        ask(module, "disable", "--now", other)
        # One that systemd has given up stays failed, and its second chance would start it again.
        systemctl(module, "reset-failed", other)
    if to_enable:
        ask(module, "enable", unit)
    if reason or result["starting"]:
        # Planned starts and crashes share one start limit (systemd.unit(5), StartLimitBurst=).
        systemctl(module, "reset-failed", unit)
    if reason and wants is not None:
        # Alone: each unit that it wants is started, and waited for, by itself.
        ask(module, "--no-block", "--job-mode=ignore-dependencies", "start", unit)
    elif reason:
        started = shown["ActiveState"] not in ("inactive", "failed")
        ask(module, "--no-block", "restart" if started else "start", unit)
    return result


def ask(module: AnsibleModule, *arguments: str) -> None:
    """Run systemctl; the module fails with its words when it refuses."""
    status, _output, errors = systemctl(module, *arguments)
    if status != 0:
        module.fail_json(msg=f"systemctl {' '.join(arguments)}: {errors.strip()}")


def look(module: AnsibleModule) -> dict[str, Any]:
    """How far the unit is: `ready`, `waiting` or `failed`; its errors and last lines."""
    unit = module.params["name"]
    shown = show(module, unit)
    restarted = shown["NRestarts"] not in ("", "0") or shown["SubState"] == "auto-restart"
    if shown["ActiveState"] in ("active", "inactive", "failed") and queued(shown):
        verdict = "waiting"  # this is how the run before left it
    elif shown["ActiveState"] == "active":
        verdict = "ready"
    elif restarted or shown["ActiveState"] in ("failed", "inactive"):
        verdict = "failed"
    else:
        verdict = "waiting"
    # What a dying process prints last can be long, and hides the reason.
    since = "--since=@{}".format(module.params["since"])
    return {
        "changed": False,
        "verdict": verdict,
        "state": state_of(shown),
        "result": shown["Result"],
        "errors": journal_of(module, unit, 10, since, "--priority=err"),
        "journal": journal_of(module, unit, 15),
    }


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "name": {"type": "str", "required": True},
            "inputs": {"type": "dict", "default": {}},
            "files": {"type": "list", "elements": "path", "default": []},
            "changed_files": {"type": "bool", "default": False},
            "enabled": {"type": "bool", "default": True},
            "wants": {"type": "list", "elements": "str"},
            "deadline": {"type": "int", "default": 900},
            "since": {"type": "int", "default": 0},
            "step": {"type": "str", "choices": ["begin", "look", "stop"], "default": "begin"},
        },
        supports_check_mode=True,
    )
    unit = module.params["name"]
    if module.params["step"] == "begin":
        module.exit_json(**begin(module))
    if module.params["step"] == "look":
        module.exit_json(**look(module))
    systemctl(module, "stop", unit)
    module.exit_json(changed=True, state=state_of(show(module, unit)))


if __name__ == "__main__":
    main()
