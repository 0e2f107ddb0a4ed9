"""`llm_guard run`: every way an instance can end, and what must not end it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from .conftest import Release, below, until


def end(process: subprocess.Popen[str], seconds: float = 15.0) -> tuple[int, str]:
    output, _ = process.communicate(timeout=seconds)
    return process.returncode, output


def pid_of(process: subprocess.Popen[str], title: str) -> int:
    return next(pid for pid, name in below(process.pid).items() if title in name)


def handles_term(pid: int) -> bool:
    status = Path(f"/proc/{pid}/status").read_text()
    caught = int(status.split("SigCgt:")[1].split()[0], 16)
    return bool(caught & 1 << (signal.SIGTERM - 1))


def gone(pids: list[int]) -> bool:
    return not any(Path(f"/proc/{pid}").exists() for pid in pids)


def started_with(release: Release, module: str, change: str) -> subprocess.Popen[str]:
    """Start `run` with another constant in one of the guard's modules, and wait for the gate."""
    release.save()
    code = (
        f"import sys; sys.path.insert(0, 'guard'); import {module}, llm_guard; "
        f"{module}.{change}; sys.exit(llm_guard.main(['run', 'qwen']))"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", code], cwd=release.path, stdout=subprocess.PIPE, text=True
    )
    release.processes.append(process)
    assert release.ask("wait", "qwen")[0] == 0
    return process


# vLLM's own exit status, the guard's, a part of its last words
ENDS = [
    (0, 1, "ended unasked (status 0)"),
    (1, 1, "ended unasked (status 1)"),
    (2, 78, "refuses its options"),
]


@pytest.mark.parametrize(("theirs", "ours", "words"), ENDS)
@pytest.mark.parametrize("after", [0.0, 0.5])
def test_unasked_end(release: Release, theirs: int, ours: int, words: str, after: float) -> None:
    release.behave(exit_status=theirs, exit_after=after, children="engine")
    process = release.command("run", "qwen")
    status, output = end(process)
    assert status == ours
    assert words in output


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_asked_stop(release: Release, number: signal.Signals) -> None:
    release.behave(exit_status=3, exit_after=600.0, children="engine")
    process = release.started()
    until(lambda: "VLLM::Worker" in below(process.pid).values())
    tree = list(below(process.pid))
    process.send_signal(number)
    status, output = end(process)
    assert status == 0
    assert "stopped (status 3)" in output
    assert output.count("fake vLLM: signal 15") == 1
    assert gone(tree)


def test_several_api_servers_are_stopped_after_their_engine(release: Release) -> None:
    release.behave(children="servers")
    process = release.started()
    until(lambda: list(below(process.pid).values()).count("VLLM::APIServer") == 2)
    until(lambda: "VLLM::Worker" in below(process.pid).values())
    tree = list(below(process.pid))
    process.send_signal(signal.SIGTERM)
    status, output = end(process)
    assert status == 0
    assert output.index("fake engine: signal 15") < output.index("fake vLLM: signal 15")
    assert "stopped (status 0)" in output
    assert gone(tree)


def test_an_api_server_that_stands_still_is_a_hang(release: Release) -> None:
    release.behave(children="servers")
    process = started_with(release, "guard_api_servers", "LOOKS = 2")
    until(lambda: list(below(process.pid).values()).count("VLLM::APIServer") == 2)
    time.sleep(4.0)
    assert process.poll() is None, "servers whose loops turn are no hang"
    server = pid_of(process, "VLLM::APIServer")
    os.kill(server, signal.SIGSTOP)
    status, output = end(process)
    assert status == 1
    assert f"hung: API server {server} stands still" in output


def test_second_stop_is_not_forwarded(release: Release) -> None:
    release.behave(on_term="ignore")
    process = release.started()
    main = next(iter(below(process.pid)))
    process.send_signal(signal.SIGTERM)
    time.sleep(1.3)
    process.send_signal(signal.SIGTERM)
    time.sleep(0.3)
    os.kill(main, signal.SIGKILL)
    status, output = end(process)
    assert status == 0
    assert output.count("fake vLLM: signal") == 1


def test_stop_that_takes_too_long(release: Release) -> None:
    release.behave(on_term="ignore", children="engine")
    release.settings["shutdown_timeout_seconds"] = 0
    process = started_with(release, "guard_stop", "_STOP_GRACE = 0.5")
    until(lambda: "VLLM::Worker" in below(process.pid).values())
    tree = list(below(process.pid))
    process.send_signal(signal.SIGTERM)
    status, output = end(process)
    assert status == 0
    assert "did not stop in time" in output
    assert gone(tree)


def test_stop_before_the_port_is_open(release: Release) -> None:
    release.behave(on_term="ignore", delay=60.0)
    release.settings["shutdown_timeout_seconds"] = 600
    process = release.command("run", "qwen")
    until(lambda: any(handles_term(pid) for pid in below(process.pid)))
    process.send_signal(signal.SIGTERM)
    status, output = end(process, 10)
    assert status == 0
    assert "did not stop in time" in output


@pytest.mark.parametrize("title", ["VLLM::EngineCor", "VLLM::Worker", "main"])
def test_killed_process(release: Release, title: str) -> None:
    release.behave(children="engine")
    process = release.started()
    until(lambda: "VLLM::Worker" in below(process.pid).values())
    time.sleep(1.2)  # the guard looks at its tree once a second
    tree = below(process.pid)
    victim = next(iter(tree)) if title == "main" else pid_of(process, title)
    started = time.monotonic()
    os.kill(victim, signal.SIGKILL)
    status, output = end(process)
    assert status == 1
    assert time.monotonic() - started < 15
    assert ("killed by signal 9" if title == "main" else f"{title} is gone") in output
    assert gone(list(tree))


HANGS = [
    ({"completions": "hang"}, "no answer in"),
    ({"completions": "hang", "heartbeat": "hang"}, "no answer in"),
    ({"completions": "500"}, "status 500"),
    # A full queue stays full when nothing works it off.
    ({"completions": "503"}, "status 503"),
    ({"completions": "429"}, "status 429"),
    ({"completions": "close"}, "connection failed"),
]


@pytest.mark.parametrize(("behaviour", "words"), HANGS)
def test_hang(release: Release, behaviour: dict[str, str], words: str) -> None:
    release.behave(children="engine")
    process = release.started()
    tree = list(below(process.pid))
    started = time.monotonic()
    release.change(**behaviour)
    status, output = end(process)
    assert status == 1
    assert "hung: 3 probes failed and the heartbeat stands still" in output
    assert words in output
    # One patient probe and two confirmations, also when each fails at once.
    assert time.monotonic() - started > 0.6 + 0.3
    assert gone(tree)


def test_stopped_server(release: Release) -> None:
    process = release.started()
    main = next(iter(below(process.pid)))
    os.kill(main, signal.SIGSTOP)
    status, output = end(process, 30)
    assert status == 1
    assert "hung" in output


LOADS = [
    ({"completions": "hang", "heartbeat": "probed"}, "busy: no answer to the probe, but"),
    ({"completions": "hang", "heartbeat": "moving"}, ""),
    ({"completions": "503", "heartbeat": "probed"}, "busy: the probe got 503"),
    ({"completions": "429", "heartbeat": "probed"}, "busy: the probe got 429"),
    ({"completions": "503", "heartbeat": "absent"}, "busy: the probe got 503"),
    ({"completions": "500", "heartbeat": "probed"}, "busy: the probe got 500"),
    ({"completions": "close", "heartbeat": "probed"}, "busy: no answer to the probe, but"),
    ({"completions": "404"}, "the token probe gets 404"),
    ({"completions": "hang", "heartbeat": "absent"}, "cannot be told from load"),
]


@pytest.mark.parametrize(("behaviour", "words"), LOADS)
def test_load_restarts_nothing(release: Release, behaviour: dict[str, str], words: str) -> None:
    process = release.started()
    release.change(**behaviour)
    time.sleep(4)  # a hang would have been found three times over
    assert process.poll() is None
    process.send_signal(signal.SIGTERM)
    status, output = end(process)
    assert status == 0
    assert words in output
    assert "hung" not in output
    assert len(output.splitlines()) < 15, "one line per change, not per probe"


@pytest.mark.parametrize("completions", ["hang", "500"])
def test_start_is_not_watched(release: Release, completions: str) -> None:
    release.behave(completions=completions)
    process = release.command("run", "qwen")
    time.sleep(4)
    assert process.poll() is None


def test_keys_go_by_a_private_file_only(release: Release, tmp_path: Path) -> None:
    credentials = tmp_path / "credentials"
    credentials.mkdir()
    (credentials / "api_key").write_text("geheim\nbisher\n")
    environment = {"CREDENTIALS_DIRECTORY": str(credentials)}
    process = release.command("run", "qwen", **environment)
    # As before systemd 254, where the gate has no credentials.
    status, words = release.ask("wait", "qwen")
    assert status == 0, words
    main = next(iter(below(process.pid)))
    for file in ("cmdline", "environ"):
        assert "geheim" not in Path(f"/proc/{main}/{file}").read_text()
    assert (release.path / "vllm.yaml").stat().st_mode & 0o777 == 0o600
    assert release.ask("check", "qwen")[0] == 8
    for key in ("geheim", "bisher"):
        key_file = tmp_path / key
        key_file.write_text(key)
        assert release.ask("check", "qwen", "--api-key-file", str(key_file))[0] == 0
    process.send_signal(signal.SIGTERM)
    status, output = end(process)
    assert status == 0
    assert "fake vLLM: 2 keys, MARK=set" in output
    assert "geheim" not in output + words


def test_priorities_in_the_journal_only(release: Release) -> None:
    release.behave(exit_status=1)
    _, plain = release.ask("run", "qwen")
    _, journal = release.ask("run", "qwen", JOURNAL_STREAM="8:1")
    assert "\nqwen: vLLM ended unasked" in plain
    assert "\n<3>qwen: vLLM ended unasked" in journal
