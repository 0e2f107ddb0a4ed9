# Copyright: (c) The gpufleet maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Do the services see the directories that the inventory chooses?"""

from __future__ import annotations

from pathlib import PurePosixPath

from ansible_collections.gpufleet.llm.plugins.plugin_utils._findings import Finding
from ansible_collections.gpufleet.llm.plugins.plugin_utils._fleet import Host

_VARIABLES = ("model_root", "python_release_directory")
# The sandbox of the units has ProtectHome and a PrivateTmp (systemd.exec(5)).
_HIDDEN = tuple(PurePosixPath("/", name) for name in ("home", "root", "run/user", "tmp", "var/tmp"))


def check_paths(host: Host) -> list[Finding]:
    """Models and environments lie where the units may read them."""
    return [
        Finding(
            host.name,
            variable,
            f"No service sees what lies below {hidden}: its sandbox hides it.",
            "Choose a directory elsewhere, such as one below /srv or /var/lib, or mount the disk "
            "there.",
        )
        for variable in _VARIABLES
        for hidden in _HIDDEN
        if hidden in (path := PurePosixPath(host.text(variable)), *path.parents)
    ]
