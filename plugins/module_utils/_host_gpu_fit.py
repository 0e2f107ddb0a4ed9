# Copyright: The gpufleet maintainers
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Do the instances of this host fit onto its cards?"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from ansible_collections.gpufleet.llm.plugins.module_utils._gpu_demand import (
    WORKING,
    Demand,
    quantization_config,
)
from ansible_collections.gpufleet.llm.plugins.module_utils._gpu_facts import Gpu, Gpus, Holder
from ansible_collections.gpufleet.llm.plugins.module_utils._host_finding import (
    ADVICE,
    ERROR,
    WARNING,
    Finding,
    Seen,
    human,
    listed,
)

# Units whose processes make room for the instance that is started anew.
_OURS = "vllm@"
# The wheels for CUDA 13 hold code for Turing and newer; so do the quantised kernels.
_OLDEST = (7, 5)
# Compute capability from which vLLM calculates in the format itself. Older cards keep the weights
# in it and calculate in 16 bits: no gain in speed for long prompts, the same in memory.
_NATIVE = {"fp8": (8, 9), "nvfp4": (10, 0)}
_BFLOAT16 = (8, 0)


def check_fit(gpus: Gpus, demands: list[Demand]) -> Seen:
    """Compare cards with what instances ask for; the text states memory in numbers."""
    texts: list[str] = []
    findings: list[Finding] = []
    taken: dict[int, list[Demand]] = {}
    # Without any card that is what is wrong, not the number.
    for demand in demands if gpus.cards else []:
        findings += _count(gpus, demand)
        cards = [gpus.cards[index] for index in demand.cards if index < len(gpus.cards)]
        if not cards:
            continue
        findings += [*_formats(demand, cards), *_nodes(demand, cards)]
        smallest = min(cards, key=lambda card: card.memory_total or 0)
        text, found = _memory(demand, smallest)
        findings += found
        texts.append(text)
        for card in cards:
            taken.setdefault(card.index, []).append(demand)
    for index, sharing in sorted(taken.items()):
        findings += _shares(gpus.cards[index], sharing)
    return Seen("; ".join(texts) or "no instance", findings)


def _count(gpus: Gpus, demand: Demand) -> Iterator[Finding]:
    here = len(gpus.cards)
    if demand.gpus and demand.card_count != len(demand.gpus):
        yield Finding(
            f"{demand.variable}.gpus",
            f"It names {_cards(len(demand.gpus))}; tensor, pipeline and data parallelism of its "
            f"options use {demand.card_count}.",
            _parallelism(demand),
        )
    missing = [index for index in demand.cards if index >= here]
    if missing:
        yield Finding(
            f"{demand.variable}.gpus",
            f"It needs GPU {listed([str(index) for index in missing])}; this host has "
            f"{_cards(here)}, numbered from 0 to {here - 1}.",
            "Name GPUs that are there, in the order of their PCI addresses, or move the instance "
            "to another host.",
        )


def _parallelism(demand: Demand) -> str:
    """What makes the options use as many cards as the instance names."""
    size, rest = divmod(len(demand.gpus), demand.groups)
    if rest or not size:
        remedy = f"Name a multiple of {_cards(demand.groups)}"
    else:
        remedy = f"Set tensor_parallel_size in options to {size}"
    # Without the option more cards would only make it larger.
    given = "tensor-parallel-size" in demand.options
    return f"{remedy}, or name {_cards(demand.card_count)}." if given else f"{remedy}."


def _cards(count: int) -> str:
    return f"{count} GPU{'' if count == 1 else 's'}"


def _memory(demand: Demand, card: Gpu) -> tuple[str, list[Finding]]:
    """Weights and cache of an instance against one of its cards; both in numbers."""
    total, weights = card.memory_total, demand.weights_on_card
    if total is None:
        return f"{demand.name}: memory of GPU {card.index} unknown", []
    budget = int(total * demand.utilization)
    share = f"{demand.utilization:.0%} of {human(total)}"
    if weights is None:
        return f"{demand.name}: {share} = {human(budget)}, size of the weights unknown", []
    if demand.cache_bytes is not None:
        budget = weights + WORKING + demand.cache_bytes
        share = f"kv_cache_memory_bytes, weights and the rest, of {human(total)}"
    cache = budget - weights - WORKING
    per = " on each card" if len(demand.cards) > 1 else ""
    parts = f"weights {human(weights)}, about {human(WORKING)} to work with"
    if cache <= 0 or budget > total:
        problem = f"It may take {human(budget)} of GPU {card.index} ({share}){per}; {parts}: " + (
            "no cache is left." if cache <= 0 else "more than the card has."
        )
        remedy = (
            "Use more GPUs (gpus), a larger card or a quantised model, or raise "
            "gpu_memory_utilization."
        )
        return f"{demand.name}: too large", [Finding(f"{demand.variable}.gpus", problem, remedy)]
    text = f"{demand.name}: {share}{per}: {parts}, cache {human(cache)}"
    if not demand.token_bytes:
        return text, []
    tokens = cache // demand.token_bytes
    text += f" = about {tokens:,} tokens"
    context = demand.context
    if not context:
        return text, []
    if tokens >= context:
        return f"{text}, {tokens // context:,} requests of {context:,}", []
    finding = Finding(
        f"{demand.variable}.options.max_model_len",
        f"One request of {context:,} tokens needs {human(context * demand.token_bytes)} of cache"
        f"{per}; {human(cache)} are left on GPU {card.index} ({share}; {parts}). vLLM would not "
        "start.",
        f"Set max_model_len in options to {tokens:,} or less, use more GPUs, or kv_cache_dtype: "
        "fp8.",
    )
    return text, [finding]


def _shares(card: Gpu, sharing: list[Demand]) -> Iterator[Finding]:
    """What all instances take of a card, and whether others leave as much."""
    if card.memory_total is None:
        return
    part = sum(demand.utilization for demand in sharing)
    names = listed([demand.name for demand in sharing])
    variable = f"{sharing[0].variable}.options.gpu_memory_utilization"
    asked = int(card.memory_total * part)
    if part > 1:
        each = ", ".join(f"{demand.name} {demand.utilization:.0%}" for demand in sharing)
        yield Finding(
            variable,
            f"Its instances take {part:.0%} of GPU {card.index}: {each}.",
            "Lower gpu_memory_utilization in their options until the sum is below 0.95, or give "
            "each a GPU of its own.",
        )
        return
    others = [holder for holder in card.processes if not holder.unit.startswith(_OURS)]
    held = sum(holder.memory or 0 for holder in others)
    unseen = not card.processes and bool(card.memory_used)
    if unseen:
        held = card.memory_used or 0
    free = card.memory_total - held
    if asked > free:
        who = listed([_named(holder) for holder in others])
        yield Finding(
            variable,
            f"{names} would take {human(asked)} of GPU {card.index}, of whose "
            f"{human(card.memory_total)} {human(held)} are held by "
            f"{who or 'processes that cannot be seen, perhaps its own'}.",
            "Stop what holds it (nvidia-smi shows all), lower gpu_memory_utilization in options, "
            "or use another GPU.",
            WARNING if unseen else ERROR,
        )


def _named(holder: Holder) -> str:
    unit = f", {holder.unit}" if holder.unit else ""
    return f"{holder.name or 'a process'} (pid {holder.pid}{unit})"


def _formats(demand: Demand, cards: list[Gpu]) -> Iterator[Finding]:
    """Can the oldest of the cards calculate as the model asks?"""
    known = [(_capability(card), card) for card in cards if card.compute_capability]
    if not known:
        return
    least, card = min(known, key=lambda entry: entry[0])
    here = f"GPU {card.index} ({card.name or card.device_id}) has {card.compute_capability}"
    variable = f"{demand.variable}.gpus"
    if least < _OLDEST:
        yield Finding(
            variable,
            f"{here}; vLLM for CUDA 13 needs compute capability {_text(_OLDEST)}.",
            "Use a GPU of the Turing generation or newer.",
        )
        return
    if demand.options.get("dtype") == "bfloat16" and least < _BFLOAT16:
        yield Finding(
            f"{demand.variable}.options.dtype",
            f"{here}; bfloat16 needs compute capability {_text(_BFLOAT16)}.",
            "Set dtype: float16 in options, or use a newer GPU.",
        )
    number_format = number_format_of(demand.config, demand.options)
    native = _NATIVE.get(number_format, _OLDEST)
    if least < native:
        yield Finding(
            variable,
            f"The model is quantised to {number_format.upper()}, in which GPUs calculate from "
            f"compute capability {_text(native)} on; {here}. vLLM falls back to weight-only: it "
            "saves the same memory, and long prompts and many requests at once are slower.",
            "Use a newer GPU for speed, or a model with weights of 4 or 8 bits as integers (AWQ, "
            "GPTQ), which this card is made for.",
            WARNING,
        )


def number_format_of(config: Mapping[str, Any] | None, options: Mapping[str, Any]) -> str:
    """`fp8` or `nvfp4` where weights and activations are such, else empty."""
    quantised = quantization_config(config)
    method = str(options.get("quantization") or quantised.get("quant_method") or "").lower()
    algorithm = str(quantised.get("quant_algo") or "").lower()
    if "fp4" in algorithm or method in ("modelopt_fp4", "fp_quant"):
        return "nvfp4"
    if method in ("fp8", "fbgemm_fp8", "ptpc_fp8") or "fp8" in algorithm:
        return "fp8"
    for group in (quantised.get("config_groups") or {}).values():
        weights, inputs = (group.get(part) or {} for part in ("weights", "input_activations"))
        if weights.get("type") == "float" and inputs:
            return {8: "fp8", 4: "nvfp4"}.get(weights.get("num_bits", 0), "")
    return ""


def _capability(card: Gpu) -> tuple[int, int]:
    major, _dot, minor = (card.compute_capability or "0.0").partition(".")
    return int(major), int(minor)


def _text(capability: tuple[int, int]) -> str:
    return "{}.{}".format(*capability)


def _nodes(demand: Demand, cards: list[Gpu]) -> Iterator[Finding]:
    nodes = {card.numa_node for card in cards if card.numa_node is not None}
    if len(nodes) > 1:
        places = listed([f"{card.index} at node {card.numa_node}" for card in cards])
        yield Finding(
            f"{demand.variable}.gpus",
            f"Its GPUs are at several NUMA nodes: {places}. Without NVLink between them, what "
            "they exchange goes through both processors.",
            "Where there is a choice, name GPUs of one node; nvidia-smi topo -m shows all ways.",
            ADVICE,
        )
