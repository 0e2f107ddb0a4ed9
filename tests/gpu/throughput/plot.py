"""Draws what measure.py has written: plot.py SVG JSON..."""

from __future__ import annotations

import json
import statistics
import sys
from pathlib import Path

import matplotlib as mpl

mpl.use("svg")
from matplotlib import pyplot
from report import SEED, STOCK, rates

COLOURS = {SEED: "#8a8a8a", STOCK: "#2ca02c"}


def main() -> None:
    """Tokens per second over concurrency, one line for each instance, and the memory's limit."""
    target, *files = sys.argv[1:]
    documents = [json.loads(Path(file).read_text()) for file in files]
    runs = [run for document in documents for run in document["runs"]]
    figure, axes = pyplot.subplots(figsize=(8, 4.5), layout="constrained")
    for name, levels in rates(runs).items():
        means = [statistics.mean(values) for values in levels.values()]
        axes.plot(list(levels), means, "o-", label=name, color=COLOURS.get(name))
    limits = {
        level["concurrency"]: level["memory_limit_tokens_per_second"]
        for run in runs
        for level in run["levels"]
    }
    axes.plot(
        list(limits), list(limits.values()), ":", color="#222222", label="limit of the memory"
    )
    axes.set_xscale("log", base=2)
    axes.set_yscale("log")
    axes.set_xticks(list(limits), [str(concurrency) for concurrency in limits])
    axes.set_xlabel(f"requests at once, 256 tokens in, 128 out, {documents[-1]['card']}")
    axes.set_ylabel("tokens per second")
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False)
    # The same numbers give the same file.
    mpl.rcParams["svg.hashsalt"] = "throughput"
    figure.savefig(target, metadata={"Date": None})


if __name__ == "__main__":
    main()
