# Copyright: The gpufleet maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Is every host in a group that the playbooks know, and can the service work with these groups?"""

from __future__ import annotations

from ansible_collections.gpufleet.llm.plugins.plugin_utils._findings import INVENTORY, Finding
from ansible_collections.gpufleet.llm.plugins.plugin_utils._fleet import GROUPS, Fleet
from ansible_collections.gpufleet.llm.plugins.plugin_utils._names import one_typo_apart

_ALL = ", ".join(GROUPS)


def check_groups(fleet: Fleet) -> list[Finding]:
    """Misspelt groups, hosts without a group, and groups that cannot do without another."""
    findings: list[Finding] = []
    misspelt: set[str] = set()
    for group in sorted(fleet.groups):
        meant = next((ours for ours in GROUPS if one_typo_apart(group, ours)), None)
        others = set(fleet.groups[group]) - set(fleet.groups.get(meant or "", []))
        if meant and others:
            misspelt |= others
            findings.append(
                Finding(
                    INVENTORY,
                    f"group {group}",
                    "No play knows this group.",
                    f"Did you mean {meant}? Rename it, or add its hosts to {meant}.",
                )
            )
    findings += [
        Finding(
            host.name,
            "groups",
            f"It is in none of the groups {_ALL}, so nothing would be done on it.",
            "Put it into one of them, or take it out of the inventory.",
        )
        for host in fleet.hosts
        if host.groups.isdisjoint(GROUPS) and host.name not in misspelt
    ]
    # A gateway whose instances are elsewhere names them itself.
    elsewhere = [host for host in fleet.of("gateway") if host.values.get("nginx_vllm_upstreams")]
    if not fleet.of("inference") and not elsewhere:
        findings.append(
            Finding(
                INVENTORY,
                "group inference",
                "It has no host, so no model would be served.",
                "Add the hosts with GPUs to the group inference.",
            )
        )
    if not fleet.of("gateway") and (fleet.of("inference") or fleet.of("chat")):
        findings.append(
            Finding(
                INVENTORY,
                "group gateway",
                "It has no host, so nobody could reach the API or the chat.",
                "Add a host to the group gateway; it may be one of those of inference or chat.",
            )
        )
    return findings
