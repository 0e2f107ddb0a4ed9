"""The commands of `llm-alert`; each returns its exit status."""

from __future__ import annotations

import signal
import threading
import time
from concurrent.futures import ThreadPoolExecutor

from gpufleet_alert import notice
from gpufleet_alert.delivery import Delivery
from gpufleet_alert.files import visible
from gpufleet_alert.gave_up import gave_up
from gpufleet_alert.logs import log
from gpufleet_alert.message import local_time, test_message
from gpufleet_alert.services import Services, tell_problems
from gpufleet_alert.settings import Settings
from gpufleet_alert.spool import read_entries

_CANNOT_WRITE = (
    "cannot write the notice that %s is down into %s: %s; make its file system writable and free "
    "space there (findmnt, df -h): systemd tries again every minute"
)


def test(settings: Settings, services: Services) -> int:
    """Send a message to every service at once, and say which took it; 1 where one did not."""
    for problem in services.problems:
        print(problem)
    all_services = list(services)
    if not all_services:
        print("alerting_urls names no service: notices are written to the journal only")
        return 1
    message = test_message(settings.host)
    with ThreadPoolExecutor(len(all_services)) as pool:
        reasons = list(pool.map(lambda service: service.send(message), all_services))
    for service, reason in zip(all_services, reasons):
        print(f"{service.id} ({service.label}): {f'not delivered: {reason}' if reason else 'ok'}")
    return 1 if any(reasons) or services.problems else 0


def list_waiting(settings: Settings) -> int:
    """Print what waits, oldest first."""
    entries, _others = read_entries(settings.spool)
    for entry in entries:
        print(f"{local_time(entry.at)}  {entry.message.title}  for {', '.join(entry.waiting)}")
    untaken = sum(len(visible(directory)) for directory in settings.sources)
    if untaken:
        print(f"{untaken} more not taken in yet: systemctl status llm-alert.path llm-alert.service")
    if not entries and not untaken:
        print("nothing waits")
    return 0


def check(services: Services) -> int:
    """Say which URLs are none; 1 where there is one."""
    for problem in services.problems:
        print(problem)
    print(f"{len(services.ids)} services: {', '.join(services.ids) or 'the journal only'}")
    return 1 if services.problems else 0


def make_gave_up(settings: Settings, unit: str) -> int:
    """Leave a notice that the unit is down for good, if it is; 1 where it cannot be written."""
    made = gave_up(unit, settings.incidents)
    if made is None:
        log.info("%s is not failed: nothing to tell", unit)
        return 0
    try:
        notice.write(made, settings.own_notices)
    except OSError as error:
        log.error(_CANNOT_WRITE, unit, settings.own_notices, error.strerror or error)
        return 1
    return 0


def deliver(settings: Settings, services: Services) -> int:
    """Deliver until nothing waits, or until a signal ends it."""
    tell_problems(services)
    # Beside the notices of others; systemd watches it.
    settings.own_notices.mkdir(parents=True, exist_ok=True)
    delivery = Delivery(settings, services)
    _stop_by_signal(delivery.stopping)
    began = time.monotonic()
    delivery.run()
    if delivery.stopping.is_set():
        log.info("ended by a signal after %.0f s; what waits is kept", time.monotonic() - began)
    return 0


def _stop_by_signal(stopping: threading.Event) -> None:
    # A handler would run inside whatever holds the event's lock.
    signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGTERM])

    def wait() -> None:
        signal.sigwait([signal.SIGTERM])
        stopping.set()

    threading.Thread(target=wait, daemon=True).start()
