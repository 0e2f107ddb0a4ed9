"""The store of the history, the same on both databases."""

from __future__ import annotations

import asyncio
import contextlib
import sqlite3
import subprocess
import sys
import time
import uuid
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
from chat_process import CHAT
from gpufleet_chat.history import FILE_NAME, History
from gpufleet_chat.history_backup import BackupError, back_up
from gpufleet_chat.history_engine import file_engine, server_engine
from gpufleet_chat.history_schema import MIGRATIONS, elements, feedback, steps, tables, threads
from gpufleet_chat.history_store import Element, HistoryStore, NotOwnerError, Step
from gpufleet_chat.services import build
from gpufleet_chat.settings import Secrets, SettingsError, parse_settings
from postgresql import PostgreSQL
from sqlalchemy import Connection, func, select, text
from sqlalchemy.ext.asyncio import AsyncEngine

THREAD = str(uuid.uuid4())


@pytest.fixture(scope="module")
def server() -> Iterator[PostgreSQL]:
    """A running PostgreSQL server."""
    server = PostgreSQL()
    try:
        server.start()
        yield server
    finally:
        server.remove()


@pytest.fixture(params=["sqlite", "postgresql"])
async def engine(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[AsyncEngine]:
    """An empty database of each kind."""
    if request.param == "sqlite":
        engine = file_engine(tmp_path / FILE_NAME)
    else:
        engine = server_engine(request.getfixturevalue("server").url)
        async with engine.begin() as connection:
            await connection.execute(text("DROP SCHEMA public CASCADE"))
            await connection.execute(text("CREATE SCHEMA public"))
    yield engine
    await engine.dispose()


@pytest.fixture
async def store(engine: AsyncEngine) -> HistoryStore:
    """An open store."""
    store = HistoryStore(engine)
    await store.open()
    return store


def step(said: str = "Hello", identifier: str | None = None, **more: object) -> Step:
    number = time.time()
    values: dict[str, object] = {"parent_id": None, "kind": "user_message", "name": "ann"}
    values |= {"text": said, "created_at": number, **more}
    return Step(identifier or str(uuid.uuid4()), **values)  # type: ignore[arg-type]


async def test_what_was_kept_is_there(store: HistoryStore) -> None:
    await store.keep_user("ann", {"provider": "header"})
    await store.begin_thread("ann", THREAD, "Hello\n there", {"choices": {"temperature": 0.5}})
    question = step("Hello 你好 \0 \ud800", details={"language": None, "metadata": {"a": [1]}})
    answer = step("Hi", kind="assistant_message", parent_id=question.id)
    await store.keep_step("ann", THREAD, question, begins=True)
    await store.keep_step("ann", THREAD, answer)
    await store.keep_sent_text("ann", THREAD, question.id, "file, Hello")
    file = Element(str(uuid.uuid4()), question.id, "file", "a.txt", "text/plain")
    await store.keep_element("ann", THREAD, file)
    rating, turned = await store.rate("ann", answer.id, 0, "No.")
    assert turned
    assert await store.rate("ann", answer.id, 0, "No, no.") == (
        type(rating)(rating.id, 0, "No, no."),
        False,
    )
    thread = await store.thread("ann", THREAD)
    assert thread is not None
    assert (thread.name, thread.details) == ("Hello there", {"choices": {"temperature": 0.5}})
    asked, said = thread.steps
    assert asked.text == "Hello 你好 \N{REPLACEMENT CHARACTER} ?"
    assert (asked.sent_text, asked.details) == ("file, Hello", question.details)
    assert said.rating is not None
    assert said.rating.comment == "No, no."
    assert thread.elements == [file]
    assert await store.sent_texts("ann", THREAD) == {question.id: "file, Hello"}
    user = await store.user("ann")
    assert user is not None
    assert user.details == {"provider": "header"}


async def test_a_thread_without_a_name_has_that_of_its_next_question(
    store: HistoryStore,
) -> None:
    await store.keep_step("ann", THREAD, step("One\nmore"), begins=True)
    assert [item.name for item in await store.names("ann", 5)] == ["One more"]
    assert await store.names("ann", 5, search="ONE")
    # A name stays.
    await store.keep_step("ann", THREAD, step("Two"), begins=True)
    assert [item.name for item in await store.names("ann", 5)] == ["One more"]


async def test_a_step_kept_again_is_replaced(store: HistoryStore) -> None:
    question = step("one")
    await store.keep_step("ann", THREAD, question, begins=True)
    await store.keep_sent_text("ann", THREAD, question.id, "file, one")
    # What was sent stays with the text that it was sent for.
    for typed, sent in (("one", "file, one"), ("two", None)):
        await store.keep_step("ann", THREAD, step(typed, question.id))
        thread = await store.thread("ann", THREAD)
        assert thread is not None
        assert [(item.text, item.sent_text) for item in thread.steps] == [(typed, sent)]


async def test_a_step_goes_with_all_below_it(store: HistoryStore) -> None:
    question = step()
    run = step(kind="run", parent_id=question.id)
    answer = step(kind="assistant_message", parent_id=run.id)
    other = step("next")
    for each in (question, run, answer, other):
        await store.keep_step("ann", THREAD, each, begins=True)
    await store.rate("ann", answer.id, 1, None)
    await store.delete_step("ann", THREAD, question.id)
    thread = await store.thread("ann", THREAD)
    assert thread is not None
    assert [item.text for item in thread.steps] == ["next"]


async def test_all_of_a_thread_goes_with_it(store: HistoryStore, engine: AsyncEngine) -> None:
    question = step()
    await store.keep_step("ann", THREAD, question, begins=True)
    await store.rate("ann", question.id, 1, None)
    await store.keep_element(
        "ann", THREAD, Element(str(uuid.uuid4()), question.id, "file", "a.txt", None)
    )
    await store.delete_thread("ann", THREAD)
    async with engine.connect() as connection:
        for table in (threads, steps, elements, feedback):
            found = await connection.execute(select(func.count()).select_from(table))
            assert found.scalar_one() == 0, table.name


async def test_nothing_of_another_person_can_be_had_or_changed(store: HistoryStore) -> None:
    question = step()
    await store.begin_thread("ann", THREAD, "Mine", {})
    await store.keep_step("ann", THREAD, question, begins=True)
    rating, _ = await store.rate("ann", question.id, 1, None)
    file = Element(str(uuid.uuid4()), question.id, "file", "a.txt", None)
    await store.keep_element("ann", THREAD, file)
    before = await store.thread("ann", THREAD)
    await store.keep_user("eve", {})
    own = str(uuid.uuid4())
    await store.begin_thread("eve", own, "Eve's", {})

    assert await store.names("eve", 10, None, "Mine") == []
    assert not await store.owns("eve", THREAD)
    assert await store.thread("eve", THREAD) is None
    assert await store.element("eve", THREAD, file.id) is None
    assert await store.sent_texts("eve", THREAD) == {}
    for attempt in (
        store.begin_thread("eve", THREAD, "Eve's", {}),
        store.rename("eve", THREAD, "Eve's"),
        store.delete_thread("eve", THREAD),
        store.keep_step("eve", THREAD, step("forged"), begins=True),
        # Into her own thread, under the id of another's step.
        store.keep_step("eve", own, step("forged", question.id), begins=True),
        store.keep_element("eve", THREAD, file),
        store.keep_element("eve", own, file),
        store.rate("eve", question.id, 0, "forged"),
        store.take_rating_back("eve", rating.id),
    ):
        with pytest.raises(NotOwnerError):
            await attempt
    await store.keep_details("eve", THREAD, {"forged": True})
    await store.keep_sent_text("eve", THREAD, question.id, "forged")
    await store.keep_sent_text("eve", own, question.id, "forged")
    await store.delete_step("eve", THREAD, question.id)
    await store.delete_step("eve", own, question.id)
    await store.delete_element("eve", THREAD, file.id)
    await store.delete_element("eve", own, file.id)
    assert await store.thread("ann", THREAD) == before


async def test_an_answer_does_not_bring_a_deleted_thread_back(store: HistoryStore) -> None:
    question = step()
    await store.keep_step("ann", THREAD, question, begins=True)
    await store.delete_thread("ann", THREAD)
    with pytest.raises(NotOwnerError):
        await store.keep_step("ann", THREAD, step(kind="assistant_message"))
    assert await store.count() == 0


async def test_names_come_newest_first_in_pages(store: HistoryStore) -> None:
    identifiers = [str(uuid.uuid4()) for _ in range(7)]
    for number, thread in enumerate(identifiers):
        await store.begin_thread("ann", thread, f"ÄRGER {number} 100%_", {})
    listed: list[str] = []
    before = None
    while page := await store.names("ann", 3, before):
        listed += [name.id for name in page]
        before = (page[-1].updated_at, page[-1].id)
    assert listed == identifiers[::-1]
    assert len(await store.names("ann", 10, None, "ärger 3")) == 1
    assert len(await store.names("ann", 10, None, "0%_")) == 7
    assert await store.names("ann", 10, None, "1_0") == []
    # Something said makes an old one new.
    await store.keep_step("ann", identifiers[0], step(), begins=True)
    assert (await store.names("ann", 1))[0].id == identifiers[0]


async def test_old_threads_go_in_batches(store: HistoryStore, engine: AsyncEngine) -> None:
    history = await opened(store, days=30)
    identifiers = [str(uuid.uuid4()) for _ in range(50)]
    for thread in identifiers:
        await store.keep_step("ann", thread, step("word " * 2000), begins=True)
    old = time.time() - 31 * 86_400
    async with engine.begin() as connection:
        statement = text("UPDATE threads SET updated_at = :old WHERE id != :kept")
        await connection.execute(statement, {"old": old, "kept": identifiers[7]})
    size = await pages(engine)
    assert await history.clean() == 49
    assert [name.id for name in await store.names("ann", 100)] == [identifiers[7]]
    assert size == 0 or await pages(engine) < size / 3
    # 0 keeps them for ever.
    async with engine.begin() as connection:
        await connection.execute(text("UPDATE threads SET updated_at = 0"))
    forever = await opened(store, days=0)
    assert await forever.clean() == 0
    assert await store.count() == 1


async def test_a_newer_schema_serves_an_older_app(engine: AsyncEngine) -> None:
    def second(connection: Connection) -> None:
        connection.execute(text("ALTER TABLE threads ADD COLUMN pinned INTEGER DEFAULT 0"))
        connection.execute(text("CREATE TABLE more (id INTEGER PRIMARY KEY)"))

    store = HistoryStore(engine)
    assert await store.open() == 1
    await store.keep_step("ann", THREAD, step(), begins=True)
    newer = [*MIGRATIONS, second]
    assert await store.open(newer) == 2
    assert await store.open(newer) == 2
    # Rolled back: the older app knows nothing of what was added, and leaves it alone.
    assert await store.open() == 2
    await store.keep_step("ann", THREAD, step("again"), begins=True)
    await store.begin_thread("ann", str(uuid.uuid4()), "New", {})
    async with engine.connect() as connection:
        assert (await connection.execute(text("SELECT count(*) FROM more"))).scalar_one() == 0
        pinned = (await connection.execute(text("SELECT pinned FROM threads"))).scalars().all()
    assert set(pinned) == {0}
    thread = await store.thread("ann", THREAD)
    assert thread is not None
    assert len(thread.steps) == 2


async def test_a_migration_is_done_wholly_or_not_at_all(engine: AsyncEngine) -> None:
    def broken(connection: Connection) -> None:
        connection.execute(text("ALTER TABLE threads ADD COLUMN pinned INTEGER"))
        raise RuntimeError("in the middle")

    store = HistoryStore(engine)
    await store.open()
    with pytest.raises(RuntimeError):
        await store.open([*MIGRATIONS, broken])
    assert await store.open() == 1
    async with engine.connect() as connection:
        names = (await connection.execute(text("SELECT * FROM threads"))).keys()
    assert "pinned" not in names


async def test_two_apps_may_open_it_at_once(engine: AsyncEngine) -> None:
    stores = [HistoryStore(engine) for _ in range(4)]
    assert await asyncio.gather(*(store.open() for store in stores)) == [1, 1, 1, 1]


def test_released_migrations_stay_as_they_are() -> None:
    # What a new app makes anew must be what an older one has got step by step: a column added to
    # the tables needs a migration of its own, and then this list grows.
    columns = {name: list(table.columns.keys()) for name, table in tables.tables.items()}
    assert len(MIGRATIONS) == 1
    assert columns == {
        "users": ["id", "identifier", "created_at", "details"],
        "threads": [
            "id",
            "user_id",
            "name",
            "folded_name",
            "created_at",
            "updated_at",
            "page_id",
            "details",
        ],
        "steps": [
            "id",
            "thread_id",
            "parent_id",
            "kind",
            "name",
            "text",
            "sent_text",
            "created_at",
            "details",
        ],
        "elements": ["id", "thread_id", "step_id", "kind", "name", "mime"],
        "feedback": ["id", "step_id", "value", "comment", "created_at"],
        "schema_version": ["version"],
    }


async def test_a_file_is_private_and_safe_to_crash(tmp_path: Path) -> None:
    path = tmp_path / FILE_NAME
    path.touch(0o644)
    engine = file_engine(path)
    store = HistoryStore(engine)
    await store.open()
    for file in sorted(tmp_path.iterdir()):  # noqa: ASYNC240
        assert file.stat().st_mode & 0o777 == 0o600, file
    async with engine.connect() as connection:
        for pragma, value in {
            "journal_mode": "wal",
            "foreign_keys": 1,
            "busy_timeout": 5000,
            "auto_vacuum": 2,
            "secure_delete": 1,
        }.items():
            found = (await connection.exec_driver_sql(f"PRAGMA {pragma}")).scalar_one()
            assert found == value, pragma
    await store.close()


async def test_deleted_text_leaves_the_file(tmp_path: Path) -> None:
    store = HistoryStore(file_engine(tmp_path / FILE_NAME))
    await store.open()
    await store.keep_step("ann", THREAD, step("a very private word"), begins=True)
    await store.delete_thread("ann", THREAD)
    await store.close()
    assert b"very private" not in (tmp_path / FILE_NAME).read_bytes()


async def test_a_backup_is_whole_while_people_write(tmp_path: Path) -> None:
    store = HistoryStore(file_engine(tmp_path / FILE_NAME))
    await store.open()
    for _ in range(100):
        await store.keep_step("ann", THREAD, step("word " * 2000), begins=True)
    settings = tmp_path / "settings.json"
    settings.write_text(f'{{"upstream_url": "http://x/v1", "state_directory": "{tmp_path}"}}')
    target = tmp_path / "copy.sqlite3"
    backup = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "gpufleet_chat", "--backup", str(target), str(settings), cwd=CHAT
    )
    written = 0
    while backup.returncode is None:
        await store.keep_step("ann", THREAD, step(), begins=True)
        written += 1
        await asyncio.sleep(0.001)
    await store.close()
    assert backup.returncode == 0
    assert written > 10
    assert target.stat().st_mode & 0o777 == 0o600
    with contextlib.closing(sqlite3.connect(target)) as copy:
        assert copy.execute("PRAGMA integrity_check").fetchone() == ("ok",)
        assert copy.execute("SELECT count(*) FROM steps").fetchone()[0] >= 100
        assert copy.execute("PRAGMA journal_mode").fetchone() == ("delete",)
    # It can be put in the place of the history.
    target.replace(tmp_path / "restored.sqlite3")
    restored = HistoryStore(file_engine(tmp_path / "restored.sqlite3"))
    assert await restored.open() == 1
    assert await restored.owns("ann", THREAD)
    await restored.close()


def test_a_backup_overwrites_nothing_and_names_the_remedy(tmp_path: Path) -> None:
    with pytest.raises(BackupError, match="no history at"):
        back_up(tmp_path / "none", tmp_path / "copy")
    assert not (tmp_path / "copy").exists()
    sqlite3.connect(tmp_path / "source").close()
    (tmp_path / "copy").write_text("precious")
    with pytest.raises(BackupError, match="is there already; name a new file"):
        back_up(tmp_path / "source", tmp_path / "copy")
    assert (tmp_path / "copy").read_text() == "precious"
    (tmp_path / "source").write_text("no database at all " * 100)
    with pytest.raises(BackupError, match="the copy failed"):
        back_up(tmp_path / "source", tmp_path / "half")
    assert not (tmp_path / "half").exists()


def test_a_backup_of_postgresql_is_left_to_its_own_tool(tmp_path: Path) -> None:
    settings = tmp_path / "settings.json"
    settings.write_text(
        '{"upstream_url": "http://x/v1", "state_directory": "/x", "history_database": "postgresql"}'
    )
    command = [sys.executable, "-m", "gpufleet_chat", "--backup", "copy", str(settings)]
    done = subprocess.run(command, cwd=CHAT, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "pg_dump" in done.stderr


@pytest.mark.parametrize("url", [None, "mysql://u:hush@h/d", "hush", "postgresql://u:hush@h:x/d"])
def test_a_wrong_database_url_is_refused_without_its_password(
    url: str | None,
) -> None:
    settings = parse_settings(
        {
            "upstream_url": "http://x/v1",
            "state_directory": "/x",
            "login": "header",
            "history_database": "postgresql",
        }
    )
    with pytest.raises(SettingsError, match="credential database_url must be") as refusal:
        build(settings, Secrets(auth_secret="s" * 32, login_secret="p" * 32, database_url=url))
    assert "hush" not in str(refusal.value)


async def test_a_server_that_restarts_is_used_again(server: PostgreSQL) -> None:
    store = HistoryStore(server_engine(server.url))
    history = await opened(store, days=0)
    thread = str(uuid.uuid4())
    async with history.writing("step") as found:
        await found.keep_step("ann", thread, step(), begins=True)
    server.stop()
    server.start()
    async with history.reading("list") as found:
        assert await found.owns("ann", thread)
    await history.close()


async def test_the_end_waits_for_the_last_write(tmp_path: Path) -> None:
    path = tmp_path / FILE_NAME
    history = await opened(HistoryStore(file_engine(path)), days=0)

    async def write() -> None:
        async with history.writing("step") as store:
            await store.keep_step("ann", THREAD, step(), begins=True)

    with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        writing = asyncio.create_task(write())
        await asyncio.sleep(0.1)
        closing = asyncio.create_task(history.close())
        await asyncio.sleep(0.5)
        assert not closing.done()
        other.execute("ROLLBACK")
        await closing
        assert writing.done()
        assert other.execute("SELECT count(*) FROM steps").fetchone() == (1,)


async def pages(engine: AsyncEngine) -> int:
    """How many pages a file has; 0 for a server."""
    if engine.dialect.name != "sqlite":
        return 0
    async with engine.connect() as connection:
        return int((await connection.exec_driver_sql("PRAGMA page_count")).scalar_one())


async def opened(store: HistoryStore, days: int) -> History:
    """The history on this store, with numbers of its own."""
    settings = parse_settings({"upstream_url": "http://x/v1", "state_directory": "/x"})
    history = History(store, days, build(settings, Secrets()).metrics)
    await history.open()
    return history
