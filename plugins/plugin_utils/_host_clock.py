# Copyright: The gpufleet maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""How far is a host's clock from that of the control node?"""

from __future__ import annotations

from ansible_collections.gpufleet.llm.plugins.module_utils._host_finding import Finding, Seen

VARIABLE = "preflight_clock_tolerance_seconds"


def check_clock(before: float, began: float, ended: float, after: float, tolerance: float) -> Seen:
    """Judge the clock of a host where something ran; all times are seconds since 1970.

    It ran from `began` to `ended` by the host's clock, and within `before` and `after` by ours. So
    the host is ahead by at least `ended - after` and at most `began - before`.
    """
    least, most = ended - after, began - before
    offset = (least + most) / 2
    seen = Seen(f"{offset:+.1f} s, give or take {(most - least) / 2:.1f} s")
    if least > tolerance or most < -tolerance:
        seen.findings.append(
            Finding(
                VARIABLE,
                f"The clock of this host is {abs(offset):.0f} s "
                f"{'ahead of' if offset > 0 else 'behind'} the control node's; {tolerance:.0f} s "
                "are allowed. Certificates and tokens fail so, and logs do not fit together.",
                "Synchronise whichever is wrong (compare `date --utc`): apt-get install "
                "systemd-timesyncd, then timedatectl set-ntp true.",
            )
        )
    return seen
