# The Socket.IO client has no type information.
# mypy: disable-error-code=import-untyped
"""What closed chats leave behind: no memory, no files, and no way out of their own directory."""

from __future__ import annotations

import asyncio
import os
import sys
import time
from pathlib import Path

import pytest
from chat_process import CHAT, ChatProcess, Page, Start, get, until
from fake_upstream import Answer, FakeUpstream
from socketio.exceptions import ConnectionError as Refused

WARM_UP, CHATS, AT_ONCE = 40, 300, 20
# Short for a person, and long enough that a program that keeps it grows by more than a tenth.
ANSWER = Answer(("Paris. ", *["The capital of France. " * 1000] * 3))
# Somewhat longer than the janitor takes from one sweep to the next.
SWEEP_SECONDS = 7.0
LIMITS = {"messages_per_minute": 0, "questions_per_person": 1000}


async def number(chat: ChatProcess, name: str) -> float:
    """The value of a line of /metrics without labels."""
    for line in (await get(f"{chat.url}/metrics")).text.splitlines():
        if line.startswith(f"{name} "):
            return float(line.rpartition(" ")[2])
    raise AssertionError(f"{name} is no line of /metrics")


async def talk(chat: ChatProcess) -> None:
    """Open a chat, get one answer and close the page."""
    page = Page(chat.url)
    await page.open()
    await page.ask("Capital of France?")
    await page.sees("Paris.", 30)
    await page.ended(30)
    await page.close()


async def talk_often(chat: ChatProcess, times: int) -> float:
    """Open and close so many chats; returns the resident MiB when they are forgotten."""
    for _ in range(times // AT_ONCE):
        await asyncio.gather(*(talk(chat) for _ in range(AT_ONCE)))
    deadline = time.monotonic() + 20
    while (left := await number(chat, "gpufleet_chat_sessions")) > 0:
        assert time.monotonic() < deadline, f"{left:.0f} chats are not forgotten"
        await asyncio.sleep(0.2)
    await asyncio.sleep(SWEEP_SECONDS)
    return await number(chat, "process_resident_memory_bytes") / 2**20


async def test_closed_chats_are_forgotten(start: Start, fake: FakeUpstream) -> None:
    fake.default = ANSWER
    chat = await start(session_keep_seconds=1, **LIMITS)
    before = await talk_often(chat, WARM_UP)
    after = await talk_often(chat, CHATS)
    print(f"{before:.1f} MiB before {CHATS} chats, {after:.1f} MiB after")
    assert after <= before * 1.1


async def test_files_of_gone_sessions_are_deleted(start: Start, tmp_path: Path) -> None:
    chat = await start(session_keep_seconds=1)
    files = tmp_path / "state/app_root/.files"
    page = Page(chat.url)
    await page.open()
    assert (await page.upload("notes.txt", b"mine")).status_code == 200
    # As an upload leaves them that ends after its session.
    left = files / "00000000-0000-4000-8000-000000000000"
    left.mkdir()
    await until(lambda: not left.exists())
    assert list((files / page.session_id).iterdir()), "the file of an open page is gone"
    await page.close()
    await until(lambda: not any(files.iterdir()))


async def test_files_that_cannot_be_deleted_end_no_loop(start: Start, tmp_path: Path) -> None:
    chat = await start(session_keep_seconds=1)
    files = tmp_path / "state/app_root/.files"
    page = Page(chat.url)
    await page.open()
    # Not even root can delete a link as a directory.
    (tmp_path / "elsewhere").mkdir()
    (files / page.session_id).symlink_to(tmp_path / "elsewhere")
    await page.close()
    await until(lambda: "event=files_not_deleted" in chat.log.read_text(), 20)
    files.rename(tmp_path / "gone")
    await until(lambda: str(files) in chat.log.read_text(), 20)
    assert await number(chat, "gpufleet_chat_sessions") == 0
    assert (await get(f"{chat.url}/healthz")).status_code == 200


BROKEN_PAGE = """
import asyncio, sys, uuid
from gpufleet_chat import server
from gpufleet_chat.settings import Secrets, Settings

settings = Settings(upstream_url="http://127.0.0.1:1/v1", state_directory=sys.argv[1])
server.create_app(settings, Secrets())
from chainlit.session import WebsocketSession, ws_sessions_id
from gpufleet_chat import chainlit_presence

informed = []

async def inform(session):
    informed.append(session.id)
    if len(informed) == 1:
        raise ZeroDivisionError

async def main():
    chainlit_presence._inform = inform
    ids = [str(uuid.uuid4()) for _ in range(2)]
    for each in ids:
        WebsocketSession(each, each, None, None, {}, "webapp")
    loop = asyncio.create_task(chainlit_presence.keep_pages_informed())
    await asyncio.sleep(0.5)
    assert informed == ids, informed
    loop.cancel()
    await asyncio.wait([loop])
    assert loop.cancelled()

asyncio.run(main())
"""


async def status_of(program: str, folder: Path) -> int:
    """Run a program on Chainlit in a process of its own; the folder is its argument too."""
    environment = {**os.environ, "PYTHONPATH": str(CHAT), "CHAINLIT_APP_ROOT": str(folder)}
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", program, str(folder), env=environment
    )
    return await process.wait()


async def test_a_page_that_breaks_leaves_the_others_informed(tmp_path: Path) -> None:
    assert await status_of(BROKEN_PAGE, tmp_path) == 0


async def test_session_ids_are_no_paths(start: Start, tmp_path: Path) -> None:
    chat = await start(session_keep_seconds=1)
    for identifier in ("..", "../public", "/tmp", "", 7, None):
        page = Page(chat.url)
        page.session_id = identifier  # type: ignore[assignment]
        with pytest.raises(Refused):
            await page.open()
        await page.close()
    await asyncio.sleep(2)
    assert (tmp_path / "state/app_root/public").is_dir()


LOST = """
import asyncio, uuid
from chainlit.session import WebsocketSession, ws_sessions_id
from gpufleet_chat.chainlit_sessions import Janitor

async def main():
    WebsocketSession(str(uuid.uuid4()), "no socket", None, None, {}, "webapp")
    janitor = Janitor(0.1)
    await janitor.tidy()
    assert len(ws_sessions_id) == 1
    await asyncio.sleep(0.2)
    await janitor.tidy()
    assert not ws_sessions_id

asyncio.run(main())
"""


async def test_a_session_that_chainlit_has_lost_is_ended(tmp_path: Path) -> None:
    assert await status_of(LOST, tmp_path) == 0
