"""The hubs' real tools download from a fake hub; what they cannot be trusted with is checked.

The tools are taken from the virtual environment that MODEL_TOOLS_VENV names; without it one is
made from files/locks/model.in below .cache.
"""

from __future__ import annotations

import fcntl
import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.gpufleet.llm.plugins.module_utils import _model_hub
from ansible_collections.gpufleet.llm.plugins.module_utils._model_files import ModelError
from ansible_collections.gpufleet.llm.plugins.module_utils._model_hub import RemoteFile

from tests.unit.model.fake_hub import COMMIT, NAME, FakeHub, serving

Run = Callable[..., dict[str, Any]]
CHECKOUT = Path(__file__).resolve().parents[3]
LOCKS = CHECKOUT / "files" / "locks"
HUBS = ("huggingface", "modelscope")


@pytest.fixture(scope="session")
def tools_venv() -> Path:
    named = os.environ.get("MODEL_TOOLS_VENV")
    if named:
        return Path(named)
    venv = CHECKOUT / ".cache" / "model-tools"
    venv.parent.mkdir(exist_ok=True)
    # Several processes run these tests; one of them builds.
    with venv.with_suffix(".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (venv / "bin" / "modelscope").exists():
            uv = ["uv", "venv", "--clear", "--quiet", str(venv)]
            subprocess.run(uv, check=True)
            python = str(venv / "bin" / "python")
            sync = ["uv", "pip", "sync", "--quiet", "--python", python, "--require-hashes"]
            sync += ["--build-constraints", str(LOCKS / "build.txt"), str(LOCKS / "model.txt")]
            subprocess.run(sync, check=True)
    return venv


@pytest.fixture
def hub(model: Path) -> Iterator[FakeHub]:
    with serving(model) as server:
        yield server


@pytest.fixture
def get(run: Run, hub: FakeHub, tools_venv: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    """Return a function that runs the module against the fake hub."""
    # Settings of the host that must not reach the tools.
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setenv("HF_TOKEN", "of-the-host")
    monkeypatch.setenv("PYTHONPATH", "/absent")

    def get_model(**options: object) -> dict[str, Any]:
        base = {"name": NAME, "revision": COMMIT, "source": "hub", "hub_endpoint": hub.url}
        return run(**{**base, "tools_venv": str(tools_venv), **options})

    return get_model


@pytest.fixture
def dest(root: Path) -> Path:
    return root / NAME / COMMIT


@pytest.mark.parametrize("kind", HUBS)
def test_a_revision_is_downloaded_once(get: Run, hub: FakeHub, dest: Path, kind: str) -> None:
    assert get(hub=kind, check=True)["changed"] is True
    assert hub.fetched == []
    result = get(hub=kind)
    assert result["changed"] is True, result
    assert (result["source"], result["files"], result["path"]) == (kind, 3, str(dest))
    for name, content in hub.files.items():
        assert (dest / name).read_bytes() == content
    kept = sorted(p.relative_to(dest).as_posix() for p in dest.rglob("*") if p.is_file())
    assert kept == sorted([".origin.json", "manifest.json", *hub.files])
    assert [p.name for p in dest.parent.iterdir()] == [COMMIT]
    seen = len(hub.fetched)
    hub.down = True
    assert get(hub=kind)["changed"] is False
    assert len(hub.fetched) == seen


@pytest.mark.parametrize("kind", HUBS)
def test_a_cut_line_is_taken_up_within_the_file(
    get: Run, hub: FakeHub, kind: str, write_safetensors: Callable[[bytes], bytes]
) -> None:
    # Larger than the pieces in which the tools write to disk (10 MB).
    hub.files["model.safetensors"] = write_safetensors(bytes(24_000_000))
    hub.cuts["model.safetensors"] = [16_000_000]
    result = get(hub=kind)
    assert result["changed"] is True, result
    ranges = [wanted for name, wanted in hub.fetched if name == "model.safetensors"]
    assert ranges[0] is None
    assert int(str(ranges[1]).removeprefix("bytes=").rstrip("-")) >= 10_000_000


SEPARATE_RUN = """
import sys
from ansible.module_utils.testing import patch_module_args
from ansible_collections.gpufleet.llm.plugins.modules import model_revision
import json
with patch_module_args(json.loads(sys.argv[1])):
    model_revision.main()
"""


def test_a_killed_run_leaves_the_lock_to_its_tool(
    get: Run, hub: FakeHub, root: Path, tools_venv: Path
) -> None:
    hub.stalled = "model.safetensors"
    args = {"name": NAME, "revision": COMMIT, "source": "hub", "hub_endpoint": hub.url}
    args.update(root=str(root), tools_venv=str(tools_venv))
    env = {**os.environ, "PYTHONPATH": str(CHECKOUT / ".collections")}
    command = [sys.executable, "-c", SEPARATE_RUN, json.dumps(args)]
    with subprocess.Popen(command, env=env, stdout=subprocess.DEVNULL) as first:
        assert hub.reached.wait(30)
        first.kill()
    assert "Another run is working on" in get(lock_wait=0)["msg"]
    hub.resume.set()
    assert get(lock_wait=30)["changed"] is True
    names = [name for name, _ in hub.fetched]
    assert sorted(names) == sorted(hub.files), "the tool's work was thrown away"


@pytest.mark.parametrize("kind", HUBS)
def test_an_interrupted_run_keeps_whole_files(
    get: Run, hub: FakeHub, dest: Path, kind: str
) -> None:
    hub.refused = {"extra/notes.txt"}
    result = get(hub=kind)
    assert result["failed"] is True
    assert not dest.exists()
    # With the hub away, what is there must not pass for the whole.
    hub.down = True
    assert get(hub=kind)["failed"] is True
    assert not dest.exists()
    hub.down, hub.refused = False, set()
    hub.fetched.clear()
    assert get(hub=kind)["changed"] is True
    assert {name for name, _ in hub.fetched} == {"extra/notes.txt"}


@pytest.mark.parametrize("file", ["model.safetensors", "config.json"])
@pytest.mark.parametrize("kind", HUBS)
def test_a_tampered_file_is_refused_and_then_fetched_anew(
    get: Run, hub: FakeHub, dest: Path, kind: str, file: str
) -> None:
    hub.tampered = {file}
    result = get(hub=kind)
    assert result["failed"] is True
    assert file in result["msg"]
    assert not dest.exists()
    hub.tampered = set()
    hub.fetched.clear()
    assert get(hub=kind)["changed"] is True
    assert {name for name, _ in hub.fetched} == {file}


@pytest.mark.parametrize("kind", HUBS)
def test_a_revision_that_does_not_exist(get: Run, root: Path, kind: str) -> None:
    result = get(hub=kind, revision="f" * 40)
    assert result["failed"] is True
    assert "Check name and revision" in result["msg"]
    assert not (root / NAME / ("f" * 40)).exists()


@pytest.mark.parametrize("kind", HUBS)
def test_a_token_is_needed_and_never_shown(
    get: Run, hub: FakeHub, tmp_path: Path, kind: str
) -> None:
    hub.token = "hub-secret-123"
    assert "hub_token_file" in get(hub=kind)["msg"]
    file = tmp_path / "token"
    file.write_text("hub-secret-123\n")
    file.chmod(0o640)
    assert f"chmod 0600 {file}" in get(hub=kind, hub_token_file=str(file))["msg"]
    file.chmod(0o600)
    file.write_text("hub-secret-old\n")
    refused = get(hub=kind, hub_token_file=str(file))
    assert "hub_token_file" in refused["msg"]
    assert "hub-secret-old" not in str(refused)
    file.write_text("hub-secret-123\n")
    result = get(hub=kind, hub_token_file=str(file))
    assert result["changed"] is True, result
    assert "hub-secret-123" not in str(result)
    kept = Path(result["path"])
    assert all(b"hub-secret" not in p.read_bytes() for p in kept.rglob("*") if p.is_file())


@pytest.mark.parametrize("kind", HUBS)
@pytest.mark.parametrize("pattern", ["extra/*", "extra/"])
def test_files_can_be_left_out(get: Run, hub: FakeHub, dest: Path, kind: str, pattern: str) -> None:
    assert get(hub=kind, hub_exclude=[pattern])["files"] == 2
    assert not (dest / "extra").exists()
    assert "new revision name" in get(hub=kind)["msg"]
    # Other models of the host may need more patterns.
    assert get(hub=kind, hub_exclude=[pattern, "original/*"])["changed"] is False
    more = get(hub=kind, hub_exclude=[pattern, "*.safetensors"])
    assert "new revision name" in more["msg"]


@pytest.mark.parametrize("kind", HUBS)
def test_index_of_weights_that_are_left_out(get: Run, hub: FakeHub, kind: str) -> None:
    """Repositories have them twice, and the index of those left out has another ending."""
    shards = [f"pytorch_model-{number}-of-2.bin" for number in (1, 2)]
    index = {"weight_map": dict(zip("ab", shards))}
    hub.files["pytorch_model.bin.index.json"] = json.dumps(index).encode()
    hub.files |= dict.fromkeys(shards, b"weights")
    assert "pytorch_model-1-of-2.bin is missing" in get(hub=kind, hub_exclude=["*-1-of*"])["msg"]
    assert get(hub=kind, hub_exclude=["*.bin"])["changed"] is True


@pytest.mark.parametrize("kind", HUBS)
def test_too_little_disk_is_seen_before_downloading(get: Run, hub: FakeHub, kind: str) -> None:
    hub.pad = 1 << 50
    assert "Not enough disk space for the download" in get(hub=kind)["msg"]
    assert hub.fetched == []


@pytest.mark.parametrize("kind", HUBS)
def test_the_proxy_is_asked(get: Run, hub: FakeHub, kind: str) -> None:
    result = get(hub=kind, hub_endpoint="http://hub.invalid", proxy=hub.url)
    assert result["changed"] is True, result
    assert hub.url not in str(result)


@pytest.mark.parametrize("kind", HUBS)
def test_the_authorities_can_be_named(get: Run, model: Path, certificate: Path, kind: str) -> None:
    with serving(model, certificate) as hub:
        result = get(hub=kind, hub_endpoint=hub.url, ca_bundle=str(certificate))
    assert result["changed"] is True, result


UNLIKE: dict[str, tuple[list[RemoteFile], str]] = {
    "missing": ([RemoteFile("a", 4), RemoteFile("b", 1)], "b is missing"),
    "surplus": ([], "a is not part of the revision"),
    "size": ([RemoteFile("a", 5)], "a has 4 bytes instead of 5"),
    "hash": ([RemoteFile("a", 4, "0" * 64)], "a does not have the SHA-256"),
}


@pytest.mark.parametrize("case", UNLIKE)
def test_a_tool_that_says_all_is_well_is_checked(tmp_path: Path, case: str) -> None:
    listed, expected = UNLIKE[case]
    (tmp_path / "a").write_text("data")
    with pytest.raises(ModelError, match=expected):
        _model_hub.require_complete(listed, tmp_path, NAME)
    assert (tmp_path / "a").exists() is (case == "missing")
    (tmp_path / "a").write_text("data")
    right = "3a6eb0790f39ac87c94f3856b2dd2c5d110e6811602261a9a923d3bb23adc8b7"
    _model_hub.require_complete([RemoteFile("a", 4, right)], tmp_path, NAME)


def test_missing_tools_and_tokens_are_named(get: Run, tmp_path: Path) -> None:
    empty = tmp_path / "venv"
    assert "Install files/locks/model.in" in get(tools_venv=str(empty))["msg"]
    absent = get(hub_token_file=str(tmp_path / "absent"))
    assert "mode 0600" in absent["msg"]


def test_an_unreachable_hub(get: Run) -> None:
    result = get(hub="modelscope", hub_endpoint="http://127.0.0.1:9")
    assert result["failed"] is True
    assert "Check hub_endpoint, proxy" in result["msg"]


@pytest.mark.parametrize(
    ("said", "remedy"),
    [
        ("401 Client Error. Cannot access gated repo", "Put a token"),
        ("HTTP status: 403", "Put a token"),
        ("modelscope_hub.errors.ApiError: [404] no such model", "Check name and revision"),
        # The time of a log, once in some hundred runs.
        ("2026-11-26 20:45:31,401 - modelscope - ERROR: connection refused", "Check hub_endpoint"),
        ("/srv/models/404/lock: connection refused", "Check hub_endpoint"),
        ('File "a.py", line 403, in get: connection refused', "Check hub_endpoint"),
    ],
)
def test_remedy_follows_from_the_status(said: str, remedy: str) -> None:
    assert _model_hub._remedy(said).startswith(remedy)
