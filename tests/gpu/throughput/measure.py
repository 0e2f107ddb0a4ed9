"""Measures instances one after the other: measure.py RENDERED OUTPUT.json --until S NAME...

Each is started, asked by 1, 32, 256 and 1024 clients, and stopped while 64 streams run. A NAME
`best` stands for the fastest of those measured before it on this machine, also in earlier calls.
An instance that may not be done in time is left out: the file says so. run.sh starts it.
"""

from __future__ import annotations

import argparse
import json
import math
import shutil
import sys
import tarfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import limits
import release
from llm_load import Load, measure, send_together
from server import MODEL, Server

PROCESSES = 6
DRAINED, DRAIN_TOKENS = 64, 400
STOP_SECONDS = 15.0
REFERENCE = "stock"
NEVER_BEST = {"seed", REFERENCE}
HISTORY = Path("/tmp/gpufleet-gpu/throughput.jsonl")


@dataclass(frozen=True)
class Level:
    """How many clients, for how long; a warm-up is about as long as one answer of slow settings."""

    concurrency: int
    warm_up: float
    seconds: float


LEVELS = (Level(1, 1, 5), Level(32, 2, 5), Level(256, 4, 6), Level(1024, 8, 10))


def run(place: Path, name: str, logs: Path, bandwidth: float) -> dict[str, Any]:
    """Measure one instance; return its numbers, as far as they go."""
    found: dict[str, Any] = {"name": name, "levels": []}
    server = Server(place, name, logs / f"{int(time.time())}-{name}.log")
    try:
        found["first_token_seconds"] = round(server.first_token(240), 1)
        print(f"{name}: first token after {found['first_token_seconds']} s", flush=True)
        found |= server.facts()
        for level in LEVELS:
            load = Load("127.0.0.1", 8000, MODEL, level.concurrency, level.seconds, level.warm_up)
            numbers = measure(load, PROCESSES)
            limit = limits.tokens_per_second(level.concurrency, 256, 128, bandwidth)
            numbers["memory_limit_tokens_per_second"] = round(limit)
            found["levels"].append(numbers)
            print(
                f"{name} {level.concurrency:5d}: {numbers['tokens_per_second']:9.1f} tok/s "
                f"{numbers['halves']}, TTFT {numbers['first_token_ms']}, ITL "
                f"{numbers['inter_token_ms']}, client {numbers['client_busy']}, failed "
                f"{numbers['failed']} {numbers['problems']}, limit {limit:.0f}",
                flush=True,
            )
        load = Load("127.0.0.1", 8000, MODEL, DRAINED, output_tokens=DRAIN_TOKENS)
        found["drain"] = send_together(load, server.terminate, 30)
        print(f"{name}: drain {found['drain']}"[:300], flush=True)
    except Exception as error:
        found["error"] = f"{type(error).__name__}: {error}"
        print(f"{name}: {found['error']}", flush=True)
        server.terminate()
    found["end_seconds"] = round(server.end(STOP_SECONDS), 1)
    return found


def best(runs: list[dict[str, Any]]) -> str:
    """The instance with the greatest gain over the reference, as the mean over all levels."""
    rates: dict[str, list[list[float]]] = {}
    for one in runs:
        if len(one["levels"]) == len(LEVELS):
            row = [level["tokens_per_second"] for level in one["levels"]]
            rates.setdefault(one["name"], []).append(row)
    means = {
        name: [sum(column) / len(rows) for column in zip(*rows)] for name, rows in rates.items()
    }
    reference = means.get(REFERENCE)
    scores = {
        name: math.prod(mine / theirs for mine, theirs in zip(row, reference or row))
        for name, row in means.items()
        if name not in NEVER_BEST
    }
    if not scores:
        raise SystemExit("nothing was measured that could be the best")
    return max(scores, key=lambda name: scores[name])


def main() -> int:
    """Measure what time allows; write after every instance."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("rendered", type=Path)
    parser.add_argument("output", type=Path)
    parser.add_argument("--until", type=float, required=True, help="seconds from now")
    parser.add_argument("names", nargs="+")
    options = parser.parse_args()
    until = time.monotonic() + options.until
    release.apply_limits()
    place = release.lay_out(options.rendered)
    logs = options.output.with_suffix(".logs")
    logs.mkdir(parents=True, exist_ok=True)
    card, bandwidth = limits.card()
    document: dict[str, Any] = {"card": card, "bandwidth_bytes_per_second": bandwidth}
    document |= {"copy_bytes_per_second": limits.copy_rate(), "runs": [], "left_out": []}
    print(json.dumps(document), flush=True)
    lines = HISTORY.read_text().splitlines() if HISTORY.exists() else []
    history = [json.loads(line) for line in lines]
    longest = 110.0
    for name in options.names:
        if time.monotonic() + longest > until:
            document["left_out"].append(name)
            continue
        began = time.monotonic()
        if name == "best":
            name = best(history)
            document["best"] = name
            print(f"best so far: {name}", flush=True)
        found = run(place, name, logs, bandwidth)
        found["took_seconds"] = round(time.monotonic() - began, 1)
        longest = max(110.0, found["took_seconds"] + 5)
        history.append(found)
        document["runs"].append(found)
        with HISTORY.open("a") as stream:
            stream.write(json.dumps(found) + "\n")
        options.output.write_text(json.dumps(document, indent=2) + "\n")
    with tarfile.open(options.output.with_suffix(".logs.tar.gz"), "w:gz") as archive:
        archive.add(logs, "logs")
    shutil.rmtree(logs)
    print(f"left out: {document['left_out']}")
    return 1 if any("error" in one for one in document["runs"]) else 0


if __name__ == "__main__":
    sys.exit(main())
