"""What is told of a unit that systemd has given up."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from gpufleet_alert.gave_up import gave_up

Program = Callable[[str, str], Path]
UNIT = "vllm@smollm2.service"
FAILED = "echo ActiveState=failed; echo NRestarts=5; echo Result=exit-code; echo ExecMainStatus=1"


def test_with_an_incident(program: Program, tmp_path: Path) -> None:
    arguments = program("systemctl", FAILED)
    incident = {"kind": "restarted", "what": "no start", "since": 1790000000.25, "restarts": 2}
    (tmp_path / "smollm2.json").write_text(json.dumps(incident))
    made = gave_up(UNIT, tmp_path)
    assert made
    assert (made.kind, made.unit, made.instance) == ("gave_up", UNIT, "smollm2")
    assert (made.what, made.since, made.restarts) == ("no start", 1790000000.25, 2)
    assert abs(made.at - time.time()) < 5
    assert arguments.read_text().splitlines()[-1] == UNIT


@pytest.mark.parametrize("text", [None, "{", '"x"', '{"since": "soon", "restarts": null}'])
def test_without_an_incident(text: str | None, program: Program, tmp_path: Path) -> None:
    program("systemctl", FAILED)
    if text is not None:
        (tmp_path / "smollm2.json").write_text(text)
    made = gave_up(UNIT, tmp_path)
    assert made
    assert made.what == "it failed (result exit-code, status 1)"
    assert made.since == made.at
    assert made.restarts == (0 if text and "null" in text else 5)


def test_another_service(program: Program, tmp_path: Path) -> None:
    program("systemctl", FAILED)
    made = gave_up("nginx.service", tmp_path)
    assert made
    assert (made.instance, made.name) == ("", "nginx")


def test_name_that_leaves_the_directory(program: Program, tmp_path: Path) -> None:
    program("systemctl", FAILED)
    (tmp_path / "secret.json").write_text('{"what": "stolen"}')
    (tmp_path / "incidents").mkdir()
    made = gave_up("vllm@../secret.service", tmp_path / "incidents")
    assert made
    assert made.what != "stolen"


@pytest.mark.parametrize("state", ["active", "activating", "inactive"])
def test_unit_that_has_not_failed(state: str, program: Program, tmp_path: Path) -> None:
    program("systemctl", f"echo ActiveState={state}")
    assert gave_up(UNIT, tmp_path) is None


def test_without_a_bus(program: Program, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program("systemctl", "echo 'Failed to connect to bus' >&2; exit 1")
    monkeypatch.setenv("MONITOR_SERVICE_RESULT", "exit-code")
    monkeypatch.setenv("MONITOR_EXIT_STATUS", "78")
    made = gave_up(UNIT, tmp_path)
    assert made
    assert "status 78" in made.what
    assert made.restarts == 0
