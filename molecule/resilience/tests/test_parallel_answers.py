"""The engine is killed in the middle of ten answers: each ends complete or plainly marked."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path

import pytest
from chat_page import ChatPage
from host import Host
from inbox import Inbox
from instance import RECOVERY_SECONDS, UNIT, journal, now
from playwright.sync_api import expect

PEOPLE = 10
# As many as the instance answers at once; the others wait in line.
AT_ONCE = 8
QUESTION = "Write a long story about a river, with many details."
BEGUN_CHARACTERS = 20
# Two rounds of answers and a recovery, on two processor cores.
PATIENCE_SECONDS = RECOVERY_SECONDS + 600
TEXTS = json.loads(
    (Path(__file__).resolve().parents[3] / "files/chat/gpufleet_chat/locale/en.json").read_text()
)
# What people are told of an answer that is not whole, without its reference.
CUT = TEXTS["failed.cut"].partition(" (")[0]
UNAVAILABLE = TEXTS["failed.unavailable"].partition(" (")[0]
# Words of programs, not of people.
EXCEPTION = re.compile(r"Traceback|Exception|Error\b|httpx|aiohttp|EngineCore|Errno")


@pytest.mark.usefixtures("healthy")
def test_killed_in_the_middle_of_ten_answers(
    host: Host, inbox: Inbox, open_chat: Callable[[], ChatPage]
) -> None:
    since = now(host)
    pages = [open_chat() for _ in range(PEOPLE)]
    for page in pages:
        page.ask(QUESTION)
    pages[0].until(
        lambda: sum(len(answer(page)) >= BEGUN_CHARACTERS for page in pages) >= AT_ONCE, 120
    )
    host.run(f"kill -KILL {host.pid_of(UNIT, 'VLLM::EngineCore')}")
    whole: list[ChatPage] = []
    marked: list[ChatPage] = []
    for page in pages:
        page.wait_answered(PATIENCE_SECONDS)
        shown = page.answers()
        assert not EXCEPTION.search(" ".join(shown)), shown
        assert page.console_errors == []
        is_marked = any(CUT in text or UNAVAILABLE in text for text in shown)
        (marked if is_marked else whole).append(page)
        if is_marked:
            expect(page.page.get_by_role("button", name=TEXTS["retry"])).to_be_visible()
        else:
            assert len(answer(page)) >= BEGUN_CHARACTERS, shown
    print(f"{len(whole)} complete, {len(marked)} marked")
    # What the chat has counted is what people see.
    outcomes = re.findall(r"event=turn .*outcome=(\w+)", journal(host, since, "chainlit.service"))
    assert sorted(outcomes) == ["answered"] * len(whole) + ["failed"] * len(marked)
    inbox.expect("restarted", "recovered")


def answer(page: ChatPage) -> str:
    """Return what has come of the answer, which is the first message of the assistant."""
    notices = tuple(text.partition("{")[0] for key, text in TEXTS.items() if "waiting." in key)
    shown = page.answers()
    return "" if not shown or shown[0].startswith(notices) else shown[0]
