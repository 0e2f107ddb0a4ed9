# Copyright: The gpufleet maintainers
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which packages of a lock do directories, listings and indexes of wheels have?"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from html import unescape
from pathlib import Path
from urllib.parse import unquote, urlsplit

_HREF = re.compile(r"""href\s*=\s*["']([^"'#]+)""", re.IGNORECASE)
_SOURCE_ENDINGS = (".tar.gz", ".zip", ".tar.bz2")
_PLATFORM = re.compile(r"any|(?:linux|manylinux\w*)_x86_64")


@dataclass(frozen=True)
class File:
    """One file of a package: its name and version normalized; the tags of a wheel, else none."""

    name: str
    version: str
    tags: tuple[str, str, str] | None

    @property
    def is_source(self) -> bool:
        """Whether it must be built before it can be installed."""
        return self.tags is None


def in_directory(folder: Path) -> list[File]:
    """Packages that lie in a directory itself, as builders look for them. Raises OSError."""
    return _parsed(path.name for path in folder.iterdir())


def in_page(page: str) -> list[File]:
    """Packages that a page of an index, or another listing in HTML, links to."""
    return _parsed(
        unquote(urlsplit(unescape(link)).path).rsplit("/", 1)[-1] for link in _HREF.findall(page)
    )


def find(files: Iterable[File], pin: str, python: str) -> File | None:
    """Return the file for `pin` (`name==version`) that Python `python` can use; wheels first."""
    name, _equals, version = pin.partition("==")
    wanted = (normalize(name), _version(version))
    usable = [file for file in files if (file.name, file.version) == wanted and _fits(file, python)]
    return min(usable, key=lambda file: file.is_source, default=None)


def normalize(name: str) -> str:
    """Name of a package as indexes spell it in their addresses."""
    return re.sub(r"[-_.]+", "-", name).lower()


def _parsed(names: Iterable[str]) -> list[File]:
    return [file for file in map(_parse, names) if file]


def _parse(filename: str) -> File | None:
    if filename.endswith(".whl"):
        parts = filename[:-4].split("-")
        if len(parts) not in (5, 6):
            return None
        return File(normalize(parts[0]), _version(parts[1]), (parts[-3], parts[-2], parts[-1]))
    for ending in _SOURCE_ENDINGS:
        name, dash, version = filename[: -len(ending)].rpartition("-")
        if filename.endswith(ending) and dash:
            return File(normalize(name), _version(version), None)
    return None


def _version(text: str) -> str:
    """A version so that `1.0` equals `1`, and a local part is spelt in one way."""
    public, plus, local = text.lower().partition("+")
    trimmed = re.sub(r"^(\d+(?:\.\d+)*?)(?:\.0)+(?=$|[^\d.]|\.[^\d])", r"\1", public)
    return f"{trimmed}{plus}{re.sub(r'[-_]', '.', local)}"


def _fits(file: File, python: str) -> bool:
    """Whether CPython `python` on Linux for x86-64 can use the file."""
    if file.tags is None:
        return True
    minor = int(python.split(".")[1])
    interpreters, abis, platforms = (tag.split(".") for tag in file.tags)
    if not any(_PLATFORM.fullmatch(platform) for platform in platforms):
        return False
    exact = f"cp3{minor}"
    for tag in interpreters:
        if tag == exact and {exact, "none", "abi3"}.intersection(abis):
            return True
        kind, number = tag[:2], tag[2:]
        known = (
            number.startswith("3") and int(number[1:] or 0) <= minor if number.isdigit() else False
        )
        if known and (kind == "py" or (kind == "cp" and "abi3" in abis)):
            return True
    return False
