# Copyright: The gpufleet maintainers
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Can this host get the packages of the locks whose environments it has not built yet?"""

from __future__ import annotations

import http.client
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

from ansible_collections.gpufleet.llm.plugins.module_utils._host_finding import (
    Finding,
    Seen,
    listed,
)
from ansible_collections.gpufleet.llm.plugins.module_utils._host_network import (
    Answer,
    NotAskedError,
    Result,
    Route,
    failure,
    get,
    refusal,
    shown,
)
from ansible_collections.gpufleet.llm.plugins.module_utils._host_wheelhouse import (
    File,
    find,
    in_directory,
    in_page,
    normalize,
)

_PYPI = "https://pypi.org/simple"
_INDEX = "python_release_index_url"
_EXTRA = "python_release_extra_index_urls"
_LINKS = "python_release_find_links"
# Pages of an index are at most some MiB; this is against endless ones.
_PAGE_BYTES = 32 * 2**20
_HTML = {"Accept": "application/vnd.pypi.simple.v1+html, text/html;q=0.9"}
_NAMED = 5  # packages that a message names


@dataclass(frozen=True)
class Source:
    """Where packages come from, as the variables python_release_* say.

    `build_pins` are what source packages are built with, each as `name==version`.
    """

    route: Route
    index_url: str = field(default="", repr=False)
    extra_index_urls: tuple[str, ...] = field(default=(), repr=False)
    find_links: tuple[str, ...] = ()
    offline: bool = False
    build_pins: tuple[str, ...] = ()

    @property
    def indexes(self) -> list[tuple[str, str]]:
        """Address and variable of every index that is asked."""
        if self.offline:
            return []
        return [
            (self.index_url or _PYPI, _INDEX),
            *((url, _EXTRA) for url in self.extra_index_urls),
        ]

    @property
    def listings(self) -> list[str]:
        """Addresses of listings among the places of wheels."""
        return [place for place in self.find_links if place.startswith(("http://", "https://"))]

    @property
    def directories(self) -> list[Path]:
        """Directories of this host among the places of wheels."""
        return [
            Path(place[7:] if place.startswith("file://") else place)
            for place in self.find_links
            if place not in self.listings
        ]


@dataclass(frozen=True)
class Wanted:
    """The packages of one lock for one version of Python, each as `name==version`.

    `sample` are those of them that are looked for on indexes.
    """

    lock: str
    python: str
    pins: tuple[str, ...]
    sample: tuple[str, ...]


@dataclass(frozen=True)
class _Question:
    """One page to be asked for."""

    url: str
    variable: str


def _questions(source: Source, wanted: list[Wanted]) -> list[_Question]:
    names = dict.fromkeys(normalize(pin.split("==")[0]) for want in wanted for pin in want.sample)
    pages = [
        _Question(f"{url.rstrip('/')}/{name}/", variable)
        for url, variable in source.indexes
        for name in names
    ]
    return [*pages, *(_Question(url, _LINKS) for url in source.listings)]


def jobs(source: Source, wanted: list[Wanted]) -> dict[str, Callable[[], Answer]]:
    """What must be asked, by address."""

    def job(question: _Question) -> Callable[[], Answer]:
        return lambda: get(
            source.route, question.url, question.variable, headers=_HTML, limit=_PAGE_BYTES
        )

    return {question.url: job(question) for question in _questions(source, wanted)}


def check_packages(source: Source, wanted: list[Wanted], results: Mapping[str, Result]) -> Seen:
    """Judge what the jobs returned, and what lies in directories."""
    if not wanted:
        return Seen("every environment is built")
    seen = Seen("")
    files: list[File] = []
    unasked = []
    for directory in source.directories:
        try:
            files += in_directory(directory)
        except OSError as error:
            seen.findings.append(
                Finding(
                    _LINKS,
                    f"The directory {directory} cannot be read: {error.strerror}.",
                    f"Bring it to this host, or take it out of {_LINKS}.",
                )
            )
    for question in _questions(source, wanted):
        result = results[question.url]
        if isinstance(result, NotAskedError):
            unasked.append(str(result))
        elif isinstance(result, Exception):
            finding = failure(result, question.url, question.variable)
            seen.findings += [finding] if finding else []
        elif result.status == http.client.OK:
            files += in_page(result.body.decode(errors="replace"))
        elif not _means_absent(result, question):
            seen.findings.append(refusal(result, question.variable))
    # Every page of one index fails alike.
    seen.findings = list(dict.fromkeys(seen.findings))
    if source.offline:
        return _check_complete(source, wanted, files, seen)
    if seen.findings or unasked:
        seen.text = "; ".join(dict.fromkeys(unasked)) or "not reached"
        return seen
    return _check_sample(source, wanted, files, seen)


def _means_absent(answer: Answer, question: _Question) -> bool:
    """Whether the answer only says that an index lacks the package."""
    if question.variable == _LINKS:
        return False
    # PyTorch's indexes answer so for what they lack, and uv knows that.
    pytorch = (urlsplit(question.url).hostname or "").endswith("pytorch.org")
    return answer.status == http.client.NOT_FOUND or (
        pytorch and answer.status == http.client.FORBIDDEN
    )


def _check_sample(source: Source, wanted: list[Wanted], files: list[File], seen: Seen) -> Seen:
    places = [shown(url) for url, _variable in source.indexes] + list(source.find_links)
    found = []
    for want in wanted:
        for pin in want.sample:
            name, _equals, version = pin.partition("==")
            if find(files, pin, want.python):
                found.append(f"{name} {version}")
                continue
            seen.findings.append(
                Finding(
                    _INDEX,
                    f"{name} {version} for Python {want.python} is not to be had from "
                    f"{listed(places, 'or')}; the lock {want.lock} needs it.",
                    f"Name an index that has it in {_INDEX} or {_EXTRA}, or put it into a "
                    f"directory of {_LINKS}.",
                )
            )
    seen.text = f"{listed(places)}: {', '.join(found) or 'nothing found'}"
    return seen


def _check_complete(source: Source, wanted: list[Wanted], files: list[File], seen: Seen) -> Seen:
    if not source.find_links:
        seen.findings.append(
            Finding(
                _LINKS,
                "It is empty, and with python_release_offline packages come from there alone.",
                f"Name the directories of wheels on this host in {_LINKS}.",
            )
        )
        return seen
    texts = []
    for want in wanted:
        found = {pin: find(files, pin, want.python) for pin in want.pins}
        if any(file and file.is_source for file in found.values()):
            found.update({pin: find(files, pin, want.python) for pin in source.build_pins})
        missing = [pin for pin, file in found.items() if file is None]
        # What the lock is for says more than the first of the alphabet.
        missing.sort(key=lambda pin: pin not in want.sample)
        texts.append(f"{want.lock}: {len(found) - len(missing)} of {len(found)}")
        if missing:
            seen.findings.append(_incomplete(source, want, missing, len(found)))
    seen.text = "offline, " + ", ".join(texts)
    return seen


def _incomplete(source: Source, want: Wanted, missing: list[str], total: int) -> Finding:
    more = len(missing) - _NAMED
    named = ", ".join(missing[:_NAMED]) + (f" and {more} more" if more > 0 else "")
    places = listed(list(source.find_links))
    return Finding(
        _LINKS,
        f"{len(missing)} of {total} packages of the lock {want.lock} for Python {want.python} are "
        f"missing in {places}: {named}.",
        f"Where there is an index: python{want.python} -m pip download --no-deps --requirement "
        f"files/locks/{want.lock}.txt --requirement files/locks/build.txt --dest WHEELS; bring "
        f"WHEELS to {source.find_links[0]}.",
    )
