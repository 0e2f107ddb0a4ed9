# Copyright: The gpufleet maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""From the variables of a host's roles to the options of `host_check`."""

from __future__ import annotations

import re
from collections.abc import Mapping
from ipaddress import IPv4Address
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from ansible_collections.gpufleet.llm.plugins.filter.vllm_instances import health_port
from ansible_collections.gpufleet.llm.plugins.module_utils._gpu_demand import (
    read_config,
    weights_in,
)
from ansible_collections.gpufleet.llm.plugins.module_utils._host_finding import Finding
from ansible_collections.gpufleet.llm.plugins.module_utils._locked_environment import (
    environment_name,
)
from ansible_collections.gpufleet.llm.plugins.module_utils._model_checks import find_problems
from ansible_collections.gpufleet.llm.plugins.module_utils._model_files import ModelError
from ansible_collections.gpufleet.llm.plugins.module_utils._model_store import source_files

if TYPE_CHECKING:
    from packaging.requirements import Requirement

# Where the roles `python_release` and `model` put the tools that they need themselves.
_TOOLS = "/opt/gpufleet/tools"
# The interpreter that `python_release` installs uv with, and the versions that it may have.
_SYSTEM_PYTHON = "/usr/bin/python3"
_ANY_VERSION = [f"3.{minor}" for minor in range(8, 20)]
_CACHE = "VLLM_CPU_KVCACHE_SPACE"
_ANYWHERE = str(IPv4Address(0))  # as nginx listens
GROUPS = ("inference", "chat", "gateway")
Values = Mapping[str, Any]


def requirements_of(text: str) -> list[Requirement]:
    """Requirements of a lock's text, or of the text that it was made from."""
    # ansible-core brings it, but ansible-test imports plugins where it is not.
    from packaging.requirements import Requirement

    lines = [line.rstrip("\\").strip() for line in text.splitlines() if line[:1].isalnum()]
    return [Requirement(line) for line in lines]


def pins_of(lock: str, version: str) -> list[str]:
    """Packages of a lock's text that Python `version` gets, each as `name==version`."""
    here = {"python_version": version, "python_full_version": f"{version}.0"}
    return [
        f"{item.name}{item.specifier}"
        for item in requirements_of(lock)
        if item.marker is None or item.marker.evaluate({**_PLATFORM, **here})
    ]


# Of the managed hosts, whatever the control node is.
_PLATFORM = {
    "sys_platform": "linux",
    "platform_system": "Linux",
    "platform_machine": "x86_64",
    "os_name": "posix",
    "implementation_name": "cpython",
    "platform_python_implementation": "CPython",
}


def _sample(locks: Path, name: str, pins: list[str]) -> list[str]:
    """Of a lock, the package that it is made for, and those that no public index has."""
    first = requirements_of((locks / f"{name}.in").read_text(encoding="utf-8"))[0]
    wanted = first.name.replace("_", "-")
    return [pin for pin in pins if pin.partition("==")[0] == wanted or "+" in pin]


def _environment(
    locks: Path, name: str, directory: str, versions: list[str], python: str
) -> dict[str, Any]:
    """Option `environments[]` of one lock, as the role `python_release` would build it."""
    # As the lookup `file` reads it.
    text = (locks / f"{name}.txt").read_text(encoding="utf-8").rstrip()
    constraints = "" if name == "uv" else (locks / "build.txt").read_text(encoding="utf-8").rstrip()
    known = versions or _ANY_VERSION
    pins = {version: pins_of(text, version) for version in known}
    return {
        "lock": name,
        "directory": directory,
        "python_versions": versions,
        "python": python,
        "names": {version: environment_name(text, constraints, version) for version in known},
        "pins": pins,
        "sample": sorted({pin for some in pins.values() for pin in _sample(locks, name, some)}),
    }


def _environments(
    groups: list[str], values: Values, vllm_versions: list[str], locks: Path
) -> list[dict[str, Any]]:
    versions, python = values["python_release_python_versions"], values["python_release_python"]
    directory = values["python_release_directory"]
    found = [_environment(locks, "uv", _TOOLS, [], _SYSTEM_PYTHON)]
    if "inference" in groups:
        name = f"vllm-{values['vllm_variant']}"
        found.append(_environment(locks, name, directory, vllm_versions, python))
        from_hub = any(
            _source(item).get("type", "hub") == "hub" for item in values["vllm_instances"]
        )
        if from_hub and not values["model_tools_venv"]:
            found.append(_environment(locks, "model", _TOOLS, versions, python))
    if "chat" in groups:
        found.append(_environment(locks, "chat", directory, versions, python))
    found.append(_environment(locks, "alert", directory, versions, python))
    return found


def _source(instance: Values) -> Values:
    return instance.get("source") or {}


def _path(instance: Values) -> str:
    return f"vllm_instances[{instance['name']}]"


def _model(instance: Values) -> dict[str, Any]:
    source = _source(instance)
    kind, on_control = source.get("type", "hub"), source.get("path_on") == "control"
    return {
        "variable": _path(instance),
        "name": instance["model"],
        "revision": str(instance["revision"]),
        "source": kind,
        "path": source.get("path", "") if kind == "path" and not on_control else "",
        "url": source.get("url", "") if kind == "url" else "",
    }


def control_directory(instance: Values) -> tuple[int, list[Finding]]:
    """Bytes of a model's directory on the control node, and what is wrong with it."""
    folder = Path(_source(instance).get("path", ""))
    variable = f"{_path(instance)}.source.path"
    if not folder.is_dir():
        missing = f"There is no directory {folder} on the control node."
        return 0, [Finding(variable, missing, "Bring the model there, or correct the path.")]
    try:
        names = source_files(folder)
    except ModelError as error:
        return 0, [Finding(variable, error.problem, error.remedy)]
    findings = [
        Finding(
            variable,
            f"{folder} on the control node is not a whole model: {problem}.",
            f"Copy it to {folder} again.",
        )
        for problem in find_problems(folder, names)
    ]
    return sum((folder / name).stat().st_size for name in names), findings


def _models(values: Values) -> tuple[list[dict[str, Any]], list[Finding]]:
    """Option `models`, and what is wrong with directories on the control node."""
    models, findings = [], []
    for instance in values["vllm_instances"]:
        model = _model(instance)
        if model["source"] == "path" and not model["path"]:
            model["size"], found = control_directory(instance)
            folder = Path(_source(instance).get("path", ""))
            model["weights"] = weights_in(folder) or 0
            model["config"] = read_config(folder) or {}
            findings += found
        models.append(model)
    return models, findings


def _instances(values: Values) -> list[dict[str, Any]]:
    """Option `instances`: GPUs, options of vLLM, and GiB of cache on the CPU, if it is set."""

    def cache(instance: Values) -> int:
        environment = {**values["vllm_environment"], **(instance.get("environment") or {})}
        asked = str(environment.get(_CACHE, ""))
        return int(asked) if asked.isdecimal() else 0

    return [
        {
            "name": item["name"],
            "cache_gib": cache(item),
            "gpus": item.get("gpus") or [],
            "options": {**values["vllm_options"], **(item.get("options") or {})},
        }
        for item in values["vllm_instances"]
    ]


def _cuda(locks: Path) -> str:
    """CUDA's version that the packages of vLLM are made for, as its lock says."""
    lock = (locks / "vllm-gpu.txt").read_text(encoding="utf-8")
    found = re.search(r"^nvidia-cuda-runtime==(\d+\.\d+)", lock, re.MULTILINE)
    return found.group(1) if found else ""


def _ports(groups: list[str], values: Values) -> list[dict[str, Any]]:
    """Option `ports`: everything that the roles of these groups listen on."""
    found = []
    for item in values["vllm_instances"] if "inference" in groups else []:
        instance = {**item, "port": int(item["port"])}
        address = instance.get("host") or values["vllm_listen_address"]
        for key, port in (("port", instance["port"]), ("health_port", health_port(instance))):
            found.append((port, address, f"vllm@{item['name']}.service", f"{_path(item)}.{key}"))
    if "chat" in groups:
        address = values["chainlit_listen_address"]
        found.append((values["chainlit_port"], address, "chainlit.service", "chainlit_port"))
    if "gateway" in groups:
        names = ["nginx_http_port"]
        names += ["nginx_https_port"] if values["nginx_tls_certificate"] else []
        found += [(values[name], _ANYWHERE, "nginx.service", name) for name in names]
    keys = ("port", "address", "unit", "variable")
    return [dict(zip(keys, entry)) for entry in found]


class _Addresses:
    """Takes user and password out of addresses, and keeps them by what is left."""

    def __init__(self) -> None:
        self.credentials: dict[str, str] = {}

    def clean(self, address: str) -> str:
        """The address without user and password."""
        identity, at, _host = urlsplit(address).netloc.rpartition("@")
        if not at:
            return address
        plain = address.replace(f"{identity}@", "", 1)
        self.credentials[plain] = identity
        return plain


def host_options(
    groups: list[str], values: Values, vllm_versions: list[str], locks: Path
) -> tuple[dict[str, Any], list[Finding]]:
    """Return the options of `host_check`, and findings about the control node's directories.

    `groups` are those of GROUPS that the host is in, `values` all variables of their roles,
    `vllm_versions` the versions of Python that vLLM's lock was made for, `locks` their directory.
    """
    addresses = _Addresses()
    findings: list[Finding] = []
    build = (locks / "build.txt").read_text(encoding="utf-8")
    options: dict[str, Any] = {
        "groups": groups,
        "ports": _ports(groups, values),
        "environments": _environments(groups, values, vllm_versions, locks),
        "packages": {
            "index_url": addresses.clean(values["python_release_index_url"]),
            "extra_index_urls": [
                addresses.clean(url) for url in values["python_release_extra_index_urls"]
            ],
            "find_links": [addresses.clean(url) for url in values["python_release_find_links"]],
            "offline": values["python_release_offline"],
            "ca_bundle": values["python_release_ca_bundle"],
            "proxy": addresses.clean(values["python_release_proxy"]),
            "build_pins": pins_of(build, _ANY_VERSION[-1]),
            "distribution_packages": values["python_release_packages"],
        },
    }
    if "inference" in groups:
        options["variant"] = values["vllm_variant"]
        options["instances"] = _instances(values)
        options["models"], findings = _models(values)
        options["gpu"] = {
            "cuda": _cuda(locks),
            "driver_managed": values["nvidia_driver_state"] == "present",
            "driver_source": values["nvidia_driver_source"],
            "switched": values["nvidia_driver_fabric_manager"] == "always",
        }
        options["model_access"] = {
            "root": values["model_root"],
            "hub": values["model_hub"],
            "endpoint": addresses.clean(values["model_hub_endpoint"]),
            "token_file": values["model_hub_token_file"],
            "exclude": values["model_hub_exclude"],
            "tools_venv": values["model_tools_venv"],
            "proxy": addresses.clean(values["model_proxy"]),
            "ca_bundle": values["model_ca_bundle"],
        }
    if "gateway" in groups:
        options["certificate"] = {
            "certificate": values["nginx_tls_certificate"],
            "key": values["nginx_tls_certificate_key"],
            "server_name": values["nginx_server_name"],
        }
    options["credentials"] = addresses.credentials
    return options, findings
