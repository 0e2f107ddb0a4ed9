"""Make the checkout importable as the collection `gpufleet.llm`, whatever its folder is called.

Helpers beside the tests are imported by their full names, such as `tests.unit.model.fake_hub`.
"""

from __future__ import annotations

import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT / ".collections"), str(ROOT)]
