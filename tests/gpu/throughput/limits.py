"""The most tokens per second that the memory of a card allows, whatever the software.

Every decoding step reads all weights once, and for each request the keys and values of its tokens
so far. The figures follow from model_config.json.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

CONFIG = Path(__file__).resolve().parents[1] / "model_config.json"
# Data sheets: bytes per second.
BANDWIDTHS = {"H200": 4.8e12, "H100": 3.35e12}
_COPY = """
import torch
source = torch.empty(2**32, dtype=torch.uint8, device="cuda")
target = torch.empty_like(source)
target.copy_(source)
begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
begin.record()
for _ in range(20):
    target.copy_(source)
end.record()
torch.cuda.synchronize()
print(20 * 2 * source.numel() / begin.elapsed_time(end) * 1000)
"""


def weight_bytes(config: dict[str, Any]) -> int:
    """Bytes that a step reads of the weights: layers in FP8, the output embedding in bfloat16."""
    hidden, inner = config["hidden_size"], config["intermediate_size"]
    queries = config["num_attention_heads"] * config["head_dim"]
    keys = config["num_key_value_heads"] * config["head_dim"]
    layer = hidden * (2 * queries + 2 * keys) + 3 * hidden * inner
    return int(config["num_hidden_layers"] * layer + 2 * config["vocab_size"] * hidden)


def cache_bytes_per_token(config: dict[str, Any]) -> int:
    """Bytes of keys and values that one token leaves, in bfloat16."""
    keys = config["num_key_value_heads"] * config["head_dim"]
    return int(config["num_hidden_layers"] * 2 * keys * 2)


def tokens_per_second(concurrency: int, before: int, answer: int, bandwidth: float) -> float:
    """Upper limit for answers of `answer` tokens to prompts of `before`, prompts taken as free."""
    config = json.loads(CONFIG.read_text())
    context = before + answer / 2
    step = weight_bytes(config) + concurrency * context * cache_bytes_per_token(config)
    return concurrency * bandwidth / step


def card() -> tuple[str, float]:
    """Name of the first GPU and its memory bandwidth by data sheet, bytes per second."""
    command = ["nvidia-smi", "--query-gpu=name", "--format=csv,noheader"]
    name = subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    for part, bandwidth in BANDWIDTHS.items():
        if part in name:
            return name, bandwidth
    raise SystemExit(f"no bandwidth is known for {name}: add it to BANDWIDTHS")


def copy_rate() -> float:
    """Bytes per second of a copy within the card, read and written, as measured now."""
    command = [sys.executable, "-c", _COPY]
    return float(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
