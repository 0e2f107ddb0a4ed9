# Copyright: The gpufleet maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Is every secret strong enough, used for one purpose, and kept where secrets belong?"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping

from ansible_collections.gpufleet.llm.plugins.plugin_utils._findings import Finding
from ansible_collections.gpufleet.llm.plugins.plugin_utils._fleet import Fleet, Host
from ansible_collections.gpufleet.llm.plugins.plugin_utils._names import looks_secret

_KEY = re.compile(r"[A-Za-z0-9._~+/=-]{16,}")
KEY_RULE = (
    'An API key must be of 16 characters or more, of letters, digits and "._~+/=-", and serve one '
    "purpose. `openssl rand -hex 24` makes one."
)


def key_problem(key: str) -> str | None:
    """What is wrong with an API key, without the key itself; None where nothing is."""
    if _KEY.fullmatch(key):
        return None
    if len(key) < 16:
        return f"It has only {len(key)} characters."
    return "It has characters that a header or a file of nginx cannot carry."


def check_secrets(host: Host) -> list[Finding]:
    """Weak keys of the host, and secrets among options and environment variables.

    Those of the gateway are the business of `_check_gateway`.
    """
    findings = []
    for name in ("vllm_api_key", "vllm_api_key_before", "chainlit_api_key"):
        problem = key_problem(host.text(name)) if host.text(name) else None
        if problem:
            findings.append(Finding(host.name, name, problem, KEY_RULE))
    for place, settings in _settings(host):
        findings += [
            Finding(
                host.name,
                f"{place}.{name}",
                "It looks like a secret, and it would be written into the release, which everyone "
                "on the host can read.",
                "Remove it and use a credential: vllm_api_key for vLLM's key, model_hub_token_file "
                "for a hub's token.",
            )
            for name, value in settings.items()
            if looks_secret(str(name)) and isinstance(value, str)
        ]
    return findings


def _settings(host: Host) -> Iterator[tuple[str, Mapping[object, object]]]:
    """Everything that goes into files of the release as it is."""
    for kind in ("options", "environment"):
        yield f"vllm_{kind}", host.values.get(f"vllm_{kind}") or {}
        for path, instance in host.items("vllm_instances"):
            yield f"{path}.{kind}", instance.get(kind) or {}


def check_purposes(fleet: Fleet) -> list[Finding]:
    """Instances whose key is a client's key too: that client could go past the gateway."""
    gateways = fleet.of("gateway")
    # Where the gateway itself has both, its own rules say so.
    told = {host.text("nginx_vllm_api_key") for host in gateways}
    clients = {
        client.get("key"): path
        for host in gateways
        for path, client in host.items("nginx_api_clients")
    }
    return [
        Finding(
            host.name,
            "vllm_api_key",
            f"It is the same secret as {clients[host.text('vllm_api_key')]}.key.",
            KEY_RULE,
        )
        for host in fleet.of("inference")
        if host.text("vllm_api_key") in clients.keys() - told
    ]
