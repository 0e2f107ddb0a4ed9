"""A rollout stops behind a batch that has lost a host, which Ansible does not do by itself."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.unit.ansible_command import ROOT, call

PLAYBOOKS = ROOT / "playbooks"
# As that of the driver, before staging.
BATCHES_BEFORE = f"""
- hosts: all
  gather_facts: false
  serial: [1, 25%]
  max_fail_percentage: 0
  tasks:
    - ansible.builtin.import_tasks: {PLAYBOOKS}/tasks/lost_hosts.yml
"""
SITE = f"""
- hosts: all
  gather_facts: false
  tasks:
    - ansible.builtin.ping:
      vars: {{away: "{{{{ before }}}}"}}
    - ansible.builtin.assert:
        that: inventory_hostname != failing
- hosts: all
  gather_facts: false
  serial: [1, 2, 100%]
  max_fail_percentage: 0
  tasks:
    - ansible.builtin.import_tasks: {PLAYBOOKS}/tasks/lost_hosts.yml
    - ansible.builtin.copy:
        dest: "{{{{ playbook_dir }}}}/{{{{ inventory_hostname }}}}.new"
        content: ""
        mode: "0644"
      vars: {{away: "{{{{ during }}}}"}}
"""
# Nothing listens on the port.
VARIABLES = {
    "ansible_connection": "{{ (inventory_hostname == away) | ternary('ssh', 'local') }}",
    "ansible_host": "127.0.0.1",
    "ansible_port": 1,
    "ansible_python_interpreter": "{{ ansible_playbook_python }}",
    "away": "none",
}


def run(tmp_path: Path, plays: str, **hosts: str) -> subprocess.CompletedProcess[str]:
    """Run the plays on five hosts, of which `hosts` are away or fail at some point."""
    inventory = {"all": {"hosts": dict.fromkeys("abcde"), "vars": VARIABLES}}
    (tmp_path / "hosts.yml").write_text(yaml.safe_dump(inventory))
    (tmp_path / "site.yml").write_text(plays)
    points = dict.fromkeys(("before", "failing", "during"), "")
    given = [f"-e{point}={host or 'none'}" for point, host in {**points, **hosts}.items()]
    return call("ansible-playbook", "-i", "hosts.yml", "site.yml", *given, cwd=tmp_path)


def reached_in(tmp_path: Path) -> str:
    """The hosts that got the release."""
    return "".join(sorted(path.stem for path in tmp_path.glob("*.new")))


def said(done: subprocess.CompletedProcess[str]) -> str:
    """The messages, in one line."""
    return " ".join(done.stdout.split())


@pytest.mark.parametrize(
    ("before", "during", "reached"),
    [
        ("", "", "abcde"),
        # In the second batch; the third one is left alone.
        ("", "b", "ac"),
        ("", "c", "ab"),
        # It was away from the beginning: the others get the release.
        ("b", "", "acde"),
    ],
)
def test_lost_host(tmp_path: Path, before: str, during: str, reached: str) -> None:
    done = run(tmp_path, SITE, before=before, during=during)
    assert reached_in(tmp_path) == reached, done.stdout
    assert (f"{during} failed earlier in this run, or cannot" in said(done)) == bool(during)
    assert (done.returncode == 0) == (not before and not during)


@pytest.mark.parametrize(
    ("plays", "lost", "reached"),
    [
        # The others get the release, but not many at once before one has shown that it is good.
        (SITE, {"failing": "b"}, "acde"),
        (SITE, {"failing": "a"}, ""),
        (SITE, {"before": "a"}, ""),
        # It took part in this run.
        (BATCHES_BEFORE + SITE, {"failing": "b"}, ""),
        (BATCHES_BEFORE + SITE, {"before": "b"}, ""),
    ],
)
def test_host_lost_in_staging(
    tmp_path: Path, plays: str, lost: dict[str, str], reached: str
) -> None:
    done = run(tmp_path, plays, **lost)
    assert reached_in(tmp_path) == reached, done.stdout
    (host,) = lost.values()
    assert (f"{host} failed earlier in this run, or cannot" in said(done)) == (not reached)
    assert done.returncode != 0


def batched(plays: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The plays whose next batch is many hosts."""
    return [play for play in plays if isinstance(play.get("serial"), list)]


def test_every_play_in_batches_looks() -> None:
    looks = {"ansible.builtin.import_tasks": "tasks/lost_hosts.yml"}
    plays = {
        path.stem: batched(yaml.safe_load(path.read_text())) for path in PLAYBOOKS.glob("*.yml")
    }
    assert {name for name in plays if plays[name]} == {"driver", "rollback", "rollout"}
    # One, then so many at a time that most serve; Ansible repeats the last.
    assert all(play["serial"] == [1, "25%"] for found in plays.values() for play in found)
    for play in (play for found in plays.values() for play in found):
        assert any(looks.items() <= task.items() for task in play["tasks"][:2]), play["name"]
