# Copyright: (c) The gpufleet maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The process tree below the guard: list it, reap it, kill it whole."""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import time
from dataclasses import dataclass
from pathlib import Path

_PR_SET_CHILD_SUBREAPER = 36


@dataclass(frozen=True)
class Process:
    """One process; ``started`` (clock ticks since boot) tells it from a later one of its pid."""

    pid: int
    parent: int
    state: str
    started: int
    title: str


def become_subreaper() -> None:
    """Have orphans below this process come to it instead of to init, so that none escapes."""
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "prctl(PR_SET_CHILD_SUBREAPER) failed")


def descendants(root: int) -> list[Process]:
    """List all processes below ``root``, zombies included."""
    children: dict[int, list[Process]] = {}
    for entry in os.scandir("/proc"):
        if entry.name.isdigit():
            process = read_process(int(entry.name))
            if process is not None:
                children.setdefault(process.parent, []).append(process)
    found: list[Process] = []
    queue = [root]
    while queue:
        below = children.get(queue.pop(), [])
        found.extend(below)
        queue.extend(process.pid for process in below)
    return found


def read_process(pid: int) -> Process | None:
    """Return a process, or None when there is none, or none that may be seen."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
    except OSError:  # ended meanwhile
        return None
    # The title stands in brackets and may itself hold brackets and spaces.
    title = text[text.index("(") + 1 : text.rindex(")")]
    fields = text[text.rindex(")") + 2 :].split()
    return Process(pid, int(fields[1]), fields[0], int(fields[19]), title)


def is_alive(pid: int) -> bool:
    """Tell whether a process runs; one that has ended and waits to be collected does not."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:  # it belongs to another user, who may hide it from /proc
        return True
    process = read_process(pid)
    return process is None or process.state not in "ZX"


def reap() -> dict[int, int]:
    """Collect all children that have ended: pid to exit status, negative for a signal."""
    ended: dict[int, int] = {}
    with contextlib.suppress(ChildProcessError):
        while True:
            pid, status = os.waitpid(-1, os.WNOHANG)
            if pid == 0:
                break
            if os.WIFSIGNALED(status):
                ended[pid] = -os.WTERMSIG(status)
            else:
                ended[pid] = os.WEXITSTATUS(status)
    return ended


def kill_descendants(patience: float = 10.0) -> tuple[list[str], list[str]]:
    """Kill everything below this process, also what appears meanwhile.

    Return the titles of what was killed, and of what is still there after ``patience`` seconds
    (a process inside a driver call cannot be killed).
    """
    end = time.monotonic() + patience
    killed: dict[int, str] = {}
    while True:
        reap()
        # Also zombies count: the threads of one may still hold the port and the GPU's memory.
        remaining = descendants(os.getpid())
        if not remaining or time.monotonic() > end:
            return list(killed.values()), [process.title for process in remaining]
        for process in remaining:
            if process.state not in "ZX":
                killed[process.pid] = process.title
                with contextlib.suppress(ProcessLookupError):
                    os.kill(process.pid, signal.SIGKILL)
        time.sleep(0.05)


class Roster:
    """vLLM's own processes (``VLLM::…``): notices when one that was there is gone."""

    def __init__(self, grace: float) -> None:
        self._grace = grace
        self._known: dict[tuple[int, int], str] = {}
        self._missing_since: float | None = None

    def lost(self, now: float, processes: list[Process]) -> str | None:
        """Return the title of a process that has been gone for the grace time (seconds)."""
        running = [process for process in processes if process.state not in "ZX"]
        alive = {(p.pid, p.started) for p in running}
        titles = {p.pid: p.title for p in running}
        for process in running:
            # A program that one of them starts, such as a compiler, bears its title for a moment.
            copied = process.title == titles.get(process.parent)
            if process.title.startswith("VLLM::") and not copied:
                self._known[process.pid, process.started] = process.title
        gone = [title for key, title in self._known.items() if key not in alive]
        if not gone:
            self._missing_since = None
            return None
        if self._missing_since is None:
            self._missing_since = now
        return gone[0] if now - self._missing_since >= self._grace else None
