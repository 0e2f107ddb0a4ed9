"""What an attacker without a login may send, against the real application: all of it is refused."""

from __future__ import annotations

import asyncio
import io
import socket
import time
import zipfile
import zlib
from pathlib import Path

import httpx
import pytest
from chat_process import ChatProcess, Page, Start, get
from fake_upstream import FakeUpstream
from gpufleet_chat.bounds import KEPT_UPLOADS
from pdf import page as drawing

EVIL = "http://evil.example"
MIB = 1024 * 1024


def files_below(directory: Path) -> set[str]:
    return {str(path) for path in directory.rglob("*") if path.is_file()}


async def opened(chat: ChatProcess, language: str = "en-US") -> Page:
    page = Page(chat.url, language)
    await page.open()
    return page


async def raw(chat: ChatProcess, request: bytes, seconds: float = 5) -> bytes:
    """What comes back for bytes that no well-behaved client sends."""
    reader, writer = await asyncio.open_connection("127.0.0.1", chat.port)
    writer.write(request)
    async with asyncio.timeout(seconds):
        answer = await reader.read(65536)
    writer.close()
    return answer


@pytest.mark.parametrize("origin", [EVIL, "null", "http://127.0.0.1.evil.example", "file://"])
async def test_foreign_origin_by_every_way(start: Start, origin: str) -> None:
    chat = await start()
    polling = f"{chat.url}/ws/socket.io/?EIO=4&transport=polling"
    for address in (chat.url, f"{chat.url}/project/settings", polling):
        assert (await get(address, origin=origin)).status_code == 403, address
    async with httpx.AsyncClient(trust_env=False) as client:
        for address in (polling, f"{chat.url}/project/action", f"{chat.url}/project/file"):
            answer = await client.post(address, headers={"origin": origin})
            assert answer.status_code == 403, address
    handshake = (
        f"GET /ws/socket.io/?EIO=4&transport=websocket HTTP/1.1\r\nHost: 127.0.0.1:{chat.port}\r\n"
        "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"
        f"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nOrigin: %s\r\n\r\n"
    )
    assert (await raw(chat, (handshake % origin).encode())).startswith(b"HTTP/1.1 403")
    own = await raw(chat, (handshake % chat.url).encode())
    assert own.startswith(b"HTTP/1.1 101")


async def test_too_long_question_gets_a_word_and_the_connection_stays(
    start: Start, fake: FakeUpstream
) -> None:
    chat = await start(message_max_chars=1000)
    page = await opened(chat)
    await page.ask("x" * 1001)
    await page.sees("too long for the assistant")
    await page.ended()
    assert fake.requests == []
    # Asking the same again would help nobody.
    assert [action for action in page.actions if action["name"] == "retry"] == []
    await page.ask("x" * 1000)
    await page.sees("Paris.")
    assert fake.requests[0]["messages"] == [{"role": "user", "content": "x" * 1000}]
    await page.close()


async def test_the_longest_question_has_room_in_the_connection(
    start: Start, fake: FakeUpstream
) -> None:
    chat = await start(message_max_chars=300_000)
    page = await opened(chat)
    # Six bytes each, as JSON of Python and some browsers writes it.
    await page.ask("\x01" * 300_000)
    await page.sees("Paris.")
    assert len(fake.requests[0]["messages"][0]["content"]) == 300_000
    await page.close()


async def test_what_no_page_sends_ends_one_connection_only(
    start: Start, fake: FakeUpstream
) -> None:
    chat = await start()
    page, other = await opened(chat), await opened(chat)
    await page.ask("x" * 20 * MIB)
    with pytest.raises(TimeoutError):
        await page.ended(1)
    await other.ask("first")
    await other.sees("Paris.")
    assert len(fake.requests) == 1
    await other.close()


async def test_uploads_that_nobody_asks_about_do_not_fill_the_disk(
    start: Start, tmp_path: Path
) -> None:
    chat = await start(upload_max_mib=1, session_keep_seconds=1)
    page = await opened(chat)
    assert (await page.upload("a.txt", b"x")).status_code == 200
    # A hole takes no disk, and counts as what it would be.
    own = tmp_path / "state" / "app_root" / ".files" / page.session_id
    with (own / "large.txt").open("wb") as large:
        large.truncate(KEPT_UPLOADS * MIB - 1)
    assert (await page.upload("a.txt", b"x")).status_code == 200
    refused = await page.upload("a.txt", b"x")
    assert refused.status_code == 507
    assert "no room for more files" in refused.json()["detail"]
    # Those of a closed page make room.
    await page.close()
    other, deadline = await opened(chat), time.monotonic() + 30
    while (await other.upload("a.txt", b"x")).status_code != 200:
        assert time.monotonic() < deadline
        await asyncio.sleep(0.5)
    await other.close()


async def test_too_large_bodies_are_refused_before_they_are_read(start: Start) -> None:
    chat = await start(upload_max_mib=1)
    page = await opened(chat)
    assert (await page.upload("a.txt", b"x" * MIB)).status_code == 200
    # By Chainlit, which has read it all.
    assert (await page.upload("a.txt", b"x" * (MIB + 1))).status_code == 400
    assert (await page.upload("a.txt", b"x" * 3 * MIB)).status_code == 413
    head = f"HTTP/1.1\r\nHost: 127.0.0.1:{chat.port}\r\n"
    for path in (f"/project/file?session_id={page.session_id}", "/project/action", "/login"):
        told = f"POST {path} {head}Content-Length: {10**12}\r\n\r\n"
        assert (await raw(chat, told.encode())).startswith(b"HTTP/1.1 413"), path
    # Without a length it is counted as it comes.
    chunk = b"10000\r\n" + b"x" * 65536 + b"\r\n"
    form = "Content-Type: multipart/form-data; boundary=b\r\nTransfer-Encoding: chunked\r\n\r\n"
    start_of_file = b'--b\r\nContent-Disposition: form-data; name="file"; filename="a"\r\n\r\n'
    first = f"{len(start_of_file):x}\r\n".encode() + start_of_file + b"\r\n"
    path = f"/project/file?session_id={page.session_id}"
    sent = f"POST {path} {head}{form}".encode() + first + chunk * 40
    assert (await raw(chat, sent)).startswith(b"HTTP/1.1 413")
    await page.close()


async def test_too_many_files_are_refused_in_words(start: Start, fake: FakeUpstream) -> None:
    chat = await start()
    page = await opened(chat)
    files = [(await page.upload(f"{n}.txt", b"x")).json()["id"] for n in range(6)]
    await page.ask("What are they?", files=files)
    await page.sees("at most 5 files")
    await page.ended()
    assert fake.requests == []
    await page.ask("What are they?", files=files[:5])
    await page.sees("Paris.")
    await page.close()


def archive() -> bytes:
    target = io.BytesIO()
    with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED) as file:
        file.writestr("a.txt", b"0" * 8 * MIB)
    return target.getvalue()


def bomb() -> bytes:
    """A PDF of a few KiB whose only page is drawn by 512 MiB."""
    packer = zlib.compressobj(9)
    once = b"".join(packer.compress(b"BT (xxxx) Tj ET " * 65536) for _ in range(512))
    twice = zlib.compress(once + packer.flush(), 9)
    return drawing(twice, b"/Filter [/FlateDecode /FlateDecode]")


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("program.txt", b"\x7fELF\x02\x01\x01\0" + b"\0" * 100),
        ("picture.txt", b"\x89PNG\r\n\x1a\n\0\0"),
        ("bomb.zip", archive()),
        ("bomb.pdf", bomb()),
    ],
)
async def test_files_that_are_not_what_can_be_read(
    start: Start, fake: FakeUpstream, name: str, content: bytes
) -> None:
    chat = await start()
    page = await opened(chat)
    # The type that the sender claims counts for nothing.
    file = (await page.upload(name, content, "text/plain")).json()["id"]
    started = time.monotonic()
    await page.ask("What is it?", files=[file])
    await page.until(lambda: any("your question was not asked" in t for t in page.texts()), 35)
    assert time.monotonic() - started < 35
    assert fake.requests == []
    assert (await get(f"{chat.url}/readyz")).status_code == 200
    await page.close()


async def test_file_of_another_chat_is_out_of_reach(start: Start, fake: FakeUpstream) -> None:
    chat = await start()
    mine, theirs = await opened(chat), await opened(chat)
    file = (await theirs.upload("secret.txt", b"sesame")).json()["id"]
    address = f"{chat.url}/project/file/{file}?session_id="
    assert (await get(address + theirs.session_id)).status_code == 200
    assert (await get(address + mine.session_id)).status_code == 404
    await mine.ask("What is it?", files=[file])
    await mine.ended()
    assert "sesame" not in str(fake.requests)
    await mine.close()
    await theirs.close()


@pytest.mark.parametrize(
    "step", ["..", "%2e%2e", "..%2f", "%252e%252e", "..\\", "%5c..%5c", "....//"]
)
async def test_no_path_leads_out(start: Start, tmp_path: Path, step: str) -> None:
    chat = await start()
    page = await opened(chat)
    (tmp_path / "state" / "planted").write_text("planted-secret")
    (tmp_path / "planted").write_text("planted-secret")
    for base in ("/public/", "/assets/", "/project/file/", "/avatars/", "/public/elements/"):
        for depth in (1, 2, 3, 4):
            for name in ("planted", "settings.json", ".chainlit/config.toml"):
                path = f"{base}{f'{step}/' * depth}{name}?session_id={page.session_id}"
                head = f"Host: 127.0.0.1:{chat.port}\r\nConnection: close\r\n\r\n"
                answer = await raw(chat, f"GET {path} HTTP/1.1\r\n{head}".encode("latin-1"))
                assert b"planted-secret" not in answer, path
                assert b"upstream_url" not in answer, path
                assert b"[project]" not in answer, path
    for name in ("/etc/passwd", "//etc/passwd", "%2fetc%2fpasswd"):
        assert b"root:" not in (await get(f"{chat.url}/public/{name}")).content
    await page.close()


@pytest.mark.parametrize(
    "name", ["../../planted.txt", f"{Path(__file__).parent}/planted.txt", "..\\planted.txt", "a\0b"]
)
async def test_name_of_a_file_is_no_path(start: Start, tmp_path: Path, name: str) -> None:
    chat = await start()
    page = await opened(chat)
    before = files_below(tmp_path)
    await page.upload(name, b"planted")
    assert all("/.files/" in path for path in files_below(tmp_path) - before)
    assert not [path for path in files_below(Path(__file__).parent) if "planted" in path]
    await page.close()


async def test_requests_that_never_end_hold_up_nobody(start: Start) -> None:
    chat = await start()
    slow = []
    for _ in range(200):
        client = socket.create_connection(("127.0.0.1", chat.port))
        client.send(b"POST /project/action HTTP/1.1\r\nHost: x\r\n")
        slow.append(client)
    started = time.monotonic()
    assert (await get(f"{chat.url}/readyz")).status_code == 200
    assert time.monotonic() - started < 2
    for client in slow:
        client.close()


@pytest.mark.parametrize(
    "body",
    [
        {"sessionId": "none", "action": {"name": "retry", "payload": {}}},
        {"sessionId": None},
        {"sessionId": "none", "action": {"name": "../../x"}},
    ],
)
async def test_forged_button_does_nothing(
    start: Start, fake: FakeUpstream, body: dict[str, object]
) -> None:
    chat = await start()
    async with httpx.AsyncClient(trust_env=False) as client:
        answer = await client.post(f"{chat.url}/project/action", json=body)
    assert answer.status_code >= 400
    assert "Traceback" not in answer.text
    assert fake.requests == []
