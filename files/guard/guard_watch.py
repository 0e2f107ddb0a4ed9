# Copyright: (c) The gpufleet maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Watches a running instance for a hang that vLLM's own /health does not see.

While the heartbeat moves, no probe is sent. When it stands still, one token is asked for.
``failures`` probes in a row without an answer, the heartbeat still through all of them, make a
hang. Load never does: with a moving heartbeat nothing is counted.
"""

from __future__ import annotations

import threading
import time
from dataclasses import replace

from _probe import (
    Client,
    Observed,
    State,
    Unreachable,
    generated_tokens,
    observe,
    read_heartbeat,
    send_token_probe,
)
from guard_log import Log
from guard_settings import WatchSettings

_METRICS_TIMEOUT = 5.0
_LOOK_WHILE_STARTING = 1.0
# What vLLM's admission control answers, also where the engine behind the queue hangs.
_FULL = (429, 503)


class Watch:
    """One watch; ``hung`` holds the reason once the instance hangs."""

    def __init__(self, client: Client, model: str, settings: WatchSettings, log: Log) -> None:
        self._client = client
        self._model = model
        self._settings = settings
        self._log = log
        self._stop = threading.Event()
        self._watching = False
        self._heartbeat: float | None = None
        self._failures = 0
        self._said = ""
        self.hung: str | None = None

    @property
    def state(self) -> State:
        """What the watch knows now, without asking again."""
        if self._stop.is_set():
            return "dead"
        if not self._watching:
            return "starting"
        if self.hung or self._failures > 0:
            return "hung"
        return "busy" if self._said.startswith("busy") else "ready"

    def start(self) -> None:
        """Watch in a thread of its own until ``stop`` or a hang."""
        threading.Thread(target=self._loop, name="watch", daemon=True).start()

    def stop(self) -> None:
        """Send no further probe; a probe under way is abandoned."""
        self._stop.set()

    def _loop(self) -> None:
        pause = self._settings.interval_seconds
        while not self._stop.wait(pause):
            try:
                pause = self.look()
            except Exception as error:  # a broken prober must not harm what it watches
                self._say(f"the watch failed and goes on: {type(error).__name__}: {error}")
                self._failures = 0
                pause = self._settings.interval_seconds
            if self.hung:
                return

    def look(self) -> float:
        """Look once; return the seconds to wait before the next look."""
        interval = self._settings.interval_seconds
        if not self._watching:
            self._wait_for_first_token()
            return min(interval, _LOOK_WHILE_STARTING)
        if self._failures == 0 and self._progressed():
            # Looking sooner keeps the time to see a hang short; it costs no token.
            return interval / 2
        return self._probe()

    def _wait_for_first_token(self) -> None:
        """Begin to watch once any token has been generated since the start."""
        try:
            beat = read_heartbeat(self._client, _METRICS_TIMEOUT)
            # A heartbeat above zero may be a request that has not succeeded yet: ask as well.
            reply = None
            if not beat:
                timeout = self._settings.probe_timeout_seconds
                reply = send_token_probe(self._client, self._model, timeout)
        except Unreachable:
            return  # still starting: the gate's business
        if beat or (reply and reply.status == 200 and generated_tokens(reply.json())):
            self._watching = True
            self._heartbeat = beat
            self._log.info("watching for hangs")

    def _progressed(self) -> bool:
        try:
            beat = read_heartbeat(self._client, _METRICS_TIMEOUT)
        except Unreachable:
            return False
        moved = beat is not None and beat != self._heartbeat
        self._heartbeat = beat
        return moved

    def _probe(self) -> float:
        # The first probe is patient, the others confirm: the whole stays below a minute.
        patience = self._settings.probe_timeout_seconds / (1 if self._failures == 0 else 2)
        started = time.monotonic()
        seen = observe(
            self._client,
            lambda timeout: send_token_probe(self._client, self._model, timeout),
            patience,
            baseline=self._heartbeat,
        )
        if seen.moved is None and _fails(seen):
            # It came too soon to tell load from a hang.
            self._stop.wait(max(0.0, patience - (time.monotonic() - started)))
            moved = self._progressed()
            seen = replace(seen, moved=None if self._heartbeat is None else moved)
        elif seen.heartbeat is not None:
            self._heartbeat = seen.heartbeat
        if self._stop.is_set():
            return 0.0
        failure = self._judge(seen)
        if failure is None:
            self._failures = 0
            return self._settings.interval_seconds
        self._failures += 1
        count = f"{self._failures} of {self._settings.failures}"
        self._say(f"probe {count} failed: {failure}")
        if self._failures >= self._settings.failures:
            self.hung = f"{self._failures} probes failed and the heartbeat stands still: {failure}"
        # A failure that comes at once must not shorten the time that a hang takes to be one.
        return max(0.0, patience - (time.monotonic() - started))

    def _judge(self, seen: Observed) -> str | None:
        """Return why this probe counts as failed, or None when it does not."""
        if seen.reply is not None and not _fails(seen):
            if seen.reply.status == 200:
                self._say("")
            else:  # the engine may be well: the probe itself is refused
                self._say(f"the token probe gets {seen.reply.status}: {seen.reply.excerpt()}")
            return None
        refused = seen.reply is not None and seen.reply.status in _FULL
        failure = str(seen.error) if seen.error else f"status {seen.reply and seen.reply.status}"
        if seen.moved or (seen.moved is None and refused):
            answer = f"the probe got {failure.removeprefix('status ')}" if seen.reply else ""
            self._say(f"busy: {answer or 'no answer to the probe, but the heartbeat moves'}")
            return None
        if seen.moved is None and self._heartbeat is None:
            self._say(f"{failure}; no heartbeat in /metrics: a hang cannot be told from load")
            return None
        return failure

    def _say(self, message: str) -> None:
        """Print a message when it differs from the last one; "" means that all is well."""
        if message == self._said:
            return
        if message:
            self._log.info(message)
        elif self._said:
            self._log.info("answers again")
        self._said = message


def _fails(seen: Observed) -> bool:
    """Whether the probe got no answer, or one of a server that is full or broken."""
    return seen.reply is None or seen.reply.status >= 500 or seen.reply.status in _FULL
