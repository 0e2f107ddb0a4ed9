"""What is installed, held and removed, by a package manager that keeps all in memory."""

from __future__ import annotations

from typing import Any

import pytest
from ansible_collections.gpufleet.llm.plugins.module_utils._driver_packages import (
    Apt,
    CommandError,
    Dnf,
    PackageError,
    build,
    choose,
    in_version,
    matching,
)
from ansible_collections.gpufleet.llm.plugins.modules import nvidia_driver_packages as module

PARAMS: dict[str, Any] = {
    "version": "580",
    "prerequisites": [],
    "driver": ["dkms-580|dkms", "smi", "fabric"],
    "others": ["modprobe"],
    "per_kernel": ["linux-headers-"],
    "driver_patterns": ["dkms*", "smi", "fabric"],
    "kernel_patterns": ["linux-image-*", "linux-headers-*"],
    "upgrade": False,
}


class Memory:
    """A package manager without a host."""

    def __init__(self, installed: dict[str, str], archive: dict[str, list[str]]) -> None:
        self.there, self.archive = dict(installed), archive
        self.holds: set[str] = set()
        self.holds_made: list[str] = []
        self.refreshed = 0

    def installed(self) -> dict[str, str]:
        return dict(self.there)

    def kernels(self, installed: dict[str, str]) -> list[str]:
        return sorted(n.removeprefix("linux-image-") for n in installed if "-image-" in n)

    def available(self, name: str) -> list[str]:
        return self.archive.get(name, [])

    def refresh(self) -> None:
        self.refreshed += 1

    def install(self, wanted: dict[str, str]) -> None:
        for name, version in wanted.items():
            self.there[name] = version or self.archive[name][0]

    def upgrade(self, names: list[str], rehearse: bool) -> list[str]:
        newer = [n for n in names if self.archive.get(n, [""])[0] > self.there[n]]
        if not rehearse:
            self.install({name: self.archive[name][0] for name in newer})
        return newer

    def remove(self, names: list[str]) -> None:
        for name in names:
            del self.there[name]

    def held(self) -> set[str]:
        return set(self.holds)

    def hold(self, names: list[str]) -> None:
        self.holds |= set(names)
        self.holds_made += names

    def release(self, names: list[str]) -> None:
        self.holds -= set(names)


def archive() -> dict[str, list[str]]:
    return {
        "dkms": ["590.44.01-1", "580.95.05-1", "580.65.06-1"],
        "smi": ["590.44.01-1", "580.105.08-1", "580.95.05-1", "580.65.06-1"],
        "fabric": ["580.95.05-1", "580.65.06-1"],
        "modprobe": ["610.1-1"],
        "linux-headers-6.1.0-40-amd64": ["6.1.153-1"],
        "linux-headers-amd64": ["6.1.153-1"],
        "linux-image-amd64": ["6.1.153-1"],
    }


def fresh() -> Memory:
    kernels = {"linux-image-6.1.0-40-amd64": "6.1.153-1", "linux-image-amd64": "6.1.153-1"}
    return Memory({"bash": "5.2", **kernels}, archive())


def test_brings_one_version_of_all_and_holds_it_with_the_kernel() -> None:
    packages = fresh()
    changes, held = module.bring(packages, PARAMS, check=False)
    driver = {name: packages.there[name] for name in ("dkms", "smi", "fabric")}
    # The newest of the branch that the first has, not the newest of each.
    assert driver == dict.fromkeys(driver, "580.95.05-1")
    assert packages.there["modprobe"] == "610.1-1"
    assert {"linux-headers-6.1.0-40-amd64", "linux-image-amd64", "smi"} <= packages.holds
    assert "bash" not in packages.holds
    assert changes
    assert held


def test_the_second_time_there_is_nothing_to_do() -> None:
    packages = fresh()
    module.bring(packages, PARAMS, check=False)
    packages.refreshed = 0
    assert module.bring(packages, PARAMS, check=False) == ([], [])
    assert packages.refreshed == 0


def test_check_mode_predicts_and_needs_no_repository() -> None:
    packages = fresh()
    packages.archive = {}
    before = packages.installed()
    changes, held = module.bring(packages, PARAMS, check=True)
    assert "smi" in changes
    assert held
    assert packages.installed() == before
    assert not packages.refreshed
    assert not packages.holds


@pytest.mark.parametrize("version", ["590", "580.65.06"])
def test_moves_to_another_branch_or_version_both_ways(version: str) -> None:
    packages = fresh()
    packages.archive["fabric"] = ["590.44.01-1", *packages.archive["fabric"]]
    module.bring(packages, PARAMS, check=False)
    module.bring(packages, {**PARAMS, "version": version}, check=False)
    assert all(in_version(packages.there[name], version) for name in ("dkms", "smi", "fabric"))
    module.bring(packages, {**PARAMS, "version": "580.95.05"}, check=False)
    assert packages.there["smi"] == "580.95.05-1"


def test_repairs_a_fabric_manager_of_another_version() -> None:
    packages = fresh()
    module.bring(packages, PARAMS, check=False)
    packages.there["fabric"] = "580.65.06-1"
    changes, _held = module.bring(packages, PARAMS, check=False)
    assert changes == ["fabric"]
    assert packages.there["fabric"] == "580.95.05-1"


def test_upgrades_kernel_and_driver_together_when_asked() -> None:
    packages = fresh()
    module.bring(packages, PARAMS, check=False)
    packages.archive["linux-image-amd64"] = ["6.1.160-1"]
    assert module.bring(packages, PARAMS, check=False) == ([], [])
    asked = {**PARAMS, "upgrade": True}
    assert "linux-image-amd64" in module.bring(packages, asked, check=True)[0]
    assert packages.there["linux-image-amd64"] == "6.1.153-1"
    module.bring(packages, asked, check=False)
    assert packages.there["linux-image-amd64"] == "6.1.160-1"


def test_an_upgrade_leaves_the_one_version_that_is_asked_for() -> None:
    """Where nothing pins it, as with dnf."""
    packages = fresh()
    asked = {**PARAMS, "version": "580.65.06", "upgrade": True}
    packages.archive["linux-image-amd64"] = ["6.1.160-1"]
    module.bring(packages, asked, check=False)
    assert packages.there["dkms"] == packages.there["smi"] == "580.65.06-1"
    assert packages.there["linux-image-amd64"] == "6.1.160-1"


def test_holds_what_is_there_when_an_installation_fails() -> None:
    packages = fresh()
    del packages.archive["fabric"]
    with pytest.raises(PackageError):
        module.bring(packages, PARAMS, check=False)
    assert "linux-image-amd64" in packages.holds


def test_takes_all_away_again() -> None:
    packages = fresh()
    before = set(packages.installed())
    module.bring(packages, PARAMS, check=False)
    names, held = module.take_away(packages, PARAMS, check=True)
    assert names
    assert held
    module.take_away(packages, PARAMS, check=False)
    left = set(packages.installed()) - before
    assert all(name.startswith("linux-headers-") or name == "modprobe" for name in left)
    assert not packages.holds
    assert module.take_away(packages, PARAMS, check=False) == ([], [])


@pytest.mark.parametrize(
    ("entry", "prefix", "words"),
    [
        ("smi", "535", ["no smi of version 535", "they have smi 590.44.01-1", "branch"]),
        ("fabric", "580.105.08", ["no fabric of version 580.105.08", "fabric 580.95.05-1"]),
        ("a|b", "580", ["no a or b of version 580", "no version of it at all"]),
        ("linux-headers-5.10.0-9-amd64", "", ["without its headers", "remove that kernel"]),
        ("linux-modules-nvidia-580-server-6.8.0-31-generic", "", ["never built", "up to date"]),
        ("cuda-toolkit-99", "", ["no cuda-toolkit-99", "nvidia_driver_source"]),
    ],
)
def test_says_what_the_repositories_lack(entry: str, prefix: str, words: list[str]) -> None:
    with pytest.raises(PackageError) as refusal:
        choose(fresh(), entry, prefix)
    assert "\nRemedy: " in str(refusal.value)
    for word in words:
        assert word in str(refusal.value)


@pytest.mark.parametrize(
    ("version", "prefix", "expected"),
    [
        ("580.95.05-1", "580", True),
        ("3:580.95.05-1.el9", "580", True),
        ("580.95.05-0ubuntu1", "580.95.05", True),
        ("580.95.05-1", "580.95", True),
        ("5801.1-1", "580", False),
        ("580.95.05-1", "580.95.0", False),
        ("535.261.03-1+other1", "535.261.03-1+other1", True),
        ("535.261.03-1", "535.261.03-1+other1", False),
    ],
)
def test_tells_versions_apart(version: str, prefix: str, expected: bool) -> None:
    assert in_version(version, prefix) is expected


def test_tools_for_containers_are_not_the_drivers() -> None:
    names = ["nvidia-container-toolkit", "libnvidia-container1", "nvidia-smi", "bash"]
    assert matching(names, ["nvidia-*", "libnvidia-*"]) == ["nvidia-smi"]


def answering(answers: dict[str, str], calls: list[str]) -> Any:
    """Run no command, but note it and give the answer to its beginning."""

    def run(command: list[str]) -> tuple[int, str, str]:
        said = " ".join(command)
        calls.append(said)
        found = (answer for start, answer in answers.items() if start in said)
        return 0, next(found, ""), ""

    return run


def test_apt_reads_what_dpkg_says() -> None:
    shown = "bash\t5.2\tii \nnvidia-smi\t535.261.03-1\thi \nnvidia-kernel-dkms\t535.261.03-1\tiF \n"
    kernels = "linux-image-6.1.0-40-amd64\t6.1\tii \nlinux-image-amd64\t6.1\tii \n"
    madison = (
        "nvidia-smi | 535.261.03-1 | http://deb.debian.org bookworm/non-free amd64 Packages\n"
        "nvidia-smi | 535.261.03-1 | http://deb.debian.org bookworm/non-free Sources\n"
    )
    apt = Apt(answering({"dpkg-query": shown + kernels, "madison": madison}, []))
    installed = apt.installed()
    # What is half configured is not there yet.
    assert "nvidia-kernel-dkms" not in installed
    assert installed["nvidia-smi"] == "535.261.03-1"
    assert apt.kernels(installed) == ["6.1.0-40-amd64", "amd64"]
    assert apt.available("nvidia-smi") == ["535.261.03-1"]


def test_kernels_of_ubuntu_for_virtual_machines_are_those_of_generic() -> None:
    """There is no linux-modules-nvidia-580-server-open-virtual."""
    installed = dict.fromkeys(["linux-image-virtual", "linux-image-6.8.0-45-generic"], "6.8")
    apt = Apt(answering({}, []))
    assert apt.kernels(installed) == ["6.8.0-45-generic", "generic"]
    assert apt.kernels({"linux-image-virtual-hwe-24.04": "6.8"}) == ["generic-hwe-24.04"]


def test_without_a_way_out_the_drivers_own_sources_are_enough() -> None:
    calls: list[str] = []

    def run(command: list[str]) -> tuple[int, str, str]:
        calls.append(" ".join(command))
        return (0, "", "") if "Dir::Etc" in calls[-1] else (100, "", "E: Could not resolve")

    with pytest.raises(CommandError):
        Apt(run).refresh()
    assert len(calls) == 1
    Apt(run, "/etc/apt/sources.list.d/nvidia-driver.sources").refresh()
    assert "SourceList=/etc/apt/sources.list.d/nvidia-driver.sources" in calls[-1]
    # What is known of the others stays.
    assert "List-Cleanup=0" in calls[-1]


def test_apt_rehearses_an_upgrade() -> None:
    planned = "Inst linux-image-amd64 [6.1] (6.2 Debian)\nConf linux-image-amd64 (6.2 Debian)\n"
    calls: list[str] = []
    apt = Apt(answering({"--simulate": planned}, calls))
    assert apt.upgrade(["linux-image-amd64"], rehearse=True) == ["linux-image-amd64"]
    assert len(calls) == 1


def test_dnf_reads_locks_and_installs_past_them() -> None:
    calls: list[str] = []
    locks = "nvidia-driver-cuda-3:580.95.05-1.el9.*\nkernel-core-0:5.14.0-570.el9.*\n"
    dnf = Dnf(answering({"versionlock list": locks}, calls))
    assert dnf.held() == {"nvidia-driver-cuda", "kernel-core"}
    dnf.install({"nvidia-driver-cuda": "580.95.05-1.el9", "dkms": ""})
    assert calls[-1] == (
        "dnf --assumeyes --quiet --disableplugin=versionlock install --allowerasing "
        "nvidia-driver-cuda-580.95.05-1.el9 dkms"
    )


def test_dnf_knows_each_of_several_kernels() -> None:
    """Otherwise the headers of every kernel would be installed anew each time."""
    queried = (
        "bash\t5.1-1.el9\nkernel-core\t5.14.0-570.el9\nkernel-core\t5.14.0-611.el9\n"
        "kernel-devel\t5.14.0-570.el9\nkernel-devel\t5.14.0-611.el9\n"
        "nvidia-driver-cuda\t580.95.05-1.el9\n"
    )
    releases = "5.14.0-570.el9\n5.14.0-611.el9\n"
    dnf = Dnf(answering({"rpm --query --all": queried, "kernel-core": releases}, []))
    params = {**PARAMS, "driver": [], "others": [], "per_kernel": ["kernel-devel-"]}
    installed = dnf.installed()
    assert module.lacking(dnf, params, installed) == {}
    del installed["kernel-devel-5.14.0-570.el9"]
    assert module.lacking(dnf, params, installed) == {"kernel-devel-5.14.0-570.el9": ""}


def test_modules_are_built_for_the_kernels_that_packages_leave_out(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(module, "unbuilt_kernels", lambda _look: ["6.1.0-37-amd64"])
    calls: list[str] = []
    run = answering({}, calls)
    built = {**PARAMS, "built": True}
    assert module.build_rest(no_program, run, {**PARAMS, "built": False}, check=False) == []
    assert module.build_rest(no_program, run, built, check=True) == ["6.1.0-37-amd64"]
    assert calls == []
    assert module.build_rest(no_program, run, built, check=False) == ["6.1.0-37-amd64"]
    assert calls == ["dkms autoinstall -k 6.1.0-37-amd64"]


def test_check_mode_needs_no_dkms() -> None:
    """As before the first run; AnsibleModule.run_command would otherwise end the module."""
    built = {**PARAMS, "built": True}
    assert module.build_rest(no_program, answering({}, []), built, check=True) == []


def test_a_build_for_another_kernel_that_fails_is_told_with_what_to_do() -> None:
    with pytest.raises(CommandError) as failed:
        build(failing, "6.1.0-37-amd64")
    assert "Do not restart the host" in module.explained(failed.value)


def test_two_versions_at_once_are_told_with_what_to_do() -> None:
    error = CommandError("apt-get --yes ended with 100:\nThe packages have unmet dependencies:\n")
    assert "remove the older kernel" in module.explained(error)


def test_a_repository_with_two_keys_is_told_with_what_to_do() -> None:
    error = CommandError("E: Conflicting values set for option Signed-By regarding source file:/a")
    assert "another file in /etc/apt/sources.list.d" in module.explained(error)


def test_what_is_upgraded_is_held_in_its_new_version() -> None:
    """The locks of dnf name versions, and those of before would bring them back."""
    packages = fresh()
    module.bring(packages, PARAMS, check=False)
    packages.holds_made.clear()
    module.bring(packages, PARAMS, check=False)
    assert packages.holds_made == []
    packages.archive["linux-image-amd64"] = ["6.1.160-1"]
    module.bring(packages, {**PARAMS, "upgrade": True}, check=False)
    assert "linux-image-amd64" in packages.holds_made


def test_dnf_tells_the_newest_version_first() -> None:
    minors = ["105.08", "126.09", "159.04", "65.06", "82.07", "95.05"]
    listed = "".join(f"580.{minor}-1.el9\n" for minor in minors)
    dnf = Dnf(answering({"repoquery": listed}, []))
    assert choose(dnf, "nvidia-driver-cuda", "580") == ("nvidia-driver-cuda", "580.159.04-1.el9")
    assert dnf.available("nvidia-driver-cuda")[-1] == "580.65.06-1.el9"


def test_dnf_lists_what_would_be_upgraded() -> None:
    listed = "\nkernel-core.x86_64  5.14.0-611.el9  baseos\n\nObsoleting Packages\nold.x86_64 1 x\n"
    dnf = Dnf(answering({"check-update": listed}, []))
    assert dnf.upgrade(["kernel-core"], rehearse=True) == ["kernel-core"]


def no_program(
    command: list[str], *, handle_exceptions: bool = True, **_options: object
) -> tuple[int, str, str]:
    """Be on a host that has none of the programs, as AnsibleModule.run_command is."""
    assert not handle_exceptions, "the module would end here"
    raise FileNotFoundError(command[0])


def failing(_command: list[str]) -> tuple[int, str, str]:
    """Fail as apt does where a module cannot be built."""
    return 100, "", "Errors were encountered while processing:\n nvidia-kernel-open-dkms\n"


def test_a_build_that_fails_is_told_with_what_to_do() -> None:
    with pytest.raises(CommandError) as failed:
        Apt(failing).install({"nvidia-kernel-open-dkms": ""})
    said = module.explained(failed.value)
    assert "ended with 100" in said
    assert "The log of the build" in said
    assert "Do not restart the host" in said


def test_a_package_that_is_not_there_has_no_log() -> None:
    with pytest.raises(PackageError) as refusal:
        choose(fresh(), "dkms-580|dkms", "535")
    assert "log of the build" not in module.explained(refusal.value)
