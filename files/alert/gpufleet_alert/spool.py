"""Messages that services have not taken yet, one file each."""

from __future__ import annotations

import threading
from collections.abc import Collection
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from gpufleet_alert.files import read_json, remove, visible, write_json
from gpufleet_alert.logs import log
from gpufleet_alert.message import Message

_CANNOT_CHANGE = (
    "cannot change %s: %s; make its file system writable and free space there (findmnt, df -h, "
    "dmesg): until then, whenever this program starts anew, it sends that message again"
)


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
        # Also those that have gone: a notice that stays behind must not be sent again.
        self._known = set(self._entries)
        # Names of files that differ from what memory says, since they could not be changed.
        self._stale: set[str] = set()
        for path in others:
            log.error("removed %s, which is no entry", path)
            self._store(path.name)

    def __contains__(self, name: str) -> bool:
        """Whether there is an entry of this name, or was one since the program began."""
        return name in self._known

    @property
    def entries(self) -> list[Entry]:
        """All entries, oldest first."""
        with self._lock:
            return [self._entries[name] for name in sorted(self._entries)]

    @property
    def stale(self) -> bool:
        """Whether a file is left that a new start of the program would send again."""
        with self._lock:
            return bool(self._stale)

    def next_for(self, service: str, behind: Collection[str] = ()) -> Entry | None:
        """The oldest entry that the service lacks; one of a name in `behind` only if all are."""
        waiting = [entry for entry in self.entries if service in entry.waiting]
        # False sorts first, and equal ones keep their order.
        return min(waiting, key=lambda entry: entry.name in behind, default=None)

    def add(self, entry: Entry) -> None:
        """Keep an entry; raises OSError."""
        with self._lock:
            write_json(self._directory / entry.name, asdict(entry))
            self._entries[entry.name] = entry
            self._known.add(entry.name)

    def done(self, name: str, service: str) -> None:
        """Strike a service from an entry, which goes with its last one.

        That holds for this program also where the file cannot be changed; `tidy` tries that again.
        """
        with self._lock:
            entry = self._entries.get(name)
            if entry is None:
                return  # it was dropped meanwhile
            left = tuple(other for other in entry.waiting if other != service)
            # Memory first: what has been sent must not be sent again.
            if left:
                self._entries[name] = replace(entry, waiting=left)
            else:
                del self._entries[name]
            self._store(name)

    def tidy(self) -> None:
        """Try again to change the files that could not be changed."""
        with self._lock:
            for name in sorted(self._stale):
                self._store(name)

    def _store(self, name: str) -> None:
        """Make the file what memory says of the name, or remember that it is not."""
        path = self._directory / name
        entry = self._entries.get(name)
        try:
            if entry:
                write_json(path, asdict(entry))
            else:
                remove(path)
        except OSError as error:
            if name not in self._stale:
                log.error(_CANNOT_CHANGE, path, error.strerror or error)
            self._stale.add(name)
        else:
            self._stale.discard(name)


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
