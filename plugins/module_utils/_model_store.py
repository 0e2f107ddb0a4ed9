# Copyright: The gpufleet maintainers
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Where model revisions lie on a host and how one appears there: whole, or not at all.

A revision is built below `<revision>.partial/` and renamed into place at the very end:

    content/      the files of the revision
    archive       an archive that is being downloaded
    home/         the home directory of the download tools
    origin.json   what is being fetched; work left by another request is thrown away
    lock          held while a run works here
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import shutil
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

from ansible_collections.gpufleet.llm.plugins.module_utils._model_files import (
    MANIFEST,
    ORIGIN,
    TOOL_DIRS,
    ModelError,
    build_manifest,
    manifest_bytes,
    scan,
)

DIR_MODE = 0o755
FILE_MODE = 0o644
Origin = dict[str, Any]


class Layout:
    """The paths of one model revision below the store's root."""

    def __init__(self, root: Path, name: str, revision: str) -> None:
        self.root = root
        self.dest = root / name / revision
        self.partial = self.dest.with_name(f"{revision}.partial")
        self.content = self.partial / "content"
        self.archive = self.partial / "archive"
        self.home = self.partial / "home"
        self.origin = self.partial / "origin.json"
        self.lock = self.partial / "lock"


def make_dirs(path: Path, mode: int = DIR_MODE) -> None:
    """Create a directory and its missing parents with that mode, whatever the umask is."""
    missing = [folder for folder in (path, *path.parents) if not folder.exists()]
    for folder in reversed(missing):
        folder.mkdir(exist_ok=True)
        folder.chmod(mode)


def free_bytes(path: Path) -> int:
    """Return the bytes free where path is, or where it would be created."""
    existing = next(folder for folder in (path, *path.parents) if folder.exists())
    status = os.statvfs(existing)
    return status.f_bavail * status.f_frsize


def require_space(path: Path, needed: int, what: str) -> None:
    """Raise ModelError unless the file system of path has room for needed bytes."""
    free = free_bytes(path)
    if needed > free:
        raise ModelError(
            f"Not enough disk space for {what}: {path} needs {needed} bytes ({needed >> 20} MiB), "
            f"{free} bytes ({free >> 20} MiB) are free.",
            "Remove revisions that no release uses, enlarge the file system, or set the model "
            "root to a larger one.",
        )


@contextmanager
def hold_lock(layout: Layout, wait: int) -> Iterator[IO[str]]:
    """Hold the revision's lock, waiting up to wait seconds for another run to end.

    Yields the open lock file. Raises ModelError when the other run does not end in time.
    """
    deadline = time.monotonic() + wait
    while True:
        make_dirs(layout.dest.parent)
        layout.partial.mkdir(mode=0o700, exist_ok=True)
        try:
            stream = layout.lock.open("a+")
        except FileNotFoundError:
            continue  # the run before ended between these two lines
        if _lock_now(stream) and _is_at(stream, layout.lock):
            break
        stream.seek(0)
        holder = stream.read().strip() or "unknown"
        stream.close()
        if time.monotonic() >= deadline:
            raise ModelError(
                f"Another run is working on {layout.partial} (lock held by {holder}) and did not "
                f"end within {wait} seconds.",
                "Wait for it to end and run again, or raise lock_wait.",
            )
        time.sleep(0.2)
    try:
        stream.seek(0)
        stream.truncate()
        stream.write(f"process {os.getpid()} on {socket.gethostname()}\n")
        stream.flush()
        yield stream
    finally:
        stream.close()


def _lock_now(stream: IO[str]) -> bool:
    try:
        fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _is_at(stream: IO[str], path: Path) -> bool:
    """Tell whether path still is the open file: the run before may have removed it."""
    try:
        return os.path.samestat(os.fstat(stream.fileno()), path.stat())
    except FileNotFoundError:
        return False


def prepare(layout: Layout, origin: Origin) -> None:
    """Keep what an interrupted run of the same request left; throw away anything else."""
    if read_origin(layout.origin) != origin:
        for path in layout.partial.iterdir():
            if path != layout.lock:
                _remove(path)
        layout.origin.write_text(json.dumps(origin, sort_keys=True))
    layout.home.mkdir(exist_ok=True)


def read_origin(path: Path) -> Origin | None:
    """Return the request recorded at path, None when there is none that can be read."""
    try:
        document = json.loads(path.read_bytes())
    except (OSError, ValueError):
        return None
    return document if isinstance(document, dict) else None


def import_path(layout: Layout, src: Path, *, move: bool) -> None:
    """Bring a directory of this host into the content directory.

    Links to files are followed, as caches of download tools are made of them.
    Raises ModelError when src is no directory, holds other things, or does not fit on the disk.
    """
    if not src.is_dir():
        raise ModelError(f"The source directory {src} does not exist.", "Check src and run again.")
    if layout.content.exists():
        shutil.rmtree(layout.content)
    if move:
        shutil.move(str(src), str(layout.content))
    else:
        names = source_files(src)
        needed = sum((src / name).stat().st_size for name in names)
        require_space(layout.dest, needed, f"the copy of {src}")
        layout.content.mkdir()
        for name in names:
            target = layout.content / name
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(src / name, target)
    drop_tool_dirs(layout.content)


def source_files(src: Path) -> list[str]:
    """Return the model's files below src, relative to it and sorted, links to files among them.

    Raises ModelError when there is anything that cannot be copied.
    """
    found = []
    for folder, dirs, files in os.walk(src):
        for name in dirs:
            if Path(folder, name).is_symlink():
                raise ModelError(
                    f"{Path(folder, name)} is a link to a directory.",
                    "Replace it by the directory it stands for, or remove it.",
                )
        for name in files:
            path = Path(folder, name)
            relative = path.relative_to(src).as_posix()
            if not path.is_file():
                raise ModelError(
                    f"{path} is not a plain file, or a link to nothing.",
                    "Remove it or complete the source, then run again.",
                )
            if not any(relative.startswith(f"{tool}/") for tool in TOOL_DIRS):
                found.append(relative)
    return sorted(found)


def drop_tool_dirs(content: Path) -> None:
    """Remove what version control and download tools keep beside a model's files."""
    for name in TOOL_DIRS:
        folder = content / name
        if folder.is_dir():
            shutil.rmtree(folder)
            if folder.parent != content and not any(folder.parent.iterdir()):
                folder.parent.rmdir()


def publish(layout: Layout, origin: Origin, expected_sha256: str | None) -> None:
    """Write the manifest, make everything durable and rename the content into place.

    A manifest that came with the content must agree with it. Raises ModelError when it does not,
    or when the manifest's SHA-256 is not the expected one.
    """
    entries = build_manifest(layout.content)
    document = manifest_bytes(entries)
    manifest = layout.content / MANIFEST
    if manifest.exists() and manifest.read_bytes() != document:
        raise ModelError(
            f"The source brings a {MANIFEST} that does not describe its files.",
            "If it is a copy of a published revision, the copy is damaged: copy it again. If the "
            f"model has a file of that name, leave it out (hub_exclude, or remove {MANIFEST}).",
        )
    digest = hashlib.sha256(document).hexdigest()
    if expected_sha256 and digest != expected_sha256:
        raise ModelError(
            f"The content is not the pinned one: its manifest has SHA-256 {digest}, "
            f"manifest_sha256 says {expected_sha256}.",
            f"Check the source; the new manifest can be read at {_keep(layout, document)}.",
        )
    manifest.write_bytes(document)
    (layout.content / ORIGIN).write_text(json.dumps(origin, sort_keys=True) + "\n")
    _settle(layout.content)
    layout.content.rename(layout.dest)
    _sync(layout.dest.parent)
    discard(layout)


def discard(layout: Layout) -> None:
    """Remove the working directory; the caller holds its lock."""
    # Renamed first: a waiting run may create a new one at any moment.
    gone = layout.partial.with_name(f"{layout.partial.name}.{os.getpid()}")
    layout.partial.rename(gone)
    shutil.rmtree(gone)


def _keep(layout: Layout, document: bytes) -> Path:
    """Leave a refused manifest where it can be compared with the expected one."""
    path = layout.partial / MANIFEST
    path.write_bytes(document)
    return path


def _settle(root: Path) -> None:
    """Give every file its owner, mode and common time of change, and flush all to disk."""
    now = int(time.time())
    as_root = os.geteuid() == 0
    files = [root / name for name in scan(root)] + [root / MANIFEST, root / ORIGIN]
    folders = [Path(folder) for folder, _dirs, _files in os.walk(root, topdown=False)]
    for path in files + folders:
        path.chmod(FILE_MODE if path in files else DIR_MODE)
        if as_root:
            os.chown(path, 0, 0)
        os.utime(path, (now, now))
        _sync(path)


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink()
