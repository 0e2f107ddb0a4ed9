"""One incident from its first failure to its end: who is told what, and how often."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest

from .conftest import Release, below, until


class Unit:
    """The guard's commands with the environment that systemd gives to each of a run."""

    def __init__(self, release: Release, directory: Path) -> None:
        self.release = release
        self.state = directory / "state"
        self.state.mkdir()
        self._run = 0

    def environment(self) -> dict[str, str]:
        return {"STATE_DIRECTORY": str(self.state), "INVOCATION_ID": f"run{self._run}"}

    def run(self, gate: bool = True) -> subprocess.Popen[str]:
        """Start a run, and wait for its gate where it is to pass."""
        self._run += 1
        process = self.release.command("run", "qwen", **self.environment())
        if gate:
            assert self.wait(process) == 0
        return process

    def wait(self, process: subprocess.Popen[str]) -> int:
        return self.release.ask("wait", "qwen", MAINPID=str(process.pid), **self.environment())[0]

    def ended(self, result: str, code: str = "", status: str = "") -> None:
        how = {"SERVICE_RESULT": result, "EXIT_CODE": code, "EXIT_STATUS": status}
        assert self.release.ask("ended", "qwen", **how, **self.environment())[0] == 0

    def fail(self, gate: bool = True) -> str:
        """Have a run end unasked, as systemd sees it; return what it printed."""
        process = self.run(gate)
        if gate:
            os.kill(next(iter(below(process.pid))), signal.SIGKILL)
        output, _ = process.communicate(timeout=20)
        assert process.returncode == 1
        self.ended("exit-code", "exited", "1")
        return output

    def notices(self) -> list[dict[str, Any]]:
        files = sorted((self.state / "notices").glob("*.json"))
        return [json.loads(file.read_text()) for file in files]

    def kinds(self) -> list[str]:
        return [notice["kind"] for notice in self.notices()]

    def incident(self) -> dict[str, Any] | None:
        file = self.state / "incidents/qwen.json"
        return json.loads(file.read_text()) if file.exists() else None


@pytest.fixture
def unit(release: Release, tmp_path: Path) -> Unit:
    """Return the unit of the instance qwen, which has never run."""
    return Unit(release, tmp_path)


def test_good_run_tells_nobody(unit: Unit) -> None:
    process = unit.run()
    process.terminate()
    process.communicate(timeout=20)
    unit.ended("success", "exited", "0")
    assert unit.notices() == []
    assert unit.incident() is None


def test_death_and_recovery_are_told_once_each(unit: Unit) -> None:
    before = time.time()
    unit.fail()
    first = unit.notices()
    assert [notice["kind"] for notice in first] == ["restarted"]
    assert first[0]["unit"] == "vllm@qwen.service"
    assert first[0]["instance"] == "qwen"
    assert first[0]["what"] == "vLLM ended unasked (killed by signal 9)"
    assert before <= first[0]["since"] == first[0]["at"] <= time.time()
    assert first[0]["restarts"] == 0
    unit.run()
    assert unit.kinds() == ["restarted", "recovered"]
    last = unit.notices()[-1]
    assert last["since"] == first[0]["since"]
    assert last["restarts"] == 1
    assert "killed by signal 9" in last["what"]
    assert unit.incident() is None


def test_crashes_in_a_row_are_one_incident(unit: Unit) -> None:
    unit.fail()
    unit.release.behave(exit_status=1)
    unit.fail(gate=False)
    unit.fail(gate=False)
    assert unit.kinds() == ["restarted"]
    incident = unit.incident()
    assert incident
    assert incident["restarts"] == 2
    assert incident["what"] == "vLLM ended unasked (status 1)"
    unit.release.behave()
    unit.run()
    assert unit.kinds() == ["restarted", "recovered"]
    assert unit.notices()[-1]["restarts"] == 3


def test_next_incident_is_told_again(unit: Unit) -> None:
    unit.fail()
    unit.fail()
    assert unit.kinds() == ["restarted", "recovered", "restarted"]
    sinces = [notice["since"] for notice in unit.notices()]
    assert sinces[0] == sinces[1] < sinces[2]


def test_hang(unit: Unit) -> None:
    process = unit.run()
    time.sleep(1)
    unit.release.change(completions="hang")
    process.communicate(timeout=20)
    unit.ended("exit-code", "exited", "1")
    assert unit.kinds() == ["hang_killed"]
    assert "heartbeat stands still" in unit.notices()[0]["what"]


def test_death_of_the_guard(unit: Unit) -> None:
    process = unit.run()
    tree = below(process.pid)
    process.kill()
    for pid in tree:
        os.kill(pid, signal.SIGKILL)
    unit.ended("signal", "killed", "KILL")
    assert unit.kinds() == ["restarted"]
    assert unit.notices()[0]["what"] == "the guard ended: signal (killed KILL)"


def test_gate_that_fails(unit: Unit) -> None:
    unit.release.settings["gate"]["deadline_seconds"] = 2
    unit.release.behave(completions="hang")
    process = unit.run(gate=False)
    assert unit.wait(process) == 1
    process.terminate()
    process.communicate(timeout=20)
    unit.ended("exit-code", "exited", "0")
    assert unit.kinds() == ["restarted"]
    assert unit.notices()[0]["what"].startswith("gate fails: not ready in 2 s")


def test_wrong_options_are_left_to_the_one_who_gives_up(unit: Unit) -> None:
    unit.release.behave(exit_status=2)
    process = unit.run(gate=False)
    process.communicate(timeout=20)
    assert process.returncode == 78
    unit.ended("exit-code", "exited", "78")
    assert unit.notices() == []
    incident = unit.incident()
    assert incident
    assert "refuses its options" in incident["what"]


def test_alerts_may_take_the_notices(unit: Unit) -> None:
    os.umask(0o077)
    try:
        unit.fail()
    finally:
        os.umask(0o022)
    directory = unit.state / "notices"
    assert directory.stat().st_mode & 0o777 == 0o770
    (notice,) = directory.iterdir()
    assert notice.stat().st_mode & 0o777 == 0o640
    assert len(notice.name.split("-")[0]) == 20


@pytest.mark.parametrize("text", ["", "[]", '{"kind": 1}', "{"])
def test_broken_incident_file(unit: Unit, text: str) -> None:
    (unit.state / "incidents").mkdir()
    (unit.state / "incidents/qwen.json").write_text(text)
    assert "is made anew" in unit.fail()
    assert unit.kinds() == ["restarted"]


def test_full_disk_stops_nothing(unit: Unit) -> None:
    # What a full disk does to every write, root's included.
    (unit.state / "incidents").write_text("not a directory")
    output = unit.fail()
    assert "nobody will be told" in output


def test_disk_that_became_read_only_fails_no_gate(unit: Unit, tmp_path: Path) -> None:
    unit.fail()
    # What such a disk does to root as well.
    (tmp_path / "disk").mkdir()
    (tmp_path / "disk/sitecustomize.py").write_text(
        "import errno, os, pathlib\n"
        "def unlink(path, missing_ok=False):\n"
        "    if path.suffix == '.json':\n"
        "        raise OSError(errno.EROFS, os.strerror(errno.EROFS))\n"
        "    os.unlink(path)\n"
        "pathlib.Path.unlink = unlink\n"
    )
    unit.run(gate=False)
    how = {**unit.environment(), "PYTHONPATH": str(tmp_path / "disk")}
    status, output = unit.release.ask("wait", "qwen", **how)
    assert status == 0, output
    assert "qwen.json cannot be removed: Read-only file system" in output


def canary(unit: Unit, **settings: object) -> subprocess.Popen[str]:
    """Start an instance that is asked its canary all the time."""
    unit.release.settings["canary"].update(every_minutes=0.01, **settings)
    return unit.run()


def test_wrong_answer_while_running(unit: Unit, monkeypatch: pytest.MonkeyPatch) -> None:
    guard = unit.release.path / "guard/guard_canary.py"
    guard.write_text(guard.read_text().replace("_CONFIRM_SECONDS = 5.0", "_CONFIRM_SECONDS = 0.2"))
    process = canary(unit)
    until(lambda: unit.kinds() == [])
    unit.release.change(answer="!!!!")
    until(lambda: unit.kinds() == ["canary_failed"])
    assert "got '!!!!'" in unit.notices()[0]["what"]
    time.sleep(2)
    assert unit.kinds() == ["canary_failed"]
    assert process.poll() is None
    unit.release.change(answer="Paris")
    until(lambda: unit.kinds() == ["canary_failed", "recovered"])
    assert process.poll() is None


def test_death_with_a_wrong_answer_is_told_too(unit: Unit) -> None:
    guard = unit.release.path / "guard/guard_canary.py"
    guard.write_text(guard.read_text().replace("_CONFIRM_SECONDS = 5.0", "_CONFIRM_SECONDS = 0.2"))
    process = canary(unit)
    unit.release.change(answer="!!!!")
    until(lambda: unit.kinds() == ["canary_failed"])
    os.kill(next(iter(below(process.pid))), signal.SIGKILL)
    process.communicate(timeout=20)
    assert unit.kinds() == ["canary_failed", "restarted"]


def test_wrong_answer_restarts_where_set(unit: Unit) -> None:
    guard = unit.release.path / "guard/guard_canary.py"
    guard.write_text(guard.read_text().replace("_CONFIRM_SECONDS = 5.0", "_CONFIRM_SECONDS = 0.2"))
    process = canary(unit, restart=True)
    unit.release.change(answer="!!!!")
    output, _ = process.communicate(timeout=20)
    assert process.returncode == 1
    assert "killing vLLM to start it again, as set" in output
    assert unit.kinds() == ["canary_failed"]


def test_wrong_answer_once_is_chance(unit: Unit) -> None:
    process = canary(unit)
    unit.release.change(answer="!!!!")
    time.sleep(1.5)
    unit.release.change(answer="Paris")
    time.sleep(6)
    assert unit.kinds() == []
    assert process.poll() is None
