"""A test host as the tests see it: commands over SSH, and its units and processes."""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass

from podman import podman


@dataclass(frozen=True)
class Host:
    """One test host, reached as the playbooks reach it."""

    address: str
    key: str
    container: str

    @classmethod
    def from_environment(cls) -> Host:
        """Return the host that molecule/test_hosts/tasks/pytest.yml names."""
        return cls(
            os.environ["TEST_HOST"], os.environ["TEST_SSH_KEY"], os.environ["TEST_CONTAINER"]
        )

    def ssh(self, *options: str) -> list[str]:
        """Return the command that reaches root on the host; what is to run there comes after it."""
        ours = ["StrictHostKeyChecking=no", "UserKnownHostsFile=/dev/null", "LogLevel=ERROR"]
        arguments = [
            argument for option in (*ours, "ConnectTimeout=10") for argument in ("-o", option)
        ]
        return ["ssh", "-i", self.key, *arguments, *options, f"root@{self.address}"]

    def run(self, command: str, check: bool = True) -> str:
        """Run a shell command as root and return its output.

        Raises AssertionError, with all it printed, when it fails and `check` is true.
        """
        done = subprocess.run([*self.ssh(), command], capture_output=True, text=True, check=False)
        assert not check or done.returncode == 0, f"{command}: {done.stdout}{done.stderr}"
        return done.stdout.strip()

    def boot(self) -> None:
        """Start the host, which `shut_down` has stopped, and return when it can be reached."""
        podman("start", self.container)
        up = f"{self.container} can be reached"
        wait_until(up, lambda: self.run("echo up", check=False) == "up", 60)

    def shut_down(self) -> None:
        """Stop the host as a machine is shut down: systemd stops every unit."""
        podman("stop", "--time", "120", self.container)

    def show(self, unit: str, *properties: str) -> dict[str, str]:
        """Return properties of a systemd unit by name."""
        shown = self.run(f"systemctl show --property={','.join(properties)} {unit}")
        return dict(line.split("=", 1) for line in shown.splitlines())

    def processes(self, unit: str) -> dict[int, str]:
        """Return the processes of a unit's control group: command line by process id."""
        group = self.show(unit, "ControlGroup")["ControlGroup"]
        found = self.run(
            f"for p in $(cat /sys/fs/cgroup/systemd{group}/cgroup.procs "
            f"/sys/fs/cgroup{group}/cgroup.procs 2>/dev/null); do "
            "echo $p $(tr '\\0' ' ' </proc/$p/cmdline); done",
            check=False,
        )
        pairs = (line.partition(" ") for line in found.splitlines())
        return {int(pid): command for pid, _space, command in pairs}

    def pid_of(self, unit: str, word: str) -> int:
        """Return the one process of a unit whose command line contains `word`."""
        found = [pid for pid, command in self.processes(unit).items() if word in command]
        assert len(found) == 1, f"{word} in {unit}: {self.processes(unit)}"
        return found[0]


def wait_until(what: str, condition: Callable[[], bool], seconds: float) -> float:
    """Wait until `condition` holds and return the seconds it took.

    Raises AssertionError naming `what` when it does not hold in time.
    """
    started = time.monotonic()
    while not condition():
        assert time.monotonic() - started < seconds, f"{what}: not within {seconds:.0f} s"
        time.sleep(1)
    return time.monotonic() - started
