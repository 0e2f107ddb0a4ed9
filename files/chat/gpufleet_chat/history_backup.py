"""A copy of the history's file, made while the chat runs."""

from __future__ import annotations

import os
import sqlite3
from pathlib import Path

# Pages that are copied at a time; between them the chat may write.
_PAGES = 1000


class BackupError(Exception):
    """There is no backup; the message says why and ends with the remedy."""


def back_up(source: Path, target: Path) -> int:
    """Copy the history into a new file that only this user may read; returns its bytes."""
    if not source.is_file():
        raise BackupError(
            f"there is no history at {source}; give the settings of a chat that has a login"
        )
    try:
        os.close(os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600))
    except FileExistsError:
        raise BackupError(f"{target} is there already; name a new file") from None
    except OSError as error:
        raise BackupError(f"cannot write {target}: {error.strerror}; name another file") from None
    try:
        _copy(source, target)
    except (sqlite3.Error, OSError) as error:
        # Half a copy must not be taken for a whole one.
        target.unlink()
        raise BackupError(f"the copy failed: {error}; see that there is space, try again") from None
    return target.stat().st_size


def _copy(source: Path, target: Path) -> None:
    read = sqlite3.connect(source.as_uri() + "?mode=rw", uri=True, timeout=30)
    write = sqlite3.connect(target, timeout=30)
    try:
        read.backup(write, pages=_PAGES)
        # One file, with nothing beside it.
        write.execute("PRAGMA journal_mode = DELETE")
        found = write.execute("PRAGMA quick_check").fetchone()[0]
        if found != "ok":
            raise sqlite3.DatabaseError(f"the history is damaged ({found})")
    finally:
        write.close()
        read.close()
