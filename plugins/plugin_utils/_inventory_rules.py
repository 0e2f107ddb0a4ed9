# Copyright: The gpufleet maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""All rules of the inventory, in the order in which they are asked."""

from __future__ import annotations

from ansible_collections.gpufleet.llm.plugins.plugin_utils._check_alerting import check_alerting
from ansible_collections.gpufleet.llm.plugins.plugin_utils._check_chat import check_chat
from ansible_collections.gpufleet.llm.plugins.plugin_utils._check_gateway import check_gateway
from ansible_collections.gpufleet.llm.plugins.plugin_utils._check_groups import check_groups
from ansible_collections.gpufleet.llm.plugins.plugin_utils._check_instances import check_instances
from ansible_collections.gpufleet.llm.plugins.plugin_utils._check_links import check_links
from ansible_collections.gpufleet.llm.plugins.plugin_utils._check_login import check_login
from ansible_collections.gpufleet.llm.plugins.plugin_utils._check_paths import check_paths
from ansible_collections.gpufleet.llm.plugins.plugin_utils._check_placeholders import (
    check_placeholders,
)
from ansible_collections.gpufleet.llm.plugins.plugin_utils._check_ports import check_ports
from ansible_collections.gpufleet.llm.plugins.plugin_utils._check_production import (
    check_production,
)
from ansible_collections.gpufleet.llm.plugins.plugin_utils._check_secrets import (
    check_purposes,
    check_secrets,
)
from ansible_collections.gpufleet.llm.plugins.plugin_utils._check_timing import check_timing
from ansible_collections.gpufleet.llm.plugins.plugin_utils._check_vllm_options import (
    KnownOptions,
    check_vllm_options,
)
from ansible_collections.gpufleet.llm.plugins.plugin_utils._findings import Finding
from ansible_collections.gpufleet.llm.plugins.plugin_utils._fleet import Fleet

_PER_HOST = (check_production, check_secrets, check_ports, check_alerting, check_paths)
_PER_GROUP = {
    "inference": (check_instances, check_timing),
    "chat": (check_chat, check_login),
    "gateway": (check_gateway,),
}


def check_fleet(fleet: Fleet, known_options: KnownOptions) -> list[Finding]:
    """Every finding about values that are of the right type."""
    placeholders = [finding for host in fleet.hosts for finding in check_placeholders(host)]
    findings = [*check_groups(fleet), *check_links(fleet), *check_purposes(fleet)]
    for host in fleet.hosts:
        findings += [finding for rule in _PER_HOST for finding in rule(host)]
    for group, rules in _PER_GROUP.items():
        for host in fleet.of(group):
            findings += [finding for rule in rules for finding in rule(host)]
    for host in fleet.of("inference"):
        findings += check_vllm_options(host, known_options)
    # A placeholder breaks other rules too; its own words are the clearer ones.
    told = {(finding.host, finding.variable) for finding in placeholders}
    return placeholders + [f for f in findings if (f.host, f.variable) not in told]
