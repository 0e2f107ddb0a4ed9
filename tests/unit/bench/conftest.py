"""Lets the tests import the load generator and what measures with it on a GPU."""

from __future__ import annotations

import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[3]
FOLDERS = (
    "files/guard",
    "files/bench",
    "plugins/module_utils",
    "tests/gpu/host",
    "tests/gpu/throughput",
)
# At the end: names as plain as these must hide nothing.
sys.path += [str(ROOT / folder) for folder in FOLDERS]
