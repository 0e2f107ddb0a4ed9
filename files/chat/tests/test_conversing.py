"""What a person does in a conversation, on the real application: settings, files, answers anew."""

from __future__ import annotations

import asyncio
import json
import zlib
from functools import partial

import pytest
from chat_process import ChatProcess, Page, Start, get
from fake_upstream import Answer, FakeUpstream
from pdf import page as page_with
from pdf import pdf


async def opened(chat: ChatProcess, language: str = "en-US", model: str | None = None) -> Page:
    page = Page(chat.url, language, model=model)
    await page.open()
    return page


async def answered(page: Page, question: str, **more: object) -> str:
    identifier = await page.ask(question, **more)  # type: ignore[arg-type]
    await page.ended()
    return identifier


def buttons(page: Page, name: str) -> list[dict[str, object]]:
    return [action for action in page.actions if action["name"] == name]


async def test_settings_of_a_chat_are_its_own(start: Start, fake: FakeUpstream) -> None:
    chat = await start(system_prompt="Be brief.", temperature=0.5, max_tokens=100)
    page, other = await opened(chat), await opened(chat)
    shown = {item["id"]: (item["label"], item["initial"]) for item in page.panel}
    assert shown == {
        "system_prompt": ("Instruction", "Be brief."),
        "temperature": ("Temperature", "0.5"),
        "max_tokens": ("Longest answer", 100),
    }
    await page.choose(system_prompt="Rhyme.", temperature="", max_tokens=7)
    await answered(page, "first")
    await answered(other, "first")
    mine, theirs = fake.requests
    assert mine["messages"][0] == {"role": "system", "content": "Rhyme."}
    assert mine["max_tokens"] == 7
    assert "temperature" not in mine
    assert theirs["messages"][0]["content"] == "Be brief."
    assert (theirs["max_tokens"], theirs["temperature"]) == (100, 0.5)
    await page.close()
    await other.close()


@pytest.mark.parametrize(
    ("language", "said"), [("en-US", "must be from 1 to 100"), ("zh-CN", "1 到 100")]
)
async def test_a_wrong_setting_is_refused_in_words(
    start: Start, fake: FakeUpstream, language: str, said: str
) -> None:
    chat = await start(max_tokens=100)
    page = await opened(chat, language)
    await page.choose(system_prompt="Rhyme.", max_tokens=10_000)
    await page.until(lambda: page.toasts)
    assert said in page.toasts[0]["message"]
    assert [item["initial"] for item in page.panel if item["id"] == "system_prompt"] == [""]
    await answered(page, "first")
    assert fake.requests[0]["max_tokens"] == 100
    assert len(fake.requests[0]["messages"]) == 1
    await page.close()


async def test_settings_changed_in_mid_answer_leave_it_stoppable(
    start: Start, fake: FakeUpstream
) -> None:
    chat = await start()
    page = await opened(chat)
    fake.script.append(Answer(("It is",), "hang"))
    await page.ask("first")
    await page.sees("It is")
    await page.choose(max_tokens=7)
    # Chainlit's own hook would say here that nothing runs, and the page would hide its stop.
    with pytest.raises(TimeoutError):
        await page.ended(0.5)
    await page.stop()
    await page.ended()
    await page.close()


async def test_an_operator_may_keep_the_settings(start: Start, fake: FakeUpstream) -> None:
    chat = await start(settings_panel=False)
    page = await opened(chat)
    assert page.panel == []
    # A forged page has the event all the same.
    await page.choose(system_prompt="Forged.")
    await answered(page, "first")
    assert len(fake.requests[0]["messages"]) == 1
    await page.close()


async def test_thinking_can_be_switched_off_where_it_was_seen(
    start: Start, fake: FakeUpstream
) -> None:
    chat = await start()
    page = await opened(chat)
    assert "think" not in [item["id"] for item in page.panel]
    fake.script.append(Answer(("Hm",), field_name="reasoning"))
    await answered(page, "first")
    assert "think" in [item["id"] for item in page.panel]
    later = await opened(chat)
    assert "think" in [item["id"] for item in later.panel]
    await page.choose(think=False)
    await answered(page, "second")
    assert fake.requests[1]["chat_template_kwargs"]["enable_thinking"] is False
    await page.close()
    await later.close()


async def test_a_conversation_longer_than_the_context_goes_on_and_that_is_told(
    start: Start, fake: FakeUpstream
) -> None:
    fake.context_tokens, fake.prompt_tokens = 1000, None
    chat = await start()
    page = await opened(chat)
    fake.default = Answer(("word " * 300,))
    for number in range(4):
        await answered(page, f"question {number}")
    notices = [text for text in page.texts() if "longer than the model" in text]
    assert len(notices) == 1
    assert len(fake.requests[-1]["messages"]) < 7
    await page.close()


async def test_an_answer_at_its_longest_length_says_so(start: Start, fake: FakeUpstream) -> None:
    fake.script.extend(
        [Answer(("It is",), "length"), Answer(("Hm",), "length", field_name="reasoning")]
    )
    chat = await start()
    page = await opened(chat)
    await answered(page, "first")
    assert page.texts() == [
        "It is",
        "The answer stops here because it has reached its longest length. "
        "You can ask for the rest.",
    ]
    answer, notice = [i for i in page.messages.values() if i["type"] == "assistant_message"]
    # Only the last message of a run can be copied.
    assert answer["parentId"] is not None
    assert notice["parentId"] is None
    await answered(page, "second")
    assert "for thinking alone" in page.texts()[-1]
    await page.close()


async def test_files_are_read_and_asked_about(start: Start, fake: FakeUpstream) -> None:
    chat = await start()
    page = await opened(chat)
    text = (await page.upload("main.rs", b"fn main() {}", "application/octet-stream")).json()["id"]
    paper = (await page.upload("paper.pdf", pdf("Paris"), "application/pdf")).json()["id"]
    question = await answered(page, "What is it?", files=[text, paper])
    asked = (
        '<file name="main.rs">\nfn main() {}\n</file>\n\n'
        '<file name="paper.pdf">\nParis\n</file>\n\nWhat is it?'
    )
    assert fake.requests[0]["messages"] == [{"role": "user", "content": asked}]
    assert {element["name"] for element in page.elements} == {"main.rs", "paper.pdf"}
    # The files go with the question when it is edited.
    await answered(page, "What else?", message_id=question)
    assert fake.requests[1]["messages"][0]["content"].startswith('<file name="main.rs">')
    assert fake.requests[1]["messages"][0]["content"].endswith("What else?")
    await page.close()


@pytest.mark.parametrize(
    ("language", "said"),
    [
        ("en-US", "The file cat.png holds no text"),
        ("zh-CN", "文件 cat.png 中没有"),
    ],
)
async def test_a_file_without_text_is_refused_in_words(
    start: Start, fake: FakeUpstream, language: str, said: str
) -> None:
    chat = await start()
    page = await opened(chat, language)
    picture = (await page.upload("cat.png", b"\x89PNG\x00", "image/png")).json()["id"]
    await answered(page, "What is it?", files=[picture])
    assert said in page.texts()[0]
    assert fake.requests == []
    await answered(page, "And without?")
    assert len(fake.requests[0]["messages"]) == 1
    await page.close()


async def test_files_have_bounds(start: Start) -> None:
    chat = await start(upload_max_mib=1)
    page = await opened(chat)
    assert (await page.upload("a.txt", b"x" * 1024 * 1024)).status_code == 200
    assert (await page.upload("a.txt", b"x" * (1024 * 1024 + 1))).status_code == 400
    await page.close()


async def test_files_may_be_off(start: Start) -> None:
    chat = await start(upload_max_mib=0)
    page = await opened(chat)
    assert (await page.upload("a.txt", b"x")).status_code == 400
    settings = (await get(f"{chat.url}/project/settings?language=en-US")).json()
    assert settings["features"]["spontaneous_file_upload"]["enabled"] is False
    await page.close()


async def test_an_uploaded_page_cannot_act_as_this_one(start: Start) -> None:
    chat = await start()
    page = await opened(chat)
    evil = (await page.upload("a.html", b"<script>alert(1)</script>", "text/html")).json()["id"]
    found = await get(f"{chat.url}/project/file/{evil}?session_id={page.session_id}")
    assert found.text == "<script>alert(1)</script>"
    assert found.headers["content-security-policy"].startswith("sandbox;")
    assert found.headers["content-disposition"] == "attachment"
    await page.close()


async def test_model_with_a_new_name_answers_the_next_question(
    start: Start, fake: FakeUpstream
) -> None:
    chat = await start()
    page = await opened(chat)
    await answered(page, "first")
    # A release with another served model name has come while nobody asked.
    fake.models = ("renamed",)
    await answered(page, "second")
    assert page.texts() == ["Paris.", "Paris."]
    assert [request["model"] for request in fake.requests] == ["fake", "fake", "renamed"]
    await page.close()


async def test_presses_at_once_ask_anew_once(start: Start, fake: FakeUpstream) -> None:
    chat = await start()
    page = await opened(chat)
    await answered(page, "first")
    (again,) = buttons(page, "regenerate")
    asked = len(fake.requests)
    await asyncio.gather(*(page.press(again) for _ in range(8)))
    await page.ended()
    # A second turn would wait for the end of the first.
    await asyncio.sleep(0.5)
    assert len(fake.requests) == asked + 1
    assert page.texts() == ["Paris."]
    await page.close()


async def test_the_last_answer_can_be_had_anew(start: Start, fake: FakeUpstream) -> None:
    chat = await start()
    page = await opened(chat)
    await answered(page, "first")
    fake.script.extend([Answer(("Lyon",)), Answer(("Paris",))])
    second = await answered(page, "second")
    assert page.texts() == ["Paris.", "Lyon"]
    # Only the last answer has it.
    (again,) = buttons(page, "regenerate")
    await page.press(again)
    await page.until(lambda: page.texts() == ["Paris.", "Paris"])
    await page.until(lambda: len(buttons(page, "regenerate")) == 1)
    # In the run of its question, as every answer: elsewhere the page shows no button to copy it.
    answers = [item for item in page.messages.values() if item["type"] == "assistant_message"]
    assert page.messages[answers[-1]["parentId"]]["parentId"] == second
    contents = [message["content"] for message in fake.requests[-1]["messages"]]
    assert contents == ["first", "Paris.", "second"]
    # It can be stopped, as any other.
    fake.script.append(Answer(("Ma",), "hang"))
    await page.press(buttons(page, "regenerate")[0])
    await page.sees("Ma")
    await page.stop()
    await page.ended()
    assert page.texts() == ["Paris.", "Ma"]
    await page.close()


async def test_what_followed_an_edited_question_is_gone(start: Start, fake: FakeUpstream) -> None:
    chat = await start()
    page = await opened(chat)
    fake.script.append(Answer(("Hm",), "length", field_name="reasoning"))
    first = await answered(page, "first")
    await answered(page, "second")
    await answered(page, "first, better", message_id=first)
    assert page.texts() == ["Paris."]
    # What the model thought of the question before.
    assert [item for item in page.messages.values() if item["type"] == "llm"] == []
    await page.close()


async def test_the_conversation_is_exported(start: Start, fake: FakeUpstream) -> None:
    chat = await start(title="Fleet Chat")
    page = await opened(chat)
    await answered(page, "Capital of France?")
    markdown, as_json = buttons(page, "export")
    await page.press(markdown)
    await page.press(as_json)
    await page.until(lambda: len(page.downloads) == 2)
    assert page.downloads[0]["text"].startswith("# Fleet Chat\n")
    assert "## Answer\n\nParis." in page.downloads[0]["text"]
    assert json.loads(page.downloads[1]["text"])["messages"][1]["content"] == "Paris."
    # A chat can be kept while the back end is away, too.
    await fake.stop()
    await page.until(lambda: page.states and page.states[-1]["state"] == "down")
    await page.close()


async def test_one_model_is_no_choice_and_several_are(start: Start, fake: FakeUpstream) -> None:
    chat = await start()
    address = f"{chat.url}/project/settings?language=en-US"
    assert (await get(address)).json()["chatProfiles"] == []
    fake.models = ("small", "large")
    other = await start()
    profiles = (await get(f"{other.url}/project/settings?language=en-US")).json()["chatProfiles"]
    assert [(item["name"], item["default"]) for item in profiles] == [
        ("small", True),
        ("large", False),
    ]
    page = await opened(other, model="large")
    await answered(page, "first")
    assert fake.requests[0]["model"] == "large"
    await page.close()


async def test_a_question_stopped_while_its_file_is_read_can_be_asked_again(
    start: Start, fake: FakeUpstream
) -> None:
    chat = await start()
    page = await opened(chat)
    await answered(page, "first")
    # Takes seconds to read.
    slow = page_with(
        zlib.compress(b"BT (Paris) Tj ET " + b"q Q " * 200_000), b"/Filter /FlateDecode"
    )
    paper = (await page.upload("paper.pdf", slow, "application/pdf")).json()["id"]
    await page.ask("What is it?", files=[paper])
    await asyncio.sleep(0.3)
    await page.stop()
    await page.sees("Stopped.")
    await page.ended()
    assert len(fake.requests) == 1
    await page.until(lambda: len(buttons(page, "regenerate")) == 1)
    (again,) = buttons(page, "regenerate")
    await page.press(again)
    await page.ended(25)
    await page.until(lambda: page.texts() == ["Paris.", "Paris."])
    assert fake.requests[-1]["messages"][-1]["content"].endswith("What is it?")
    assert "Paris\n</file>" in fake.requests[-1]["messages"][-1]["content"]
    await page.close()


async def test_a_question_stopped_in_the_line_says_so(start: Start, fake: FakeUpstream) -> None:
    chat = await start()
    page = await opened(chat)
    fake.script.append(Answer(("It is",), "hang"))
    first = await page.ask("first")
    await page.sees("It is")
    await page.ask("second")
    await asyncio.sleep(0.3)
    await page.stop()
    await page.sees("Stopped.")
    assert page.texts() == ["It is", "Stopped."]
    await page.until(lambda: len(buttons(page, "regenerate")) == 1)
    (again,) = buttons(page, "regenerate")
    await page.press(again)
    await page.until(lambda: page.texts() == ["It is", "Paris."])
    await page.ended()
    # An edit stops what is in the line, too, but nobody misses that.
    fake.script.append(Answer(("Hm",), "hang"))
    await page.ask("third")
    await page.sees("Hm")
    await page.ask("fourth")
    await asyncio.sleep(0.3)
    await answered(page, "first, better", message_id=first)
    await asyncio.sleep(0.5)
    assert page.texts() == ["Paris."]
    assert len(buttons(page, "regenerate")) == 1
    await page.close()


async def test_stop_pressed_twice_closes_the_answer_once(start: Start, fake: FakeUpstream) -> None:
    chat = await start()
    page = await opened(chat)
    for _ in range(3):
        shown = len(page.texts())
        fake.script.append(Answer(("It is",), "hang"))
        await page.ask("again")
        await page.until(partial(lambda before: page.texts()[before:] == ["It is"], shown))
        await asyncio.gather(*(page.stop() for _ in range(5)))
        await page.ended()
        await asyncio.sleep(0.5)
        assert len(buttons(page, "regenerate")) == 1
    # And of what waits behind it.
    fake.script.append(Answer(("It is",), "hang"))
    await page.ask("long")
    await page.until(lambda: page.texts() == ["It is"] * 4)
    await page.ask("waits")
    await asyncio.sleep(0.3)
    await asyncio.gather(*(page.stop() for _ in range(5)))
    await page.sees("Stopped.")
    await page.until(lambda: len(buttons(page, "regenerate")) == 1)
    await page.close()
