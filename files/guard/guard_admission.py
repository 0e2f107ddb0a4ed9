# Copyright: (c) The gpufleet maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Whom the instance answers: the guard alone until its gate has passed, nobody new while it stops.

A file in the unit's runtime directory tells vLLM (gate_middleware.py). Outside of a unit there is
none, and all are answered.
"""

from __future__ import annotations

import contextlib
import os
import secrets
from pathlib import Path

from gate_middleware import HEADER

_NAME = "closed"


def closed_file() -> Path | None:
    """Return the file that is there while others are turned away, None outside of a unit."""
    directory = os.environ.get("RUNTIME_DIRECTORY")
    return Path(directory, _NAME) if directory else None


def admit_guard_alone() -> None:
    """Turn away all but the guard's own probes, before vLLM starts."""
    closed = closed_file()
    if closed is not None:
        closed.unlink(missing_ok=True)
        descriptor = os.open(closed, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "w", encoding="ascii") as stream:
            stream.write(secrets.token_hex(16))


def admit_all() -> None:
    """Answer everybody from now on, unless the instance stops already."""
    closed = closed_file()
    if closed is not None and _content(closed):
        closed.unlink(missing_ok=True)


def admit_none() -> None:
    """Turn everybody away from now on; what is being answered is not touched."""
    closed = closed_file()
    if closed is not None:
        # A stop comes to its end on a full disk, too.
        with contextlib.suppress(OSError):
            closed.write_text("", encoding="ascii")


def admits_all() -> bool:
    """Whether everybody is answered."""
    closed = closed_file()
    return closed is None or not closed.exists()


def probe_headers(directory: Path | None = None) -> dict[str, str]:
    """Return what makes a probe the guard's own, for the unit whose runtime directory it is."""
    closed = Path(directory, _NAME) if directory else closed_file()
    content = _content(closed) if closed else ""
    return {HEADER: content} if content else {}


def _content(closed: Path) -> str:
    try:
        return closed.read_text(encoding="ascii")
    except OSError:
        return ""
