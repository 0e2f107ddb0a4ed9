"""`llm_guard wait` and `llm_guard check`, and the settings that all commands read."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import time
from typing import Any

import pytest

from .conftest import Release, below, until

# behaviour from the start, changes to the settings, status, words, seconds at most
GATES: list[tuple[dict[str, object], dict[str, Any], int, str, float]] = [
    ({}, {}, 0, "ready after", 5),
    ({"delay": 1.0}, {}, 0, "ready after", 5),
    ({}, {"gate": {"level": "canary", "deadline_seconds": 20}}, 0, "canary answered", 5),
    (
        {"answer": "!!!!"},
        {"gate": {"level": "canary", "deadline_seconds": 60}},
        1,
        "gate fails: wrong_answer, canary: expected /Paris/, got '!!!!'; check dtype",
        8,
    ),
    ({"model": "other"}, {}, 1, "gate fails: wrong_model, serves other, not m; compare", 8),
    ({"exit_status": 1}, {}, 1, "gate gives up", 5),
    ({"exit_status": 0, "exit_after": 1.5, "completions": "hang"}, {}, 1, "gate gives up", 6),
    (
        {"delay": 60.0},
        {"gate": {"level": "token", "deadline_seconds": 2}},
        1,
        "gate fails: not ready in 2 s, last seen starting, port refused; read",
        4,
    ),
    (
        {"completions": "503"},
        {"gate": {"level": "token", "deadline_seconds": 2}},
        1,
        "last seen busy",
        4,
    ),
    (
        {"completions": "hang"},
        {"gate": {"level": "token", "deadline_seconds": 2}},
        1,
        "last seen hung",
        5,
    ),
]


@pytest.mark.parametrize(("behaviour", "changes", "status", "words", "seconds"), GATES)
def test_gate(
    release: Release,
    behaviour: dict[str, object],
    changes: dict[str, Any],
    status: int,
    words: str,
    seconds: float,
) -> None:
    release.behave(**behaviour)
    release.settings.update(changes)
    process = release.command("run", "qwen")
    started = time.monotonic()
    seen, output = release.ask("wait", "qwen", MAINPID=str(process.pid))
    assert (seen, words in output) == (status, True), output
    assert time.monotonic() - started < seconds


CHECKS: list[tuple[dict[str, object], tuple[str, ...], int, str]] = [
    ({}, (), 0, "ready"),
    ({}, ("--level", "canary"), 0, "ready"),
    ({"answer": "no"}, ("--level", "canary"), 8, "wrong_answer"),
    ({"delay": 60.0}, (), 3, "starting"),
    ({"completions": "503"}, (), 4, "busy"),
    ({"completions": "hang", "heartbeat": "moving"}, ("--timeout", "1"), 4, "busy"),
    ({"completions": "hang"}, ("--timeout", "1"), 5, "hung"),
    ({"completions": "hang"}, ("--level", "model"), 0, "ready"),
    ({"model": "other"}, (), 7, "wrong_model"),
]


@pytest.mark.parametrize(("behaviour", "options", "status", "state"), CHECKS)
def test_check(
    release: Release,
    behaviour: dict[str, object],
    options: tuple[str, ...],
    status: int,
    state: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    release.behave(**behaviour)
    # The runtime directory of the host is fixed: let this copy of the guard look elsewhere.
    runtime = release.path / "run/qwen"
    runtime.mkdir(parents=True)
    script = release.path / "guard/llm_guard.py"
    script.write_text(script.read_text().replace('"/run/gpufleet"', f'"{release.path}/run"'))
    process = release.command("run", "qwen", RUNTIME_DIRECTORY=str(runtime))
    if "delay" in behaviour:
        until(lambda: bool(below(process.pid)))
    else:
        until(lambda: release.ask("check", "qwen", "--level", "http")[0] == 0)
    seen, output = release.ask("check", "qwen", *options)
    assert (seen, output.startswith(f"qwen: {state} (")) == (status, True), output
    seen, output = release.ask("check", "qwen", "--json", *options)
    assert seen == status
    record = json.loads(output)
    assert (record["name"], record["state"]) == ("qwen", state)
    assert {"level", "seconds", "detail", "url", "final"} <= record.keys()


def test_check_without_a_guard_is_dead(release: Release) -> None:
    status, output = release.ask("check", "qwen")
    assert status == 6
    assert re.fullmatch(r"qwen: dead \(port, \d\.\d\d s\): port refused\n", output)


def test_check_says_who_may_read_the_key(release: Release) -> None:
    release.save()
    code = (
        "import pathlib, sys; sys.path.insert(0, 'guard'); import llm_guard\n"
        "class Hidden(type(pathlib.Path())):\n"
        "    def stat(self, **_): raise PermissionError(13, 'Permission denied')\n"
        "llm_guard.API_KEY_FILE = Hidden('/etc/gpufleet/credentials/vllm_api_key')\n"
        "sys.exit(llm_guard.main(['check', 'qwen']))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=release.path, capture_output=True, text=True, check=False
    )
    assert done.returncode == 78, done
    assert "vllm_api_key may not be read by you: run this as root" in done.stdout


# changed keys (None removes), words
WRONG: list[tuple[dict[str, Any], str]] = [
    ({"name": "other"}, "name is 'other', not 'qwen'"),
    ({"port": "8000"}, "port is '8000': it must be a number from 1 to 65535"),
    ({"port": True}, "port is True"),
    ({"port": 80.5}, "a whole number"),
    ({"port": 70000}, "port is 70000"),
    ({"host": "example.com"}, "host is 'example.com': it must be an IP address or localhost"),
    ({"served_model_name": ""}, "served_model_name is '': it must be a text, not empty"),
    ({"served_model_name": None}, "served_model_name is missing"),
    ({"environment": {"A B": "x"}}, "environment.A B must be a variable name"),
    ({"environment": {"A": 1}}, "environment.A must be a variable name with a text in quotes"),
    ({"environment": {"VLLM_API_KEY": "x"}}, "is a secret: put it in the unit's credential"),
    ({"environment": []}, "environment is []"),
    ({"gate": {"level": "port", "deadline_seconds": 1}}, "gate.level is 'port': it must be one"),
    ({"gate": {"level": "token"}}, "gate.deadline_seconds is missing"),
    ({"gate": {"level": "token", "deadline_seconds": 9, "x": 1}}, "gate.x is not known: remove"),
    ({"gate": 5}, "gate is 5: it must be an object"),
    ({"canary": {"prompt": "p", "expect": "(", "max_tokens": 1}}, "canary.expect is not a regular"),
    ({"watch": {"interval_seconds": 0}}, "watch.interval_seconds is 0"),
    ({"extra": 1}, "extra is not known: remove it, or use one of: canary"),
]


@pytest.mark.parametrize(("changes", "words"), WRONG)
def test_settings_are_strict(release: Release, changes: dict[str, Any], words: str) -> None:
    for key, value in changes.items():
        if value is None:
            del release.settings[key]
        else:
            release.settings[key] = value
    status, output = release.ask("wait", "qwen")
    assert status == 78
    assert words in output
    assert str(release.path / "instances/qwen.json") in output
    assert len(output.splitlines()) == 1


@pytest.mark.parametrize("command", ["run", "wait", "check"])
def test_every_command_reads_the_settings(release: Release, command: str) -> None:
    release.settings["port"] = 0
    status, output = release.ask(command, "qwen")
    assert status == 78
    assert "port is 0" in output


def test_wrong_settings_are_left_to_run_by_what_comes_before(release: Release) -> None:
    release.settings["port"] = 0
    assert release.ask("devices", "qwen") == (0, "")


def test_canary_level_needs_a_canary(release: Release) -> None:
    release.settings["canary"] = None
    assert release.ask("check", "qwen", "--level", "canary")[0] == 78
    release.settings["gate"]["level"] = "canary"
    status, output = release.ask("wait", "qwen")
    assert status == 78
    assert "canary is null but gate.level is canary" in output


FILES = [
    ("qwen", "{", "is not JSON"),
    ("qwen", "[]", "the whole file must be an object"),
    ("other", "{}", "does not exist: deploy the instance, or name one of: qwen"),
    ("../qwen", "{}", "is not an instance name"),
]


@pytest.mark.parametrize(("name", "text", "words"), FILES)
def test_settings_file(release: Release, name: str, text: str, words: str) -> None:
    release.broken_settings = text
    status, output = release.ask("check", name)
    assert status == 78
    assert words in output


@pytest.mark.parametrize(
    ("missing", "words"), [("venv/bin/vllm", "vllm does"), ("instances/qwen.yaml", "yaml does")]
)
def test_incomplete_release(release: Release, missing: str, words: str) -> None:
    (release.path / missing).unlink()
    status, output = release.ask("run", "qwen")
    assert status == 78
    assert f"{words} not exist: deploy the release again" in output


HOSTS = [("0.0.0.0", "127.0.0.1"), ("::", "[::1]"), ("::1", "[::1]"), ("localhost", "localhost")]


@pytest.mark.parametrize(("host", "probed"), HOSTS)
def test_wildcard_is_probed_on_loopback(release: Release, host: str, probed: str) -> None:
    release.settings["host"] = host
    _, output = release.ask("check", "qwen", "--json")
    assert json.loads(output)["url"] == f"http://{probed}:{release.port}"
