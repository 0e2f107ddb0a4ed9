"""Bad input of every kind, one row each: what is wrong, and words that its refusal must hold.

A row changes variables of the inventory, the host, or how the playbook is run. `shown` is what
docs/errors.md says of the input; without it, the variables.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import ansible_playbook

Variables = dict[str, Any]


@dataclass(frozen=True)
class Row:
    """One bad input; `prepare` and `undo` are commands on the host."""

    title: str
    words: tuple[str, ...]
    variables: Variables = field(default_factory=dict)
    shown: str = ""
    prepare: str = ""
    undo: str = ""
    wrapper: tuple[str, ...] = ()
    options: tuple[str, ...] = ()


def instance(**changes: object) -> Variables:
    """Return variables with the scenario's instance, changed."""
    return {"vllm_instances": [{**ansible_playbook.instances()[0], **changes}]}


def option(**options: object) -> Variables:
    """Return variables with the scenario's instance and more vLLM options."""
    return instance(options={**ansible_playbook.instances()[0]["options"], **options})


def pair(**changes: object) -> Variables:
    """Return variables with the scenario's instance and a second one, which is given whole."""
    first = ansible_playbook.instances()[0]
    return {"vllm_instances": [first, {**first, "name": "second", "port": 8100, **changes}]}


def without(key: str) -> Variables:
    """Return variables with the scenario's instance without one of its keys."""
    first = ansible_playbook.instances()[0]
    return {"vllm_instances": [{name: value for name, value in first.items() if name != key}]}


SMALL = "mkdir -p /srv/small && mount -t tmpfs -o size=10m none /srv/small"


INVENTORY: list[Callable[[], Row]] = [
    lambda: Row(
        "Misspelt vLLM option",
        ("options.max_model_length", "Did you mean max_model_len?"),
        option(max_model_length=2048),
        "options: {max_model_length: 2048}",
    ),
    lambda: Row(
        "vLLM option that is gone",
        ("disable_log_requests", "enable_log_requests: false"),
        option(disable_log_requests=True),
        "options: {disable_log_requests: true}",
    ),
    lambda: Row(
        "Unknown variable of a role",
        ("vllm_gate_dedline_seconds", "vllm_gate_deadline_seconds"),
        {"vllm_gate_dedline_seconds": 60},
    ),
    lambda: Row(
        "Unknown key of an instance",
        ("vllm_instances", "canery", "canary"),
        instance(canery={"prompt": "x", "expect": "y"}),
        "vllm_instances: [{..., canery: {...}}]",
    ),
    lambda: Row(
        "Key of an instance missing",
        ("vllm_instances", "served_model_name"),
        without("served_model_name"),
        "vllm_instances: [{...}] without served_model_name",
    ),
    lambda: Row(
        "Wrong type",
        ("vllm_gate_deadline_seconds", "must be a whole number"),
        {"vllm_gate_deadline_seconds": "soon"},
    ),
    lambda: Row(
        "Value out of range",
        ("vllm_restart_attempts", "1"),
        {"vllm_restart_attempts": 0},
    ),
    lambda: Row(
        "Retention below one release",
        ("vllm_releases_kept", "1"),
        {"vllm_releases_kept": 0},
    ),
    lambda: Row(
        "Missing secret",
        ("vllm_api_key", "vault_vllm_key"),
        {"vllm_api_key": "{{ vault_vllm_key }}"},
    ),
    lambda: Row(
        "Placeholder in place of a secret",
        ("vllm_api_key", "placeholder"),
        {"vllm_api_key": "REPLACE_WITH_A_KEY"},
    ),
    lambda: Row(
        "Secret that is too short",
        ("vllm_api_key", "16"),
        {"vllm_api_key": "short"},
    ),
    lambda: Row(
        "Two instances on one port",
        ("8000", "smollm2", "second"),
        pair(port=8000),
        "two instances with port: 8000",
    ),
    lambda: Row(
        "Port of an instance that its neighbour's guard uses",
        ("9000", "second"),
        pair(port=9000),
        "instances with port: 8000 and port: 9000",
    ),
    lambda: Row(
        "Two instances of one name",
        ("smollm2",),
        pair(name="smollm2"),
        "two instances with name: smollm2",
    ),
    lambda: Row(
        "Two instances on one GPU",
        ("GPU", "second"),
        {"vllm_variant": "gpu", "vllm_instances": gpu_pair()},
        "instances with gpus: [0, 1] and gpus: [1]",
    ),
    lambda: Row(
        "Two models behind one gateway",
        ("served_model_name", "gateway"),
        pair(served_model_name="another"),
        "instances with different served_model_name",
    ),
    lambda: Row(
        "Revision of a hub that can change",
        ("main", "commit"),
        instance(source={"type": "hub"}, revision="main"),
        "revision: main",
    ),
    lambda: Row(
        "Canary that is no regular expression",
        ("canary", "regular expression"),
        instance(canary={"prompt": "x", "expect": "Paris("}),
        "canary: {expect: 'Paris('}",
    ),
    lambda: Row(
        "Host in no group",
        ("stranger.example", "inference"),
        shown="a host that is in none of inference, chat, gateway",
        options=("--inventory", "stranger.example,"),
    ),
    lambda: Row(
        "The chat has no key for the gateway",
        ("chainlit_api_key",),
        {"nginx_api_clients": [{"name": "billing", "key": "key-of-the-client-billing"}]},
        "nginx_api_clients: [...], no chainlit_api_key",
    ),
    lambda: Row(
        "Alert to a mistyped service",
        ("alerting_urls[0]", "Did you mean dingtalk?"),
        {"alerting_urls": ["dingtak://secret@token"]},
        "alerting_urls: [dingtak://...]",
    ),
    lambda: Row(
        "Production without TLS and with an open gateway",
        ("nginx_tls_certificate", "nginx_api_clients", "vllm_api_key"),
        {"preflight_production": True},
    ),
]

HOST: list[Callable[[], Row]] = [
    lambda: Row(
        "No systemd",
        ("default-nosystemd", "systemd"),
        shown="a host whose first process is not systemd",
        options=("--inventory", "/tmp/gpufleet-nosystemd/nosystemd.yml"),
    ),
    lambda: Row(
        "Port in use by another program",
        ("8300", "python3"),
        instance(port=8300),
        "port: 8300, on which another program listens",
        prepare="systemd-run --quiet --unit=stranger python3 -m http.server 8300 && sleep 1",
        undo="systemctl stop stranger",
    ),
    lambda: Row(
        "Too little disk for an environment",
        ("/srv/small",),
        {"python_release_directory": "/srv/small/venvs"},
        "python_release_directory on a file system of 10 MB",
        prepare=SMALL,
        undo="umount /srv/small",
    ),
    lambda: Row(
        "Too little disk for a model",
        ("/srv/small",),
        {"model_root": "/srv/small/models"},
        "model_root on a file system of 10 MB",
        prepare=SMALL,
        undo="umount /srv/small",
    ),
    lambda: Row(
        "Too little memory",
        ("memory", "VLLM_CPU_KVCACHE_SPACE"),
        instance(environment={"VLLM_CPU_KVCACHE_SPACE": 500}),
        "environment: {VLLM_CPU_KVCACHE_SPACE: 500}",
    ),
    lambda: Row(
        "No Python for the lock",
        ("3.12", "python_release_python"),
        {"python_release_python_versions": ["3.12"], "python_release_directory": "/srv/venvs"},
        'python_release_python_versions: ["3.12"] on Debian 12',
    ),
    lambda: Row(
        "Python too old",
        ("3.8", "/srv/fake_python"),
        {"python_release_python": "/srv/fake_python", "python_release_directory": "/srv/venvs"},
        "python_release_python names a Python 3.8",
        prepare="printf '#!/bin/sh\\necho 3.8\\n' >/srv/fake_python && chmod +x /srv/fake_python",
        undo="rm /srv/fake_python",
    ),
    lambda: Row(
        "Package index that cannot be reached",
        ("127.0.0.1:9", "python_release_index_url"),
        {
            "python_release_index_url": "http://127.0.0.1:9/simple",
            "python_release_directory": "/srv/venvs",
        },
        "python_release_index_url where nobody answers",
    ),
    lambda: Row(
        "Wheel directory that is not complete, without an index",
        ("/srv/empty", "chainlit"),
        {
            "python_release_offline": True,
            "python_release_find_links": ["/srv/empty"],
            "python_release_directory": "/srv/venvs",
        },
        "python_release_offline: true with an empty wheel directory",
        prepare="mkdir -p /srv/empty",
    ),
    lambda: Row(
        "Model path missing",
        ("/srv/models/nothing",),
        instance(source={"type": "path", "path": "/srv/models/nothing"}, revision="other"),
        "source: {type: path, path: /srv/models/nothing}",
    ),
    lambda: Row(
        "Truncated model file",
        ("model.safetensors", "cut short"),
        instance(source={"type": "path", "path": "/srv/truncated"}, revision="truncated"),
        "a model directory with a safetensors file that ends too early",
        prepare="cp -r /srv/models/SmolLM2-135M-Instruct /srv/truncated"
        " && truncate --size=-1000 /srv/truncated/model.safetensors",
        undo="rm -r /srv/truncated",
    ),
    lambda: Row(
        "Certificate missing",
        ("/nowhere/cert.pem",),
        tls("/nowhere"),
        "nginx_tls_certificate that is not there",
    ),
    lambda: Row(
        "Certificate expired",
        ("expired", "/srv/expired/cert.pem"),
        tls("/srv/expired"),
        "nginx_tls_certificate of the past",
    ),
    lambda: Row(
        "Certificate of another name",
        ("nginx_server_name", "not for the name llm.example.com"),
        tls("/srv/other"),
        "a certificate for other.example.com, nginx_server_name: llm.example.com",
    ),
    lambda: Row(
        "Key that does not belong to the certificate",
        ("/srv/other/cert.pem", "/srv/expired/key.pem"),
        {**tls("/srv/other"), "nginx_tls_certificate_key": "/srv/expired/key.pem"},
        "nginx_tls_certificate_key of another certificate",
    ),
    lambda: Row(
        "nginx broken by somebody else's file",
        ("someone.conf", "nginx -t"),
        shown="/etc/nginx/conf.d/someone.conf with an unknown directive",
        prepare="echo 'no_such_directive on;' >/etc/nginx/conf.d/someone.conf",
        undo="rm /etc/nginx/conf.d/someone.conf",
    ),
    lambda: Row(
        "Clock far off",
        ("clock",),
        shown="a host whose clock differs by an hour",
        wrapper=("faketime", "-f", "+1h"),
    ),
]

STAGE: list[Callable[[], Row]] = [
    lambda: Row(
        "Wrong hash in a lock",
        ("Hash mismatch for `idna", "renew the lock"),
        {"__chainlit_files": "/tmp/gpufleet-bad-lock"},
        "a lock whose hash was changed by hand",
    ),
    lambda: Row(
        "Tampered wheel",
        ("Hash mismatch for `idna", "repair the mirror"),
        {
            "__chainlit_files": "/tmp/gpufleet-small-lock",
            "python_release_offline": True,
            "python_release_find_links": ["/srv/tampered"],
        },
        "a wheel directory whose file is not the locked one",
    ),
    lambda: Row(
        "Tampered model file",
        ("tokenizer.json", "damaged"),
        instance(revision="tampered"),
        "a revision on the host in which a file was changed",
        prepare="cd /var/lib/gpufleet/models/HuggingFaceTB/SmolLM2-135M-Instruct"
        " && cp -a gguf-0.1.2 tampered && echo ' ' >>tampered/tokenizer.json",
        undo="rm -r /var/lib/gpufleet/models/HuggingFaceTB/SmolLM2-135M-Instruct/tampered",
    ),
]


def tls(directory: str) -> Variables:
    """Return variables for the certificate and key in a directory of the host."""
    return {
        "nginx_tls_certificate": f"{directory}/cert.pem",
        "nginx_tls_certificate_key": f"{directory}/key.pem",
        "nginx_server_name": "llm.example.com",
    }


def gpu_pair() -> list[dict[str, Any]]:
    """Return two instances that share a GPU."""
    first, second = pair()["vllm_instances"]
    return [{**first, "gpus": [0, 1]}, {**second, "gpus": [1]}]
