"""The back end dies in the middle of ten answers: each is completed, or plainly marked as cut."""

from __future__ import annotations

import asyncio
import re

from chat_process import ChatProcess, Page, Start, get
from fake_upstream import Answer, FakeUpstream

PEOPLE = 10
LIMITS = {"messages_per_minute": 0, "questions_per_person": 1000}
# So long that none has come to its end when the last has begun.
BEGINNING = Answer(tuple(f"word{number} " for number in range(1000)), pause_seconds=0.05)
REST = Answer(("and the ", "end"))
# Words of programs, not of people.
EXCEPTION = re.compile(r"Traceback|Exception|Error\b|Error:|httpx|aiohttp|[Cc]onnect call|Errno")


async def cut_in_the_middle(chat: ChatProcess, fake: FakeUpstream) -> list[Page]:
    """Open pages, ask on each, and end the back end while all answers grow."""
    fake.default = BEGINNING
    pages = [Page(chat.url) for _ in range(PEOPLE)]
    for page in pages:
        await page.open()
    for page in pages:
        await page.ask("Tell me a long story.")
    for page in pages:
        await page.sees("word5 ", 30)
    await fake.stop()
    return pages


def whole(text: str) -> bool:
    """Whether every word of the answer has come once and in order, up to the end."""
    words = re.findall(r"word\d+", text)
    return words == [f"word{number}" for number in range(len(words))] and text.endswith("the end")


async def test_all_go_on_when_it_comes_back(start: Start, fake: FakeUpstream) -> None:
    chat = await start(**LIMITS)
    pages = await cut_in_the_middle(chat, fake)
    for page in pages:
        await page.sees("will go on here", 30)
    fake.default = REST
    await fake.start()
    for page in pages:
        await page.ended(30)
        assert len(page.texts()) == 1
        assert whole(page.texts()[0]), page.texts()
        await page.close()
    assert len(fake.requests) == 2 * PEOPLE
    # What was there is not asked for again.
    for request in fake.requests[PEOPLE:]:
        assert request["continue_final_message"]
        assert request["messages"][-1]["content"].startswith("word0 word1 ")
    numbers = (await get(f"{chat.url}/metrics")).text
    assert f'gpufleet_chat_backend_faults_total{{kind="cut"}} {PEOPLE}.0' in numbers
    assert (
        f'gpufleet_chat_questions_total{{outcome="answered",reason="none"}} {PEOPLE}.0' in numbers
    )


async def test_all_are_marked_when_it_stays_away(start: Start, fake: FakeUpstream) -> None:
    chat = await start(recovery_wait_seconds=1, **LIMITS)
    pages = await cut_in_the_middle(chat, fake)
    references = set()
    for page in pages:
        await page.ended(30)
        answer, notice = page.texts()
        assert answer.startswith("word0 word1 ")
        assert "What you see is incomplete." in notice
        references.add(notice.rpartition("Reference ")[2])
        assert not EXCEPTION.search(answer + notice)
        assert page.toasts == []
        await page.close()
    # Each can be found in the log by its own.
    assert len(references) == PEOPLE


async def test_an_unforeseen_error_is_told_in_plain_words(start: Start, fake: FakeUpstream) -> None:
    chat = await start(**LIMITS)
    pages = [Page(chat.url) for _ in range(PEOPLE)]
    # Such as no gateway sends: lines that are not HTTP at all.
    fake.garbage = True
    for page in pages:
        await page.open()
    await asyncio.gather(*(page.ask("Tell me a long story.") for page in pages))
    for page in pages:
        await page.ended(30)
        assert not EXCEPTION.search(" ".join(page.texts())), page.texts()
        assert "Reference" in page.texts()[-1]
        await page.close()
