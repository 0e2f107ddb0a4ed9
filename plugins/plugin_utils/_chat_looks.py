# Copyright: The gpufleet maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the chat itself says of a colour and a logo: its own module, read from its place here."""

from __future__ import annotations

import importlib.util
import sys
from functools import cache
from pathlib import Path
from types import ModuleType

_FILE = Path(__file__).resolve().parents[2] / "files" / "chat" / "gpufleet_chat" / "looks.py"
_NAME = "gpufleet_chat_looks"


def color_problem(color: str) -> tuple[str, str] | None:
    """Problem and remedy of a colour, or None."""
    return _problem("check_color", color)


def logo_problem(path: str) -> tuple[str, str] | None:
    """Problem and remedy of a picture on the control node, or None."""
    return _problem("read_logo", Path(path))


def _problem(check: str, value: object) -> tuple[str, str] | None:
    looks = _looks()
    try:
        getattr(looks, check)(value)
    except looks.LooksError as error:
        return error.problem, error.remedy
    return None


@cache
def _looks() -> ModuleType:
    spec = importlib.util.spec_from_file_location(_NAME, _FILE)
    if spec is None or spec.loader is None:
        raise RuntimeError(f"{_FILE} is missing: is the collection whole?")
    module = importlib.util.module_from_spec(spec)
    # Its dataclasses look for their module there.
    sys.modules[_NAME] = module
    spec.loader.exec_module(module)
    return module
