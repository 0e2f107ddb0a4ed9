# Copyright: The gpufleet maintainers
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Has this host the memory that its instances need?"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ansible_collections.gpufleet.llm.plugins.module_utils._host_finding import (
    Finding,
    Seen,
    human,
)

_GIB = 2**30
# One instance on the CPU, measured with VLLM_CPU_KVCACHE_SPACE=1: 0.8 GB for its API server, 0.7 GB
# for the engine, 2.5 GB for the worker. What is asked for beyond that 1 GiB of cache comes on top.
_CPU_INSTANCE = 4 * _GIB
_CPU_CACHE_WITHIN = 1
# One instance on a GPU: the same processes, whose weights and cache are the GPU's.
_GPU_INSTANCE = 4 * _GIB
# The system, the chat and nginx.
_REST = 1 * _GIB


def memory_of(variant: str, cache_gib: int) -> int:
    """Bytes of the host's memory for one instance; `cache_gib` is its VLLM_CPU_KVCACHE_SPACE."""
    if variant == "cpu":
        return _CPU_INSTANCE + max(0, cache_gib - _CPU_CACHE_WITHIN) * _GIB
    return _GPU_INSTANCE


def check_memory(
    instances: list[dict[str, Any]], variant: str, meminfo: Path = Path("/proc/meminfo")
) -> Seen:
    """Compare what all instances need with the host's memory.

    `instances` are dictionaries of `name` and `cache_gib`.
    """
    total = _total(meminfo)
    if not instances:
        return Seen(human(total))
    parts = {item["name"]: memory_of(variant, item["cache_gib"]) for item in instances}
    needed = sum(parts.values()) + _REST
    seen = Seen(f"{human(total)}, {human(needed)} needed")
    if needed > total:
        each = ", ".join(f"{name} {human(size)}" for name, size in parts.items())
        smaller = ", or lower VLLM_CPU_KVCACHE_SPACE" if variant == "cpu" else ""
        seen.findings.append(
            Finding(
                "vllm_instances",
                f"It has {human(total)} of memory; its instances need {human(needed)}: {each}, "
                f"the rest {human(_REST)}.",
                f"Give the host more memory, move an instance to another host{smaller}.",
            )
        )
    return seen


def _total(meminfo: Path) -> int:
    """Bytes of memory, from the line `MemTotal: N kB`."""
    for line in meminfo.read_text().splitlines():
        if line.startswith("MemTotal:"):
            return int(line.split()[1]) * 1024
    raise ValueError(f"{meminfo} has no MemTotal")
