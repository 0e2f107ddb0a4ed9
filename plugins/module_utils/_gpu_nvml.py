# Copyright: The gpufleet maintainers
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What NVML, the library of NVIDIA's driver, tells of each card: asked by ctypes, never by text.

The structures are those of nvml.h. A card that does not support a question answers None to it.
"""

from __future__ import annotations

import ctypes
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

LIBRARY = "libnvidia-ml.so.1"
DRIVER_NOT_LOADED, LOST, OTHER_VERSION = 9, 15, 18
_NOT_FOUND, _TOO_SMALL, _NO_FUNCTION = 6, 7, 13
_MEANING = {
    _NOT_FOUND: "it does not know the card",
    DRIVER_NOT_LOADED: "no driver is loaded",
    LOST: "the card is lost",
    16: "the card must be reset",
    OTHER_VERSION: "the loaded module is of another version than the library",
}
_TEXT = 96  # bytes; NVML's longest text
_UNCORRECTED, _VOLATILE, _AGGREGATE = 1, 0, 1
_UNKNOWN = 2**64 - 1
_MEMORY_VERSION = 2 << 24
_PATH_VERSION = re.compile(r"/libnvidia-ml\.so\.(\d+\.[\d.]+)$", re.MULTILINE)
Value = TypeVar("Value")


class NvmlError(Exception):
    """NVML refused; `status` is its number for why."""

    def __init__(self, function: str, status: int) -> None:
        why = _MEANING.get(status, f"{function} failed with {status}")
        super().__init__(f"NVML says: {why}")
        self.status = status


@dataclass(frozen=True)
class Ecc:
    """Uncorrected memory errors since the driver was loaded and ever, and what they led to."""

    volatile: int | None
    aggregate: int | None
    pending: bool | None
    failed: bool | None


@dataclass(frozen=True)
class Card:
    """One card as NVML sees it; sizes are bytes, `holders` process numbers with their memory."""

    name: str | None = None
    uuid: str | None = None
    memory_total: int | None = None
    memory_used: int | None = None
    compute_capability: str | None = None
    mig: bool | None = None
    ecc: Ecc | None = None
    persistence: bool | None = None
    holders: dict[int, int | None] = field(default_factory=dict)
    error: str = ""


@dataclass(frozen=True)
class Nvml:
    """What NVML tells: versions of driver and CUDA, cards by address, and why where it does not."""

    driver: str | None = None
    cuda: str | None = None
    cards: dict[str, Card] = field(default_factory=dict)
    status: int = 0
    error: str = ""


class _Memory(ctypes.Structure):
    _fields_ = [("version", ctypes.c_uint)] + [
        (name, ctypes.c_ulonglong) for name in ("total", "reserved", "free", "used")
    ]


class _Process(ctypes.Structure):
    _fields_ = [
        ("pid", ctypes.c_uint),
        ("memory", ctypes.c_ulonglong),
        ("gpu_instance", ctypes.c_uint),
        ("compute_instance", ctypes.c_uint),
    ]


class _Pci(ctypes.Structure):
    _fields_ = [
        ("legacy", ctypes.c_char * 16),
        *((name, ctypes.c_uint) for name in ("domain", "bus", "device", "kind", "subsystem")),
        ("address", ctypes.c_char * 32),
    ]


def load() -> object:
    """Load the library. Raises OSError where there is none."""
    return ctypes.CDLL(LIBRARY)


def version_of_file(maps: Path = Path("/proc/self/maps")) -> str | None:
    """Version that the name of the library's file tells, once it is loaded."""
    try:
        found = _PATH_VERSION.search(maps.read_text())
    except OSError:
        return None
    return found.group(1) if found else None


def read_nvml(library: object, addresses: list[str]) -> Nvml:
    """Ask for the driver, every card that NVML lists, and those at `addresses` of the bus."""
    ask = _Asker(library)
    try:
        ask("nvmlInit_v2")
    except NvmlError as error:
        return Nvml(status=error.status, error=str(error))
    try:
        cards = _optional(lambda: _listed(ask)) or {}
        for address in addresses:
            if address not in cards:
                cards[address] = _unlisted(ask, address)
        return Nvml(
            driver=_optional(lambda: ask.text("nvmlSystemGetDriverVersion")),
            cuda=_optional(lambda: _cuda(ask)),
            cards=cards,
        )
    finally:
        _optional(lambda: ask("nvmlShutdown"))


class _Asker:
    """Calls functions of the library; a status other than 0 is an NvmlError."""

    def __init__(self, library: object) -> None:
        self._library = library

    def __call__(self, name: str, *arguments: object) -> None:
        try:
            function = getattr(self._library, name)
        except AttributeError:
            raise NvmlError(name, _NO_FUNCTION) from None
        status = int(function(*arguments))
        if status:
            raise NvmlError(name, status)

    def text(self, name: str, *arguments: object) -> str:
        """What a function writes as a text."""
        buffer = ctypes.create_string_buffer(_TEXT)
        self(name, *arguments, buffer, ctypes.c_uint(_TEXT))
        return buffer.value.decode(errors="replace")

    def numbers(self, name: str, count: int, *arguments: object) -> list[int]:
        """What a function writes as `count` unsigned numbers."""
        values = [ctypes.c_uint() for _number in range(count)]
        self(name, *arguments, *map(ctypes.byref, values))
        return [value.value for value in values]


def _optional(read: Callable[[], Value]) -> Value | None:
    """What `read` returns, None where the card or the library does not tell."""
    try:
        return read()
    except NvmlError:
        return None


def _listed(ask: _Asker) -> dict[str, Card]:
    found = {}
    for index in range(ask.numbers("nvmlDeviceGetCount_v2", 1)[0]):
        handle, pci = ctypes.c_void_p(), _Pci()
        try:
            ask("nvmlDeviceGetHandleByIndex_v2", ctypes.c_uint(index), ctypes.byref(handle))
            ask("nvmlDeviceGetPciInfo_v3", handle, ctypes.byref(pci))
        except NvmlError:
            continue  # lost; its address is asked for below
        # `00000000:3B:00.0`, where sysfs writes 0000:3b:00.0
        domain, _colon, rest = pci.address.decode().lower().partition(":")
        found[f"{int(domain, 16):04x}:{rest}"] = _card(ask, handle)
    return found


def _unlisted(ask: _Asker, address: str) -> Card:
    handle = ctypes.c_void_p()
    name = "nvmlDeviceGetHandleByPciBusId_v2"
    try:
        ask(name, ctypes.c_char_p(address.encode()), ctypes.byref(handle))
    except NvmlError as error:
        return Card(error=str(error))
    return _card(ask, handle)


def _card(ask: _Asker, handle: ctypes.c_void_p) -> Card:
    def number(name: str) -> int | None:
        values = _optional(lambda: ask.numbers(name, 1, handle))
        return values[0] if values else None

    memory = _optional(lambda: _memory(ask, handle))
    capability = _optional(lambda: ask.numbers("nvmlDeviceGetCudaComputeCapability", 2, handle))
    mig = _optional(lambda: ask.numbers("nvmlDeviceGetMigMode", 2, handle))
    persistence = number("nvmlDeviceGetPersistenceMode")
    return Card(
        name=_optional(lambda: ask.text("nvmlDeviceGetName", handle)),
        uuid=_optional(lambda: ask.text("nvmlDeviceGetUUID", handle)),
        memory_total=memory.total if memory else None,
        memory_used=memory.used if memory else None,
        compute_capability="{}.{}".format(*capability) if capability else None,
        mig=bool(mig[0]) if mig else None,
        ecc=_ecc(ask, handle),
        persistence=None if persistence is None else bool(persistence),
        holders=_optional(lambda: _holders(ask, handle)) or {},
    )


def _memory(ask: _Asker, handle: ctypes.c_void_p) -> _Memory:
    memory = _Memory(version=_MEMORY_VERSION | ctypes.sizeof(_Memory))
    ask("nvmlDeviceGetMemoryInfo_v2", handle, ctypes.byref(memory))
    return memory


def _ecc(ask: _Asker, handle: ctypes.c_void_p) -> Ecc | None:
    def errors(since: int) -> int:
        count = ctypes.c_ulonglong()
        kinds = (ctypes.c_uint(_UNCORRECTED), ctypes.c_uint(since))
        ask("nvmlDeviceGetTotalEccErrors", handle, *kinds, ctypes.byref(count))
        return count.value

    volatile = _optional(lambda: errors(_VOLATILE))
    aggregate = _optional(lambda: errors(_AGGREGATE))
    rows = _optional(lambda: ask.numbers("nvmlDeviceGetRemappedRows", 4, handle))
    if rows:
        return Ecc(volatile, aggregate, bool(rows[2]), bool(rows[3]))
    # Cards before Ampere retire pages in place of rows.
    pages = _optional(lambda: ask.numbers("nvmlDeviceGetRetiredPagesPendingStatus", 1, handle))
    if volatile is None and aggregate is None and pages is None:
        return None
    return Ecc(volatile, aggregate, bool(pages[0]) if pages else None, None)


def _holders(ask: _Asker, handle: ctypes.c_void_p) -> dict[int, int | None]:
    name = "nvmlDeviceGetComputeRunningProcesses_v3"
    count = ctypes.c_uint(0)
    try:
        ask(name, handle, ctypes.byref(count), None)
        return {}
    except NvmlError as error:
        if error.status != _TOO_SMALL:
            raise
    # More may start meanwhile.
    count.value = 2 * count.value + 8
    processes = (_Process * count.value)()
    ask(name, handle, ctypes.byref(count), processes)
    return {
        process.pid: None if process.memory == _UNKNOWN else process.memory
        for process in processes[: count.value]
    }


def _cuda(ask: _Asker) -> str:
    (number,) = ask.numbers("nvmlSystemGetCudaDriverVersion_v2", 1)
    return f"{number // 1000}.{number % 1000 // 10}"
