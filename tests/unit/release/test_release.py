"""The life of releases in a directory of their own: staged, switched, verified."""

from __future__ import annotations

import base64
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from ansible.module_utils.testing import patch_module_args
from ansible_collections.gpufleet.llm.plugins.modules import release


def stage(
    root: Path, text: str, check: bool = False, venv: str = "", units: str = ""
) -> dict[str, Any]:
    params = {
        "sources": {"app/main.py": base64.b64encode(b"print()\n").decode()},
        "files": {"settings.json": text, **({"units/x.service": units} if units else {})},
        "links": {"venv": venv or f"{root.parent}/venvs/one"},
    }
    return release.run_staged(root, params, check)


def switch(root: Path, name: str, check: bool = False, rolled_back: bool = False) -> dict[str, Any]:
    params = {"id": name, "units": str(root.parent / "systemd"), "rolled_back": rolled_back}
    return release.run_current(root, params, check)


def verify(root: Path, name: str, keep: int = 9, check: bool = False) -> list[str]:
    """Remember the release and return what was removed, by name."""
    removed: list[str] = remember(root, name, keep, check)["removed"]
    return [Path(path).name for path in removed]


def remember(
    root: Path, name: str, keep: int = 9, check: bool = False, rolled_back: bool = False
) -> dict[str, Any]:
    params = {
        "id": name,
        "keep": keep,
        "environments": str(root.parent / "venvs"),
        "rolled_back": rolled_back,
    }
    return release.run_verified(root, params, check)


def deploy(root: Path, text: str) -> str:
    """Stage, switch and verify; return the release's name."""
    name = str(stage(root, text)["id"])
    switch(root, name)
    verify(root, name)
    return name


def links(root: Path) -> dict[str, str]:
    return {name: release.release_of(root / name) for name in ("current", "verified", "previous")}


@pytest.fixture
def root(tmp_path: Path) -> Path:
    (tmp_path / "systemd").mkdir()
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


@pytest.fixture
def hardened() -> Iterator[None]:
    """A host whose files are for their owner alone unless somebody says otherwise."""
    before = os.umask(0o077)
    yield
    os.umask(before)


@pytest.mark.usefixtures("hardened")
def test_staged_files_are_readable_by_the_service(root: Path) -> None:
    options = {"root": str(root), "files": {"app/main.py": "print()\n"}}
    with patch_module_args(options), pytest.raises(SystemExit):
        release.main()
    (file,) = root.rglob("main.py")
    assert file.stat().st_mode & 0o777 == 0o644
    above = file.relative_to(root.parent).parents
    assert {(root.parent / folder).stat().st_mode & 0o777 for folder in above[:-1]} == {0o755}


def test_what_an_interrupted_run_left_is_replaced(root: Path) -> None:
    name = stage(root, "a", check=True)["id"]
    partial = root / "releases" / f"{name}.partial"
    partial.mkdir(parents=True)
    (partial / "stale").write_text("")
    place = Path(stage(root, "a")["path"])
    assert not partial.exists()
    assert not (place / "stale").exists()


@pytest.mark.parametrize("damage", ["", "c"])
def test_damaged_release_is_written_anew(root: Path, damage: str) -> None:
    name = deploy(root, "a")
    file = root / "current" / "settings.json"
    file.write_text(damage)
    assert stage(root, "a", check=True)["changed"]
    assert file.read_text() == damage
    again = stage(root, "a")
    assert (again["changed"], again["id"], file.read_text()) == (True, name, "a")
    assert not stage(root, "a")["changed"]
    assert [path.name for path in (root / "releases").iterdir()] == [name]


def test_release_is_on_the_disk_before_it_has_its_name(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found: list[str] = []

    def sync() -> None:
        found.extend(path.name for path in (root / "releases").iterdir())

    monkeypatch.setattr(os, "sync", sync)
    name = stage(root, "a")["id"]
    assert found == [f"{name}.partial"]


def test_links_follow_what_was_verified(root: Path) -> None:
    first = deploy(root, "a")
    assert links(root) == {"current": first, "verified": first, "previous": ""}
    second = deploy(root, "b")
    assert links(root) == {"current": second, "verified": second, "previous": first}
    assert not switch(root, second)["changed"]
    assert verify(root, second) == []
    assert links(root) == {"current": second, "verified": second, "previous": first}


def test_a_release_that_never_passed_is_no_way_back(root: Path) -> None:
    good = deploy(root, "a")
    for text in ("bad", "worse"):  # the run that tried `bad` was interrupted
        switched = switch(root, stage(root, text)["id"])
        assert switched["verified"] == good
    assert switch(root, "previous")["id"] == good
    assert links(root) == {"current": good, "verified": good, "previous": ""}


def test_a_second_rollback_changes_nothing(root: Path) -> None:
    first, second = deploy(root, "a"), deploy(root, "b")
    for changed in (True, False):
        switched = switch(root, "previous")
        assert (switched["id"], switched["changed"]) == (first, changed)
        assert remember(root, first, rolled_back=True)["changed"] == changed
        assert links(root) == {"current": first, "verified": first, "previous": first}
    # The way back from the next release leads there again, and the one that was left has a name.
    third = deploy(root, "c")
    assert links(root) == {"current": third, "verified": third, "previous": first}
    assert switch(root, second)["changed"]


def test_no_way_back_from_the_first(root: Path) -> None:
    first = deploy(root, "a")
    with pytest.raises(release.ReleaseError, match=f"no release before {first}.*inventory"):
        switch(root, "previous")


def test_switch_in_check_mode_changes_nothing(root: Path) -> None:
    first = stage(root, "a", units="[Unit]\n")["id"]
    assert switch(root, first, check=True)["changed"]
    assert switch(root, "notstaged", check=True)["changed"]
    verify(root, first, check=True)
    assert not (root / "current").exists()
    assert not (root / "verified").exists()
    assert not list((root.parent / "systemd").iterdir())


def test_switch_to_an_unknown_release_names_those_there_are(root: Path) -> None:
    known = stage(root, "a")["id"]
    with pytest.raises(release.ReleaseError, match=known):
        switch(root, "unknown")
    with pytest.raises(release.ReleaseError, match=known):
        switch(root, "unknown", check=True, rolled_back=True)


def test_units_come_and_go_with_their_release(root: Path) -> None:
    unit = root.parent / "systemd" / "x.service"
    first = stage(root, "a", units="one\n")["id"]
    second = stage(root, "a", units="two\n")["id"]
    for name, text in ((first, "one\n"), (second, "two\n"), (first, "one\n")):
        assert switch(root, name)["changed"]
        assert unit.read_text() == text
        assert unit.stat().st_mode & 0o777 == 0o644
        assert not switch(root, name)["changed"]
    unit.write_text("by hand\n")
    assert switch(root, first, check=True)["changed"]
    assert switch(root, first)["changed"]
    assert unit.read_text() == "one\n"


def test_diff_shows_settings_by_line_and_the_rest_by_name(root: Path) -> None:
    (before,) = (
        d for d in stage(root, "a\n", check=True)["diff"] if "settings" in d["after_header"]
    )
    assert (before["before"], before["after"]) == ("", "a\n")
    deploy(root, "a\n")
    assert stage(root, "a\n")["diff"] == []
    (only,) = stage(root, "b\n", check=True)["diff"]
    assert (only["before"], only["after"]) == ("a\n", "b\n")
    (only,) = stage(root, "a\n", check=True, venv="/elsewhere")["diff"]
    assert "venv" in only["before"]
    assert only["before"] != only["after"]


def test_keeps_what_is_linked_and_the_newest(root: Path) -> None:
    names = []
    for age, text in enumerate("abcdef"):
        place = Path(stage(root, text)["path"])
        os.utime(place, (1000 + age, 1000 + age))
        names.append(place.name)
    for name in names[:2]:
        switch(root, name)
        verify(root, name)
    assert set(verify(root, names[1], keep=3, check=True)) == set(names[2:5])
    assert set(verify(root, names[1], keep=3)) == set(names[2:5])
    assert {path.name for path in (root / "releases").iterdir()} == {names[0], names[1], names[5]}
    assert verify(root, names[1], keep=3) == []


def test_check_mode_foresees_what_the_new_release_will_push_out(root: Path) -> None:
    first, second = deploy(root, "a"), deploy(root, "b")
    third = stage(root, "c", check=True)["id"]
    assert verify(root, third, keep=2, check=True) == [first]
    switch(root, stage(root, "c")["id"])
    assert verify(root, third, keep=2) == [first]
    assert links(root)["previous"] == second


def test_keeps_what_a_process_runs_from(root: Path) -> None:
    old, new = stage(root, "a"), deploy(root, "b")
    with subprocess.Popen([sys.executable, "-c", "input()"], cwd=old["path"], stdin=-1) as runs:
        assert verify(root, new, keep=1) == []
        runs.communicate(b"\n")
    assert verify(root, new, keep=1) == [old["id"]]


def test_keeps_what_a_process_runs_from_behind_a_link(tmp_path: Path) -> None:
    """As where the directory was moved to a larger disk."""
    (tmp_path / "disk" / "systemd").mkdir(parents=True)
    (tmp_path / "opt").symlink_to("disk")
    root = tmp_path / "opt" / "service"
    old, new = stage(root, "a"), deploy(root, "b")
    with subprocess.Popen([sys.executable, "-c", "input()"], cwd=old["path"], stdin=-1) as runs:
        assert verify(root, new, keep=1) == []
        runs.communicate(b"\n")
    assert verify(root, new, keep=1) == [old["id"]]


def test_removes_environments_that_nothing_links_to(root: Path) -> None:
    venvs = root.parent / "venvs"
    used, unused = "0123456789abcdef", "fedcba9876543210"
    # What is no environment stays, lest a directory with other things loses them.
    others = {f"{unused}.partial", "models", "tools"}
    for name in (used, unused, *others):
        (venvs / name).mkdir(parents=True)
    name = stage(root, "a", venv=str(venvs / used))["id"]
    assert verify(root, name) == [unused]
    assert {path.name for path in venvs.iterdir()} == {used, *others}


def test_removal_that_is_cut_short_leaves_nothing_that_looks_whole(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    unused = root.parent / "venvs" / "fedcba9876543210"
    (unused / "bin").mkdir(parents=True)
    (unused / "bin" / "python").touch()
    old, new = deploy_without_cleaning(root, "a"), deploy_without_cleaning(root, "b")
    newest = deploy_without_cleaning(root, "c")
    with monkeypatch.context() as cut:
        cut.setattr(shutil, "rmtree", cut_short)
        for _each in range(2):
            with pytest.raises(KeyboardInterrupt):
                verify(root, newest, keep=1)
    # With its name, locked_venv would take it for built, and a rollback would go to the release.
    assert not unused.exists()
    assert not (root / "releases" / old).exists()
    verify(root, newest, keep=1)
    assert sorted(path.name for path in (root / "releases").iterdir()) == sorted([new, newest])
    assert not list(unused.parent.iterdir())


def deploy_without_cleaning(root: Path, text: str) -> str:
    """Stage, switch and verify, where no environments are looked after."""
    name = str(stage(root, text)["id"])
    switch(root, name)
    params = {"id": name, "keep": 9, "environments": None, "rolled_back": False}
    release.run_verified(root, params, False)
    return name


def cut_short(path: Path, **_options: object) -> None:
    """What a run removes until it ends."""
    raise KeyboardInterrupt


def test_environments_may_be_elsewhere(root: Path, tmp_path: Path) -> None:
    venvs = tmp_path / "disk" / "environments"
    used = venvs / "0123456789abcdef"
    used.mkdir(parents=True)
    name = stage(root, "a", venv=str(used))["id"]
    params = {"id": name, "keep": 9, "environments": str(venvs), "rolled_back": False}
    assert release.run_verified(root, params, False)["removed"] == []
