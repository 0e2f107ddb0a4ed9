"""A directory becomes a revision; the revision is verified ever after."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.gpufleet.llm.plugins.module_utils import _model_files
from ansible_collections.gpufleet.llm.plugins.module_utils import _model_store as store

Run = Callable[..., dict[str, Any]]


def tree(folder: Path) -> dict[str, bytes]:
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file()
    }


def test_import_is_whole_readable_and_described(run: Run, model: Path) -> None:
    (model / "model.safetensors").chmod(0o600)
    before = os.umask(0o077)
    try:
        result = run(source="path", src=str(model))
    finally:
        os.umask(before)
    dest = Path(result["path"])
    assert result["changed"] is True
    assert (result["files"], result["revision"], result["source"]) == (3, "v1", "path")
    assert result["bytes"] == sum(len(content) for content in tree(model).values())
    assert dest.parts[-3:] == ("example", "tiny", "v1")
    copied = tree(dest)
    manifest = copied.pop("manifest.json")
    copied.pop(".origin.json")
    assert copied == tree(model)
    assert result["manifest_sha256"] == hashlib.sha256(manifest).hexdigest()
    assert json.loads(manifest)["files"] == [
        {"file": name, "size": len(content), "sha256": hashlib.sha256(content).hexdigest()}
        for name, content in sorted(copied.items())
    ]
    for path in dest.rglob("*"):
        assert path.stat().st_mode & 0o777 == (0o755 if path.is_dir() else 0o644)
    for folder in (dest, *dest.parents[:4]):
        assert folder.stat().st_mode & 0o005 == 0o005, folder
    assert sorted(p.name for p in dest.parent.iterdir()) == ["v1"]


def test_second_run_changes_nothing_and_needs_no_source(run: Run, model: Path) -> None:
    run(source="path", src=str(model))
    shutil.rmtree(model)
    for verify in ("quick", "full"):
        result = run(source="path", src=str(model), verify=verify)
        assert result["changed"] is False
        assert result["files"] == 3


def test_quick_reads_no_weights(run: Run, model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run(source="path", src=str(model))

    def refuse(path: Path) -> str:
        raise OSError(f"{path} was read")

    monkeypatch.setattr(_model_files, "sha256_of", refuse)
    assert run(source="path", src=str(model))["changed"] is False
    assert "was read" in run(source="path", src=str(model), verify="full")["msg"]


def test_check_mode_on_a_bare_host_changes_nothing(run: Run, root: Path, model: Path) -> None:
    result = run(check=True, source="path", src=str(model / "absent"))
    assert result["changed"] is True
    assert result["diff"]["before"]["state"] == "absent"
    assert not root.parent.exists()
    run(source="path", src=str(model))
    assert run(check=True, source="path", src=str(model))["changed"] is False


def test_links_to_files_are_followed_and_tool_dirs_left_out(run: Run, model: Path) -> None:
    (model / "blob").write_bytes((model / "model.safetensors").read_bytes())
    (model / "model.safetensors").unlink()
    (model / "model.safetensors").symlink_to(model / "blob")
    (model / ".git").mkdir()
    (model / ".git" / "HEAD").write_text("ref\n")
    dest = Path(run(source="path", src=str(model))["path"])
    assert not (dest / "model.safetensors").is_symlink()
    assert not (dest / ".git").exists()


def test_move_takes_the_directory_over(run: Run, model: Path) -> None:
    content = tree(model)
    dest = Path(run(source="path", src=str(model), move=True)["path"])
    assert not model.exists()
    assert {name: tree(dest)[name] for name in content} == content


def test_a_published_revision_can_be_imported_elsewhere(run: Run, model: Path) -> None:
    first = run(source="path", src=str(model))
    again = run(source="path", src=first["path"], revision="v2")
    assert again["manifest_sha256"] == first["manifest_sha256"]
    copy = model.with_name("copy")
    shutil.copytree(first["path"], copy)
    (copy / "config.json").write_text("{}")
    assert "copy it again" in run(source="path", src=str(copy), revision="v3")["msg"]


def flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)


def flip_keeping_time(path: Path) -> None:
    status = path.stat()
    flip(path)
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))


def flip_with_old_time(path: Path) -> None:
    flip(path)
    os.utime(path, (1, 1))


def make_link(path: Path) -> None:
    path.unlink()
    path.symlink_to("/etc/hostname")


# What happened to which file, how it is verified, what must be said.
DAMAGE: dict[str, tuple[Callable[[Path], object], str, str, str]] = {
    "flipped": (flip_with_old_time, "model.safetensors", "quick", "has SHA-256"),
    "flipped, time kept": (flip_keeping_time, "model.safetensors", "full", "has SHA-256"),
    "cut": (lambda p: os.truncate(p, 9), "model.safetensors", "quick", "has 9 bytes instead of"),
    "missing": (Path.unlink, "config.json", "quick", "config.json is missing"),
    "added": (Path.touch, "new.py", "quick", "new.py is not in the manifest"),
    "no manifest": (Path.unlink, "manifest.json", "quick", "manifest.json cannot be read"),
    "bad manifest": (lambda p: p.write_text("[]"), "manifest.json", "quick", "cannot be read"),
    "link": (make_link, "config.json", "quick", "neither a plain file nor a directory"),
}


@pytest.mark.parametrize("case", DAMAGE)
def test_damage_is_named_with_its_remedy_and_not_touched(run: Run, model: Path, case: str) -> None:
    damage, file, verify, expected = DAMAGE[case]
    dest = Path(run(source="path", src=str(model))["path"])
    damage(dest / file)
    before = sorted((p, p.lstat().st_mtime_ns) for p in dest.rglob("*"))
    for check in (False, True):
        result = run(check=check, source="path", src=str(model), verify=verify)
        assert result["failed"] is True
        assert expected in result["msg"]
    assert sorted((p, p.lstat().st_mtime_ns) for p in dest.rglob("*")) == before
    if case != "link":
        assert f"mv {dest} {dest}.damaged" in result["msg"]


def test_full_finds_what_quick_does_not(run: Run, model: Path) -> None:
    dest = Path(run(source="path", src=str(model))["path"])
    flip_keeping_time(dest / "model.safetensors")
    assert "failed" not in run(source="path", src=str(model))
    assert run(source="path", src=str(model), verify="full")["failed"] is True


def test_another_time_of_change_alone_is_no_damage(run: Run, model: Path) -> None:
    dest = Path(run(source="path", src=str(model))["path"])
    os.utime(dest / "config.json", (1, 1))
    assert run(source="path", src=str(model))["changed"] is False


def test_manifest_pin(run: Run, root: Path, model: Path) -> None:
    wrong = run(source="path", src=str(model), manifest_sha256="0" * 64)
    assert "not the pinned one" in wrong["msg"]
    assert not (root / "example/tiny/v1").exists()
    right = run(source="path", src=str(model))["manifest_sha256"]
    assert run(source="path", src=str(model), manifest_sha256=right)["changed"] is False
    later = run(source="path", src=str(model), manifest_sha256="0" * 64)
    assert "not the pinned content" in later["msg"]


def cut(path: Path, keep: int) -> None:
    os.truncate(path, keep)


BAD_MODELS: dict[str, tuple[Callable[[Path], object], str]] = {
    "cut weights": (lambda d: cut(d / "model.safetensors", 200_000), "cut short or damaged"),
    "cut header": (lambda d: cut(d / "model.safetensors", 40), "does not fit"),
    "empty weights": (lambda d: cut(d / "model.safetensors", 0), "does not fit"),
    "extra bytes": (
        lambda d: (d / "model.safetensors").open("ab").write(b"x"),
        "cut short or damaged",
    ),
    "no JSON": (
        lambda d: (d / "model.safetensors").write_bytes(b"\x02" + bytes(7) + b"[]"),
        "header cannot be read",
    ),
    "LFS pointer": (
        lambda d: (d / "model.safetensors").write_text("version https://git-lfs.github.com/x\n"),
        "git lfs pull",
    ),
    "no weights": (lambda d: (d / "model.safetensors").unlink(), "no weights file"),
    "no config": (lambda d: (d / "config.json").unlink(), "config.json is missing"),
    "not GGUF": (lambda d: (d / "a.gguf").write_bytes(b"x"), "not a GGUF file"),
    "missing shard": (
        lambda d: (d / "model.safetensors.index.json").write_text(
            '{"weight_map": {"a": "model-2.safetensors", "b": "model.safetensors"}}'
        ),
        "model-2.safetensors is missing although model.safetensors.index.json names it",
    ),
    "dead link": (lambda d: (d / "x").symlink_to("/absent"), "link to nothing"),
    "linked folder": (lambda d: (d / "x").symlink_to(d / "extra"), "link to a directory"),
    "pipe": (lambda d: os.mkfifo(d / "x"), "not a plain file"),
    "no source": (shutil.rmtree, "does not exist"),
}


@pytest.mark.parametrize("case", BAD_MODELS)
def test_what_is_no_whole_model_is_refused(run: Run, root: Path, model: Path, case: str) -> None:
    spoil, expected = BAD_MODELS[case]
    spoil(model)
    result = run(source="path", src=str(model))
    assert result["failed"] is True
    assert expected in result["msg"]
    assert not (root / "example/tiny/v1").exists()


def test_a_repaired_source_goes_through_on_the_next_run(run: Run, model: Path) -> None:
    whole = (model / "model.safetensors").read_bytes()
    cut(model / "model.safetensors", 1000)
    assert run(source="path", src=str(model))["failed"] is True
    (model / "model.safetensors").write_bytes(whole)
    assert run(source="path", src=str(model))["changed"] is True


def test_too_little_disk_is_seen_before_copying(run: Run, root: Path, model: Path) -> None:
    with (model / "huge.bin").open("wb") as huge:
        huge.truncate(8 << 40)  # sparse: takes no room here, but a copy would
    result = run(source="path", src=str(model))
    assert "Not enough disk space" in result["msg"]
    assert str(root / "example/tiny/v1") in result["msg"]
    assert "Remove revisions that no release uses" in result["msg"]


BAD_OPTIONS: list[tuple[dict[str, str], str]] = [
    ({"name": "tiny"}, "organisation/name"),
    ({"name": "../tiny"}, "organisation/name"),
    ({"revision": "../v1"}, "cannot name a directory"),
    ({"revision": ".."}, "cannot name a directory"),
    ({"revision": "v1.partial"}, "cannot name a directory"),
    ({"manifest_sha256": "ABC"}, "manifest_sha256 is not a SHA-256"),
    ({"source": "hub", "revision": "main"}, "not a commit"),
    ({"source": "hub", "revision": "v1.0"}, "40 hex digits"),
    ({"source": "hub", "hub": "modelscope", "revision": "master"}, "is a branch"),
    ({"source": "url", "url": "file:///x", "url_sha256": "0" * 64}, "neither http nor https"),
    ({"source": "url", "url": "http://x/y"}, "url_sha256"),
    ({"source": "hub", "revision": "0" * 40}, "tools_venv is not set"),
]


@pytest.mark.parametrize(("options", "expected"), BAD_OPTIONS)
def test_options_that_cannot_be_meant(
    run: Run, model: Path, options: dict[str, str], expected: str
) -> None:
    result = run(**{"source": "path", "src": str(model), **options})
    assert result["failed"] is True
    assert expected in result["msg"]


def test_a_second_run_waits_for_the_first(run: Run, root: Path, model: Path) -> None:
    layout = store.Layout(root, "example/tiny", "v1")
    with store.hold_lock(layout, 0):
        result = run(source="path", src=str(model), lock_wait=0)
        assert "Another run is working on" in result["msg"]
        assert f"process {os.getpid()} on" in result["msg"]
    held, release = threading.Event(), threading.Event()

    def other_run() -> None:
        with store.hold_lock(layout, 0):
            held.set()
            release.wait(10)
            store.prepare(layout, {"source": "path"})
            store.import_path(layout, model, move=False)
            store.publish(layout, {"source": "path"}, None)

    thread = threading.Thread(target=other_run)
    thread.start()
    held.wait(10)
    threading.Timer(0.5, release.set).start()
    result = run(source="path", src=str(model), lock_wait=10)
    thread.join()
    assert result["changed"] is False
    assert result["files"] == 3
    assert not layout.partial.exists()
