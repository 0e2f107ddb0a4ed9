# Copyright: (c) The gpufleet maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The gate: waits until a started instance is ready, and gives up for good reasons only."""

from __future__ import annotations

import time

from _probe import Check, Level, check
from guard_admission import admit_all
from guard_incident import Incidents
from guard_log import Log
from guard_processes import is_alive
from guard_settings import Settings, keys_of_run

_PAUSE_SECONDS = 1.0
_CONFIRM_SECONDS = 2.0
_PROGRESS_SECONDS = 10.0


def wait(settings: Settings, main_pid: int | None, incidents: Incidents, log: Log) -> bool:
    """Wait for the gate's level until its deadline; say why when it is not reached.

    Passing it ends an incident.
    """
    level: Level = "canary" if settings.gate.level == "canary" else "token"
    deadline = settings.gate.deadline_seconds
    started = time.monotonic()
    next_line = started + _PROGRESS_SECONDS
    confirmed: str | None = None
    while True:
        left = started + deadline - time.monotonic()
        timeout = max(0.1, min(settings.watch.probe_timeout_seconds, left))
        result = check(settings.target(keys_of_run()), level, timeout, alive=True)
        spent = time.monotonic() - started
        if result.ready:
            admit_all()
            log.info(f"ready after {spent:.0f} s: {result.detail}")
            incidents.recovered(f"ready after {spent:.0f} s: {result.detail}")
            return True
        if main_pid is not None and not is_alive(main_pid):
            log.error(
                f"gate gives up after {spent:.0f} s: the main process is gone; "
                "the lines above say why, look for the first error"
            )
            return False
        if result.final and confirmed == result.state:
            failure = f"gate fails: {result.state}, {result.detail}"
            log.error(f"{failure}; {_remedy(result)}")
            incidents.failed("restarted", failure)
            return False
        confirmed = result.state if result.final else None
        pause = _CONFIRM_SECONDS if result.final else _PAUSE_SECONDS
        if spent + pause >= deadline:  # a check cut short would say nothing
            failure = (
                f"gate fails: not ready in {deadline:.0f} s, last seen {result.state}, "
                f"{result.detail}"
            )
            log.error(f"{failure}; {_remedy(result)}")
            incidents.failed("restarted", failure)
            return False
        if time.monotonic() >= next_line:
            log.info(f"{result.state}, {spent:.0f} s of {deadline:.0f} s, {result.detail}")
            next_line = time.monotonic() + _PROGRESS_SECONDS
        time.sleep(pause)


def _remedy(result: Check) -> str:
    if result.state == "wrong_model":
        return "compare served_model_name in the instance's .json and .yaml, and the port's owner"
    if result.state == "wrong_answer" and result.level == "canary":
        return "check dtype, quantization and the model revision, then the canary's expect"
    if result.state == "wrong_answer":
        return "check the API key in the unit's credential and that the model generates text"
    if result.state in ("starting", "dead"):
        return "read the lines above for an error; if it is only slow, raise gate.deadline_seconds"
    return "read the lines above; if the first tokens are only slow, raise gate.deadline_seconds"
