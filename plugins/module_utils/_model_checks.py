# Copyright: The gpufleet maintainers
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Is a directory a model that a server could load? Finds what hashes cannot: a bad source."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

WEIGHTS = (".safetensors", ".bin", ".gguf", ".pt", ".pth")
_POINTER = b"version https://git-lfs"
_MAX_HEADER = 100 * 1024 * 1024  # bytes; the format's own limit


def find_problems(
    root: Path, names: Iterable[str], left_out: Callable[[str], bool] = lambda name: False
) -> list[str]:
    """Return one line per reason why the files named (relative to root) are not a whole model.

    An index whose shards are all `left_out` on purpose says nothing.
    """
    present = set(names)
    problems = []
    if "config.json" not in present:
        problems.append("config.json is missing")
    weights = sorted(name for name in present if name.endswith(WEIGHTS))
    if not weights:
        problems.append(f"no weights file ({', '.join('*' + end for end in WEIGHTS)})")
    for name in weights:
        problem = _weights_problem(root / name)
        if problem:
            problems.append(f"{name}: {problem}")
    for name in sorted(present):
        if name.endswith(".index.json"):
            problems += _index_problems(root / name, name, present, left_out)
    return problems


def _weights_problem(path: Path) -> str | None:
    with path.open("rb") as stream:
        start = stream.read(len(_POINTER))
    if start == _POINTER:
        return "is a Git LFS pointer, not the weights; run `git lfs pull` where it comes from"
    if path.suffix == ".gguf" and not start.startswith(b"GGUF"):
        return "is not a GGUF file"
    if path.suffix == ".safetensors":
        return _safetensors_problem(path)
    return None


def _safetensors_problem(path: Path) -> str | None:
    """Check the header and that the tensors it describes end where the file ends."""
    size = path.stat().st_size
    with path.open("rb") as stream:
        length = int.from_bytes(stream.read(8), "little")
        if size < 8 or length > min(_MAX_HEADER, size - 8):
            return f"its header does not fit into the {size} bytes of the file; it is cut short"
        try:
            header = json.loads(stream.read(length))
            ends = [
                int(tensor["data_offsets"][1])
                for name, tensor in header.items()
                if name != "__metadata__"
            ]
        except (AttributeError, KeyError, IndexError, TypeError, ValueError):
            return "its header cannot be read"
    expected = 8 + length + max(ends, default=0)
    if size != expected:
        return f"has {size} bytes but its header describes {expected}; it is cut short or damaged"
    return None


def _index_problems(
    path: Path, name: str, present: set[str], left_out: Callable[[str], bool]
) -> list[str]:
    """Check that every shard that an index of weights names is there."""
    try:
        document: Any = json.loads(path.read_bytes())
        shards = set(document["weight_map"].values())
    except (AttributeError, KeyError, TypeError, ValueError):
        # Not an index of weights: other tools use the same ending.
        return []
    folder = Path(name).parent
    paths = {str(shard): (folder / str(shard)).as_posix() for shard in shards}
    missing = sorted(shard for shard, path in paths.items() if path not in present)
    if len(missing) == len(paths) and all(map(left_out, paths.values())):
        return []
    return [f"{shard} is missing although {name} names it" for shard in missing]
