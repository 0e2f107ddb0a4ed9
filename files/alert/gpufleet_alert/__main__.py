"""python -m gpufleet_alert COMMAND, in the directory of a release."""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path

from gpufleet_alert import logs
from gpufleet_alert.settings import Settings, SettingsError, load_credentials, load_settings

EX_CONFIG = 78


def main(arguments: list[str] | None = None) -> int:
    """Run one command.

    Exit status: 78 for settings or credentials that cannot be read, else the command's.
    """
    parser = argparse.ArgumentParser(prog="llm-alert", description="Alerts of this host.")
    parser.add_argument("--settings", type=Path, default=Path("settings.json"))
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("test", help="send a message to every service, and say which took it")
    commands.add_parser("list", help="show what waits for a service")
    commands.add_parser("check", help="say which of the URLs apprise does not know")
    gave_up = commands.add_parser("gave-up", help="tell that systemd has given a unit up")
    gave_up.add_argument("unit")
    commands.add_parser("deliver", help="send what waits, until nothing does")
    chosen = parser.parse_args(arguments)
    logs.configure()
    try:
        return _run(chosen, load_settings(chosen.settings))
    except SettingsError as error:
        logs.log.error("%s", error)
        return EX_CONFIG


def _run(chosen: argparse.Namespace, settings: Settings) -> int:
    # Only now: apprise takes a second to load, and not every command needs it.
    from gpufleet_alert import commands
    from gpufleet_alert.services import Services

    if chosen.command == "gave-up":
        return commands.make_gave_up(settings, chosen.unit)
    if chosen.command == "list":
        return commands.list_waiting(settings)
    credentials = load_credentials(os.environ)
    # Before anything connects: for HTTPS and mail, one store of authorities.
    os.environ["REQUESTS_CA_BUNDLE"] = os.environ["SSL_CERT_FILE"] = str(settings.ca_bundle)
    if credentials.proxy:
        os.environ["HTTP_PROXY"] = os.environ["HTTPS_PROXY"] = credentials.proxy
    services = Services(credentials.urls)
    if chosen.command == "check":
        return commands.check(services)
    if chosen.command == "test":
        return commands.test(settings, services)
    return commands.deliver(settings, services)


if __name__ == "__main__":
    sys.exit(main())
