# Copyright: The gpufleet maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""From `vllm_instances` to the files that vLLM and its guard read."""

from __future__ import annotations

import ipaddress
import json
from collections.abc import Mapping
from typing import Any

import yaml
from ansible.errors import AnsibleFilterError

# Where the guard tells the gateway how its instance is: this far above the instance's own port.
HEALTH_PORT_OFFSET = 1000
# Options of vLLM that follow from the instance's own keys, and the time that the guard and the unit
# wait for vLLM, too.
ROLES_OPTIONS = frozenset(
    {"model", "served-model-name", "host", "port", "api-key", "shutdown-timeout"}
)
ROLES_OPTIONS_REMEDY = (
    "Use the instance's own keys, vllm_api_key for the key, and vllm_shutdown_timeout_seconds for "
    "the time that open answers have."
)
# Faster than vLLM's own, as measured on a GPU: docs/performance.md, Throughput.
STREAM_INTERVAL = 4
# vLLM leaves out those above its max_num_batched_tokens.
GRAPH_SIZES = [1, 2, 4, 8, 16, 24, 32, 48, 64, 96, 128, 192, 256, 384, 512, 640, 768, 896, 1024]
GRAPH_SIZES += [1280, 1536, 2048, 3072, 4096, 6144, 8192]
# One graph for each size, also for steps that take in new requests; with kernels for attention that
# cannot be captured so, vLLM goes back to its own mode by itself.
GRAPHS = {"cudagraph_mode": "FULL", "cudagraph_capture_sizes": GRAPH_SIZES}
# Graphs for more requests than there can be take memory that a small instance may lack.
GRAPH_REQUESTS = 1024
# Options that decide about graphs, or beside which vLLM refuses ours.
GRAPH_OPTIONS = frozenset(
    {
        "compilation-config",
        "cudagraph-capture-sizes",
        "enforce-eager",
        "max-cudagraph-capture-size",
        "performance-mode",
        "spec-method",
        "spec-model",
        "spec-tokens",
        "speculative-config",
    }
)
API_SERVERS = 2
# Beside these vLLM chooses its own number, or refuses several (`_validate_parallel_config`).
API_SERVER_OPTIONS = frozenset(
    {
        "data-parallel-rank",
        "data-parallel-size",
        "data-parallel-size-local",
        "data-parallel-start-rank",
        "enable-fault-tolerance",
        "headless",
    }
)
# State that each API server keeps to itself.
API_SERVER_ENVIRONMENT = frozenset(
    {"VLLM_ALLOW_RUNTIME_LORA_UPDATING", "VLLM_ENABLE_RESPONSES_API_STORE"}
)
# Beside these vLLM has workers of their own anyway, on this host or on others.
WORKER_OPTIONS = frozenset(
    {"data-parallel-size", "nnodes", "pipeline-parallel-size", "tensor-parallel-size"}
)


def _gpu_options(named: dict[str, Any], environment: dict[str, str]) -> dict[str, Any]:
    """Our defaults of vLLM's options on GPUs, beside those that are `named` already."""
    # A dot leads to one key of an option: compilation-config.mode.
    names = {name.partition(".")[0] for name in named}
    if "stream-interval" in names:
        return {}
    ours: dict[str, Any] = {"stream-interval": STREAM_INTERVAL}
    requests = str(named.get("max-num-seqs", GRAPH_REQUESTS))
    fits = requests.isdecimal() and int(requests) >= GRAPH_REQUESTS
    if fits and GRAPH_OPTIONS.isdisjoint(names):
        ours["compilation-config"] = GRAPHS
    if API_SERVER_OPTIONS.isdisjoint(names) and API_SERVER_ENVIRONMENT.isdisjoint(environment):
        ours["api-server-count"] = API_SERVERS
    if WORKER_OPTIONS.isdisjoint(names):
        ours["distributed-executor-backend"] = "mp"
    return ours


def _options(instance: dict[str, Any], settings: dict[str, Any]) -> dict[str, Any]:
    """vLLM's own configuration of one instance: long option names without dashes in front."""
    ours: dict[str, Any] = {
        "model": model_directory(instance, settings),
        "served-model-name": instance["served_model_name"],
        "host": instance.get("host", settings["listen_address"]),
        "port": instance["port"],
        "shutdown-timeout": settings["shutdown_timeout_seconds"],
    }
    if len(instance.get("gpus", [])) > 1:
        ours["tensor-parallel-size"] = len(instance["gpus"])
    given = {**settings["options"], **instance.get("options", {})}
    named = {name.replace("_", "-"): value for name, value in given.items()}
    taken = sorted(ROLES_OPTIONS & set(named))
    if taken:
        raise AnsibleFilterError(
            f"vllm_instances, {instance['name']}: {', '.join(taken)} must not stand in options. "
            f"{ROLES_OPTIONS_REMEDY}"
        )
    if settings["variant"] == "gpu":
        ours |= _gpu_options({**ours, **named}, _environment(instance, settings))
    return {**ours, **named}


def _environment(instance: dict[str, Any], settings: dict[str, Any]) -> dict[str, str]:
    """Environment of vLLM: caches that outlive a restart, no traffic to hubs or statistics."""
    cache = f"/var/cache/gpufleet/{instance['name']}"
    ours = {
        "HOME": cache,
        "VLLM_CACHE_ROOT": f"{cache}/vllm",
        "TRITON_CACHE_DIR": f"{cache}/triton",
        "TORCHINDUCTOR_CACHE_DIR": f"{cache}/inductor",
        "FLASHINFER_WORKSPACE_BASE": f"{cache}/flashinfer",
        "HF_HOME": f"{cache}/huggingface",
        "HF_HUB_OFFLINE": "1",
        "VLLM_NO_USAGE_STATS": "1",
        "VLLM_ENGINE_READY_TIMEOUT_S": str(settings["gate_deadline_seconds"]),
        # Longer than nginx keeps idle connections, else nginx reuses one that vLLM has closed.
        "VLLM_HTTP_TIMEOUT_KEEP_ALIVE": "90",
    }
    if settings["variant"] == "gpu":
        # CUDA's own order puts the fastest card first; indexes mean the order of the bus.
        ours["CUDA_DEVICE_ORDER"] = "PCI_BUS_ID"
    if instance.get("gpus"):
        ours["CUDA_VISIBLE_DEVICES"] = ",".join(str(gpu) for gpu in instance["gpus"])
    if settings["variant"] == "cpu":
        # Relative to the release, in which the guard starts vLLM.
        ours["PYTHONPATH"] = "metadata"
    given = {**settings["environment"], **instance.get("environment", {})}
    return {**ours, **{name: str(value) for name, value in given.items()}}


def _guard(instance: dict[str, Any], settings: dict[str, Any]) -> dict[str, Any]:
    """Settings of the guard, as files/guard/guard_settings.py reads them."""
    canary = instance.get("canary")
    asked = {
        "every_minutes": settings["canary_every_minutes"],
        "restart": settings["canary_restart"],
    }
    return {
        "name": instance["name"],
        "model": model_directory(instance, settings),
        "gpus": [] if settings["variant"] == "cpu" else instance.get("gpus") or None,
        "host": instance.get("host", settings["listen_address"]),
        "port": instance["port"],
        "health_port": health_port(instance),
        "served_model_name": instance["served_model_name"],
        "environment": _environment(instance, settings),
        "gate": {
            "level": "canary" if canary else settings["gate_level"],
            "deadline_seconds": settings["gate_deadline_seconds"],
        },
        "canary": {"max_tokens": 32, **canary, **asked} if canary else None,
        "watch": {
            "interval_seconds": settings["watch_interval_seconds"],
            "probe_timeout_seconds": settings["watch_probe_timeout_seconds"],
            "failures": settings["watch_failures"],
        },
        "shutdown_timeout_seconds": settings["shutdown_timeout_seconds"],
    }


def model_directory(instance: dict[str, Any], settings: dict[str, Any]) -> str:
    """Where the model of `instance` lies on its host."""
    return "{}/{}/{}".format(settings["model_root"], instance["model"], instance["revision"])


def health_port(instance: dict[str, Any]) -> int:
    """Port on which the guard of `instance` answers the gateway's question for its health."""
    return int(instance.get("health_port", instance["port"] + HEALTH_PORT_OFFSET))


def vllm_instance_files(
    instances: list[dict[str, Any]], settings: dict[str, Any]
) -> dict[str, str]:
    """Return the text of `instances/NAME.yaml` and `instances/NAME.json` for every instance.

    Raises AnsibleFilterError when an option would fight with one that the role sets.
    """
    files: dict[str, str] = {}
    for instance in instances:
        path = f"instances/{instance['name']}"
        plain = json.loads(json.dumps(_options(instance, settings)))
        files[f"{path}.yaml"] = yaml.safe_dump(plain, sort_keys=True)
        files[f"{path}.json"] = json.dumps(_guard(instance, settings), indent=2, sort_keys=True)
    return files


def vllm_instance_names(digests: dict[str, str]) -> list[str]:
    """Names of the instances that a release holds, sorted, from its `digests`."""
    start, end = "instances/", ".json"
    return [
        path[len(start) : -len(end)]
        for path in digests
        if path.startswith(start) and path.endswith(end)
    ]


def vllm_instance_inputs(digests: dict[str, str], name: str) -> dict[str, str]:
    """Those of a release's `digests` that the instance `name` runs from."""
    # Whole names: qwen3.5 is no part of qwen3.
    own = {"venv", "units/vllm@.service", *(f"instances/{name}.{end}" for end in ("json", "yaml"))}
    return {
        path: digest
        for path, digest in digests.items()
        if path in own or path.startswith(("guard/", "metadata/"))
    }


def address_of(host: str, seen_from: str, hostvars: Mapping[str, Any], listens_on: str) -> str:
    """Address at which `seen_from` reaches what listens on `listens_on` of `host`.

    Both are names of the inventory; `listens_on` is empty where the role's default applies.
    """
    try:
        address = ipaddress.ip_address(listens_on)
    except ValueError:
        address = ipaddress.IPv4Address(0)
    # What listens on a single address, such as one of a network for data, is nowhere else.
    if not address.is_unspecified and (host == seen_from or not address.is_loopback):
        return listens_on
    return "127.0.0.1" if host == seen_from else str(hostvars[host].get("ansible_host", host))


def vllm_upstreams(
    hosts: list[str], hostvars: Mapping[str, Any], gateway: str
) -> list[dict[str, Any]]:
    """Upstreams of `gateway`, one for every instance of `hosts`: name, address and both ports."""
    upstreams = []
    for host in hosts:
        for instance in hostvars[host]["vllm_instances"]:
            listens_on = instance.get("host") or hostvars[host].get("vllm_listen_address") or ""
            upstreams.append(
                {
                    "name": f"{host}-{instance['name']}",
                    "address": address_of(host, gateway, hostvars, listens_on),
                    "port": instance["port"],
                    "health_port": health_port(instance),
                }
            )
    return upstreams


def chat_upstreams(
    hosts: list[str], hostvars: Mapping[str, Any], gateway: str, port: int
) -> list[dict[str, Any]]:
    """Upstreams of `gateway`, one for the chat app of every host: name, address and port."""
    return [
        {
            "name": host,
            "address": address_of(
                host, gateway, hostvars, hostvars[host].get("chainlit_listen_address") or ""
            ),
            "port": hostvars[host].get("chainlit_port", port),
        }
        for host in hosts
    ]


class FilterModule:
    """Filters of the role `vllm` and of the gateway play."""

    def filters(self) -> dict[str, Any]:
        """Return the filters by name."""
        return {
            "vllm_instance_files": vllm_instance_files,
            "vllm_instance_inputs": vllm_instance_inputs,
            "vllm_instance_names": vllm_instance_names,
            "vllm_upstreams": vllm_upstreams,
            "chat_upstreams": chat_upstreams,
        }
