"""What the records say of runs of a small playbook on this machine."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import task_records

TEST_HOSTS = Path(task_records.__file__).parent
# `truth` is whether check mode predicts what the run does.
PLAYBOOK = """
- name: First
  hosts: this
  gather_facts: false
  tasks:
    - name: Change
      ansible.builtin.debug:
      changed_when: 1 == 1
      notify: Tell
    - name: Include
      ansible.builtin.include_tasks: more.yml
      loop: [1, 2]
    - name: Skip
      ansible.builtin.debug:
      when: false
  handlers:
    - name: Tell
      ansible.builtin.debug:
- name: Second
  hosts: this
  gather_facts: false
  tasks:
    - name: Loop
      ansible.builtin.debug:
      loop: [a, b]
      changed_when: item == 'a' or (truth or ansible_check_mode)
    - name: Run alone
      ansible.builtin.debug:
      changed_when: 1 == 1
      when: truth or not ansible_check_mode
"""
MORE = """
- name: Look
  ansible.builtin.debug:
"""


class Runs:
    """Runs of the playbook, with one directory for the records of all."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.records = folder / "records"
        (folder / "more.yml").write_text(MORE)
        (folder / "site.yml").write_text(PLAYBOOK)

    def play(self, truth: bool, *options: str) -> str:
        """Run the playbook and return what it printed."""
        command = [sys.executable, "-m", "ansible", "playbook", "--inventory", "this,"]
        command += ["--connection", "local", "--extra-vars", f'{{"truth": {str(truth).lower()}}}']
        done = subprocess.run(
            [*command, *options, "site.yml"],
            cwd=self.folder,
            env={
                **os.environ,
                "ANSIBLE_CONFIG": "",
                "ANSIBLE_NOCOLOR": "1",
                "ANSIBLE_CALLBACK_PLUGINS": str(TEST_HOSTS / "callback"),
                "ANSIBLE_CALLBACKS_ENABLED": "record_tasks",
                "TASK_RECORDS": str(self.records),
            },
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        assert done.stderr == ""
        return done.stdout

    def read(self, name: str) -> list[task_records.Record]:
        """Return the records of one run."""
        return task_records.read(self.records / f"{name}.jsonl")


@pytest.fixture
def runs(tmp_path: Path) -> Runs:
    return Runs(tmp_path)


def test_a_true_prediction_differs_in_nothing_and_counts_as_the_recap(runs: Runs) -> None:
    runs.play(True, "--check")
    printed = runs.play(True)
    assert task_records.differences(runs.read("check"), runs.read("run-1")) == []

    recap = re.search(r"ok=(\d+) +changed=3 ", printed)
    assert recap, printed
    executed = task_records.executed_by_play(runs.read("run-1"), "this")
    # The change, two includes, a task in each, the handler; then the loop as one, and the last.
    assert executed == {"First": 6, "Second": 2}
    assert executed.total() == int(recap[1])


def test_every_untrue_prediction_is_named_and_a_check_begins_anew(runs: Runs) -> None:
    runs.play(False, "--check")
    runs.play(False)
    rows = task_records.differences(runs.read("check"), runs.read("run-1"))
    assert sorted((row[0], row[1].partition(" (")[0], *row[2:]) for row in rows) == [
        ("Second", "Loop", "b", "this", "changed", "ok"),
        ("Second", "Run alone", "", "this", "skipped", "changed"),
    ]
    assert "site.yml:" in rows[0][1]

    runs.play(True, "--check")
    assert [path.name for path in runs.records.iterdir()] == ["check.jsonl"]


def record(task: str, status: str, path: str | None) -> task_records.Record:
    return task_records.Record("play", task, "a/b/c.yml:1", "this", None, False, path, status)


@pytest.mark.parametrize(
    ("path_of_the_first", "order", "rows"),
    [("/a", 1, 0), ("/b", 1, 1), (None, 1, 1), ("/a", -1, 1)],
    ids=["same path", "other path", "no path", "the first comes later"],
)
def test_a_path_that_a_task_before_has_changed(
    path_of_the_first: str | None, order: int, rows: int
) -> None:
    first = record("first", "changed", path_of_the_first)
    check = [first, record("second", "changed", "/a")]
    done = [first, record("second", "ok", "/a")]
    assert len(task_records.differences(check[::order], done[::order])) == rows


def test_table_is_aligned() -> None:
    assert task_records.table([("play", "tasks"), ("Stage", 12)]) == "play   tasks\nStage  12"
