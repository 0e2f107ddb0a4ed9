"""The life of releases in a directory of their own: staged, switched, pruned."""

from __future__ import annotations

import base64
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.gpufleet.llm.plugins.modules import release


def stage(root: Path, text: str, check: bool = False, venv: str = "") -> dict[str, Any]:
    params = {
        "sources": {"app/main.py": base64.b64encode(b"print()\n").decode()},
        "files": {"settings.json": text},
        "links": {"venv": venv or f"{root.parent}/venvs/one"},
    }
    return release.run_staged(root, params, check)


def prune(root: Path, keep: int, check: bool = False) -> list[str]:
    params = {"keep": keep, "environments": str(root.parent / "venvs")}
    removed: list[str] = release.run_pruned(root, params, check)["removed"]
    return [Path(path).name for path in removed]


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "service"


def test_same_content_is_the_same_release(root: Path) -> None:
    first, second = stage(root, "a"), stage(root, "a")
    assert (first["changed"], second["changed"]) == (True, False)
    assert first["id"] == second["id"]


@pytest.mark.parametrize(("text", "venv"), [("b", ""), ("a", "/elsewhere")])
def test_other_content_is_another_release(root: Path, text: str, venv: str) -> None:
    assert stage(root, "a")["id"] != stage(root, text, venv=venv)["id"]


def test_check_mode_names_the_same_release_and_writes_nothing(root: Path) -> None:
    predicted = stage(root, "a", check=True)
    assert predicted["changed"]
    assert not root.exists()
    assert stage(root, "a")["id"] == predicted["id"]


def test_staged_files_are_readable_by_the_service(root: Path) -> None:
    previous = os.umask(0o077)
    try:
        place = Path(stage(root, "a")["path"])
    finally:
        os.umask(previous)
    assert (place / "app").stat().st_mode & 0o777 == 0o755
    assert (place / "app" / "main.py").stat().st_mode & 0o777 == 0o644


def test_what_an_interrupted_run_left_is_replaced(root: Path) -> None:
    name = stage(root, "a", check=True)["id"]
    partial = root / "releases" / f"{name}.partial"
    partial.mkdir(parents=True)
    (partial / "stale").write_text("")
    place = Path(stage(root, "a")["path"])
    assert not partial.exists()
    assert not (place / "stale").exists()


def test_switch_and_back(root: Path) -> None:
    first, second = stage(root, "a")["id"], stage(root, "b")["id"]
    assert release.run_current(root, first, False)["previous"] == ""
    switched = release.run_current(root, second, False)
    assert switched["previous"] == first
    assert switched["digests"] == stage(root, "b")["digests"]
    assert release.release_of(root / "current") == second
    assert release.release_of(root / "previous") == first
    assert not release.run_current(root, second, False)["changed"]


def test_switch_in_check_mode_changes_nothing(root: Path) -> None:
    first = stage(root, "a")["id"]
    assert release.run_current(root, first, True)["changed"]
    assert release.run_current(root, "notstaged", True)["changed"]
    assert not (root / "current").exists()


def test_switch_to_an_unknown_release_names_those_there_are(root: Path) -> None:
    known = stage(root, "a")["id"]
    with pytest.raises(release.ReleaseError, match=known):
        release.run_current(root, "unknown", False)


def test_prune_keeps_current_previous_and_the_newest(root: Path) -> None:
    names = []
    for age, text in enumerate("abcdef"):
        place = Path(stage(root, text)["path"])
        os.utime(place, (1000 + age, 1000 + age))
        names.append(place.name)
    release.run_current(root, names[0], False)
    release.run_current(root, names[1], False)
    assert set(prune(root, 3, check=True)) == set(names[2:5])
    assert set(prune(root, 3)) == set(names[2:5])
    assert {path.name for path in (root / "releases").iterdir()} == {names[0], names[1], names[5]}
    assert prune(root, 3) == []


def test_prune_keeps_what_a_process_runs_from(root: Path) -> None:
    old, new = stage(root, "a"), stage(root, "b")
    release.run_current(root, new["id"], False)
    with subprocess.Popen([sys.executable, "-c", "input()"], cwd=old["path"], stdin=-1) as runs:
        assert prune(root, 1) == []
        runs.communicate(b"\n")
    assert prune(root, 1) == [old["id"]]


def test_prune_removes_environments_that_nothing_links_to(root: Path) -> None:
    venvs = root.parent / "venvs"
    for name in ("used", "unused", "half.partial"):
        (venvs / name).mkdir(parents=True)
    stage(root, "a", venv=str(venvs / "used"))
    assert prune(root, 3) == ["unused"]
    assert {path.name for path in venvs.iterdir()} == {"used", "half.partial"}
