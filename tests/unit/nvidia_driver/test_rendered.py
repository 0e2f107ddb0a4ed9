"""Which packages and which pins the role gives to each system, by where they come from."""

from __future__ import annotations

import re
from fnmatch import fnmatchcase

import pytest

from tests.unit.nvidia_driver.rendered import Rendered

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
def test_an_upgrade_stays_within_the_branch_in_nvidias_repository(
    system: str, source: str
) -> None:
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
