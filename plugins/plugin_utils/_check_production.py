# Copyright: The gpufleet maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What may be left out for a trial but not in production."""

from __future__ import annotations

import re

from ansible_collections.gpufleet.llm.plugins.plugin_utils._findings import Finding
from ansible_collections.gpufleet.llm.plugins.plugin_utils._fleet import Host

# Names that are reserved for documentation.
_EXAMPLE = re.compile(r"(^|\.)example\.(com|org|net)$")


def check_production(host: Host) -> list[Finding]:
    """Missing secrets, plain HTTP, an open API, and instances whose answers nobody checks."""
    if not host.values.get("preflight_production"):
        return []
    notes: list[tuple[str, str, str]] = []
    if "inference" in host.groups:
        if host.values.get("vllm_api_key") == "":
            notes.append(
                (
                    "vllm_api_key",
                    "The secret is missing: whoever reaches an instance could use it.",
                    "Make one with `openssl rand -hex 24`, and keep it in a file encrypted by "
                    "ansible-vault; docs/inventory.md shows how.",
                )
            )
        notes += [
            (
                f"{path}.canary",
                "It is missing: answers would not be checked before the release gets requests.",
                "Add a question whose answer is known: "
                "canary: {prompt: What is the capital of France?, expect: Paris}.",
            )
            for path, instance in host.items("vllm_instances")
            if instance and "canary" not in instance
        ]
    if "gateway" in host.groups:
        if host.values.get("nginx_api_clients") == []:
            notes.append(
                (
                    "nginx_api_clients",
                    "It is empty: the API would be open to everyone who reaches the gateway.",
                    "Name every client with a key of its own, the chat among them.",
                )
            )
        if _EXAMPLE.search(host.text("nginx_server_name")):
            notes.append(
                (
                    "nginx_server_name",
                    f"It is a name for examples: {host.text('nginx_server_name')}.",
                    "Set it to the name under which people reach the gateway.",
                )
            )
        plain = host.values.get("nginx_tls_certificate") == ""
        if plain and not host.values.get("preflight_allow_plain_http"):
            notes.append(
                (
                    "nginx_tls_certificate",
                    "Without TLS, keys and conversations could be read on their way.",
                    "Set nginx_tls_certificate and nginx_tls_certificate_key, or, where something "
                    "before the gateway does TLS, preflight_allow_plain_http: true.",
                )
            )
    return [Finding(host.name, *note) for note in notes]
