"""Hosts and inventories that the role refuses, and what it says when something is pending."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import ansible_playbook
import driver
import pytest
from host import Host

SLACKWARE = {
    "distribution": "Slackware",
    "distribution_major_version": "15",
    "architecture": "x86_64",
}


@contextmanager
def mounted(host: Host, source: str, target: str) -> Iterator[None]:
    """Lay a folder of the host over another."""
    host.run(f"mount --bind {source} {target}")
    try:
        yield
    finally:
        host.run(f"umount {target}")


@contextmanager
def plugged(host: Host, address: str, device: str, kind: str) -> Iterator[None]:
    """Plug a device in."""
    host.run(f"pci {address} {device} {kind}")
    try:
        yield
    finally:
        host.run(f"pci {address}")


def test_secure_boot_without_the_key(host: Host) -> None:
    host.run(
        "mkdir -p /srv/firmware/efi/efivars && printf '\\006\\000\\000\\000\\001' "
        ">/srv/firmware/efi/efivars/SecureBoot-8be4df61-93ca-11d2-aa0d-00e098032b8c"
    )
    with mounted(host, "/srv/firmware", "/sys/firmware"):
        said = driver.refused()
    assert "Secure Boot is on" in said
    assert "mokutil --import" in said


def test_modules_that_do_not_support_a_gpu(host: Host) -> None:
    with plugged(host, "0000:65:00.0", "0x1db6", "0x030200"):
        said = driver.refused(nvidia_driver_modules="open")
    assert "The open kernel modules do not support the GPU at 0000:65:00.0" in said


def test_a_driver_of_the_run_file(host: Host) -> None:
    host.run("install -m 755 /bin/true /usr/bin/nvidia-uninstall")
    said = driver.refused()
    host.run("rm /usr/bin/nvidia-uninstall")
    assert "run `nvidia-uninstall`" in said


def test_a_system_that_has_no_such_driver(host: Host) -> None:
    said = driver.refused(ansible_facts=SLACKWARE)
    assert "this role knows Debian 12" in said


def test_a_branch_that_the_archive_does_not_have(host: Host) -> None:
    before = driver.installed(host)
    said = driver.refused(nvidia_driver_branch=580)
    assert (
        "have no nvidia-open-kernel-dkms of version 580; they have nvidia-open-kernel-dkms 535"
        in said
    )
    assert "set nvidia_driver_branch" in said
    assert driver.installed(host) == before


def test_a_fabric_manager_that_cannot_be_had(host: Host) -> None:
    with plugged(host, "0000:05:00.0", "0x22a3", "0x068000"):
        said = driver.refused()
    assert "have no nvidia-fabricmanager or nvidia-fabricmanager-535 of version 535." in said


def test_a_fabric_manager_of_another_version(host: Host) -> None:
    host.run(
        "printf '#!/bin/sh\\necho Fabric Manager version is : 535.54.03\\n' "
        ">/usr/local/bin/nv-fabricmanager && chmod 755 /usr/local/bin/nv-fabricmanager"
    )
    with plugged(host, "0000:05:00.0", "0x22a3", "0x068000"):
        said = driver.refused(nvidia_driver_fabric_manager="never")
    host.run("rm /usr/local/bin/nv-fabricmanager")
    assert "Fabric Manager is of version 535.54.03, and the driver of 535." in said
    assert "is not restarted" in said


def test_a_kernel_without_headers(host: Host) -> None:
    """With the package of a kernel that is older than anything in the archive."""
    name = "linux-image-5.10.0-9-amd64"
    host.run(
        f"mkdir -p /srv/{name}/DEBIAN && printf 'Package: {name}\\nVersion: 5.10.70-1\\n"
        f"Architecture: amd64\\nMaintainer: Test <test@example.com>\\nDescription: test\\n' "
        f">/srv/{name}/DEBIAN/control && dpkg-deb --build /srv/{name} && dpkg -i /srv/{name}.deb"
    )
    said = driver.refused()
    host.run(f"dpkg --purge {name}")
    assert "have no linux-headers-5.10.0-9-amd64" in said
    assert "remove that kernel's package" in said


def test_a_kernel_that_no_package_knows(host: Host) -> None:
    host.run("mkdir -p /lib/modules/6.6.6-own/kernel && touch /boot/vmlinuz-6.6.6-own")
    said = driver.refused()
    host.run("rm -r /lib/modules/6.6.6-own /boot/vmlinuz-6.6.6-own")
    assert "Kernel 6.6.6-own has no headers" in said
    assert "is not restarted" in said


def test_says_that_the_loaded_module_is_another(host: Host) -> None:
    """The running kernel is the control machine's; it gets the folder of the host's own."""
    running = host.run("uname -r")
    kernel = driver.kernels(host)[0]
    host.run(
        f"mkdir -p /srv/driver/nvidia && ln -s {kernel} /lib/modules/{running} && "
        f"touch /boot/vmlinuz-{running} && echo 'NVRM version: NVIDIA UNIX Open Kernel Module for "
        "x86_64  535.216.03  Release Build' >/srv/driver/nvidia/version && touch /dev/nvidia0 && "
        "systemd-run --quiet --unit=holder sh -c 'exec 3</dev/nvidia0; exec sleep 600'"
    )
    with mounted(host, "/srv/driver", "/proc/driver"):
        output = driver.apply()
    host.run(
        f"systemctl stop holder; rm /lib/modules/{running} /boot/vmlinuz-{running} /dev/nvidia0"
    )
    assert "module 535.216.03 is loaded and 535." in output
    assert "'Driver/library version mismatch'" in output
    assert "held by sleep (pid" in output
    assert driver.changed(output) == 0


@pytest.mark.parametrize("mode", [[], ["--check"]])
def test_says_that_the_running_kernel_has_no_module(host: Host, mode: list[str]) -> None:
    done = ansible_playbook.run(driver.PLAYBOOK, options=mode)
    assert done.returncode == 0
    assert driver.changed(done.stdout) == 0
    assert ("has no module of the driver" in done.stdout) is (mode == [])
