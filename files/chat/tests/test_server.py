"""The real application as a process: routes, turns through real Chainlit, recovery, drain."""

from __future__ import annotations

import asyncio
import json
import os
import re
import signal
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest
from chat_process import CHAT, Page, Start, get, until_status
from fake_upstream import Answer, FakeUpstream, Status
from free_port import free_port
from gpufleet_chat.chainlit_version import KNOWN

SLOW = Answer(tuple(f"word{number} " for number in range(20)), pause_seconds=0.1)


async def test_routes_and_headers(start: Start, fake: FakeUpstream) -> None:
    chat = await start()
    assert (await get(f"{chat.url}/healthz")).json() == {"status": "alive"}
    page = await get(f"{chat.url}/")
    assert "<title>Fleet Chat</title>" in page.text
    assert not re.findall(r"(?:href|src)=\"(?:https?:)?//", page.text)
    policy = page.headers["content-security-policy"]
    assert "default-src 'self'" in policy
    assert "http" not in policy
    for path in re.findall(r"(?:href|src)=\"(/[^\"]+)\"", page.text):
        found = await get(f"{chat.url}{path}")
        assert found.status_code == 200
        # Chainlit answers an unknown path with its page.
        assert found.headers["content-type"].split(";")[0] != "text/html", path
    settings = (await get(f"{chat.url}/project/settings?language=zh-CN")).json()
    assert settings["markdown"].startswith("# 欢迎使用 Fleet Chat")
    assert settings["starters"][2]["message"].startswith("法国的首都")
    assert settings["features"]["mcp"]["enabled"] is False
    uploads = settings["features"]["spontaneous_file_upload"]
    assert (uploads["enabled"], uploads["max_size_mb"]) == (True, 10)
    fake.healthy = False
    reason = (await until_status(f"{chat.url}/readyz", 503)).json()["reason"]
    assert reason == "back end is down"
    assert (await get(f"{chat.url}/healthz")).status_code == 200


async def test_foreign_origin_is_refused(start: Start) -> None:
    chat = await start()
    socket = f"{chat.url}/ws/socket.io/?EIO=4&transport=polling"
    assert (await get(socket, origin="http://evil.example")).status_code == 403
    assert (await get(socket, origin="http://127.0.0.1")).status_code == 200


async def test_under_a_path(start: Start) -> None:
    chat = await start(root_path="/chat")
    page = await get(f"{chat.url}/chat/")
    assert 'src="/chat/assets/' in page.text
    assert (await get(f"{chat.url}/chat/public/page.js")).status_code == 200
    # The tag of the script that shows the banner carries the path too.
    assert 'src="/chat/public/page.js"' in page.text


async def test_turns_stream_and_remember(start: Start, fake: FakeUpstream) -> None:
    chat = await start()
    page = Page(chat.url)
    await page.open()
    fake.script.append(Answer(("Par", "is", "."), pause_seconds=0.05))
    await page.ask("Capital of France?")
    await page.ended()
    assert page.texts() == ["Paris."]
    assert {3, 5, 6} <= set(page.growth)
    await page.ask("And its river?")
    await page.ended()
    assert [message["content"] for message in fake.requests[1]["messages"]] == [
        "Capital of France?",
        "Paris.",
        "And its river?",
    ]
    fresh = Page(chat.url)
    await fresh.open()
    await fresh.ask("Who am I?")
    await fresh.ended()
    assert len(fake.requests[2]["messages"]) == 1
    log = chat.log.read_text()
    assert "France" not in log
    assert log.count("event=turn ") == 3
    assert all(line.startswith("level=") for line in log.splitlines())
    await page.close()
    await fresh.close()


async def test_questions_of_one_session_are_answered_in_order(
    start: Start, fake: FakeUpstream
) -> None:
    chat = await start()
    page = Page(chat.url)
    await page.open()
    fake.script.extend([Answer(("one",) * 5, pause_seconds=0.1), Answer(("two",))])
    await page.ask("first")
    await page.ask("second")
    await page.sees("two")
    assert page.texts() == ["one" * 5, "two"]
    assert [len(request["messages"]) for request in fake.requests] == [1, 3]
    await page.close()


async def test_stop_aborts_the_request_and_the_answer_stays(
    start: Start, fake: FakeUpstream
) -> None:
    chat = await start()
    page = Page(chat.url, "zh-CN")
    await page.open()
    fake.script.append(Answer(("It is",), "hang"))
    await page.ask("first")
    await page.sees("It is")
    await page.stop()
    await page.ended()
    await asyncio.wait_for(fake.aborted.wait(), 2)
    assert page.texts() == ["It is"]
    await page.ask("second")
    await page.ended()
    contents = [message["content"] for message in fake.requests[1]["messages"]]
    assert contents == ["first", "It is", "second"]
    await page.close()


async def test_edited_question_is_stopped_and_asked_anew(start: Start, fake: FakeUpstream) -> None:
    chat = await start()
    page = Page(chat.url)
    await page.open()
    fake.script.append(Answer(("It is",), "hang"))
    identifier = await page.ask("first")
    await page.sees("It is")
    await page.ask("first, better", message_id=identifier)
    await page.sees("Paris.")
    contents = [message["content"] for message in fake.requests[1]["messages"]]
    assert contents == ["first, better"]
    # An edited question is run by another path of Chainlit, which forgets to make it stoppable.
    fake.script.append(Answer(("Again",), "hang"))
    await page.ask("first, best", message_id=identifier)
    await page.sees("Again")
    await page.stop()
    await page.ended(3)
    await page.close()


@pytest.mark.parametrize(
    ("language", "waiting", "recovering", "back"),
    [
        ("en-US", "Your question is kept", "recovering", "is back"),
        ("zh-CN", "您的问题已保留", "恢复中", "已恢复"),
    ],
)
async def test_recovery_is_told_and_questions_are_kept(
    start: Start, fake: FakeUpstream, language: str, waiting: str, recovering: str, back: str
) -> None:
    chat = await start()
    page = Page(chat.url, language)
    await page.open()
    await page.until(lambda: page.states)
    await fake.stop()
    await page.until(lambda: page.states[-1]["state"] == "down", 5)
    assert recovering in page.states[-1]["text"]
    await page.ask("first")
    await page.ask("second")
    await page.sees(waiting)
    late = Page(chat.url, language)
    await late.open()
    await late.until(lambda: late.states and late.states[-1]["state"] == "down", 5)
    await fake.start()
    await page.until(lambda: page.states[-1]["state"] == "up", 5)
    assert back in page.states[-1]["text"]
    await page.until(lambda: page.texts() == ["Paris.", "Paris."])
    asked = [request["messages"][-1]["content"] for request in fake.requests]
    assert asked == ["first", "second"]
    await page.close()
    await late.close()


async def cut_off(url: str, fake: FakeUpstream) -> Page:
    """Open a page, and return it when its first answer has been cut for good."""
    page = Page(url)
    await page.open()
    fake.script.extend([Answer(("It is",), "cut"), *[Status(502)] * 5])
    await page.ask("first")
    await page.sees("cut off")
    await page.ended()
    return page


async def test_cut_answer_offers_to_try_again(start: Start, fake: FakeUpstream) -> None:
    chat = await start(recovery_wait_seconds=1)
    page = await cut_off(chat.url, fake)
    assert page.texts()[0] == "It is"
    assert "Traceback" not in "".join(page.texts())
    reference = re.search(r"Reference (\w+)", page.texts()[1])
    assert reference is not None
    assert f"ref={reference[1]}" in chat.log.read_text()
    fake.script.clear()
    fake.default = Answer((" Paris",))
    await page.press(page.actions[0])
    await page.ended()
    assert page.texts() == ["It is Paris"]
    await page.close()


async def test_presses_at_once_try_again_once(start: Start, fake: FakeUpstream) -> None:
    chat = await start(recovery_wait_seconds=1)
    page = await cut_off(chat.url, fake)
    fake.script.clear()
    fake.default = Answer((" Paris",))
    asked = len(fake.requests)
    await asyncio.gather(*(page.press(page.actions[0]) for _ in range(8)))
    await page.ended()
    # A second turn would wait for the end of the first.
    await asyncio.sleep(0.5)
    assert page.texts() == ["It is Paris"]
    assert len(fake.requests) == asked + 1
    await page.close()


async def test_abandoned_answer_goes_on_for_who_comes_back(
    start: Start, fake: FakeUpstream
) -> None:
    chat = await start(module="chat_in_a_hurry")
    page = Page(chat.url)
    await page.open()
    fake.default = Answer(("It is",), "hang")
    await page.ask("first")
    await page.sees("It is")
    await page.close()
    await asyncio.sleep(3)
    assert "reason=abandoned" in chat.log.read_text()
    fake.default = Answer((" Paris",))
    await page.open()
    await page.sees("cut off")
    await page.until(lambda: page.actions)
    await page.press(page.actions[0])
    await page.until(lambda: page.texts() == ["It is Paris"])
    await page.close()


async def test_thinking_is_shown_apart(start: Start, fake: FakeUpstream) -> None:
    chat = await start()
    page = Page(chat.url, "zh-CN")
    await page.open()
    fake.script.append(Answer(("Hm", "m"), field_name="reasoning"))
    question = await page.ask("first")
    await page.ended()
    thoughts = [item for item in page.messages.values() if item["type"] == "llm"]
    assert [(item["name"], item["output"]) for item in thoughts] == [("思考过程", "Hmm")]
    # In the run of the question, where the answer follows it.
    run = page.messages[thoughts[0]["parentId"]]
    assert (run["type"], run["parentId"]) == ("run", question)
    await page.close()


async def test_thinking_that_is_cut_is_shown_once(start: Start, fake: FakeUpstream) -> None:
    chat = await start()
    page = Page(chat.url)
    await page.open()
    thinks = Answer(("Hm", "m"), field_name="reasoning")
    fake.script.extend([replace(thinks, end="cut"), thinks])
    await page.ask("first")
    await page.ended()
    thoughts = [item for item in page.messages.values() if item["type"] == "llm"]
    assert [item["output"] for item in thoughts] == ["Hmm"]
    await page.close()


@pytest.mark.parametrize(
    "answer", [Answer(()), Answer(("Hm",), field_name="reasoning"), Answer(("\n\n",))]
)
async def test_an_answer_without_text_is_said_to_be_empty(
    answer: Answer, start: Start, fake: FakeUpstream
) -> None:
    chat = await start()
    page = Page(chat.url)
    await page.open()
    fake.script.append(answer)
    await page.ask("first")
    await page.ended()
    assert "ended without an answer" in page.texts()[-1]
    assert [action["name"] for action in page.actions] == ["regenerate", "export", "export"]
    await page.press(page.actions[0])
    await page.ended()
    assert page.texts() == ["Paris."]
    await page.close()


async def test_stopped_thinking_is_said_to_be_stopped(start: Start, fake: FakeUpstream) -> None:
    chat = await start()
    page = Page(chat.url)
    await page.open()
    fake.script.append(Answer(("Hm",), "hang", field_name="reasoning"))
    await page.ask("first")
    await page.until(lambda: any(item["type"] == "llm" for item in page.messages.values()))
    await page.stop()
    await page.ended()
    assert page.texts() == ["Stopped."]
    await page.close()


async def test_page_that_comes_back_sees_all(start: Start, fake: FakeUpstream) -> None:
    chat = await start()
    fake.default = SLOW
    page = Page(chat.url)
    await page.open()
    await page.ask("first")
    await page.sees("word3")
    await page.close()
    await asyncio.sleep(0.5)
    await page.open()
    await page.until(lambda: page.texts() == ["".join(SLOW.pieces)])
    await page.close()


async def test_sigterm_lets_the_answer_finish(start: Start, fake: FakeUpstream) -> None:
    chat = await start()
    fake.default = SLOW
    page = Page(chat.url)
    await page.open()
    await page.ask("first")
    await page.sees("word3")
    chat.signal(signal.SIGTERM)
    response = await until_status(f"{chat.url}/readyz", 503)
    assert response.json()["reason"] == "draining"
    assert "gpufleet_chat_draining 1.0" in (await get(f"{chat.url}/metrics")).text
    late = Page(chat.url)
    await late.open()
    await late.ask("too late")
    await late.sees("being restarted")
    assert await chat.wait(10) == 0
    assert page.texts() == ["".join(SLOW.pieces)]
    assert len(fake.requests) == 1


async def test_drain_ends_after_its_time_with_a_word(start: Start, fake: FakeUpstream) -> None:
    chat = await start(drain_seconds=0.5)
    fake.default = Answer(("It is",), "hang")
    page = Page(chat.url)
    await page.open()
    await page.ask("first")
    await page.sees("It is")
    started = time.monotonic()
    chat.signal(signal.SIGTERM)
    await page.sees("being restarted", 5)
    assert await chat.wait(10) == 0
    assert 0.5 <= time.monotonic() - started < 6


async def test_idle_server_stops_at_once(start: Start) -> None:
    chat = await start()
    page = Page(chat.url)
    await page.open()
    started = time.monotonic()
    chat.signal(signal.SIGTERM)
    assert await chat.wait(10) == 0
    assert time.monotonic() - started < 5


async def test_wrong_settings_end_with_the_status_for_configuration(tmp_path: Path) -> None:
    path = tmp_path / "settings.json"
    path.write_text(json.dumps({"upstream": "x"}), encoding="utf-8")
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "gpufleet_chat", str(path), cwd=CHAT, stderr=asyncio.subprocess.PIPE
    )
    _, stderr = await process.communicate()
    assert process.returncode == 78
    assert 'unknown setting "upstream"; remove it' in stderr.decode()


async def test_another_chainlit_is_refused(fake: FakeUpstream, tmp_path: Path) -> None:
    """What the adapter touches may be different there."""
    about = tmp_path / "another" / "chainlit-9.0.0.dist-info"
    about.mkdir(parents=True)
    (about / "METADATA").write_text("Name: chainlit\nVersion: 9.0.0\n", encoding="utf-8")
    path = tmp_path / "settings.json"
    settings = {"upstream_url": fake.url, "state_directory": str(tmp_path), "port": free_port()}
    path.write_text(json.dumps(settings), encoding="utf-8")
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "gpufleet_chat",
        str(path),
        env={**os.environ, "PYTHONPATH": f"{about.parent}:{CHAT}"},
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        async with asyncio.timeout(30):
            _, stderr = await process.communicate()
    finally:
        # One that is not refused would serve on.
        if process.returncode is None:
            process.kill()
    assert process.returncode == 78
    assert "Chainlit 9.0.0 is installed, and this app is written for 2.12.0" in stderr.decode()


def test_the_known_chainlit_is_the_locked_one() -> None:
    lock = (CHAT.parent / "locks" / "chat.txt").read_text(encoding="utf-8")
    assert f"\nchainlit=={KNOWN} ;" in lock
