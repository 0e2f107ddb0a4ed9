# Copyright: The gpufleet maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Does every program of a host have its ports for itself?"""

from __future__ import annotations

from ansible_collections.gpufleet.llm.plugins.filter.vllm_instances import health_port
from ansible_collections.gpufleet.llm.plugins.plugin_utils._findings import Finding
from ansible_collections.gpufleet.llm.plugins.plugin_utils._fleet import Host


def ports_of(host: Host) -> list[tuple[str, int]]:
    """Every port that something of ours opens on the host, with the variable that says so."""
    ports: list[tuple[str, int]] = []
    if "inference" in host.groups:
        for path, instance in host.items("vllm_instances"):
            if "port" in instance:
                ports.append((f"{path}.port", instance["port"]))
                ports.append((f"{path}.health_port", health_port(instance)))
    if "chat" in host.groups and "chainlit_port" in host.values:
        ports.append(("chainlit_port", host.values["chainlit_port"]))
    if "gateway" in host.groups:
        names = ["nginx_http_port"]
        names += ["nginx_https_port"] if host.text("nginx_tls_certificate") else []
        ports += [(name, host.values[name]) for name in names if name in host.values]
    return ports


def check_ports(host: Host) -> list[Finding]:
    """Ports that two programs of the host would open, and health ports that do not exist."""
    findings = []
    first: dict[int, str] = {}
    for path, port in ports_of(host):
        if port > 65535:
            findings.append(
                Finding(
                    host.name,
                    path,
                    f"It would be {port}, 1000 above the instance's port: there is no such port.",
                    "Set health_port of the instance, or give the instance a lower port.",
                )
            )
        elif port in first:
            findings.append(
                Finding(
                    host.name,
                    path,
                    f"Port {port} belongs to {first[port]} as well.",
                    "Give one of them another port; an instance's health_port is its port + 1000 "
                    "unless it is set.",
                )
            )
        first.setdefault(port, path)
    return findings
