"""The pools of the gateway follow from the inventory, or stand in it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.unit.ansible_command import ROOT, call

INSTANCE = {"name": "qwen3", "port": 8000}
DERIVED = {
    "vllm": {"name": "gpu1-qwen3", "address": "192.0.2.1", "port": 8000, "health_port": 9000},
    "chat": {"name": "gpu1", "address": "192.0.2.1", "port": 7860},
}
ELSEWHERE = {
    "vllm": {"name": "a", "address": "192.0.2.9", "port": 1, "health_port": 2},
    "chat": {"name": "b", "address": "192.0.2.9", "port": 3},
}


@pytest.mark.parametrize("given", [[], ["vllm"], ["vllm", "chat"]])
def test_pools(tmp_path: Path, given: list[str]) -> None:
    hosts: dict[str, Any] = {
        "gpu1": {"ansible_host": "192.0.2.1", "vllm_instances": [INSTANCE]},
        "web": {f"nginx_{kind}_upstreams": [ELSEWHERE[kind]] for kind in given},
    }
    one = {"hosts": {"gpu1": None}}
    groups = {"inference": one, "chat": one, "gateway": {"hosts": {"web": None}}}
    (tmp_path / "hosts.yml").write_text(
        yaml.safe_dump({"all": {"hosts": hosts, "children": groups}})
    )
    (play,) = yaml.safe_load((ROOT / "playbooks" / "gateway.yml").read_text())
    (task,) = play["tasks"]
    shown = {kind: f"{{{{ nginx_{kind}_upstreams }}}}" for kind in DERIVED}
    show = {"ansible.builtin.debug": {"msg": shown}, "vars": task["vars"]}
    (tmp_path / "play.yml").write_text(
        yaml.safe_dump([{"hosts": "gateway", "gather_facts": False, "tasks": [show]}])
    )
    done = call("ansible-playbook", "-i", "hosts.yml", "play.yml", cwd=tmp_path)
    assert done.returncode == 0, done.stdout
    said = yaml.safe_load(done.stdout.partition("=> ")[2].partition("PLAY RECAP")[0])
    assert said["msg"] == {
        kind: [(ELSEWHERE if kind in given else DERIVED)[kind]] for kind in DERIVED
    }
