"""When a unit must be restarted, against this test's own process as the running one."""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.testing import patch_module_args
from ansible_collections.gpufleet.llm.plugins.modules import gated_unit


def sha256(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


@pytest.fixture
def release(tmp_path: Path) -> Iterator[Path]:
    """Return a release from which this process, the stand-in for the unit, runs."""
    before = Path.cwd()
    (tmp_path / "settings.json").write_text("one")
    (tmp_path / "venv").symlink_to("/venvs/one")
    os.chdir(tmp_path)
    yield tmp_path
    os.chdir(before)


def shown(**changes: str) -> dict[str, str]:
    running = {
        "ActiveState": "active",
        "SubState": "running",
        "MainPID": str(os.getpid()),
        "ExecMainStartTimestampMonotonic": str(int(time.monotonic() * 1_000_000)),
        "Job": "",
    }
    return {**running, **changes}


SAME = {"settings.json": sha256("one"), "venv": sha256("/venvs/one")}


def test_left_alone_when_all_is_the_same(release: Path) -> None:
    assert gated_unit.restart_reason(shown(), SAME, [str(release / "settings.json")]) == ""


@pytest.mark.parametrize(
    ("inputs", "reason"),
    [
        ({"settings.json": sha256("two")}, "settings.json differs"),
        ({"venv": sha256("/venvs/two")}, "venv differs"),
        ({"guard/new.py": sha256("")}, "guard/new.py differs"),
    ],
    ids=["file", "link", "missing"],
)
def test_restarts_for_other_inputs(release: Path, inputs: dict[str, str], reason: str) -> None:
    assert reason in gated_unit.restart_reason(shown(), {**SAME, **inputs}, [])


@pytest.mark.parametrize(
    ("state", "sub"),
    [("inactive", "dead"), ("failed", "failed"), ("activating", "auto-restart")],
)
def test_restarts_what_is_not_active(state: str, sub: str) -> None:
    stopped = shown(ActiveState=state, SubState=sub, MainPID="0")
    assert state in gated_unit.restart_reason(stopped, {}, [])


def test_leaves_alone_what_is_starting_from_the_right_release(release: Path) -> None:
    starting = shown(ActiveState="activating", SubState="start-post")
    assert gated_unit.starts(starting)
    assert gated_unit.restart_reason(starting, SAME, []) == ""
    other = {**SAME, "settings.json": sha256("two")}
    assert "settings.json differs" in gated_unit.restart_reason(starting, other, [])


def test_restarts_for_a_unit_file_changed_later(release: Path) -> None:
    unit = release / "x.service"
    unit.write_text("")
    os.utime(unit, (time.time() + 60, time.time() + 60))
    assert "x.service changed" in gated_unit.restart_reason(shown(), SAME, [str(unit)])


def test_a_clock_that_was_set_back_since_the_start_hides_no_new_key(release: Path) -> None:
    hour = 3600 * 1_000_000
    running = shown(
        # The clock was ahead at the boot: of this process it says a start hours from now.
        ExecMainStartTimestamp=f"@{int(time.time()) + 8 * 3600}",
        ExecMainStartTimestampMonotonic=str(int(time.monotonic() * 1_000_000) - hour),
    )
    key = release / "vllm_api_key"
    key.write_text("new")
    assert "vllm_api_key changed" in gated_unit.restart_reason(running, SAME, [str(key)])
    os.utime(key, (time.time() - 7200, time.time() - 7200))
    assert gated_unit.restart_reason(running, SAME, [str(key)]) == ""


def test_files_that_are_not_there_are_no_reason(release: Path) -> None:
    assert gated_unit.restart_reason(shown(), SAME, [str(release / "no_key")]) == ""


@pytest.mark.parametrize(
    ("changes", "verdict"),
    [
        ({"NRestarts": "0"}, "ready"),
        ({"ActiveState": "activating", "SubState": "start-post", "NRestarts": "0"}, "waiting"),
        ({"ActiveState": "activating", "SubState": "auto-restart", "NRestarts": "0"}, "failed"),
        ({"ActiveState": "activating", "SubState": "start-post", "NRestarts": "1"}, "failed"),
        ({"ActiveState": "failed", "SubState": "failed", "NRestarts": "0"}, "failed"),
        ({"ActiveState": "inactive", "SubState": "dead", "NRestarts": "0"}, "failed"),
        # Its start waits for a unit before it, such as network-online.target.
        ({"ActiveState": "inactive", "NRestarts": "0", "Job": "7"}, "waiting"),
        # So does its restart: what is active or has failed is the run before.
        ({"NRestarts": "0", "Job": "7"}, "waiting"),
        ({"ActiveState": "failed", "NRestarts": "0", "Job": "7"}, "waiting"),
    ],
)
def test_verdict(monkeypatch: pytest.MonkeyPatch, changes: dict[str, str], verdict: str) -> None:
    states = {"Result": "", **shown(**changes)}
    monkeypatch.setattr(gated_unit, "show", lambda _module, _unit: states)
    monkeypatch.setattr(
        gated_unit, "journal_of", lambda _module, _unit, _lines, *options: list(options)
    )
    with patch_module_args({"name": "x.service", "since": 7}):
        module = AnsibleModule(argument_spec={"name": {"type": "str"}, "since": {"type": "int"}})
    seen = gated_unit.look(module)
    assert seen["verdict"] == verdict
    assert seen["errors"] == ["--since=@7", "--priority=err"]


def begun(
    monkeypatch: pytest.MonkeyPatch, states: dict[str, str]
) -> tuple[dict[str, Any], list[tuple[str, ...]]]:
    """Return the result for a target in this state, and what systemctl was asked for."""
    calls: list[tuple[str, ...]] = []
    states.update(LoadState="loaded", UnitFileState="enabled", NeedDaemonReload="no")
    monkeypatch.setattr(gated_unit, "show", lambda _module, _unit: states)

    def systemctl(_module: AnsibleModule, *words: str) -> tuple[int, str, str]:
        calls.append(words)
        return 0, "", ""

    monkeypatch.setattr(gated_unit, "systemctl", systemctl)
    arguments = {"name": "x.target", "wants": ["a.service"], "inputs": {}, "files": []}
    options = {"enabled": True, "changed_files": False}
    with patch_module_args({**arguments, **options}):
        module = AnsibleModule(
            argument_spec={
                "name": {"type": "str"},
                "wants": {"type": "list", "elements": "str"},
                "inputs": {"type": "dict"},
                "files": {"type": "list", "elements": "str"},
                "enabled": {"type": "bool"},
                "changed_files": {"type": "bool"},
            }
        )
    return gated_unit.begin(module), calls


@pytest.mark.parametrize(
    ("job", "asked", "reason"),
    [
        # By itself: with what it wants it is active only once all have passed their gates.
        ("", [("--no-block", "--job-mode=ignore-dependencies", "start", "x.target")], "inactive"),
        # The host boots.
        ("7", [], ""),
    ],
    ids=["stopped", "starting"],
)
def test_a_target_is_started_alone(
    monkeypatch: pytest.MonkeyPatch, job: str, asked: list[tuple[str, ...]], reason: str
) -> None:
    states = shown(ActiveState="inactive", SubState="dead", MainPID="", Job=job)
    result, calls = begun(monkeypatch, states)
    assert reason in result["reason"]
    assert result["changed"] == bool(asked)
    assert [call for call in calls if "reset-failed" not in call] == asked


def test_an_instance_that_is_gone_gets_no_second_chance(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gated_unit, "unwanted", lambda _target, _wants: ["old.service"])
    result, calls = begun(monkeypatch, shown())
    assert result["stopped"] == ["old.service"]
    assert calls == [("disable", "--now", "old.service"), ("reset-failed", "old.service")]
