"""Removal leaves a host as it was: no package, no hold, no file of the role."""

from __future__ import annotations

import ansible_playbook
import driver
from host import Host


def test_removal(host: Host) -> None:
    check = ansible_playbook.run(
        driver.PLAYBOOK, {"nvidia_driver_state": "absent"}, options=["--check"]
    )
    assert driver.changed(check.stdout) == 2
    assert driver.installed(host)
    assert driver.changed(driver.apply(nvidia_driver_state="absent"))
    assert driver.installed(host) == {}
    assert host.run("apt-mark showhold") == ""
    assert "nvidia" not in host.run("dkms status")
    assert "blacklist nova_core" not in host.run("modprobe --showconfig")
    places = "/etc/apt /etc/modprobe.d /etc/systemd/system"
    assert host.run(f"find {places} -name '*nvidia-driver*' -o -name 'nvidia-uvm*'") == ""
    for kernel in driver.kernels(host):
        assert "nvidia-driver-alone" not in host.run(f"lsinitramfs /boot/initrd.img-{kernel}")
    assert driver.changed(driver.apply(nvidia_driver_state="absent")) == 0
