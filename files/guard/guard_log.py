# Copyright: (c) The gpufleet maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""One line per event; the journal adds the time."""

from __future__ import annotations

import os


class Log:
    """Prints ``NAME: message``, with the priority the journal reads where it is listening."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._priorities = "JOURNAL_STREAM" in os.environ

    def info(self, message: str) -> None:
        """Say what happens."""
        self._line(6, message)

    def error(self, message: str) -> None:
        """Say what failed; ``journalctl -p err`` shows it."""
        self._line(3, message)

    def fresh_line(self) -> None:
        """End a line that a killed vLLM left open; the journal drops an empty one."""
        print(flush=True)

    def _line(self, priority: int, message: str) -> None:
        prefix = f"<{priority}>" if self._priorities else ""
        print(f"{prefix}{self._name}: {' '.join(message.split())}", flush=True)
