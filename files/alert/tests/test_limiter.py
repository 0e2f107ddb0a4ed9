"""Not each of many restarts is sent, and no end without its beginning."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from gpufleet_alert.limiter import Limiter, Verdict
from gpufleet_alert.notice import Notice

Make = Callable[..., Notice]
T = 1790000000.0


def decide(path: Path, notice: Notice, minutes: int = 15) -> Verdict:
    """Decide as a new process would."""
    limiter = Limiter(path / "sent.json", minutes)
    verdict = limiter.decide(notice)
    limiter.keep()
    return verdict


@pytest.mark.parametrize("kind", ["restarted", "hang_killed"])
def test_one_in_a_while(kind: str, notice: Make, tmp_path: Path) -> None:
    def at(minutes: float, unit: str = "vllm@a.service") -> Verdict:
        return decide(tmp_path, notice(kind=kind, unit=unit, at=T + 60 * minutes, since=minutes))

    assert at(0) == Verdict(True)
    assert at(1) == Verdict(False)
    assert at(14.9) == Verdict(False)
    assert at(2, unit="vllm@b.service") == Verdict(True)
    assert at(15) == Verdict(True, left_out=2)
    assert at(31) == Verdict(True)


def test_no_limit(notice: Make, tmp_path: Path) -> None:
    for second in range(3):
        assert decide(tmp_path, notice(at=T + second, since=T + second), 0) == Verdict(True)


def test_clock_that_was_set_back(notice: Make, tmp_path: Path) -> None:
    assert decide(tmp_path, notice(at=T)).send
    assert decide(tmp_path, notice(at=T - 3600, since=1)).send


@pytest.mark.parametrize("kind", ["canary_failed", "gave_up"])
def test_others_are_not_limited(kind: str, notice: Make, tmp_path: Path) -> None:
    assert decide(tmp_path, notice(kind=kind, at=T)).send
    assert decide(tmp_path, notice(kind=kind, at=T + 1)).send


@pytest.mark.parametrize("kind", ["restarted", "hang_killed", "canary_failed", "gave_up"])
def test_end_only_with_its_beginning(kind: str, notice: Make, tmp_path: Path) -> None:
    end = notice(kind="recovered", since=T, at=T + 60)
    assert not decide(tmp_path, end).send
    assert decide(tmp_path, notice(kind=kind, since=T)).send
    assert not decide(tmp_path, notice(kind="recovered", since=T, unit="vllm@b.service")).send
    assert decide(tmp_path, end).send
    assert not decide(tmp_path, end).send


def test_left_out_beginning_has_no_end(notice: Make, tmp_path: Path) -> None:
    assert decide(tmp_path, notice(at=T, since=T)).send
    assert not decide(tmp_path, notice(at=T + 60, since=T + 60)).send
    assert not decide(tmp_path, notice(kind="recovered", at=T + 90, since=T + 60)).send
    # But when it was given up in the end, people know, and want to hear of its end.
    assert decide(tmp_path, notice(kind="gave_up", at=T + 95, since=T + 60)).send
    assert decide(tmp_path, notice(kind="recovered", at=T + 99, since=T + 60)).send


def test_decision_counts_once_kept(notice: Make, tmp_path: Path) -> None:
    limiter = Limiter(tmp_path / "sent.json", 15)
    assert limiter.decide(notice(at=T)).send
    assert limiter.decide(notice(at=T)).send


def test_broken_file(notice: Make, tmp_path: Path) -> None:
    for text in ("", "[]", '{"sent": 1}', '{"sent": {"a": 1}, "open": []}'):
        (tmp_path / "sent.json").write_text(text)
        assert decide(tmp_path, notice()).send
