# Copyright: The gpufleet maintainers
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the directory of a model revision holds, and the manifest that proves it.

The manifest is a JSON file sorted by name, one record per file with its size in bytes and its
SHA-256. It lists content only, so the same content has the same manifest whatever it came from.
"""

from __future__ import annotations

import hashlib
import json
import os
import stat
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path

MANIFEST = "manifest.json"
ORIGIN = ".origin.json"
# Files this collection adds to a revision; they are no part of its content.
OWN_FILES = frozenset({MANIFEST, ORIGIN})
# Left by version control and download tools, never part of a model.
TOOL_DIRS = (".git", ".cache/huggingface")

_HASH_THREADS = 4  # hashlib releases the interpreter lock, so threads help
_CHUNK = 4 * 1024 * 1024


class ModelError(Exception):
    """A refusal: what is wrong and, in the same message, what to do about it."""

    def __init__(self, problem: str, remedy: str) -> None:
        super().__init__(f"{problem} {remedy}")
        self.problem = problem
        self.remedy = remedy


@dataclass(frozen=True)
class Entry:
    """One file of a revision: path relative to it, size in bytes, SHA-256 in hex."""

    file: str
    size: int
    sha256: str


def scan(root: Path) -> dict[str, os.stat_result]:
    """Return every content file below root, by relative path with forward slashes.

    Raises ModelError when there is anything but plain files and directories.
    """
    found: dict[str, os.stat_result] = {}

    def fail(error: OSError) -> None:
        raise error

    for folder, dirs, files in os.walk(root, onerror=fail):
        for name in dirs + files:
            path = Path(folder, name)
            relative = path.relative_to(root).as_posix()
            status = path.lstat()
            if stat.S_ISDIR(status.st_mode):
                continue
            if not stat.S_ISREG(status.st_mode):
                raise ModelError(
                    f"{path} is neither a plain file nor a directory.",
                    "A model revision holds plain files only: replace it by the file it stands "
                    "for, or remove it.",
                )
            if relative not in OWN_FILES:
                found[relative] = status
    return found


def sha256_of(path: Path) -> str:
    """Return the SHA-256 of a file in hex."""
    digest = hashlib.sha256()
    with path.open("rb") as stream:
        while chunk := stream.read(_CHUNK):
            digest.update(chunk)
    return digest.hexdigest()


def build_manifest(root: Path) -> list[Entry]:
    """Hash every content file below root; return the entries sorted by name."""
    found = scan(root)
    names = sorted(found)
    with ThreadPoolExecutor(_HASH_THREADS) as pool:
        digests = list(pool.map(lambda name: sha256_of(root / name), names))
    return [Entry(name, found[name].st_size, digest) for name, digest in zip(names, digests)]


def manifest_bytes(entries: list[Entry]) -> bytes:
    """Return the manifest file's exact content; its SHA-256 stands for the whole revision."""
    document = {"files": [asdict(entry) for entry in entries]}
    return (json.dumps(document, indent=1, sort_keys=True) + "\n").encode()


def read_manifest(root: Path) -> list[Entry]:
    """Return the entries of root's manifest.

    Raises ValueError when it is missing, unreadable or not a manifest.
    """
    try:
        document = json.loads((root / MANIFEST).read_bytes())
        return [
            Entry(str(record["file"]), int(record["size"]), str(record["sha256"]))
            for record in document["files"]
        ]
    except (OSError, KeyError, TypeError, ValueError) as error:
        raise ValueError(f"{MANIFEST} cannot be read ({error})") from error


def find_damage(root: Path, entries: list[Entry], *, full: bool) -> list[str]:
    """Compare the files below root with the manifest's entries; return one line per difference.

    Names and sizes are always compared. Contents are hashed where the time of change is not the
    manifest's own (every file gets that time at publication), and everywhere when full is set.
    """
    found = scan(root)
    published = int((root / MANIFEST).stat().st_mtime)
    damage = [
        f"{name} is not in the manifest" for name in sorted(set(found) - {e.file for e in entries})
    ]
    suspects = []
    for entry in entries:
        status = found.get(entry.file)
        if status is None:
            damage.append(f"{entry.file} is missing")
        elif status.st_size != entry.size:
            damage.append(f"{entry.file} has {status.st_size} bytes instead of {entry.size}")
        elif full or int(status.st_mtime) != published:
            suspects.append(entry)
    with ThreadPoolExecutor(_HASH_THREADS) as pool:
        digests = list(pool.map(lambda entry: sha256_of(root / entry.file), suspects))
    damage += [
        f"{entry.file} has SHA-256 {digest} instead of {entry.sha256}"
        for entry, digest in zip(suspects, digests)
        if digest != entry.sha256
    ]
    return damage
