# Copyright: The gpufleet maintainers
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""All that the roles need to know about the GPUs of a host, gathered from bus, driver and NVML."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from ansible_collections.gpufleet.llm.plugins.module_utils import _gpu_bus as bus
from ansible_collections.gpufleet.llm.plugins.module_utils import _gpu_nvml as nvml
from ansible_collections.gpufleet.llm.plugins.module_utils._gpu_driver import (
    Driver,
    fabric_manager,
    read_driver,
)
from ansible_collections.gpufleet.llm.plugins.module_utils._host_finding import RunCommand
from ansible_collections.gpufleet.llm.plugins.module_utils._host_process import (
    Process,
    read_process,
)

Load = Callable[[], object]


@dataclass(frozen=True)
class Holder:
    """A process on a card, and the bytes of the card's memory that it has, None where untold."""

    pid: int
    name: str
    unit: str
    memory: int | None


@dataclass(frozen=True)
class Gpu:
    """One card: from the bus, from the kernel log, and from NVML."""

    index: int
    address: str
    device_id: str
    numa_node: int | None
    answers: bool
    xids: list[int]
    name: str | None
    uuid: str | None
    memory_total: int | None
    memory_used: int | None
    compute_capability: str | None
    mig: bool | None
    ecc: nvml.Ecc | None
    persistence: bool | None
    processes: list[Holder]
    error: str


@dataclass(frozen=True)
class Gpus:
    """The GPUs of a host and their driver."""

    cards: list[Gpu]
    lost: list[str]
    switches: list[str]
    driver: Driver
    user_space: str | None
    cuda: str | None
    nvml_status: int
    nvml_error: str
    log_error: str
    fabric_manager: str | None
    fabric_manager_active: bool

    def as_dict(self) -> dict[str, Any]:
        """The facts as a module returns them."""
        return asdict(self)


def read_gpus(run_command: RunCommand, root: Path = Path("/"), load: Load | None = None) -> Gpus:
    """Look at this host. Files are read below `root`; `load` gives NVML's library.

    Without `load`, the host's own is asked, which tells of another `root` nothing.
    """
    pci = root / "sys/bus/pci/devices"
    devices, switches = bus.gpus(pci), bus.switches(pci)
    try:
        errors, log_error = bus.xids(root / "dev/kmsg"), ""
    except OSError as error:
        errors, log_error = {}, f"{root / 'dev/kmsg'}: {error.strerror}"
    told, user_space = _ask_nvml(root, load, [device.address for device in devices])
    driver = read_driver(run_command, root)
    known = {device.address: device for device in devices}
    addresses = sorted({*known, *told.cards})
    manager, active = fabric_manager(run_command)
    return Gpus(
        cards=[
            _gpu(
                index,
                known.get(address) or bus.Device(address, "", None, answers=True),
                errors.get(address, []),
                told.cards.get(address, nvml.Card()),
                root / "proc",
            )
            for index, address in enumerate(addresses)
        ],
        lost=bus.fallen(errors, pci),
        switches=[switch.address for switch in switches],
        # Where /proc hides the driver, its library tells.
        driver=replace(driver, loaded=driver.loaded or told.driver),
        user_space=user_space,
        cuda=told.cuda,
        nvml_status=told.status,
        nvml_error=told.error,
        log_error=log_error,
        fabric_manager=manager,
        fabric_manager_active=active,
    )


def _ask_nvml(root: Path, load: Load | None, addresses: list[str]) -> tuple[nvml.Nvml, str | None]:
    """What NVML tells, and the version of the driver's user space."""
    if load is None and root != Path("/"):
        return nvml.Nvml(error=f"NVML tells nothing of {root}"), None
    try:
        library = (load or nvml.load)()
    except OSError as error:
        return nvml.Nvml(error=str(error)), None
    told = nvml.read_nvml(library, addresses)
    # NVML answers with the version of both, so only where they agree.
    return told, told.driver or nvml.version_of_file(root / "proc/self/maps")


def _gpu(index: int, device: bus.Device, xids: list[int], card: nvml.Card, proc: Path) -> Gpu:
    holders = []
    for pid, memory in card.holders.items():
        process = _process(proc, pid)
        holders.append(Holder(pid, process.name, process.unit, memory))
    return Gpu(
        index=index,
        address=device.address,
        device_id=device.device_id,
        numa_node=device.numa_node,
        answers=device.answers,
        xids=xids,
        name=card.name,
        uuid=card.uuid,
        memory_total=card.memory_total,
        memory_used=card.memory_used,
        compute_capability=card.compute_capability,
        mig=card.mig,
        ecc=card.ecc,
        persistence=card.persistence,
        processes=holders,
        error=card.error,
    )


def _process(proc: Path, pid: int) -> Process:
    try:
        return read_process(proc / str(pid))
    except OSError:
        return Process(pid, "", "")  # it ended meanwhile, or runs in a container
