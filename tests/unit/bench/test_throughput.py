"""What the measurement on a GPU makes of its numbers."""

from __future__ import annotations

from typing import Any

import limits
import measure
import pytest
import report


def run(name: str, *rates: float) -> dict[str, Any]:
    return {"name": name, "levels": [{"tokens_per_second": rate} for rate in rates]}


def test_memory_is_the_limit_of_one_request() -> None:
    # 28 layers of 15.7 million parameters in one byte each, and 151,936 x 1,024 in two.
    assert limits.tokens_per_second(1, 0, 0, 751_566_848.0) == pytest.approx(1)


def test_the_cache_limits_many_requests() -> None:
    # 28 layers x 8 heads x 128 x keys and values x 2 bytes for each of 1000 tokens.
    many = limits.tokens_per_second(10**6, 1000, 0, 114_688_000.0)
    assert many == pytest.approx(1, rel=0.01)


def test_the_best_has_the_greatest_gain_over_all_levels() -> None:
    runs = [
        run("stock", 100, 100, 100, 100),
        run("a", 90, 90, 90, 140),
        run("b", 105, 105, 105, 105),
        run("seed", 999, 999, 999, 999),
    ]
    assert measure.best(runs) == "b"


def test_an_unfinished_run_is_not_the_best() -> None:
    assert measure.best([run("stock", 1, 1, 1, 1), run("a", 9, 9), run("b", 1, 1, 1, 1)]) == "b"


def test_nothing_measured() -> None:
    with pytest.raises(SystemExit):
        measure.best([run("stock", 1, 1, 1, 1)])


def test_aims_are_judged_with_the_noise_measured() -> None:
    def runs(ours: float) -> report.Rates:
        return {
            "seed": {1: [10.0]},
            "stock": {1: [98.0, 102.0]},
            "ours": {1: [ours]},
        }

    assert report.noise(runs(99)) == pytest.approx(0.02)
    assert report.missed("ours", runs(99)) == []
    assert report.missed("ours", runs(97)) == ["1: below stock by more than the noise"]
    assert len(report.missed("ours", runs(80))) == 2
