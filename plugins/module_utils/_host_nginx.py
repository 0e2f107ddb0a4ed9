# Copyright: The gpufleet maintainers
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Does the nginx that is here accept its configuration now, before we touch it?"""

from __future__ import annotations

import re
from pathlib import Path

from ansible_collections.gpufleet.llm.plugins.module_utils._host_finding import (
    Finding,
    RunCommand,
    Seen,
)

_PROGRAM = "/usr/sbin/nginx"
_GATEWAY = "/etc/nginx/conf.d/gpufleet.conf"
# What the role writes anew or takes away: a mistake there is no obstacle.
_OURS = (
    "/etc/nginx/nginx.conf",
    _GATEWAY,
    "/etc/nginx/gpufleet_keys.conf",
    "/etc/nginx/sites-enabled/default",
)


def check_nginx(
    run_command: RunCommand, program: str = _PROGRAM, gateway: Path = Path(_GATEWAY)
) -> Seen:
    """Let nginx test its configuration, where it is installed."""
    if not Path(program).exists():
        return Seen("not installed yet")
    status, _output, errors = run_command([program, "-t"], handle_exceptions=False)
    if status == 0:
        return Seen("accepts its configuration")
    # `nginx: [emerg] WORDS`, or with date and process where an error log is set by now.
    found = re.search(r"\[emerg\] (?:\d+#\d+: )?(.*)", errors)
    complaint = (found.group(1) if found else errors).strip()
    place = re.search(r" in (/\S+):(\d+)$", complaint)
    if (place and place.group(1) in _OURS) or _is_old_certificate(complaint, gateway):
        return Seen(f"refuses what the role will write anew: {complaint}")
    where = f"{place.group(1)}, line {place.group(2)}" if place else "what it names"
    return Seen(
        "refuses its configuration",
        [
            Finding(
                "nginx",
                f"nginx refuses the configuration that is on this host now: {complaint}.",
                f"Correct {where}, or take the file away, until `nginx -t` passes.",
            )
        ],
    )


def _is_old_certificate(complaint: str, gateway: Path) -> bool:
    """Whether nginx misses a file that only our own configuration of before names."""
    named = re.search(r'cannot load certificate(?: key)? "([^"]+)"', complaint)
    if not named or not gateway.is_file() or named.group(1) not in gateway.read_text():
        return False
    others = [
        path
        for folder in ("conf.d", "sites-enabled", "modules-enabled")
        for path in (gateway.parents[1] / folder).glob("*")
        if path.is_file() and path != gateway
    ]
    return not any(named.group(1) in path.read_text(errors="replace") for path in others)
