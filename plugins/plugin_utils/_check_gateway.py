# Copyright: The gpufleet maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What nginx can be set to: the rules of the role `nginx`, which applies them itself too."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping
from typing import Any

from ansible_collections.gpufleet.llm.plugins.plugin_utils._check_secrets import (
    KEY_RULE,
    key_problem,
)
from ansible_collections.gpufleet.llm.plugins.plugin_utils._findings import Finding
from ansible_collections.gpufleet.llm.plugins.plugin_utils._fleet import Host
from ansible_collections.gpufleet.llm.plugins.plugin_utils._ranges import range_problem

_CLIENT = re.compile(r"[A-Za-z0-9_.-]+")
# How texts are written, and what to do where they are not.
_WRITINGS = {
    "nginx_max_body_size": (r"[0-9]+[kKmMgG]?", "Write a number and k, m or g: 32m."),
    "nginx_server_name": (r"[A-Za-z0-9_.*-]+", "Write one name: llm.company.net."),
}
_WRITINGS_OF_ITEMS = {
    "nginx_allowed_origins": (
        r"https?://[A-Za-z0-9.-]+(:[0-9]+)?",
        "Write what browsers send, without a path or a slash at the end: "
        "https://portal.company.net.",
    ),
}
# Where roles/nginx/files/nginx.service.d/gpufleet.conf lets nginx see nothing.
_HIDDEN = re.compile(r"/(home|root|run/user|tmp|var/tmp|etc/gpufleet/credentials)/")
# Variable, problem and remedy.
Problem = tuple[str, str, str]


def gateway_problems(values: Mapping[str, Any]) -> list[Problem]:
    """Everything wrong with the variables of the role `nginx`, without any key in it.

    `values` holds nginx_tls_certificate, nginx_tls_certificate_key, nginx_stream_timeout_seconds,
    nginx_api_clients and nginx_vllm_api_key; one that is absent is not judged.
    """
    problems: list[Problem] = []
    files = ("nginx_tls_certificate", "nginx_tls_certificate_key")
    for file, other in (files, files[::-1]):
        if values.get(other) and values.get(file) == "":
            problems.append(
                (
                    file,
                    f"It is empty, and {other} is set.",
                    f"TLS needs {files[0]} and {files[1]}: set both, or neither.",
                )
            )
        if _HIDDEN.match(str(values.get(file) or "")):
            problems.append(
                (
                    file,
                    f"The sandbox of nginx hides {values[file]} from it.",
                    "Put the file where nginx may read it, /etc/ssl for example.",
                )
            )
    timeout = range_problem(
        "nginx_stream_timeout_seconds", values.get("nginx_stream_timeout_seconds")
    )
    if timeout:
        problems.append(("nginx_stream_timeout_seconds", *timeout))
    clients = [client for client in values.get("nginx_api_clients") or [] if client.get("name")]
    problems += _names([str(client["name"]) for client in clients])
    problems += _keys(clients, str(values.get("nginx_vllm_api_key") or ""))
    return problems


def _names(names: list[str]) -> list[Problem]:
    remedy = (
        'Names must be unique, of letters, digits and "_.-", and not "anonymous": they appear in '
        "the log and count the limits."
    )
    problems: list[Problem] = []
    for name, times in Counter(names).items():
        path = f"nginx_api_clients[{name}].name"
        if times > 1:
            problems.append((path, f"{times} clients have this name.", remedy))
        if name == "anonymous" or not _CLIENT.fullmatch(name):
            problems.append((path, f'A client cannot be called "{name}".', remedy))
    return problems


def _keys(clients: list[Mapping[str, Any]], vllm_key: str) -> list[Problem]:
    problems: list[Problem] = []
    first: dict[str, str] = {}
    keys = [("nginx_vllm_api_key", vllm_key)] if vllm_key else []
    keys += [
        (f"nginx_api_clients[{client['name']}].key", str(client["key"]))
        for client in clients
        if "key" in client
    ]
    for path, key in keys:
        problem = key_problem(key)
        if first.get(key, path) != path:
            problem = f"It is the same secret as {first[key]}."
        first.setdefault(key, path)
        if problem:
            problems.append((path, problem, KEY_RULE))
    return problems


def check_gateway(host: Host) -> list[Finding]:
    """The same for one host, and texts that nginx would refuse or never match."""
    problems = gateway_problems(host.values)
    texts = [(name, host.values[name]) for name in _WRITINGS if name in host.values]
    texts += [
        ("nginx_allowed_origins", origin) for origin in host.values.get("nginx_allowed_origins", [])
    ]
    for name, text in texts:
        pattern, remedy = {**_WRITINGS, **_WRITINGS_OF_ITEMS}[name]
        if not re.fullmatch(pattern, text):
            problems.append((name, f'"{text}" is not in the notation that nginx needs.', remedy))
    return [Finding(host.name, *problem) for problem in problems]
