"""A release directory with a fake vLLM in it, laid out as on a host."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from tests.free_port import free_port

ROOT = Path(__file__).resolve().parents[3]
FAKE = ROOT / "tests/unit/probe/fake_vllm.py"


@dataclass
class Release:
    """One release with the instance ``qwen``."""

    path: Path
    port: int
    settings: dict[str, Any]
    processes: list[subprocess.Popen[str]] = field(default_factory=list)
    broken_settings: str | None = None

    def behave(self, **behaviour: object) -> None:
        """Say what vLLM does from its start."""
        lines = [f"port: {self.port}", *(f"{key}: {value}" for key, value in behaviour.items())]
        (self.path / "instances/qwen.yaml").write_text("\n".join(lines))

    def change(self, **behaviour: str) -> None:
        """Change what the running vLLM does."""
        data = json.dumps(behaviour).encode()
        urllib.request.urlopen(f"http://127.0.0.1:{self.port}/fake", data, 5).close()

    def save(self) -> None:
        """Write the settings."""
        text = json.dumps(self.settings) if self.broken_settings is None else self.broken_settings
        (self.path / "instances/qwen.json").write_text(text)

    def command(self, *arguments: str, **environment: str) -> subprocess.Popen[str]:
        """Start a guard command as the unit does."""
        self.save()
        process = subprocess.Popen(
            [sys.executable, "guard/llm_guard.py", *arguments],
            cwd=self.path,
            env={**os.environ, "RUNTIME_DIRECTORY": str(self.path), **environment},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        self.processes.append(process)
        return process

    def ask(self, *arguments: str, **environment: str) -> tuple[int, str]:
        """Run a guard command to its end; return status and output."""
        process = self.command(*arguments, **environment)
        output, _ = process.communicate(timeout=30)
        return process.returncode, output

    def started(self) -> subprocess.Popen[str]:
        """Start ``run`` and wait until the gate opens and the watch has begun."""
        process = self.command("run", "qwen")
        status, output = self.ask("wait", "qwen", MAINPID=str(process.pid))
        assert status == 0, output
        time.sleep(3 * self.settings["watch"]["interval_seconds"])
        return process


def below(pid: int) -> dict[int, str]:
    """Return the processes below one: pid to title."""
    found: dict[int, str] = {}
    for task in Path(f"/proc/{pid}/task").glob("*/children"):
        with contextlib.suppress(OSError):
            for child in map(int, task.read_text().split()):
                found[child] = Path(f"/proc/{child}/comm").read_text().strip()
                found.update(below(child))
    return found


def until(condition: Callable[[], bool], seconds: float = 10.0) -> None:
    """Wait for a condition; fail when it does not come true."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "condition did not come true"
        time.sleep(0.02)


@pytest.fixture
def release(tmp_path: Path) -> Iterator[Release]:
    """Yield a release; whatever its guards started is gone afterwards."""
    (tmp_path / "venv/bin").mkdir(parents=True)
    (tmp_path / "instances").mkdir()
    (tmp_path / "model").mkdir()
    (tmp_path / "model/config.json").write_text("{}")
    shutil.copytree(ROOT / "files/guard", tmp_path / "guard", ignore=lambda *_: ["__pycache__"])
    for name in ("_probe.py", "_gpu_bus.py"):
        shutil.copy(ROOT / "plugins/module_utils" / name, tmp_path / "guard")
    vllm = tmp_path / "venv/bin/vllm"
    vllm.write_text(f'#!/bin/sh\nexec {sys.executable} {FAKE} "$@"\n')
    vllm.chmod(0o755)
    port, health_port = free_port(), free_port()
    settings: dict[str, Any] = {
        "name": "qwen",
        "model": str(tmp_path / "model"),
        "gpus": None,
        "host": "127.0.0.1",
        "port": port,
        "health_port": health_port,
        "served_model_name": "m",
        "environment": {"MARK": "set"},
        "gate": {"level": "token", "deadline_seconds": 20},
        "canary": {
            "prompt": "What is the capital of France?",
            "expect": "Paris",
            "max_tokens": 8,
            "every_minutes": 0,
            "restart": False,
        },
        "watch": {"interval_seconds": 0.2, "probe_timeout_seconds": 0.6, "failures": 3},
        "shutdown_timeout_seconds": 5,
    }
    release = Release(tmp_path, port, settings)
    release.behave()
    yield release
    for process in release.processes:
        if process.poll() is None:
            tree = below(process.pid)
            for pid in (process.pid, *tree):
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
        if process.stdout is not None and not process.stdout.closed:
            print(process.communicate()[0])  # what the guard said, for a test that fails
