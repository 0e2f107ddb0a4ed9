"""Takes notices in, and brings each to every service, until nothing waits."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from gpufleet_alert.files import remove, visible
from gpufleet_alert.journal import last_lines
from gpufleet_alert.limiter import Limiter
from gpufleet_alert.logs import log
from gpufleet_alert.message import compose
from gpufleet_alert.notice import Notice, NoticeError, read
from gpufleet_alert.redact import clean
from gpufleet_alert.services import Service, Services
from gpufleet_alert.settings import Settings
from gpufleet_alert.spool import Entry, Spool

FIRST_PAUSE_SECONDS = 5.0
LONGEST_PAUSE_SECONDS = 300.0
# From so many failures on a message lets the next one try: the service may refuse it alone.
FAILURES_IN_FRONT = 3
# How soon a notice is seen that comes while others are sent.
LOOK_EVERY_SECONDS = 0.5
# How soon a file of the spool that could not be changed is tried again.
TIDY_EVERY_SECONDS = 30.0


def pauses(first: float) -> Iterator[float]:
    """Seconds to wait after the first, second, … failure in a row."""
    pause = first
    while True:
        yield pause
        pause = min(pause * 2, LONGEST_PAUSE_SECONDS)


class Delivery:
    """Has a thread for each service that something waits for, so that none waits for another."""

    def __init__(
        self, settings: Settings, services: Services, first_pause: float = FIRST_PAUSE_SECONDS
    ) -> None:
        """Read what an earlier run has left."""
        self.stopping = threading.Event()
        self._settings = settings
        self._services = {service.id: service for service in services}
        self._first_pause = first_pause
        self._spool = Spool(settings.spool)
        self._limiter = Limiter(settings.state / "sent.json", settings.restarts_every_minutes)
        self._threads: dict[str, threading.Thread] = {}
        self._tidied = time.monotonic()

    def run(self) -> None:
        """Deliver until nothing waits, or `stopping` is set; what is being sent is waited for."""
        self._drop_gone()
        pause = pauses(LOOK_EVERY_SECONDS)
        while not self.stopping.is_set():
            stuck = self._take_in()
            self._drop_expired()
            self._start_threads()
            self._tidy()
            if not (stuck or self._spool.entries or self._spool.stale):
                break
            # A file that cannot be removed would start this program again and again.
            self.stopping.wait(next(pause) if stuck else LOOK_EVERY_SECONDS)
        for thread in self._threads.values():
            thread.join()

    def _take_in(self) -> bool:
        """Take in all notices; return whether one is left behind."""
        stuck = False
        paths = [path for directory in self._settings.sources for path in visible(directory)]
        for path in sorted(paths, key=lambda path: path.name):
            try:
                if path.name not in self._spool:
                    self._take(path)
                remove(path)
            except OSError as error:
                stuck = True
                log.error("cannot take in %s: %s", path, error.strerror)
        return stuck

    def _take(self, path: Path) -> None:
        try:
            notice = read(path)
        except NoticeError as error:
            log.error("removed %s, which is no notice: %s", path, error)
            return
        told = f"{notice.kind} {notice.unit}: {clean(notice.what)}"
        if not self._services:
            log.warning("%s (alerting_urls is empty: nobody is told)", told)
            return
        verdict = self._limiter.decide(notice)
        if verdict.send:
            self._spool.add(self._entry(path.name, notice, verdict.left_out))
            log.info("%s, for %s", told, ", ".join(self._services))
        elif notice.kind == "recovered":
            log.info("%s (not sent: neither was its beginning)", told)
        else:
            minutes = self._settings.restarts_every_minutes
            log.info("%s (not sent: another one was, less than %d minutes ago)", told, minutes)
        self._limiter.keep()

    def _entry(self, name: str, notice: Notice, left_out: int) -> Entry:
        lines = last_lines(notice.unit, self._settings.log_lines, notice.at)
        message = compose(notice, self._settings.host, left_out, lines)
        return Entry(name, notice.at, message, tuple(self._services))

    def _drop_gone(self) -> None:
        for entry in self._spool.entries:
            for service in set(entry.waiting) - set(self._services):
                log.warning("dropped for %s, which is gone: %s", service, entry.message.title)
                self._spool.done(entry.name, service)

    def _drop_expired(self) -> None:
        for entry in self._spool.entries:
            if time.time() - entry.at > self._settings.keep_seconds:
                for service in entry.waiting:
                    days = self._settings.keep_days
                    log.error(
                        "dropped for %s after %d days: %s", service, days, entry.message.title
                    )
                    self._spool.done(entry.name, service)

    def _tidy(self) -> None:
        if time.monotonic() - self._tidied >= TIDY_EVERY_SECONDS:
            self._spool.tidy()
            self._tidied = time.monotonic()

    def _start_threads(self) -> None:
        for service in self._services.values():
            thread = self._threads.get(service.id)
            if (thread and thread.is_alive()) or not self._spool.next_for(service.id):
                continue
            thread = threading.Thread(target=self._serve, args=(service,), name=service.id)
            self._threads[service.id] = thread
            thread.start()

    def _serve(self, service: Service) -> None:
        """Send everything that the service lacks, in order while each is taken."""
        pause = pauses(self._first_pause)
        failures: Counter[str] = Counter()
        behind: set[str] = set()
        while not self.stopping.is_set():
            entry = self._spool.next_for(service.id, behind)
            if entry is None:
                return
            if entry.name in behind:
                behind.clear()  # each has had its turn
            reason = service.send(entry.message)
            if not reason:
                self._spool.done(entry.name, service.id)
                log.info("%s has it: %s", service.id, entry.message.title)
                pause = pauses(self._first_pause)
                # The service takes messages: those before this one are the next.
                behind.clear()
                continue
            failures[entry.name] += 1
            if failures[entry.name] >= FAILURES_IN_FRONT:
                behind.add(entry.name)
            seconds = next(pause)
            log.warning(
                "%s (%s) did not take it: %s; again in %.0f s",
                service.id,
                service.label,
                reason,
                seconds,
            )
            self.stopping.wait(seconds)
