# Copyright: (c) The gpufleet maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Asks a running instance the canary question every few minutes, where that is set.

An engine can answer nonsense with status 200 for hours; only a known answer shows it.
"""

from __future__ import annotations

import threading

from _probe import Target, check
from guard_incident import Incidents
from guard_log import Log
from guard_settings import CanarySettings
from guard_watch import Watch

# An answer of some words under load takes its time; too slow is the watch's business, not ours.
_TIMEOUT = 120.0
_CONFIRM_SECONDS = 5.0


class CanaryWatch:
    """``failed`` holds the reason once the answer is wrong and the instance is to be restarted."""

    def __init__(
        self, target: Target, settings: CanarySettings, watch: Watch, incidents: Incidents, log: Log
    ) -> None:
        self._target = target
        self._settings = settings
        self._watch = watch
        self._incidents = incidents
        self._log = log
        self._stop = threading.Event()
        self.failed: str | None = None

    def start(self) -> None:
        """Ask in a thread of its own until ``stop``; not at all where no interval is set."""
        if self._target.canary is not None and self._settings.every_minutes > 0:
            threading.Thread(target=self._loop, name="canary", daemon=True).start()

    def stop(self) -> None:
        """Ask no further question."""
        self._stop.set()

    def _loop(self) -> None:
        while not self._stop.wait(self._settings.every_minutes * 60) and self.failed is None:
            # Whether it answers at all is the watch's business.
            if self._watch.state in ("ready", "busy"):
                try:
                    self._ask()
                except Exception as error:  # a broken question must not harm what it asks
                    self._log.error(f"the canary failed by itself: {type(error).__name__}: {error}")

    def _ask(self) -> None:
        problem = self._wrong()
        if problem == "":
            self._incidents.recovered("the canary answers as expected", of="canary_failed")
            return
        if problem is None or self._stop.wait(_CONFIRM_SECONDS):
            return
        # Once may be chance: a batch of other shape can round differently.
        problem = self._wrong()
        if not problem:
            return
        self._log.error(f"wrong answer: {problem}")
        if self._settings.restart:
            self.failed = problem
        else:
            self._incidents.failed("canary_failed", problem)

    def _wrong(self) -> str | None:
        """Return what is wrong with the answer, "" when nothing is, None when there was none."""
        seen = check(self._target, "canary", _TIMEOUT, alive=True)
        if seen.ready:
            return ""
        return seen.detail if seen.level == "canary" and seen.state == "wrong_answer" else None
