# Copyright: The gpufleet maintainers
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Download an archive with resume, prove its hash, unpack it without trusting it."""

from __future__ import annotations

import http.client
import lzma
import shutil
import stat
import tarfile
import time
import urllib.error
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import IO, Any
from urllib.parse import urlsplit

from ansible.module_utils.urls import open_url
from ansible_collections.gpufleet.llm.plugins.module_utils._model_files import (
    ModelError,
    sha256_of,
)
from ansible_collections.gpufleet.llm.plugins.module_utils._model_store import require_space

_CHUNK = 1024 * 1024
_TIMEOUT = 60  # seconds without a byte
_TRIES = 5  # in a row without a byte of progress
_PAUSE = 0.5  # seconds before the first repetition, doubled at each further one
_ZSTD = b"\x28\xb5\x2f\xfd"
_RETRIED = (408, 429, 500, 502, 503, 504)
# What the readers raise on a broken archive; RuntimeError is zipfile's word for a password.
_BROKEN = (
    tarfile.TarError,
    zipfile.BadZipFile,
    zlib.error,
    lzma.LZMAError,
    EOFError,
    RuntimeError,
)


def shown(url: str) -> str:
    """Return a URL without what may be secret in it: user, password, query."""
    parts = urlsplit(url)
    host = parts.hostname or ""
    port = f":{parts.port}" if parts.port else ""
    return f"{parts.scheme}://{host}{port}{parts.path}"


def fetch(url: str, sha256: str, archive: Path, ca_bundle: str | None) -> None:
    """Download url to archive, going on where an earlier run stopped; prove the SHA-256.

    Raises ModelError when the server refuses, the connection keeps breaking, the disk is too
    small or the hash differs (the file is removed then).
    """
    resumed = archive.exists()
    _download(url, archive, ca_bundle)
    digest = sha256_of(archive)
    if digest != sha256 and resumed:
        # The first part may be of an older file at the same address: once more from the start.
        archive.unlink()
        _download(url, archive, ca_bundle)
        digest = sha256_of(archive)
    if digest != sha256:
        archive.unlink()
        raise ModelError(
            f"The archive at {shown(url)} has SHA-256 {digest} instead of {sha256}.",
            "Find out which of the two is right before correcting url or url_sha256.",
        )


def _download(url: str, archive: Path, ca_bundle: str | None) -> None:
    tries = 0
    while True:
        before = archive.stat().st_size if archive.exists() else 0
        try:
            _continue(url, archive, before, ca_bundle)
            return
        except urllib.error.HTTPError as error:
            if error.code not in _RETRIED:
                raise ModelError(
                    f"{shown(url)} answered HTTP {error.code} {error.reason}.",
                    "Check that the host may fetch this address.",
                ) from error
            problem: Exception = error
        except (OSError, http.client.HTTPException) as error:
            problem = error
        tries = 0 if archive.exists() and archive.stat().st_size > before else tries + 1
        if tries >= _TRIES:
            raise ModelError(
                f"The download of {shown(url)} keeps breaking: {problem}.",
                "Check address, proxy and CA bundle; a new run goes on where this one stopped.",
            ) from problem
        time.sleep(_PAUSE * 2**tries)


def _continue(url: str, archive: Path, start: int, ca_bundle: str | None) -> None:
    """Fetch what is missing from start on. Raises OSError when the connection ends early."""
    headers = {"Accept-Encoding": "identity"}
    if start:
        headers["Range"] = f"bytes={start}-"
    try:
        response: Any = open_url(
            url, headers=headers, timeout=_TIMEOUT, ca_path=ca_bundle, decompress=False
        )
    except urllib.error.HTTPError as error:
        if error.code == http.client.REQUESTED_RANGE_NOT_SATISFIABLE:
            return  # nothing is missing; the hash tells whether it is the right file
        raise
    with response:
        if response.status != http.client.PARTIAL_CONTENT:
            start = 0
        length = int(response.headers.get("Content-Length") or 0)
        # The archive stays until it is unpacked, so its content needs as much again.
        require_space(archive.parent, length + start + length, f"the archive {shown(url)}")
        with archive.open("ab" if start else "wb") as target:
            shutil.copyfileobj(response, target, _CHUNK)
            received = target.tell() - start
    if received < length:
        raise OSError(f"the connection ended after {start + received} of {start + length} bytes")


def unpack(archive: Path, content: Path) -> None:
    """Unpack an archive (tar, compressed tar, zip) into the new directory content.

    A single directory at the top is stripped. Raises ModelError on anything but plain files and
    directories, on names that lead out of the directory, and when the disk is too small.
    """
    if content.exists():
        shutil.rmtree(content)
    content.mkdir()
    members = _zip_members if zipfile.is_zipfile(archive) else _tar_members
    try:
        for name, size, stream in members(archive):
            target = content / _safe_path(name)
            if target.exists():
                raise _refused(name, "stands in the archive twice")
            require_space(content, size, f"{name} of the archive")
            target.parent.mkdir(parents=True, exist_ok=True)
            with target.open("xb") as output:
                shutil.copyfileobj(stream, output, _CHUNK)
    except _BROKEN as error:
        with archive.open("rb") as start:
            zstd = start.read(4) == _ZSTD
        raise ModelError(
            f"The archive cannot be unpacked: {error}.",
            "This host's Python cannot read zstd before 3.14: pack it as tar.gz."
            if zstd
            else "It must be a whole tar (plain, gz, bz2, xz) or a zip without a password.",
        ) from error
    _strip_top(content)


def _tar_members(archive: Path) -> Iterator[tuple[str, int, IO[bytes]]]:
    with tarfile.open(archive, "r:*") as bundle:
        for member in bundle:
            if member.isdir():
                continue
            stream = bundle.extractfile(member) if member.isreg() else None
            if stream is None:
                raise _refused(member.name, "is a link or a device")
            yield member.name, member.size, stream


def _zip_members(archive: Path) -> Iterator[tuple[str, int, IO[bytes]]]:
    with zipfile.ZipFile(archive) as bundle:
        for member in bundle.infolist():
            if member.is_dir():
                continue
            kind = stat.S_IFMT(member.external_attr >> 16)
            if kind not in (0, stat.S_IFREG):
                raise _refused(member.filename, "is a link or a device")
            with bundle.open(member) as stream:
                yield member.filename, member.file_size, stream


def _safe_path(name: str) -> PurePosixPath:
    path = PurePosixPath(name)
    if path.is_absolute() or ".." in path.parts or not path.parts or "\\" in name or "\0" in name:
        raise _refused(name, "leads out of the model's directory")
    return path


def _refused(name: str, why: str) -> ModelError:
    return ModelError(
        f"The archive is refused: {name!r} {why}.",
        "Pack the model's plain files again, with relative names.",
    )


def _strip_top(content: Path) -> None:
    entries = list(content.iterdir())
    if len(entries) != 1 or not entries[0].is_dir():
        return
    inner = content.with_name("content.inner")
    entries[0].rename(inner)
    content.rmdir()
    inner.rename(content)
