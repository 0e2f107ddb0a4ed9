"""Which notices are sent: not each of many restarts, and no end without its beginning."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path

from gpufleet_alert.files import read_json, write_json
from gpufleet_alert.notice import FREQUENT, OPENING, Notice

# Incidents that nobody has ended; the oldest are forgotten.
_MAX_OPEN = 1000


@dataclass(frozen=True)
class Verdict:
    """Whether a notice is sent; `left_out` counts those of its unit that were not, before it."""

    send: bool
    left_out: int = 0


@dataclass
class State:
    """What was sent.

    `sent`: by unit, when its last frequent notice was, and how many were left out since.
    `open`: unit and beginning of the incidents that were announced and have not ended.
    """

    sent: dict[str, tuple[float, int]]
    open: list[tuple[str, float]]


class Limiter:
    """Remembers in a file what was sent."""

    def __init__(self, path: Path, every_minutes: int) -> None:
        """Read the file; one that cannot be read counts as empty."""
        self._path = path
        self._window = every_minutes * 60
        self._state = self._next = _read(path)

    def decide(self, notice: Notice) -> Verdict:
        """Decide on a notice; the decision counts once it is kept."""
        incident = (notice.unit, notice.since)
        self._next = State(dict(self._state.sent), list(self._state.open))
        if notice.kind == "recovered":
            self._next.open = [other for other in self._state.open if other != incident]
            return Verdict(incident in self._state.open)
        left_out = 0
        if notice.kind in FREQUENT:
            at, count = self._state.sent.get(notice.unit, (0.0, 0))
            # A clock that was set back must not silence anything.
            if at and 0 <= notice.at - at < self._window:
                self._next.sent[notice.unit] = (at, count + 1)
                return Verdict(False)
            left_out = count
            self._next.sent[notice.unit] = (notice.at, 0)
        if notice.kind in OPENING and incident not in self._state.open:
            self._next.open = [*self._state.open, incident][-_MAX_OPEN:]
        return Verdict(True, left_out)

    def keep(self) -> None:
        """Count the last decision, and write the file; raises OSError."""
        self._state = self._next
        write_json(self._path, asdict(self._state))


def _read(path: Path) -> State:
    try:
        data = read_json(path)
        return State(
            {str(unit): (float(at), int(count)) for unit, (at, count) in data["sent"].items()},
            [(str(unit), float(since)) for unit, since in data["open"]],
        )
    except (OSError, ValueError, TypeError, KeyError, AttributeError):
        return State({}, [])
