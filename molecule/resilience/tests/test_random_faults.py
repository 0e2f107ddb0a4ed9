"""Faults in a row, of random kinds at random moments: afterwards all is as it was before them.

GPUFLEET_FAULTS says how many, GPUFLEET_FAULTS_SEED repeats those of an earlier run.
"""

from __future__ import annotations

import os
import random
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest
from chat_page import ChatPage
from host import Host, wait_until
from inbox import Inbox
from instance import RECOVERY_SECONDS, UNIT, active, orphans, ports, restarts
from openai_api import answers

COUNT = int(os.environ.get("GPUFLEET_FAULTS", "2"))
SEED = int(os.environ.get("GPUFLEET_FAULTS_SEED", "0")) or random.SystemRandom().randrange(1, 10**6)
QUESTION = "What is the capital of France?"
LONG_QUESTION = "Write a long story about a river, with many details."
# Idle connections are closed after some seconds; the rest of the files must stay as many.
QUIET_SECONDS = 15
IDLE_CONNECTIONS = 5


@dataclass(frozen=True)
class Place:
    """Where a fault strikes, and the dice."""

    host: Host
    open_chat: Callable[[], ChatPage]
    dice: random.Random


def kill(victim: str) -> Callable[[Place], tuple[str, ...]]:
    """Return a fault that kills one process of the unit; it returns the notices to expect."""

    def act(place: Place) -> tuple[str, ...]:
        place.host.run(f"kill -KILL {place.host.pid_of(UNIT, victim)}")
        return ("restarted", "recovered")

    return act


def stop(victim: str) -> Callable[[Place], tuple[str, ...]]:
    """Return a fault that stops one process of the unit, as a hang does."""

    def act(place: Place) -> tuple[str, ...]:
        place.host.run(f"kill -STOP {place.host.pid_of(UNIT, victim)}")
        return ("hang_killed", "recovered")

    return act


def restart(unit: str) -> Callable[[Place], tuple[str, ...]]:
    """Return the restart of a unit, of which nobody is told."""

    def act(place: Place) -> tuple[str, ...]:
        place.host.run(f"systemctl restart {unit}")
        return ()

    return act


def kill_in_mid_start(place: Place) -> tuple[str, ...]:
    """Kill the instance, and once more while it starts: one incident."""
    kill("VLLM::EngineCore")(place)
    wait_until("it starts again", lambda: restarts(place.host) == 1, 60)
    # A start takes twice as long, and longer.
    time.sleep(place.dice.uniform(0, 12))
    assert active(place.host) == "activating"
    place.host.run(f"systemctl kill --signal KILL {UNIT}")
    wait_until("it starts once more", lambda: restarts(place.host) == 2, 60)
    return ("restarted", "recovered")


def kill_in_mid_answer(place: Place) -> tuple[str, ...]:
    """Kill the engine while it writes; the chat goes on in the same answer."""
    # In a chat of its own: after many short answers a model this small gives no long one.
    writer = place.open_chat()
    writer.watch_growth()
    writer.ask(LONG_QUESTION)
    writer.wait_for_lengths(place.dice.randint(2, 10))
    written = writer.answers()[0]
    told = kill("VLLM::EngineCore")(place)
    writer.until(lambda: len(writer.answers()[0]) > len(written) + 20, RECOVERY_SECONDS)
    assert writer.answers()[0].startswith(written)
    writer.stop()
    writer.wait_answered()
    writer.page.close()
    return told


FAULTS: dict[str, Callable[[Place], tuple[str, ...]]] = {
    "kill the engine": kill("VLLM::EngineCore"),
    "kill the worker": kill("VLLM::Worker"),
    "kill the API server": kill("vllm serve"),
    "kill the guard": kill("llm_guard"),
    "stop the engine": stop("VLLM::EngineCore"),
    "stop the worker": stop("VLLM::Worker"),
    "restart nginx": restart("nginx"),
    "restart the chat": restart("chainlit"),
    "kill in mid-start": kill_in_mid_start,
    "kill in mid-answer": kill_in_mid_answer,
}


def chosen() -> list[tuple[str, int]]:
    """Return the name of every fault, and the seed of its own moments."""
    dice = random.Random(SEED)
    return [(dice.choice(sorted(FAULTS)), dice.randrange(10**6)) for _ in range(COUNT)]


def leftovers(host: Host) -> dict[str, Any]:
    """Return what a fault could leave behind, in a form that is equal when nothing was."""
    time.sleep(QUIET_SECONDS)
    private = f"/tmp/systemd-private-*-{UNIT}-*"
    return {
        "orphans": orphans(host),
        "processes of the unit": len(host.processes(UNIT)),
        "shared memory": host.run("ls --almost-all /dev/shm | wc --lines"),
        "private directories": host.run(f"ls --directory {private} | wc --lines"),
        "sockets in them": host.run(f"find {private} -type s | wc --lines"),
        "runtime files": host.run("find /run/gpufleet | sort"),
        "ports": ports(host),
    }


def open_files(host: Host) -> dict[str, int]:
    """Return how many files the guard and the chat hold open."""
    pids = {unit: host.show(unit, "MainPID")["MainPID"] for unit in (UNIT, "chainlit.service")}
    return {unit: int(host.run(f"ls /proc/{pid}/fd | wc --lines")) for unit, pid in pids.items()}


@pytest.fixture(scope="module")
def chat(open_chat: Callable[[], ChatPage], url: str, model: str) -> ChatPage:
    """Return the page of a person who stays through all faults."""
    wait_until("the service answers", lambda: answers(url, model), RECOVERY_SECONDS)
    page = open_chat()
    ask(page)
    return page


@pytest.fixture(scope="module")
def before(host: Host, chat: ChatPage) -> tuple[dict[str, Any], dict[str, int]]:
    """Return what was there before the first fault."""
    return leftovers(host), open_files(host)


def ask(page: ChatPage) -> None:
    """Ask a question and wait for the right answer."""
    count = len(page.answers())
    page.ask(QUESTION)
    # Before the answer the chat may tell that it leaves the beginning of the conversation out.
    page.until(lambda: any("Paris" in said for said in page.answers()[count:]), RECOVERY_SECONDS)
    page.wait_answered()


@pytest.mark.usefixtures("healthy", "before")
@pytest.mark.parametrize(
    ("number", "fault"),
    list(enumerate(chosen(), start=1)),
    ids=[f"{number} {name}" for number, (name, _) in enumerate(chosen(), start=1)],
)
def test_fault(
    host: Host,
    url: str,
    model: str,
    inbox: Inbox,
    chat: ChatPage,
    open_chat: Callable[[], ChatPage],
    number: int,
    fault: tuple[str, int],
) -> None:
    name, seed = fault
    print(f"GPUFLEET_FAULTS_SEED={SEED}, fault {number} of {COUNT}: {name}")
    said = chat.answers()
    started = time.monotonic()
    told = FAULTS[name](Place(host, open_chat, random.Random(seed)))
    if told:
        wait_until("systemd restarts it", lambda: restarts(host) >= 1, 120)
    wait_until("it answers", lambda: answers(url, model), RECOVERY_SECONDS)
    print(f"answered again {time.monotonic() - started:.0f} s after the fault")
    chat.wait_answered(RECOVERY_SECONDS)
    assert chat.answers()[: len(said)] == said, "the page has lost some of its conversation"
    ask(chat)
    inbox.expect(*told)
    assert orphans(host) == set()


def test_all_is_as_it_was(
    host: Host, chat: ChatPage, before: tuple[dict[str, Any], dict[str, int]]
) -> None:
    left, files = before
    assert leftovers(host) == left
    for unit, count in open_files(host).items():
        assert count <= files[unit] + IDLE_CONNECTIONS, f"{unit}: {count} after {files[unit]}"
    # One from before the faults, and one after each.
    assert sum("Paris" in answer for answer in chat.answers()) == COUNT + 1
