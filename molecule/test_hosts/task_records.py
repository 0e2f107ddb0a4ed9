"""What the tasks of a run did, as the callback plugin record_tasks wrote it down."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

# How Ansible's own recap counts: `ok` includes what changed.
EXECUTED = ("ok", "changed")


@dataclass(frozen=True)
class Record:
    """The result of one task, or of one item of its loop, on one host."""

    play: str
    task: str
    place: str  # file and line
    host: str
    item: str | None  # None for a task as a whole
    loop: bool
    path: str | None  # on the host, where the result names one
    status: str  # ok, changed, skipped, failed or unreachable


def read(path: Path) -> list[Record]:
    """Read the records of one run, in the order of the results."""
    return [Record(**json.loads(line)) for line in path.read_text().splitlines()]


def executed_by_play(records: Iterable[Record], host: str) -> Counter[str]:
    """Count the tasks that were executed on a host, by play, as Ansible's recap counts them."""
    return Counter(
        record.play
        for record in records
        if record.host == host and record.item is None and record.status in EXECUTED
    )


# Play, task, item and host; the last tells results of the same task apart.
Key = tuple[str, str, str, str, int]


def by_key(records: Iterable[Record]) -> dict[Key, Record]:
    """Each task, or each item of those that loop, by what is the same in two runs."""
    seen: Counter[tuple[str, str, str, str]] = Counter()
    found: dict[Key, Record] = {}
    for record in records:
        if record.loop and record.item is None:
            continue
        name = f"{record.task} ({'/'.join(record.place.split('/')[-3:])})"
        key = (record.play, name, record.item or "", record.host)
        found[(*key, seen[key])] = record
        seen[key] += 1
    return found


def differences(check: Iterable[Record], run: Iterable[Record]) -> list[tuple[str, ...]]:
    """Return a row for every task that changed its host in one of the two runs alone.

    Each has play, task, item, host, what check mode said and what the run did. Left out is who
    would have changed a path that a task before, as predicted, has changed: two roles that make
    one directory both say so in check mode, where the first has made nothing.
    """
    predicted, done = by_key(check), by_key(run)
    settled: set[tuple[str, str | None]] = set()
    rows: list[tuple[str, ...]] = []
    for key in {**predicted, **done}:
        said, did = (
            records[key].status if key in records else "not reached"
            for records in (predicted, done)
        )
        place = (key[3], (done.get(key) or predicted[key]).path)
        if said == did == "changed":
            settled.add(place)
        elif did == "changed" or (said == "changed" and (place[1] is None or place not in settled)):
            rows.append((*key[:4], said, did))
    return rows


def table(rows: Iterable[tuple[object, ...]]) -> str:
    """Rows as lines of text with aligned columns."""
    cells = [[str(cell) for cell in row] for row in rows]
    widths = [max(map(len, column)) for column in zip(*cells)]
    lines = ("  ".join(cell.ljust(w) for cell, w in zip(row, widths)) for row in cells)
    return "\n".join(line.rstrip() for line in lines)
