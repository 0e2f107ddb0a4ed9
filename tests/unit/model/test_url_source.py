"""An archive becomes a revision, whatever the line and the archive do."""

from __future__ import annotations

import hashlib
import io
import stat
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import pytest
from ansible_collections.gpufleet.llm.plugins.module_utils import _model_archive
from ansible_collections.gpufleet.llm.plugins.module_utils._model_hub import PROXY_VARIABLES

from tests.unit.model.fake_archive_server import serving

Run = Callable[..., dict[str, Any]]


@pytest.fixture(autouse=True)
def short_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_model_archive, "_PAUSE", 0.01)


def sha256(body: bytes) -> str:
    return hashlib.sha256(body).hexdigest()


Mode = Literal["w", "w:gz", "w:xz"]


def pack_tar(folder: Path, mode: Mode = "w:gz", top: str = "tiny-1.0") -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode=mode) as bundle:
        bundle.add(folder, arcname=top or ".")
    return buffer.getvalue()


def pack_zip(folder: Path) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as bundle:
        for path in sorted(folder.rglob("*")):
            bundle.write(path, path.relative_to(folder))
    return buffer.getvalue()


PACKERS: dict[str, Callable[[Path], bytes]] = {
    "tar": lambda folder: pack_tar(folder, "w"),
    "tar.gz": lambda folder: pack_tar(folder, "w:gz"),
    "tar.xz": lambda folder: pack_tar(folder, "w:xz"),
    "tar without a top directory": lambda folder: pack_tar(folder, "w:gz", top=""),
    "zip": pack_zip,
}


@pytest.mark.parametrize("packer", PACKERS)
def test_archives_of_all_kinds(run: Run, model: Path, packer: str) -> None:
    body = PACKERS[packer](model)
    with serving(body) as server:
        options = {"source": "url", "url": server.url, "url_sha256": sha256(body)}
        result = run(**options)
        assert run(**options)["changed"] is False
        assert len(server.seen) == 1
    assert result["changed"] is True
    assert result["files"] == 3
    dest = Path(result["path"])
    assert (dest / "extra/notes.txt").read_bytes() == (model / "extra/notes.txt").read_bytes()
    assert sorted(p.name for p in dest.parent.iterdir()) == ["v1"]


def test_check_mode_asks_nobody(run: Run, root: Path) -> None:
    options = {"source": "url", "url": "http://127.0.0.1:9/x", "url_sha256": "0" * 64}
    assert run(check=True, **options)["changed"] is True
    assert not root.exists()


def test_a_cut_line_is_taken_up_within_one_run(run: Run, model: Path) -> None:
    body = pack_tar(model, "w")
    with serving(body) as server:
        server.cuts = [100_000, 50_000]
        result = run(source="url", url=server.url, url_sha256=sha256(body))
        assert server.seen == [None, "bytes=100000-", "bytes=150000-"]
    assert result["changed"] is True


def test_a_busy_server_is_asked_again(run: Run, model: Path) -> None:
    body = pack_tar(model)
    with serving(body) as server:
        server.status = [503, 429]
        assert run(source="url", url=server.url, url_sha256=sha256(body))["changed"] is True


def test_an_interrupted_run_is_taken_up_by_the_next(run: Run, root: Path, model: Path) -> None:
    body = pack_tar(model, "w")
    with serving(body) as server:
        server.cuts = [120_000, 0, 0, 0, 0, 0]
        options = {"source": "url", "url": server.url, "url_sha256": sha256(body)}
        result = run(**options)
        assert "keeps breaking" in result["msg"]
        assert (root / "example/tiny/v1.partial/archive").stat().st_size == 120_000
        server.seen.clear()
        assert run(**options)["changed"] is True
        assert server.seen == ["bytes=120000-"]


def test_a_server_without_ranges_starts_over(run: Run, model: Path) -> None:
    body = pack_tar(model, "w")
    with serving(body) as server:
        server.ranges = False
        server.cuts = [100_000]
        assert run(source="url", url=server.url, url_sha256=sha256(body))["changed"] is True


def test_a_wholly_downloaded_archive_is_not_fetched_again(
    run: Run, root: Path, model: Path
) -> None:
    body = pack_tar(model, "w")
    with serving(body) as server:
        options = {"source": "url", "url": server.url, "url_sha256": sha256(body)}
        assert "failed" in run(**options, manifest_sha256="0" * 64)
        server.cuts = [0] * 9
        assert run(**options)["changed"] is True


def test_a_changed_file_behind_half_a_download(run: Run, root: Path, model: Path) -> None:
    old = b"\x01" * 200_000
    body = pack_tar(model, "w")
    with serving(old) as server:
        options = {"source": "url", "url": server.url, "url_sha256": sha256(body)}
        server.cuts = [120_000, 0, 0, 0, 0, 0]
        assert run(**options)["failed"] is True
        server.body = body
        assert run(**options)["changed"] is True


def test_what_another_request_left_is_thrown_away(run: Run, root: Path, model: Path) -> None:
    body = pack_tar(model, "w")
    with serving(body) as server:
        server.cuts = [120_000, 0, 0, 0, 0, 0]
        assert run(source="url", url=server.url, url_sha256="0" * 64)["failed"] is True
        server.seen.clear()
        assert run(source="url", url=server.url, url_sha256=sha256(body))["changed"] is True
        assert server.seen == [None]


def test_the_wrong_archive_is_refused_and_not_kept(run: Run, root: Path, model: Path) -> None:
    body = pack_tar(model)
    with serving(body) as server:
        result = run(source="url", url=server.url, url_sha256="0" * 64)
    assert f"has SHA-256 {sha256(body)} instead of {'0' * 64}" in result["msg"]
    assert not (root / "example/tiny/v1").exists()
    assert not (root / "example/tiny/v1.partial/archive").exists()


def test_a_refusal_names_the_address_without_its_secrets(run: Run) -> None:
    with serving(b"") as server:
        server.status = [403]
        url = server.url.replace("http://", "http://user:hunter2@") + "?signature=s3cret"
        result = run(source="url", url=url, url_sha256="0" * 64)
    assert "answered HTTP 403" in result["msg"]
    assert "hunter2" not in result["msg"]
    assert "s3cret" not in result["msg"]


def test_the_proxy_is_asked(run: Run, model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in PROXY_VARIABLES:
        monkeypatch.setenv(name, "http://127.0.0.1:9")  # restored after the test
    body = pack_tar(model)
    with serving(body) as server:
        proxy = server.url.split("/files")[0]
        options = {"source": "url", "url": "http://files.invalid/x", "url_sha256": sha256(body)}
        assert run(**options, proxy=proxy)["changed"] is True


def test_the_authorities_can_be_named(run: Run, model: Path, certificate: Path) -> None:
    body = pack_tar(model)
    with serving(body, certificate) as server:
        options = {"source": "url", "url": server.url, "url_sha256": sha256(body)}
        assert "certificate verify failed" in run(**options)["msg"].lower()
        assert run(**options, ca_bundle=str(certificate))["changed"] is True


def test_too_little_disk_is_seen_before_the_first_byte(run: Run, root: Path) -> None:
    with serving(b"x" * 1000) as server:
        server.announce = 1 << 50
        result = run(source="url", url=server.url, url_sha256="0" * 64)
    assert "Not enough disk space for the archive" in result["msg"]
    assert not (root / "example/tiny/v1.partial/archive").exists()


def test_the_same_revision_from_another_archive_is_refused(run: Run, model: Path) -> None:
    body = pack_tar(model)
    with serving(body) as server:
        run(source="url", url=server.url, url_sha256=sha256(body))
        result = run(source="url", url=server.url, url_sha256="0" * 64)
    assert "new revision name" in result["msg"]


def evil_tar(name: str, kind: bytes = tarfile.REGTYPE, link: str = "") -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as bundle:
        member = tarfile.TarInfo(name)
        member.type = kind
        member.linkname = link
        member.size = 4 if kind == tarfile.REGTYPE else 0
        bundle.addfile(member, io.BytesIO(b"evil"))
    return buffer.getvalue()


def evil_zip(name: str, mode: int = stat.S_IFREG | 0o644) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as bundle:
        member = zipfile.ZipInfo(name)
        member.external_attr = mode << 16
        bundle.writestr(member, b"/etc/passwd")
    return buffer.getvalue()


def twice() -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as bundle:
        for text in (b"a", b"b"):
            member = tarfile.TarInfo("config.json")
            member.size = 1
            bundle.addfile(member, io.BytesIO(text))
    return buffer.getvalue()


OUT, LINK = "leads out of the model's directory", "is a link or a device"
EVIL: dict[str, tuple[bytes, str]] = {
    "tar parent": (evil_tar("../evil"), OUT),
    "tar hidden parent": (evil_tar("a/../../evil"), OUT),
    "tar absolute": (evil_tar("/evil"), OUT),
    "tar symlink": (evil_tar("model.bin", tarfile.SYMTYPE, "/etc/passwd"), LINK),
    "tar hard link": (evil_tar("model.bin", tarfile.LNKTYPE, "/etc/passwd"), LINK),
    "tar device": (evil_tar("model.bin", tarfile.CHRTYPE), LINK),
    "tar pipe": (evil_tar("model.bin", tarfile.FIFOTYPE), LINK),
    "tar twice": (twice(), "twice"),
    "zip parent": (evil_zip("../evil"), OUT),
    "zip absolute": (evil_zip("/evil"), OUT),
    "zip symlink": (evil_zip("model.bin", stat.S_IFLNK | 0o777), LINK),
    "no archive": (b"hello", "must be a whole tar"),
    "half an archive": (evil_tar("config.json")[:60], "must be a whole tar"),
    "zstd": (b"\x28\xb5\x2f\xfd" + b"x" * 600, "pack it as tar.gz"),
}


@pytest.mark.parametrize("case", EVIL)
def test_archives_that_are_refused(run: Run, root: Path, tmp_path: Path, case: str) -> None:
    body, expected = EVIL[case]
    with serving(body) as server:
        result = run(source="url", url=server.url, url_sha256=sha256(body))
    assert result["failed"] is True
    assert expected in result["msg"]
    assert not (root / "example/tiny/v1").exists()
    assert not list(tmp_path.rglob("evil"))


def test_an_archive_bomb_meets_the_disk_check(run: Run, root: Path) -> None:
    buffer = io.BytesIO()
    member = tarfile.TarInfo("model.bin")
    member.size = 1 << 50
    buffer.write(member.tobuf())
    body = buffer.getvalue() + bytes(10240)
    with serving(body) as server:
        result = run(source="url", url=server.url, url_sha256=sha256(body))
    assert "Not enough disk space for model.bin of the archive" in result["msg"]
