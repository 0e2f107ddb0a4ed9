"""The whole module, in this process, on this machine."""

from __future__ import annotations

import json
import os
import socket
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from ansible.module_utils.testing import patch_module_args
from ansible_collections.gpufleet.llm.plugins.module_utils._gpu_facts import read_gpus
from ansible_collections.gpufleet.llm.plugins.module_utils._host_finding import Seen
from ansible_collections.gpufleet.llm.plugins.module_utils._host_system import System
from ansible_collections.gpufleet.llm.plugins.modules import host_check

from tests.unit.gpu.fake_host import FakeHost
from tests.unit.host_check.fake_server import FakeServer

Run = Callable[..., dict[str, Any]]
HERE = f"{sys.version_info.major}.{sys.version_info.minor}"


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Run:
    """Return a function that runs the module with options, as root of a system that is taken."""
    fake_system = System("debian", "12", "x86_64", "systemd", 252, "root")
    monkeypatch.setattr(host_check, "read_system", lambda _run_command: fake_system)
    monkeypatch.setattr(os, "geteuid", lambda: 0)

    def run_module(*, check: bool = False, **options: object) -> dict[str, Any]:
        with (
            patch_module_args({**options, "_ansible_check_mode": check}),
            pytest.raises(SystemExit) as ended,
        ):
            host_check.main()
        assert ended.value.code == 0
        result: dict[str, Any] = json.loads(capsys.readouterr().out)
        return result

    return run_module


def environment(folder: Path, **changes: object) -> dict[str, object]:
    return {
        "lock": "chat",
        "directory": str(folder),
        "python_versions": [HERE],
        "python": sys.executable,
        "names": {HERE: "of-this-python"},
        "pins": {HERE: ["chainlit==2.12.0"]},
        "sample": ["chainlit==2.12.0"],
        **changes,
    }


def test_a_host_with_nothing_to_do(run: Run) -> None:
    before = time.time()
    result = run()
    assert (result["findings"], result["changed"]) == ([], False)
    assert before <= result["began"] <= result["ended"] <= time.time()
    assert list(result["checked"]) == [
        "system", "python", "packages", "models", "disk", "memory", "ports",
    ]  # fmt: skip


OF_GPUS = ["driver", "gpus", "instances on gpus", "shared memory"]


def test_gpus_are_looked_at_where_instances_run_on_them(
    run: Run, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    fake = FakeHost(tmp_path / "root")
    gpus = fake.gpus()
    monkeypatch.setattr(host_check, "read_gpus", lambda _run_command: gpus)
    one = {"name": "a", "gpus": [0, 1], "options": {"max_model_len": 512}}
    result = run(groups=["inference"], instances=[one], gpu={"cuda": "14.0"})
    assert [name for name in result["checked"] if name in OF_GPUS] == OF_GPUS
    assert "141.0 GiB" in result["checked"]["instances on gpus"]
    assert result["gpus"]["cards"][0]["name"] == "NVIDIA H200"
    (finding,) = result["findings"]
    assert (finding["variable"], finding["severity"]) == ("vllm_instances[a].gpus", "error")


def test_a_host_without_gpus(run: Run, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    empty = read_gpus(FakeHost(tmp_path / "root").run_command, tmp_path)
    monkeypatch.setattr(host_check, "read_gpus", lambda _run_command: empty)
    one = {"name": "a", "gpus": [0]}
    (finding,) = run(groups=["inference"], instances=[one])["findings"]
    assert finding["variable"] == "vllm_variant"
    for other in ({"groups": ["inference"], "variant": "cpu"}, {"groups": ["chat", "gateway"]}):
        result = run(instances=[one], **other)
        assert result["findings"] == []
        assert not set(OF_GPUS) & set(result["checked"])
        assert "gpus" not in result


@pytest.mark.parametrize(
    ("distribution", "source", "severity"),
    [
        ("ubuntu", "auto", "warning"),
        ("ubuntu", "distribution", "warning"),
        ("ubuntu", "nvidia", "error"),
        ("debian", "auto", "error"),
        ("debian", "distribution", "error"),
    ],
)
def test_only_ubuntu_brings_modules_that_secure_boot_lets_in(
    run: Run,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    distribution: str,
    source: str,
    severity: str,
) -> None:
    fake = FakeHost(tmp_path / "root")
    fake.load(None)
    fake.nvml_status = 9
    fake.secure_boot()
    fake.own_key(enrolled=False)
    gpus = fake.gpus()
    system = System(distribution, "24.04", "x86_64", "systemd", 255, "root")
    monkeypatch.setattr(host_check, "read_gpus", lambda _run_command: gpus)
    monkeypatch.setattr(host_check, "read_system", lambda _run_command: system)
    wanted = {"driver_managed": True, "driver_source": source}
    found = run(groups=["inference"], gpu=wanted)["findings"]
    assert [item["severity"] for item in found if "Secure Boot" in item["problem"]] == [severity]


def test_gpus_that_cannot_be_read_are_a_finding(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(_run_command: object) -> None:
        raise RuntimeError("no such luck")

    monkeypatch.setattr(host_check, "read_gpus", broken)
    result = run(groups=["inference"])
    assert [finding["variable"] for finding in result["findings"]] == ["driver"]
    assert "memory" in result["checked"]


def test_everything_is_told_at_once(run: Run, tmp_path: Path) -> None:
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        held.listen()
        result = run(
            environments=[environment(tmp_path, python="/nowhere/python")],
            models=[
                {
                    "variable": "vllm_instances[a]",
                    "name": "a/b",
                    "revision": "v1",
                    "source": "path",
                    "path": "/nowhere/model",
                }
            ],
            model_access={"root": str(tmp_path)},
            variant="cpu",
            instances=[{"name": "a", "cache_gib": 10**6}],
            ports=[
                {
                    "port": held.getsockname()[1],
                    "address": "127.0.0.1",
                    "unit": "vllm@a.service",
                    "variable": "vllm_instances[a].port",
                }
            ],
            check=True,
        )
    assert [finding["variable"] for finding in result["findings"]] == [
        "python_release_python",
        "vllm_instances[a].source.path",
        "vllm_instances",
        "vllm_instances[a].port",
    ]
    for finding in result["findings"]:
        assert all(finding[key] for key in ("problem", "remedy"))


def test_an_environment_that_is_built_needs_nothing(run: Run, tmp_path: Path) -> None:
    wanting = {"index_url": "http://127.0.0.1:9/simple"}
    (finding,) = run(environments=[environment(tmp_path)], packages=wanting)["findings"]
    assert finding["variable"] == "python_release_index_url"
    program = tmp_path / "of-this-python" / "bin" / "python"
    program.parent.mkdir(parents=True)
    program.symlink_to(sys.executable)
    result = run(environments=[environment(tmp_path)], packages=wanting)
    assert result["findings"] == []
    assert result["checked"]["python"] == f"chat: {sys.executable}, built"
    assert result["checked"]["disk"] == "nothing to add"


def test_a_python_that_the_distribution_will_bring(
    run: Run, tmp_path: Path, server: FakeServer
) -> None:
    server.reply("/chainlit/", '<a href="chainlit-2.12.0-py3-none-any.whl">')
    coming = environment(
        tmp_path,
        python="",
        python_versions=["9.8", "9.9"],
        pins={"9.9": ["chainlit==2.12.0"]},
    )
    bring = {"distribution_packages": ["python9.9-venv"], "index_url": server.url}
    assert "9.8 or 9.9" in run(environments=[coming])["findings"][0]["problem"]
    result = run(environments=[coming], packages=bring)
    assert "python9.9, which is to be installed" in result["checked"]["python"]


def test_passwords_are_used_and_never_shown(run: Run, tmp_path: Path, server: FakeServer) -> None:
    plain = f"{server.url}/simple"
    result = run(
        environments=[environment(tmp_path)],
        packages={"index_url": plain},
        credentials={plain: "me:s3cret-word"},
    )
    assert server.asked[0][1]["Authorization"].startswith("Basic ")
    assert plain in result["findings"][0]["problem"]
    assert "s3cret-word" not in str(result)


def test_without_root_only_that_is_told(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 65534)
    fake_system = System("debian", "12", "x86_64", "systemd", 252, "deploy")
    monkeypatch.setattr(host_check, "read_system", lambda _run_command: fake_system)
    result = run(ports=[{"port": 1, "address": "::", "unit": "a.service", "variable": "a"}])
    assert [finding["variable"] for finding in result["findings"]] == ["ansible_become"]
    assert list(result["checked"]) == ["system"]


def test_a_check_that_breaks_is_a_finding(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_arguments: object) -> Seen:
        raise RuntimeError("no such luck")

    monkeypatch.setattr(host_check, "check_memory", broken)
    result = run()
    (finding,) = result["findings"]
    assert finding["variable"] == "memory"
    assert finding["problem"] == "The check itself broke: RuntimeError: no such luck."
    assert result["checked"]["ports"] == ""
