"""Pages that were away, that were loaded anew, or that come back to a chat that has restarted."""

from __future__ import annotations

import asyncio
import signal
from pathlib import Path
from typing import Any

import pytest
from chat_process import Page, Start, until
from fake_upstream import Answer, FakeUpstream
from gpufleet_chat.history import FILE_NAME
from test_history_chat import LOGIN, answered, person, restarted, sent


async def test_an_answer_can_be_stopped_by_a_page_that_came_back(
    start: Start, fake: FakeUpstream
) -> None:
    chat = await start()
    page = Page(chat.url)
    await page.open()
    fake.script.append(Answer(("It is",), "hang"))
    await page.ask("first")
    await page.sees("It is")
    await page.close()
    page.states.clear()
    await page.connect()
    # The chat has met the new connection; the page takes a moment longer to say so.
    await page.until(lambda: page.states)
    await page.connected()
    await page.until(lambda: page.running)
    await page.stop()
    await page.ended()
    await page.close()


async def test_what_was_taken_back_meanwhile_is_gone(start: Start, fake: FakeUpstream) -> None:
    chat = await start(concurrent_answers=1)
    other, page = Page(chat.url), Page(chat.url)
    await other.open()
    await page.open()
    fake.script.append(Answer(("It is",), "hang"))
    await other.ask("first")
    await other.sees("It is")
    await page.ask("second")
    await page.sees("is next")
    await page.close()
    await other.stop()
    await other.ended()
    await until(lambda: len(fake.requests) == 2)
    await page.open()
    await page.until(lambda: page.texts() == ["Paris."])
    await page.close()
    await other.close()


async def test_thoughts_that_began_again_meanwhile_are_shown_once(
    start: Start, fake: FakeUpstream
) -> None:
    chat = await start()
    page = Page(chat.url)
    await page.open()

    def thoughts() -> list[str]:
        return [item["output"] for item in page.messages.values() if item["type"] == "llm"]

    first = Answer(("Hm",), "cut", pause_seconds=1, field_name="reasoning")
    fake.script.extend([first, Answer(("Well",), field_name="reasoning")])
    await page.ask("first")
    await page.until(thoughts)
    await page.close()
    await until(lambda: len(fake.requests) == 2)
    await page.open()
    await page.until(lambda: thoughts() == ["Well"])
    await page.close()


async def test_a_page_that_has_missed_the_beginning_shows_the_answer(
    start: Start, fake: FakeUpstream
) -> None:
    chat = await start()
    page = Page(chat.url)
    await page.open()
    fake.script.append(Answer(("It is",), "hang"))
    question = await page.ask("first")
    await page.sees("It is")
    await page.close()
    page.messages = {question: page.messages[question]}
    await page.open()
    await page.sees("It is")
    await page.stop()
    await page.ended()
    await page.close()


async def test_an_answer_goes_on_in_a_page_that_is_loaded_anew(
    start: Start, fake: FakeUpstream
) -> None:
    chat = await start(**LOGIN)
    ann, eve = await person(chat), await person(chat, "eve")
    page = await ann.page()
    await answered(page, "first")
    fake.script.append(Answer(("It ", *["is "] * 20, "done."), pause_seconds=0.1))
    await page.ask("second")
    await page.sees("It is")
    await page.close()
    stranger = await eve.page(page.thread_id)
    assert stranger.not_found
    again = await ann.page(page.thread_id)
    await again.until(lambda: again.resumed)
    await again.until(lambda: again.running)
    await again.sees("done.")
    await again.ended()
    assert again.texts() == ["Paris.", "It " + "is " * 20 + "done."]
    # The question is asked no second time, and what follows it knows it.
    await answered(again, "third")
    assert sent(fake) == ["first", "Paris.", "second", "It " + "is " * 20 + "done.", "third"]
    assert len(stranger.texts()) == 1
    assert len(fake.requests) == 3
    assert (await ann.kept(page.thread_id))[2:4] == [
        ("user_message", "second"),
        ("assistant_message", "It " + "is " * 20 + "done."),
    ]
    # An edit replaces all from there on, as ever.
    questions = [i for i, item in again.messages.items() if item["output"] == "second"]
    await answered(again, "second, better", message_id=questions[0])
    assert sent(fake) == ["first", "Paris.", "second, better"]
    assert again.texts() == ["Paris.", "Paris."]
    await again.close()
    await stranger.close()


async def test_an_answer_can_be_stopped_by_a_page_that_is_loaded_anew(
    start: Start, fake: FakeUpstream
) -> None:
    chat = await start(**LOGIN)
    ann = await person(chat)
    page = await ann.page()
    fake.script.append(Answer(("It is",), "hang"))
    await page.ask("first")
    await page.sees("It is")
    await page.until(lambda: page.thread_id)
    await page.close()
    page = await ann.page(page.thread_id)
    await page.sees("It is")
    await page.until(lambda: page.running)
    await page.stop()
    await page.ended()
    await page.until(lambda: page.actions)
    assert page.texts() == ["It is"]
    await page.close()


async def test_a_question_without_its_answer_can_be_asked_again(
    start: Start, fake: FakeUpstream
) -> None:
    chat = await start(**LOGIN, drain_seconds=0)
    ann = await person(chat)
    page = await ann.page()
    fake.script.append(Answer(("Hm",), "hang", field_name="reasoning"))
    await page.ask("first")
    await page.until(lambda: any(item["type"] == "llm" for item in page.messages.values()))
    await restarted(chat)
    await page.close()
    await page.open()
    await page.until(lambda: page.resumed)
    assert page.texts() == ["This question has no answer yet."]
    (again,) = [action for action in page.actions if action["name"] == "regenerate"]
    assert again["label"] == "Try again"
    assert again["forId"] in page.messages
    await page.press(again)
    await page.until(lambda: page.texts() == ["Paris."])
    assert [item for item in page.messages.values() if item["type"] == "llm"] == []
    await page.ended()
    await answered(page, "second")
    assert sent(fake) == ["first", "Paris.", "second"]
    await page.close()


@pytest.mark.parametrize(
    ("language", "said"), [("en-US", "does not know what was said"), ("zh-CN", "不记得此对话")]
)
async def test_a_chat_that_knows_nothing_of_what_a_page_shows_says_so(
    start: Start, fake: FakeUpstream, language: str, said: str
) -> None:
    chat = await start()
    page = Page(chat.url, language)
    await page.open()
    question = await page.ask("first")
    await page.ended()
    await page.until(lambda: page.thread_id)
    await restarted(chat)
    await page.close()
    await page.open()
    await page.sees(said)
    # An edit of a question from before is answered with the same, and with an end.
    shown = len(page.texts())
    await page.ask("first, better", message_id=question)
    await page.until(lambda: len(page.texts()) > shown)
    assert said in page.texts()[-1]
    assert len(fake.requests) == 1
    await page.ask("second")
    await page.sees("Paris.")
    await page.until(lambda: sent(fake) == ["second"])
    await page.close()


async def test_a_file_from_before_a_restart_is_missed_in_words(
    start: Start, fake: FakeUpstream
) -> None:
    chat = await start()
    page = Page(chat.url)
    await page.open()
    file = (await page.upload("notes.txt", b"The code is 1234.")).json()["id"]
    await restarted(chat)
    await page.close()
    await page.open()
    await page.ask("What is the code?", files=[file])
    await page.sees("A file of this question is no longer there")
    await page.ended()
    assert fake.requests == []
    file = (await page.upload("notes.txt", b"The code is 1234.")).json()["id"]
    await page.ask("What is the code?", files=[file])
    await page.sees("Paris.")
    assert "1234" in sent(fake)[0]
    await page.close()


async def test_a_thread_is_opened_when_the_history_is_there_again(
    start: Start, fake: FakeUpstream, tmp_path: Path
) -> None:
    chat = await start(module="chat_in_a_hurry", **LOGIN)
    ann = await person(chat)
    page = await ann.page()
    await answered(page, "first")
    chat.signal(signal.SIGTERM)
    assert await chat.wait(10) == 0
    file = tmp_path / "state" / FILE_NAME
    kept = file.rename(file.with_suffix(".kept"))
    file.mkdir()
    await chat.start()
    await page.close()
    await page.open()
    await page.until(lambda: page.toasts)
    assert "cannot be reached" in page.toasts[0]["message"]
    assert page.resumed is None
    file.rmdir()
    kept.rename(file)
    await page.until(lambda: page.resumed)
    assert page.texts() == ["Paris."]
    await answered(page, "second")
    assert sent(fake) == ["first", "Paris.", "second"]
    await page.close()


async def test_all_that_was_answered_meanwhile_is_shown(start: Start, fake: FakeUpstream) -> None:
    chat = await start()
    page = Page(chat.url)
    await page.open()
    fake.script.append(Answer(("It ", "is"), pause_seconds=1.5))
    await page.ask("first")
    await page.sees("It ")
    await page.ask("second")
    await asyncio.sleep(0.3)
    await page.close()
    await until(lambda: len(fake.requests) == 2)
    await asyncio.sleep(0.3)
    await page.open()
    await page.until(lambda: page.texts() == ["It is", "Paris."])
    await page.until(lambda: len(buttons(page)) == 1)
    assert page.messages[buttons(page)[0]["forId"]]["output"] == "Paris."
    await page.close()


async def test_of_two_questions_ended_without_their_page_both_have_a_word(
    start: Start, fake: FakeUpstream
) -> None:
    chat = await start(module="chat_in_a_hurry")
    page = Page(chat.url)
    await page.open()
    fake.script.append(Answer(("It is",), "hang"))
    await page.ask("first")
    await page.sees("It is")
    await page.ask("second")
    await asyncio.sleep(0.3)
    await page.close()
    await asyncio.sleep(3)
    await page.open()
    await page.sees("cut off")
    await page.sees("Stopped.")
    await page.until(lambda: buttons(page))
    (again,) = buttons(page)
    await page.press(again)
    await page.sees("Paris.")
    assert sent(fake) == ["first", "It is", "second"]
    await page.close()


async def test_buttons_that_were_taken_away_meanwhile_are_gone_and_do_nothing(
    start: Start, fake: FakeUpstream
) -> None:
    chat = await start()
    page = Page(chat.url)
    await page.open()
    await page.ask("first")
    await page.until(lambda: len(page.actions) == 3)
    old = list(page.actions)
    await page.ask("second")
    await page.until(lambda: len(page.texts()) == 2)
    await page.ended()
    await page.close()
    # What took them away was lost with the connection.
    page.actions[:] = old
    await page.open()
    await page.until(lambda: len(page.actions) == 3)
    assert page.messages[buttons(page)[0]["forId"]]["parentId"] is not None
    assert {action["id"] for action in page.actions}.isdisjoint({action["id"] for action in old})
    # A page that has them still, all the same, asks nothing with them.
    asked = len(fake.requests)
    page.actions.append(old[0])
    await page.press(old[0])
    await page.until(lambda: old[0] not in page.actions)
    await asyncio.sleep(0.3)
    assert len(fake.requests) == asked
    assert page.texts() == ["Paris.", "Paris."]
    await page.close()


async def test_an_answer_has_each_button_once_after_a_restart(start: Start) -> None:
    chat = await start(**LOGIN)
    ann = await person(chat)
    page = await ann.page()
    await answered(page, "first")
    assert len(buttons(page)) == 1
    await restarted(chat)
    await page.close()
    await page.open()
    await page.until(lambda: page.resumed)
    assert len(page.actions) == 3
    await page.close()


def buttons(page: Page) -> list[dict[str, Any]]:
    return [action for action in page.actions if action["name"] == "regenerate"]


@pytest.mark.parametrize(
    ("language", "said"), [("en-US", "answered in another window"), ("zh-CN", "另一个窗口")]
)
async def test_a_tab_whose_answer_another_has_taken_shows_it_in_the_end(
    start: Start, fake: FakeUpstream, language: str, said: str
) -> None:
    chat = await start(**LOGIN)
    ann = await person(chat)
    page = await ann.page(language=language)
    await answered(page, "first")
    old = buttons(page)
    fake.script.append(Answer(("It ", "is ", "done."), pause_seconds=2))
    await page.ask("second")
    await page.sees("It ")
    await page.close()
    other = await ann.page(page.thread_id)
    await other.until(lambda: other.running)
    await page.open()
    await page.sees(said)
    assert buttons(page) == []
    # A button that it has from before asks nothing.
    await page.press({**old[0], "payload": {"question": questions(page)[-1]}})
    await other.sees("done.")
    await page.until(lambda: page.texts() == ["Paris.", "It is done."])
    await page.until(lambda: len(buttons(page)) == 1)
    assert len(fake.requests) == 2
    await answered(page, "third")
    assert sent(fake) == ["first", "Paris.", "second", "It is done.", "third"]
    # An edit goes by what is shown.
    await answered(page, "second, better", message_id=questions(page)[1])
    assert page.texts() == ["Paris.", "Paris."]
    await page.close()
    await other.close()


def questions(page: Page) -> list[str]:
    return [key for key, item in page.messages.items() if item["type"] == "user_message"]
