"""Wheels in real directories and on real pages: what is there, what is missing, what to do."""

from __future__ import annotations

from pathlib import Path

import pytest
from ansible_collections.gpufleet.llm.plugins.module_utils._host_finding import Finding, Seen
from ansible_collections.gpufleet.llm.plugins.module_utils._host_index import (
    Source,
    Wanted,
    check_packages,
    jobs,
)
from ansible_collections.gpufleet.llm.plugins.module_utils._host_network import Route, in_parallel
from ansible_collections.gpufleet.llm.plugins.module_utils._host_wheelhouse import find, in_page

from tests.free_port import free_port
from tests.unit.host_check.fake_server import FakeServer

ROUTE = Route("python_release")
INDEX, EXTRA = "python_release_index_url", "python_release_extra_index_urls"
LINKS = "python_release_find_links"
# File, pin, Python, and whether the one is a file of the other that it can use.
FILES = [
    ("six-1.17.0-py2.py3-none-any.whl", "six==1.17.0", "3.11", True),
    ("six-1.17.0-py2.py3-none-any.whl", "six==1.16.0", "3.11", False),
    ("six-1.17.0-py2-none-any.whl", "six==1.17.0", "3.11", False),
    ("torch-2.13.0+cpu-cp311-cp311-manylinux_2_28_x86_64.whl", "torch==2.13.0+cpu", "3.11", True),
    ("torch-2.13.0+cpu-cp311-cp311-manylinux_2_28_x86_64.whl", "torch==2.13.0+cpu", "3.12", False),
    ("torch-2.13.0+cpu-cp311-cp311-manylinux_2_28_x86_64.whl", "torch==2.13.0", "3.11", False),
    ("torch-2.13.0+cpu-cp311-cp311-manylinux_2_28_aarch64.whl", "torch==2.13.0+cpu", "3.11", False),
    ("torch-2.13.0+cpu-cp311-cp311-win_amd64.whl", "torch==2.13.0+cpu", "3.11", False),
    ("vllm-0.32.0-cp38-abi3-manylinux_2_28_x86_64.whl", "vllm==0.32.0", "3.13", True),
    (
        "uv-0.13.9-py3-none-manylinux_2_17_x86_64.manylinux2014_x86_64.whl",
        "uv==0.13.9",
        "3.9",
        True,
    ),
    ("numpy-2.2.0-cp313-cp313t-manylinux2014_x86_64.whl", "numpy==2.2.0", "3.13", False),
    ("a-1-cp310-none-any.whl", "a==1", "3.11", False),
    ("Typing_Extensions-4.16.0-1-py3-none-any.whl", "typing-extensions==4.16.0", "3.11", True),
    ("a-1.0-py3-none-any.whl", "a==1", "3.11", True),
    ("a-1.0.post1-py3-none-any.whl", "a==1.0.0.post1", "3.11", True),
    ("a-10-py3-none-any.whl", "a==1", "3.11", False),
    ("a-1-py312-none-any.whl", "a==1", "3.11", False),
    ("a-1-py312-none-any.whl", "a==1", "3.13", True),
    ("a-1-cp312-abi3-linux_x86_64.whl", "a==1", "3.11", False),
    ("cuid-0.4.tar.gz", "cuid==0.4", "3.11", True),
    ("cuid-0.4.exe", "cuid==0.4", "3.11", False),
    ("notes.txt", "notes==1", "3.11", False),
]


@pytest.mark.parametrize(("name", "pin", "python", "fits"), FILES)
def test_files_of_packages(name: str, pin: str, python: str, fits: bool) -> None:
    page = f'<a href="../../packages/{name.replace("+", "%2B")}#sha256=0">x</a>'
    assert (find(in_page(page), pin, python) is not None) is fits


def test_a_wheel_is_preferred_to_source() -> None:
    page = "<a href='a-1.tar.gz'>a</a><A HREF=\"https://x.example/a-1-py3-none-any.whl?k=1\">a</A>"
    found = find(in_page(page), "a==1", "3.11")
    assert found is not None
    assert not found.is_source


def wheelhouse(folder: Path, *names: str) -> Path:
    """Make a directory with empty files of these names."""
    folder.mkdir()
    for name in names:
        (folder / name).touch()
    return folder


def check(source: Source, *wanted: Wanted) -> Seen:
    return check_packages(source, list(wanted), in_parallel(jobs(source, list(wanted))))


def one(seen: Seen) -> Finding:
    (finding,) = seen.findings
    return finding


CHAT = Wanted("chat", "3.11", ("chainlit==2.12.0", "cuid==0.4"), ("chainlit==2.12.0",))
WHEEL = "chainlit-2.12.0-py3-none-any.whl"


def test_nothing_is_asked_when_everything_is_built(server: FakeServer) -> None:
    source = Source(ROUTE, index_url=server.url)
    assert check(source).findings == []
    assert server.asked == []


def test_an_index_that_has_the_package(server: FakeServer) -> None:
    server.reply("/simple/chainlit/", f'<a href="{WHEEL}">')
    seen = check(Source(ROUTE, index_url=f"{server.url}/simple/"), CHAT)
    assert (seen.findings, "chainlit 2.12.0" in seen.text) == ([], True)
    assert [path for path, _headers in server.asked] == ["/simple/chainlit/"]


@pytest.mark.parametrize("place", ["extra", "directory", "listing"])
def test_other_places_may_have_it(server: FakeServer, tmp_path: Path, place: str) -> None:
    server.reply("/extra/chainlit/", f'<a href="{WHEEL}">')
    server.reply("/files/", f'<a href="{WHEEL}">')
    folder = wheelhouse(tmp_path / "wheels", WHEEL)
    source = Source(
        ROUTE,
        index_url=f"{server.url}/simple",
        extra_index_urls=(f"{server.url}/extra",) if place == "extra" else (),
        find_links={"directory": (f"file://{folder}",), "listing": (f"{server.url}/files/",)}.get(
            place, ()
        ),
    )
    assert check(source, CHAT).findings == []


def test_an_index_that_lags_behind(server: FakeServer) -> None:
    server.reply("/simple/chainlit/", '<a href="chainlit-2.11.0-py3-none-any.whl">')
    address = server.url.replace("//", "//me:secret@")
    finding = one(check(Source(ROUTE, index_url=f"{address}/simple"), CHAT))
    assert finding.variable == INDEX
    assert finding.problem == (
        f"chainlit 2.12.0 for Python 3.11 is not to be had from {server.url}/simple; "
        "the lock chat needs it."
    )


@pytest.mark.parametrize("status", [401, 403, 500, 503])
def test_an_index_that_refuses(server: FakeServer, status: int) -> None:
    server.reply("/simple/chainlit/", status=status)
    finding = one(check(Source(ROUTE, index_url=f"{server.url}/simple"), CHAT))
    assert (finding.variable, f"status {status}" in finding.problem) == (INDEX, True)


def test_an_index_that_is_not_there_is_told_once() -> None:
    address = f"127.0.0.1:{free_port()}"
    other = Wanted("model", "3.11", ("modelscope==1",), ("modelscope==1",))
    source = Source(
        ROUTE, index_url="https://index.invalid/simple", extra_index_urls=(f"http://{address}",)
    )
    first, second = check(source, CHAT, other).findings
    assert (first.variable, "index.invalid" in first.problem) == (INDEX, True)
    assert (second.variable, second.problem) == (EXTRA, f"{address} refuses the connection.")


@pytest.mark.parametrize("offline", [False, True])
def test_a_directory_that_is_not_there(server: FakeServer, tmp_path: Path, offline: bool) -> None:
    server.reply("/chainlit/", f'<a href="{WHEEL}">')
    folder = wheelhouse(tmp_path / "wheels", WHEEL, "cuid-0.4-py3-none-any.whl")
    source = Source(
        ROUTE, index_url=server.url, find_links=(str(folder), "/nowhere"), offline=offline
    )
    finding = one(check(source, CHAT))
    assert finding.variable == LINKS
    assert finding.problem == "The directory /nowhere cannot be read: No such file or directory."


def test_offline_asks_no_index(server: FakeServer, tmp_path: Path) -> None:
    folder = wheelhouse(tmp_path / "wheels", WHEEL, "cuid-0.4-py3-none-any.whl")
    source = Source(ROUTE, index_url=server.url, find_links=(str(folder),), offline=True)
    assert check(source, CHAT).text == "offline, chat: 2 of 2"
    assert server.asked == []


def test_offline_without_directories() -> None:
    assert "It is empty" in one(check(Source(ROUTE, offline=True), CHAT)).problem


def test_offline_names_what_is_missing(tmp_path: Path) -> None:
    folder = wheelhouse(tmp_path / "wheels", "a-1-cp312-cp312-linux_x86_64.whl")
    pins = tuple(f"{letter}==1" for letter in "abcdefgh")
    source = Source(ROUTE, find_links=(str(folder),), offline=True)
    finding = one(check(source, Wanted("vllm-gpu", "3.12", pins, ("h==1",))))
    assert finding.variable == LINKS
    assert finding.problem == (
        "7 of 8 packages of the lock vllm-gpu for Python 3.12 are missing in "
        f"{folder}: h==1, b==1, c==1, d==1, e==1 and 2 more."
    )
    assert "python3.12 -m pip download" in finding.remedy
    # The same wheel is of no use to another Python.
    other = one(check(source, Wanted("vllm-gpu", "3.13", pins, ())))
    assert "8 of 8" in other.problem


def test_offline_sources_need_what_builds_them(tmp_path: Path) -> None:
    folder = wheelhouse(tmp_path / "wheels", WHEEL, "cuid-0.4.tar.gz")
    source = Source(
        ROUTE, find_links=(str(folder),), offline=True, build_pins=("setuptools==84.2.1",)
    )
    assert "missing in" in one(check(source, CHAT)).problem
    assert "setuptools==84.2.1" in one(check(source, CHAT)).problem
    (folder / "setuptools-84.2.1-py3-none-any.whl").touch()
    assert check(source, CHAT).findings == []
