# Copyright: (c) The gpufleet maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Asks vLLM to stop in the way in which open requests come to their end."""

from __future__ import annotations

import contextlib
import os
import signal
import time

from _probe import Unreachable
from guard_admission import admit_none, closed_file
from guard_api_servers import TITLE as _API_SERVER
from guard_processes import Process, descendants, is_alive
from guard_settings import Settings

_SETTLE = 1.0  # for requests on their way to the engine, which would not take them any more
_STOP_GRACE = 15.0  # vLLM needs some seconds on top of its own --shutdown-timeout
_START_GRACE = 5.0  # before its port is open it serves nobody, and does not heed SIGTERM
# As the kernel cuts titles off: VLLM::EngineCore.
_ENGINE = "VLLM::EngineCor"


class Stop:
    """One stop of the vLLM whose main process is ``pid``; it may take ``seconds``."""

    def __init__(self, pid: int, settings: Settings) -> None:
        self._pid = pid
        self._engines: list[int] = []
        if not _serves(settings):
            self.seconds = _START_GRACE
            terminate([pid])
            return
        self.seconds = settings.shutdown_timeout_seconds + _STOP_GRACE
        if closed_file() is not None:
            admit_none()
            time.sleep(_SETTLE)
        asked = receivers(pid, descendants(os.getpid()))
        terminate(asked)
        self._engines = [one for one in asked if one != pid]

    def proceed(self) -> None:
        """Ask the main process once all engines that were asked have ended.

        Of an engine that ends with status 0 vLLM 0.32 takes no notice (`monitor_engine_liveness`).
        """
        if self._engines and not any(is_alive(pid) for pid in self._engines):
            self._engines = []
            terminate([self._pid])


def receivers(pid: int, processes: list[Process]) -> list[int]:
    """Whom to ask, of all ``processes`` below the guard.

    A single API server is the main process and has its engine finish first; a worker that gets
    the signal too would break the drain. Several API servers leave the engine at once, which cuts
    every stream (`handle_shutdown` of vLLM 0.24 and 0.32; 0 of 64 came to their end): there
    the engines are asked first.
    """
    titles = [process.title for process in processes]
    engines = [process.pid for process in processes if process.title.startswith(_ENGINE)]
    return engines if engines and any(title.startswith(_API_SERVER) for title in titles) else [pid]


def terminate(pids: list[int]) -> None:
    """Send SIGTERM to those that are still there."""
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGTERM)


def _serves(settings: Settings) -> bool:
    try:
        settings.target([]).client.connect(1.0)
    except Unreachable as error:
        return error.reason != "refused"
    return True
