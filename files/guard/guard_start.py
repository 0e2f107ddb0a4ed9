# Copyright: (c) The gpufleet maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What must be right before vLLM is started: it would load for minutes, then say less clearly."""

from __future__ import annotations

import errno
import os
import shutil
import socket
from pathlib import Path

from guard_devices import FINDING
from guard_settings import Settings, SettingsError

_MIN_CACHE_BYTES = 64 * 1024 * 1024


class StartError(Exception):
    """vLLM cannot start now; a later attempt may succeed. The message names the remedy."""


def check_start(settings: Settings) -> None:
    """Look at release, GPUs, model, port and disk.

    Raises SettingsError for what only a person can mend, StartError for what may mend itself.
    """
    for path in (settings.vllm, settings.config):
        if not path.exists():
            raise SettingsError(f"{path} does not exist: deploy the release again")
    _check_gpus()
    if not _readable(settings.model / "config.json"):
        raise SettingsError(
            f"the model is not at {settings.model}: bring its disk back, or run "
            "playbooks/stage.yml, which brings the model"
        )
    _check_port(settings)
    _check_disk()


def _readable(path: Path) -> bool:
    try:
        return path.is_file()
    except PermissionError as error:  # Python before 3.14 does not swallow it
        raise SettingsError(
            f"{path} may not be read by the user of the service: see the modes of the directories "
            "above it, and that it does not lie below /home or /root, which the unit hides"
        ) from error


def _check_gpus() -> None:
    directory = os.environ.get("RUNTIME_DIRECTORY")
    finding = Path(directory, FINDING) if directory else None
    if finding is not None and finding.is_file():
        raise SettingsError(
            f"{finding.read_text(encoding='utf-8')}: reboot the host; if it comes again, the card, "
            "its slot or its power must be looked at (docs/incidents/gpu_lost.md)"
        )


def _check_port(settings: Settings) -> None:
    family = socket.AF_INET6 if ":" in settings.host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((settings.host, settings.port))
            # Two sockets may bind with this option; only one may listen.
            probe.listen(1)
        except OSError as error:
            if error.errno == errno.EADDRINUSE:
                raise StartError(
                    f"port {settings.port} is taken: `ss -ltnp sport = :{settings.port}` shows by "
                    "whom; end that, or give the instance another port"
                ) from error
            if error.errno == errno.EADDRNOTAVAIL:
                # At boot an address may come late: from DHCP, of a bond, or moved by keepalived.
                raise StartError(
                    f"the host does not have the address {settings.host} now: `ip address` shows "
                    "which it has; bring it up, or correct vllm_listen_address"
                ) from error
            raise SettingsError(
                f"host {settings.host}, port {settings.port} cannot be used: {error.strerror}"
            ) from error


def _check_disk() -> None:
    directory = os.environ.get("CACHE_DIRECTORY")
    if directory and shutil.disk_usage(directory).free < _MIN_CACHE_BYTES:
        raise StartError(
            f"the disk of {directory} is full: free some space; `df -h {directory}` and "
            "`du -xsh /var/* | sort -h` show where it went"
        )
