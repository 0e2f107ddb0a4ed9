"""Which systems are taken, and what is said about the others."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml
from ansible_collections.gpufleet.llm.plugins.module_utils._host_finding import RunCommand
from ansible_collections.gpufleet.llm.plugins.module_utils._host_system import (
    DISTRIBUTIONS,
    System,
    check_system,
    read_system,
)

ROLES = Path(__file__).resolve().parents[3] / "roles"
GOOD = System("debian", "12", "x86_64", "systemd", 252, "root")
ALL = ["inference", "chat", "gateway"]
# Changes to a good host, its groups, and words of the one finding.
REFUSED: dict[str, tuple[dict[str, Any], list[str], list[str]]] = {
    "other distribution": (
        {"distribution": "fedora", "version": "42"},
        ALL,
        ["It runs fedora 42", "groups inference, chat and gateway run on Debian 12, Debian 13"],
    ),
    "older release": ({"version": "11"}, ["chat"], ["debian 11", "the group chat"]),
    "testing": ({"version": ""}, ["gateway"], ["debian (no version)"]),
    "ubuntu 22.04": (
        {"distribution": "ubuntu", "version": "22.04", "systemd": 249},
        ["gateway"],
        ["the group gateway run on Debian 12, Debian 13 and Ubuntu 24.04 only"],
    ),
    "container without systemd": ({"init": "sh", "systemd": 0}, ALL, ["Process 1 is sh"]),
    "old systemd": ({"systemd": 251}, ALL, ["It has systemd 251", "need 252"]),
    "other processor": (
        {"machine": "aarch64"},
        ALL,
        ["processor is aarch64", "inference and chat"],
    ),
    "no root": ({"user": "deploy"}, ALL, ["works here as deploy"]),
}
TAKEN: dict[str, tuple[dict[str, Any], list[str]]] = {
    "debian 12": ({}, ALL),
    "debian 13": ({"version": "13", "systemd": 257}, ALL),
    "ubuntu 24.04": ({"distribution": "ubuntu", "version": "24.04", "systemd": 255}, ALL),
    "gateway on arm": ({"machine": "aarch64"}, ["gateway"]),
}


@pytest.mark.parametrize("case", REFUSED)
def test_refused(case: str) -> None:
    changes, groups, words = REFUSED[case]
    (finding,) = check_system(replace(GOOD, **changes), groups).findings
    assert finding.variable == ("ansible_become" if case == "no root" else "groups")
    assert finding.remedy
    for word in words:
        assert word in finding.problem


@pytest.mark.parametrize("case", TAKEN)
def test_taken(case: str) -> None:
    changes, groups = TAKEN[case]
    assert check_system(replace(GOOD, **changes), groups).findings == []


def test_everything_wrong_is_told_at_once() -> None:
    bad = System("alpine", "3.20", "armv7l", "init", 0, "me")
    assert len(check_system(bad, ALL).findings) == 4


def test_systems_that_the_roles_name_are_taken() -> None:
    versions = {"bookworm": "12", "trixie": "13", "jammy": "22.04", "noble": "24.04"}
    for role in ("vllm", "chainlit", "nginx", "logging", "alerting"):
        meta = yaml.safe_load((ROLES / role / "meta" / "main.yml").read_text())
        for platform in meta["galaxy_info"]["platforms"]:
            known = DISTRIBUTIONS[platform["name"].lower()]
            assert {versions[name] for name in platform["versions"]} <= set(known), role


def test_this_host_is_read(tmp_path: Path, run_command: RunCommand) -> None:
    (tmp_path / "etc").mkdir()
    (tmp_path / "etc/os-release").write_text('NAME="Some Linux"\nID=debian\nVERSION_ID="12"\n')
    (tmp_path / "proc/1").mkdir(parents=True)
    (tmp_path / "proc/1/comm").write_text("systemd\n")
    seen = read_system(run_command, tmp_path)
    assert (seen.distribution, seen.version, seen.init) == ("debian", "12", "systemd")
    assert seen.machine == os.uname().machine
