"""The program as its units and people call it."""

from __future__ import annotations

import dataclasses
import errno
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from conftest import DINGTALK_SECRET
from gpufleet_alert import notice as notices
from gpufleet_alert.__main__ import EX_CONFIG
from gpufleet_alert.commands import make_gave_up
from gpufleet_alert.files import visible
from gpufleet_alert.notice import Notice
from gpufleet_alert.settings import Settings
from receivers import Failure, Receivers

Make = Callable[..., Notice]
PACKAGE = Path(__file__).resolve().parents[1]
UNIT = PACKAGE.parents[1] / "roles/alerting/templates/llm-alert@.service.j2"
# Reached without any name, since another process looks names up by itself.
HOOK = "jsons://localhost:{port}/hidden-path"


@pytest.fixture
def release(settings: Settings, tmp_path: Path) -> Path:
    """A directory with settings.json, as the role writes it."""
    folder = tmp_path / "release"
    folder.mkdir()
    (folder / "settings.json").write_text(json.dumps(dataclasses.asdict(settings), default=str))
    (tmp_path / "credentials").mkdir()
    return folder


def environment(release: Path, urls: str, proxy: str = "") -> dict[str, str]:
    credentials = release.parent / "credentials"
    (credentials / "alert_urls").write_text(urls)
    (credentials / "alert_proxy").write_text(proxy)
    mine = {"PYTHONPATH": str(PACKAGE), "CREDENTIALS_DIRECTORY": str(credentials)}
    return {**os.environ, **mine}


def run(
    release: Path, *arguments: str, urls: str = "", proxy: str = ""
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "gpufleet_alert", *arguments],
        cwd=release,
        env=environment(release, urls, proxy),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_deliver(release: Path, settings: Settings, notice: Make, them: Receivers) -> None:
    notices.write(notice(), settings.notices[0])
    done = run(release, "deliver", urls=HOOK.format(port=them.port))
    assert (done.returncode, done.stdout) == (0, "")
    assert len(them.got("webhook")) == 1
    assert "hidden" not in done.stderr
    assert visible(settings.spool) == []
    for folder in (settings.own_notices, settings.notices[0]):
        assert visible(folder) == []


def test_deliver_ends_on_a_signal(
    release: Path, settings: Settings, notice: Make, them: Receivers
) -> None:
    them.fail("webhook", Failure.ERROR, times=50)
    notices.write(notice(), settings.notices[0])
    process = subprocess.Popen(
        [sys.executable, "-m", "gpufleet_alert", "deliver"],
        cwd=release,
        env=environment(release, HOOK.format(port=them.port)),
        stderr=subprocess.PIPE,
    )
    deadline = time.monotonic() + 30
    while not them.attempts and time.monotonic() < deadline:
        time.sleep(0.02)
    process.send_signal(signal.SIGTERM)
    assert process.wait(5) == 0
    assert len(visible(settings.spool)) == 1


def test_test(release: Path, them: Receivers) -> None:
    mail = f"mailto://localhost:{them.smtp_port}/?from=a@example.com&to=b@example.com"
    hook = HOOK.format(port=them.port)
    done = run(release, "test", urls=f"{hook}\n{mail}\n")
    assert done.stdout.splitlines() == [
        "jsons-1 (jsons://localhost): ok",
        "mailto-1 (mailto://localhost): ok",
    ]
    assert done.returncode == 0
    assert them.got("webhook")[0].title == "gpu1: test of the alerts"
    them.fail("webhook", Failure.ERROR)
    done = run(release, "test", urls=f"{hook}\n{mail}\nnope://hidden")
    assert done.returncode == 1
    assert "URL 3 of alerting_urls is none that apprise knows" in done.stdout
    assert "jsons-1 (jsons://localhost): not delivered: HTTP 500" in done.stdout
    assert "mailto-1 (mailto://localhost): ok" in done.stdout
    assert "hidden" not in done.stdout + done.stderr


def test_test_without_services(release: Path) -> None:
    done = run(release, "test")
    assert done.returncode == 1
    assert "alerting_urls names no service" in done.stdout


def test_check(release: Path) -> None:
    good = f"dingtalk://{DINGTALK_SECRET}@token/\nwecombot://key"
    done = run(release, "check", urls=good)
    assert (done.returncode, done.stdout) == (0, "2 services: dingtalk-1, wecombot-1\n")
    done = run(release, "check", urls=f"{good}\nhidden\n")
    assert done.returncode == 1
    assert "URL 3 of alerting_urls" in done.stdout
    assert run(release, "check").returncode == 0


def test_gave_up_and_list(
    release: Path, settings: Settings, program: Callable[[str, str], Path], them: Receivers
) -> None:
    assert run(release, "list").stdout == "nothing waits\n"
    program("systemctl", "echo ActiveState=failed")
    assert run(release, "gave-up", "chainlit.service").returncode == 0
    assert "1 more not taken in" in run(release, "list").stdout
    (path,) = visible(settings.own_notices)
    assert notices.read(path).unit == "chainlit.service"
    run(release, "deliver", urls=HOOK.format(port=them.port))
    assert "chainlit is down" in them.got("webhook")[0].title
    program("systemctl", "echo ActiveState=active")
    done = run(release, "gave-up", "chainlit.service")
    assert done.returncode == 0
    assert visible(settings.own_notices) == []


def test_gave_up_on_a_full_disk(
    settings: Settings,
    program: Callable[[str, str], Path],
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """One line without a traceback, and nothing is left: each try has a file name of its own."""
    program("systemctl", "echo ActiveState=failed")
    monkeypatch.setattr("gpufleet_alert.files.os.fsync", full)
    assert make_gave_up(settings, "nginx.service") == 1
    (line,) = caplog.messages
    cause = f"into {settings.own_notices}: No space left on device; "
    assert line.startswith(f"cannot write the notice that nginx.service is down {cause}")
    assert list(settings.own_notices.iterdir()) == []


def full(_descriptor: int) -> None:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def test_unit_tries_again_but_for_wrong_settings() -> None:
    lines = UNIT.read_text().splitlines()
    assert {"StartLimitIntervalSec=0", "Restart=on-failure", "RestartSec=60"} <= set(lines)
    assert f"RestartPreventExitStatus={EX_CONFIG}" in lines


def test_proxy(release: Path, them: Receivers) -> None:
    done = run(
        release,
        "test",
        urls="jsons://hook.example.com/x",
        proxy="http://me:hidden-word@127.0.0.1:9",
    )
    assert done.returncode == 1
    assert "refused" in done.stdout
    assert "hidden" not in done.stdout + done.stderr


@pytest.mark.parametrize("text", [None, "{", "{}", '{"host": "a", "keep_days": "x"}'])
def test_bad_settings(text: str | None, release: Path) -> None:
    if text is None:
        (release / "settings.json").unlink()
    else:
        (release / "settings.json").write_text(text)
    done = run(release, "list")
    assert done.returncode == 78
    assert "settings.json" in done.stderr
