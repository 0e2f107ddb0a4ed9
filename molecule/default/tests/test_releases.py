"""Changes of the inventory on a running host: each restarts what it concerns and nothing else."""

from __future__ import annotations

import json
import subprocess
from typing import Any

import ansible_playbook
import pytest
from host import Host
from openai_api import answers

FIRST, SECOND, CHAT = "vllm@smollm2.service", "vllm@second.service", "chainlit.service"
RELEASES = "/opt/gpufleet/vllm"


def two_instances(**options: object) -> list[dict[str, Any]]:
    """Return the scenario's instance and a replica of it with other options."""
    first = ansible_playbook.instances()[0]
    # Not on the core of the first: they would starve each other.
    environment = {**first["environment"], "VLLM_CPU_OMP_THREADS_BIND": "1"}
    second = {
        **first,
        "name": "second",
        "port": 8100,
        "environment": environment,
        "options": {**first["options"], **options},
    }
    return [first, second]


def site(**variables: object) -> None:
    done = ansible_playbook.run("site.yml", variables)
    assert done.returncode == 0, done.stdout[-3000:]


def roll_back(release: str) -> subprocess.CompletedProcess[str]:
    variables = {"rollback_service": "vllm", "rollback_release": release}
    return ansible_playbook.run("playbooks/rollback.yml", variables)


def pids(host: Host, *units: str) -> dict[str, str]:
    return {unit: host.show(unit, "MainPID")["MainPID"] for unit in units}


def restarted(host: Host, before: dict[str, str]) -> list[str]:
    """Return the units whose main process is another one than before."""
    return [unit for unit, pid in pids(host, *before).items() if pid != before[unit]]


def link(host: Host, name: str) -> str:
    return host.run(f"basename $(readlink {RELEASES}/{name})")


@pytest.fixture(scope="module")
def single(host: Host) -> str:
    """Return the release with one instance, from which these tests begin."""
    return link(host, "current")


def test_new_instance_leaves_the_first_alone(host: Host, single: str) -> None:
    before = pids(host, FIRST, CHAT)
    site(vllm_instances=two_instances())
    assert restarted(host, before) == []
    assert host.show(SECOND, "ActiveState")["ActiveState"] == "active"
    assert link(host, "previous") == single


def test_option_of_one_instance_restarts_that_one_alone(host: Host) -> None:
    before = pids(host, FIRST, SECOND, CHAT)
    site(vllm_instances=two_instances(max_num_seqs=4))
    assert restarted(host, before) == [SECOND]


def test_title_of_the_chat_restarts_no_instance(host: Host) -> None:
    before = pids(host, FIRST, SECOND, CHAT)
    site(vllm_instances=two_instances(max_num_seqs=4), chainlit_title="Another title")
    assert restarted(host, before) == [CHAT]


def test_rollback_brings_the_settings_of_before(host: Host) -> None:
    before = pids(host, FIRST, SECOND, CHAT)
    done = ansible_playbook.run("playbooks/rollback.yml", {"rollback_service": "vllm"})
    assert done.returncode == 0, done.stdout[-3000:]
    assert restarted(host, before) == [SECOND]
    running = host.run(f"cat /proc/{pids(host, SECOND)[SECOND]}/cwd/instances/second.yaml")
    assert "max-num-seqs: 8" in running
    before = pids(host, FIRST, SECOND, CHAT)
    again = ansible_playbook.run("playbooks/rollback.yml", {"rollback_service": "vllm"})
    assert (again.returncode, "changed=0 " in again.stdout) == (0, True), again.stdout[-3000:]
    assert restarted(host, before) == []


def test_rollback_to_a_named_release_stops_what_it_lacks(
    host: Host, url: str, model: str, single: str
) -> None:
    before = pids(host, FIRST, CHAT)
    done = roll_back(single)
    assert done.returncode == 0, done.stdout[-3000:]
    assert restarted(host, before) == []
    second = host.show(SECOND, "ActiveState", "UnitFileState")
    assert second == {"ActiveState": "inactive", "UnitFileState": "disabled"}
    assert link(host, "current") == link(host, "verified") == single
    assert answers(url, model)


def test_rollback_to_a_release_that_is_not_there(host: Host, single: str) -> None:
    before = pids(host, FIRST, CHAT)
    done = roll_back("0123456789ab")
    assert done.returncode != 0
    assert "There is no release 0123456789ab" in done.stdout
    assert single in done.stdout
    assert restarted(host, before) == []
    assert link(host, "current") == single


def test_the_inventory_again_changes_the_title_alone(host: Host, single: str) -> None:
    before = pids(host, FIRST, CHAT)
    site()
    assert restarted(host, before) == [CHAT]
    assert link(host, "current") == single


def test_old_releases_are_removed(host: Host) -> None:
    kept = host.run(f"ls {RELEASES}/releases").split()
    assert len(kept) <= 3
    assert {link(host, name) for name in ("current", "verified", "previous")} <= set(kept)


def test_releases_hold_no_partial_work(host: Host) -> None:
    partial = host.run("find /opt/gpufleet /var/lib/gpufleet/models -name '*.partial*'")
    assert partial == ""
    versions = json.loads(host.run("systemctl list-units --failed --output json"))
    assert versions == []
