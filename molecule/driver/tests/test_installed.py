"""The driver as the role leaves it: built, pinned, held, alone, and ready before vLLM."""

from __future__ import annotations

from pathlib import Path

import ansible_playbook
import driver
import pytest
import task_records
from host import Host


def test_the_module_is_installed_for_every_kernel(host: Host) -> None:
    status = host.run("dkms status")
    found = driver.kernels(host)
    assert found
    for kernel in found:
        assert f", {kernel}, x86_64: installed" in status, status
        module = host.run(f"find /lib/modules/{kernel} -name 'nvidia-current-open.ko*'")
        assert host.run(f"modinfo -F version {module}").startswith("535.")
        # The H200 can have the open modules, so it gets them.
        assert host.run(f"modinfo -F license {module}") == "Dual MIT/GPL"


def test_nothing_for_graphics_came_along(host: Host) -> None:
    present = driver.installed(host)
    assert {"nvidia-smi", "libcuda1", "nvidia-persistenced"} <= present.keys()
    assert not [name for name in present if "xorg" in name or "-gl" in name or "vdpau" in name]


def test_kernel_and_driver_are_held(host: Host) -> None:
    held = set(host.run("apt-mark showhold").split())
    kernel = {"linux-image-amd64", "linux-headers-amd64"}
    of_kernel = {
        f"{name}-{k}" for name in ("linux-image", "linux-headers") for k in driver.kernels(host)
    }
    assert kernel | of_kernel | driver.installed(host).keys() <= held


def test_unattended_upgrades_pass_them_by(host: Host) -> None:
    dumped = host.run("apt-config dump Unattended-Upgrade::Package-Blacklist")
    for word in ("^linux-image-", "^linux-headers-", "^nvidia-", "^libnvidia-", "^libcuda1$"):
        assert f'"{word}"' in dumped


def test_the_branch_is_pinned(host: Host) -> None:
    policy = host.run("apt-cache policy nvidia-smi nvidia-kernel-support libcuda1")
    assert policy.count(" 1001\n") == 3, policy


def test_other_drivers_stay_away_from_the_start(host: Host) -> None:
    known = host.run("modprobe --showconfig")
    for module in ("nouveau", "nova_core", "nova_drm"):
        assert f"blacklist {module}\n" in known
    for kernel in driver.kernels(host):
        image = host.run(f"lsinitramfs /boot/initrd.img-{kernel}")
        assert "etc/modprobe.d/nvidia-driver-alone.conf" in image


def test_devices_come_before_every_instance(host: Host) -> None:
    host.run("printf '[Service]\\nExecStart=/bin/sleep 60\\n' >/run/systemd/system/vllm@.service")
    host.run("systemctl daemon-reload")
    shown = host.show("vllm@any.service", "After", "Wants")
    assert "nvidia-uvm.service" in shown["After"].split()
    assert "nvidia-uvm.service" in shown["Wants"].split()
    assert "nvidia-fabricmanager.service" in shown["After"].split()
    # The daemon of persistence finds no GPU where nobody has made its nodes.
    assert (
        "nvidia-uvm.service" in host.show("nvidia-persistenced.service", "After")["After"].split()
    )
    started = host.show("nvidia-persistenced.service", "ExecStartPost")["ExecStartPost"]
    assert "--persistence-mode=1" in started
    # Errors of a unit are words; the status is 0.
    assert host.run("systemd-analyze verify nvidia-uvm.service 2>&1") == ""
    assert host.run("systemctl is-enabled nvidia-uvm.service") == "enabled"
    # There is no GPU: the devices fail, and the instance starts all the same and says why itself.
    host.run("systemctl start vllm@any.service")
    assert host.show("vllm@any.service", "ActiveState")["ActiveState"] == "active"
    host.run("systemctl stop vllm@any.service && rm /run/systemd/system/vllm@.service")
    host.run("systemctl daemon-reload; systemctl reset-failed")


def test_a_host_without_a_gpu_sees_one_task(
    host: Host, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TASK_RECORDS", str(tmp_path))
    host.run("pci 0000:17:00.0")
    output = driver.apply()
    host.run("pci 0000:17:00.0 0x2335 0x030200")
    assert driver.changed(output) == 0
    ran = [
        record.task
        for record in task_records.read(tmp_path / "run-1.jsonl")
        if record.status in task_records.EXECUTED and "Validating arguments" not in record.task
    ]
    assert len(ran) == 2, ran  # the call of the role, and its look at PCI


def test_a_host_for_the_cpu_sees_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TASK_RECORDS", str(tmp_path))
    done = ansible_playbook.run(driver.PLAYBOOK, {"vllm_variant": "cpu"})
    assert done.returncode == 0, done.stdout
    records = task_records.read(tmp_path / "run-1.jsonl")
    assert [record.task for record in records if record.status in task_records.EXECUTED] == []
