"""A second run of site.yml changes nothing, restarts nothing, and stays within its budget."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import ansible_playbook
import pytest
import task_records
from host import Host

# Of the whole site on one host; about half a second each.
EXECUTED_TASKS = 70
UNITS = ["vllm@smollm2.service", "chainlit.service", "nginx.service"]
RECAP = re.compile(r"^(\S+) +: ok=(\d+) +changed=(\d+) +unreachable=0 +failed=0 ", re.MULTILINE)


def main_pids(host: Host) -> dict[str, str]:
    return {unit: host.show(unit, "MainPID")["MainPID"] for unit in UNITS}


@pytest.fixture
def dead_source(host: Host) -> Iterator[None]:
    """A source of packages that cannot be reached, and lists that are older than a day."""
    entry = "/etc/apt/sources.list.d/dead.list"
    old = "/var/lib/apt/periodic/update-success-stamp /var/lib/apt/lists"
    host.run(f"echo 'deb http://127.0.0.1:9/ stable main' > {entry}")
    host.run(f"mkdir -p /var/lib/apt/periodic && touch --date '2 days ago' {old}")
    yield
    host.run(f"rm {entry}")


@pytest.mark.usefixtures("dead_source")
def test_second_run(
    host: Host,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("TASK_RECORDS", str(tmp_path))
    before = main_pids(host)
    run = ansible_playbook.run("site.yml")
    assert run.returncode == 0, run.stdout[-3000:]

    ((name, ok, changed),) = RECAP.findall(run.stdout)
    records = task_records.read(tmp_path / "run-1.jsonl")
    executed = task_records.executed_by_play(records, name)
    total = ("together", executed.total())
    with capsys.disabled():
        print("\n" + task_records.table([("play", "executed tasks"), *executed.items(), total]))

    assert changed == "0", [line for line in run.stdout.splitlines() if "changed:" in line]
    assert main_pids(host) == before
    assert "0" not in before.values()
    assert executed.total() == int(ok), "the records do not count as Ansible does"
    assert executed.total() <= EXECUTED_TASKS
