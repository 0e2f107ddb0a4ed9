"""Messages that services have not taken yet, one file each."""

from __future__ import annotations

import threading
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from gpufleet_alert.files import read_json, remove, visible, write_json
from gpufleet_alert.logs import log
from gpufleet_alert.message import Message


@dataclass(frozen=True)
class Entry:
    """A message of the time `at` (Unix seconds), and the ids of the services that lack it."""

    name: str
    at: float
    message: Message
    waiting: tuple[str, ...]


class Spool:
    """The entries of a directory, oldest first; threads may share it."""

    def __init__(self, directory: Path) -> None:
        """Read the directory; what is no entry is removed, with a line that says so."""
        self._directory = directory
        self._lock = threading.Lock()
        entries, others = read_entries(directory)
        self._entries = {entry.name: entry for entry in entries}
        for path in others:
            log.error("removed %s, which is no entry", path)
            remove(path)

    def __contains__(self, name: str) -> bool:
        """Whether there is an entry of this name."""
        return name in self._entries

    @property
    def entries(self) -> list[Entry]:
        """All entries, oldest first."""
        with self._lock:
            return [self._entries[name] for name in sorted(self._entries)]

    def next_for(self, service: str) -> Entry | None:
        """The oldest entry that the service lacks."""
        return next((entry for entry in self.entries if service in entry.waiting), None)

    def add(self, entry: Entry) -> None:
        """Keep an entry; raises OSError."""
        with self._lock:
            write_json(self._directory / entry.name, asdict(entry))
            self._entries[entry.name] = entry

    def done(self, name: str, service: str) -> None:
        """Strike a service from an entry, which goes with its last one."""
        with self._lock:
            entry = self._entries.get(name)
            if entry is None:
                return  # it was dropped meanwhile
            left = tuple(other for other in entry.waiting if other != service)
            if left:
                self._entries[name] = replace(entry, waiting=left)
                write_json(self._directory / name, asdict(self._entries[name]))
            else:
                remove(self._directory / name)
                del self._entries[name]


def read_entries(directory: Path) -> tuple[list[Entry], list[Path]]:
    """The entries of a directory, oldest first, and what there is beside them."""
    entries: list[Entry] = []
    others: list[Path] = []
    for path in visible(directory):
        try:
            entries.append(_read(path))
        except FileNotFoundError:
            continue  # it was delivered meanwhile
        except (OSError, ValueError, TypeError, KeyError):
            others.append(path)
    return entries, others


def _read(path: Path) -> Entry:
    data = read_json(path)
    return Entry(
        name=path.name,
        at=float(data["at"]),
        message=Message(**{key: str(data["message"][key]) for key in ("kind", "title", "body")}),
        waiting=tuple(str(service) for service in data["waiting"]),
    )
