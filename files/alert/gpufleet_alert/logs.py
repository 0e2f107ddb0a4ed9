"""One line per event for the journal, which adds the time; never with a URL or a prompt."""

from __future__ import annotations

import logging
import os
import sys

log = logging.getLogger("gpufleet_alert")
# The priorities that the journal reads from the beginning of a line.
_PRIORITIES = {logging.INFO: 6, logging.WARNING: 4, logging.ERROR: 3}


class _LineFormatter(logging.Formatter):
    """Puts a record, its traceback included, on one line, with the priority for the journal."""

    def format(self, record: logging.LogRecord) -> str:
        line = super().format(record).replace("\n", "\\n")
        if "JOURNAL_STREAM" not in os.environ:
            return line
        return f"<{_PRIORITIES.get(record.levelno, 6)}>{line}"


def configure() -> None:
    """Send our own lines to standard error, and nobody else's."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_LineFormatter("%(message)s"))
    log.handlers = [handler]
    log.setLevel(logging.INFO)
    log.propagate = False
    # apprise and urllib3 name whole URLs, secrets included, in lines of every level.
    logging.getLogger().handlers = [logging.NullHandler()]
