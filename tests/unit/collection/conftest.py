"""The checkout, and a way to make a small one that is wrong on purpose."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.unit.collection.sources import Sources

ROOT = Path(__file__).resolve().parents[3]
Write = Callable[[dict[str, str]], Sources]


@pytest.fixture(scope="session")
def checkout() -> Sources:
    """Return this checkout."""
    return Sources(ROOT)


@pytest.fixture
def wrong(tmp_path: Path) -> Write:
    """Return a function that writes files by path below roles/web, and returns their checkout."""

    def write(files: dict[str, str]) -> Sources:
        for name, text in files.items():
            path = tmp_path / "roles" / "web" / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
        return Sources(tmp_path)

    return write
