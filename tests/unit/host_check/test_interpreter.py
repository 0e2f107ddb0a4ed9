"""Interpreters say their own version; what a lock was not made for is refused."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from ansible_collections.gpufleet.llm.plugins.module_utils._host_finding import RunCommand
from ansible_collections.gpufleet.llm.plugins.module_utils._host_interpreter import (
    Interpreter,
    InterpreterError,
    find_interpreter,
    version_of,
)
from ansible_collections.gpufleet.llm.plugins.module_utils._locked_environment import (
    environment_name,
    locate,
)

HERE = f"{sys.version_info.major}.{sys.version_info.minor}"


def fake_python(path: Path, version: str, status: int = 0) -> Path:
    """Write a program that says it is a Python of that version."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!/bin/sh\necho {version}\nexit {status}\n")
    path.chmod(0o755)
    return path


@pytest.fixture
def path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a directory that is all of PATH."""
    folder = tmp_path / "bin"
    folder.mkdir()
    monkeypatch.setenv("PATH", str(folder))
    return folder


def test_a_real_one_says_its_version(run_command: RunCommand) -> None:
    assert version_of(run_command, sys.executable) == HERE
    assert find_interpreter(run_command, [HERE], sys.executable) == Interpreter(
        sys.executable, HERE
    )


def test_the_first_version_in_path_wins(path: Path, run_command: RunCommand) -> None:
    for version in ("3.11", "3.13"):
        fake_python(path / f"python{version}", version)
    found = find_interpreter(run_command, ["3.12", "3.13", "3.11"])
    assert found == Interpreter(str(path / "python3.13"), "3.13")


def test_a_name_that_lies_is_passed_over(path: Path, run_command: RunCommand) -> None:
    fake_python(path / "python3.12", "3.8")
    fake_python(path / "python3.11", "3.11")
    assert find_interpreter(run_command, ["3.12", "3.11"]).version == "3.11"


def test_none_in_path(path: Path, run_command: RunCommand) -> None:
    fake_python(path / "python3.10", "3.10")
    with pytest.raises(InterpreterError, match=r"no Python 3\.12, 3\.11 or 3\.13 in PATH") as told:
        find_interpreter(run_command, ["3.12", "3.11", "3.13"])
    assert "python_release_python" in told.value.remedy


# What lies at the path: version and exit status of a Python, or None for nothing.
NAMED: dict[str, tuple[tuple[str, int] | None, str]] = {
    "absent": (None, "There is no /"),
    "too old": (("3.8", 0), r"is Python 3\.8; the lock was made for 3\.12 or 3\.11"),
    "too new": (("3.14", 0), r"is Python 3\.14"),
    "broken": (("", 1), "does not run as a Python"),
}


@pytest.mark.parametrize("case", NAMED)
def test_a_named_one_must_fit(tmp_path: Path, case: str, run_command: RunCommand) -> None:
    there, expected = NAMED[case]
    named = tmp_path / "bin" / "python"
    if there:
        fake_python(named, *there)
    with pytest.raises(InterpreterError, match=expected) as told:
        find_interpreter(run_command, ["3.12", "3.11"], str(named))
    assert "python_release_python" in told.value.remedy


def test_any_version_will_do_where_none_is_asked_for(
    tmp_path: Path, run_command: RunCommand
) -> None:
    named = fake_python(tmp_path / "python3", "3.10")
    assert find_interpreter(run_command, [], str(named)).version == "3.10"


def test_environments_are_found_by_the_interpreters_version(
    path: Path, tmp_path: Path, run_command: RunCommand
) -> None:
    fake_python(path / "python3.11", "3.11")
    venvs = tmp_path / "venvs"
    name = environment_name("a==1", "", "3.11")
    found = locate(
        run_command, venvs, lambda version: environment_name("a==1", "", version), ["3.12", "3.11"]
    )
    assert (found.place, found.built) == (venvs / name, False)
    for version, built in (("3.11", True), ("3.12", False)):
        fake_python(found.place / "bin" / "python", version)
        assert locate(run_command, venvs, lambda version: name, ["3.11"]).built is built


def test_what_was_built_needs_no_interpreter_in_path(
    path: Path, tmp_path: Path, run_command: RunCommand
) -> None:
    own = fake_python(tmp_path / "venvs" / "of-3.11" / "bin" / "python", "3.11")
    found = locate(
        run_command, tmp_path / "venvs", lambda version: f"of-{version}", ["3.12", "3.11"]
    )
    assert (found.built, found.interpreter.path) == (True, str(own))
    own.write_text("#!/bin/sh\nexit 127\n")
    with pytest.raises(InterpreterError):
        locate(run_command, tmp_path / "venvs", lambda version: f"of-{version}", ["3.12", "3.11"])
    fake_python(own, "3.11")
    with pytest.raises(InterpreterError):
        locate(
            run_command,
            tmp_path / "venvs",
            lambda version: f"of-{version}",
            ["3.11"],
            "/nowhere/python",
        )
