"""An API server beside others: what counts as standing still, and what does not."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from .test_start import load

processes = load("guard_processes")
api_servers = load("guard_api_servers")

Start = Callable[[str], int]
TURNS = "while True: time.sleep(0.01)"
WORKS = "while True: pass"
WAITS = "lock = threading.Lock(); lock.acquire(); lock.acquire()"
# Another thread goes on: it is the main one that answers.
WAITS_BESIDE = f"threading.Thread(target=lambda: exec({TURNS!r}), daemon=True).start(); {WAITS}"


@pytest.fixture
def start() -> Iterator[Start]:
    """Start a process that runs a line of Python; all of them end with the test."""
    started: list[subprocess.Popen[bytes]] = []

    def run(line: str) -> int:
        code = f"import threading, time\nprint(flush=True)\n{line}"
        process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE)
        started.append(process)
        assert process.stdout is not None
        process.stdout.readline()
        time.sleep(0.2)
        return process.pid

    yield run
    for process in started:
        process.kill()
        process.communicate()


def process(pid: int, title: str = "VLLM::APIServer") -> Any:
    return processes.Process(pid, 1, "S", 100, title)


def look(*seen: Any) -> list[str | None]:
    """Look once more than it takes for a verdict; the first look has nothing to compare with."""
    watched = api_servers.ApiServers()
    found = []
    for _ in range(api_servers.LOOKS + 1):
        found.append(watched.stuck(list(seen)))
        time.sleep(0.05)
    return found


@pytest.mark.parametrize("line", [TURNS, WORKS])
def test_one_that_lives(start: Start, line: str) -> None:
    assert not any(look(process(start(line))))


@pytest.mark.parametrize("line", [WAITS, WAITS_BESIDE])
def test_one_that_waits_for_ever(start: Start, line: str) -> None:
    stuck = start(line)
    *before, last = look(process(start(TURNS)), process(stuck))
    assert not any(before)
    assert last == f"API server {stuck} stands still, whatever the others answer"


def test_one_that_is_stopped(start: Start) -> None:
    stopped = start(TURNS)
    os.kill(stopped, signal.SIGSTOP)
    time.sleep(0.1)
    assert f"API server {stopped} " in str(look(process(stopped))[-1])


def test_one_that_goes_on_in_time(start: Start) -> None:
    pid = start(TURNS)
    watched = api_servers.ApiServers()
    os.kill(pid, signal.SIGSTOP)
    time.sleep(0.1)
    assert not any(watched.stuck([process(pid)]) for _ in range(api_servers.LOOKS))
    os.kill(pid, signal.SIGCONT)
    time.sleep(0.1)
    assert not any(watched.stuck([process(pid)]) for _ in range(api_servers.LOOKS))


def test_others_are_not_looked_at(start: Start) -> None:
    pid = start(WAITS)
    assert not any(look(process(pid, "VLLM::EngineCor"), process(pid, "vllm")))


def test_one_that_has_ended() -> None:
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    assert not any(look(process(ended.pid)))
