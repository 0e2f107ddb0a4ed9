#!/usr/bin/python
# Copyright: The gpufleet maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: host_check
short_description: Check whether a host is fit for what its roles will do
version_added: 0.1.0
author: The gpufleet maintainers (@gpufleet)
description:
  - Looks at one host before anything is touched there, and returns all findings at once, each with
    the variable that it is about, a remedy and its severity. It does not fail because of a finding.
  - Checks the system, the Python of every lock, room on disks, memory, ports that something else
    holds, the clock, the way to packages and models, models that lie on the host, the gateway's
    certificate, and the configuration of an nginx that is there already.
  - Where instances run on GPUs, also the driver, the health of the cards, whether the instances fit
    onto them, and shared memory.
  - Only what is still to be done is checked, so an environment or a model that is there needs
    neither room nor a way to get it.
  - Requests go out together and end after seconds. Nothing is written.
  - The action plugin of this name fills in every option from the variables of the roles that the
    host's groups bring, so that a task needs none.
attributes:
  check_mode:
    description: The same as without it.
    support: full
  diff_mode:
    description: There is nothing to show.
    support: none
  action:
    description: Computes the options, and measures the clock against that of the control node.
    support: full
options:
  groups:
    description: Those of the groups C(inference), C(chat) and C(gateway) that the host is in.
    type: list
    elements: str
    choices: [inference, chat, gateway]
    default: []
  environments:
    description: Virtual environments that the roles need.
    type: list
    elements: dict
    default: []
    suboptions:
      lock:
        description: Name of the lock, without directory and ending.
        type: str
        required: true
      directory:
        description: Directory that holds the environment.
        type: path
        required: true
      python_versions:
        description: Versions of Python that the lock was made for. Empty for any.
        type: list
        elements: str
        default: []
      python:
        description: Path of an interpreter, in place of the first version found.
        type: str
        default: ""
      names:
        description: Name of the environment by version of Python.
        type: dict
        required: true
      pins:
        description: Packages of the lock, each as C(NAME==VERSION), by version of Python.
        type: dict
        default: {}
      sample:
        description: Those packages of the lock that are looked for on indexes.
        type: list
        elements: str
        default: []
  packages:
    description: Where packages come from, as the variables C(python_release_*) say.
    type: dict
    default: {}
    suboptions:
      index_url:
        description: Package index. Empty for PyPI.
        type: str
        default: ""
      extra_index_urls:
        description: Further package indexes.
        type: list
        elements: str
        default: []
      find_links:
        description: Directories on the host, or URLs, that hold wheels.
        type: list
        elements: str
        default: []
      offline:
        description: Whether packages come from there alone.
        type: bool
        default: false
      ca_bundle:
        description: File on the host with the certificate authorities to trust.
        type: str
        default: ""
      proxy:
        description: Proxy for the indexes.
        type: str
        default: ""
      build_pins:
        description: What source-only packages are built with, each as C(NAME==VERSION).
        type: list
        elements: str
        default: []
      distribution_packages:
        description: Packages of the distribution that the roles will install.
        type: list
        elements: str
        default: []
  instances:
    description: The vLLM instances of the host.
    type: list
    elements: dict
    default: []
    suboptions:
      name:
        description: Name of the instance.
        type: str
        required: true
      cache_gib:
        description: Its C(VLLM_CPU_KVCACHE_SPACE), 0 where there is none.
        type: int
        default: 0
      gpus:
        description: Indexes of its GPUs in the order of their addresses. Empty for the first ones.
        type: list
        elements: int
        default: []
      options:
        description: All options of vLLM that it gets.
        type: dict
        default: {}
  variant:
    description: Which build of vLLM runs here.
    type: str
    choices: [gpu, cpu]
    default: gpu
  models:
    description: The model of each instance, and where it comes from.
    type: list
    elements: dict
    default: []
    suboptions:
      variable:
        description: The instance, as findings name it.
        type: str
        required: true
      name:
        description: Organisation and name of the model.
        type: str
        required: true
      revision:
        description: Its revision.
        type: str
        required: true
      source:
        description: Where it comes from.
        type: str
        choices: [hub, path, url]
        default: hub
      path:
        description: Directory on the host. Empty where it lies on the control node.
        type: str
        default: ""
      size:
        description: Bytes of the directory on the control node.
        type: int
        default: 0
      weights:
        description: Bytes of the weights that vLLM loads from there.
        type: int
        default: 0
      url:
        description: Address of an archive.
        type: str
        default: ""
      config:
        description: Content of C(config.json) of the directory on the control node.
        type: dict
        default: {}
  gpu:
    description:
      - What the GPUs are for. They are looked at in the group C(inference), unless O(variant=cpu).
    type: dict
    default: {}
    suboptions:
      cuda:
        description: Version of CUDA that vLLM's packages are made for. Empty for any.
        type: str
        default: ""
      driver_managed:
        description: Whether a role brings the driver. What it will cure is a warning then.
        type: bool
        default: false
      driver_source:
        description: Where that role has it from, C(auto) for the distribution on Ubuntu alone.
        type: str
        default: ""
      switched:
        description: Whether the host has NVSwitches, also where none is on PCI.
        type: bool
        default: false
  model_access:
    description: How models are reached, as the variables C(model_*) say.
    type: dict
    default: {}
    suboptions:
      root:
        description: Directory that holds all models.
        type: path
        default: /var/lib/gpufleet/models
      hub:
        description: The hub.
        type: str
        choices: [huggingface, modelscope]
        default: huggingface
      endpoint:
        description: Address of a mirror. Empty for the hub's own.
        type: str
        default: ""
      token_file:
        description: File on the host with an access token.
        type: str
        default: ""
      exclude:
        description: Patterns of files that are left out.
        type: list
        elements: str
        default: []
      tools_venv:
        description: Virtual environment with the hubs' tools, in place of our own.
        type: str
        default: ""
      proxy:
        description: Proxy for hub and archives.
        type: str
        default: ""
      ca_bundle:
        description: File on the host with the certificate authorities to trust.
        type: str
        default: ""
  ports:
    description: Ports that will be listened on.
    type: list
    elements: dict
    default: []
    suboptions:
      port:
        description: The port.
        type: int
        required: true
      address:
        description: Address to listen on.
        type: str
        required: true
      unit:
        description: The unit that is to have it.
        type: str
        required: true
      variable:
        description: The variable that says so.
        type: str
        required: true
  certificate:
    description: The gateway's certificate. Without a certificate there is no TLS.
    type: dict
    default: {}
    suboptions:
      certificate:
        description: File on the host with certificate and chain.
        type: str
        default: ""
      key:
        description: File on the host with the certificate's key.
        type: str
        default: ""
      server_name:
        description: Name of the site, C(_) for any.
        type: str
        default: _
  credentials:
    description:
      - C(USER:PASSWORD) by address, for the addresses above that need one. They stand here so that
        an address can be shown.
    type: dict
    default: {}
  clock_tolerance:
    description: Seconds by which the host's clock may differ from the control node's.
    type: int
    default: 60
seealso:
  - module: gpufleet.llm.gpu_facts
  - module: gpufleet.llm.locked_venv
  - module: gpufleet.llm.model_revision
"""

EXAMPLES = r"""
- name: Check the host
  gpufleet.llm.host_check:
  register: host

- name: Refuse an unfit host
  ansible.builtin.assert:
    that: host.findings | selectattr('severity', 'equalto', 'error') | length == 0
    fail_msg: "{{ host.findings }}"
"""

RETURN = r"""
findings:
  description: Everything that is wrong. Without an C(error) among them, the host is fit.
  type: list
  elements: dict
  returned: always
  contains:
    variable:
      description: The variable that it is about.
      type: str
      sample: vllm_instances[qwen3].port
    problem:
      description: What is wrong.
      type: str
      sample: Port 8000 is held by python3 (pid 4711, app.service); vllm@qwen3.service needs it.
    remedy:
      description: What to do about it.
      type: str
      sample: Renew it, and bring certificate and key to this host.
    severity:
      description: C(error) for what refuses the host, C(warning) or C(advice) for what does not.
      type: str
      sample: error
gpus:
  description: What M(gpufleet.llm.gpu_facts) returns as RV(gpufleet.llm.gpu_facts#module:gpus).
  type: dict
  returned: where instances run on GPUs
checked:
  description: What was seen, by the name of the check.
  type: dict
  returned: always
  sample:
    system: debian 12, systemd 252, x86_64, root
    ports: 8000 free, 9000 free
began:
  description: The host's clock when the module began, in seconds since 1970.
  type: float
  returned: always
ended:
  description: The host's clock when it ended.
  type: float
  returned: always
"""

import os
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.gpufleet.llm.plugins.module_utils import _host_index as index
from ansible_collections.gpufleet.llm.plugins.module_utils import _host_model as model
from ansible_collections.gpufleet.llm.plugins.module_utils._gpu_demand import Demand
from ansible_collections.gpufleet.llm.plugins.module_utils._gpu_facts import Gpus, read_gpus
from ansible_collections.gpufleet.llm.plugins.module_utils._gpu_models import (
    demands,
    description_jobs,
)
from ansible_collections.gpufleet.llm.plugins.module_utils._host_certificate import (
    check_certificate,
)
from ansible_collections.gpufleet.llm.plugins.module_utils._host_disk import (
    Need,
    check_disk,
    environment_needs,
)
from ansible_collections.gpufleet.llm.plugins.module_utils._host_finding import (
    Finding,
    RunCommand,
    Seen,
    listed,
)
from ansible_collections.gpufleet.llm.plugins.module_utils._host_gpu_cards import check_cards
from ansible_collections.gpufleet.llm.plugins.module_utils._host_gpu_driver import check_driver
from ansible_collections.gpufleet.llm.plugins.module_utils._host_gpu_fit import check_fit
from ansible_collections.gpufleet.llm.plugins.module_utils._host_interpreter import (
    InterpreterError,
)
from ansible_collections.gpufleet.llm.plugins.module_utils._host_memory import check_memory
from ansible_collections.gpufleet.llm.plugins.module_utils._host_network import (
    Route,
    in_parallel,
)
from ansible_collections.gpufleet.llm.plugins.module_utils._host_nginx import check_nginx
from ansible_collections.gpufleet.llm.plugins.module_utils._host_ports import Port, check_ports
from ansible_collections.gpufleet.llm.plugins.module_utils._host_shared_memory import (
    check_shared_memory,
)
from ansible_collections.gpufleet.llm.plugins.module_utils._host_system import (
    check_system,
    read_system,
)
from ansible_collections.gpufleet.llm.plugins.module_utils._locked_environment import locate

# Where `locked_venv` lets uv keep its cache.
CACHE = Path("/var/cache/gpufleet/uv")


def option(kind: str, default: object = None, **more: object) -> dict[str, Any]:
    """Spec of an option: required where it has no default."""
    return {
        "type": kind,
        **({"required": True} if default is None else {"default": default}),
        **more,
    }


def texts(**more: object) -> dict[str, Any]:
    """Spec of a list of texts, empty by default."""
    return option("list", [], elements="str", **more)


ARGUMENTS: dict[str, dict[str, Any]] = {
    "groups": texts(choices=["inference", "chat", "gateway"]),
    "environments": option(
        "list",
        [],
        elements="dict",
        options={
            "lock": option("str"),
            "directory": option("path"),
            "python_versions": texts(),
            "python": option("str", ""),
            "names": option("dict"),
            "pins": option("dict", {}),
            "sample": texts(),
        },
    ),
    "packages": option(
        "dict",
        {},
        apply_defaults=True,
        options={
            "index_url": option("str", ""),
            "extra_index_urls": texts(),
            "find_links": texts(),
            "offline": option("bool", False),
            "ca_bundle": option("str", ""),
            "proxy": option("str", ""),
            "build_pins": texts(),
            "distribution_packages": texts(),
        },
    ),
    "instances": option(
        "list",
        [],
        elements="dict",
        options={
            "name": option("str"),
            "cache_gib": option("int", 0),
            "gpus": option("list", [], elements="int"),
            "options": option("dict", {}),
        },
    ),
    "variant": option("str", "gpu", choices=["gpu", "cpu"]),
    "models": option(
        "list",
        [],
        elements="dict",
        options={
            "variable": option("str"),
            "name": option("str"),
            "revision": option("str"),
            "source": option("str", "hub", choices=["hub", "path", "url"]),
            "path": option("str", ""),
            "size": option("int", 0),
            "weights": option("int", 0),
            "url": option("str", ""),
            "config": option("dict", {}),
        },
    ),
    "gpu": option(
        "dict",
        {},
        apply_defaults=True,
        options={
            "cuda": option("str", ""),
            "driver_managed": option("bool", False),
            "driver_source": option("str", ""),
            "switched": option("bool", False),
        },
    ),
    "model_access": option(
        "dict",
        {},
        apply_defaults=True,
        options={
            "root": option("path", "/var/lib/gpufleet/models"),
            "hub": option("str", "huggingface", choices=["huggingface", "modelscope"]),
            "endpoint": option("str", ""),
            # A path, not a secret.
            "token_file": option("str", "", no_log=False),
            "exclude": texts(),
            "tools_venv": option("str", ""),
            "proxy": option("str", ""),
            "ca_bundle": option("str", ""),
        },
    ),
    "ports": option(
        "list",
        [],
        elements="dict",
        options={
            "port": option("int"),
            "address": option("str"),
            "unit": option("str"),
            "variable": option("str"),
        },
    ),
    "certificate": option(
        "dict",
        {},
        apply_defaults=True,
        options={
            "certificate": option("str", ""),
            # A path, not a secret.
            "key": option("str", "", no_log=False),
            "server_name": option("str", "_"),
        },
    ),
    "credentials": option("dict", {}, no_log=True),
    "clock_tolerance": option("int", 60),
}


class Checks:
    """The outcome of every check so far; one that breaks is a finding, and the others go on."""

    def __init__(self) -> None:
        self.findings: list[Finding] = []
        self.checked: dict[str, str] = {}
        self.gpus: dict[str, Any] = {}

    def run(self, name: str, check: Callable[[], Seen]) -> None:
        """Run one check, and keep what it saw and found."""
        try:
            seen = check()
        except Exception as error:
            seen = Seen(
                "the check broke",
                [
                    Finding(
                        name,
                        f"The check itself broke: {type(error).__name__}: {error}.",
                        "Correct what it names, or report it as a defect of gpufleet.llm.",
                    )
                ],
            )
        self.checked[name] = seen.text
        self.findings += seen.findings


@dataclass(frozen=True)
class Missing:
    """An environment that is still to be built: its lock, its directory and its packages."""

    lock: str
    directory: Path
    wanted: index.Wanted


def locate_environments(
    run_command: RunCommand, environments: list[dict[str, Any]], distribution_packages: list[str]
) -> tuple[Seen, list[Missing]]:
    """Look for the Python of every environment; return also those still to be built."""
    parts, missing = [], []
    without: dict[tuple[str, str], list[str]] = {}
    for item in environments:
        lock, versions = item["lock"], item["python_versions"]
        coming = [version for version in versions if brought(version, distribution_packages)]
        try:
            found = locate(
                run_command,
                Path(item["directory"]),
                partial(name_among, item["names"]),
                versions,
                item["python"],
            )
        except InterpreterError as error:
            if item["python"] or not coming:
                without.setdefault((error.problem, error.remedy), []).append(lock)
                parts.append(f"{lock}: none")
                continue
            version, text = coming[0], f"python{coming[0]}, which is to be installed"
        else:
            version, text = found.interpreter.version, found.interpreter.path
            if found.built:
                parts.append(f"{lock}: {text}, built")
                continue
        parts.append(f"{lock}: {text}")
        pins = tuple(item["pins"].get(version, []))
        sample = tuple(pin for pin in item["sample"] if pin in pins)
        wanted = index.Wanted(lock, version, pins, sample)
        missing.append(Missing(lock, Path(item["directory"]), wanted))
    findings = [
        Finding("python_release_python", f"{problem} It is needed for {listed(locks)}.", remedy)
        for (problem, remedy), locks in without.items()
    ]
    return Seen("; ".join(parts) or "none needed", findings), missing


def name_among(names: dict[str, str], version: str) -> str:
    """Name of the environment for a version; one that nothing has for a version not foreseen."""
    return names.get(version, f"python{version}")


def brought(version: str, distribution_packages: list[str]) -> bool:
    """Whether a package of the distribution that will be installed brings this Python."""
    ours = {f"python{version}", f"python{version}-venv", f"python{version}-dev"}
    return not ours.isdisjoint(distribution_packages)


def run(run_command: RunCommand, params: dict[str, Any]) -> dict[str, Any]:
    """Run every check that the options ask for; return findings and what was seen."""
    checks = Checks()
    checks.run("system", lambda: check_system(read_system(run_command), params["groups"]))
    if os.geteuid() == 0:
        run_as_root(checks, run_command, params)
    result = {"findings": [asdict(found) for found in checks.findings], "checked": checks.checked}
    return {**result, "gpus": checks.gpus} if checks.gpus else result


def run_as_root(checks: Checks, run_command: RunCommand, params: dict[str, Any]) -> None:
    """Run every check that needs to see the whole host."""
    source, access = source_of(params), access_of(params)
    missing: list[Missing] = []
    needs: list[Need] = []

    def look_for_python() -> Seen:
        bring = params["packages"]["distribution_packages"]
        seen, found = locate_environments(run_command, params["environments"], bring)
        missing.extend(found)
        return seen

    def look_at_models() -> Seen:
        seen, room = model.check_models(models, access, results)
        needs.extend(room)
        return seen

    def look_at_disks() -> Seen:
        for item in missing:
            needs.extend(environment_needs(item.lock, item.directory, CACHE))
        return check_disk(needs)

    checks.run("python", look_for_python)
    wanted = [item.wanted for item in missing]
    every = [model.Model(**item) for item in params["models"]]
    models = model.absent(every, access)
    on_gpus = "inference" in params["groups"] and params["variant"] == "gpu"
    described = description_jobs(models, access) if on_gpus else {}
    results = in_parallel({**index.jobs(source, wanted), **model.jobs(models, access), **described})
    checks.run("packages", lambda: index.check_packages(source, wanted, results))
    checks.run("models", look_at_models)
    checks.run("disk", look_at_disks)
    checks.run("memory", lambda: check_memory(params["instances"], params["variant"]))
    if on_gpus:
        asked = demands(params["instances"], every, access, results)
        check_gpus(checks, run_command, asked, params["gpu"])
    checks.run("ports", lambda: check_ports([Port(**item) for item in params["ports"]]))
    if "gateway" in params["groups"]:
        if params["certificate"]["certificate"]:
            pair = params["certificate"]
            checks.run("certificate", lambda: check_certificate(run_command, **pair))
        checks.run("nginx", lambda: check_nginx(run_command))


def check_gpus(
    checks: Checks, run_command: RunCommand, asked: list[Demand], gpu: dict[str, Any]
) -> None:
    """Run every check of the GPUs, and keep what is known of them."""
    read: list[Gpus] = []
    planned = {card for demand in asked for card in demand.cards}

    def look_at_driver() -> Seen:
        read.append(read_gpus(run_command))
        checks.gpus = read[0].as_dict()
        # As the role chooses: elsewhere the distributions' modules are built on the host.
        ubuntu = read_system(run_command).distribution == "ubuntu"
        signed = ubuntu and gpu["driver_source"] in ("auto", "distribution")
        managed, switched = gpu["driver_managed"], gpu["switched"]
        return check_driver(read[0], gpu["cuda"], managed, switched, signed)

    checks.run("driver", look_at_driver)
    for gpus in read:
        checks.run("gpus", partial(check_cards, gpus, planned))
        checks.run("instances on gpus", partial(check_fit, gpus, asked))
    checks.run("shared memory", partial(check_shared_memory, len(asked)))


def source_of(params: dict[str, Any]) -> index.Source:
    """Where packages come from, credentials in their addresses."""
    packages, whole = params["packages"], partial(with_credentials, params["credentials"])
    return index.Source(
        route=Route("python_release", whole(packages["proxy"]), packages["ca_bundle"]),
        index_url=whole(packages["index_url"]),
        extra_index_urls=tuple(map(whole, packages["extra_index_urls"])),
        find_links=tuple(map(whole, packages["find_links"])),
        offline=packages["offline"],
        build_pins=tuple(packages["build_pins"]),
    )


def access_of(params: dict[str, Any]) -> model.Access:
    """How models are reached, credentials in their addresses."""
    given, whole = params["model_access"], partial(with_credentials, params["credentials"])
    changed = {
        "root": Path(given["root"]),
        "endpoint": whole(given["endpoint"]),
        "proxy": whole(given["proxy"]),
        "exclude": tuple(given["exclude"]),
    }
    return model.Access(**{**given, **changed})


def with_credentials(credentials: dict[str, str], address: str) -> str:
    """The address with the user and password that belong to it, if any."""
    scheme, separator, rest = address.rpartition("://")
    own = credentials.get(address)
    return f"{scheme}{separator}{own}@{rest}" if own else address


def main() -> None:
    """Entry point of the module."""
    module = AnsibleModule(argument_spec=ARGUMENTS, supports_check_mode=True)
    began = time.time()
    result = run(module.run_command, module.params)
    module.exit_json(changed=False, began=began, ended=time.time(), **result)


if __name__ == "__main__":
    main()
