"""Tables of what measure.py has written, and whether the aims are met: report.py OURS JSON...

OURS is the instance that is compared with the others, by the means of all its runs; the files are
of one machine. Exit status 1 where an aim is missed.
"""

from __future__ import annotations

import json
import statistics
import sys
from pathlib import Path
from typing import Any

SEED, STOCK = "seed", "stock"
# How many times the seed's tokens per second, by concurrency.
AIMS = {1: 9.0, 32: 7.0, 256: 4.0}

Rates = dict[str, dict[int, list[float]]]


def rates(runs: list[dict[str, Any]]) -> Rates:
    """Tokens per second by instance and concurrency, one for each run."""
    found: Rates = {}
    for run in runs:
        for level in run["levels"]:
            levels = found.setdefault(run["name"], {})
            levels.setdefault(level["concurrency"], []).append(level["tokens_per_second"])
    return found


def noise(found: Rates) -> float:
    """Greatest part by which runs of one instance differ from their mean."""
    parts = [
        abs(value / statistics.mean(values) - 1)
        for levels in found.values()
        for values in levels.values()
        for value in values
    ]
    return max(parts, default=0.0)


def table(runs: list[dict[str, Any]]) -> str:
    """One line for each run and level."""
    lines = [
        "| instance | concurrent | tokens/s | of the memory's limit | first token p50 / p99 | "
        "between tokens p50 / p99 | failed | client busy |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for run in runs:
        for level in run["levels"]:
            first, between = level["first_token_ms"], level["inter_token_ms"]
            part = level["tokens_per_second"] / level["memory_limit_tokens_per_second"]
            lines.append(
                f"| {run['name']} | {level['concurrency']} | {level['tokens_per_second']:,.0f} | "
                f"{part:.1%} of {level['memory_limit_tokens_per_second']:,} | "
                f"{first['p50']} / {first['p99']} ms | {between['p50']} / {between['p99']} ms | "
                f"{level['failed'] + level['short']} | {level['client_busy']:.0%} |"
            )
    lines += ["", "| instance | first token after | streams whole in a drain |", "|---|---|---|"]
    for run in runs:
        drain = run.get("drain", {})
        whole = f"{drain.get('whole', '-')} of {drain.get('sent', '-')}"
        lines.append(f"| {run['name']} | {run.get('first_token_seconds', '-')} s | {whole} |")
    return "\n".join(lines)


def missed(ours: str, found: Rates) -> list[str]:
    """The aims that these numbers miss."""
    allowed = 1 - noise(found)
    problems = []
    for concurrency, values in found[ours].items():
        mine = statistics.mean(values)
        stock = statistics.mean(found[STOCK][concurrency])
        seed = statistics.mean(found[SEED][concurrency])
        print(f"{concurrency}: {mine / stock:.2f} x {STOCK}, {mine / seed:.2f} x {SEED}")
        if mine < stock * allowed:
            problems.append(f"{concurrency}: below {STOCK} by more than the noise")
        if mine < seed * AIMS.get(concurrency, 1.0):
            problems.append(f"{concurrency}: below {AIMS[concurrency]} x {SEED}")
    return problems


def main() -> int:
    """Print tables and comparison; return the exit status."""
    ours, files = sys.argv[1], sys.argv[2:]
    documents = [json.loads(Path(file).read_text()) for file in files]
    for file, document in zip(files, documents):
        copied = document["copy_bytes_per_second"] / 1e12
        print(f"\n{file}: {document['card']}, a copy moves {copied:.2f} TB/s\n")
        print(table(document["runs"]))
    every = rates([run for document in documents for run in document["runs"]])
    print(f"\nNoise between runs of one instance: {noise(every):.1%}")
    problems = missed(ours, every)
    print("\n".join(problems) or "every aim is met")
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
