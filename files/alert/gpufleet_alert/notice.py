"""One thing that befell a service, as the guard and `gave-up` write it into a file."""

from __future__ import annotations

import math
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from gpufleet_alert.files import read_json, write_json

# Those that begin an incident or say that it will not end by itself.
OPENING = ("restarted", "hang_killed", "canary_failed", "gave_up")
# Those that come in numbers when a service fails again and again.
FREQUENT = ("restarted", "hang_killed")
KINDS = (*OPENING, "recovered")


class NoticeError(Exception):
    """A file is no notice; the message says why, and quotes nothing of it."""


@dataclass(frozen=True)
class Notice:
    """`since` and `at` in Unix seconds; `since` names the incident together with `unit`."""

    kind: str
    unit: str
    # Of vLLM; empty for other services.
    instance: str
    what: str
    since: float
    at: float
    restarts: int

    @property
    def name(self) -> str:
        """What people know the service by."""
        return self.instance or self.unit.removesuffix(".service")


def read(path: Path) -> Notice:
    """Read a notice; raises NoticeError for anything else."""
    try:
        data = read_json(path)
    except OSError as error:
        raise NoticeError(f"it cannot be read: {error.strerror}") from None
    except (ValueError, RecursionError):
        raise NoticeError("it is no JSON object") from None
    return _parse(data)


def write(notice: Notice, directory: Path) -> None:
    """Put the notice into a directory, under a name that sorts by time."""
    write_json(directory / f"{time.time_ns():020d}-{notice.kind}.json", asdict(notice))


def _parse(data: dict[str, Any]) -> Notice:
    try:
        notice = Notice(
            kind=_text(data, "kind"),
            unit=_text(data, "unit"),
            instance=_text(data, "instance"),
            what=_text(data, "what"),
            since=_seconds(data, "since"),
            at=_seconds(data, "at"),
            restarts=int(_seconds(data, "restarts")),
        )
    except KeyError as error:
        raise NoticeError(f"it has no {error}") from None
    if notice.kind not in KINDS:
        raise NoticeError("its kind is not known")
    if not notice.unit:
        raise NoticeError("it names no unit")
    return notice


def _text(data: dict[str, Any], key: str) -> str:
    if not isinstance(data[key], str):
        raise NoticeError(f"its {key} is no text")
    return str(data[key])


def _seconds(data: dict[str, Any], key: str) -> float:
    value = data[key]
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value):
        raise NoticeError(f"its {key} is no number")
    # Later years have no date that Python could write.
    if not 0 <= value < 2**36:
        raise NoticeError(f"its {key} is out of range")
    return float(value)
