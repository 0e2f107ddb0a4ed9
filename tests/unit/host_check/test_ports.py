"""Ports that this process really holds, and control groups from a fake /proc."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from ansible_collections.gpufleet.llm.plugins.module_utils._host_ports import (
    Port,
    check_ports,
    listeners,
)

VARIABLE = "vllm_instances[qwen3].port"
UNIT = "vllm@qwen3.service"


@contextmanager
def listening(address: str, family: int = socket.AF_INET) -> Iterator[int]:
    """Listen on a free port of the address, and yield it."""
    with socket.socket(family) as held:
        if family == socket.AF_INET6:
            held.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        held.bind((address, 0))
        held.listen()
        yield held.getsockname()[1]


def port(number: int, address: str = "0.0.0.0") -> Port:
    return Port(number, address, UNIT, VARIABLE)


def test_a_port_held_by_a_stranger_names_the_process() -> None:
    with listening("127.0.0.1") as number:
        (finding,) = check_ports([port(number)]).findings
    assert finding.variable == VARIABLE
    command = Path("/proc/self/comm").read_text().strip()
    assert f"Port {number} is held by {command} (pid {os.getpid()}" in finding.problem
    assert f"set {VARIABLE} to a free port" in finding.remedy
    assert check_ports([port(number)]).findings == []


# Where the stranger listens, where we will, and whether they collide.
ADDRESSES = [
    ("127.0.0.1", "127.0.0.1", True),
    ("127.0.0.1", "localhost", True),
    ("127.0.0.1", "0.0.0.0", True),
    ("0.0.0.0", "127.0.0.1", True),
    ("127.0.0.1", "127.0.0.2", False),
    ("::", "127.0.0.1", True),
    ("::ffff:127.0.0.1", "127.0.0.1", True),
    ("::1", "127.0.0.1", False),
    ("::1", "::1", True),
]


@pytest.mark.parametrize(("theirs", "ours", "collide"), ADDRESSES)
def test_only_addresses_that_meet_collide(theirs: str, ours: str, collide: bool) -> None:
    family = socket.AF_INET6 if ":" in theirs else socket.AF_INET
    with listening(theirs, family) as number:
        assert bool(check_ports([port(number, ours)]).findings) is collide


def test_connections_do_not_count() -> None:
    with (
        listening("127.0.0.1") as number,
        socket.create_connection(("127.0.0.1", number)) as open_one,
    ):
        own = open_one.getsockname()[1]
        assert number in {item.port for item in listeners()}
        assert own not in {item.port for item in listeners()}


def fake_proc(folder: Path, cgroup: str) -> Path:
    """A /proc where process 42 listens on 127.0.0.1:8000, in the control group given."""
    header = "  sl  local_address rem_address st tx:rx tr:when retrnsmt uid timeout inode\n"
    line = "   0: 0100007F:1F40 00000000:0000 0A 00000000:00000000 00:00000000 00000000 0 0 777 1\n"
    (folder / "net").mkdir(parents=True)
    (folder / "net/tcp").write_text(header + line)
    (folder / "42/fd").mkdir(parents=True)
    (folder / "42/fd/3").symlink_to("socket:[777]")
    (folder / "42/comm").write_text("vllm\n")
    (folder / "42/cgroup").write_text(cgroup)
    return folder


GROUPS: dict[str, tuple[str, str | None]] = {
    "ours": ("0::/system.slice/system-vllm.slice/vllm@qwen3.service\n", None),
    "ours, below": ("0::/system.slice/vllm@qwen3.service/engine\n", None),
    "ours, older control groups": (
        "12:pids:/system.slice\n1:name=systemd:/system.slice/vllm@qwen3.service\n0::/\n",
        None,
    ),
    "of an instance that the target does not start": (
        "0::/system.slice/system-vllm.slice/vllm@old.service\n",
        "systemctl disable --now vllm@old.service",
    ),
    "of a longer name": ("0::/system.slice/vllm@qwen3.service.d\n", "kill 42"),
    "by hand": ("0::/user.slice/user-0.slice/session-3.scope\n", "kill 42"),
}


@pytest.mark.parametrize("case", GROUPS)
def test_a_unit_may_hold_its_own_port(tmp_path: Path, case: str) -> None:
    cgroup, remedy = GROUPS[case]
    findings = check_ports([port(8000)], fake_proc(tmp_path, cgroup)).findings
    assert len(findings) == (1 if remedy else 0)
    for finding in findings:
        assert str(remedy) in finding.remedy


def test_a_holder_that_cannot_be_seen_is_told_as_such(tmp_path: Path) -> None:
    proc = fake_proc(tmp_path, "0::/\n")
    (proc / "42/fd/3").unlink()
    (finding,) = check_ports([port(8000)], proc).findings
    assert "/proc does not show" in finding.problem
    assert "ss -tlnp sport = :8000" in finding.remedy


OLD = "0::/system.slice/system-vllm.slice/vllm@old.service\n"


@pytest.fixture
def instances(tmp_path: Path) -> Path:
    """The instances that the host starts now: one, which holds the port 8000."""
    folder = tmp_path / "vllm.target.wants"
    folder.mkdir()
    (folder / "vllm@old.service").symlink_to("/etc/systemd/system/vllm@.service")
    return folder


def test_an_instance_that_is_renamed_keeps_its_port(tmp_path: Path, instances: Path) -> None:
    seen = check_ports([port(8000)], fake_proc(tmp_path / "proc", OLD), instances)
    assert (seen.findings, seen.text) == ([], "8000 free")


def test_instances_that_swap_their_ports_are_refused(tmp_path: Path, instances: Path) -> None:
    """The first of both could not start."""
    other = Port(8001, "0.0.0.0", "vllm@old.service", "vllm_instances[old].port")
    proc = fake_proc(tmp_path / "proc", OLD)
    (finding,) = check_ports([port(8000), other], proc, instances).findings
    assert finding.variable == VARIABLE


def test_an_instance_that_goes_frees_no_port_of_other_services(
    tmp_path: Path, instances: Path
) -> None:
    """The gateway is brought up before it is stopped."""
    wanted = Port(8000, "0.0.0.0", "nginx.service", "nginx_http_port")
    assert check_ports([wanted], fake_proc(tmp_path / "proc", OLD), instances).findings
