"""The table of refusals: what a host may have, and in which words it is refused."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from ansible_collections.gpufleet.llm.plugins.plugin_utils import _driver_rules as rules

from tests.unit.gpu.fake_host import KERNEL, OTHER_KERNEL, VERSION, FakeHost

H200, V100, B200, T4 = "0x2335", "0x1db6", "0x2901", "0x1eb8"

PLAN: dict[str, Any] = {
    "system": "Debian 12",
    "branch": 580,
    "version": "",
    "source": "nvidia",
    "distribution_has_it": True,
    "directory": "",
    "open": True,
    "built": True,
    "nvlink5": False,
    "reboot": "never",
    "connection": "ssh",
}
Change = Callable[[FakeHost], object]


def nothing(_host: FakeHost) -> None:
    """Leave the host as it is."""


def with_gpu(device: str) -> Change:
    return lambda host: host.card("0000:65:00.0", device_id=device)


def two_generations(host: FakeHost) -> None:
    host.card("0000:65:00.0", device_id=V100)
    host.card("0000:66:00.0", device_id=B200)


def unknown_key(host: FakeHost) -> None:
    host.secure_boot()
    host.own_key(enrolled=False)


def by_runfile(host: FakeHost) -> None:
    (host.root / "usr/bin").mkdir(parents=True)
    (host.root / "usr/bin/nvidia-uninstall").touch()


def test_a_sound_host_is_refused_nothing(host: FakeHost) -> None:
    assert rules.refusals(host.gpus().as_dict(), PLAN) == []
    assert rules.faults(host.gpus().as_dict()) == []
    assert rules.pending(host.gpus().as_dict())["action"] == "none"


@pytest.mark.parametrize(
    ("change", "plan", "words"),
    [
        (FakeHost.secure_boot, {}, ["Secure Boot is on", "mokutil --import /var/lib/dkms"]),
        (unknown_key, {}, ["Secure Boot is on", "mokutil --import /var/lib/dkms/mok.pub"]),
        (by_runfile, {}, [".run file", "nvidia-uninstall"]),
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
            with_gpu(B200),
            {"source": "distribution", "nvlink5": True, "built": False},
            ["no distribution has the NVLink subnet manager", "nvidia_driver_source: nvidia"],
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
    (text,) = rules.refusals(host.gpus().as_dict(), {**PLAN, **plan})
    assert "\nRemedy: " in text
    for word in words:
        assert word in text


def test_signed_modules_pass_secure_boot(host: FakeHost) -> None:
    host.secure_boot()
    assert rules.refusals(host.gpus().as_dict(), {**PLAN, "built": False}) == []


def test_an_enrolled_key_passes_secure_boot(host: FakeHost) -> None:
    host.secure_boot()
    host.own_key(enrolled=True)
    assert rules.refusals(host.gpus().as_dict(), PLAN) == []


@pytest.mark.parametrize(
    ("device", "opened", "proprietary"),
    [
        ("0x1df6", False, True),  # V100S
        (V100, False, True),
        ("0x15f8", False, True),  # P100
        ("0x1e02", True, True),  # TITAN RTX
        ("0x20b5", True, True),  # A100
        ("0x26b9", True, True),  # L40S
        (H200, True, True),
        ("0x2342", True, False),  # GH200
        (B200, True, False),
        ("", True, True),  # only NVML knows it
    ],
)
def test_knows_which_modules_support_a_gpu(
    host: FakeHost, device: str, opened: bool, proprietary: bool
) -> None:
    host.card("0000:65:00.0", device_id=device)
    gpus = host.gpus().as_dict()
    assert (rules.refusals(gpus, PLAN) == []) is opened
    assert (rules.refusals(gpus, {**PLAN, "open": False}) == []) is proprietary


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
    host: FakeHost, device: str, asked: str, expected: bool
) -> None:
    host.card("0000:17:00.0", device_id=device)
    assert rules.open_modules(host.gpus().as_dict(), asked) is expected


def without_headers(host: FakeHost) -> None:
    unknown_to_dkms(host)
    host.remove_headers(OTHER_KERNEL)


def failed_build(host: FakeHost) -> None:
    unknown_to_dkms(host)
    host.dkms({KERNEL: "installed", OTHER_KERNEL: "built"})
    host.build_log("cc1: error: no such thing\n")


def unknown_to_dkms(host: FakeHost) -> None:
    host.kernel(OTHER_KERNEL, module=None)


def half_built(host: FakeHost) -> None:
    """A module of before, while the build of the new one failed."""
    host.dkms({KERNEL: "added"})


def wrong_fabric_manager(host: FakeHost) -> None:
    host.switch()
    host.programs["nv-fabricmanager --version"] = "Fabric Manager version is : 580.65.06\n"


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (without_headers, [f"{OTHER_KERNEL} has no headers", "install its headers"]),
        (failed_build, [f"not installed for kernel {OTHER_KERNEL}", "says built", "no such thing"]),
        (unknown_to_dkms, ["does not know of it", f"dkms autoinstall -k {OTHER_KERNEL}"]),
        (half_built, [f"not installed for kernel {KERNEL}", "says added"]),
        (
            lambda host: host.libraries("580.105.08"),
            [VERSION, "580.105.08", "Driver/library version mismatch"],
        ),
        (wrong_fabric_manager, ["Fabric Manager is of version 580.65.06", VERSION]),
        (FakeHost.switch, ["Fabric Manager is of version none"]),
    ],
)
def test_refuses_a_restart(host: FakeHost, change: Change, words: list[str]) -> None:
    change(host)
    (text,) = rules.faults(host.gpus().as_dict())
    assert "\nRemedy: " in text
    for word in words:
        assert word in text


def test_nvswitches_that_are_not_on_pci_need_a_fabric_manager_too(host: FakeHost) -> None:
    gpus = host.gpus().as_dict()
    assert rules.faults(gpus) == []
    (text,) = rules.faults(gpus, switched=True)
    assert "Fabric Manager is of version none" in text


def test_a_distribution_will_do_where_no_nvlink_subnet_manager_is_needed(host: FakeHost) -> None:
    plan = {**PLAN, "source": "distribution", "nvlink5": True, "built": False}
    assert rules.refusals(host.gpus().as_dict(), plan) == []
    host.card("0000:65:00.0", device_id=B200)
    assert rules.refusals(host.gpus().as_dict(), {**plan, "nvlink5": False}) == []
    assert rules.refusals(host.gpus().as_dict(), {**plan, "source": "nvidia"}) == []


def nouveau(host: FakeHost) -> None:
    (host.root / "sys/module/nouveau").mkdir(parents=True)


def not_loaded(host: FakeHost) -> None:
    host.load(None)
    host.nvml_status = 9


@pytest.mark.parametrize(
    ("change", "action", "word"),
    [
        (nothing, "none", ""),
        (lambda host: host.load("580.65.06"), "reload", "Driver/library version mismatch"),
        (nouveau, "reboot", "nouveau drives the GPUs"),
        (lambda host: host.kernel(KERNEL, module=None), "reboot", "the running kernel has no"),
        (not_loaded, "reload", "installed and not loaded"),
        (lambda host: host.kernel("5.10.0-9-amd64", "570.86.15"), "none", ""),
    ],
)
def test_says_what_is_pending(host: FakeHost, change: Change, action: str, word: str) -> None:
    change(host)
    pending = rules.pending(host.gpus().as_dict())
    assert pending["action"] == action
    assert word in pending["reason"]


def test_names_what_holds_the_gpus(host: FakeHost) -> None:
    host.process(10, "VLLM::Worker", "vllm@qwen3.service", "/dev/nvidia0")
    host.process(11, "python3", "", "/dev/nvidiactl")
    pending = rules.pending(host.gpus().as_dict())
    assert pending["holders"] == ("VLLM::Worker (pid 10, vllm@qwen3.service), python3 (pid 11)")


def test_nothing_is_pending_without_a_gpu(host: FakeHost) -> None:
    not_loaded(host)
    (host.pci / "0000:3b:00.0/vendor").write_text("0x1002\n")
    assert rules.pending(host.gpus().as_dict())["action"] == "none"
