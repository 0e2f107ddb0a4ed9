"""The history as people have it, on the real application with a login."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import sqlite3
import time
import uuid
from pathlib import Path
from typing import Any

import httpx
import pytest
from chat_process import ChatProcess, Page, Start, get, sign_session
from fake_upstream import Answer, FakeUpstream, Silence
from gpufleet_chat.history import FILE_NAME
from postgresql import PASSWORD, PostgreSQL
from socketio.exceptions import ConnectionError as Refused  # type: ignore[import-untyped]

PROOF = "login-secret-of-the-proxy-0123456789"
CREDENTIALS = {"auth_secret": "session-secret-of-the-tests-0123456789", "login_secret": PROOF}
LOGIN = {"login": "header", "credentials": CREDENTIALS}
# The page's names of the two thumbs.
UP, DOWN = 1, 0


class Person:
    """Somebody who has logged in."""

    def __init__(self, chat: ChatProcess, name: str) -> None:
        self._chat = chat
        self._client = httpx.AsyncClient(base_url=chat.url, trust_env=False)
        self.name = name

    async def log_in(self) -> Person:
        proof = {"X-Forwarded-User": self.name, "X-Login-Secret": PROOF}
        (await self._client.post("/auth/header", headers=proof)).raise_for_status()
        return self

    @property
    def cookie(self) -> str:
        return "; ".join(f"{name}={value}" for name, value in self._client.cookies.items())

    async def page(self, thread: str | None = None, language: str = "en-US") -> Page:
        page = Page(self._chat.url, language, thread=thread, Cookie=self.cookie)
        await page.open()
        return page

    async def call(self, method: str, path: str, body: object = None) -> httpx.Response:
        return await self._client.request(method, path, json=body)

    async def threads(self, search: str = "", **pagination: object) -> dict[str, Any]:
        body = {
            "pagination": {"first": 20, "cursor": None, **pagination},
            "filter": {"search": search},
        }
        response = await self.call("POST", "/project/threads", body)
        response.raise_for_status()
        return dict(response.json())

    async def names(self, search: str = "") -> list[str]:
        return [thread["name"] for thread in (await self.threads(search))["data"]]

    async def kept(self, thread: str | None) -> list[tuple[str, str]]:
        """What the history has of a thread, without its runs."""
        response = await self.call("GET", f"/project/thread/{thread}")
        response.raise_for_status()
        steps = response.json()["steps"]
        return [(step["type"], step["output"]) for step in steps if step["type"] != "run"]


async def person(chat: ChatProcess, name: str = "ann") -> Person:
    return await Person(chat, name).log_in()


async def answered(page: Page, question: str, **more: object) -> str:
    identifier = await page.ask(question, **more)  # type: ignore[arg-type]
    await page.ended()
    # The history is written beside the answer.
    await asyncio.sleep(0.3)
    return identifier


def sent(fake: FakeUpstream) -> list[str]:
    return [message["content"] for message in fake.requests[-1]["messages"]]


async def restarted(chat: ChatProcess) -> None:
    chat.signal(signal.SIGTERM)
    assert await chat.wait(10) == 0
    await chat.start()


async def test_without_a_login_there_is_no_history(start: Start, tmp_path: Path) -> None:
    chat = await start()
    settings = (await get(f"{chat.url}/project/settings?language=en-US")).json()
    assert settings["dataPersistence"] is False
    assert not (tmp_path / "state" / FILE_NAME).exists()


async def test_a_check_leaves_nothing_behind(
    start: Start, fake: FakeUpstream, tmp_path: Path
) -> None:
    chat = await start(**LOGIN)
    secret = CREDENTIALS["auth_secret"]
    page = Page(chat.url, Cookie=f"access_token={sign_session(secret)}")
    await page.open()
    await answered(page, "Capital of France?")
    await page.close()
    assert page.texts() == ["Paris."]
    assert page.toasts == []
    with contextlib.closing(sqlite3.connect(tmp_path / "state" / FILE_NAME)) as database:
        for everything in ("SELECT * FROM users", "SELECT * FROM threads", "SELECT * FROM steps"):
            assert database.execute(everything).fetchall() == []


async def test_a_conversation_goes_on_after_a_restart(
    start: Start, fake: FakeUpstream, tmp_path: Path
) -> None:
    chat = await start(**LOGIN)
    ann = await person(chat)
    page = await ann.page()
    await page.choose(system_prompt="Rhyme.")
    await answered(page, "Capital of France?")
    fake.script.append(Answer(("Lyon",)))
    await answered(page, "And the next city?")
    await page.close()
    assert (tmp_path / "state" / FILE_NAME).stat().st_mode & 0o777 == 0o600

    await restarted(chat)
    ann = await person(chat)
    page = await ann.page(page.thread_id)
    await page.until(lambda: page.resumed)
    assert page.texts()[0] == "Paris."
    assert [item["initial"] for item in page.panel if item["id"] == "system_prompt"] == ["Rhyme."]
    await answered(page, "And a river?")
    assert sent(fake) == [
        "Rhyme.",
        "Capital of France?",
        "Paris.",
        "And the next city?",
        "Lyon",
        "And a river?",
    ]
    assert await ann.names() == ["Capital of France?"]
    await page.close()


async def test_a_page_that_stays_open_over_a_restart_goes_on(
    start: Start, fake: FakeUpstream
) -> None:
    chat = await start(**LOGIN)
    ann, eve = await person(chat), await person(chat, "eve")
    page = await ann.page()
    await answered(page, "first")
    await page.close()
    await restarted(chat)
    # It comes back with its session; it was lost before it could learn its thread.
    page.thread_id = None
    await page.open()
    await page.until(lambda: page.resumed)
    await answered(page, "second")
    assert sent(fake) == ["first", "Paris.", "second"]
    assert await ann.names() == ["first"]
    await page.close()
    # Whoever else takes that session for theirs has nothing of it.
    await restarted(chat)
    intruder = Page(chat.url, Cookie=eve.cookie)
    intruder.session_id = page.session_id
    await intruder.open()
    await answered(intruder, "mine?")
    assert intruder.resumed is None
    assert sent(fake) == ["mine?"]
    await intruder.close()


async def test_a_question_asked_during_a_restart_stays_in_its_thread(
    start: Start, fake: FakeUpstream
) -> None:
    chat = await start(**LOGIN)
    ann = await person(chat)
    page = await ann.page()
    await answered(page, "first")
    await page.close()
    await restarted(chat)
    fake.script.append(Answer(("Rome.",)))
    await page.open("second")
    await page.sees("Rome.")
    assert page.texts() == ["Paris.", "Rome."]
    shown = [step["output"] for step in page.messages.values() if step["type"] == "user_message"]
    assert shown == ["first", "second"]
    assert sent(fake) == ["first", "Paris.", "second"]
    await asyncio.sleep(0.3)
    assert await ann.names() == ["first"]
    assert [text for _, text in await ann.kept(page.thread_id)] == [
        "first",
        "Paris.",
        "second",
        "Rome.",
    ]
    await page.close()


async def test_what_the_model_read_in_a_file_is_remembered(
    start: Start, fake: FakeUpstream
) -> None:
    chat = await start(**LOGIN)
    ann = await person(chat)
    page = await ann.page()
    upload = await ann._client.post(
        "/project/file",
        params={"session_id": page.session_id},
        files={"file": ("notes.txt", b"The code is 1234.", "text/plain")},
    )
    await answered(page, "What is the code?", files=[upload.json()["id"]])
    await page.close()
    page = await ann.page(page.thread_id)
    await page.until(lambda: page.resumed)
    assert page.resumed is not None
    assert [element["name"] for element in page.resumed["elements"]] == ["notes.txt"]
    await answered(page, "Again?")
    assert "The code is 1234." in sent(fake)[0]
    # What is shown of the question is what was typed.
    assert (await ann.kept(page.thread_id))[0] == ("user_message", "What is the code?")
    await page.close()


async def test_an_edited_question_keeps_its_files(start: Start, fake: FakeUpstream) -> None:
    # The text of a file may be longer than a question.
    chat = await start(**LOGIN, message_max_chars=1000)
    ann = await person(chat)
    page = await ann.page()
    upload = await ann._client.post(
        "/project/file",
        params={"session_id": page.session_id},
        files={"file": ("notes.txt", b"The code is 1234. " * 100, "text/plain")},
    )
    question = await answered(page, "What is the code?", files=[upload.json()["id"]])
    (again,) = [action for action in page.actions if action["name"] == "regenerate"]
    await page.press(again)
    await page.until(lambda: len(fake.requests) == 2)
    await page.ended()
    await page.close()
    # Also in a page that has only what the history brought, and in the next one.
    page = await ann.page(page.thread_id)
    await page.until(lambda: page.resumed)
    await answered(page, "Backwards?", message_id=question)
    assert sent(fake)[0].startswith('<file name="notes.txt">\nThe code is 1234.')
    assert sent(fake)[0].endswith("Backwards?")
    await page.close()
    page = await ann.page(page.thread_id)
    await page.until(lambda: page.resumed)
    await answered(page, "Again?")
    assert sent(fake)[0].startswith('<file name="notes.txt">\nThe code is 1234.')
    assert sent(fake)[0].endswith("Backwards?")
    assert (await ann.kept(page.thread_id))[0] == ("user_message", "Backwards?")
    await page.close()


async def test_only_what_was_said_is_kept(start: Start, fake: FakeUpstream) -> None:
    chat = await start(**LOGIN, recovery_wait_seconds=30)
    ann = await person(chat)
    page = await ann.page()
    fake.script.append(Answer(("Hm",), field_name="reasoning"))
    await answered(page, "first")
    fake.script.append(Answer(("Half an",), "hang"))
    await page.ask("second")
    await page.sees("Half an")
    await page.stop()
    await page.ended()
    # Stopped before any token: the notice is all that is shown.
    fake.script.append(Silence())
    await page.ask("third")
    await asyncio.sleep(0.3)
    await page.stop()
    await page.sees("Stopped.")
    await asyncio.sleep(0.3)
    kept = await ann.kept(page.thread_id)
    assert ("llm", "Hm") in kept
    assert [item for item in kept if item[0] != "llm"] == [
        ("user_message", "first"),
        ("user_message", "second"),
        ("assistant_message", "Half an"),
        ("user_message", "third"),
    ]
    # The back end goes away: while the chat waits for it, the notice is not kept either.
    await fake.stop()
    await page.until(lambda: page.states and page.states[-1]["state"] == "down")
    await page.ask("fourth")
    await page.sees("recovering")
    await asyncio.sleep(0.3)
    assert (await ann.kept(page.thread_id))[-1] == ("user_message", "fourth")
    await page.close()


async def test_half_an_answer_stays_marked(start: Start, fake: FakeUpstream) -> None:
    chat = await start(**LOGIN)
    ann = await person(chat)
    page = await ann.page()
    fake.script.append(Answer(("It is",), "length"))
    await answered(page, "first")
    kept = await ann.kept(page.thread_id)
    assert [kind for kind, _ in kept] == ["user_message", "assistant_message", "assistant_message"]
    assert "longest length" in kept[-1][1]
    await page.close()


async def test_edited_and_regenerated_answers_replace_the_old(
    start: Start, fake: FakeUpstream
) -> None:
    chat = await start(**LOGIN)
    ann = await person(chat)
    page = await ann.page()
    fake.script.extend([Answer(("Hm",), "length", field_name="reasoning"), Answer(("two",))])
    first = await answered(page, "first")
    await answered(page, "second")
    await page.close()
    # Also by a page that has only what the history brought.
    page = await ann.page(page.thread_id)
    await page.until(lambda: page.resumed)
    (again,) = [action for action in page.actions if action["name"] == "regenerate"]
    fake.script.append(Answer(("zwei",)))
    async with httpx.AsyncClient(trust_env=False, headers={"Cookie": ann.cookie}) as client:
        body = {"sessionId": page.session_id, "action": again}
        (await client.post(f"{chat.url}/project/action", json=body)).raise_for_status()
    await page.sees("zwei")
    await asyncio.sleep(0.5)
    assert "two" not in page.texts()
    assert (await ann.kept(page.thread_id))[-1] == ("assistant_message", "zwei")
    assert ("assistant_message", "two") not in await ann.kept(page.thread_id)
    await answered(page, "first, better", message_id=first)
    assert await ann.kept(page.thread_id) == [
        ("user_message", "first, better"),
        ("assistant_message", "Paris."),
    ]
    assert sent(fake) == ["first, better"]
    await page.close()


async def test_an_edit_leaves_the_answers_before_it(start: Start, fake: FakeUpstream) -> None:
    chat = await start(**LOGIN)
    ann = await person(chat)
    page = await ann.page()
    fake.script.append(Answer(("It ", "is."), pause_seconds=0.5))
    await page.ask("first")
    await page.sees("It")
    # It is asked before the first answer has its end.
    second = await page.ask("second")
    await page.sees("Paris.")
    await page.ended()
    await answered(page, "second, better", message_id=second)
    assert page.texts() == ["It is.", "Paris."]
    assert [text for _, text in await ann.kept(page.thread_id)] == [
        "first",
        "It is.",
        "second, better",
        "Paris.",
    ]
    assert sent(fake) == ["first", "It is.", "second, better"]
    await page.close()


async def test_a_blip_does_not_open_the_thread_again(start: Start, fake: FakeUpstream) -> None:
    chat = await start(**LOGIN)
    ann = await person(chat)
    page = await ann.page()
    await answered(page, "first")
    await page.close()
    page = await ann.page(page.thread_id)
    await page.until(lambda: page.resumed)
    page.resumed = None
    fake.script.append(Answer(("It ", "is ", "on."), pause_seconds=0.7))
    await page.ask("second")
    await page.sees("It")
    await page.close()
    await page.open()
    await page.sees("It is on.")
    assert page.resumed is None
    await page.ended()
    await answered(page, "third")
    assert sent(fake) == ["first", "Paris.", "second", "It is on.", "third"]
    await page.close()


async def test_the_sidebar_searches_renames_deletes_and_turns_pages(start: Start) -> None:
    chat = await start(**LOGIN, messages_per_minute=0)
    ann = await person(chat)
    pages = []
    for question in ("Ärger im Büro", "100% sure?", "x" * 500):
        page = await ann.page()
        await answered(page, question)
        pages.append(page)
        await page.close()
    assert await ann.names() == ["x" * 200, "100% sure?", "Ärger im Büro"]
    assert await ann.names("ärger") == ["Ärger im Büro"]
    assert await ann.names("%") == ["100% sure?"]
    one = await ann.threads(first=2)
    two = await ann.threads(first=2, cursor=one["pageInfo"]["endCursor"])
    assert one["pageInfo"]["hasNextPage"] is True
    assert two["pageInfo"]["hasNextPage"] is False
    assert [thread["name"] for thread in two["data"]] == ["Ärger im Büro"]
    thread = pages[0].thread_id
    renamed = await ann.call("PUT", "/project/thread", {"threadId": thread, "name": "Office"})
    assert renamed.status_code == 200
    assert await ann.names("office") == ["Office"]
    deleted = await ann.call("DELETE", "/project/thread", {"threadId": thread})
    assert deleted.status_code == 200
    assert len(await ann.names()) == 2
    assert (await ann.call("GET", f"/project/thread/{thread}")).status_code == 404


async def test_a_deleted_thread_stays_deleted_when_its_answer_ends(
    start: Start, fake: FakeUpstream
) -> None:
    chat = await start(**LOGIN)
    ann = await person(chat)
    page = await ann.page()
    fake.script.append(Answer(("It ", "is."), pause_seconds=0.6))
    await page.ask("first")
    await page.sees("It")
    await asyncio.sleep(0.2)
    await ann.call("DELETE", "/project/thread", {"threadId": page.thread_id})
    await page.ended()
    await page.close()
    await asyncio.sleep(0.3)
    assert await ann.names() == []


async def test_thumbs_are_kept_and_counted(start: Start) -> None:
    chat = await start(**LOGIN)
    ann, bob = await person(chat), await person(chat, "bob")
    page = await ann.page()
    await answered(page, "first")
    (answer,) = [i for i in page.messages.values() if i["type"] == "assistant_message"]
    rating = {"forId": answer["id"], "threadId": page.thread_id, "value": DOWN}
    body = {"feedback": rating, "sessionId": page.session_id}
    rated = await ann.call("PUT", "/feedback", body)
    assert rated.status_code == 200
    body["feedback"] = {**rating, "id": rated.json()["feedbackId"], "comment": "It is Lyon."}
    assert (await ann.call("PUT", "/feedback", body)).status_code == 200
    shown = (await ann.call("GET", f"/project/thread/{page.thread_id}")).json()["steps"]
    (feedback,) = [step["feedback"] for step in shown if "feedback" in step]
    assert (feedback["value"], feedback["comment"]) == (DOWN, "It is Lyon.")
    metrics = (await get(f"{chat.url}/metrics")).text
    assert 'gpufleet_chat_ratings_total{thumb="down"} 1.0' in metrics
    assert 'gpufleet_chat_ratings_total{thumb="up"} 0.0' in metrics
    # Nobody else's.
    body["feedback"] = {**rating, "value": UP}
    assert (await bob.call("PUT", "/feedback", body)).status_code != 200
    taken = {"feedbackId": feedback["id"]}
    assert (await bob.call("DELETE", "/feedback", taken)).status_code == 404
    assert (await ann.call("DELETE", "/feedback", taken)).status_code == 200
    await page.close()


async def test_nobody_reaches_the_thread_of_another(start: Start, fake: FakeUpstream) -> None:
    chat = await start(**LOGIN)
    ann, eve = await person(chat, "ann"), await person(chat, "eve")
    page = await ann.page()
    upload = await ann._client.post(
        "/project/file",
        params={"session_id": page.session_id},
        files={"file": ("notes.txt", b"secret", "text/plain")},
    )
    question = await answered(page, "first", files=[upload.json()["id"]])
    thread = page.thread_id
    own = (await ann.call("GET", f"/project/thread/{thread}")).json()
    element = own["elements"][0]["id"]
    share = {"threadId": thread, "isShared": True}
    for attempt in (
        ("GET", f"/project/thread/{thread}"),
        ("GET", f"/project/thread/{thread}/element/{element}"),
        ("PUT", "/project/thread", {"threadId": thread, "name": "Eve's"}),
        ("PUT", "/project/thread/share", share),
        ("DELETE", "/project/thread", {"threadId": thread}),
    ):
        assert (await eve.call(*attempt)).status_code == 404, attempt
    assert await eve.names() == []
    # Not even when its owner says so: this chat shares nothing.
    await ann.call("PUT", "/project/thread/share", share)
    assert (await eve.call("GET", f"/project/share/{thread}")).status_code == 404
    nobody = httpx.AsyncClient(base_url=chat.url, trust_env=False)
    for path in (f"/project/thread/{thread}", f"/project/share/{thread}"):
        assert (await nobody.get(path)).status_code == 401
    await nobody.aclose()

    # Over the websocket: the thread does not open, and what is said does not land in it.
    intruder = await eve.page(thread)
    assert intruder.resumed is None
    assert intruder.not_found
    mine = await answered(intruder, "mine?")
    assert sent(fake) == ["mine?"]
    # A page chooses the id of its question: that of another's question, too.
    await intruder._client.emit(
        "client_message",
        {
            "message": {
                "id": question,
                "name": "user",
                "type": "user_message",
                "output": "forged",
                "createdAt": "2026-01-01T00:00:00Z",
                "threadId": thread,
            },
            "fileReferences": [],
        },
    )
    await asyncio.sleep(1)
    # An edit of what came before removes all after it, the forged one included.
    await answered(intruder, "mine!", message_id=mine)
    await intruder.close()
    assert (await ann.call("GET", f"/project/thread/{thread}")).json()["steps"] == own["steps"]
    assert await ann.names() == ["first"]
    assert await eve.names() == ["mine?"]
    with pytest.raises(Refused):
        await Page(chat.url, thread=thread).open()
    await page.close()


async def test_a_locked_database_breaks_no_answer_and_is_told_once(
    start: Start, tmp_path: Path
) -> None:
    chat = await start(**LOGIN)
    ann = await person(chat)
    page = await ann.page()
    with contextlib.closing(sqlite3.connect(tmp_path / "state" / FILE_NAME)) as other:
        other.isolation_level = None
        other.execute("BEGIN IMMEDIATE")
        began = time.monotonic()
        await answered(page, "first")
        await page.ask("second")
        await page.ended()
        assert time.monotonic() - began < 4
        assert page.texts() == ["Paris.", "Paris."]
        await page.until(lambda: page.toasts, 15)
        assert "cannot be kept" in page.toasts[0]["message"]
        await asyncio.sleep(12)
        assert len(page.toasts) == 1
        other.execute("ROLLBACK")
    assert "event=history_fault during=" in chat.log.read_text()
    metrics = (await get(f"{chat.url}/metrics")).text
    assert 'gpufleet_chat_history_faults_total{operation="step"}' in metrics
    # Nothing of what was said is in the log.
    assert "first" not in chat.log.read_text()
    await answered(page, "third")
    assert ("user_message", "third") in await ann.kept(page.thread_id)
    await page.close()


async def test_a_full_disk_breaks_no_answer(start: Start, tmp_path: Path) -> None:
    # A limit on the size of files stands for the disk's end: writes fail in the same place.
    chat = await start(module="chat_on_full_disk", **LOGIN)
    ann = await person(chat)
    page = await ann.page()
    for number in range(8):
        await answered(page, f"{number} " + "long " * 15_000)
    assert page.texts() == ["Paris."] * 8
    await page.until(lambda: page.toasts)
    log = chat.log.read_text()
    assert "event=history_fault" in log
    assert "full" in log or "disk I/O" in log
    assert (await get(f"{chat.url}/healthz")).status_code == 200
    await page.close()


async def test_a_history_that_cannot_be_opened_leaves_the_chat_working(
    start: Start, tmp_path: Path
) -> None:
    (tmp_path / "state" / FILE_NAME).mkdir(parents=True)
    chat = await start(**LOGIN)
    ann = await person(chat)
    page = await ann.page()
    await answered(page, "first")
    assert page.texts() == ["Paris."]
    assert len(page.toasts) == 1
    body = {"pagination": {"first": 5}, "filter": {}}
    refused = await ann.call("POST", "/project/threads", body)
    assert refused.status_code == 503
    assert refused.json()["detail"].startswith("The history of your chats cannot be reached")
    ann._client.headers["Accept-Language"] = "zh-CN,zh;q=0.9"
    refused = await ann.call("POST", "/project/threads", body)
    assert refused.json()["detail"].startswith("目前无法访问您的历史对话")
    await page.close()


async def test_postgresql_keeps_the_same_and_may_be_away(
    start: Start, fake: FakeUpstream, tmp_path: Path
) -> None:
    server = PostgreSQL()
    try:
        server.start()
        chat = await start(
            login="header",
            credentials={**CREDENTIALS, "database_url": server.url},
            history_database="postgresql",
        )
        ann = await person(chat)
        page = await ann.page()
        await answered(page, "first")
        server.stop()
        await answered(page, "second")
        assert page.texts() == ["Paris.", "Paris."]
        await page.until(lambda: page.toasts)
        server.start()
        await answered(page, "third")
        await page.close()
        page = await ann.page(page.thread_id)
        await page.until(lambda: page.resumed)
        await answered(page, "fourth")
        assert sent(fake) == ["first", "Paris.", "third", "Paris.", "fourth"]
        await page.close()
        assert PASSWORD not in chat.log.read_text()
        assert not (tmp_path / "state" / FILE_NAME).exists()
    finally:
        server.remove()


async def test_the_last_answer_is_kept_when_the_chat_ends(start: Start, fake: FakeUpstream) -> None:
    chat = await start(**LOGIN)
    ann = await person(chat)
    page = await ann.page()
    fake.script.append(Answer(("It ", "is ", "done."), pause_seconds=0.5))
    await page.ask("first")
    await page.sees("It")
    await restarted(chat)
    ann = await person(chat)
    assert ("assistant_message", "It is done.") in await ann.kept(page.thread_id)


async def test_the_sidebar_answers_within_50_ms_with_2000_threads(
    start: Start, tmp_path: Path
) -> None:
    chat = await start(**LOGIN)
    ann = await person(chat)
    await ann.threads()
    _fill(tmp_path / "state" / FILE_NAME, threads=2000, steps=10)
    times = []
    for _ in range(20):
        began = time.perf_counter()
        found = await ann.threads()
        times.append(time.perf_counter() - began)
        assert len(found["data"]) == 20
    print(f"sidebar: median {sorted(times)[10] * 1000:.1f} ms, worst {max(times) * 1000:.1f} ms")
    assert sorted(times)[10] < 0.05


def _fill(path: Path, threads: int, steps: int) -> None:
    with contextlib.closing(sqlite3.connect(path, timeout=10)) as database:
        (user,) = database.execute("SELECT id FROM users WHERE identifier = 'ann'").fetchone()
        rows = [(str(uuid.uuid4()), user, f"Chat {i}", f"chat {i}", i, i) for i in range(threads)]
        database.executemany(
            "INSERT INTO threads (id, user_id, name, folded_name, created_at, updated_at, details)"
            " VALUES (?, ?, ?, ?, ?, ?, '{}')",
            rows,
        )
        database.executemany(
            "INSERT INTO steps (id, thread_id, kind, name, text, created_at, details)"
            " VALUES (?, ?, 'user_message', 'ann', ?, ?, '{}')",
            [
                (str(uuid.uuid4()), row[0], "word " * 200, number)
                for row in rows
                for number in range(steps)
            ],
        )
        database.commit()
