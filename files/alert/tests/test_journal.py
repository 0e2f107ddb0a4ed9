"""The lines that a message ends with."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from gpufleet_alert.journal import last_lines

Program = Callable[[str, str], Path]


@pytest.fixture(autouse=True)
def zone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TZ", "UTC")
    time.tzset()


def record(message: object) -> str:
    return json.dumps({"MESSAGE": message, "__REALTIME_TIMESTAMP": "1790000000000000"})


def test_lines_of_the_unit(program: Program, tmp_path: Path) -> None:
    records = [record("one"), record(list(b"tw\xff")), record("a\nb"), record(None), record("k=1")]
    records += [record([["a"], "b"]), "{"]
    (tmp_path / "out").write_text("\n".join(records) + "\n")
    arguments = program("journalctl", f"cat {tmp_path / 'out'}")
    assert last_lines("vllm@a.service", 4, 1790000000.2) == [
        "14:13:20 tw\ufffd",
        "14:13:20 a",
        "14:13:20 b",
        "14:13:20 k=1",
    ]
    given = arguments.read_text().splitlines()
    assert {"--unit=vllm@a.service", "--lines=4", "--until=@1790000002"} <= set(given)


def test_without_secrets(program: Program, tmp_path: Path) -> None:
    (tmp_path / "out").write_text(record("api_key=verysecret") + "\n")
    program("journalctl", f"cat {tmp_path / 'out'}")
    assert last_lines("a", 1, 0) == ["14:13:20 api_key=***"]


def test_journal_that_cannot_be_read(program: Program) -> None:
    program("journalctl", "echo no >&2; exit 1")
    assert "could not be read" in last_lines("a", 1, 0)[0]


def test_no_lines_wanted(program: Program) -> None:
    arguments = program("journalctl", "")
    assert last_lines("a", 0, 0) == []
    assert not arguments.exists()
