# Copyright: (c) The gpufleet maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Runs ``vllm serve`` and ends with a status that systemd can trust."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import time
from pathlib import Path

from _probe import Unreachable
from guard_health import serve_health
from guard_log import Log
from guard_processes import Roster, become_subreaper, descendants, kill_descendants, reap
from guard_settings import KEYS_LINE, Settings, SettingsError, private_config
from guard_watch import Watch

EXIT_FAILURE = 1
EXIT_CONFIG = 78  # EX_CONFIG: a restart cannot mend it
PID_FILE = "guard.pid"

_STOP_SIGNALS = {signal.SIGTERM, signal.SIGINT, signal.SIGHUP}
_STOP_GRACE = 15.0  # vLLM needs some seconds on top of its own --shutdown-timeout
_START_GRACE = 5.0  # before its port is open it serves nobody, and does not heed SIGTERM
_LOST_GRACE = 3.0  # vLLM usually notices a dead process itself and says why
_TICK = 0.5


def run(settings: Settings, api_keys: list[str], log: Log) -> int:
    """Run one instance until it ends; return the exit status.

    0: stopped on request. 1: ended unasked, lost a process, or hung. 78: vLLM refuses its options.
    """
    if not settings.vllm.exists():
        raise SettingsError(f"{settings.vllm} does not exist: deploy the release again")
    if not settings.config.exists():
        raise SettingsError(f"{settings.config} does not exist: deploy the release again")
    # Blocked signals wait in the queue for sigtimedwait; threads inherit the mask.
    signal.pthread_sigmask(signal.SIG_BLOCK, {*_STOP_SIGNALS, signal.SIGCHLD})
    become_subreaper()
    _write_pid_file()
    watch = Watch(settings.target(api_keys).client, settings.served_model_name, settings.watch, log)
    serve_health(settings, watch)
    pid = _start(settings, api_keys)
    log.info(f"vLLM started as process {pid}, {settings.url}")
    watch.start()
    try:
        return _supervise(pid, settings, watch, log)
    finally:
        watch.stop()
        _kill_leftovers(log)


def _start(settings: Settings, api_keys: list[str]) -> int:
    environment = {**os.environ, **settings.environment}
    config = _with_keys(settings, api_keys) if api_keys else settings.config
    command = [str(settings.vllm), "serve", "--config", str(config)]
    # A session of its own: signals meant for the guard do not reach vLLM directly.
    return os.posix_spawn(command[0], command, environment, setsid=True, setsigmask=[])


def _with_keys(settings: Settings, api_keys: list[str]) -> Path:
    """Write vLLM's configuration with the keys to a file that only the service can read.

    In the environment vLLM takes one key only, and while keys change it must accept two.
    """
    private = private_config()
    if private is None:
        raise SettingsError("a key but no RUNTIME_DIRECTORY: start the unit, not the guard")
    private.unlink(missing_ok=True)
    descriptor = os.open(private, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "w", encoding="utf-8") as stream:
        # A list of JSON is one of YAML.
        stream.write(f"{settings.config.read_text()}\n{KEYS_LINE}{json.dumps(api_keys)}\n")
    return private


def _supervise(pid: int, settings: Settings, watch: Watch, log: Log) -> int:
    roster = Roster(_LOST_GRACE)
    kill_at: float | None = None
    next_scan = 0.0
    while True:
        caught = signal.sigtimedwait({*_STOP_SIGNALS, signal.SIGCHLD}, _TICK)
        now = time.monotonic()
        ended = reap()
        if pid in ended:
            log.fresh_line()
            return _verdict(ended[pid], kill_at is not None, log)
        if caught is not None and caught.si_signo in _STOP_SIGNALS and kill_at is None:
            watch.stop()
            allowed = _time_to_stop(settings)
            kill_at = now + allowed
            log.info(f"stopping: vLLM is killed if it takes more than {allowed:g} s")
            # Only the API server: a worker that gets the signal too would break the drain.
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGTERM)
        if kill_at is not None:
            if now >= kill_at:
                log.error("vLLM did not stop in time and is killed; open requests are cut")
                return 0
            continue
        if watch.hung:
            log.error(f"hung: {watch.hung}; killing vLLM so that it is started again")
            return EXIT_FAILURE
        if now >= next_scan:
            next_scan = now + 1.0
            lost = roster.lost(now, descendants(os.getpid()))
            if lost:
                log.error(f"{lost} is gone and vLLM goes on without it; killing the rest")
                return EXIT_FAILURE


def _time_to_stop(settings: Settings) -> float:
    try:
        settings.target([]).client.connect(1.0)
    except Unreachable as error:
        if error.reason == "refused":
            return _START_GRACE
    return settings.shutdown_timeout_seconds + _STOP_GRACE


def _verdict(status: int, asked: bool, log: Log) -> int:
    how = f"killed by signal {-status}" if status < 0 else f"status {status}"
    if asked:
        log.info(f"stopped ({how})")
        return 0
    if status == 2:
        log.error("vLLM refuses its options (status 2): the usage error above names the option")
        return EXIT_CONFIG
    log.error(f"vLLM ended unasked ({how}); the lines above say why")
    return EXIT_FAILURE


def _kill_leftovers(log: Log) -> None:
    killed, left = kill_descendants()
    if killed:
        log.info(f"killed what was left: {', '.join(killed)}")
    if left:
        log.error(f"cannot be killed, likely inside the GPU driver: {', '.join(left)}")


def _write_pid_file() -> None:
    """Let ``check`` tell a starting instance from a dead one."""
    directory = os.environ.get("RUNTIME_DIRECTORY")
    if directory:
        Path(directory, PID_FILE).write_text(f"{os.getpid()}\n", encoding="ascii")
