# Copyright: The gpufleet maintainers
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Is each port that we will listen on free, or held by the very unit that is to have it?"""

from __future__ import annotations

import ipaddress
import re
import struct
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Union

from ansible_collections.gpufleet.llm.plugins.module_utils._host_finding import Finding, Seen
from ansible_collections.gpufleet.llm.plugins.module_utils._host_process import (
    Process,
    read_process,
)

_LISTEN = "0A"
_INSTANCES = Path("/etc/systemd/system/vllm.target.wants")
_SOCKET = re.compile(r"socket:\[(\d+)\]")
Address = Union[ipaddress.IPv4Address, ipaddress.IPv6Address]


@dataclass(frozen=True)
class Port:
    """A port that `unit` will listen on at `address`, and the variable that says so."""

    port: int
    address: str
    unit: str
    variable: str


@dataclass(frozen=True)
class Listener:
    """A socket on which something listens now; the inode tells its processes."""

    port: int
    address: Address
    inode: str


def listeners(proc: Path = Path("/proc")) -> list[Listener]:
    """Every listening TCP socket of this host."""
    found = []
    for table in (proc / "net/tcp", proc / "net/tcp6"):
        if not table.exists():
            continue  # a kernel without IPv6
        for line in table.read_text().splitlines()[1:]:
            fields = line.split()
            local, state, inode = fields[1], fields[3], fields[9]
            if state == _LISTEN:
                address, _colon, port = local.rpartition(":")
                found.append(Listener(int(port, 16), _address(address), inode))
    return found


def processes_of(inodes: set[str], proc: Path = Path("/proc")) -> dict[str, list[Process]]:
    """Processes that have each of the sockets open, by inode."""
    found: dict[str, list[Process]] = {}
    for entry in proc.iterdir():
        if not entry.name.isdigit():
            continue
        try:
            open_here = inodes.intersection(_sockets(entry))
            if open_here:
                process = read_process(entry)
                for inode in open_here:
                    found.setdefault(inode, []).append(process)
        except OSError:
            continue  # it ended meanwhile
    return found


def check_ports(
    ports: Iterable[Port], proc: Path = Path("/proc"), instances: Path = _INSTANCES
) -> Seen:
    """Find ports that something else than their own unit listens on.

    `instances` is the directory that names the instances which the host starts now.
    """
    wanted = list(ports)
    units = {port.unit for port in wanted}
    leaving = {link.name for link in instances.glob("vllm@*.service")} - units
    now = listeners(proc)
    taken = {port: [item for item in now if _collide(port, item)] for port in wanted}
    inodes = {item.inode for items in taken.values() for item in items}
    holders = processes_of(inodes, proc) if inodes else {}
    seen = Seen("")
    texts = []
    for port, items in taken.items():
        found = [process for item in items for process in holders.get(item.inode, [])]
        ours = items and any(process.unit == port.unit for process in found)
        # The rollout stops the instances that are gone before it starts any.
        freed = port.unit.startswith("vllm@") and all(
            any(process.unit in leaving for process in holders.get(item.inode, []))
            for item in items
        )
        held = "taken" if items and not freed else "free"
        texts.append(f"{port.port} {port.unit if ours else held}")
        if items and not ours and not freed:
            seen.findings.append(_finding(port, found[0] if found else None))
    seen.text = ", ".join(texts)
    return seen


def _finding(port: Port, holder: Process | None) -> Finding:
    if holder is None:
        who, stop = (
            "a process that /proc does not show",
            f"Find it: ss -tlnp sport = :{port.port}; stop it",
        )
    else:
        unit = f", {holder.unit}" if holder.unit else ""
        who = f"{holder.name} (pid {holder.pid}{unit})"
        service = holder.unit.endswith(".service")
        stop = f"systemctl disable --now {holder.unit}" if service else f"kill {holder.pid}"
        stop = f"Stop it: {stop}"
    return Finding(
        port.variable,
        f"Port {port.port} is held by {who}; {port.unit} needs it.",
        f"{stop}. Or set {port.variable} to a free port.",
    )


def _collide(port: Port, listener: Listener) -> bool:
    if port.port != listener.port:
        return False
    wanted = ipaddress.ip_address("127.0.0.1" if port.address == "localhost" else port.address)
    # An open IPv6 wildcard takes the IPv4 port as well.
    anywhere = wanted.is_unspecified or listener.address.is_unspecified
    return anywhere or wanted == listener.address


def _address(text: str) -> Address:
    """Address from the kernel's tables: hexadecimal words in the processor's byte order."""
    words = struct.pack(
        f"={len(text) // 8}I", *(int(text[i : i + 8], 16) for i in range(0, len(text), 8))
    )
    address = ipaddress.ip_address(words)
    return (address.ipv4_mapped or address) if address.version == 6 else address


def _sockets(entry: Path) -> Iterator[str]:
    """Inodes of the sockets that a process has open."""
    for link in (entry / "fd").iterdir():
        try:
            found = _SOCKET.match(str(link.readlink()))
        except FileNotFoundError:
            continue  # it was closed meanwhile
        if found:
            yield found.group(1)
