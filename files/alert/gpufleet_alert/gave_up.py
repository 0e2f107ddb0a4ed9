"""The notice of a unit that systemd starts no more, made when OnFailure= calls."""

from __future__ import annotations

import os
import re
import subprocess
import time
from collections.abc import Mapping
from pathlib import Path

from gpufleet_alert.files import read_json
from gpufleet_alert.notice import Notice

_INSTANCE = re.compile(r"vllm@(.+)\.service")
# An instance's name is part of a path.
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]*")
_PROPERTIES = ("ActiveState", "NRestarts", "Result", "ExecMainStatus")
_WRONG_CONFIGURATION = "78"


def gave_up(unit: str, incidents: Path) -> Notice | None:
    """The notice about `unit`, or None where it has not failed for good."""
    shown = _show(unit)
    if shown.get("ActiveState", "failed") != "failed":
        return None
    now = time.time()
    match = _INSTANCE.fullmatch(unit)
    instance = match.group(1) if match else ""
    incident = _incident(incidents, instance)
    restarts = incident.get("restarts", shown.get("NRestarts") or 0)
    return Notice(
        kind="gave_up",
        unit=unit,
        instance=instance,
        what=str(incident.get("what") or _what(shown, os.environ)),
        since=_number(incident.get("since"), now),
        at=now,
        restarts=int(_number(restarts, 0)),
    )


def _show(unit: str) -> dict[str, str]:
    """Properties of the unit; none where systemd cannot be asked."""
    command = ["systemctl", "show", "--property=" + ",".join(_PROPERTIES), "--", unit]
    try:
        done = subprocess.run(command, capture_output=True, timeout=15, check=True, text=True)
    except (OSError, subprocess.SubprocessError):
        return {}
    pairs = (line.partition("=") for line in done.stdout.splitlines())
    return {name: value for name, _equals, value in pairs if value}


def _incident(directory: Path, instance: str) -> dict[str, object]:
    """What the guard says of an incident that is not over; empty where there is none."""
    if not _NAME.fullmatch(instance):
        return {}
    try:
        return read_json(directory / f"{instance}.json")
    except (OSError, ValueError):
        return {}


def _what(shown: Mapping[str, str], environment: Mapping[str, str]) -> str:
    # systemd hands these to the units of OnFailure=, so the bus is not needed.
    result = environment.get("MONITOR_SERVICE_RESULT") or shown.get("Result") or "unknown"
    status = environment.get("MONITOR_EXIT_STATUS") or shown.get("ExecMainStatus") or "unknown"
    if status == _WRONG_CONFIGURATION:
        return "it ended with status 78: its configuration is wrong, or a GPU is lost"
    return f"it failed (result {result}, status {status})"


def _number(value: object, otherwise: float) -> float:
    try:
        return float(str(value))
    except ValueError:
        return otherwise
