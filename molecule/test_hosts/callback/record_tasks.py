"""Callback plugin that records what every task did, for tests; nothing of it is printed.

A run in check mode begins anew with `check.jsonl`; the runs after it are `run-1.jsonl` and so on.
molecule/test_hosts/task_records.py reads them.
"""

from __future__ import annotations

import json
import os
from itertools import count
from pathlib import Path
from typing import TextIO

from ansible import context
from ansible.executor.task_result import CallbackTaskResult
from ansible.inventory.host import Host
from ansible.playbook import Playbook
from ansible.playbook.included_file import IncludedFile
from ansible.playbook.play import Play
from ansible.playbook.task import Task
from ansible.playbook.task_include import TaskInclude
from ansible.plugins.callback import CallbackBase

DOCUMENTATION = r"""
name: record_tasks
type: aggregate
short_description: Records what every task did
description:
  - Writes a line of JSON for every result, with play, task, place, host, item and status.
  - The environment variable E(TASK_RECORDS) names the directory of the records.
"""


def path_in(result: CallbackTaskResult) -> str | None:
    """Path on the host that the result is about, where it names one."""
    path = result.result.get("path") or result.result.get("dest")
    return str(path) if path else None


class CallbackModule(CallbackBase):
    """Record the results of one run of a playbook."""

    CALLBACK_VERSION = 2.0
    CALLBACK_TYPE = "aggregate"
    CALLBACK_NAME = "record_tasks"
    CALLBACK_NEEDS_ENABLED = True

    _file: TextIO
    _play = ""

    def v2_playbook_on_start(self, playbook: Playbook) -> None:
        """Open the file of this run."""
        directory = Path(os.environ["TASK_RECORDS"])
        directory.mkdir(parents=True, exist_ok=True)
        if context.CLIARGS["check"]:
            for old in directory.glob("*.jsonl"):
                old.unlink()
            self._file = (directory / "check.jsonl").open("w")
            return
        for number in count(1):
            try:
                # Another run may begin at the same time.
                self._file = (directory / f"run-{number}.jsonl").open("x")
            except FileExistsError:
                continue
            return

    def v2_playbook_on_play_start(self, play: Play) -> None:
        """Remember the play."""
        self._play = play.get_name()

    def v2_playbook_on_include(self, included_file: IncludedFile) -> None:
        """Record an include when Ansible counts it: once a host, after its file was read."""
        for host in included_file._hosts:
            self._write(host, included_file._task, "ok")

    def v2_runner_on_ok(self, result: CallbackTaskResult) -> None:
        """Record a task that ended well, but for includes."""
        if not isinstance(result.task, TaskInclude):
            self._record(result, "changed" if result.is_changed() else "ok")

    def v2_runner_on_failed(self, result: CallbackTaskResult, ignore_errors: bool = False) -> None:
        """Record a task that failed."""
        self._record(result, "failed")

    def v2_runner_on_skipped(self, result: CallbackTaskResult) -> None:
        """Record a task that was skipped."""
        self._record(result, "skipped")

    def v2_runner_on_unreachable(self, result: CallbackTaskResult) -> None:
        """Record a task that did not reach its host."""
        self._record(result, "unreachable")

    def v2_runner_item_on_ok(self, result: CallbackTaskResult) -> None:
        """Record an item of a loop that ended well."""
        self._record_item(result, "changed" if result.is_changed() else "ok")

    def v2_runner_item_on_failed(self, result: CallbackTaskResult) -> None:
        """Record an item of a loop that failed."""
        self._record_item(result, "failed")

    def v2_runner_item_on_skipped(self, result: CallbackTaskResult) -> None:
        """Record an item of a loop that was skipped."""
        self._record_item(result, "skipped")

    def _record(self, result: CallbackTaskResult, status: str) -> None:
        self._write(result.host, result.task, status, path=path_in(result))

    def _record_item(self, result: CallbackTaskResult, status: str) -> None:
        if not isinstance(result.task, TaskInclude):
            item = str(self._get_item_label(result.result))
            self._write(result.host, result.task, status, item, path_in(result))

    def _write(
        self,
        host: Host,
        task: Task,
        status: str,
        item: str | None = None,
        path: str | None = None,
    ) -> None:
        record = {
            "play": self._play,
            "task": task.get_name(),
            "place": task.get_path(),
            "host": host.get_name(),
            "item": item,
            "loop": bool(task.loop),
            "path": path,
            "status": status,
        }
        self._file.write(json.dumps(record) + "\n")
        self._file.flush()
