# Copyright: (c) The gpufleet maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Runs, gates and checks one vLLM instance of a release.

``run NAME``    starts vLLM, watches it, and exits non-zero whenever it ends unasked or hangs
``wait NAME``   waits until the instance is ready; the unit's gate
``check NAME``  prints the instance's state
``devices NAME`` looks for lost GPUs in the kernel log, as root, before ``run``
``ended NAME``  notes an end that ``run`` could not note itself, such as its own death

Exit status of ``check``: 0 ready, 3 starting, 4 busy, 5 hung, 6 dead, 7 wrong_model,
8 wrong_answer. All commands but ``devices``: 78 when the settings cannot be used.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from pathlib import Path

import guard_devices
from _probe import LEVELS, Level, State, check
from guard_gate import wait
from guard_incident import Incidents
from guard_log import Log
from guard_processes import is_alive
from guard_run import EXIT_CONFIG, EXIT_FAILURE, PID_FILE, run
from guard_settings import Settings, SettingsError, load, read_api_keys

CURRENT_RELEASE = Path("/opt/gpufleet/vllm/current")
API_KEY_FILE = Path("/etc/gpufleet/credentials/vllm_api_key")
RUNTIME_DIRECTORY = Path("/run/gpufleet")
CHECK_STATUS: dict[State, int] = {
    "ready": 0,
    "starting": 3,
    "busy": 4,
    "hung": 5,
    "dead": 6,
    "wrong_model": 7,
    "wrong_answer": 8,
}


def main(arguments: list[str] | None = None) -> int:
    """Run one command; return the exit status."""
    options = _parser().parse_args(arguments)
    log = Log(options.name)
    incidents = Incidents(options.name, log)
    try:
        if options.command == "ended":
            return _ended(incidents)
        settings = load(_release(options.release), options.name)
        if options.command == "run":
            return run(settings, read_api_keys(None), incidents, log)
        if options.command == "wait":
            return _wait(settings, incidents, log)
        if options.command == "devices":
            return _devices(settings, log)
        return _check(settings, options)
    except SettingsError as error:
        if options.command == "devices":
            # `run` says it next; only from the main process does 78 keep systemd from restarts.
            return 0
        log.error(str(error))
        if options.command == "run":
            # systemd gives up at once, and that is told.
            incidents.failed("restarted", str(error), tell=False)
        return EXIT_CONFIG


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="llm_guard", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    commands = parser.add_subparsers(dest="command", required=True)
    for name, text in (
        ("run", "start and watch vLLM"),
        ("wait", "wait until the instance is ready"),
        ("check", "print the instance's state"),
        ("devices", "look for lost GPUs"),
        ("ended", "note an end that run could not note"),
    ):
        command = commands.add_parser(name, help=text, description=text)
        command.add_argument("name", metavar="NAME", help="instance, as in instances/NAME.json")
        command.add_argument(
            "--release",
            type=Path,
            metavar="DIR",
            help=f"release directory (default: the working directory, else {CURRENT_RELEASE})",
        )
        if name == "check":
            command.add_argument("--json", action="store_true", help="print one JSON object")
            command.add_argument("--level", choices=LEVELS, default="token", help="how far to go")
            command.add_argument(
                "--timeout",
                type=_seconds,
                default=20.0,
                metavar="S",
                help="seconds (default: 20); in less a slow step looks like a hang",
            )
            command.add_argument(
                "--api-key-file",
                type=Path,
                metavar="FILE",
                help=f"file with the API key (default: {API_KEY_FILE} where it exists)",
            )
    return parser


def _seconds(text: str) -> float:
    value = float(text)
    if not 0.1 <= value <= 3600:
        raise argparse.ArgumentTypeError("must be from 0.1 to 3600 seconds")
    return value


def _release(given: Path | None) -> Path:
    if given is not None:
        return given.resolve()
    # systemd has resolved the link `current`: a later switch must not reach this process.
    here = Path.cwd()
    return here if (here / "instances").is_dir() else CURRENT_RELEASE.resolve()


def _wait(settings: Settings, incidents: Incidents, log: Log) -> int:
    main_pid = os.environ.get("MAINPID", "")
    ready = wait(settings, int(main_pid) if main_pid.isdigit() else None, incidents, log)
    return 0 if ready else EXIT_FAILURE


def _devices(settings: Settings, log: Log) -> int:
    try:
        finding = guard_devices.look(settings.gpus)
    except OSError as error:
        log.error(f"the kernel log cannot be read, lost GPUs would go unseen: {error}")
        return 0
    directory = os.environ.get("RUNTIME_DIRECTORY")
    if finding and directory:
        guard_devices.leave(finding, Path(directory))
    return 0


def _ended(incidents: Incidents) -> int:
    # systemd.exec(5) describes what a unit's ExecStopPost finds in its environment.
    result = os.environ.get("SERVICE_RESULT", "success")
    if result != "success" and not incidents.known:
        how = f"{os.environ.get('EXIT_CODE', '')} {os.environ.get('EXIT_STATUS', '')}".strip()
        incidents.failed("restarted", f"the guard ended: {result} ({how or 'no status'})")
    return 0


def _check(settings: Settings, options: argparse.Namespace) -> int:
    level: Level = options.level
    if level == "canary" and settings.canary is None:
        raise SettingsError("the instance has no canary: set canary.prompt and canary.expect")
    keys = read_api_keys(options.api_key_file or _host_key_file())
    target = settings.target(keys, RUNTIME_DIRECTORY / settings.name)
    result = check(target, level, options.timeout, alive=_guard_runs(settings.name))
    if options.json:
        print(json.dumps({"name": settings.name, "url": settings.url, **result.as_dict()}))
    else:
        how = f"{result.level}, {result.seconds:.2f} s"
        print(f"{settings.name}: {result.state} ({how}): {result.detail}")
    return CHECK_STATUS[result.state]


def _host_key_file() -> Path | None:
    try:
        API_KEY_FILE.stat()
    except FileNotFoundError:
        return None
    except PermissionError as error:
        raise SettingsError(
            f"{API_KEY_FILE} may not be read by you: run this as root, or name an --api-key-file"
        ) from error
    return API_KEY_FILE


def _guard_runs(name: str) -> bool:
    try:
        pid = int((RUNTIME_DIRECTORY / name / PID_FILE).read_text(encoding="ascii"))
    except (OSError, ValueError):
        return False
    return is_alive(pid)


if __name__ == "__main__":
    sys.exit(main())
