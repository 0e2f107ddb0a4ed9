"""Limits and the queue through the real application: what each person sees of the others."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator, Awaitable, Callable

import pytest
from chat_process import ChatProcess, Page, Start, get
from fake_upstream import Answer, FakeUpstream, Status
from gpufleet_chat.visitors import COOKIE

OpenPage = Callable[..., Awaitable[Page]]
SLOW = Answer(("one ", "two ", "three"), pause_seconds=0.6)
HANGS = Answer(("It is",), "hang")


@pytest.fixture
async def open_page() -> AsyncIterator[OpenPage]:
    """Open a page in the browser of a person."""
    pages: list[Page] = []

    async def run(chat: ChatProcess, who: str, language: str = "en-US") -> Page:
        page = Page(chat.url, language, cookie=f"{COOKIE}={who:_<22}")
        pages.append(page)
        await page.open()
        return page

    yield run
    for page in pages:
        await page.close()


async def number(chat: ChatProcess, sample: str) -> float:
    """The value of one line of /metrics."""
    for line in (await get(f"{chat.url}/metrics")).text.splitlines():
        if line.startswith(f"{sample} "):
            return float(line.rpartition(" ")[2])
    raise AssertionError(f"{sample} is no line of /metrics")


async def test_position_is_shown_and_moves(
    start: Start, fake: FakeUpstream, open_page: OpenPage
) -> None:
    chat = await start(concurrent_answers=1)
    fake.default = SLOW
    anna, ben = await open_page(chat, "anna"), await open_page(chat, "ben")
    chen, dora = await open_page(chat, "chen", "zh-CN"), await open_page(chat, "dora")
    for page in (anna, ben, chen, dora):
        await page.ask("first")
        await asyncio.sleep(0.05)
    await ben.sees("is next")
    await chen.sees("前面还有 1 个")
    await dora.sees("in line: 2 before it")
    assert await number(chat, "gpufleet_chat_queue_length") == 3
    await dora.sees("in line: 1 before it")
    # One notice that changes, not one for each step.
    assert len(dora.texts()) == 1
    for page in (anna, ben, chen, dora):
        await page.ended()
        assert page.texts() == ["one two three"]
    assert await number(chat, "gpufleet_chat_queue_wait_seconds_count") == 4
    assert await number(chat, "gpufleet_chat_queue_length") == 0


async def test_stop_takes_a_question_out_of_the_line(
    start: Start, fake: FakeUpstream, open_page: OpenPage
) -> None:
    chat = await start(concurrent_answers=1)
    fake.default = HANGS
    anna, ben, chen = [await open_page(chat, who) for who in ("anna", "ben", "chen")]
    for page in (anna, ben, chen):
        await page.ask("first")
        await asyncio.sleep(0.05)
    await chen.sees("in line: 1 before it")
    await ben.stop()
    await ben.ended()
    assert ben.texts() == ["Stopped."]
    await chen.sees("is next")
    await anna.stop()
    await chen.sees("It is")
    assert len(fake.requests) == 2
    stopped = 'gpufleet_chat_questions_total{outcome="stopped",reason="person"}'
    assert await number(chat, stopped) == 2


async def test_many_tabs_of_one_person_let_others_pass(
    start: Start, fake: FakeUpstream, open_page: OpenPage
) -> None:
    chat = await start(concurrent_answers=1)
    fake.default = Answer(("one ", "two"), pause_seconds=0.3)
    tabs = [await open_page(chat, "anna") for _ in range(4)]
    for count, page in enumerate(tabs):
        await page.ask(f"anna {count}")
        await asyncio.sleep(0.05)
    ben = await open_page(chat, "ben")
    await ben.ask("ben")
    await ben.ended()
    asked = [request["messages"][-1]["content"] for request in fake.requests]
    assert asked[0] == "anna 0"
    # When Ben opened his page Anna's second may have begun.
    assert "ben" in asked[:3]
    for page in tabs:
        await page.ended()


async def test_one_person_has_so_many_questions_at_once(
    start: Start, fake: FakeUpstream, open_page: OpenPage
) -> None:
    chat = await start(questions_per_person=2)
    fake.default = HANGS
    tabs = [await open_page(chat, "anna") for _ in range(3)]
    for page in tabs:
        await page.ask("first")
        await asyncio.sleep(0.05)
    await tabs[2].sees("Several of your questions")
    ben = await open_page(chat, "ben")
    await ben.ask("first")
    await ben.sees("It is")
    await tabs[0].stop()
    await tabs[0].ended()
    await asyncio.sleep(1)
    # The button sends what was refused, as if it were asked now.
    await tabs[2].press(tabs[2].actions[0])
    await tabs[2].sees("It is")
    assert tabs[2].texts() == ["It is"]
    assert await number(chat, "gpufleet_chat_time_to_first_token_seconds_sum") < 1


async def test_full_queue_refuses_in_plain_words(
    start: Start, fake: FakeUpstream, open_page: OpenPage
) -> None:
    chat = await start(concurrent_answers=1, queue_length=1)
    fake.default = HANGS
    anna, ben, chen = [await open_page(chat, who) for who in ("anna", "ben", "chen")]
    for page in (anna, ben, chen):
        await page.ask("first")
        await asyncio.sleep(0.05)
    await chen.sees("could not be taken")
    await chen.ended()
    full = 'gpufleet_chat_questions_total{outcome="refused",reason="queue_full"}'
    assert await number(chat, full) == 1
    fake.default = Answer(("Paris.",))
    await anna.stop()
    await ben.sees("Paris.")
    await chen.press(chen.actions[0])
    await chen.ended()
    assert chen.texts() == ["Paris."]


async def test_too_many_messages_are_told_the_seconds(
    start: Start, open_page: OpenPage, fake: FakeUpstream
) -> None:
    chat = await start(messages_per_minute=2)
    anna = await open_page(chat, "anna")
    for question in ("first", "second"):
        await anna.ask(question)
        await anna.ended()
    await anna.ask("third")
    await anna.sees("ask again in")
    await anna.ended()
    seconds = re.search(r"in (\d+) seconds", anna.texts()[-1])
    assert seconds is not None
    assert 50 <= int(seconds[1]) <= 60
    await anna.press(anna.actions[0])
    await anna.ended()
    # Refused again, with one notice and its button.
    assert len(anna.texts()) == 3
    # Another tab is the same person; another browser is not.
    tab = await open_page(chat, "anna", "zh-CN")
    await tab.ask("first")
    await tab.sees("秒后再试")
    ben = await open_page(chat, "ben")
    await ben.ask("first")
    await ben.sees("Paris.")
    assert len(fake.requests) == 3
    limited = 'gpufleet_chat_questions_total{outcome="refused",reason="too_often"}'
    assert await number(chat, limited) == 3


async def test_refused_edit_leaves_nothing_of_what_it_replaced(
    start: Start, open_page: OpenPage, fake: FakeUpstream
) -> None:
    chat = await start(questions_per_person=1)
    anna, tab = await open_page(chat, "anna"), await open_page(chat, "anna")
    identifier = await anna.ask("first")
    await anna.ended()
    fake.script.append(HANGS)
    await tab.ask("long")
    await tab.sees("It is")
    await anna.ask("better", message_id=identifier)
    await anna.sees("Several of your questions")
    await anna.ended()
    await tab.stop()
    await tab.ended()
    await anna.ask("next")
    await anna.ended()
    assert [message["content"] for message in fake.requests[-1]["messages"]] == ["next"]


async def test_an_edit_of_what_is_being_answered_is_not_one_question_more(
    start: Start, open_page: OpenPage, fake: FakeUpstream
) -> None:
    chat = await start(questions_per_person=1)
    anna = await open_page(chat, "anna")
    fake.script.append(HANGS)
    identifier = await anna.ask("first")
    await anna.sees("It is")
    await anna.ask("better", message_id=identifier)
    await anna.until(lambda: anna.texts() == ["Paris."])
    await anna.ended()
    # Of two edits at once the last one holds.
    fake.script.append(HANGS)
    identifier = await anna.ask("second")
    await anna.sees("It is")
    fake.default = Answer(("Lyon.",))
    for better in ("second, better", "second, best"):
        await anna.ask(better, message_id=identifier)
    await anna.until(lambda: anna.texts() == ["Paris.", "Lyon."])
    await anna.until(lambda: not anna.running)
    assert fake.requests[-1]["messages"][-1]["content"] == "second, best"


async def test_refused_question_keeps_its_files(
    start: Start, open_page: OpenPage, fake: FakeUpstream
) -> None:
    chat = await start(questions_per_person=1)
    anna, tab = await open_page(chat, "anna"), await open_page(chat, "anna")
    fake.script.append(HANGS)
    await tab.ask("long")
    await tab.sees("It is")
    file = (await anna.upload("main.rs", b"fn main() {}")).json()["id"]
    await anna.ask("What is it?", files=[file])
    await anna.sees("Several of your questions")
    await anna.ended()
    await tab.stop()
    await tab.ended()
    await anna.press(anna.actions[0])
    await anna.ended()
    asked = '<file name="main.rs">\nfn main() {}\n</file>\n\nWhat is it?'
    assert fake.requests[-1]["messages"] == [{"role": "user", "content": asked}]


async def test_refusal_of_another_answer_leaves_the_one_that_is_there(
    start: Start, open_page: OpenPage, fake: FakeUpstream
) -> None:
    chat = await start(questions_per_person=1)
    anna, tab = await open_page(chat, "anna"), await open_page(chat, "anna")
    await anna.ask("first")
    await anna.ended()
    fake.script.append(HANGS)
    await tab.ask("long")
    await tab.sees("It is")
    await anna.press(next(each for each in anna.actions if each["name"] == "regenerate"))
    await anna.sees("Several of your questions")
    await anna.ended()
    assert anna.texts()[0] == "Paris."
    await tab.stop()
    await tab.ended()
    # "Try again" has the other answer in the place of the first.
    fake.default = Answer(("Lyon.",))
    await anna.press(next(each for each in anna.actions if each["name"] == "retry"))
    await anna.ended()
    assert anna.texts() == ["Lyon."]
    await anna.ask("second")
    await anna.ended()
    contents = [message["content"] for message in fake.requests[-1]["messages"]]
    assert contents == ["first", "Lyon.", "second"]


async def test_without_a_cookie_the_address_counts(start: Start, fake: FakeUpstream) -> None:
    chat = await start(messages_per_minute=1)
    pages = []
    for address in ("192.0.2.1", "192.0.2.1", "192.0.2.2"):
        # As nginx on the same host tells it.
        page = Page(chat.url, **{"X-Forwarded-For": address})
        pages.append(page)
        await page.open()
        await page.ask("first")
        await page.ended()
    assert "ask again in" in pages[1].texts()[0]
    assert [pages[0].texts(), pages[2].texts()] == [["Paris."], ["Paris."]]
    for page in pages:
        await page.close()


async def test_browser_gets_a_cookie_once(start: Start) -> None:
    chat = await start()
    page = await get(f"{chat.url}/", **{"X-Forwarded-Proto": "https"})
    cookie = page.headers["set-cookie"]
    assert re.match(rf"{COOKIE}=[\w-]{{22}}; Path=/; HttpOnly; SameSite=Lax; Secure$", cookie)
    again = await get(f"{chat.url}/", cookie=cookie.partition(";")[0])
    assert "set-cookie" not in again.headers
    assert "set-cookie" not in (await get(f"{chat.url}/healthz")).headers


async def test_crowd_is_told_to_every_page(
    start: Start, fake: FakeUpstream, open_page: OpenPage
) -> None:
    chat = await start(concurrent_answers=1)
    fake.default = Answer(("one ",) * 8, pause_seconds=0.5)
    watcher = await open_page(chat, "watcher")
    chinese = await open_page(chat, "chinese", "zh-CN")
    await watcher.until(lambda: watcher.states)
    anna, ben = await open_page(chat, "anna"), await open_page(chat, "ben")
    await anna.ask("first")
    await ben.ask("first")
    await watcher.until(lambda: watcher.states[-1]["state"] == "saturated", 5)
    assert "In line: 1." in watcher.states[-1]["text"]
    await chinese.until(lambda: chinese.states[-1]["state"] == "saturated", 2)
    assert "1 个" in chinese.states[-1]["text"]
    assert await number(chat, "gpufleet_chat_saturated") == 1
    await watcher.until(lambda: watcher.states[-1]["state"] == "up", 15)
    assert await number(chat, "gpufleet_chat_saturated") == 0


async def test_admission_control_of_the_back_end_means_waiting(
    start: Start, fake: FakeUpstream, open_page: OpenPage
) -> None:
    chat = await start(recovery_wait_seconds=30)
    fake.script.extend([Status(503, (("retry-after", "0.5"),))] * 4)
    anna = await open_page(chat, "anna")
    await anna.ask("first")
    await anna.sees("is next")
    await anna.until(lambda: anna.states and anna.states[-1]["state"] == "saturated", 5)
    await anna.ended()
    assert anna.texts() == ["Paris."]
    answered = 'gpufleet_chat_questions_total{outcome="answered",reason="none"}'
    assert await number(chat, answered) == 1


async def test_metrics_are_served(start: Start, fake: FakeUpstream, open_page: OpenPage) -> None:
    chat = await start()
    anna = await open_page(chat, "anna")
    fake.script.append(Answer(("Par", "is", "."), pause_seconds=0.05))
    await anna.ask("first")
    await anna.ended()
    response = await get(f"{chat.url}/metrics")
    assert response.headers["content-type"].startswith("text/plain; version=0.0.4")
    assert await number(chat, "gpufleet_chat_tokens_total") == 3
    assert await number(chat, "gpufleet_chat_time_to_first_token_seconds_count") == 1
    assert 0.04 < await number(chat, "gpufleet_chat_time_per_token_seconds_sum") < 0.2
    await asyncio.sleep(1.1)
    assert await number(chat, "gpufleet_chat_sessions") == 1
    assert await number(chat, 'gpufleet_chat_backend_state{state="up"}') == 1
    assert await number(chat, "gpufleet_chat_answers_running") == 0
    assert await number(chat, "process_start_time_seconds") > 0
