"""Puts what measure.py and plot.py have written into docs/: publish.py JSON SVG."""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path

from measure import Result, Sample, table

DOCS = Path(__file__).resolve().parents[3] / "docs"
BEGIN, END = "<!-- chat: written by tests/bench/chat/publish.py -->\n", "<!-- end of chat -->"


def main() -> None:
    """Replace the table in performance.md and the picture beside it."""
    document = json.loads(Path(sys.argv[1]).read_text())
    results = [
        Result(**{**one, "samples": [Sample(**sample) for sample in one["samples"]]})
        for one in document["results"]
    ]
    page = DOCS / "performance.md"
    before, _, rest = page.read_text().partition(BEGIN)
    _, _, after = rest.partition(END)
    picture = "![Processor time and latency per token](images/chat.svg)"
    page.write_text(f"{before}{BEGIN}{table(results)}\n\n{picture}\n{END}{after}")
    shutil.copyfile(sys.argv[2], DOCS / "images/chat.svg")


if __name__ == "__main__":
    main()
