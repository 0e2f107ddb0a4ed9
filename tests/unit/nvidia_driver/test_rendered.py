"""Which packages and which pins the role gives to each system, by where they come from."""

from __future__ import annotations

import re
from fnmatch import fnmatchcase
from typing import Any

import pytest
import yaml
from ansible_collections.gpufleet.llm.plugins.module_utils._driver_packages import choose

from tests.unit.nvidia_driver.rendered import ROLE, Rendered
from tests.unit.nvidia_driver.test_packages import Memory

# In NVIDIA's repository they have the versions of all its branches.
BESIDE = ("nvidia-modprobe", "nvidia-persistenced")
RECORD = re.compile(r"^Package: (.+)\nPin: version (.+)\nPin-Priority: (-?\d+)$", re.MULTILINE)


def priority(preferences: str, name: str, version: str) -> int:
    """What apt makes of a package's version: the first record that fits decides."""
    for names, pin, number in RECORD.findall(preferences):
        if any(fnmatchcase(name, each) for each in names.split()) and fnmatchcase(version, pin):
            return int(number)
    return 500


@pytest.mark.parametrize("system", ["Debian", "Ubuntu"])
@pytest.mark.parametrize("source", ["nvidia", "local"])
def test_an_upgrade_stays_within_the_branch_in_nvidias_repository(system: str, source: str) -> None:
    preferences = Rendered(system, {"nvidia_driver_source": source}).file("apt/preferences.j2")
    for name in ("nvidia-kernel-open-dkms", "libnvidia-compute", *BESIDE):
        ours, later = (priority(preferences, name, v) for v in ("580.95.05-1", "610.43.02-1"))
        assert ours > 1000 > later, name


@pytest.mark.parametrize("system", ["Debian", "Ubuntu"])
def test_versions_of_their_own_are_left_alone_in_a_distributions_archive(system: str) -> None:
    wanted = {"nvidia_driver_source": "distribution"}
    preferences = Rendered(system, wanted).file("apt/preferences.j2")
    for name in BESIDE:
        assert priority(preferences, name, "535.171.04-1") == 500
        assert priority(preferences, name, "580.95.05-1") == 500


def packages(system: str, source: str, switches: list[str], **variables: Any) -> list[str]:
    """Entries of packages with the driver's version that the role asks for."""
    tasks = yaml.safe_load((ROLE / "tasks/present.yml").read_text())
    (task,) = [task for task in tasks if "gpufleet.llm.nvidia_driver_packages" in task]
    there = {
        "nvidia_driver_source": source,
        "__nvidia_driver_before": {"gpus": {"switches": switches}},
        "__nvidia_driver_set": {},
        **variables,
    }
    there["__nvidia_driver_set"] = Rendered(system, there).value(
        task["vars"]["__nvidia_driver_set"]
    )
    entries = Rendered(system, there).value(task["gpufleet.llm.nvidia_driver_packages"]["driver"])
    return [str(entry) for entry in entries]


UNITS = "{{ __nvidia_driver_units }}"
NVLINK5 = "nvlink5-580|nvlink5"


@pytest.mark.parametrize("system", ["Debian", "Ubuntu", "RedHat"])
def test_nvswitches_that_are_not_on_pci_get_their_subnet_manager(system: str) -> None:
    always = {"nvidia_driver_fabric_manager": "always"}
    hidden = packages(system, "nvidia", [], **always)
    assert NVLINK5 in hidden
    assert [entry for entry in hidden if "nvidia-fabricmanager" in entry]
    # Before Blackwell they are on PCI, and have no such manager.
    seen = packages(system, "nvidia", ["0000:05:00.0"], **always)
    assert NVLINK5 not in seen
    assert [entry for entry in seen if "nvidia-fabricmanager" in entry]
    assert NVLINK5 not in packages(system, "nvidia", [])


# What Ubuntu's own archive and NVIDIA's repository have together.
BOTH = {
    "nvidia-fabricmanager-580": ["580.126.09-0ubuntu0.24.04.1"],
    "nvidia-fabricmanager": ["610.43.02-1ubuntu1", "580.126.09-1", "580.95.05-1"],
    "nvidia-fabricmanager-575": ["575.57.08-1"],
}


@pytest.mark.parametrize(
    ("branch", "expected"),
    [
        (580, ("nvidia-fabricmanager", "580.126.09-1")),
        (610, ("nvidia-fabricmanager", "610.43.02-1ubuntu1")),
        (575, ("nvidia-fabricmanager-575", "575.57.08-1")),
    ],
)
def test_on_ubuntu_fabric_manager_comes_from_where_the_driver_does(
    branch: int, expected: tuple[str, str]
) -> None:
    asked = packages("Ubuntu", "nvidia", ["0000:05:00.0"], nvidia_driver_branch=branch)
    (entry,) = [entry for entry in asked if "nvidia-fabricmanager" in entry]
    assert choose(Memory({}, BOTH), entry, str(branch)) == expected


def test_gpus_are_kept_awake_also_where_the_daemon_is_told_not_to() -> None:
    """As by Ubuntu, with --no-persistence-mode."""
    assert "ExecStartPost=-/usr/bin/nvidia-smi --persistence-mode=1" in (
        Rendered("Ubuntu").file("nvidia-driver-persistence.conf").splitlines()
    )
    places = [unit["dest"] + unit["src"] for unit in Rendered("Ubuntu").value(UNITS)]
    folder = "/etc/systemd/system/nvidia-persistenced.service.d"
    assert f"{folder}/nvidia-driver-persistence.conf" in places


def test_every_unit_goes_with_the_driver() -> None:
    tasks = yaml.safe_load((ROLE / "tasks/absent.yml").read_text())
    (task,) = [task for task in tasks if "ansible.builtin.file" in task]
    there: dict[str, Any] = {"__nvidia_driver_keys": {"files": []}}
    removed = Rendered("Ubuntu", there).value(task["loop"])
    for unit in Rendered("Ubuntu").value(UNITS):
        place, name = unit["dest"], unit["src"]
        assert (place + name if place.endswith("/") else place) in removed
