# Copyright: The gpufleet maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Do the times of a host fit together?"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ansible_collections.gpufleet.llm.plugins.plugin_utils._findings import Finding
from ansible_collections.gpufleet.llm.plugins.plugin_utils._fleet import Host

_DAY = 86400
# What the unit of roles/vllm adds to the gate's deadline and to the time of shutdown, in seconds.
_START_MARGIN = 30
_STOP_MARGIN = 30
_NEEDED = (
    "vllm_restart_attempts",
    "vllm_gate_deadline_seconds",
    "vllm_shutdown_timeout_seconds",
    "vllm_restart_interval_seconds",
    "vllm_restart_delay_seconds",
    "vllm_restart_max_delay_seconds",
    "vllm_watch_interval_seconds",
    "vllm_watch_probe_timeout_seconds",
    "vllm_watch_failures",
)


def least_interval(values: Mapping[str, Any]) -> int:
    """Seconds that all attempts may take: a burst that is longer than the interval never trips."""
    start = values["vllm_gate_deadline_seconds"] + _START_MARGIN
    stop = values["vllm_shutdown_timeout_seconds"] + _STOP_MARGIN
    delay = max(values["vllm_restart_delay_seconds"], values["vllm_restart_max_delay_seconds"])
    return int(values["vllm_restart_attempts"] * (start + stop + delay + 1))


def check_timing(host: Host) -> list[Finding]:
    """Give up within a day, and find a hang sooner than a start may take."""
    values = host.values
    if not values.keys() >= set(_NEEDED):
        return []  # what is wrong with one of them is told already
    findings = []
    interval = least_interval(values)
    given = values["vllm_restart_interval_seconds"]
    if 0 < given < interval:
        findings.append(
            Finding(
                host.name,
                "vllm_restart_interval_seconds",
                f"In {given} s, {values['vllm_restart_attempts']} slow starts would not fit: they "
                f"may take {interval} s, so systemd would never give up.",
                f"Set it to 0, which computes it, or to {interval} or more.",
            )
        )
    if interval >= _DAY:
        findings.append(
            Finding(
                host.name,
                "vllm_restart_attempts",
                f"systemd would count failed starts over {interval} s, a day or more, before it "
                "gives up and tells anyone.",
                "Lower vllm_restart_attempts, vllm_gate_deadline_seconds, "
                "vllm_shutdown_timeout_seconds or vllm_restart_max_delay_seconds: attempts x "
                f"(deadline + shutdown + longest delay + 61) must stay below {_DAY}.",
            )
        )
    hang = values["vllm_watch_failures"] * (
        values["vllm_watch_interval_seconds"] + values["vllm_watch_probe_timeout_seconds"]
    )
    deadline = values["vllm_gate_deadline_seconds"]
    if hang > deadline:
        findings.append(
            Finding(
                host.name,
                "vllm_watch_failures",
                f"A hang would be found after {hang} s, and a whole start may take {deadline} s.",
                "Lower vllm_watch_failures, vllm_watch_interval_seconds or "
                "vllm_watch_probe_timeout_seconds: failures x (interval + timeout) must not exceed "
                "vllm_gate_deadline_seconds.",
            )
        )
    return findings
