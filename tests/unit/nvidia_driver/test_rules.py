"""The table of refusals: what a host may have, and in which words it is refused."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from ansible_collections.gpufleet.llm.plugins.plugin_utils import _driver_rules as rules

from tests.unit.nvidia_driver.conftest import B200, KERNEL, SECURE_BOOT, T4, V100, FakeHost

PLAN: dict[str, Any] = {
    "system": "Debian 12",
    "branch": 580,
    "version": "",
    "source": "nvidia",
    "distribution_has_it": True,
    "directory": "",
    "open": True,
    "built": True,
    "reboot": "never",
    "connection": "ssh",
}
Change = Callable[[FakeHost], object]


def nothing(_host: FakeHost) -> None:
    """Leave the host as it is."""


def lock(host: FakeHost) -> None:
    host.write(SECURE_BOOT).write_bytes(b"\x06\x00\x00\x00\x01")


def with_gpu(device: str) -> Change:
    return lambda host: host.pci("0000:65:00.0", device)


def two_generations(host: FakeHost) -> None:
    host.pci("0000:65:00.0", V100)
    host.pci("0000:66:00.0", B200)


def test_a_sound_host_is_refused_nothing(host: FakeHost) -> None:
    assert rules.refusals(host.state(), PLAN) == []
    assert rules.faults(host.state()) == []
    assert rules.pending(host.state())["action"] == "none"


@pytest.mark.parametrize(
    ("change", "plan", "words"),
    [
        (lock, {}, ["Secure Boot is on", "mokutil --import /var/lib/dkms/mok.pub"]),
        (
            lambda host: host.write("usr/bin/nvidia-uninstall"),
            {},
            [".run file", "nvidia-uninstall"],
        ),
        (with_gpu(V100), {}, ["do not support the GPU at 0000:65:00.0 (device 0x1db6)", "auto"]),
        (with_gpu(B200), {"open": False}, ["Only the open kernel modules", "0x2901", "open"]),
        (two_generations, {"open": False}, ["Only the open kernel modules", "out of this host"]),
        (
            with_gpu(V100),
            {"open": False, "branch": 590},
            ["Branch 590 does not support", "nvidia_driver_branch: 580"],
        ),
        (nothing, {"version": "575.57.08"}, ["575.57.08 is not of nvidia_driver_branch 580"]),
        (nothing, {"source": "local"}, ["no directory is named", "nvidia_driver_local_directory"]),
        (
            nothing,
            {"source": "distribution", "distribution_has_it": False, "system": "Rocky 9"},
            ["Rocky 9 has no driver", "nvidia_driver_source: nvidia"],
        ),
        (
            nothing,
            {"reboot": "if_required", "connection": "local"},
            ["would restart the machine that runs this play", "never"],
        ),
    ],
)
def test_refuses_before_anything_is_installed(
    host: FakeHost, change: Change, plan: dict[str, Any], words: list[str]
) -> None:
    change(host)
    (text,) = rules.refusals(host.state(), {**PLAN, **plan})
    assert "\nRemedy: " in text
    for word in words:
        assert word in text


def test_signed_modules_pass_secure_boot(host: FakeHost) -> None:
    lock(host)
    assert rules.refusals(host.state(), {**PLAN, "built": False}) == []


@pytest.mark.parametrize(
    ("device", "asked", "expected"),
    [
        (T4, "auto", True),
        (V100, "auto", False),
        (V100, "open", True),
        (T4, "proprietary", False),
    ],
)
def test_chooses_modules_by_generation(
    bare: FakeHost, device: str, asked: str, expected: bool
) -> None:
    bare.pci("0000:17:00.0", device)
    assert rules.open_modules(bare.state(), asked) is expected


def without_headers(host: FakeHost) -> None:
    host.kernel("6.1.0-41-amd64", headers=False, module="")


def failed_build(host: FakeHost) -> None:
    host.kernel("6.1.0-41-amd64", module="")
    host.dkms("6.1.0-41-amd64", "built")
    host.write("var/lib/dkms/nvidia/580.95.05/build/make.log", "cc1: error: no such thing\n")


def unknown_to_dkms(host: FakeHost) -> None:
    host.kernel("6.1.0-41-amd64", module="")


def half_way(host: FakeHost) -> None:
    (host.root / "usr/lib/x86_64-linux-gnu/libnvidia-ml.so.1").unlink()
    host.libraries("580.105.08")


def wrong_fabric_manager(host: FakeHost) -> None:
    host.pci("0000:05:00.0", "0x22a3", kind="0x068000")
    host.answers["nv-fabricmanager --version"] = "Fabric Manager version is : 580.65.06\n"


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (without_headers, ["6.1.0-41-amd64 has no headers", "install its headers"]),
        (failed_build, ["not installed for kernel 6.1.0-41-amd64", "says built", "no such thing"]),
        (unknown_to_dkms, ["does not know of it", "dkms autoinstall -k 6.1.0-41-amd64"]),
        (half_way, ["580.95.05", "580.105.08", "Driver/library version mismatch"]),
        (wrong_fabric_manager, ["Fabric Manager is of version 580.65.06", "580.95.05"]),
        (
            lambda host: host.pci("0000:05:00.0", "0x22a3", kind="0x068000"),
            ["Fabric Manager is of version none"],
        ),
    ],
)
def test_refuses_a_restart(host: FakeHost, change: Change, words: list[str]) -> None:
    change(host)
    (text,) = rules.faults(host.state())
    assert "\nRemedy: " in text
    for word in words:
        assert word in text


def remove_modules(host: FakeHost) -> None:
    (host.root / "lib/modules" / KERNEL / "updates/dkms/nvidia-current-open.ko").unlink()


@pytest.mark.parametrize(
    ("change", "action", "word"),
    [
        (nothing, "none", ""),
        (lambda host: host.load("580.65.06"), "reload", "Driver/library version mismatch"),
        (lambda host: host.write("sys/module/nouveau/refcnt"), "reboot", "nouveau drives the GPUs"),
        (remove_modules, "reboot", f"the running kernel {KERNEL} has no module"),
        (
            lambda host: (host.root / "proc/driver/nvidia/version").unlink(),
            "reload",
            "installed and not loaded",
        ),
    ],
)
def test_says_what_is_pending(host: FakeHost, change: Change, action: str, word: str) -> None:
    change(host)
    pending = rules.pending(host.state())
    assert pending["action"] == action
    assert word in pending["reason"]


def test_nothing_is_pending_without_a_gpu(bare: FakeHost) -> None:
    bare.kernel()
    assert rules.pending(bare.state())["action"] == "none"
