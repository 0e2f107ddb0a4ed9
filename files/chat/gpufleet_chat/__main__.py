"""python -m gpufleet_chat [--wait SECONDS | --backup FILE] settings.json, or --hash-password"""

from __future__ import annotations

import argparse
import os
import sys
from getpass import getpass
from pathlib import Path

from gpufleet_chat import logs
from gpufleet_chat.settings import Settings, SettingsError, load_secrets, load_settings

EX_CONFIG = 78


def main() -> int:
    """Serve the chat, wait for one that starts, or copy its history.

    Exit status: 78 for settings that must be corrected before another start, 1 for a wait in vain
    or no copy.
    """
    parser = argparse.ArgumentParser(prog="gpufleet_chat", description="The chat application.")
    parser.add_argument("settings", type=Path, nargs="?", help="path of settings.json")
    instead = parser.add_mutually_exclusive_group()
    instead.add_argument(
        "--wait",
        type=float,
        metavar="SECONDS",
        help="do not serve: wait until a chat with these settings answers, this long at most",
    )
    instead.add_argument(
        "--backup",
        type=Path,
        metavar="FILE",
        help="do not serve: copy the history into this new file, also while the chat runs",
    )
    instead.add_argument(
        "--hash-password",
        action="store_true",
        help="do not serve: print the hash of the password that is read from standard input",
    )
    arguments = parser.parse_args()
    if arguments.hash_password:
        return _hash_password()
    if arguments.settings is None:
        parser.error("give the path of settings.json")
    logs.configure()
    try:
        settings = load_settings(arguments.settings)
    except SettingsError as error:
        print(f"gpufleet_chat: {error}", file=sys.stderr)
        return EX_CONFIG
    if arguments.wait is not None:
        from gpufleet_chat.gate import wait

        reason = wait(settings, arguments.wait)
        if reason is not None:
            print(f"gpufleet_chat: not ready: {reason}", file=sys.stderr)
        return 0 if reason is None else 1
    if arguments.backup is not None:
        return _back_up(settings, arguments.backup)
    # Only now: the server imports everything, which takes seconds. The wait reads no secret, since
    # systemd 252 shows credentials to the main process alone.
    from gpufleet_chat.server import serve

    try:
        serve(settings, load_secrets(os.environ.get("CREDENTIALS_DIRECTORY")))
    except SettingsError as error:
        print(f"gpufleet_chat: {error}", file=sys.stderr)
        return EX_CONFIG
    return 0


def _hash_password() -> int:
    """Print the hash of the password on standard input, for the list of users."""
    from gpufleet_chat.users import hash_password

    password = getpass("Password: ") if sys.stdin.isatty() else sys.stdin.readline()
    try:
        print(hash_password(password.rstrip("\r\n")))
    except ValueError as error:
        print(f"gpufleet_chat: {error}", file=sys.stderr)
        return 1
    return 0


def _back_up(settings: Settings, target: Path) -> int:
    from gpufleet_chat.history import history_file
    from gpufleet_chat.history_backup import BackupError, back_up

    try:
        if settings.history_database != "sqlite":
            raise BackupError("the history is in PostgreSQL; copy that database with pg_dump")
        size = back_up(history_file(settings), target)
    except BackupError as error:
        print(f"gpufleet_chat: no backup: {error}", file=sys.stderr)
        return 1
    print(f"{target}: {size} bytes")
    return 0


if __name__ == "__main__":
    sys.exit(main())
