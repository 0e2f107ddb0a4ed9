"""JSON files that are there as a whole or not at all, also after the power was cut."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
from pathlib import Path
from typing import Any

# A notice has a few hundred bytes; more is none.
_MAX_BYTES = 65536


def write_json(path: Path, data: object) -> None:
    """Write `data` under a name with a leading dot, which nobody reads, and rename it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_name(f".{path.name}")
    try:
        _write_through(beside, data)
        beside.replace(path)
    except OSError:
        # Each try may have another name, and a full disk must not fill with what is left of them.
        with contextlib.suppress(OSError):
            beside.unlink(missing_ok=True)
        raise
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def _write_through(path: Path, data: object) -> None:
    with path.open("w", encoding="utf-8") as file:
        json.dump(data, file)
        file.flush()
        os.fsync(file.fileno())


def read_json(path: Path) -> dict[str, Any]:
    """The object in a file; raises OSError, or ValueError. A link is not followed."""
    with open(os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK), "rb") as file:  # noqa: PTH123
        content = file.read(_MAX_BYTES + 1)
    if len(content) > _MAX_BYTES:
        raise ValueError(f"it has more than {_MAX_BYTES} bytes")
    data = json.loads(content)
    if not isinstance(data, dict):
        raise ValueError("it is no JSON object")
    return data


def visible(directory: Path) -> list[Path]:
    """Everything in a directory but names with a leading dot, by name; none where it is missing."""
    with contextlib.suppress(FileNotFoundError):
        return sorted(path for path in directory.iterdir() if not path.name.startswith("."))
    return []


def remove(path: Path) -> None:
    """Remove whatever is there; raises OSError where it cannot be."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
