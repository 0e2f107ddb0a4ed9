"""What is read of a host, from the files that a real one has."""

from __future__ import annotations

import pytest

from tests.unit.nvidia_driver.conftest import (
    B200,
    DRIVER,
    H200,
    KERNEL,
    SECURE_BOOT,
    V100,
    FakeHost,
)


def test_finds_gpus_without_a_driver(bare: FakeHost) -> None:
    bare.pci("0000:17:00.0", H200)
    bare.pci("0000:01:00.0", "0x2204", kind="0x030000")
    bare.pci("0000:01:00.1", "0x1aef", kind="0x040300")  # its sound device
    bare.pci("0000:05:00.0", "0x22a3", kind="0x068000")  # an NVSwitch
    bare.pci("0000:00:02.0", "0x46a6", kind="0x030000", vendor="0x8086")
    state = bare.state()
    assert [gpu["address"] for gpu in state["gpus"]] == ["0000:01:00.0", "0000:17:00.0"]
    assert state["nvswitches"] == 1
    assert state["kernels"] == []
    assert state["loaded_version"] == state["library_version"] == ""


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
    ],
)
def test_knows_which_modules_support_a_gpu(
    bare: FakeHost, device: str, opened: bool, proprietary: bool
) -> None:
    bare.pci("0000:17:00.0", device)
    (gpu,) = bare.state()["gpus"]
    assert (gpu["open_modules"], gpu["proprietary_modules"]) == (opened, proprietary)


def test_reads_a_sound_host(host: FakeHost) -> None:
    state = host.state()
    assert state["kernels"] == [
        {"release": KERNEL, "headers": True, "module": DRIVER, "dkms": "installed"}
    ]
    assert state["loaded_version"] == state["library_version"] == DRIVER
    assert state["loaded_modules"] == ["nvidia_uvm", "nvidia"]
    assert state["rival_modules"] == []
    assert not state["secure_boot"]


def test_a_folder_of_modules_without_a_kernel_is_none(host: FakeHost) -> None:
    host.write("lib/modules/6.1.0-17-amd64/updates/dkms/left-over.ko")
    assert [kernel["release"] for kernel in host.state()["kernels"]] == [KERNEL]


def test_its_own_daemons_do_not_hold_the_gpu(host: FakeHost) -> None:
    host.hold(900, "nvidia-persiste")
    host.hold(1000, "VLLM::Worker")
    assert host.state()["holders"] == ["VLLM::Worker (process 1000)"]


@pytest.mark.parametrize(("value", "expected"), [(1, True), (0, False)])
def test_reads_secure_boot(host: FakeHost, value: int, expected: bool) -> None:
    host.write(SECURE_BOOT).write_bytes(bytes([6, 0, 0, 0, value]))
    assert host.state()["secure_boot"] is expected


def test_sees_that_the_signing_key_is_enrolled(host: FakeHost) -> None:
    host.write(SECURE_BOOT).write_bytes(b"\x06\x00\x00\x00\x01")
    key = host.write("var/lib/dkms/mok.pub")
    assert not host.state()["signing_key_enrolled"]
    host.answers[f"mokutil --test-key {key}"] = f"{key} is already enrolled\n"
    assert host.state()["signing_key_enrolled"]


def test_keeps_the_end_of_the_newest_log(host: FakeHost) -> None:
    lines = "\n".join(f"line {number}" for number in range(100))
    host.write("var/lib/dkms/nvidia-current/580.95.05/build/make.log", lines)
    assert host.state()["build_log"] == [f"line {number}" for number in range(85, 100)]
