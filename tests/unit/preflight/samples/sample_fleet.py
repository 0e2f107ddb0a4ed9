"""Inventories for the tests: one that nothing is wrong with, and a look at a changed one."""

from __future__ import annotations

import copy
from typing import Any

from ansible.parsing.dataloader import DataLoader
from ansible.template import trust_as_template
from ansible_collections.gpufleet.llm.plugins.plugin_utils._findings import Finding
from ansible_collections.gpufleet.llm.plugins.plugin_utils._inspect import Inspection

COMMIT = "0123456789abcdef0123456789abcdef01234567"
GPU = "gpu1"
INSTANCE: dict[str, Any] = {
    "name": "qwen3",
    "model": "Qwen/Qwen3-0.6B-FP8",
    "revision": COMMIT,
    "served_model_name": "qwen3-0.6b-fp8",
    "port": 8000,
    "gpus": [0],
    "options": {"max_model_len": 4096},
    "canary": {"prompt": "What is the capital of France?", "expect": "Paris"},
}
GROUPS = ("inference", "chat", "gateway")
# Production with every secret, as inventories/production becomes once it is filled in.
PRODUCTION: dict[str, Any] = {
    "preflight_production": True,
    "vllm_instances": [INSTANCE],
    "nginx_server_name": "llm.company.net",
    "nginx_tls_certificate": "/etc/ssl/llm.pem",
    "nginx_tls_certificate_key": "/etc/ssl/llm.key",
    "nginx_api_clients": [
        {"name": "chat", "key": "{{ chainlit_api_key }}"},
        {"name": "team", "key": "key-of-the-team-0123456789"},
    ],
    "chainlit_api_key": "key-of-the-chat-0123456789",
    "vllm_api_key": "key-of-vllm-0123456789",
    "nginx_vllm_api_key": "{{ vllm_api_key }}",
}


def instance(**changes: Any) -> dict[str, Any]:
    """An instance like the one of the inventory, with other keys; None takes a key away."""
    made = {**copy.deepcopy(INSTANCE), **changes}
    return {key: value for key, value in made.items() if value is not None}


def trusted(value: Any) -> Any:
    """The value as Ansible reads it from an inventory: its texts may be templates."""
    if isinstance(value, str):
        return trust_as_template(value)
    if isinstance(value, dict):
        return {key: trusted(item) for key, item in value.items()}
    if isinstance(value, list):
        return [trusted(item) for item in value]
    return value


def look(
    hosts: dict[str, tuple[str, ...]] | None = None,
    each: dict[str, dict[str, Any]] | None = None,
    **changes: Any,
) -> list[Finding]:
    """Findings about an inventory of `hosts` (groups by name) that all have PRODUCTION's variables.

    `changes` apply to all hosts, `each` to one. None takes a variable away, an Ellipsis is null.
    """
    groups_of = hosts or {GPU: GROUPS}
    groups: dict[str, list[str]] = {}
    for name, names in groups_of.items():
        for group in names:
            groups.setdefault(group, []).append(name)
    variables: dict[str, dict[str, Any]] = {}
    for name, names in groups_of.items():
        own = {**PRODUCTION, **changes, **(each or {}).get(name, {})}
        variables[name] = {
            "inventory_hostname": name,
            "group_names": list(names),
            "groups": groups,
            "hostvars": variables,
            **{
                key: None if value is ... else trusted(value)
                for key, value in own.items()
                if value is not None
            },
        }
    return Inspection(variables, groups, DataLoader()).findings


def lines(findings: list[Finding]) -> list[str]:
    """One line per finding, for the message of an assertion that fails."""
    return [f"{f.host}: {f.variable}: {f.problem} {f.remedy}" for f in findings]
