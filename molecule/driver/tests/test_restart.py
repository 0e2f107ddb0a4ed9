"""Restarts of the host by the role, with instances that end before and are waited for after.

systemd, the shutdown and the start are real. boot.sh tells what a machine's own kernel would, and
the instance is a unit that sleeps.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

import driver
import pytest
from host import Host
from podman import podman

UNITS = {
    "boot.service": """[Unit]
DefaultDependencies=no
After=local-fs.target
Before=ssh.service
[Service]
Type=oneshot
RemainAfterExit=yes
ExecStart=/usr/local/sbin/boot
[Install]
WantedBy=multi-user.target
""",
    "vllm.target": "[Install]\nWantedBy=multi-user.target\n",
    "vllm@.service": """[Unit]
ConditionPathExists=!/srv/no-instance
[Service]
ExecStart=sleep infinity
# What the host is doing when the instance ends.
ExecStop=sh -c 'systemctl is-system-running >>/srv/ended'
[Install]
WantedBy=vllm.target
""",
}
INSTANCE = "vllm@proof.service"
RUN = {"nvidia_driver_reboot": "if_required"}


@pytest.fixture(scope="module", autouse=True)
def _machine(host: Host) -> Iterator[None]:
    """Make the host one that serves, and whose running kernel has no module of the driver."""
    for name, text in UNITS.items():
        host.run(f"cat >/etc/systemd/system/{name} <<'END'\n{text}END")
    host.run(f"systemctl daemon-reload; systemctl enable --quiet boot vllm.target {INSTANCE}")
    host.run(f"systemctl start vllm.target {INSTANCE}")
    yield
    host.run(f"systemctl disable --now --quiet boot vllm.target {INSTANCE}")
    for name in UNITS:
        host.run(f"rm /etc/systemd/system/{name}")
    host.run("systemctl daemon-reload; umount /proc/driver; rm -rf /srv/driver /srv/no-instance")
    forget_running_kernel(host)


@pytest.fixture(autouse=True)
def _no_module(host: Host) -> None:
    forget_running_kernel(host)
    host.run("rm -f /srv/ended")


def forget_running_kernel(host: Host) -> None:
    """Take away what boot.sh has made for it, so that a restart is pending."""
    host.run("rm -f /lib/modules/$(uname -r) /boot/vmlinuz-$(uname -r)")


def load_at_boot(host: Host, version: str) -> None:
    """Have the host start with this module loaded from now on."""
    words = f"NVRM version: NVIDIA UNIX Open Kernel Module for x86_64  {version}  Release Build"
    host.run(f"mkdir -p /srv/driver/nvidia; echo '{words}' >/srv/driver/nvidia/version")


def boot_id(host: Host) -> str:
    """Return what differs after every start."""
    return host.run("cat /proc/sys/kernel/random/boot_id")


@contextmanager
def started_again(host: Host) -> Iterator[None]:
    """Start the container once it has gone down, as a machine starts again by itself."""
    before = boot_id(host)

    def start() -> None:
        podman("wait", host.container)
        host.boot()

    starting = threading.Thread(target=start, daemon=True)
    starting.start()
    yield
    starting.join(60)
    assert not starting.is_alive(), "the host did not go down"
    assert boot_id(host) != before


def test_instances_end_first_and_are_waited_for(host: Host) -> None:
    load_at_boot(host, driver.version(host))
    with started_again(host):
        output = driver.apply(**RUN)
    # Not `stopping`: nginx and the chat, which pass its answers on, still ran.
    assert host.run("cat /srv/ended") in ("running", "degraded")
    assert host.show(INSTANCE, "ActiveState") == {"ActiveState": "active"}
    assert driver.changed(output) == 2  # the stop of the instance and the restart
    assert driver.changed(driver.apply(**RUN)) == 0


def test_check_mode_restarts_nothing(host: Host) -> None:
    before = boot_id(host)
    done = driver.check(**RUN)
    assert driver.changed(done) == 0
    assert boot_id(host) == before


def test_an_instance_that_does_not_come_back(host: Host) -> None:
    host.run("touch /srv/no-instance")
    with started_again(host):
        said = driver.refused(**RUN, vllm_gate_deadline_seconds=0)
    host.run(f"rm /srv/no-instance; systemctl start {INSTANCE}")
    assert "has its driver, and not every instance answers" in said
    assert f"{INSTANCE} inactive" in said


def test_a_module_that_is_not_loaded_by_the_restart(host: Host) -> None:
    load_at_boot(host, "535.216.03")
    with started_again(host):
        said = driver.refused(**RUN)
    assert "has been restarted, and still module 535.216.03 is loaded" in said
    assert "journalctl --boot --dmesg" in said
