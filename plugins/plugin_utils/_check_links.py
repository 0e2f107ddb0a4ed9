# Copyright: The gpufleet maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Do the hosts fit together: keys, addresses, and the models behind one gateway?"""

from __future__ import annotations

from ansible_collections.gpufleet.llm.plugins.module_utils._host_finding import WARNING
from ansible_collections.gpufleet.llm.plugins.plugin_utils._findings import INVENTORY, Finding
from ansible_collections.gpufleet.llm.plugins.plugin_utils._fleet import Fleet, Host

_LOOPBACK = ("127.0.0.1", "::1", "localhost")


def check_links(fleet: Fleet) -> list[Finding]:
    """What no host can see alone."""
    return [
        *_models(fleet),
        *_gateway_keys(fleet),
        *_chat_keys(fleet),
        *_addresses(fleet),
        *_names_for_tls(fleet),
        *_histories(fleet),
    ]


def _models(fleet: Fleet) -> list[Finding]:
    places: dict[str, list[str]] = {}
    models: dict[str, set[str]] = {}
    for host in fleet.of("inference"):
        for path, instance in host.items("vllm_instances"):
            name = instance.get("served_model_name")
            if name:
                places.setdefault(name, []).append(f"{host.name} {path}")
                models.setdefault(name, set()).add(instance.get("model", ""))
    findings = [
        Finding(
            INVENTORY,
            "vllm_instances[].served_model_name",
            f'"{name}" is the name of different models: {", ".join(sorted(models[name] - {""}))}.',
            "Give every model a name of its own: clients could not tell which one answers.",
        )
        for name in sorted(places)
        if len(models[name] - {""}) > 1
    ]
    if len(places) > 1 and fleet.of("gateway"):
        served = "; ".join(f"{name} on {places[name][0]}" for name in sorted(places))
        findings.append(
            Finding(
                INVENTORY,
                "vllm_instances[].served_model_name",
                f"{len(places)} different models stand behind one gateway ({served}). The gateway "
                "has one pool and cannot route by model yet: a request would reach any of them.",
                "Serve replicas of one model here, and give every other model an inventory of its "
                "own, with a gateway of its own.",
            )
        )
    return findings


def _gateway_keys(fleet: Fleet) -> list[Finding]:
    findings = []
    instances = [host for host in fleet.of("inference") if "vllm_api_key" in host.values]
    for gateway in fleet.of("gateway"):
        if gateway.values.get("nginx_vllm_upstreams") or "nginx_vllm_api_key" not in gateway.values:
            continue  # its instances are not those of the inventory, or the key is told already
        key = gateway.text("nginx_vllm_api_key")
        differing = [
            host.name
            for host in instances
            # While the key is replaced, instances accept two.
            if key not in (host.text("vllm_api_key"), host.text("vllm_api_key_before"))
        ]
        if differing:
            named = ", ".join(differing[:3]) + (" and others" if len(differing) > 3 else "")
            findings.append(
                Finding(
                    gateway.name,
                    "nginx_vllm_api_key",
                    f"It is not the vllm_api_key of {named}, which would refuse the gateway.",
                    'Set vllm_api_key for all hosts, and nginx_vllm_api_key: "{{ vllm_api_key }}".',
                )
            )
    return findings


def _chat_keys(fleet: Fleet) -> list[Finding]:
    clients = [
        (host, {client.get("key") for _path, client in host.items("nginx_api_clients")})
        for host in fleet.of("gateway")
        if host.values.get("nginx_api_clients")
    ]
    findings = []
    for host in fleet.of("chat"):
        if "chainlit_upstream_url" in host.given or "chainlit_api_key" not in host.values:
            continue  # it talks to another API, or the key is told already
        key = host.text("chainlit_api_key")
        refusing = [gateway.name for gateway, keys in clients if not key or key not in keys]
        if refusing:
            findings.append(
                Finding(
                    host.name,
                    "chainlit_api_key",
                    (
                        "It is none of the keys in nginx_api_clients"
                        if key
                        else "Chainlit's secret is missing: the API is not open"
                    )
                    + f", so {', '.join(refusing)} would refuse the chat.",
                    "Add a client for the chat to nginx_api_clients, and give its key here too.",
                )
            )
    return findings


def _addresses(fleet: Fleet) -> list[Finding]:
    gateways = {host.name for host in fleet.of("gateway")}
    findings = []

    def check(host: Host, variable: str, address: str) -> None:
        others = ", ".join(sorted(gateways - {host.name})[:3])
        if address in _LOOPBACK and others:
            findings.append(
                Finding(
                    host.name,
                    variable,
                    f"It listens on {address}, where {others} cannot reach it.",
                    "Remove it, or give an address that the gateway reaches, such as 0.0.0.0.",
                )
            )

    for host in fleet.of("inference"):
        instances = host.items("vllm_instances")
        for path, instance in instances:
            if "host" in instance:
                check(host, f"{path}.host", instance["host"])
        if not all("host" in instance for _path, instance in instances):
            check(host, "vllm_listen_address", host.text("vllm_listen_address"))
    for host in fleet.of("chat"):
        check(host, "chainlit_listen_address", host.text("chainlit_listen_address"))
    return findings


def _names_for_tls(fleet: Fleet) -> list[Finding]:
    """The chat and the verification reach a gateway with TLS under the certificate's name."""
    secure = [host for host in fleet.of("gateway") if host.text("nginx_tls_certificate")]
    findings = [
        Finding(
            host.name,
            "nginx_server_name",
            "TLS is on and the gateway has no name, so nobody can check the certificate."
            if name == "_"
            else f"TLS is on and {name} is a pattern: neither the chat nor verify could go there.",
            "Set nginx_server_name to a name in the certificate, or one that its pattern covers: "
            "llm.company.net.",
        )
        for host in secure
        for name in [host.text("nginx_server_name")]
        if name == "_" or "*" in name or name.startswith(".")
    ]
    first = fleet.of("gateway")[:1]
    if first and first[0] in secure:
        findings += [
            Finding(
                host.name,
                "chainlit_upstream_url",
                f"It is {host.text('chainlit_upstream_url')}, and {first[0].name} speaks TLS.",
                "Set nginx_tls_certificate, nginx_server_name and nginx_https_port for all hosts, "
                "not only for the gateway: the chat's address follows from them.",
            )
            for host in fleet.of("chat")
            if "chainlit_upstream_url" not in host.given
            and host.text("chainlit_upstream_url").startswith("http://")
        ]
    return findings


def _histories(fleet: Fleet) -> list[Finding]:
    """Who logs in finds the own conversations again, whichever chat the gateway chooses."""
    chats = [host for host in fleet.of("chat") if host.text("chainlit_login") not in ("", "none")]
    return [
        Finding(
            host.name,
            "chainlit_database_url",
            f"It is empty, and people log in to {len(chats)} chats: each keeps a history of its "
            "own, so that another browser, or a chat that is away, shows other conversations.",
            "Set it to a PostgreSQL database that all of them reach. What is in the files is not "
            "carried over.",
            WARNING,
        )
        for host in chats
        if len(chats) > 1 and host.values.get("chainlit_database_url") == ""
    ]
