# Copyright: The gpufleet maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Could every instance of a host be started as it is written?"""

from __future__ import annotations

import ipaddress
import re
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ansible_collections.gpufleet.llm.plugins.module_utils._model_request import (
    RequestError,
    require_valid,
)
from ansible_collections.gpufleet.llm.plugins.plugin_utils._findings import Finding
from ansible_collections.gpufleet.llm.plugins.plugin_utils._fleet import Host

# As files/guard/guard_settings.py has them.
NAME = re.compile(r"[a-z0-9]([a-z0-9_.-]*[a-z0-9])?")
# Whose folders lie beside theirs: those of the chat in /run, of root's packages in /var/cache.
_TAKEN_NAMES = {"chainlit", "uv"}
ENVIRONMENT_KEY = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_KEYS_OF_SOURCES = {
    "hub": ((), ()),
    "path": (("path",), ("path_on",)),
    "url": (("url", "sha256"), ()),
}


def check_instances(host: Host) -> list[Finding]:
    """Names, models, sources, canaries, GPUs, addresses and environment of the host's instances."""
    notes: list[tuple[str, str, str]] = []
    instances = host.items("vllm_instances")
    notes += _names(instances)
    for path, instance in instances:
        notes += _source(path, instance)
        notes += _model(path, instance, host)
        notes += _canary(path, instance)
        notes += _address(f"{path}.host", instance.get("host"))
        notes += _environment(f"{path}.environment", instance.get("environment", {}))
    notes += _address("vllm_listen_address", host.values.get("vllm_listen_address"))
    notes += _environment("vllm_environment", host.values.get("vllm_environment", {}))
    if host.values.get("vllm_variant") == "gpu":
        notes += _gpus(instances)
    return [Finding(host.name, *note) for note in notes]


Notes = list[tuple[str, str, str]]


def _names(instances: list[tuple[str, dict[str, Any]]]) -> Notes:
    notes: Notes = []
    names = Counter(instance["name"] for _path, instance in instances if "name" in instance)
    for name, times in names.items():
        path = f"vllm_instances[{name}].name"
        if times > 1:
            notes.append(
                (
                    path,
                    f"{times} instances of this host have this name.",
                    "Give each a name of its own: it names the unit, the files and the caches.",
                )
            )
        if not NAME.fullmatch(name):
            notes.append(
                (
                    path,
                    f'"{name}" cannot name a unit.',
                    "Use small letters, digits and _.- only, with a letter or digit at both ends.",
                )
            )
        elif name in _TAKEN_NAMES:
            notes.append(
                (
                    path,
                    "Its folder would be that of another service of this collection.",
                    "Choose another name.",
                )
            )
    return notes


def _source(path: str, instance: dict[str, Any]) -> Notes:
    source = instance.get("source")
    if source is None:
        return []
    kind = source.get("type")
    if kind is None:
        return []  # its absence is told already
    notes: Notes = []
    required, optional = _KEYS_OF_SOURCES[kind]
    for key in required:
        if not source.get(key):
            notes.append(
                (
                    f"{path}.source.{key}",
                    f"It is missing: a source of type {kind} needs it.",
                    "docs/inventory.md shows every kind of source.",
                )
            )
    for key in sorted(source.keys() - {"type", *required, *optional}):
        notes.append(
            (
                f"{path}.source.{key}",
                f"A source of type {kind} does not use it.",
                "Remove it, or correct the type; docs/inventory.md shows every kind of source.",
            )
        )
    directory = source.get("path")
    if kind == "path" and directory:
        if not directory.startswith("/"):
            notes.append(
                (
                    f"{path}.source.path",
                    f'"{directory}" is not an absolute path.',
                    "Write the whole path; {{ inventory_dir }} is the inventory's own.",
                )
            )
        elif source.get("path_on") == "control" and not Path(directory).is_dir():
            notes.append(
                (
                    f"{path}.source.path",
                    f"There is no directory {directory} on the control node.",
                    "Put the model there, correct the path, or set path_on to host.",
                )
            )
    return notes


def _model(path: str, instance: dict[str, Any], host: Host) -> Notes:
    source = instance.get("source") or {}
    if not instance.keys() >= {"model", "revision"}:
        return []
    request = {
        "name": instance["model"],
        "revision": instance["revision"],
        "source": source.get("type", "hub"),
        "hub": host.values.get("model_hub", "huggingface"),
        "url": source.get("url", "https://"),
        "url_sha256": source.get("sha256"),
        "manifest_sha256": None,
    }
    try:
        require_valid(request)
    except RequestError as error:
        key = {"name": "model", "url": "source.url", "url_sha256": "source.sha256"}
        return [(f"{path}.{key.get(error.option, error.option)}", error.problem, error.remedy)]
    return []


def _canary(path: str, instance: dict[str, Any]) -> Notes:
    try:
        re.compile((instance.get("canary") or {}).get("expect", ""))
    except re.error as error:
        return [
            (
                f"{path}.canary.expect",
                f"It is not a regular expression: {error}.",
                r"Correct it; a backslash before a character, as in \(, makes it mean itself.",
            )
        ]
    return []


def _address(path: str, address: str | None) -> Notes:
    if address is None or address == "localhost":
        return []
    try:
        ipaddress.ip_address(address)
    except ValueError:
        return [
            (
                path,
                f'"{address}" is not an address to listen on.',
                "Give an IP address of the host, 0.0.0.0 for all, or localhost.",
            )
        ]
    return []


def _environment(path: str, environment: Mapping[object, object]) -> Notes:
    notes: Notes = []
    for name, value in environment.items():
        if not isinstance(name, str) or not ENVIRONMENT_KEY.fullmatch(name):
            notes.append(
                (
                    f"{path}.{name}",
                    "It cannot be the name of an environment variable.",
                    "Use letters, digits and _ only, with a letter in front.",
                )
            )
        elif isinstance(value, bool) or not isinstance(value, (str, int, float)):
            notes.append(
                (
                    f"{path}.{name}",
                    "Its value is neither a text nor a number.",
                    'Write the text that the program expects, in quotes: "1", "true".',
                )
            )
    return notes


def _gpus(instances: list[tuple[str, dict[str, Any]]]) -> Notes:
    notes: Notes = []
    holders: dict[int, str] = {}
    for path, instance in instances:
        gpus = instance.get("gpus") or []
        if not gpus and len(instances) > 1:
            notes.append(
                (
                    f"{path}.gpus",
                    "It names no GPU, so it would take all, and others run on this host.",
                    "Give every instance of the host GPUs of its own, as in gpus: [0].",
                )
            )
        for gpu in sorted(set(gpus)):
            if gpu in holders:
                notes.append(
                    (
                        f"{path}.gpus",
                        f"GPU {gpu} belongs to {holders[gpu]} as well.",
                        "Give every instance of the host GPUs of its own.",
                    )
                )
            holders.setdefault(gpu, path)
        if len(set(gpus)) < len(gpus):
            notes.append((f"{path}.gpus", f"A GPU stands twice in {gpus}.", "Name every GPU once."))
    return notes
