"""python -m gpufleet_chat [--wait SECONDS] settings.json"""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path

from gpufleet_chat import logs
from gpufleet_chat.settings import SettingsError, load_secrets, load_settings

EX_CONFIG = 78


def main() -> int:
    """Serve the chat, or wait for one that starts.

    Exit status: 78 for settings that must be corrected before another start, 1 for a wait in vain.
    """
    parser = argparse.ArgumentParser(prog="gpufleet_chat", description="The chat application.")
    parser.add_argument("settings", type=Path, help="path of settings.json")
    parser.add_argument(
        "--wait",
        type=float,
        metavar="SECONDS",
        help="do not serve: wait until a chat with these settings answers, this long at most",
    )
    arguments = parser.parse_args()
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
    # Only now: the server imports everything, which takes seconds. The wait reads no secret, since
    # systemd 252 shows credentials to the main process alone.
    from gpufleet_chat.server import serve

    serve(settings, load_secrets(os.environ.get("CREDENTIALS_DIRECTORY")))
    return 0


if __name__ == "__main__":
    sys.exit(main())
