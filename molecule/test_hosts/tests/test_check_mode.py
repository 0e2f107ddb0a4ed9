"""Check mode on the bare host predicted, task by task, what converge then did."""

from __future__ import annotations

import os
from pathlib import Path

import task_records

RECORDS = Path(os.environ["TASK_RECORDS"])
REMEDY = "`molecule test` begins with a bare host, a check and a converge; run that"


def test_check_mode_told_what_the_run_would_do() -> None:
    check, run = RECORDS / "check.jsonl", RECORDS / "run-1.jsonl"
    assert check.is_file(), f"no check was recorded in {RECORDS}: {REMEDY}"
    assert run.is_file(), f"no run after the check was recorded in {RECORDS}: {REMEDY}"
    done = task_records.read(run)
    assert any(record.status == "changed" for record in done), f"the host was not bare: {REMEDY}"
    rows = task_records.differences(task_records.read(check), done)
    title = ("play", "task", "item", "host", "check", "run")
    assert not rows, "check mode was wrong about these tasks:\n" + task_records.table(
        [title, *rows]
    )
