"""So many messages in any minute for each person, and nothing kept of those who are gone."""

from __future__ import annotations

from gpufleet_chat.rate_limit import RateLimit


class Clock:
    """A time that moves when it is told to."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def test_the_window_moves_and_tells_the_time_to_wait() -> None:
    clock = Clock()
    limit = RateLimit(2, clock)
    assert limit.take("anna") == 0
    clock.now += 50
    assert limit.take("anna") == 0
    assert limit.take("anna") == 10
    # A refused message does not count, and others are not concerned.
    assert limit.take("anna") == 10
    assert limit.take("ben") == 0
    clock.now += 9.5
    assert limit.take("anna") == 1
    clock.now += 0.6
    assert limit.take("anna") == 0
    # No full minute begins anew: the message before still counts.
    assert limit.take("anna") == 50


def test_zero_is_no_limit() -> None:
    limit = RateLimit(0, Clock())
    assert [limit.take("anna") for _ in range(1000)] == [0] * 1000
    assert len(limit) == 0


def test_people_who_are_gone_are_forgotten() -> None:
    clock = Clock()
    limit = RateLimit(10, clock)
    for number in range(1000):
        limit.take(f"person {number}")
        clock.now += 1
    assert len(limit) <= 61
    clock.now += 100
    for wait, person in ((0, "first"), (0, "second"), (50, "first"), (20, "third")):
        clock.now += wait
        limit.take(person)
    # The first came again; the second, who came after it, is still found and forgotten.
    assert len(limit) == 2
