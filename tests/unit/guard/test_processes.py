"""The guard's roster: which of vLLM's processes it misses, and what it takes for none of them."""

from __future__ import annotations

import pytest

from .test_start import load

processes = load("guard_processes")

MAIN = processes.Process(10, 1, "S", 100, "vllm")
ENGINE = processes.Process(11, 10, "S", 101, "VLLM::EngineCor")
WORKER = processes.Process(12, 11, "S", 102, "VLLM::Worker")
# Measured: a compiler that the worker has started, before it is the compiler.
COPY = processes.Process(13, 12, "S", 103, "VLLM::Worker")
# A worker that is forked bears the engine's title until it has its own.
FORKED = processes.Process(12, 11, "S", 102, "VLLM::EngineCor")
ZOMBIE = processes.Process(12, 11, "Z", 102, "VLLM::Worker")
# The pid of the worker, which is another process by now.
OTHER = processes.Process(12, 11, "S", 999, "VLLM::Worker")
ALL = [MAIN, ENGINE, WORKER]


@pytest.mark.parametrize(
    ("first", "then", "lost"),
    [
        (ALL, ALL, None),
        (ALL, [MAIN, ENGINE], "VLLM::Worker"),
        (ALL, [MAIN, ENGINE, ZOMBIE], "VLLM::Worker"),
        (ALL, [MAIN, ENGINE, OTHER], "VLLM::Worker"),
        ([*ALL, COPY], ALL, None),
        ([MAIN, ENGINE, FORKED], ALL, None),
    ],
)
def test_what_is_missed(first: list[object], then: list[object], lost: str | None) -> None:
    roster = processes.Roster(3.0)
    assert roster.lost(0.0, first) is None
    assert roster.lost(1.0, then) is None
    assert roster.lost(3.9, then) is None
    assert roster.lost(4.0, then) == lost


def test_worker_that_was_forked_is_missed_later() -> None:
    roster = processes.Roster(0.0)
    assert roster.lost(0.0, [MAIN, ENGINE, FORKED]) is None
    assert roster.lost(1.0, ALL) is None
    assert roster.lost(2.0, [MAIN, ENGINE]) == "VLLM::Worker"
