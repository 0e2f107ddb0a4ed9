"""The pools of the gateway: from the inventory to addresses."""

from __future__ import annotations

import re
import subprocess
import sys
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


def look_up(tmp_path: Path, name: str) -> subprocess.CompletedProcess[str]:
    """Run the role's tasks that make addresses of names; writes `gateway.conf`."""
    role = ROOT / "roles" / "nginx"
    tasks = yaml.safe_load((role / "tasks" / "configure.yml").read_text())
    (task,) = [task for task in tasks if "look_up" in str(task)]
    source = role / "templates" / "gateway.conf.j2"
    write = {"src": str(source), "dest": f"{tmp_path}/gateway.conf", "mode": "0644"}
    upstream = {"name": "one", "address": name, "port": 8000, "health_port": 9000}
    play = {
        "hosts": "localhost",
        "gather_facts": False,
        "vars_files": [f"{role}/vars/main.yml"],
        "vars": {
            **yaml.safe_load((role / "defaults" / "main.yml").read_text()),
            "ansible_python_interpreter": sys.executable,
            "nginx_vllm_upstreams": [upstream, {**upstream, "address": "fd00::1"}],
            "nginx_chat_upstreams": [{**upstream, "address": "192.0.2.1"}],
            "__nginx_ipv6": {"stat": {"exists": False}},
            "__nginx_version": {},
        },
        "tasks": [task, {"ansible.builtin.template": write}],
    }
    (tmp_path / "play.yml").write_text(yaml.safe_dump([play]))
    return call("ansible-playbook", "-i", "localhost,", "-c", "local", "play.yml", cwd=tmp_path)


def test_names_become_addresses_that_are_listened_on(tmp_path: Path) -> None:
    done = look_up(tmp_path, "localhost")  # has ::1 on most machines too
    assert done.returncode == 0, done.stdout
    servers = re.findall(r"server (\S+:\d+) ", (tmp_path / "gateway.conf").read_text())
    pool = ["127.0.0.1:8000", "[fd00::1]:8000"]
    guards = ["127.0.0.1:9000", "[fd00::1]:9000"]
    assert servers == [*pool, *pool, *guards, "192.0.2.1:8000"]


def test_name_that_is_gone(tmp_path: Path) -> None:
    done = look_up(tmp_path, "gone.invalid")
    assert done.returncode != 0
    assert "gone.invalid is unknown to this host: take what is gone out" in done.stdout
