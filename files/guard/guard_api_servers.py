# Copyright: (c) The gpufleet maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Notices an API server that stands still while others of its instance answer every probe.

The event loop of an API server turns ten times per second, also with nothing to do (uvicorn's
``Server.main_loop``): its main thread goes to sleep as often, or uses the processor. One that does
neither is stopped or waits for ever. Load does not look like that.
"""

from __future__ import annotations

from pathlib import Path

from guard_processes import Process

# As the kernel cuts titles off: VLLM::APIServer_0. A single API server is vLLM's main process.
TITLE = "VLLM::APIServer"
# Looks in a row, not seconds: a host that was frozen has not turned a loop either.
LOOKS = 20


class ApiServers:
    """The API servers of one instance, of those that have several."""

    def __init__(self) -> None:
        self._signs: dict[int, tuple[str, ...]] = {}
        self._still: dict[int, int] = {}

    def stuck(self, processes: list[Process]) -> str | None:
        """Look once; say which one has stood still for ``LOOKS`` looks in a row."""
        for process in processes:
            if process.title != TITLE:
                continue
            signs = signs_of_life(process.pid)
            still = signs is not None and signs == self._signs.get(process.pid)
            self._signs[process.pid] = signs or ()
            self._still[process.pid] = self._still.get(process.pid, 0) + 1 if still else 0
            if self._still[process.pid] >= LOOKS:
                return f"API server {process.pid} stands still, whatever the others answer"
        return None


def signs_of_life(pid: int) -> tuple[str, ...] | None:
    """What changes while the main thread of ``pid`` lives: its processor time, and how often it
    went to sleep. None when it has ended."""
    thread = Path(f"/proc/{pid}/task/{pid}")
    try:
        stat = thread.joinpath("stat").read_text(encoding="utf-8", errors="replace")
        status = thread.joinpath("status").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return None
    processor_time = stat[stat.rindex(")") + 2 :].split()[11:13]
    sleeps = [line for line in status.splitlines() if line.startswith("voluntary_ctxt_switches")]
    return (*processor_time, *sleeps)
