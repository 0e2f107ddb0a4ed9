"""Another repository, an upgrade, and a driver that cannot be built."""

from __future__ import annotations

from pathlib import Path

import driver
import pytest
from host import Host

SCRIPT = Path(__file__).resolve().parents[1] / "files" / "repository.sh"
REPOSITORY = "/srv/repository"


@pytest.fixture(scope="module")
def tools(host: Host) -> None:
    """Install what makes a repository."""
    host.run(
        "apt-get install --yes --quiet --no-install-recommends apt-utils dpkg-dev gpg gpg-agent"
    )


def build(host: Host, revision: str) -> str:
    """Make the repository anew with packages of this revision, and return their version."""
    host.run(
        f"rm -rf {REPOSITORY} && cat >/srv/repository.sh <<'SCRIPT'\n{SCRIPT.read_text()}SCRIPT"
    )
    return host.run(f"sh /srv/repository.sh {REPOSITORY} {revision}").splitlines()[-1]


def local(**variables: object) -> dict[str, object]:
    """Return the variables of a host whose packages come from the directory."""
    return {
        "nvidia_driver_source": "local",
        "nvidia_driver_local_directory": REPOSITORY,
        "nvidia_driver_repository_key": f"file://{REPOSITORY}/key.asc",
        **variables,
    }


@pytest.mark.usefixtures("tools")
def test_a_repository_of_another_key_is_refused(host: Host) -> None:
    version = build(host, "one")
    before = driver.installed(host)
    host.run(
        "install -d /srv/foreign && GNUPGHOME=/srv/foreign gpg --batch --quiet --passphrase '' "
        "--quick-generate-key other@example.com && "
        "GNUPGHOME=/srv/foreign gpg --armor --export >/srv/foreign/key.asc"
    )
    said = driver.refused(
        **local(
            nvidia_driver_version=version,
            nvidia_driver_repository_key="file:///srv/foreign/key.asc",
        )
    )
    assert "NO_PUBKEY" in said
    assert driver.installed(host) == before


@pytest.mark.usefixtures("tools")
def test_moves_to_another_version_in_another_repository(host: Host) -> None:
    version = build(host, "one")
    # As NVIDIA's own package names a repository, with a key of its own.
    other = "/etc/apt/sources.list.d/cuda.list"
    host.run(f"cp {REPOSITORY}/key.asc /srv/cuda.asc")
    host.run(f"echo 'deb [signed-by=/srv/cuda.asc] file://{REPOSITORY} /' >{other}")
    output = driver.apply(**local(nvidia_driver_version=version))
    host.run(f"rm {other}")
    assert driver.changed(output)
    present = driver.installed(host)
    assert present["nvidia-kernel-open-dkms"] == version
    assert present["nvidia-driver-cuda"] == version
    assert present["libcuda1"] == present["nvidia-persistenced"] == version
    for kernel in driver.kernels(host):
        assert f", {kernel}, x86_64: installed" in host.run("dkms status")
    held = set(host.run("apt-mark showhold").split())
    assert present.keys() <= held
    # Without the hold too, the pin keeps the later branch away.
    assert "Candidate: " + version in host.run("apt-cache policy nvidia-smi")
    assert "550.54.15" not in host.run("apt-get --simulate --ignore-hold dist-upgrade")
    assert driver.changed(driver.apply(**local(nvidia_driver_version=version))) == 0


@pytest.mark.usefixtures("tools")
def test_a_driver_that_cannot_be_built_is_refused_and_the_next_one_heals(host: Host) -> None:
    boot = host.run(
        "cat /proc/sys/kernel/random/boot_id; systemctl show --property=UserspaceTimestamp"
    )
    broken = build(host, "broken")
    said = driver.refused(**local(nvidia_driver_version=broken, nvidia_driver_reboot="always"))
    assert "this driver cannot be compiled" in said, "the errors of the build's log are missing"
    assert "Do not restart the host" in said
    now = host.run(
        "cat /proc/sys/kernel/random/boot_id; systemctl show --property=UserspaceTimestamp"
    )
    assert now == boot, "the host was restarted without a driver"

    version = build(host, "two")
    assert driver.changed(driver.apply(**local(nvidia_driver_version=version)))
    assert driver.installed(host)["nvidia-kernel-open-dkms"] == version
    assert "installed" in host.run("dkms status")
    assert host.run("dpkg --audit") == ""


@pytest.mark.usefixtures("tools")
def test_upgrades_kernel_and_driver_in_one_step_and_only_when_told(host: Host) -> None:
    before = driver.installed(host)["nvidia-kernel-open-dkms"]
    (old,) = driver.kernels(host)
    newer = build(host, "upgrade")
    # Debian's archive has a newer kernel as well.
    host.run("rm /etc/apt/preferences.d/kernel /etc/apt/sources.list.d/kernel.list")
    driver.apply(**local())
    assert "linux-image" not in host.run("apt-get --simulate dist-upgrade | grep ^Inst || true")
    assert driver.kernels(host) == [old]
    assert driver.installed(host)["nvidia-kernel-open-dkms"] == before

    assert driver.changed(driver.apply(**local(nvidia_driver_upgrade=True)))
    both = driver.kernels(host)
    assert len(both) == 2, both
    present = driver.installed(host)
    assert present["nvidia-kernel-open-dkms"] == present["libcuda1"] == newer
    status = host.run("dkms status")
    held = set(host.run("apt-mark showhold").split())
    for kernel in both:
        assert f"/{newer.split('-')[0]}, {kernel}, x86_64: installed" in status, status
        assert {f"linux-image-{kernel}", f"linux-headers-{kernel}"} <= held
    assert present.keys() <= held
    assert driver.changed(driver.apply(**local(nvidia_driver_upgrade=True))) == 0


@pytest.mark.usefixtures("tools")
def test_a_module_that_packages_did_not_build_for_a_kernel_is_built(host: Host) -> None:
    """As on a host that runs neither its newest kernel nor its oldest."""
    old, _new = driver.kernels(host)
    name = host.run("dkms status").split(",")[0]
    host.run(f"dkms remove {name} -k {old}")
    assert driver.changed(driver.apply(**local())) == 1
    assert f"{name}, {old}, x86_64: installed" in host.run("dkms status")
    assert driver.changed(driver.apply(**local())) == 0


def test_a_kernel_that_is_removed_asks_for_nothing_more(host: Host) -> None:
    """As the operator removes the old one, once the new one has proven itself."""
    old, new = driver.kernels(host)
    host.run(
        "DEBIAN_FRONTEND=noninteractive apt-get purge --yes --quiet --allow-change-held-packages "
        f"linux-image-{old} linux-headers-{old}"
    )
    assert driver.kernels(host) == [new]
    assert f", {old}," not in host.run("dkms status")
    assert driver.changed(driver.apply(**local())) == 0
