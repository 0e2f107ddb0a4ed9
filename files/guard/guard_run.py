# Copyright: (c) The gpufleet maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Runs ``vllm serve`` and ends with a status that systemd can trust."""

from __future__ import annotations

import json
import os
import signal
import time
from pathlib import Path

from gate_middleware import CLOSED_FILE, GateMiddleware
from guard_admission import admit_guard_alone, closed_file
from guard_api_servers import ApiServers
from guard_canary import CanaryWatch
from guard_health import serve_health
from guard_incident import Incidents, Kind
from guard_log import Log
from guard_memory import oom_kills
from guard_processes import Roster, become_subreaper, descendants, kill_descendants, reap
from guard_settings import KEYS_LINE, Settings, SettingsError, private_config
from guard_start import StartError, check_start
from guard_stop import Stop
from guard_watch import Watch

EXIT_FAILURE = 1
EXIT_CONFIG = 78  # EX_CONFIG: a restart cannot mend it
PID_FILE = "guard.pid"

_STOP_SIGNALS = {signal.SIGTERM, signal.SIGINT, signal.SIGHUP}
_LOST_GRACE = 3.0  # vLLM usually notices a dead process itself and says why
_TICK = 0.5


def run(settings: Settings, api_keys: list[str], incidents: Incidents, log: Log) -> int:
    """Run one instance until it ends; return the exit status.

    0: stopped on request. 1: cannot start now, ended unasked, lost a process, or hung.
    78: vLLM refuses its options. Raises SettingsError for what a restart cannot mend.
    """
    incidents.restarting()
    try:
        check_start(settings)
    except StartError as error:
        log.error(str(error))
        incidents.failed("restarted", str(error))
        return EXIT_FAILURE
    # Blocked signals wait in the queue for sigtimedwait; threads inherit the mask.
    signal.pthread_sigmask(signal.SIG_BLOCK, {*_STOP_SIGNALS, signal.SIGCHLD})
    become_subreaper()
    _write_pid_file()
    admit_guard_alone()
    target = settings.target(api_keys)
    watch = Watch(target.client, settings.served_model_name, settings.watch, log)
    canary = CanaryWatch(target, settings.canary_watch, watch, incidents, log)
    serve_health(settings, watch)
    pid = _start(settings, api_keys)
    log.info(f"vLLM started as process {pid}, {settings.url}")
    watch.start()
    canary.start()
    try:
        return _Supervisor(pid, settings, watch, canary, incidents, log).supervise()
    finally:
        watch.stop()
        canary.stop()
        _kill_leftovers(log)


def _start(settings: Settings, api_keys: list[str]) -> int:
    environment = {**os.environ, **settings.environment}
    config = _with_keys(settings, api_keys) if api_keys else settings.config
    command = [str(settings.vllm), "serve", "--config", str(config)]
    closed = closed_file()
    if closed is not None:
        command += ["--middleware", f"{GateMiddleware.__module__}.{GateMiddleware.__name__}"]
        environment[CLOSED_FILE] = str(closed)
        paths = [str(Path(__file__).resolve().parent), environment.get("PYTHONPATH", "")]
        environment["PYTHONPATH"] = os.pathsep.join(filter(None, paths))
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


class _Supervisor:
    """Waits for the end of vLLM, asked for or not, and notes why it ended."""

    def __init__(
        self,
        pid: int,
        settings: Settings,
        watch: Watch,
        canary: CanaryWatch,
        incidents: Incidents,
        log: Log,
    ) -> None:
        self._pid = pid
        self._settings = settings
        self._watch = watch
        self._canary = canary
        self._incidents = incidents
        self._log = log
        self._oom_kills = oom_kills()

    def supervise(self) -> int:
        """Return the exit status of the guard."""
        roster = Roster(_LOST_GRACE)
        api_servers = ApiServers()
        stop: Stop | None = None
        kill_at = 0.0
        next_scan = 0.0
        while True:
            caught = signal.sigtimedwait({*_STOP_SIGNALS, signal.SIGCHLD}, _TICK)
            now = time.monotonic()
            ended = reap()
            if self._pid in ended:
                self._log.fresh_line()
                return self._verdict(ended[self._pid], stop is not None)
            if caught is not None and caught.si_signo in _STOP_SIGNALS and stop is None:
                stop = self._begin_to_stop()
                kill_at = now + stop.seconds
            if stop is not None:
                stop.proceed()
                if now >= kill_at:
                    self._log.error(
                        "vLLM did not stop in time and is killed; open requests are cut"
                    )
                    return 0
                continue
            if self._watch.hung:
                return self._failed(
                    "hang_killed", f"hung: {self._watch.hung}", "killing vLLM to start it again"
                )
            if self._canary.failed:
                return self._failed(
                    "canary_failed", self._canary.failed, "killing vLLM to start it again, as set"
                )
            if now >= next_scan:
                next_scan = now + 1.0
                processes = descendants(os.getpid())
                lost = roster.lost(now, processes)
                if lost:
                    what = f"{lost} is gone and vLLM goes on without it{self._memory()}"
                    return self._failed("restarted", what, "killing the rest")
                # While vLLM starts, they wait for the engine.
                stuck = api_servers.stuck(processes) if self._watch.state != "starting" else None
                if stuck:
                    return self._failed(
                        "hang_killed", f"hung: {stuck}", "killing vLLM to start it again"
                    )

    def _begin_to_stop(self) -> Stop:
        self._watch.stop()
        self._canary.stop()
        stop = Stop(self._pid, self._settings)
        self._log.info(f"stopping: vLLM is killed if it takes more than {stop.seconds:g} s")
        return stop

    def _verdict(self, status: int, asked: bool) -> int:
        how = f"killed by signal {-status}" if status < 0 else f"status {status}"
        if asked:
            self._log.info(f"stopped ({how})")
            return 0
        if status == 2:
            raise SettingsError(
                "vLLM refuses its options (status 2): the usage error above names the option"
            )
        what = f"vLLM ended unasked ({how}){self._memory()}"
        return self._failed("restarted", what, "the lines above say why")

    def _memory(self) -> str:
        if oom_kills() <= self._oom_kills:
            return ""
        return ", after the kernel killed a process of it for want of memory (see MemoryMax)"

    def _failed(self, kind: Kind, what: str, then: str) -> int:
        self._log.error(f"{what}; {then}")
        self._incidents.failed(kind, what)
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
