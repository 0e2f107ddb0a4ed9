"""What is known of GPUs: with a driver, without one, and where one of its parts fails."""

from __future__ import annotations

import ctypes
import json
import os
import shutil
from pathlib import Path
from typing import Any

import pytest
import yaml
from ansible.module_utils.testing import patch_module_args
from ansible_collections.gpufleet.llm.plugins.module_utils import _gpu_nvml
from ansible_collections.gpufleet.llm.plugins.module_utils._gpu_driver import (
    read_driver,
    unbuilt_kernels,
)
from ansible_collections.gpufleet.llm.plugins.module_utils._gpu_facts import read_gpus
from ansible_collections.gpufleet.llm.plugins.modules import gpu_facts

from tests.unit.gpu.fake_host import GIB, KERNEL, OTHER_KERNEL, VERSION, FakeHost, FakeNvml

ROOT = Path(__file__).resolve().parents[3]


def documented(contains: dict[str, Any], prefix: str = "") -> set[str]:
    """Paths of the values that a module says that it returns."""
    paths = set()
    for name, value in contains.items():
        paths |= {prefix + name, *documented(value.get("contains", {}), f"{prefix}{name}.")}
    return paths


def returned(facts: object, known: set[str], prefix: str = "") -> set[str]:
    """Paths of the values in facts, as deep as what is documented."""
    if isinstance(facts, list):
        return set().union(*(returned(entry, known, prefix) for entry in facts))
    if not isinstance(facts, dict) or not any(path.startswith(prefix) for path in known):
        return set()
    within = (returned(value, known, f"{prefix}{name}.") for name, value in facts.items())
    return {prefix + name for name in facts}.union(*within)


def test_documented_are_those_that_are_returned(host: FakeHost) -> None:
    host.cards[0].processes = {77: 2 * GIB}
    known = documented(yaml.safe_load(gpu_facts.RETURN)["gpus"]["contains"])
    assert returned(host.gpus().as_dict(), known) == known


def test_the_example_of_a_real_card_has_every_value() -> None:
    known = documented(yaml.safe_load(gpu_facts.RETURN)["gpus"]["contains"])
    page = (ROOT / "docs" / "gpu-facts.md").read_text()
    example = json.loads(page.split("```json\n")[1].split("```")[0])
    # No process was on that card.
    assert returned(example, known) == {path for path in known if ".processes." not in path}


def test_a_card_with_its_driver(host: FakeHost) -> None:
    host.cards[0].used = 2 * GIB
    host.cards[0].aggregate = 3
    host.cards[0].processes = {77: 2 * GIB, 78: 2**64 - 1}
    host.process(77, "VLLM::EngineCor", "vllm@qwen3.service", "/dev/nvidia0", "/dev/null")
    found = host.gpus().as_dict()
    (card,) = found.pop("cards")
    assert card == {
        "index": 0,
        "address": "0000:3b:00.0",
        "device_id": "0x2335",
        "numa_node": 0,
        "answers": True,
        "xids": [],
        "name": "NVIDIA H200",
        "uuid": "GPU-1",
        "memory_total": 141 * GIB,
        "memory_used": 2 * GIB,
        "compute_capability": "9.0",
        "mig": False,
        "ecc": {"volatile": 0, "aggregate": 3, "pending": False, "failed": False},
        "persistence": True,
        "processes": [
            {
                "pid": 77,
                "name": "VLLM::EngineCor",
                "unit": "vllm@qwen3.service",
                "memory": 2 * GIB,
            },
            {"pid": 78, "name": "", "unit": "", "memory": None},
        ],
        "error": "",
    }
    driver = found.pop("driver")
    assert driver["devices"] == ["nvidia-uvm", "nvidia0", "nvidiactl"]
    assert [holder["pid"] for holder in driver["holders"]] == [77]
    assert (driver["loaded"], driver["open_module"], driver["dkms"]) == (VERSION, True, VERSION)
    assert driver["kernels"] == [
        {
            "release": KERNEL,
            "running": True,
            "headers": True,
            "module": VERSION,
            "signer": "DKMS key",
            "dkms": "installed",
        }
    ]
    assert found == {
        "lost": [],
        "switches": [],
        "user_space": VERSION,
        "cuda": "13.0",
        "nvml_status": 0,
        "nvml_error": "",
        "log_error": "",
        "fabric_manager": None,
        "fabric_manager_active": False,
    }


def test_without_a_driver(host: FakeHost) -> None:
    shutil.rmtree(host.root / "proc/driver")
    for device in (host.root / "dev").glob("nvidia*"):
        device.unlink()
    host.programs.clear()

    def no_library() -> object:
        raise OSError("libnvidia-ml.so.1: cannot open shared object file")

    found = read_gpus(host.run_command, host.root, no_library)
    assert [(card.address, card.name) for card in found.cards] == [("0000:3b:00.0", None)]
    assert (found.driver.loaded, found.driver.devices, found.user_space) == (None, [], None)
    assert found.nvml_error.startswith("libnvidia-ml.so.1: cannot open")


def test_nothing_at_all(tmp_path: Path) -> None:
    def nothing(_command: list[str], **_options: object) -> tuple[int, str, str]:
        raise FileNotFoundError

    found = read_gpus(nothing, tmp_path)
    assert (found.cards, found.lost, found.driver.kernels) == ([], [], [])
    assert "dev/kmsg: No such file" in found.log_error


def test_cards_and_switches_in_the_order_of_the_bus(host: FakeHost) -> None:
    host.card("0000:1a:00.0", node=1)
    host.card("0001:00:00.0", node=-1)
    host.switch()
    host.programs["nv-fabricmanager --version"] = f"Fabric Manager version is : {VERSION}\n"
    host.programs["systemctl is-active nvidia-fabricmanager"] = "active\n"
    found = host.gpus()
    assert [(card.index, card.address, card.numa_node) for card in found.cards] == [
        (0, "0000:1a:00.0", 1),
        (1, "0000:3b:00.0", 0),
        (2, "0001:00:00.0", None),
    ]
    assert [card.uuid for card in found.cards] == ["GPU-2", "GPU-1", "GPU-3"]
    assert found.switches == ["0000:05:00.0"]
    assert (found.fabric_manager, found.fabric_manager_active) == (VERSION, True)


def test_a_card_that_only_the_driver_knows(host: FakeHost) -> None:
    """As where the bus is hidden."""
    shutil.rmtree(host.pci / "0000:3b:00.0")
    (card,) = host.gpus().cards
    assert (card.address, card.name, card.answers) == ("0000:3b:00.0", "NVIDIA H200", True)


def test_a_driver_that_only_its_library_tells(host: FakeHost) -> None:
    host.load(None)
    assert host.gpus().driver.loaded == VERSION


def test_a_lost_card(host: FakeHost) -> None:
    host.card("0000:5e:00.0")
    host.cards[0].status = 15
    host.falls_off("0000:3b:00.0")
    found = host.gpus()
    lost, well = found.cards
    assert found.lost == ["0000:3b:00.0"]
    assert (lost.answers, lost.xids, lost.error) == (False, [79], "NVML says: the card is lost")
    assert (well.name, well.error) == ("NVIDIA H200", "")


def test_a_card_that_the_driver_does_not_know(host: FakeHost) -> None:
    host.cards.clear()
    assert host.gpus().cards[0].error == "NVML says: it does not know the card"


@pytest.mark.parametrize(
    ("status", "words"),
    [(9, "no driver is loaded"), (18, "of another version"), (999, "nvmlInit_v2 failed with 999")],
)
def test_nvml_that_does_not_start(host: FakeHost, status: int, words: str) -> None:
    host.nvml_status = status
    found = host.gpus()
    assert found.nvml_status == status
    assert words in found.nvml_error
    assert found.cards[0].name is None


def test_an_old_library_tells_what_it_can(host: FakeHost) -> None:
    class Old(FakeNvml):
        """Without functions that came later."""

        def __getattribute__(self, name: str) -> Any:
            if name in ("nvmlDeviceGetMemoryInfo_v2", "nvmlDeviceGetMigMode"):
                raise AttributeError(name)
            return super().__getattribute__(name)

    told = _gpu_nvml.read_nvml(Old(host.cards), [])
    card = told.cards["0000:3b:00.0"]
    assert (card.name, card.memory_total, card.mig) == ("NVIDIA H200", None, None)


def test_a_card_that_retires_pages(host: FakeHost) -> None:
    host.cards[0].rows, host.cards[0].pages_pending = None, 1
    ecc = host.gpus().cards[0].ecc
    assert ecc
    assert (ecc.pending, ecc.failed) == (True, None)


def test_structures_are_as_large_as_those_of_nvml() -> None:
    """Of nvml.h: nvmlMemory_v2_t carries its size in its version, 0x02000028."""
    assert ctypes.sizeof(_gpu_nvml._Memory) == 40
    assert ctypes.sizeof(_gpu_nvml._Process) == 24
    assert ctypes.sizeof(_gpu_nvml._Pci) == 68


def test_version_by_the_name_of_the_library(tmp_path: Path) -> None:
    maps = tmp_path / "maps"
    lines = "7f01 r-xp 0 08:01 5  /usr/lib/x86_64-linux-gnu/{}\n"
    maps.write_text(lines.format("libc.so.6") + lines.format("libnvidia-ml.so.575.57.08"))
    assert _gpu_nvml.version_of_file(maps) == "575.57.08"
    maps.write_text(lines.format("libc.so.6"))
    assert _gpu_nvml.version_of_file(maps) is None


@pytest.mark.parametrize(
    "line",
    [
        f"nvidia/{VERSION}, {KERNEL}, x86_64: installed",
        f"nvidia, {VERSION}, {KERNEL}, x86_64: installed",
        f"nvidia-current/{VERSION}, {KERNEL}, x86_64: installed (original_module exists)",
        f"zfs/2.1, {KERNEL}, x86_64: built\nnvidia-open/{VERSION}, {KERNEL}, x86_64: installed",
    ],
)
def test_lines_of_dkms(host: FakeHost, line: str) -> None:
    host.programs["dkms status"] = line
    driver = read_driver(host.run_command, host.root)
    assert (driver.dkms, driver.kernels[0].dkms) == (VERSION, "installed")


@pytest.mark.parametrize("other", ["nvidia-fs/2.26.6", "nvidia-peer-memory/1.3"])
def test_other_modules_of_nvidia_are_not_the_driver(host: FakeHost, other: str) -> None:
    """As with GPUDirect Storage, whose module is built after the driver's, or in its absence."""
    host.kernel(OTHER_KERNEL, module=None)
    host.dkms({KERNEL: "installed", OTHER_KERNEL: "built"})
    built = "".join(f"\n{other}, {name}, x86_64: installed" for name in (KERNEL, OTHER_KERNEL))
    host.programs["dkms status"] += built
    driver = read_driver(host.run_command, host.root)
    assert {kernel.dkms for kernel in driver.kernels if not kernel.module} == {"built"}
    host.programs["dkms status"] = built.strip()
    assert read_driver(host.run_command, host.root).dkms is None


def test_dkms_that_has_built_nothing(host: FakeHost) -> None:
    host.dkms({})
    driver = read_driver(host.run_command, host.root)
    assert (driver.dkms, driver.kernels[0].dkms) == (VERSION, None)
    host.programs["dkms status"] = f"zfs/2.1, {KERNEL}, x86_64: installed"
    assert read_driver(host.run_command, host.root).dkms is None


@pytest.mark.parametrize("name", ["nvidia-current-open", "nvidia-current"])
def test_a_module_under_debians_name(host: FakeHost, name: str) -> None:
    host.kernel(KERNEL, module=None)
    host.programs[f"modinfo -k {KERNEL} -F version {name}"] = f"{VERSION}\n"
    host.programs[f"modinfo -k {KERNEL} -F signer {name}"] = "Debian\n"
    (kernel,) = host.gpus().driver.kernels
    assert (kernel.module, kernel.signer) == (VERSION, "Debian")


def test_the_log_of_a_build_is_kept_where_a_module_is_missing(host: FakeHost) -> None:
    host.build_log("\n".join(f"line {number}" for number in range(100)))
    host.build_log("of before\n", "nvidia-current/535.261.03/6.1.0-40-amd64/x86_64/log")
    log = host.root / "var/lib/dkms/nvidia-current/535.261.03/6.1.0-40-amd64/x86_64/log/make.log"
    os.utime(log, (0, 0))
    assert host.gpus().driver.build_log == []
    host.kernel(OTHER_KERNEL, module=None)
    assert host.gpus().driver.build_log == [f"line {number}" for number in range(85, 100)]


def test_kernels_that_dkms_has_left_out(host: FakeHost) -> None:
    assert unbuilt_kernels(host.run_command, host.root) == []
    host.kernel(OTHER_KERNEL, module=None)
    assert unbuilt_kernels(host.run_command, host.root) == [OTHER_KERNEL]
    host.kernel(OTHER_KERNEL)
    host.dkms({KERNEL: "installed", OTHER_KERNEL: "built"})
    assert unbuilt_kernels(host.run_command, host.root) == [OTHER_KERNEL]
    host.remove_headers(OTHER_KERNEL)
    assert unbuilt_kernels(host.run_command, host.root) == []


def test_where_dkms_has_nothing_of_the_driver_it_is_not_asked_to_build(host: FakeHost) -> None:
    host.kernel(OTHER_KERNEL, module=None)
    host.programs["dkms status"] = f"zfs/2.1, {KERNEL}, x86_64: installed"
    assert unbuilt_kernels(host.run_command, host.root) == []


def test_of_a_log_the_errors_are_kept(host: FakeHost) -> None:
    """Other files are still compiled after the first error, by command lines without an end."""
    error = "nv-pci.c:223:9: error: too few arguments to function 'pci_resize_resource'"
    ended = "make[2]: *** [Makefile:2065: build] Error 2"
    noise = "cc -Werror=strict-prototypes " + "-Werror " * 200
    host.build_log("\n".join(["  CC nv.o", error, *[noise] * 50, ended, "make: Leaving directory"]))
    host.kernel(OTHER_KERNEL, module=None)
    assert host.gpus().driver.build_log == [error, ended]


def test_loaded_modules_in_the_order_of_their_removal(host: FakeHost) -> None:
    assert host.gpus().driver.modules == []
    for name in ("nouveau", "nvidia", "nvidia_drm", "nvidia_modeset", "nvidia_uvm", "ext4"):
        (host.root / "sys/module" / name).mkdir(parents=True)
    assert host.gpus().driver.modules == [
        "nvidia_uvm",
        "nvidia_drm",
        "nvidia_modeset",
        "nvidia",
        "nouveau",
    ]


def test_a_driver_of_the_run_file(host: FakeHost) -> None:
    assert not host.gpus().driver.runfile
    (host.root / "usr/bin").mkdir(parents=True)
    (host.root / "usr/bin/nvidia-uninstall").touch()
    assert host.gpus().driver.runfile


def test_a_fabric_manager_where_no_switch_is_on_the_bus(host: FakeHost) -> None:
    """As with B200."""
    host.programs["nv-fabricmanager --version"] = f"Fabric Manager version is : {VERSION}\n"
    found = host.gpus()
    assert (found.switches, found.fabric_manager) == ([], VERSION)


def test_a_kernel_that_was_removed_counts_no_more(host: FakeHost) -> None:
    (host.root / "lib/modules" / OTHER_KERNEL / "updates").mkdir(parents=True)
    assert [kernel.release for kernel in host.gpus().driver.kernels] == [KERNEL]


def test_a_proprietary_module(host: FakeHost) -> None:
    (host.root / "proc/driver/nvidia/version").write_text(
        "NVRM version: NVIDIA UNIX x86_64 Kernel Module  535.183.01  Sun May 12 19:39:15 UTC 2024\n"
    )
    driver = host.gpus().driver
    assert (driver.loaded, driver.open_module) == ("535.183.01", False)


def test_the_module_returns_it_and_sets_no_fact(
    host: FakeHost, capsys: pytest.CaptureFixture[str]
) -> None:
    with patch_module_args({"root": str(host.root)}), pytest.raises(SystemExit) as ended:
        gpu_facts.main()
    assert ended.value.code == 0
    result = json.loads(capsys.readouterr().out)
    assert result["gpus"]["cards"][0]["address"] == "0000:3b:00.0"
    assert result["gpus"]["nvml_error"] == f"NVML tells nothing of {host.root}"
    assert result["changed"] is False
    assert "ansible_facts" not in result
