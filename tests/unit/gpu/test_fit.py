"""Instances against cards: counts, memory in numbers, number formats, neighbours."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.gpufleet.llm.plugins.module_utils._gpu_demand import (
    Demand,
    read_config,
    weights_in,
)
from ansible_collections.gpufleet.llm.plugins.module_utils._gpu_models import (
    demands,
    description_jobs,
)
from ansible_collections.gpufleet.llm.plugins.module_utils._host_finding import Finding
from ansible_collections.gpufleet.llm.plugins.module_utils._host_gpu_fit import check_fit
from ansible_collections.gpufleet.llm.plugins.module_utils._host_model import Access, Model
from ansible_collections.gpufleet.llm.plugins.module_utils._host_network import in_parallel

from tests.unit.gpu.fake_host import GIB, FakeHost
from tests.unit.model import conftest as model_conftest
from tests.unit.model import fake_hub

ROOT = Path(__file__).resolve().parents[3]
QWEN3 = json.loads((ROOT / "tests/gpu/model_config.json").read_text())
# 28 layers, 8 heads of 128 for keys and for values, two bytes each: 112 KiB for each token.
QWEN3_TOKEN = 28 * 8 * 128 * 2 * 2


def demand(*gpus: int, weights: int | None = GIB, config: Any = QWEN3, **options: Any) -> Demand:
    named = {name.replace("_", "-"): value for name, value in options.items()}
    return Demand("qwen3", gpus, named, weights, config)


def fit(host: FakeHost, *asked: Demand) -> list[Finding]:
    return check_fit(host.gpus(), list(asked)).findings


def one(host: FakeHost, *asked: Demand) -> Finding:
    (finding,) = fit(host, *asked)
    return finding


def test_memory_is_stated_in_numbers(host: FakeHost) -> None:
    host.cards[0].memory = 100 * GIB
    seen = check_fit(host.gpus(), [demand(0)])
    assert seen.findings == []
    tokens = 90 * GIB // QWEN3_TOKEN
    assert seen.text == (
        "qwen3: 92% of 100.0 GiB: weights 1.0 GiB, about 1.0 GiB to work with, cache 90.0 GiB = "
        f"about {tokens:,} tokens, {tokens // 40960} requests of 40,960"
    )


def test_weights_that_are_too_large(host: FakeHost) -> None:
    finding = one(host, demand(0, weights=140 * GIB))
    assert finding.variable == "vllm_instances[qwen3].gpus"
    assert "It may take 129.7 GiB of GPU 0 (92% of 141.0 GiB); weights 140.0 GiB" in finding.problem
    assert "quantised model" in finding.remedy
    host.card("0000:5e:00.0")
    assert fit(host, demand(0, 1, weights=140 * GIB)) == []


def test_a_context_that_does_not_fit(host: FakeHost) -> None:
    host.cards[0].memory = 10 * GIB
    finding = one(host, demand(0, weights=8 * GIB, max_model_len="40k"))
    assert finding.variable == "vllm_instances[qwen3].options.max_model_len"
    assert "One request of 40,000 tokens needs 4.3 GiB of cache; 205 MiB are left" in (
        finding.problem
    )
    left = (int(10 * GIB * 0.92) - 9 * GIB) // QWEN3_TOKEN
    assert f"Set max_model_len in options to {left:,} or less" in finding.remedy
    assert fit(host, demand(0, weights=8 * GIB, max_model_len=left)) == []
    assert fit(host, demand(0, weights=8 * GIB, max_model_len=left + 1))
    assert fit(host, demand(0, weights=8 * GIB, max_model_len=-1)) == []
    assert fit(host, demand(0, weights=8 * GIB, max_model_len="auto")) == []


def test_what_is_unknown_refuses_nothing(host: FakeHost) -> None:
    assert fit(host, demand(0, weights=None, config=None)) == []
    host.cards[0].memory = 10 * GIB
    assert fit(host, demand(0, weights=8 * GIB, config=None)) == []
    host.nvml_status = 9
    assert fit(host, demand(0, weights=10**15)) == []


OTHER_CACHES: dict[str, dict[str, Any]] = {
    "linear attention": {"layer_types": ["full_attention", "linear_attention"]},
    "windows": {"sliding_window": 4096, "use_sliding_window": True},
    "state space": {"mamba_d_state": 128},
    # As Llama-3_3-Nemotron-Super-49B has it: 49 of 80 layers attend, with 8 heads of 64.
    "layers told one by one": {"num_key_value_heads": None, "block_configs": [{}]},
    "kinds of layers as numbers": {"attn_type_list": [0, 0, 1]},
    "heads of each layer": {"num_kv_heads": [3, 4, 5]},
}


@pytest.mark.parametrize("kind", OTHER_CACHES)
def test_caches_that_do_not_grow_with_each_token_are_not_guessed(kind: str) -> None:
    assert demand(0, config={**QWEN3, **OTHER_CACHES[kind]}).token_bytes is None


_NO_HEADS = {"num_key_value_heads": None}
_NEW_FALCON = {"multi_query": True, "new_decoder_architecture": True}


@pytest.mark.parametrize(
    ("changes", "options", "expected"),
    [
        ({}, {}, QWEN3_TOKEN),
        ({}, {"kv_cache_dtype": "fp8"}, QWEN3_TOKEN // 2),
        ({}, {"tensor_parallel_size": 2}, QWEN3_TOKEN // 2),
        ({}, {"tensor_parallel_size": 16}, QWEN3_TOKEN // 8),
        ({}, {"pipeline_parallel_size": 2}, QWEN3_TOKEN // 2),
        ({}, {"tensor_parallel_size": 16, "decode_context_parallel_size": 2}, QWEN3_TOKEN // 16),
        ({}, {"prefill_context_parallel_size": 2}, QWEN3_TOKEN // 2),
        ({}, {"dtype": "float32"}, QWEN3_TOKEN * 2),
        ({"torch_dtype": "float32"}, {}, QWEN3_TOKEN),
        ({"kv_lora_rank": 512, "qk_rope_head_dim": 64}, {}, 28 * (512 + 64) * 2),
        ({"quantization_config": {"kv_cache_scheme": {"num_bits": 8}}}, {}, QWEN3_TOKEN // 2),
        # GLM-4-9B, Falcon-40B and -7B, each of whose tokens counted with all heads that ask.
        ({**_NO_HEADS, "multi_query_group_num": 2}, {}, QWEN3_TOKEN // 4),
        ({**_NO_HEADS, "num_kv_heads": 4, **_NEW_FALCON}, {}, QWEN3_TOKEN // 2),
        ({**_NO_HEADS, "multi_query": True}, {}, QWEN3_TOKEN // 8),
    ],
)
def test_cache_of_a_token(changes: dict[str, Any], options: Any, expected: int) -> None:
    assert demand(0, config={**QWEN3, **changes}, **options).token_bytes == expected
    nested = {"text_config": {**QWEN3, **changes}}
    assert demand(0, config=nested, **options).token_bytes == expected


_YARN = {"type": "yarn", "factor": 4.0, "original_max_position_embeddings": 32768}
_WHOLE = {"original_max_position_embeddings": 4096}


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({}, 40960),
        # As the cards of Qwen models say, Command-R, GLM-4, Phi, Llama 3.1, and one without any.
        ({"rope_scaling": _YARN}, 131072),
        ({"model_max_length": 131072}, 131072),
        ({"max_position_embeddings": None, "seq_length": 8192}, 8192),
        ({"rope_scaling": {"type": "longrope"}, **_WHOLE}, 4096),
        ({"rope_scaling": {"rope_type": "llama3", "factor": 8.0}}, 40960),
        ({"rope_parameters": {"rope_type": "linear", "factor": 2.0}}, 81920),
        ({"rope_parameters": {"rope_type": "default"}}, 40960),
        ({"max_position_embeddings": None}, None),
    ],
)
def test_the_longest_request_is_as_vllm_derives_it(changes: Any, expected: int | None) -> None:
    assert demand(0, config={**QWEN3, **changes}).context == expected
    assert demand(0, config={**QWEN3, **changes}, max_model_len=100).context == 100


def test_a_model_that_is_quantised_while_it_is_loaded() -> None:
    plain = {key: value for key, value in QWEN3.items() if key != "quantization_config"}
    assert demand(0, config=plain, quantization="fp8").weights_on_card == GIB // 2
    assert demand(0, config=plain, quantization="bitsandbytes").weights_on_card is None
    assert demand(0, quantization="fp8").weights_on_card == GIB
    assert demand(0, cpu_offload_gb=0.5).weights_on_card == GIB // 2


@pytest.mark.parametrize(
    ("stored", "options", "expected"),
    [
        ("float32", {}, GIB // 2),
        ("float32", {"dtype": "float16"}, GIB // 2),
        ("float32", {"dtype": "float"}, GIB),
        ("float32", {"quantization": "fp8"}, GIB // 4),
        ("bfloat16", {}, GIB),
        ("bfloat16", {"dtype": "half"}, GIB),
        ("bfloat16", {"dtype": "float32"}, GIB * 2),
        (None, {"dtype": "float32"}, GIB),
    ],
)
def test_weights_are_as_large_as_they_are_loaded(
    stored: str | None, options: Any, expected: int
) -> None:
    plain = {key: value for key, value in QWEN3.items() if key != "quantization_config"}
    config = {**plain, "torch_dtype": stored}
    assert demand(0, config=config, **options).weights_on_card == expected
    newer = {"dtype": stored, "text_config": {**plain, "torch_dtype": None}}
    assert demand(0, config=newer, **options).weights_on_card == expected
    # What is quantised keeps its format.
    quantised = {**QWEN3, "torch_dtype": stored}
    assert demand(0, config=quantised, dtype="float32").weights_on_card == GIB


@pytest.mark.parametrize("name", ["n_routed_experts", "num_experts", "num_local_experts"])
def test_experts_are_shared_among_groups_of_cards(host: FakeHost, name: str) -> None:
    """DeepSeek-V3 has 641 GiB of weights, for eight cards with 141 GiB each."""
    for number in range(1, 8):
        host.card(f"0000:{0x40 + number:x}:00.0")
    spread = {"weights": 641 * GIB, "tensor_parallel_size": 1, "data_parallel_size": 8}
    config = {**QWEN3, name: 256}
    assert fit(host, demand(*range(8), config=config, **spread)) == []
    assert demand(0, config={"text_config": config}, **spread).weights_on_card is None
    # In one group, tensor parallelism shares them like all else.
    assert demand(*range(8), config=config, weights=641 * GIB).weights_on_card == 641 * GIB // 8
    # Without experts, each group has all of them.
    assert fit(host, demand(*range(8), **spread))
    assert demand(0, 1, tensor_parallel_size=1, data_parallel_size=2).weights_on_card == GIB


def test_a_cache_of_a_given_size(host: FakeHost) -> None:
    assert fit(host, demand(0, kv_cache_memory_bytes=100 * GIB)) == []
    assert "more than the card has" in one(host, demand(0, kv_cache_memory_bytes=150 * GIB)).problem


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (5000, 5000),
        ("5k", 5_000),
        ("5K", 5 * 2**10),
        ("2.5m", 2_500_000),
        ("5M", 5 * 2**20),
        ("1.5g", 1_500_000_000),
        ("20G", 20 * GIB),
        ("1t", 10**12),
        ("1T", 2**40),
        ("20GB", None),
    ],
)
def test_sizes_are_read_as_vllm_reads_them(given: object, expected: int | None) -> None:
    assert demand(0, kv_cache_memory_bytes=given).cache_bytes == expected


def test_gpus_that_are_not_there(host: FakeHost) -> None:
    finding = one(host, demand(0, 3))
    assert finding.variable == "vllm_instances[qwen3].gpus"
    assert "needs GPU 3; this host has 1 GPU, numbered from 0 to 0" in finding.problem
    assert "needs GPU 1;" in one(host, demand(tensor_parallel_size=2)).problem
    assert fit(host, demand()) == []


def test_gpus_and_parallelism_agree(host: FakeHost) -> None:
    host.card("0000:5e:00.0")
    assert fit(host, demand(0, 1)) == []
    assert fit(host, demand(0, 1, tensor_parallel_size=1, data_parallel_size=2)) == []
    finding = one(host, demand(0, 1, tensor_parallel_size=4))
    assert "It names 2 GPUs; tensor, pipeline and data parallelism" in finding.problem
    assert finding.remedy == "Set tensor_parallel_size in options to 2, or name 4 GPUs."


@pytest.mark.parametrize(
    "kind", ["data_parallel_size", "pipeline_parallel_size", "prefill_context_parallel_size"]
)
def test_gpus_and_groups_of_them_agree_after_the_remedy(host: FakeHost, kind: str) -> None:
    for address in ("0000:5e:00.0", "0000:6e:00.0", "0000:7e:00.0"):
        host.card(address)
    finding = one(host, demand(0, 1, 2, 3, **{kind: 2}))
    # To name the 8 that are used, as was advised, makes it 16.
    assert "use 8." in finding.problem
    assert finding.remedy == "Set tensor_parallel_size in options to 2."
    assert fit(host, demand(0, 1, 2, 3, **{kind: 2, "tensor_parallel_size": 2})) == []
    assert one(host, demand(0, 1, 2, **{kind: 2})).remedy == "Name a multiple of 2 GPUs."


def test_instances_on_one_card_add_up(host: FakeHost) -> None:
    half = demand(0, gpu_memory_utilization=0.5)
    assert fit(host, half) == []
    finding = one(host, half, Demand("other", (0,), {"gpu-memory-utilization": 0.6}))
    assert finding.variable == "vllm_instances[qwen3].options.gpu_memory_utilization"
    assert "take 110% of GPU 0: qwen3 50%, other 60%" in finding.problem


def test_memory_that_others_hold(host: FakeHost) -> None:
    host.process(9, "python3", "jupyter.service")
    host.process(7, "VLLM::EngineCor", "vllm@qwen3.service")
    card = host.cards[0]
    card.processes, card.used = {7: 120 * GIB}, 121 * GIB
    assert fit(host, demand(0)) == []
    card.processes, card.used = {9: 20 * GIB, 7: 100 * GIB}, 121 * GIB
    finding = one(host, demand(0))
    assert finding.severity == "error"
    assert "20.0 GiB are held by python3 (pid 9, jupyter.service)" in finding.problem
    card.processes = {}
    finding = one(host, demand(0))
    assert finding.severity == "warning"
    assert "cannot be seen" in finding.problem


FP8_TENSORS = {
    "quant_method": "compressed-tensors",
    "config_groups": {
        "group_0": {
            "weights": {"type": "float", "num_bits": 8},
            "input_activations": {"type": "float", "num_bits": 8},
        }
    },
}
FP8_WEIGHTS = {
    "quant_method": "compressed-tensors",
    "config_groups": {"group_0": {"weights": {"type": "float", "num_bits": 8}}},
}
NVFP4 = {"quant_method": "modelopt", "quant_algo": "NVFP4"}
AWQ = {"quant_method": "awq"}


@pytest.mark.parametrize(
    ("quantised", "options", "capability", "words"),
    [
        (QWEN3["quantization_config"], {}, (8, 9), ""),
        (QWEN3["quantization_config"], {}, (8, 0), "FP8"),
        (None, {"quantization": "fp8"}, (8, 0), "FP8"),
        (FP8_TENSORS, {}, (8, 6), "FP8"),
        (FP8_WEIGHTS, {}, (8, 6), ""),
        ({"quant_method": "modelopt", "quant_algo": "FP8"}, {}, (8, 0), "FP8"),
        (NVFP4, {}, (9, 0), "NVFP4"),
        (NVFP4, {}, (10, 0), ""),
        (AWQ, {}, (7, 5), ""),
        (None, {}, (7, 5), ""),
    ],
)
def test_number_formats(
    host: FakeHost, quantised: Any, options: Any, capability: tuple[int, int], words: str
) -> None:
    host.cards[0].capability, host.cards[0].name = capability, "NVIDIA A100"
    config = {**QWEN3, "quantization_config": quantised}
    findings = fit(host, demand(0, config=config, **options))
    assert bool(findings) is bool(words)
    for finding in findings:
        assert finding.severity == "warning"
        assert f"quantised to {words}, in which" in finding.problem
        assert "falls back to weight-only" in finding.problem


def test_cards_that_are_too_old(host: FakeHost) -> None:
    host.cards[0].capability = (7, 0)
    assert "needs compute capability 7.5" in one(host, demand(0)).problem
    host.cards[0].capability = (7, 5)
    plain = {**QWEN3, "quantization_config": None}
    finding = one(host, demand(0, config=plain, dtype="bfloat16"))
    assert finding.variable == "vllm_instances[qwen3].options.dtype"
    assert finding.severity == "error"


def test_cards_of_several_nodes(host: FakeHost) -> None:
    host.card("0000:5e:00.0", node=1)
    finding = one(host, demand(0, 1))
    assert finding.severity == "advice"
    assert "0 at node 0 and 1 at node 1" in finding.problem
    assert fit(host, demand(0), Demand("other", (1,))) == []


INSTANCE = {"name": "qwen3", "gpus": [0], "options": {"max_model_len": 8}}
MODEL = Model("vllm_instances[qwen3]", fake_hub.NAME, fake_hub.COMMIT, "hub")


def test_what_is_known_of_a_model_on_the_host(tmp_path: Path) -> None:
    place = tmp_path / fake_hub.NAME / fake_hub.COMMIT
    model_conftest.write_model(place)
    (found,) = demands([INSTANCE], [MODEL], Access(tmp_path), {})
    assert found.config == read_config(place) != {}
    assert found.weights == weights_in(place)
    assert found.weights
    assert found.options == {"max-model-len": 8}


def test_what_is_known_of_a_model_on_a_hub(tmp_path: Path) -> None:
    source = tmp_path / "source"
    model_conftest.write_model(source)
    with fake_hub.serving(source) as hub:
        access = Access(tmp_path / "models", endpoint=hub.url)
        results = in_parallel(description_jobs([MODEL], access))
    twin = Model("vllm_instances[twin]", MODEL.name, MODEL.revision, "hub")
    asked = [INSTANCE, {**INSTANCE, "name": "twin"}]
    for found in demands(asked, [MODEL, twin], access, results):
        assert (found.weights, found.config) == (weights_in(source), read_config(source))


def test_what_is_known_of_a_model_on_the_control_node(tmp_path: Path) -> None:
    model = Model(MODEL.variable, "a/b", "v1", "path", size=3 * GIB, weights=GIB, config=QWEN3)
    (found,) = demands([INSTANCE], [model], Access(tmp_path), {})
    assert (found.weights, found.config) == (GIB, QWEN3)


def test_a_model_that_cannot_be_reached(tmp_path: Path) -> None:
    results = {"vllm_instances[qwen3] described": OSError("no way")}
    (found,) = demands([INSTANCE], [MODEL], Access(tmp_path), results)
    assert (found.weights, found.config) == (None, None)


# Files by name, each as large as its number, and how much of them vLLM loads.
REPOSITORIES: dict[str, tuple[dict[str, int], int | None]] = {
    "two formats": ({"model.safetensors": 100, "pytorch_model.bin": 90}, 100),
    "two formats, none of them safe": ({"pytorch_model.bin": 90, "model.pt": 80}, 90),
    "as they were trained, in a folder": (
        {
            "model-00001-of-00002.safetensors": 30,
            "model-00002-of-00002.safetensors": 20,
            "original/model.safetensors": 50,
        },
        50,
    ),
    "as Mistral loads them, beside shards": (
        {
            "consolidated.safetensors": 49,
            "model-00001-of-00002.safetensors": 30,
            "model-00002-of-00002.safetensors": 20,
        },
        49,
    ),
    "whole, beside shards": (
        {
            "model.safetensors": 51,
            "model-00001-of-00002.safetensors": 30,
            "model-00002-of-00002.safetensors": 20,
        },
        50,
    ),
    "in folders alone": ({"unet/model.safetensors": 10}, None),
}


@pytest.fixture(params=REPOSITORIES)
def repository(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[Path, int | None]:
    """A model that holds its weights more than once, and the bytes of those that count."""
    files, expected = REPOSITORIES[request.param]
    folder = tmp_path / "source"
    for name, size in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(bytes(size))
    shards = [name for name in files if "-of-" in name]
    if shards:
        index = {"weight_map": {f"layer{n}": name for n, name in enumerate(shards)}}
        (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    (folder / "config.json").write_text("{}")
    return folder, expected


def test_weights_that_are_there_twice_are_counted_once(
    repository: tuple[Path, int | None],
) -> None:
    folder, expected = repository
    assert weights_in(folder) == expected


@pytest.mark.parametrize("kind", ["huggingface", "modelscope"])
def test_weights_that_a_hub_has_twice_are_counted_once(
    repository: tuple[Path, int | None], tmp_path: Path, kind: str
) -> None:
    folder, expected = repository
    with fake_hub.serving(folder) as hub:
        access = Access(tmp_path / "models", hub=kind, endpoint=hub.url)
        results = in_parallel(description_jobs([MODEL], access))
    (found,) = demands([INSTANCE], [MODEL], access, results)
    assert found.weights == expected


def test_an_index_that_cannot_be_read_hides_no_weights(tmp_path: Path) -> None:
    (tmp_path / "model.safetensors").write_bytes(bytes(100))
    (tmp_path / "model.safetensors.index.json").write_text("[]")
    assert weights_in(tmp_path) == 100
