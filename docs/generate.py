"""Write what is generated: the README of every role and the reference of the modules.

`generate.py` writes the files; `generate.py --check` fails when one is not current.
"""

from __future__ import annotations

import sys
from pathlib import Path

from generator import modules, roles

ROOT = Path(__file__).resolve().parents[1]


def main(check: bool) -> int:
    """Write or compare; the number of files that are not current when comparing."""
    stale = 0
    for path, text in {**roles.pages(ROOT), **modules.pages(ROOT)}.items():
        if not check:
            path.write_text(text)
        elif not path.is_file() or path.read_text() != text:
            print(f"{path.relative_to(ROOT)} is not current: run 'make docs'")
            stale += 1
    return stale


if __name__ == "__main__":
    sys.exit(main("--check" in sys.argv[1:]))
