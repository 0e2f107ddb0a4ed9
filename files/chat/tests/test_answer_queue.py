"""Places go round between people, in the order of asking, and never above the bound."""

from __future__ import annotations

import asyncio
import contextlib
import time

import pytest
from gpufleet_chat import answer_queue
from gpufleet_chat.answer_queue import AnswerQueue


@pytest.fixture(autouse=True)
def fast(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(answer_queue, "TELL_AFTER_SECONDS", 0.01)
    monkeypatch.setattr(answer_queue, "TELL_EVERY_SECONDS", 0.01)


class Line:
    """Questions in a queue, each answered until it is released."""

    def __init__(self, at_once: int = 1, length: int = 100, per_person: int = 100) -> None:
        self.queue = AnswerQueue(at_once, length, per_person)
        self.began: list[str] = []
        self.broken: set[str] = set()
        self.told: dict[str, list[int]] = {}
        self._release: dict[str, asyncio.Event] = {}
        self.tasks: dict[str, asyncio.Task[None]] = {}

    async def ask(self, name: str, asked_at: float | None = None) -> None:
        """Ask; the person is the first letter of the name."""
        self.told[name] = []
        self._release[name] = asyncio.Event()
        when = time.monotonic() if asked_at is None else asked_at
        self.tasks[name] = asyncio.create_task(self._answer(name, when))
        await settle()

    async def release(self, name: str) -> None:
        """Let an answer end."""
        self._release[name].set()
        await settle()

    async def _answer(self, name: str, asked_at: float) -> None:
        async def tell(ahead: int) -> None:
            self.told[name].append(ahead)

        with self.queue.admitted(name[0]):
            with contextlib.suppress(ConnectionError):
                async with self.queue.place(name[0], asked_at, tell):
                    self.began.append(name)
                    await self._release[name].wait()
                    if name in self.broken:
                        raise ConnectionError
                return
            async with self.queue.place(name[0], asked_at, tell):
                self.began.append(name)


async def settle() -> None:
    await asyncio.sleep(0.03)
    # On a busy machine timers come due together: what they wake takes its steps first.
    for _ in range(20):
        await asyncio.sleep(0)


async def test_first_asked_is_first_answered_and_sees_its_position() -> None:
    line = Line()
    for name in ("a", "b", "c", "d"):
        await line.ask(name)
    assert line.began == ["a"]
    assert (line.queue.running, line.queue.waiting) == (1, 3)
    assert line.told == {"a": [], "b": [0], "c": [1], "d": [2]}
    await line.release("a")
    await line.release("b")
    assert line.began == ["a", "b", "c"]
    # At its turn it is told so, since the answer itself may take a moment.
    assert line.told["c"] == [1, 0]
    assert line.told["d"] == [2, 1, 0]


async def test_place_that_comes_early_is_told() -> None:
    line = Line(at_once=2)
    for name in ("a", "b", "c", "d"):
        await line.ask(name)
    line._release["a"].set()
    line._release["b"].set()
    await settle()
    assert line.told["d"] == [1, 0]


async def test_many_chats_of_one_person_do_not_starve_others() -> None:
    line = Line(at_once=2)
    for name in ("a1", "a2", "a3", "a4", "b1", "c1"):
        await line.ask(name)
    assert line.began == ["a1", "a2"]
    assert line.told["a3"] == [0, 1, 2]
    await line.release("a1")
    await line.release("a2")
    assert line.began == ["a1", "a2", "b1", "c1"]
    await line.release("b1")
    assert line.began[-1] == "a3"


async def test_with_one_place_people_take_turns() -> None:
    line = Line()
    for name in ("a1", "a2", "a3", "b1", "c1", "b2"):
        await line.ask(name)
    # The answer in progress is Anna's, so her next comes after the others' first.
    assert [line.told[name][-1] for name in ("b1", "c1", "a2", "b2", "a3")] == [0, 1, 2, 3, 4]
    order = []
    for _ in range(6):
        order.append(line.began[-1])
        await line.release(order[-1])
    assert order == ["a1", "b1", "c1", "a2", "b2", "a3"]


async def test_nobody_is_overtaken_for_ever() -> None:
    line = Line()
    for name in ("a1", "a2", "b1"):
        await line.ask(name)
    await line.release("a1")
    # Whoever asks after Anna's answer has ended comes after her next question.
    await line.ask("c1")
    await line.release("b1")
    assert line.began[-1] == "a2"


async def test_stop_is_no_way_to_the_front() -> None:
    line = Line()
    for name in ("a1", "a2", "b1"):
        await line.ask(name)
    line.tasks["a1"].cancel()
    await settle()
    assert line.began[-1] == "b1"


async def test_answer_that_was_cut_goes_on_first() -> None:
    line = Line()
    line.broken.add("a1")
    for name in ("a1", "b1"):
        await line.ask(name)
    await line.release("a1")
    assert line.began == ["a1", "a1", "b1"]


async def test_stopped_question_leaves_the_line() -> None:
    line = Line()
    for name in ("a", "b", "c"):
        await line.ask(name)
    line.tasks["b"].cancel()
    await settle()
    assert line.queue.waiting == 1
    assert line.told["c"][-1] == 0
    # Stopped while it is answered: its place is free.
    line.tasks["a"].cancel()
    await settle()
    assert line.began == ["a", "c"]
    await line.release("c")
    assert (line.queue.running, line.queue.waiting) == (0, 0)


async def test_stop_at_the_moment_of_the_grant_loses_no_place(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    line = Line()
    await line.ask("a")
    await line.ask("b")
    granted = line.queue._waiters[0].granted
    give = granted.set

    # In one step of the loop: the owner of the place has not run yet.
    def give_and_stop() -> None:
        give()
        line.tasks["b"].cancel()

    monkeypatch.setattr(granted, "set", give_and_stop)
    await line.release("a")
    assert line.tasks["b"].cancelled()
    assert line.queue.running == 0
    await line.ask("c")
    assert line.began == ["a", "c"]


async def test_after_a_recovery_the_first_asked_is_first() -> None:
    line = Line()
    # All wake in one moment, in any order.
    tasks = [line.ask(name, asked_at) for name, asked_at in (("c", 3.0), ("a", 1.0), ("b", 2.0))]
    await asyncio.gather(*tasks)
    assert line.began == ["a"]


async def test_pause_gives_no_place_until_it_is_over() -> None:
    line = Line(at_once=2)
    line.queue.pause(0.2)
    started = time.monotonic()
    await line.ask("a")
    await line.ask("b")
    assert line.began == []
    assert line.told == {"a": [0], "b": [1]}
    while len(line.began) < 2:
        assert time.monotonic() < started + 2
        await settle()
    assert time.monotonic() - started >= 0.18


def test_bounds() -> None:
    queue = AnswerQueue(at_once=1, length=2, per_person=2)

    with queue.admitted("a"), queue.admitted("a"):
        assert queue.has_enough("a")
        assert not queue.has_enough("b")
        assert not queue.is_full()
        with queue.admitted("b"):
            assert queue.is_full()
        assert not queue.is_full()
    assert not queue.has_enough("a")


async def test_saturated_once_somebody_waits_long_and_calm_after_a_while(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(answer_queue, "SATURATED_AFTER_SECONDS", 0.1)
    monkeypatch.setattr(answer_queue, "CALM_AFTER_SECONDS", 0.2)
    line = Line()
    await line.ask("a")
    await asyncio.sleep(0.15)
    # Answers in progress are no crowd.
    assert not line.queue.is_saturated
    await line.ask("b")
    assert not line.queue.is_saturated
    await asyncio.sleep(0.1)
    assert line.queue.is_saturated
    await line.release("a")
    assert line.queue.is_saturated
    await asyncio.sleep(0.2)
    assert not line.queue.is_saturated
    line.queue.pause(0.01)
    assert line.queue.is_saturated
