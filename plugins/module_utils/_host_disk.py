# Copyright: The gpufleet maintainers
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Is there room for the environments and models that are not on this host yet?"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from ansible_collections.gpufleet.llm.plugins.module_utils._host_finding import (
    Finding,
    Seen,
    human,
)

_MIB = 2**20
# MiB of one environment by its lock: what its packages unpack to, and the bytecode made of them.
#   vllm-cpu, chat, uv   measured with du on a test host, Python 3.11: 3450, 153 and 63 in all, of
#                        which 361, 28 and 13 are bytecode.
#   model, alert         measured with du, Python 3.11: 133 and 25 in all, of which 53 and 9 are
#                        bytecode.
#   vllm-gpu             not measured whole. Its 198 wheels for Python 3.12 are 3.68 GiB. The 24
#                        largest, 93 % of that, list files of 6.86 GiB, 2.0 times their size. The
#                        rest, 257 MiB, is taken times 3.7, as the wheels of the lock chat unpack.
#                        Bytecode as of vllm-cpu, and more for flashinfer.
ENVIRONMENT_MIB = {
    "vllm-gpu": (8200, 500),
    "vllm-cpu": (3100, 370),
    "chat": (130, 30),
    "model": (85, 55),
    "alert": (18, 10),
    "uv": (50, 15),
}
# Never to be filled: logs, caches and the package manager need some.
_SPARE = 1024 * _MIB


@dataclass(frozen=True)
class Need:
    """Bytes that would be written below `path`: for what, and the variable that chose the path."""

    path: Path
    size: int
    what: str
    variable: str


def environment_needs(lock: str, directory: Path, cache: Path) -> list[Need]:
    """Room for the environment of `lock` in `directory`, built by uv with its `cache`.

    uv unpacks into its cache, and links files from there where it can: on the same file system.
    """
    unpacked, bytecode = (size * _MIB for size in ENVIRONMENT_MIB[lock])
    what, variable = f"environment {lock}", "python_release_directory"
    if lock == "uv":
        return [Need(directory, unpacked + bytecode, what, variable)]
    copied = 0 if _device(directory) == _device(cache) else unpacked
    return [
        Need(cache, unpacked, f"uv's cache for {lock}" if copied else what, variable),
        Need(directory, copied + bytecode, what, variable),
    ]


def check_disk(needs: list[Need]) -> Seen:
    """Add up what is needed on each file system, and compare with what is free there."""
    seen = Seen("")
    by_device: dict[int, list[Need]] = {}
    for need in needs:
        by_device.setdefault(_device(need.path), []).append(need)
    texts = []
    for group in by_device.values():
        mount = mount_of(group[0].path)
        status = os.statvfs(mount)
        free, needed = status.f_bavail * status.f_frsize, sum(need.size for need in group)
        texts.append(f"{mount}: {human(needed)} needed, {human(free)} free")
        if needed + _SPARE > free:
            seen.findings.append(_finding(mount, free, group))
    seen.text = "; ".join(texts) or "nothing to add"
    return seen


def mount_of(path: Path) -> Path:
    """Mount point of the file system on which `path` is, or would be created."""
    place = _existing(path).resolve()
    for parent in place.parents:
        if parent.stat().st_dev != place.stat().st_dev:
            break
        place = parent
    return place


def size_below(folder: Path) -> int:
    """Bytes in all files below `folder`; 0 where there is none."""
    return sum(
        path.lstat().st_size
        for path in folder.rglob("*")
        if path.is_file() and not path.is_symlink()
    )


def _existing(path: Path) -> Path:
    return next(folder for folder in (path, *path.parents) if folder.exists())


def _device(path: Path) -> int:
    return _existing(path).stat().st_dev


def _finding(mount: Path, free: int, group: list[Need]) -> Finding:
    sizes: dict[str, int] = {}
    for need in group:
        sizes[need.what] = sizes.get(need.what, 0) + need.size
    parts = ", ".join(f"{what} {human(size)}" for what, size in sizes.items())
    largest = max(group, key=lambda need: need.size)
    variables = " or ".join(dict.fromkeys(need.variable for need in group))
    return Finding(
        largest.variable,
        f"{mount} has {human(free)} free; {human(sum(sizes.values()))} are needed ({parts}), "
        f"and {human(_SPARE)} to spare.",
        f"Clear or enlarge {mount}, or set {variables} to a directory on a larger file system.",
    )
