"""What is looked at before vLLM is started: each problem at once, with its remedy."""

from __future__ import annotations

import importlib.util
import os
import shutil
import socket
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

from .conftest import ROOT, Release


def load(name: str, folder: str = "files/guard") -> ModuleType:
    """Return a module of the guard that needs no other than those loaded before."""
    spec = importlib.util.spec_from_file_location(name, ROOT / f"{folder}/{name}.py")
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


load("_gpu_bus", "plugins/module_utils")
devices = load("guard_devices")
memory = load("guard_memory")


def test_port_that_is_taken(release: Release) -> None:
    with socket.create_server(("127.0.0.1", release.port)):
        status, output = release.ask("run", "qwen")
    assert status == 1
    assert f"port {release.port} is taken: `ss -ltnp sport = :{release.port}`" in output


def test_address_that_has_not_come_yet(release: Release) -> None:
    # Of the block for documentation: no host has it.
    release.settings["host"] = "192.0.2.1"
    status, output = release.ask("run", "qwen")
    assert status == 1
    assert "the host does not have the address 192.0.2.1 now: `ip address` shows" in output


def test_model_that_is_not_there(release: Release) -> None:
    shutil.rmtree(release.path / "model")
    status, output = release.ask("run", "qwen")
    assert status == 78
    assert f"the model is not at {release.path}/model" in output
    assert "playbooks/stage.yml" in output


def test_model_that_may_not_be_read(release: Release) -> None:
    """Played, since root may read everything: as below /home, which the unit hides."""
    release.save()
    code = (
        "import pathlib, sys; sys.path.insert(0, 'guard'); import llm_guard\n"
        "def is_file(path): raise PermissionError(13, 'Permission denied')\n"
        "pathlib.Path.is_file = is_file; sys.exit(llm_guard.main(['run', 'qwen']))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=release.path, capture_output=True, text=True, check=False
    )
    assert done.returncode == 78, done
    assert "config.json may not be read by the user of the service" in done.stdout + done.stderr


def test_full_disk(release: Release) -> None:
    # /proc has no space at all, like a disk that is full.
    status, output = release.ask("run", "qwen", CACHE_DIRECTORY="/proc")
    assert status == 1
    assert "the disk of /proc is full: free some space" in output


def test_lost_gpu(release: Release) -> None:
    (release.path / "gpu_lost").write_text("GPU 0000:3b:00.0 has fallen off the bus")
    status, output = release.ask("run", "qwen")
    assert status == 78
    assert "GPU 0000:3b:00.0 has fallen off the bus: reboot the host" in output


XID_79 = "3,812,1,-;NVRM: Xid (PCI:0000:{}): 79, pid=1, GPU has fallen off the bus.\n"
OTHER_XID = "3,811,1,-;NVRM: Xid (PCI:0000:3b:00): 43, pid=1, Ch 8\n"


class Bus:
    """A fake of /sys/bus/pci/devices and of the kernel log: no card can be made to fall off."""

    def __init__(self, directory: Path) -> None:
        self.pci = directory / "pci"
        self.log = directory / "kmsg"
        self.log.write_text("6,1,1,-;Linux version\n")
        self.pci.mkdir()
        self.card("00:1f", vendor="0x8086", kind="0x0c0330")
        for address in ("3b", "5e", "86"):
            self.card(f"{address}:00")

    def card(self, address: str, vendor: str = "0x10de", kind: str = "0x030200") -> None:
        device = self.pci / f"0000:{address}.0"
        device.mkdir()
        (device / "vendor").write_text(f"{vendor}\n")
        (device / "class").write_text(f"{kind}\n")
        (device / "config").write_bytes(b"\xde\x10\x00\x00")

    def falls_off(self, address: str, text: str = XID_79) -> None:
        with self.log.open("a") as log:
            log.write(text.format(f"{address}:00"))
        (self.pci / f"0000:{address}:00.0/config").write_bytes(b"\xff" * 64)

    def finding(self, gpus: list[int] | None) -> str | None:
        found: str | None = devices.look(gpus, self.log, self.pci)
        return found


@pytest.fixture
def bus(tmp_path: Path) -> Bus:
    """Return a bus with three cards that are well."""
    return Bus(tmp_path)


def test_cards_that_are_well(bus: Bus) -> None:
    bus.log.write_text(OTHER_XID)
    assert bus.finding(None) is None
    assert bus.finding([0, 1, 2]) is None


@pytest.mark.parametrize(
    ("gpus", "ours"), [([0], False), ([1], True), ([1, 2], True), (None, True)]
)
def test_card_that_fell_off(bus: Bus, gpus: list[int] | None, ours: bool) -> None:
    bus.falls_off("5e")
    finding = bus.finding(gpus)
    assert bool(finding) is ours
    if finding:
        assert "GPU 0000:5e:00.0 has fallen off the bus (Xid 79" in finding


@pytest.mark.parametrize(("gpus", "ours"), [([0], False), ([1], True), ([2], False)])
def test_card_that_is_gone_from_the_bus(bus: Bus, gpus: list[int], ours: bool) -> None:
    bus.falls_off("5e")
    shutil.rmtree(bus.pci / "0000:5e:00.0")
    assert bool(bus.finding(gpus)) is ours


def test_card_that_was_reset_since(bus: Bus) -> None:
    bus.falls_off("5e")
    (bus.pci / "0000:5e:00.0/config").write_bytes(b"\xde\x10")
    assert bus.finding(None) is None


def test_instance_without_gpus(bus: Bus) -> None:
    bus.falls_off("5e")
    assert bus.finding([]) is None


def test_finding_is_readable_for_the_service(tmp_path: Path) -> None:
    before = os.umask(0o077)
    try:
        devices.leave("lost", tmp_path)
    finally:
        os.umask(before)
    assert (tmp_path / "gpu_lost").read_text() == "lost"
    assert (tmp_path / "gpu_lost").stat().st_mode & 0o777 == 0o644


def test_finding_follows_no_link(tmp_path: Path) -> None:
    (tmp_path / "other").write_text("kept")
    (tmp_path / "gpu_lost").symlink_to(tmp_path / "other")
    with pytest.raises(FileExistsError):
        devices.leave("lost", tmp_path)
    assert (tmp_path / "other").read_text() == "kept"


@pytest.mark.parametrize(
    ("group", "file", "text"),
    [
        (
            "0::/system.slice/vllm\n",
            "sys/fs/cgroup/system.slice/vllm/memory.events",
            "oom_kill 2\n",
        ),
        (
            "9:memory:/vllm\n1:name=systemd:/vllm\n0::/\n",
            "sys/fs/cgroup/memory/vllm/memory.oom_control",
            "under_oom 0\noom_kill 2\n",
        ),
    ],
)
def test_processes_killed_for_memory(tmp_path: Path, group: str, file: str, text: str) -> None:
    (tmp_path / "proc/self").mkdir(parents=True)
    (tmp_path / "proc/self/cgroup").write_text(group)
    assert memory.oom_kills(tmp_path) == 0
    (tmp_path / file).parent.mkdir(parents=True)
    (tmp_path / file).write_text(text)
    assert memory.oom_kills(tmp_path) == 2
