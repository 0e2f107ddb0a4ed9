# Copyright: The gpufleet maintainers
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What an instance asks of its cards: how many, how much memory, and which number formats."""

from __future__ import annotations

import json
import math
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

_GIB = 2**30
# vLLM's default for gpu_memory_utilization.
_UTILIZATION = 0.92
# Activations, CUDA graphs and CUDA itself on each card: an estimate, for what is not counted.
WORKING = 1 * _GIB
# Bytes of one number, by the beginning of its dtype or kv_cache_dtype; two of all others.
_BYTES = {"fp8": 1.0, "int8": 1.0, "int4": 0.5, "nvfp4": 0.5, "float32": 4.0}
_SCALES = {
    letter: base**power
    for base, letters in ((10**3, "kmgt"), (2**10, "KMGT"))
    for power, letter in enumerate(letters, 1)
}
# vLLM loads the first of these that a model has at its top, and nothing from folders below.
_LOADED = ("consolidated*.safetensors", "*.safetensors", "*.bin", "*.pt", "*.pth", "*.gguf")
# How models of experts, which one request uses a few of, tell their number.
_EXPERTS = ("num_experts", "moe_num_experts", "n_routed_experts", "num_local_experts")
# Kinds of layers whose cache does not grow with each token as that of attention does.
_OTHER_CACHES = ("mamba", "linear_", "ssm_", "conv_")
# Where vLLM can share the tokens of a request among cards.
_CONTEXT_STEPS = ("prefill", "decode")
# What tells of each layer by itself, as Nemotron and MiniMax do, whose layers differ.
_LAYERS_DIFFER = ("block_configs", "attn_type_list")
# How models tell the heads that they keep keys and values of, in the order in which vLLM asks.
_KEPT_HEADS = (
    "n_head_kv",
    "num_kv_heads",
    "num_key_value_heads",
    "multi_query_group_num",
    "num_attention_groups",
)
# How models tell the longest request; vLLM takes the smallest, but the last one before all.
_LENGTHS = (
    "max_position_embeddings",
    "n_positions",
    "max_seq_len",
    "seq_length",
    "max_sequence_length",
    "max_seq_length",
    "seq_len",
)
_LENGTH = "model_max_length"


@dataclass(frozen=True)
class Demand:
    """One instance: its cards (empty: the first ones), vLLM's options, and its model.

    `weights` are bytes of the model's weights and `config` its config.json; None where unknown.
    """

    name: str
    gpus: tuple[int, ...]
    options: Mapping[str, Any] = field(default_factory=dict)
    weights: int | None = None
    config: Mapping[str, Any] | None = None

    @property
    def variable(self) -> str:
        """The instance, as findings name it."""
        return f"vllm_instances[{self.name}]"

    @property
    def tensor_parallel(self) -> int:
        """Cards that share every layer; by the role's default, all that the instance names."""
        return int(self.options.get("tensor-parallel-size") or max(1, len(self.gpus)))

    @property
    def pipeline_parallel(self) -> int:
        """Groups of cards that share the layers among them."""
        return int(self.options.get("pipeline-parallel-size") or 1)

    @property
    def data_parallel(self) -> int:
        """Groups of cards that each answer requests of their own."""
        return int(self.options.get("data-parallel-size") or 1)

    @property
    def groups(self) -> int:
        """Groups of cards, each of as many as share every layer."""
        context = int(self.options.get("prefill-context-parallel-size") or 1)
        return self.pipeline_parallel * self.data_parallel * context

    @property
    def card_count(self) -> int:
        """Cards that vLLM will use."""
        return self.tensor_parallel * self.groups

    @property
    def cards(self) -> tuple[int, ...]:
        """Indexes of the cards that it will use."""
        return self.gpus or tuple(range(self.card_count))

    @property
    def utilization(self) -> float:
        """The part of each card's memory that vLLM takes."""
        return float(self.options.get("gpu-memory-utilization") or _UTILIZATION)

    @property
    def cache_bytes(self) -> int | None:
        """Bytes of the cache on each card, where they are given."""
        given = self.options.get("kv-cache-memory-bytes")
        return _number(given) if given else None

    @property
    def weights_on_card(self) -> int | None:
        """Bytes of weights on each card, where they can be told."""
        if self.weights is None or (self.data_parallel > 1 and self._has_experts):
            return None  # of several groups, each card has a part of the experts and all else
        size: float = self.weights
        quantised = quantization_config(self.config)
        if self._stored_dtype and not quantised:
            size *= _bytes_of(self._loaded_dtype) / _bytes_of(self._stored_dtype)
        if self.options.get("quantization") and not quantised:
            if self.options["quantization"] != "fp8":
                return None
            size /= 2  # quantised while it is loaded, from two bytes to one
        size /= self.tensor_parallel * self.pipeline_parallel
        return max(0, int(size - float(self.options.get("cpu-offload-gb") or 0) * _GIB))

    @property
    def context(self) -> int | None:
        """Tokens of the longest request; None where vLLM chooses what fits, or it is unknown."""
        given = self.options.get("max-model-len")
        if given is not None:
            tokens = _number(given)
            return tokens if tokens and tokens > 0 else None
        return _longest(_text_config(self.config))

    @property
    def token_bytes(self) -> int | None:
        """Bytes of cache of one token on each card; None where the model is not plain attention."""
        config = _text_config(self.config)
        layers = config.get("num_hidden_layers")
        if not isinstance(layers, int) or _has_other_caches(config):
            return None
        layers = math.ceil(layers / self.pipeline_parallel)
        if config.get("kv_lora_rank"):
            numbers = config["kv_lora_rank"] + config.get("qk_rope_head_dim", 0)
        else:
            heads = config.get("num_attention_heads")
            width = config.get("head_dim") or config.get("hidden_size", 0) // (heads or 1)
            kept = next(filter(None, (config.get(name) for name in _KEPT_HEADS)), heads)
            if config.get("multi_query") and not config.get("new_decoder_architecture"):
                kept = 1  # Falcon, which tells no number
            if not isinstance(kept, int) or not kept or not width:
                return None
            numbers = 2 * width * math.ceil(kept / self.tensor_parallel)
        # With context parallelism each card keeps a part of the tokens only.
        parts = [self.options.get(f"{step}-context-parallel-size") for step in _CONTEXT_STEPS]
        return int(layers * numbers * self._number_bytes() / math.prod(int(n or 1) for n in parts))

    @property
    def _has_experts(self) -> bool:
        config = _text_config(self.config)
        return any(config.get(name) for name in _EXPERTS)

    @property
    def _stored_dtype(self) -> str:
        """What the weights are, as config.json says; empty where it does not."""
        parts = (self.config or {}, _text_config(self.config))
        named = (part.get(name) for part in parts for name in ("torch_dtype", "dtype"))
        return str(next(filter(None, named), ""))

    @property
    def _loaded_dtype(self) -> str:
        """What vLLM makes of weights that are not quantised; empty where it is unknown."""
        asked = str(self.options.get("dtype") or "auto")
        if asked != "auto":
            return "float32" if asked == "float" else asked
        return "bfloat16" if self._stored_dtype == "float32" else self._stored_dtype

    def _number_bytes(self) -> float:
        asked = str(self.options.get("kv-cache-dtype") or "auto")
        if asked == "auto":
            quantised = quantization_config(self.config)
            if quantised.get("kv_cache_scheme") or quantised.get("kv_cache_quant_algo"):
                return 1.0
            asked = self._loaded_dtype
        return _bytes_of(asked)


def quantization_config(config: Mapping[str, Any] | None) -> Mapping[str, Any]:
    """How a model is quantised, as its config.json says; empty where it is not."""
    for part in (config or {}, _text_config(config)):
        found = part.get("quantization_config") or part.get("compression_config")
        if isinstance(found, dict):
            return found
    return {}


def read_config(folder: Path) -> dict[str, Any] | None:
    """config.json of a model's directory, None where it cannot be read."""
    try:
        document = json.loads((folder / "config.json").read_bytes())
    except (OSError, ValueError):
        return None
    return document if isinstance(document, dict) else None


def weights_in(folder: Path) -> int | None:
    """Bytes of the weights that vLLM loads from a model's directory, None where it holds none."""
    files = folder.iterdir() if folder.is_dir() else ()
    sizes = {path.name: path.stat().st_size for path in files if path.is_file()}
    return loaded_weights(sizes, _indexed(folder))


def loaded_weights(sizes: Mapping[str, int], indexed: Collection[str]) -> int | None:
    """Bytes of the weights that vLLM loads, by the sizes of a model's files; None without any.

    Of several files of one kind only those count that are `indexed`, where there are such.
    """
    for pattern in _LOADED:
        found = [name for name in sizes if "/" not in name and fnmatchcase(name, pattern)]
        if found:
            kept = [name for name in found if name in indexed] or found
            return sum(sizes[name] for name in kept) or None
    return None


def _indexed(folder: Path) -> set[str]:
    """Files that the index of a model's weights names, none without an index."""
    try:
        document = json.loads((folder / "model.safetensors.index.json").read_bytes())
        return set(document["weight_map"].values())
    except (OSError, AttributeError, KeyError, TypeError, ValueError):
        return set()


def _bytes_of(dtype: str) -> float:
    return next((size for name, size in _BYTES.items() if dtype.startswith(name)), 2.0)


def _text_config(config: Mapping[str, Any] | None) -> Mapping[str, Any]:
    """The language model's part, of a model that also sees or hears."""
    whole = config or {}
    part = whole.get("text_config")
    return part if isinstance(part, dict) else whole


def _longest(config: Mapping[str, Any]) -> int | None:
    """Tokens of the longest request as vLLM derives it from a model; None where that tells none."""
    told = [config[name] for name in _LENGTHS if isinstance(config.get(name), int)]
    longest = config.get(_LENGTH) or min(told, default=None)
    rope = config.get("rope_parameters") or config.get("rope_scaling") or {}
    kind = rope.get("rope_type") or rope.get("type")
    if kind in ("longrope", "su"):
        longest = config.get("original_max_position_embeddings") or longest
    elif kind != "llama3":
        if kind == "yarn":
            longest = rope.get("original_max_position_embeddings") or longest
        longest = (longest or 0) * (rope.get("factor") or 1)
    return int(longest) if longest else None


def _has_other_caches(config: Mapping[str, Any]) -> bool:
    kinds = config.get("layer_types") or []
    if any(kind != "full_attention" for kind in kinds):
        return True
    if config.get("sliding_window") and config.get("use_sliding_window", True):
        return True
    return any(key.startswith(_OTHER_CACHES) or key in _LAYERS_DIFFER for key in config)


def _number(text: object) -> int | None:
    """A number as vLLM reads it, such as 32768, 32k or 1.5M; None for `auto`."""
    plain = str(text).strip()
    scale = _SCALES.get(plain[-1:], 1)
    try:
        return int(float(plain[:-1] if scale > 1 else plain) * scale)
    except ValueError:
        return None
