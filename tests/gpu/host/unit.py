"""Does what systemd does with `vllm@NAME.service`, where there is no systemd.

ExecStartPre, ExecStart, ExecStartPost and ExecStopPost in the environment of the unit; a failure of
any is a failure of the unit, which starts again until it is stopped, ends well, or exits with 78.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import threading
import time
import uuid
from dataclasses import dataclass, field
from pathlib import Path

# The guard needs no more than the distribution's own.
PYTHON = "/usr/bin/python3"


@dataclass(frozen=True)
class Event:
    """A change of the unit's state: `starting`, `active`, `failed` or `inactive`."""

    at: float
    state: str
    detail: str = ""


@dataclass
class Unit:
    """One unit; its output goes to `log`."""

    name: str
    release: Path
    state: Path
    log: Path
    restart_seconds: float
    stop_seconds: float
    events: list[Event] = field(default_factory=list)
    main_pid: int | None = None

    def __post_init__(self) -> None:
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._runtime = Path("/run/gpufleet") / self.name
        self._cache = Path("/var/cache/gpufleet") / self.name

    def start(self) -> None:
        """Start; returns at once."""
        self._thread.start()

    def stop(self) -> float:
        """Stop as `systemctl stop` does; return the seconds that it took."""
        started = time.monotonic()
        self._stopping.set()
        if self.main_pid is not None:
            os.kill(self.main_pid, signal.SIGTERM)
        self._thread.join(self.stop_seconds)
        if self._thread.is_alive() and self.main_pid is not None:
            os.kill(self.main_pid, signal.SIGKILL)
            self._thread.join()
        return time.monotonic() - started

    def wait_for(self, state: str, since: float, patience: float) -> Event:
        """Wait for a state entered after `since`.

        Raises TimeoutError, and RuntimeError when the unit fails before it is active.
        """
        end = time.monotonic() + patience
        while time.monotonic() < end:
            for event in [event for event in list(self.events) if event.at >= since]:
                if event.state == state:
                    return event
                if (state, event.state) == ("active", "failed"):
                    raise RuntimeError(f"{self.name} failed before it was active: {event.detail}")
            time.sleep(0.05)
        raise TimeoutError(f"{self.name} was not {state} within {patience:.0f} s")

    def _run(self) -> None:
        while True:
            code = self._once()
            good = code == 0 or self._stopping.is_set()
            self._ended(code, good)
            shutil.rmtree(self._runtime, ignore_errors=True)
            self._enter("inactive" if good else "failed", f"status {code}")
            if good or code == 78 or self._stopping.wait(self.restart_seconds):
                return

    def _once(self) -> int:
        for directory in (self._runtime, self._cache, self.state):
            directory.mkdir(parents=True, exist_ok=True)
        self._environment = {
            # The guard finds its parts in the release alone.
            **{name: value for name, value in os.environ.items() if name != "PYTHONPATH"},
            "RUNTIME_DIRECTORY": str(self._runtime),
            "CACHE_DIRECTORY": str(self._cache),
            "STATE_DIRECTORY": str(self.state),
            "INVOCATION_ID": uuid.uuid4().hex,
            "PYTHONUNBUFFERED": "1",
        }
        self._enter("starting")
        before = self._command("devices", "-B").wait()
        if before != 0:
            return before
        main = self._command("run")
        self.main_pid = main.pid
        self._environment["MAINPID"] = str(main.pid)
        try:
            gate = self._command("wait").wait()
            if gate == 0:
                self._enter("active")
                return main.wait()
            main.terminate()
            return main.wait(self.stop_seconds) or gate
        finally:
            self.main_pid = None

    def _command(self, command: str, *options: str) -> subprocess.Popen[bytes]:
        arguments = [PYTHON, *options, "guard/llm_guard.py", command, self.name]
        with self.log.open("ab") as log:
            return subprocess.Popen(
                arguments,
                cwd=self.release,
                env=self._environment,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def _ended(self, code: int, good: bool) -> None:
        result = "success" if good else "signal" if code < 0 else "exit-code"
        how = {"EXIT_CODE": "killed" if code < 0 else "exited", "EXIT_STATUS": str(abs(code))}
        self._environment.update({"SERVICE_RESULT": result, **how})
        self._command("ended").wait()

    def _enter(self, state: str, detail: str = "") -> None:
        self.events.append(Event(time.monotonic(), state, detail))
        print(f"unit {self.name}: {state} {detail}", flush=True)


def load(rendered: Path, name: str, release: Path, state: Path, log: Path) -> Unit:
    """Make a unit with the times of the role."""
    times = json.loads((rendered / "unit.json").read_text())
    return Unit(name, release, state, log, times["restart_seconds"], times["stop_seconds"])
