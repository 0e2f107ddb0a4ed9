"""What is wrong with a GPU host, case by case: how grave, in which words, with which remedy."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest
from ansible_collections.gpufleet.llm.plugins.module_utils import _gpu_driver
from ansible_collections.gpufleet.llm.plugins.module_utils._gpu_demand import Demand
from ansible_collections.gpufleet.llm.plugins.module_utils._gpu_facts import read_gpus
from ansible_collections.gpufleet.llm.plugins.module_utils._host_finding import Finding
from ansible_collections.gpufleet.llm.plugins.module_utils._host_gpu_cards import check_cards
from ansible_collections.gpufleet.llm.plugins.module_utils._host_gpu_driver import check_driver
from ansible_collections.gpufleet.llm.plugins.module_utils._host_gpu_fit import check_fit
from ansible_collections.gpufleet.llm.plugins.module_utils._host_shared_memory import (
    check_shared_memory,
)

from tests.unit.gpu.fake_host import KERNEL, OTHER_KERNEL, VERSION, FakeHost

NEWER = "580.105.08"


def driver(host: FakeHost, *, cuda: str = "13.0", managed: bool = False) -> list[Finding]:
    return check_driver(host.gpus(), cuda, managed).findings


def cards(host: FakeHost, *planned: int) -> list[Finding]:
    return check_cards(host.gpus(), set(planned or (0,))).findings


def test_a_healthy_host(host: FakeHost) -> None:
    assert driver(host) == []
    assert cards(host) == []
    assert check_driver(host.gpus(), "13.0", managed=False).text == (
        f"{VERSION}, open module, user space {VERSION}"
    )
    assert check_cards(host.gpus(), {0}).text == "1 x NVIDIA H200"


@dataclass(frozen=True)
class Case:
    """How a host is broken, and what must be said of it, and by which remedy it is cured."""

    spoil: Callable[[FakeHost], object]
    severity: str
    problem: str
    remedy: str


def no_driver(host: FakeHost) -> None:
    host.load(None)
    host.kernel(KERNEL, module=None)
    host.dkms(None)
    host.nvml_status = 9


def not_loaded(host: FakeHost) -> None:
    host.load(None)
    host.nvml_status = 9


def secure_boot_unsigned(host: FakeHost) -> None:
    not_loaded(host)
    host.secure_boot()
    host.kernel(KERNEL, signer=None)


def secure_boot_unknown_key(host: FakeHost) -> None:
    not_loaded(host)
    host.secure_boot()
    host.own_key(enrolled=False)


def old_driver(host: FakeHost) -> None:
    host.nvml_version = "570.86.15"
    host.load("570.86.15")
    host.kernel(KERNEL, "570.86.15")
    host.dkms({KERNEL: "installed"}, "570.86.15")


def updated_and_free(host: FakeHost) -> None:
    host.libraries(NEWER)
    host.kernel(KERNEL, NEWER)
    host.dkms({KERNEL: "installed"}, NEWER)
    host.process(5, "nvidia-persiste", "nvidia-persistenced.service", "/dev/nvidiactl")
    host.process(6, "nv-fabricmanage", "nvidia-fabricmanager.service", "/dev/nvidiactl")


def updated_and_held(host: FakeHost) -> None:
    updated_and_free(host)
    host.process(9, "python3", "jupyter.service", "/dev/nvidia0")


def only_libraries_updated(host: FakeHost) -> None:
    host.libraries(NEWER)


def missing_headers(host: FakeHost) -> None:
    host.kernel(OTHER_KERNEL, module=None)
    host.remove_headers(OTHER_KERNEL)


def failed_build(host: FakeHost) -> None:
    host.dkms({KERNEL: "added"})


def other_kernel_without_package(host: FakeHost) -> None:
    host.dkms(None)
    host.kernel(OTHER_KERNEL, module=None)


def fabric_manager(host: FakeHost, version: str, state: str = "active") -> None:
    host.switch()
    host.programs["nv-fabricmanager --version"] = f"Fabric Manager version is : {version}\n"
    host.programs["systemctl is-active nvidia-fabricmanager"] = f"{state}\n"


DRIVER = {
    "no driver": Case(no_driver, "error", "none is installed", "branch 580 or newer"),
    "not loaded": Case(not_loaded, "error", "is installed and not loaded", "modprobe nvidia"),
    "Secure Boot, not signed": Case(
        secure_boot_unsigned,
        "error",
        "Secure Boot is on, and the driver's module is not signed",
        "mokutil --import",
    ),
    "Secure Boot, unknown key": Case(
        secure_boot_unknown_key, "error", "signed by DKMS key, which it does not know", "console"
    ),
    "older than CUDA needs": Case(
        old_driver, "error", "570.86.15 is loaded; vLLM's packages are made for CUDA 13.0", "580"
    ),
    "mismatch that a reload cures": Case(
        updated_and_free,
        "error",
        f"The module {VERSION} is loaded, the libraries are {NEWER}",
        "Reload it, without a restart",
    ),
    "mismatch that a restart cures": Case(
        updated_and_held, "error", "held by python3 (pid 9, jupyter.service)", "Restart the host."
    ),
    "mismatch of packages": Case(
        only_libraries_updated,
        "error",
        f"the module installed for the running kernel is {VERSION}",
        "neither a reload nor a restart cures this",
    ),
    "missing headers": Case(
        missing_headers,
        "warning",
        f"headers (linux-headers-{OTHER_KERNEL}) are missing. After a restart",
        f"apt-get install linux-headers-{OTHER_KERNEL}",
    ),
    "failed DKMS build": Case(
        failed_build,
        "error",
        f"not built for the kernel {KERNEL} (dkms says added): the build failed",
        f"/var/lib/dkms/nvidia/{VERSION}/build/make.log",
    ),
    "kernel without its package": Case(
        other_kernel_without_package,
        "warning",
        f"No module of the driver is installed for the kernel {OTHER_KERNEL}",
        "Install the package",
    ),
    "other Fabric Manager": Case(
        lambda host: fabric_manager(host, "575.57.08"),
        "error",
        f"must be {VERSION} as the driver; it is 575.57.08",
        f"nvidia-fabricmanager-580 in the version {VERSION}",
    ),
    "no Fabric Manager": Case(FakeHost.switch, "error", "there is none", "systemctl enable --now"),
    "Fabric Manager down": Case(
        lambda host: fabric_manager(host, VERSION, "failed"),
        "error",
        "their Fabric Manager does not run",
        "systemctl enable --now nvidia-fabricmanager",
    ),
    "no nvidia-uvm": Case(
        lambda host: (host.root / "dev/nvidia-uvm").unlink(),
        "error",
        "no /dev/nvidia-uvm",
        "nvidia-modprobe -c 0 -u",
    ),
    "NVML broken": Case(
        lambda host: setattr(host, "nvml_status", 999),
        "error",
        "its library tells nothing. NVML says: nvmlInit_v2 failed with 999.",
        "nvidia-smi",
    ),
}


@pytest.mark.parametrize("name", DRIVER)
def test_driver(host: FakeHost, name: str) -> None:
    case = DRIVER[name]
    case.spoil(host)
    (finding,) = driver(host)
    assert finding.severity == case.severity
    assert case.problem in finding.problem
    assert case.remedy in finding.remedy


def test_the_remedy_unloads_all_that_use_the_module(host: FakeHost) -> None:
    updated_and_free(host)
    (finding,) = driver(host)
    unloaded = finding.remedy.partition("modprobe -r ")[2].partition(";")[0].split()
    names = [name.replace("_", "-") for name in _gpu_driver._LOADABLE]
    # nvidia-peermem, of hosts with InfiniBand, is one of them; the last one goes last.
    assert unloaded == [name for name in names if name.startswith("nvidia")]


def test_nvswitches_that_are_not_on_pci(host: FakeHost) -> None:
    def found() -> Finding:
        (finding,) = check_driver(host.gpus(), "13.0", managed=False, switched=True).findings
        return finding

    assert "as nvidia_driver_fabric_manager says; their Fabric Manager must be" in found().problem
    assert f"Install nvlink5-580 in the version {VERSION}" in found().remedy
    host.programs["nv-fabricmanager --version"] = f"Fabric Manager version is : {VERSION}\n"
    assert "does not run" in found().problem
    assert "needs nvlsm" in found().remedy
    host.programs["systemctl is-active nvidia-fabricmanager"] = "active\n"
    assert check_driver(host.gpus(), "13.0", managed=False, switched=True).findings == []


def test_without_modinfo_no_module_is_missed(host: FakeHost) -> None:
    for command in [command for command in host.programs if command.startswith("modinfo")]:
        del host.programs[command]
    host.dkms(None)
    assert driver(host) == []


def test_a_module_beside_dkms_will_do(host: FakeHost) -> None:
    """As from the signed packages of a distribution."""
    host.kernel(OTHER_KERNEL)
    assert driver(host) == []
    host.kernel(OTHER_KERNEL, module=None)
    assert driver(host)


def test_secure_boot_is_no_matter_once_the_module_is_loaded(host: FakeHost) -> None:
    host.secure_boot()
    host.own_key(enrolled=False)
    assert driver(host) == []
    host.load(None)
    host.nvml_status = 9
    assert driver(host)


def test_with_an_enrolled_key_secure_boot_is_not_blamed(host: FakeHost) -> None:
    not_loaded(host)
    host.secure_boot()
    host.own_key(enrolled=True)
    (finding,) = driver(host)
    assert "is installed and not loaded" in finding.problem


def test_what_a_role_will_cure_refuses_nothing(host: FakeHost) -> None:
    no_driver(host)
    (finding,) = driver(host, managed=True)
    assert finding.severity == "warning"


def test_a_host_as_it_is_before_its_driver_comes_is_not_refused(host: FakeHost) -> None:
    """With its card on the bus, and none of the driver's programs, devices and libraries."""
    host.load(None)
    host.programs.clear()
    for device in (host.root / "dev").glob("nvidia*"):
        device.unlink()

    def no_library() -> object:
        raise OSError("libnvidia-ml.so.1: cannot open shared object file")

    gpus = read_gpus(host.run_command, host.root, no_library)
    demand = Demand("qwen3", (0,), {}, 2**30, None)
    for managed, refused in ((True, False), (False, True)):
        seen = [check_driver(gpus, "13.0", managed), check_cards(gpus, {0})]
        seen.append(check_fit(gpus, [demand]))
        found = [finding.severity for each in seen for finding in each.findings]
        assert ("error" in found) is refused


def test_what_no_role_can_cure_refuses_all_the_same(host: FakeHost) -> None:
    secure_boot_unknown_key(host)
    (finding,) = driver(host, managed=True)
    assert finding.severity == "error"


def test_libraries_that_a_role_will_bring_refuse_nothing(host: FakeHost) -> None:
    def no_library() -> object:
        raise OSError("libnvidia-ml.so.1: cannot open shared object file")

    gpus = read_gpus(host.run_command, host.root, no_library)
    for managed, severity in ((True, "warning"), (False, "error")):
        (finding,) = check_driver(gpus, "13.0", managed).findings
        assert (finding.severity, "cannot open" in finding.problem) == (severity, True)


def test_libraries_that_break_refuse_all_the_same(host: FakeHost) -> None:
    host.libraries(VERSION)
    host.nvml_status = 999
    (finding,) = driver(host, managed=True)
    assert finding.severity == "error"


def test_signed_modules_that_a_role_will_bring_refuse_nothing(host: FakeHost) -> None:
    secure_boot_unknown_key(host)
    (finding,) = check_driver(host.gpus(), "13.0", managed=True, signed=True).findings
    assert finding.severity == "warning"
    assert "Secure Boot is on" in finding.problem


def test_a_key_of_the_host_says_nothing_of_modules_that_others_signed(host: FakeHost) -> None:
    secure_boot_unknown_key(host)
    host.kernel(KERNEL, signer="Canonical Ltd. Kernel Module Signing")
    host.dkms(None)
    (finding,) = driver(host)
    assert "is installed and not loaded" in finding.problem


def test_an_older_cuda_takes_an_older_driver(host: FakeHost) -> None:
    old_driver(host)
    assert driver(host, cuda="12.8") == []
    assert driver(host, cuda="") == []


def mig(host: FakeHost) -> None:
    host.cards[0].mig = 1


def pending(host: FakeHost) -> None:
    host.cards[0].rows = (0, 1, 1, 0)


def failed(host: FakeHost) -> None:
    host.cards[0].rows = (0, 1, 0, 1)


def volatile(host: FakeHost) -> None:
    host.cards[0].volatile = host.cards[0].aggregate = 2


def aggregate(host: FakeHost) -> None:
    host.cards[0].aggregate = 2


def lost(host: FakeHost) -> None:
    host.falls_off("0000:3b:00.0")
    host.cards[0].status = 15


def silent(host: FakeHost) -> None:
    lost(host)
    (host.root / "dev/kmsg").write_text("")


def unusable(host: FakeHost) -> None:
    host.cards[0].status = 16


def reset_since(host: FakeHost) -> None:
    host.xid("0000:3b:00.0", 79)


def sleepy(host: FakeHost) -> None:
    host.cards[0].persistence = 0


def no_log(host: FakeHost) -> None:
    (host.root / "dev/kmsg").unlink()


def no_card(host: FakeHost) -> None:
    (host.pci / "0000:3b:00.0/vendor").write_text("0x1002\n")
    host.cards.clear()


CARDS = {
    "none": Case(no_card, "error", "No NVIDIA GPU is on its bus", "vllm_variant: cpu"),
    "MIG on": Case(mig, "error", "cut into parts (MIG)", "nvidia-smi -i 0 -mig 0"),
    "ECC pending": Case(pending, "error", "when it is reset (pending)", "--gpu-reset"),
    "ECC failed": Case(failed, "error", "could not replace", "Have the card replaced"),
    "ECC since the start": Case(volatile, "warning", "2 uncorrectable", "Restart the host"),
    "ECC long ago": Case(aggregate, "advice", "2 uncorrectable memory errors in its life", "ECC"),
    "lost": Case(lost, "error", "has fallen off the bus (Xid 79", "gpu_lost.md"),
    "silent": Case(silent, "error", "does not answer on its bus", "Restart the host"),
    "unusable": Case(unusable, "error", "NVML says: the card must be reset.", "journalctl"),
    "was lost": Case(reset_since, "warning", "Xid 79 (it has fallen off", "card replaced"),
    "persistence off": Case(
        sleepy, "warning", "persistence mode off", "nvidia-smi --persistence-mode=1"
    ),
    "no kernel log": Case(no_log, "warning", "The kernel log cannot be read", "journalctl"),
}


@pytest.mark.parametrize("name", CARDS)
def test_card(host: FakeHost, name: str) -> None:
    case = CARDS[name]
    case.spoil(host)
    (finding,) = cards(host)
    assert finding.severity == case.severity
    assert case.problem in finding.problem
    assert case.remedy in finding.remedy


@pytest.mark.parametrize(("number", "grave"), [(13, False), (31, False), (48, True), (95, True)])
def test_errors_of_programs_are_not_those_of_the_card(
    host: FakeHost, number: int, grave: bool
) -> None:
    host.xid("0000:3b:00.0", number)
    assert bool(cards(host)) is grave


def test_cards_of_no_instance_are_left_alone(host: FakeHost) -> None:
    host.card("0000:5e:00.0", mig=1)
    assert cards(host, 0) == []
    (finding,) = cards(host, 0, 1)
    assert finding.variable == "gpus[1]"


def test_a_card_gone_from_the_bus_is_lost(host: FakeHost) -> None:
    host.card("0000:5e:00.0")
    host.xid("0000:86:00.0", 79)
    (finding,) = cards(host, 0, 1)
    assert "GPU 0000:86:00.0 has fallen off the bus" in finding.problem


def test_shared_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    block = 4096

    def mounted(size_mib: int, free_mib: int) -> list[Finding]:
        blocks = [part * 2**20 // block for part in (size_mib, free_mib)]
        status = (block, block, blocks[0], blocks[1], blocks[1], 0, 0, 0, 0, 255)
        monkeypatch.setattr(os, "statvfs", lambda _path: os.statvfs_result(status))
        return check_shared_memory(2, tmp_path).findings

    assert mounted(2048, 300) == []
    (finding,) = mounted(64, 64)
    assert "has 64 MiB; 2 instances need 2.0 GiB" in finding.problem
    assert "remount,size=" in finding.remedy
    (finding,) = mounted(4096, 10)
    assert "has 10 MiB free of 4.0 GiB" in finding.problem
    assert "There is no" in check_shared_memory(1, tmp_path / "none").findings[0].problem
