"""Which notices are sent: not each of many restarts, and no end without its beginning."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gpufleet_alert.files import read_json, write_json
from gpufleet_alert.notice import FREQUENT, OPENING, Notice

# Incidents that nobody has ended; the oldest are forgotten.
_MAX_OPEN = 1000


@dataclass(frozen=True)
class Verdict:
    """Whether a notice is sent; `left_out` counts those of its unit that were not, before it."""

    send: bool
    left_out: int = 0


class Limiter:
    """Remembers in a file what was sent; each decision is kept by `keep`, once it was acted on."""

    def __init__(self, path: Path, every_minutes: int) -> None:
        """Read the file; one that cannot be read counts as empty."""
        self._path = path
        self._window = every_minutes * 60
        # By unit: [when its last frequent notice was sent, how many were left out since].
        self._sent: dict[str, list[float]] = {}
        # Incidents that were announced: [unit, since].
        self._open: list[list[Any]] = []
        try:
            data = read_json(path)
            self._sent = {
                str(unit): [float(at), int(count)] for unit, (at, count) in data["sent"].items()
            }
            self._open = [[str(unit), float(since)] for unit, since in data["open"]]
        except (OSError, ValueError, TypeError, KeyError, AttributeError):
            pass

    def decide(self, notice: Notice) -> Verdict:
        """Decide on the next notice, and count it."""
        incident = [notice.unit, notice.since]
        if notice.kind == "recovered":
            known = incident in self._open
            self._open = [other for other in self._open if other != incident]
            return Verdict(known)
        left_out = 0
        if notice.kind in FREQUENT:
            before = self._sent.get(notice.unit, [0.0, 0])
            # A clock that was set back must not silence anything.
            if before[0] and 0 <= notice.at - before[0] < self._window:
                self._sent[notice.unit] = [before[0], before[1] + 1]
                return Verdict(False)
            left_out = int(before[1])
            self._sent[notice.unit] = [notice.at, 0]
        if notice.kind in OPENING and incident not in self._open:
            self._open = [*self._open, incident][-_MAX_OPEN:]
        return Verdict(True, left_out)

    def keep(self) -> None:
        """Write the file; raises OSError."""
        write_json(self._path, {"sent": self._sent, "open": self._open})
