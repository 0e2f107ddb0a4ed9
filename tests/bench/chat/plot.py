"""Draws what measure.py has written: plot.py JSON SVG."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import matplotlib as mpl

mpl.use("svg")
from matplotlib import pyplot

COLOURS = {"gpufleet_chat": "#2a78b8", "chainlit run": "#c0392b", "stream itself": "#8a8a8a"}
WIDTH = 0.27


def main() -> None:
    """Two panels over the number of chats: processor time per token, and time on its way."""
    results = json.loads(Path(sys.argv[1]).read_text())["results"]
    counts = sorted({one["chats"] for one in results})
    figure, (processor, latency) = pyplot.subplots(1, 2, figsize=(9, 3.6), layout="constrained")
    for place, (subject, colour) in enumerate(COLOURS.items()):
        mine = [one for one in results if one["subject"] == subject]
        places = [counts.index(one["chats"]) + (place - 1) * WIDTH for one in mine]
        if mine[0]["processor"] is not None:
            bars = processor.bar(places, [one["processor"] for one in mine], WIDTH, color=colour)
            processor.bar_label(bars, fmt="%.0f", fontsize=8)
        half = [one["p50"] for one in mine]
        bars = latency.bar(places, half, WIDTH, color=colour, label=subject)
        latency.bar_label(bars, fmt="%.1f", fontsize=8)
    processor.set_ylabel("µs of processor per token")
    latency.set_ylabel("ms from emission to arrival, p50")
    latency.set_yscale("log")
    latency.legend(frameon=False, fontsize=8)
    for axes in (processor, latency):
        axes.set_xticks(range(len(counts)), [str(count) for count in counts])
        axes.set_xlabel("chats at once")
        axes.spines[["top", "right"]].set_visible(False)
    # The same numbers give the same file.
    mpl.rcParams["svg.hashsalt"] = "chat"
    figure.savefig(sys.argv[2], metadata={"Date": None})


if __name__ == "__main__":
    main()
