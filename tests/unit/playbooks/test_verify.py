"""The play that asks the gateway from the control node."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from tests.unit.ansible_command import ROOT, call


def test_inventory_that_becomes_root_needs_no_root_on_the_control_node(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As with `ansible_user: deploy` and `ansible_become: true` for all hosts."""
    monkeypatch.setenv("ANSIBLE_BECOME_ALLOW_SAME_USER", "true")
    become = {"ansible_become": True, "ansible_become_exe": "/bin/false"}
    hosts = {"gateway": {"hosts": {"web": {"ansible_host": "192.0.2.1"}}}, "all": {"vars": become}}
    (tmp_path / "hosts.yml").write_text(yaml.safe_dump(hosts))
    (play,) = yaml.safe_load((ROOT / "playbooks" / "verify.yml").read_text())
    asks = [task for task in play["tasks"] if "gpufleet.llm.llm_health" in task]
    assert asks == play["tasks"]
    ping = [{"ansible.builtin.ping": {}, "delegate_to": task["delegate_to"]} for task in asks]
    (tmp_path / "play.yml").write_text(yaml.safe_dump([{**play, "tasks": ping}]))
    done = call("ansible-playbook", "-i", "hosts.yml", "play.yml", cwd=tmp_path)
    assert done.returncode == 0, done.stdout
