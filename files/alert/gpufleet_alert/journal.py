"""The last lines of a unit, as the journal has them."""

from __future__ import annotations

import json
import math
import subprocess
import time
from typing import Any

from gpufleet_alert.redact import clean

_TIMEOUT_SECONDS = 15


def last_lines(unit: str, count: int, until: float) -> list[str]:
    """At most `count` lines of `unit` before the time `until` (Unix seconds), each with its time.

    Without secrets and prompts. Where the journal cannot be read, one line that says so.
    """
    if count == 0:
        return []
    command = ["journalctl", f"--unit={unit}", f"--until=@{math.ceil(until) + 1}"]
    command += [f"--lines={count}", "--output=json", "--no-pager", "--quiet"]
    try:
        done = subprocess.run(
            command, capture_output=True, timeout=_TIMEOUT_SECONDS, check=True, errors="replace"
        )
    except (OSError, subprocess.SubprocessError) as error:
        return [f"(the journal could not be read: {type(error).__name__})"]
    return [line for record in done.stdout.splitlines() for line in _lines(record)][-count:]


def _lines(record: str) -> list[str]:
    try:
        fields: dict[str, Any] = json.loads(record)
        message = fields.get("MESSAGE") or ""
        # What is not UTF-8 comes as numbers.
        known = bytes(message).decode(errors="replace") if isinstance(message, list) else message
        at = time.localtime(int(fields.get("__REALTIME_TIMESTAMP", 0)) / 1e6)
    except (ValueError, TypeError):
        return []  # cut short, or with a field that is there twice
    text = str(known)
    cleaned = (clean(line) for line in text.splitlines())
    return [f"{time.strftime('%H:%M:%S', at)} {line}" for line in cleaned if line]
