"""How the control node waits for a gate, by a clock of the test and states that are played."""

from __future__ import annotations

from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest
from ansible_collections.gpufleet.llm.plugins.action import gated_unit

BEGUN = {"changed": True, "reason": "it is inactive (dead)", "starting": False, "began": 1}


class Played(gated_unit.ActionModule):
    """The plugin with states in place of a host; `steps` are those that it asked for."""

    def __init__(self, states: Iterator[str], **arguments: object) -> None:
        task: Any = SimpleNamespace(
            args={"name": "chainlit.service", **arguments}, check_mode=False, async_val=0
        )
        connection: Any = SimpleNamespace(_shell=SimpleNamespace(tmpdir=None))
        self._task, self._connection = task, connection
        self._states = states
        self.steps: list[str] = []

    def _step(self, step: str, variables: dict[str, Any], since: int = 0) -> dict[str, Any]:
        self.steps.append(step)
        if step == "begin":
            return dict(BEGUN)
        state = next(self._states, "active (running)")
        verdict = "ready" if state.startswith("active ") else "waiting"
        return {"verdict": verdict, "state": state, "result": "", "journal": [], "errors": []}


@pytest.fixture(autouse=True)
def clock(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each pause takes no time, and the clock says that it did."""
    now = [0.0]
    fake = SimpleNamespace(
        monotonic=lambda: now[0], sleep=lambda seconds: now.__setitem__(0, now[0] + seconds)
    )
    monkeypatch.setattr(gated_unit, "time", fake)


def states(**seconds: int) -> Iterator[str]:
    """States that last so long, looked at every three seconds."""
    for state, lasts in seconds.items():
        for _ in range(lasts // int(gated_unit.LOOK_EVERY_SECONDS)):
            yield f"{state} (stop-sigterm)"


def test_the_deadline_is_that_of_the_start_and_not_of_the_drain_before() -> None:
    gate = Played(states(deactivating=300, activating=60), deadline=90)
    result = gate.run(task_vars={})
    assert not result.get("failed"), result["msg"]
    assert result["seconds"] == pytest.approx(60, abs=4)


@pytest.mark.parametrize("drain", [0, 300])
def test_a_start_that_lasts_too_long_is_stopped(drain: int) -> None:
    gate = Played(states(deactivating=drain, activating=120), deadline=90)
    result = gate.run(task_vars={})
    assert result["failed"]
    assert "chainlit.service missed its deadline after 93 s" in result["msg"]
    assert gate.steps[-1] == "stop"


def test_a_target_is_not_waited_for() -> None:
    gate = Played(states(activating=900), wants=["vllm@a.service"])
    assert gate.run(task_vars={})["changed"]
    assert gate.steps == ["begin"]
