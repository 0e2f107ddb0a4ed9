"""Draws what measure.py has written: plot.py JSON SVG."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import matplotlib as mpl

mpl.use("svg")
from matplotlib import pyplot

KEPT, BROKEN, BARE, BOUND = "#2a78b8", "#c0392b", "#8a8a8a", "#222222"


def main() -> None:
    """One bar for each start and recovery, with a line at its bound."""
    document = json.loads(Path(sys.argv[1]).read_text())
    starts, recoveries = document["bare_starts_seconds"], document["recoveries"]
    names = [f"bare start {number}" for number, _ in enumerate(starts, 1)]
    names += [f"{one['kind']} {one['name']}" for one in recoveries]
    seconds = [*starts, *(one["seconds"] for one in recoveries)]
    colours = [BARE for _ in starts] + [KEPT if one["kept"] else BROKEN for one in recoveries]
    figure, axes = pyplot.subplots(figsize=(8, 0.4 * len(names) + 1), layout="constrained")
    axes.barh(names, seconds, color=colours)
    axes.bar_label(axes.containers[0], fmt="%.1f s", padding=-46, color="white")
    for row, one in enumerate(recoveries, len(starts)):
        if one["bound"] is not None:
            axes.vlines(one["bound"], row - 0.45, row + 0.45, color=BOUND, linewidth=2)
    axes.invert_yaxis()
    axes.set_xlabel("seconds from the fault, or the start, to the first token (line: bound)")
    axes.spines[["top", "right"]].set_visible(False)
    # The same numbers give the same file.
    mpl.rcParams["svg.hashsalt"] = "recovery"
    figure.savefig(sys.argv[2], metadata={"Date": None})


if __name__ == "__main__":
    main()
