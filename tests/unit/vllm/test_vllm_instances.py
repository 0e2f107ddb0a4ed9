"""From the inventory's instances to files and upstreams."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from ansible.errors import AnsibleFilterError
from ansible_collections.gpufleet.llm.plugins.filter import vllm_instances as filters

ROOT = Path(__file__).resolve().parents[3]
SETTINGS: dict[str, Any] = {
    "options": {"max_model_len": 4096, "seed": 1},
    "environment": {"A": 1, "B": "host"},
    "variant": "gpu",
    "listen_address": "127.0.0.1",
    "model_root": "/models",
    "gate_level": "token",
    "gate_deadline_seconds": 900,
    "watch_interval_seconds": 10,
    "watch_probe_timeout_seconds": 20,
    "watch_failures": 3,
    "canary_every_minutes": 0,
    "canary_restart": False,
    "shutdown_timeout_seconds": 60,
}
INSTANCE: dict[str, Any] = {
    "name": "qwen3",
    "model": "Qwen/Qwen3-0.6B-FP8",
    "revision": "abc",
    "served_model_name": "qwen3-0.6b-fp8",
    "port": 8000,
}


def files(variant: str = "gpu", **changes: Any) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return vLLM's configuration and the guard's settings of one instance."""
    settings = {**SETTINGS, "variant": variant}
    made = filters.vllm_instance_files([{**INSTANCE, **changes}], settings)
    return yaml.safe_load(made["instances/qwen3.yaml"]), json.loads(made["instances/qwen3.json"])


def test_configuration() -> None:
    options, guard = files("cpu")
    assert options == {
        "model": "/models/Qwen/Qwen3-0.6B-FP8/abc",
        "served-model-name": "qwen3-0.6b-fp8",
        "host": "127.0.0.1",
        "port": 8000,
        "shutdown-timeout": 60,
        "max-model-len": 4096,
        "seed": 1,
    }
    assert guard["health_port"] == 9000
    assert guard["gate"] == {"level": "token", "deadline_seconds": 900}
    assert guard["canary"] is None


def test_an_instances_own_settings_win() -> None:
    options, guard = files(
        options={"seed": 2, "enable_prefix_caching": False}, environment={"B": "own"}
    )
    assert options["seed"] == 2
    assert options["enable-prefix-caching"] is False
    assert (guard["environment"]["A"], guard["environment"]["B"]) == ("1", "own")


def test_defaults_on_gpus_are_those_measured() -> None:
    """The instance `ours` of tests/gpu, of which docs/performance.md has the figures."""
    document = yaml.safe_load((ROOT / "tests/gpu/instances.yml").read_text())
    measured = {
        name.replace("_", "-"): value for name, value in document["instances"]["ours"].items()
    }
    options, _guard = files()
    on_cpu, _guard = files("cpu")
    assert measured
    assert options == {**on_cpu, **measured}


PROCESSES = {"api-server-count": 2, "distributed-executor-backend": "mp"}


@pytest.mark.parametrize("given", [{"stream_interval": 1}, {"stream-interval": 8}], ids=str)
def test_all_is_vllms_where_the_interval_is_named(given: dict[str, Any]) -> None:
    as_given, _guard = files("cpu", options=given)
    options, _guard = files(options=given)
    assert options == as_given


@pytest.mark.parametrize(
    "given",
    [
        {"cudagraph_capture_sizes": [1, 2]},
        # vLLM refuses sizes of which the largest is not the one named.
        {"max_cudagraph_capture_size": 512},
        # vLLM refuses sizes beside those in here.
        {"compilation_config": {"cudagraph_capture_sizes": [1, 2]}},
        {"compilation_config.cudagraph_mode": "PIECEWISE"},
        {"enforce_eager": True},
        {"performance_mode": "interactivity"},
        {"spec_method": "ngram"},
        {"max_num_seqs": 256},
        {"max_num_seqs": "1023"},
    ],
    ids=str,
)
def test_graphs_are_vllms_where_options_speak_of_them(given: dict[str, Any]) -> None:
    as_given, _guard = files("cpu", options=given)
    options, _guard = files(options=given)
    assert options == {"stream-interval": 4, **PROCESSES, **as_given}


@pytest.mark.parametrize("given", [{"max_num_seqs": 1024}, {"max_num_seqs": 2048}, {"seed": 3}])
def test_graphs_are_ours_beside_other_options(given: dict[str, Any]) -> None:
    options, _guard = files(options=given)
    assert options["compilation-config"] == filters.GRAPHS


@pytest.mark.parametrize(
    ("given", "servers", "executor"),
    [
        ({}, 2, "mp"),
        ({"options": {"api_server_count": 4}}, 4, "mp"),
        ({"options": {"distributed_executor_backend": "uni"}}, 2, "uni"),
        ({"options": {"headless": True}}, None, "mp"),
        ({"options": {"data_parallel_size": 2}}, None, None),
        ({"options": {"pipeline_parallel_size": 2}}, 2, None),
        ({"gpus": [0, 1]}, 2, None),
        ({"environment": {"VLLM_ALLOW_RUNTIME_LORA_UPDATING": 1}}, None, "mp"),
    ],
    ids=str,
)
def test_processes(given: dict[str, Any], servers: int | None, executor: str | None) -> None:
    options, _guard = files(**given)
    assert options.get("api-server-count") == servers
    assert options.get("distributed-executor-backend") == executor


def test_options_of_the_host_win_over_those_of_gpus() -> None:
    settings = {**SETTINGS, "options": {"max_num_seqs": 64}}
    made = filters.vllm_instance_files([INSTANCE], settings)
    options = yaml.safe_load(made["instances/qwen3.yaml"])
    assert options["stream-interval"] == 4
    assert "compilation-config" not in options


def test_the_locked_vllm_knows_the_options_of_gpus() -> None:
    locked = json.loads((ROOT / "files/locks/vllm-options.json").read_text())["options"]
    on_cpu, _guard = files("cpu")
    options, _guard = files()
    assert options.keys() - on_cpu.keys() <= locked.keys()
    assert locked.keys() >= filters.GRAPH_OPTIONS | filters.API_SERVER_OPTIONS
    assert locked.keys() >= filters.WORKER_OPTIONS


def test_gpus() -> None:
    options, guard = files(gpus=[2, 3])
    assert options["tensor-parallel-size"] == 2
    assert guard["environment"]["CUDA_VISIBLE_DEVICES"] == "2,3"
    # The guard finds a lost card by the same order.
    assert guard["environment"]["CUDA_DEVICE_ORDER"] == "PCI_BUS_ID"
    assert guard["gpus"] == [2, 3]


def test_canary_raises_the_gate() -> None:
    _options, guard = files(canary={"prompt": "1+1?", "expect": "2"})
    assert guard["gate"]["level"] == "canary"
    assert guard["canary"] == {
        "prompt": "1+1?",
        "expect": "2",
        "max_tokens": 32,
        "every_minutes": 0,
        "restart": False,
    }


@pytest.mark.parametrize(
    "option", ["model", "port", "api_key", "served-model-name", "shutdown_timeout"]
)
def test_options_of_the_role_are_refused(option: str) -> None:
    with pytest.raises(AnsibleFilterError, match="must not stand in options"):
        files(options={option: "x"})


def test_inputs_are_those_of_one_instance() -> None:
    others = ["instances/ab.yaml", "instances/a.b.yaml", "instances/a.b.json", "units/vllm.target"]
    own = ["venv", "guard/llm_guard.py", "metadata/x", "units/vllm@.service", "instances/a.yaml"]
    inputs = filters.vllm_instance_inputs(dict.fromkeys(own + others, "0"), "a")
    assert list(inputs) == own


def test_names_are_those_of_the_release() -> None:
    paths = ["instances/a.json", "instances/a.yaml", "instances/b-2.json", "guard/x.json"]
    assert filters.vllm_instance_names(dict.fromkeys(paths, "0")) == ["a", "b-2"]


def test_upstreams_are_reached_by_address() -> None:
    hostvars = {
        "one": {"vllm_instances": [INSTANCE], "ansible_host": "192.0.2.1"},
        "two": {"vllm_instances": [{**INSTANCE, "health_port": 9100}], "chainlit_port": 7000},
    }
    assert filters.vllm_upstreams(["one", "two"], hostvars, "one") == [
        {"name": "one-qwen3", "address": "127.0.0.1", "port": 8000, "health_port": 9000},
        {"name": "two-qwen3", "address": "two", "port": 8000, "health_port": 9100},
    ]
    assert filters.chat_upstreams(["one", "two"], hostvars, "three", 7860) == [
        {"name": "one", "address": "192.0.2.1", "port": 7860},
        {"name": "two", "address": "two", "port": 7000},
    ]


@pytest.mark.parametrize(
    ("listens_on", "address"),
    [("192.0.2.1", "192.0.2.1"), ("0.0.0.0", "127.0.0.1"), ("::", "127.0.0.1"), ("::1", "::1")],
)
def test_upstreams_of_the_gateways_own_host_listen_there(listens_on: str, address: str) -> None:
    one = {"ansible_host": "192.0.2.1", "vllm_instances": [INSTANCE]}
    hosts = {
        "one": {**one, "vllm_listen_address": listens_on, "chainlit_listen_address": listens_on}
    }
    (instance,) = filters.vllm_upstreams(["one"], hosts, "one")
    (chat,) = filters.chat_upstreams(["one"], hosts, "one", 7860)
    assert instance["address"] == chat["address"] == address
    own = {**hosts["one"], "vllm_instances": [{**INSTANCE, "host": "192.0.2.7"}]}
    (instance,) = filters.vllm_upstreams(["one"], {"one": own}, "one")
    assert instance["address"] == "192.0.2.7"


@pytest.mark.parametrize(
    ("listens_on", "address"),
    [("10.0.0.1", "10.0.0.1"), ("fd00::1", "fd00::1"), ("0.0.0.0", "192.0.2.1"),
     ("::", "192.0.2.1"), ("127.0.0.1", "192.0.2.1"), ("::1", "192.0.2.1"), ("", "192.0.2.1")],
)  # fmt: skip
def test_upstreams_of_other_hosts_are_reached_where_they_listen(
    listens_on: str, address: str
) -> None:
    one = {"ansible_host": "192.0.2.1", "vllm_instances": [INSTANCE]}
    listens = {"vllm_listen_address": listens_on, "chainlit_listen_address": listens_on}
    hosts: dict[str, Any] = {"one": {**one, **listens}, "web": {}}
    (instance,) = filters.vllm_upstreams(["one"], hosts, "web")
    (chat,) = filters.chat_upstreams(["one"], hosts, "web", 7860)
    assert instance["address"] == chat["address"] == address
    own = {**hosts["one"], "vllm_instances": [{**INSTANCE, "host": "10.0.0.7"}]}
    (instance,) = filters.vllm_upstreams(["one"], {"one": own}, "web")
    assert instance["address"] == "10.0.0.7"
