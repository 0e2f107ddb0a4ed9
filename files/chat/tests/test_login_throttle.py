"""Guessing passwords takes ever longer, and locks nobody else out."""

from __future__ import annotations

from gpufleet_chat.login_texts import WAITS, wait_key
from gpufleet_chat.login_throttle import ACCOUNT, ADDRESS, PAIR, LoginThrottle

HERE, THERE = "192.0.2.1", "198.51.100.1"


class Clock:
    """A time that moves when it is told to."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def test_the_wait_doubles_up_to_its_longest() -> None:
    clock = Clock()
    throttle = LoginThrottle(clock)
    assert [throttle.take("anna", HERE) for _ in range(PAIR.free)] == [0] * PAIR.free
    waits = []
    for _ in range(10):
        seconds = throttle.take("anna", HERE)
        # Asking again does not make it longer.
        assert throttle.take("anna", HERE) == seconds
        waits.append(seconds)
        clock.now += seconds
        assert throttle.take("anna", HERE) == 0
    assert waits == [5, 10, 20, 40, 80, 160, 320, 640, 900, 900]


def test_elsewhere_the_person_may_log_in() -> None:
    throttle = LoginThrottle(Clock())
    while not throttle.take("anna", HERE):
        pass
    assert throttle.take("anna", THERE) == 0


def test_one_address_cannot_try_all_names() -> None:
    throttle = LoginThrottle(Clock())
    tried = [throttle.take(f"name {number}", HERE) for number in range(ADDRESS.free + 1)]
    assert tried == [0] * ADDRESS.free + [5]


def test_many_addresses_cannot_try_one_name_for_long() -> None:
    throttle = LoginThrottle(Clock())
    tried = [throttle.take("anna", f"10.0.{number}.1") for number in range(ACCOUNT.free + 1)]
    assert tried == [0] * ACCOUNT.free + [5]


def test_one_network_of_ipv6_is_one_address() -> None:
    throttle = LoginThrottle(Clock())
    for number in range(PAIR.free):
        assert throttle.take("anna", f"2001:db8::{number}") == 0
    assert throttle.take("anna", "2001:db8::ffff:1") == 5
    assert throttle.take("anna", "2001:db8:0:1::1") == 0


def test_success_begins_anew_but_not_for_other_names() -> None:
    throttle = LoginThrottle(Clock())
    for _ in range(2 * ADDRESS.free):
        assert throttle.take("mallory", HERE) == 0
        throttle.succeeded("mallory", HERE)
    # One's own right password does not excuse guesses at others'.
    for number in range(ADDRESS.free):
        assert throttle.take(f"name {number}", HERE) == 0
        if number < ADDRESS.free - 1:
            assert throttle.take("mallory", HERE) == 0
            throttle.succeeded("mallory", HERE)
    assert throttle.take("another", HERE) > 0


def test_memory_is_bounded_and_the_past_forgotten() -> None:
    clock = Clock()
    throttle = LoginThrottle(clock, most_keys=30)
    for number in range(1000):
        throttle.take(f"name {number}" * 1000, f"10.0.{number // 200}.{number % 200}")
    assert len(throttle) <= 30
    clock.now += 3601
    throttle.take("anna", HERE)
    assert len(throttle) == 3


def test_the_text_never_tells_less_than_the_wait() -> None:
    assert [wait_key(seconds) for seconds in (1, 5, 6, 61, 900)] == [
        "wait5",
        "wait5",
        "wait10",
        "wait120",
        "wait900",
    ]
    assert max(PAIR.longest_seconds, ADDRESS.longest_seconds, ACCOUNT.longest_seconds) <= WAITS[-1]
