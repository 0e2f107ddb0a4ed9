"""Where models come from: directories of this host, a fake hub, archives of a fake server."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.gpufleet.llm.plugins.module_utils._host_disk import Need
from ansible_collections.gpufleet.llm.plugins.module_utils._host_finding import Finding, Seen
from ansible_collections.gpufleet.llm.plugins.module_utils._host_model import (
    Access,
    Model,
    absent,
    check_models,
    jobs,
)
from ansible_collections.gpufleet.llm.plugins.module_utils._host_network import in_parallel

from tests.unit.host_check.fake_server import FakeServer
from tests.unit.model import conftest, fake_hub
from tests.unit.model.fake_hub import COMMIT, NAME, FakeHub

HUBS = ("huggingface", "modelscope")
PATH = "vllm_instances[tiny]"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    source = tmp_path / "source"
    conftest.write_model(source)
    return source


@pytest.fixture
def hub(folder: Path) -> Iterator[FakeHub]:
    with fake_hub.serving(folder) as running:
        yield running


@pytest.fixture
def access(tmp_path: Path) -> Access:
    return Access(root=tmp_path / "models")


def check(access: Access, *models: Model) -> tuple[Seen, list[Need]]:
    wanted = absent(list(models), access)
    return check_models(wanted, access, in_parallel(jobs(wanted, access)))


def one(outcome: tuple[Seen, list[Need]]) -> Finding:
    (finding,) = outcome[0].findings
    return finding


def of_path(folder: Path) -> Model:
    return Model(PATH, NAME, "v1", "path", path=str(folder))


OF_HUB = Model(PATH, NAME, COMMIT, "hub")


def test_a_directory_that_is_a_model(access: Access, folder: Path) -> None:
    seen, (need,) = check(access, of_path(folder))
    assert seen.findings == []
    files = [path for path in folder.rglob("*") if path.is_file()]
    assert need.size == sum(path.stat().st_size for path in files)
    assert (need.path, need.variable) == (access.root, "model_root")


def test_a_revision_that_is_there_is_not_looked_at(access: Access) -> None:
    gone = of_path(Path("/nowhere"))
    (access.root / NAME / "v1").mkdir(parents=True)
    assert check(access, gone)[0].text == "every model is here"


def cut(folder: Path) -> None:
    weights = folder / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:1000])


def pointer(folder: Path) -> None:
    (folder / "model.safetensors").write_text("version https://git-lfs.github.com/spec/v1\n")


BROKEN: dict[str, tuple[Any, str]] = {
    "truncated": (cut, "model.safetensors: has 1000 bytes but its header describes"),
    "pointer": (pointer, "Git LFS pointer"),
    "no config": (lambda folder: (folder / "config.json").unlink(), "config.json is missing"),
    "link": (lambda folder: (folder / "more").symlink_to(folder), "is a link to a directory"),
}


@pytest.mark.parametrize("case", BROKEN)
def test_a_directory_that_is_no_whole_model(access: Access, folder: Path, case: str) -> None:
    harm, words = BROKEN[case]
    harm(folder)
    finding = one(check(access, of_path(folder)))
    assert finding.variable == f"{PATH}.source.path"
    assert words in finding.problem


def test_a_directory_that_is_not_there(access: Access) -> None:
    finding = one(check(access, of_path(Path("/nowhere"))))
    assert finding.problem == "There is no directory /nowhere on this host."


def test_what_comes_from_the_control_node_needs_room(access: Access) -> None:
    seen, (need,) = check(access, Model(PATH, NAME, "v1", "path", size=123))
    assert (seen.findings, need.size) == ([], 123)


def test_what_was_already_fetched_needs_no_room(access: Access, folder: Path) -> None:
    content = access.root / NAME / "v1.partial" / "content"
    content.mkdir(parents=True)
    (content / "part").write_bytes(bytes(200_000))
    whole = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
    assert check(access, of_path(folder))[1][0].size == whole - 200_000


@pytest.mark.parametrize("kind", HUBS)
def test_a_hub_tells_the_size(access: Access, hub: FakeHub, kind: str) -> None:
    access = replace(access, hub=kind, endpoint=hub.url, exclude=("extra/*",))
    hub.pad = 2**30
    seen, (need,) = check(access, OF_HUB, replace(OF_HUB, variable="another"))
    assert seen.findings == []
    kept = [content for name, content in hub.files.items() if not name.startswith("extra/")]
    assert need.size == sum(len(content) + hub.pad for content in kept)
    # Of the weights only the first byte is asked for.
    assert all(wanted == "bytes=0-0" for _name, wanted in hub.fetched)


@pytest.mark.parametrize("kind", HUBS)
def test_no_such_revision(access: Access, hub: FakeHub, kind: str) -> None:
    wrong = replace(OF_HUB, revision="f" * 40)
    finding = one(check(replace(access, hub=kind, endpoint=hub.url), wrong))
    assert finding.variable == PATH + (".revision" if kind == "huggingface" else ".model")
    assert "f" * 40 in finding.problem
    assert finding.remedy


@pytest.mark.parametrize("kind", HUBS)
def test_no_such_model(access: Access, hub: FakeHub, kind: str) -> None:
    wrong = replace(OF_HUB, name="example/typo")
    finding = one(check(replace(access, hub=kind, endpoint=hub.url), wrong))
    assert (finding.variable, "no model example/typo" in finding.problem) == (f"{PATH}.model", True)


@pytest.mark.parametrize("kind", HUBS)
def test_tokens(access: Access, hub: FakeHub, tmp_path: Path, kind: str) -> None:
    hub.token = "hub-secret-123"
    access = replace(access, hub=kind, endpoint=hub.url)
    finding = one(check(access, OF_HUB))
    assert (finding.variable, "no token is given" in finding.problem) == (
        "model_hub_token_file",
        True,
    )
    file = tmp_path / "token"
    access = replace(access, token_file=str(file))
    assert "cannot be read" in one(check(access, OF_HUB)).problem
    file.write_text("hub-secret-old\n")
    file.chmod(0o644)
    finding = one(check(access, OF_HUB))
    assert (finding.variable, f"chmod 0600 {file}" in finding.remedy) == (
        "model_hub_token_file",
        True,
    )
    file.chmod(0o600)
    finding = one(check(access, OF_HUB))
    assert "the token that is there may not" in finding.problem
    assert "hub-secret" not in str(finding)
    file.write_text("hub-secret-123\n")
    assert check(access, OF_HUB)[0].findings == []


def test_a_gated_model_is_found_by_its_files(access: Access, hub: FakeHub) -> None:
    hub.refused = {"model.safetensors"}
    finding = one(check(replace(access, endpoint=hub.url), OF_HUB))
    assert finding.variable == "model_hub_token_file"
    assert "only to those who may have it" in finding.problem


def test_a_hub_that_cannot_be_reached(access: Access) -> None:
    finding = one(check(replace(access, endpoint="https://hub.invalid"), OF_HUB))
    assert (finding.variable, "name is unknown" in finding.problem) == ("model_hub_endpoint", True)


@pytest.mark.parametrize("body", ["<html>", "[]", '{"siblings": 1}'])
def test_a_server_that_is_no_hub(access: Access, server: FakeServer, body: str) -> None:
    server.reply(f"/api/models/{NAME}/revision/{COMMIT}?blobs=true", body)
    finding = one(check(replace(access, endpoint=server.url), OF_HUB))
    assert (finding.variable, "not as a hub does" in finding.problem) == (
        "model_hub_endpoint",
        True,
    )


def test_a_mirror_that_tells_no_sizes(access: Access, server: FakeServer) -> None:
    listing = json.dumps({"siblings": [{"rfilename": "config.json"}]})
    server.reply(f"/api/models/{NAME}/revision/{COMMIT}?blobs=true", listing)
    server.reply(f"/{NAME}/resolve/{COMMIT}/config.json", "{}")
    seen, needs = check(replace(access, endpoint=server.url), OF_HUB)
    assert (seen.findings, needs) == ([], [])


def test_tools_that_are_not_there(access: Access, hub: FakeHub, tmp_path: Path) -> None:
    access = replace(access, endpoint=hub.url, tools_venv=str(tmp_path / "venv"))
    finding = one(check(access, OF_HUB))
    assert (finding.variable, "bin/hf" in finding.problem) == ("model_tools_venv", True)
    (tmp_path / "venv" / "bin").mkdir(parents=True)
    (tmp_path / "venv" / "bin" / "hf").touch()
    assert check(access, OF_HUB)[0].findings == []


def test_an_archive_needs_room_for_itself_and_its_content(
    access: Access, server: FakeServer
) -> None:
    server.reply("/model.tar.gz", "x" * 1000)
    model = Model(PATH, NAME, "v1", "url", url=f"{server.url}/model.tar.gz?token=secret")
    finding = one(check(access, model))
    assert (finding.variable, "status 404" in finding.problem) == (f"{PATH}.source.url", True)
    assert "secret" not in str(finding)
    server.reply("/model.tar.gz?token=secret", "x" * 1000)
    seen, (need,) = check(access, model)
    assert (seen.findings, need.size) == ([], 2000)
