"""What the chat app adds to each token: latency and processor time, beside a plain Chainlit app.

measure.py PLAIN_PYTHON JSON: measures in turns, prints a table and writes the file; fails where a
bound is not kept.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

from subjects import DIRECT, HERE, OURS, PLAIN, RATE, Subject, processor_seconds, subjects

# Fewer chats get longer answers, so that their processor time can be read.
TOKENS = {1: 1000, 20: 500, 60: 500}
REPETITIONS = 3
# At most this part of the processor time per token that the plain app takes.
PROCESSOR_SHARE = 0.5
# Added to the stream itself, for half of the tokens, with this many chats.
ADDED_MILLISECONDS, ADDED_CHATS = 5.0, 60


@dataclass(frozen=True)
class Sample:
    """One run: milliseconds from emission to arrival, and microseconds of processor per token."""

    p50: float
    p95: float
    p99: float
    processor: float | None


@dataclass(frozen=True)
class Result:
    """A subject with so many chats: the medians of the runs, which are in samples."""

    subject: str
    chats: int
    p50: float
    p95: float
    p99: float
    processor: float | None
    samples: list[Sample]


def run(subject: Subject, chats: int, tokens: int) -> Sample:
    """Have so many chats get an answer of so many tokens, all at once."""
    command = [str(HERE / "clients.py"), subject.kind, subject.url, str(chats), str(tokens)]
    clients = subprocess.Popen(
        [sys.executable, *command], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert clients.stdin is not None
    assert clients.stdout is not None
    assert clients.stdout.readline() == "ready\n", f"{command} has not begun"
    before = processor_seconds(subject.pid) if subject.pid else 0.0
    clients.stdin.write("go\n")
    clients.stdin.flush()
    latencies = sorted(json.loads(clients.stdout.readline()))
    spent = processor_seconds(subject.pid) - before if subject.pid else None
    clients.communicate()
    assert len(latencies) == chats * tokens, f"{subject.name} has lost tokens: {len(latencies)}"
    p50, p95, p99 = (latencies[int(len(latencies) * part)] for part in (0.5, 0.95, 0.99))
    return Sample(p50, p95, p99, None if spent is None else spent / len(latencies) * 1e6)


def measure(plain_python: Path, plan: dict[int, int], repetitions: int) -> list[Result]:
    """Measure every subject with every number of chats, in turns."""
    with tempfile.TemporaryDirectory() as name, subjects(Path(name), plain_python) as found:
        # What is done once in a process, such as imports, is no part of a token.
        for subject in found:
            run(subject, 2, 20)
        samples: dict[tuple[str, int], list[Sample]] = {}
        for repetition in range(repetitions):
            for chats, tokens in plan.items():
                # Each subject comes first, second and last in turn.
                shift = repetition % len(found)
                for subject in found[shift:] + found[:shift]:
                    sample = run(subject, chats, tokens)
                    samples.setdefault((subject.name, chats), []).append(sample)
                    print(f"{subject.name}, {chats} chats: {sample}", file=sys.stderr, flush=True)
        order = [(subject.name, chats) for chats in plan for subject in found]
    return [_result(subject, chats, samples[subject, chats]) for subject, chats in order]


def _result(subject: str, chats: int, samples: list[Sample]) -> Result:
    def median(value: Callable[[Sample], float]) -> float:
        return statistics.median(value(sample) for sample in samples)

    return Result(
        subject,
        chats,
        median(lambda sample: sample.p50),
        median(lambda sample: sample.p95),
        median(lambda sample: sample.p99),
        None if samples[0].processor is None else median(lambda sample: sample.processor or 0.0),
        samples,
    )


@dataclass(frozen=True)
class Bound:
    """A value that must not be above its limit."""

    name: str
    value: float
    limit: float

    @property
    def kept(self) -> bool:
        """Whether it is not above."""
        return self.value <= self.limit


def bounds(results: list[Result]) -> list[Bound]:
    """Return what is promised of these results."""
    found = {(result.subject, result.chats): result for result in results}
    promised = []
    for chats in sorted({result.chats for result in results}):
        ours, plain, direct = (found[name, chats] for name in (OURS, PLAIN, DIRECT))
        name = f"µs of processor per token, {chats} chats"
        limit = PROCESSOR_SHARE * (plain.processor or 0.0)
        promised.append(Bound(name, ours.processor or 0.0, limit))
        if chats == ADDED_CHATS:
            name = f"ms added to half of the tokens, {chats} chats"
            promised.append(Bound(name, ours.p50 - direct.p50, ADDED_MILLISECONDS))
    return promised


def table(results: list[Result]) -> str:
    """Return the numbers as lines of Markdown."""
    lines = [
        "| chats | what | on its way, p50 / p95 / p99 | processor per token |",
        "|---|---|---|---|",
    ]
    for one in results:
        processor = "" if one.processor is None else f"{one.processor:.0f} µs"
        latency = f"{one.p50:.1f} / {one.p95:.1f} / {one.p99:.1f} ms"
        lines.append(f"| {one.chats} | {one.subject} | {latency} | {processor} |")
    lines += ["", "| bound | value | limit | kept |", "|---|---|---|---|"]
    for bound in bounds(results):
        kept = "yes" if bound.kept else "NO"
        lines.append(f"| {bound.name} | {bound.value:.1f} | {bound.limit:.1f} | {kept} |")
    return "\n".join(lines)


def main() -> int:
    """Measure, print and write; return the exit status."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("plain_python", type=Path)
    parser.add_argument("json", type=Path)
    parser.add_argument("--quick", action="store_true", help="one short run of each, to try it out")
    arguments = parser.parse_args()
    plan = {chats: tokens // 5 for chats, tokens in TOKENS.items()} if arguments.quick else TOKENS
    repetitions = 1 if arguments.quick else REPETITIONS
    results = measure(arguments.plain_python.absolute(), plan, repetitions)
    promised = bounds(results)
    document = {
        "processors": os.cpu_count(),
        "tokens_per_second_and_chat": RATE,
        "results": [asdict(result) for result in results],
        "bounds": [{**asdict(bound), "kept": bound.kept} for bound in promised],
    }
    arguments.json.write_text(json.dumps(document, indent=2) + "\n")
    print(table(results))
    return 0 if all(bound.kept for bound in promised) else 1


if __name__ == "__main__":
    sys.exit(main())
