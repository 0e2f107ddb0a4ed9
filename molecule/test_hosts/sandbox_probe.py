"""Tries what a sandbox must refuse, and prints what happened; runs on a test host.

`sandbox_probe.py PEER DIRECTORY...` prints a JSON object: for each of ATTEMPTS, and for writing to
each DIRECTORY, "done" or the name of the error that refused it. PEER is a process of the same user.
What it goes for is laid out by sandbox.py.
"""

from __future__ import annotations

import ctypes
import errno
import json
import mmap
import os
import socket
import stat
import subprocess
import sys
from functools import partial
from pathlib import Path
from typing import Callable

LIBC = ctypes.CDLL(None, use_errno=True)
# From the kernel's headers.
CLONE_NEWNS = 0x00020000
CLONE_NEWUSER = 0x10000000
PER_LINUX32 = 0x0008
PTRACE_ATTACH, PTRACE_DETACH = 16, 17
SYSLOG_ACTION_READ_ALL = 3
CANNOT_SAY = 250  # exit status of an attempt that ended in no system error
KILLED = 251  # exit status standing for a process that a signal ended


def call(name: str, *arguments: object) -> int:
    """Call a function of the C library; raises OSError when it returns -1."""
    result = int(getattr(LIBC, name)(*arguments))
    if result == -1:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
    return result


def write(directory: str) -> None:
    """Make a file in a directory, and remove it."""
    path = Path(directory) / "sandbox-probe"
    path.write_text("x")
    path.unlink()


def read(path: str) -> None:
    """Read a file."""
    Path(path).read_bytes()


def open_only(path: str, flags: int) -> None:
    """Open a file and close it."""
    os.close(os.open(path, flags))


def make_node() -> None:
    """Make a device node like /dev/null."""
    path = "/tmp/sandbox-probe-node"
    os.mknod(path, stat.S_IFCHR | 0o600, os.makedev(1, 3))
    Path(path).unlink()


def read_kernel_log() -> None:
    """Ask the kernel for its log."""
    buffer = ctypes.create_string_buffer(4096)
    call("klogctl", SYSLOG_ACTION_READ_ALL, buffer, len(buffer))


def make_control_group() -> None:
    """Make a control group at the root of the hierarchy."""
    mounted = Path("/sys/fs/cgroup")
    roots = [mounted / "unified", mounted / "systemd", mounted]
    root = next((root for root in roots if (root / "cgroup.procs").exists()), mounted)
    path = root / "sandbox-probe"
    path.mkdir()
    path.rmdir()


def reach_clock() -> None:
    """Call what sets the clock, and let it change nothing."""
    call("adjtimex", ctypes.create_string_buffer(256))


def enter_namespace_of_host() -> None:
    """Join the mount namespace of process 1."""
    namespace = os.open("/proc/1/ns/mnt", os.O_RDONLY)
    call("unshare", CLONE_NEWNS)
    call("setns", namespace, CLONE_NEWNS)


def mount() -> None:
    """Mount a file system, in a namespace that ends with this process."""
    call("unshare", CLONE_NEWNS)
    call("mount", b"none", b"/", None, 0x44000, None)  # MS_PRIVATE | MS_REC
    call("mount", b"tmpfs", b"/mnt", b"tmpfs", 0, None)


def run_setuid_program() -> None:
    """Become root by a program that is setuid root, a copy of `id`."""
    command = ["/usr/local/bin/sandbox-probe-id", "-u"]
    answer = subprocess.run(command, capture_output=True, text=True, check=False).stdout
    if answer.strip() != "0":
        raise PermissionError(errno.EPERM, f"it says that it is user {answer}")


def make_setuid_file() -> None:
    """Make a file setuid."""
    path = Path("/tmp/sandbox-probe-setuid")
    path.write_text("x")
    try:
        path.chmod(0o4700)
    finally:
        path.unlink()


def trace_peer() -> None:
    """Attach to a process of the same user as a debugger does."""
    peer = int(sys.argv[1])
    call("ptrace", PTRACE_ATTACH, peer, None, None)
    os.waitpid(peer, 0x40000000)  # __WALL
    call("ptrace", PTRACE_DETACH, peer, None, None)


def open_socket(family: int, kind: int, protocol: int = 0) -> None:
    """Open a socket and close it."""
    socket.socket(family, kind, protocol).close()


def connect(path: str) -> None:
    """Connect to a socket of the file system."""
    with socket.socket(socket.AF_UNIX) as connection:
        connection.connect(path)


ATTEMPTS: dict[str, Callable[[], object]] = {
    "write to /etc": lambda: write("/etc"),
    "write to /usr": lambda: write("/usr/local"),
    "write to /var/log": lambda: write("/var/log"),
    "write to the releases": lambda: write("/opt/gpufleet"),
    "write to the models": lambda: write("/var/lib/gpufleet/models"),
    "write to what the user owns elsewhere": lambda: write("/var/cache/gpufleet/sandbox-probe"),
    "write to a directory that is open to all": lambda: write("/srv/sandbox-probe"),
    "read a home": lambda: read("/home/sandbox-probe/letter"),
    "read the home of root": lambda: read("/root/sandbox-probe"),
    "read another's file in /tmp": lambda: read("/tmp/sandbox-probe-letter"),
    "read a stored credential": lambda: read("/etc/gpufleet/credentials/sandbox-probe"),
    "read a credential of another service": lambda: read(
        "/run/credentials/sandbox-probe-other.service/key"
    ),
    "open memory": lambda: open_only("/dev/sandbox-probe-memory", os.O_RDONLY),
    "open a block device": lambda: open_only("/dev/sandbox-probe-block", os.O_RDONLY),
    "open a device that is open to all": lambda: open_only("/dev/sandbox-probe-fuse", os.O_RDWR),
    "make a device node": make_node,
    "open the kernel's log": lambda: open_only("/dev/kmsg", os.O_RDONLY | os.O_NONBLOCK),
    "read the kernel's log": read_kernel_log,
    "change a tunable of the kernel": lambda: open_only("/proc/sys/vm/swappiness", os.O_WRONLY),
    "change an object of the kernel": lambda: open_only(
        "/sys/kernel/mm/transparent_hugepage/enabled", os.O_WRONLY
    ),
    "make a control group": make_control_group,
    "set the host's name": lambda: socket.sethostname(socket.gethostname()),
    "reach the clock": reach_clock,
    "make a user namespace": lambda: call("unshare", CLONE_NEWUSER),
    "make a mount namespace": lambda: call("unshare", CLONE_NEWNS),
    "enter the host's namespace": enter_namespace_of_host,
    "mount": mount,
    "change the root directory": lambda: os.chroot("/"),
    "become root": lambda: os.setresuid(0, 0, 0),
    "run a setuid program": run_setuid_program,
    "make a setuid file": make_setuid_file,
    "open a raw socket": lambda: open_socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_ICMP),
    "open a packet socket": lambda: open_socket(socket.AF_PACKET, socket.SOCK_RAW),
    "open a netlink socket": lambda: open_socket(socket.AF_NETLINK, socket.SOCK_RAW),
    "open a socket to the hypervisor": lambda: open_socket(socket.AF_VSOCK, socket.SOCK_STREAM),
    "reach systemd's own socket": lambda: connect("/run/systemd/private"),
    "trace a process of the same user": trace_peer,
    "see processes of others": lambda: read("/proc/1/status"),
    "read the environment of process 1": lambda: read("/proc/1/environ"),
    "change the personality": lambda: call("personality", PER_LINUX32),
    "make memory writable and executable": lambda: mmap.mmap(
        -1, 4096, prot=mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC
    ),
}


def outcome(attempt: Callable[[], object]) -> str:
    """Make an attempt in a process of its own, which keeps what it changes, and say how it went."""
    child = os.fork()
    if child == 0:
        status = CANNOT_SAY
        try:
            attempt()
            status = 0
        except OSError as error:
            status = error.errno or CANNOT_SAY
        finally:
            os._exit(status)
    _, ended = os.waitpid(child, 0)
    status = os.WEXITSTATUS(ended) if os.WIFEXITED(ended) else KILLED
    words = {0: "done", CANNOT_SAY: "broken", KILLED: "killed"}
    return words.get(status) or errno.errorcode[status]


def main() -> None:
    """Make every attempt."""
    found = {name: outcome(attempt) for name, attempt in ATTEMPTS.items()}
    for directory in sys.argv[2:]:
        found[f"write to {directory}"] = outcome(partial(write, directory))
    print(json.dumps(found))


if __name__ == "__main__":
    main()
