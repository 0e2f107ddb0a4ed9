"""A turn through every fault of the back end, against a fake that misbehaves on command."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace

import pytest
from fake_upstream import Answer, Behaviour, FakeUpstream, Silence, Status
from gpufleet_chat.answer_queue import AnswerQueue
from gpufleet_chat.choices import Choices
from gpufleet_chat.conversation import Conversation, Exchange
from gpufleet_chat.metrics import Metrics
from gpufleet_chat.monitor import OFFLINE_SECONDS, Monitor
from gpufleet_chat.settings import MonitorSettings, Retry, Secrets, Settings
from gpufleet_chat.turn import Answerer, Failure, StopReason, Turn, Waiting
from gpufleet_chat.turns import Turns
from gpufleet_chat.upstream import Delta, Upstream

FAST = Settings(
    upstream_url="",
    state_directory="/tmp",
    request_timeout_seconds=0.3,
    recovery_wait_seconds=5,
    retry=Retry(attempts=3, first_delay_seconds=0.01, max_delay_seconds=0.05),
    monitor=MonitorSettings(interval_seconds=0.05, timeout_seconds=0.5, failures=2),
)
SECRET_QUESTION = "What does Mallory know?"


@dataclass
class Recorder:
    """A display that writes down what a person would have seen."""

    text: str = ""
    thoughts: str = ""
    waits: list[Waiting] = field(default_factory=list)
    resumes: int = 0
    forgotten: int = 0
    closed: list[str] = field(default_factory=list)
    failure: Failure | None = None
    reference: str = ""
    retry: bool = False
    began: asyncio.Event = field(default_factory=asyncio.Event)
    waited: asyncio.Event = field(default_factory=asyncio.Event)

    async def show(self, delta: Delta) -> None:
        if delta.reasoning:
            self.thoughts += delta.text
        else:
            self.text += delta.text
        self.began.set()

    async def forgot(self) -> None:
        self.forgotten += 1

    async def restart(self) -> None:
        self.text = self.thoughts = ""

    async def wait(self, waiting: Waiting, ahead: int = 0) -> None:
        if not self.waits or self.waits[-1] is not waiting:
            self.waits.append(waiting)
        self.waited.set()

    async def resume(self) -> None:
        self.resumes += 1

    async def finish(self, length_reached: bool = False) -> None:
        self.closed.append("at length" if length_reached else "finished")

    async def stopped(self) -> None:
        self.closed.append("stopped")

    async def fail(self, failure: Failure, reference: str, retry: bool, seconds: int = 0) -> None:
        self.closed.append("failed")
        self.failure, self.reference, self.retry = failure, reference, retry


@asynccontextmanager
async def answerer(
    fake: FakeUpstream,
    settings: Settings = FAST,
    watch: bool = True,
    offline_seconds: float = OFFLINE_SECONDS,
) -> AsyncIterator[Answerer]:
    settings = replace(settings, upstream_url=fake.url)
    upstream = Upstream(settings, Secrets(api_key="sesame"))
    monitor = Monitor(settings.monitor, upstream.health, offline_seconds)
    watcher = asyncio.create_task(monitor.run()) if watch else None
    await monitor.check_now()
    try:
        queue = AnswerQueue(settings.concurrent_answers, settings.queue_length, 100)
        yield Answerer(settings, upstream, monitor, queue, Metrics(queue, monitor))
    finally:
        if watcher is not None:
            watcher.cancel()
        await upstream.close()


@dataclass(frozen=True)
class Case:
    """A script of behaviours and what a person must see in the end."""

    name: str
    script: tuple[Behaviour, ...]
    text: str
    failure: Failure | None = None
    retry: bool = False
    waits: tuple[Waiting, ...] = ()
    requests: int = 1


CASES = [
    Case("whole", (Answer(("The ", "end")),), "The end"),
    Case("thinking", (Answer(("Hm",), field_name="reasoning"),), ""),
    # What comes after the reason of the end is only numbers.
    Case("cut after its end", (Answer(("The ", "end"), "late cut"),), "The end"),
    Case("once 502", (Status(502),), "Paris.", requests=2),
    Case("once 500", (Status(500),), "Paris.", requests=2),
    Case("plain 503", (Status(503),), "Paris.", requests=2),
    Case(
        "503 twice",
        (Status(503), Status(503)),
        "Paris.",
        waits=(Waiting.RECOVERING,),
        requests=3,
    ),
    Case(
        "busy",
        (Status(503, (("retry-after", "0.1"),)),) * 5,
        "Paris.",
        waits=(Waiting.BUSY,),
        requests=6,
    ),
    Case(
        "limited",
        (Status(429, (("retry-after", "0.1"),)),),
        "Paris.",
        waits=(Waiting.BUSY,),
        requests=2,
    ),
    Case("silence", (Silence(),), "Paris.", requests=2),
    Case("never", (Status(502),) * 9, "", Failure.UNAVAILABLE, True, (Waiting.RECOVERING,), 3),
    Case(
        "cut once",
        (Answer(("The ", "capital is "), "cut"), Answer((" Paris",))),
        "The capital is Paris",
        waits=(Waiting.INTERRUPTED,),
        requests=2,
    ),
    Case(
        "ends without its mark",
        (Answer(("It is",), "short"), Answer((" Paris",))),
        "It is Paris",
        waits=(Waiting.INTERRUPTED,),
        requests=2,
    ),
    Case(
        "error in the stream",
        (Answer(("It is",), "error"), Answer((" Paris",))),
        "It is Paris",
        waits=(Waiting.INTERRUPTED,),
        requests=2,
    ),
    Case("aborted at once", (Answer((), "abort"),), "Paris.", requests=2),
    Case(
        "aborted in the middle",
        (Answer(("It is",), "abort"), Answer((" Paris",))),
        "It is Paris",
        waits=(Waiting.INTERRUPTED,),
        requests=2,
    ),
    Case(
        "hangs in the middle",
        (Answer(("It is",), "hang"), Answer((" Paris",))),
        "It is Paris",
        waits=(Waiting.INTERRUPTED,),
        requests=2,
    ),
    Case(
        "continued as reasoning",
        (Answer(("It is",), "cut"), Answer((" Paris",), field_name="reasoning")),
        "It is Paris",
        waits=(Waiting.INTERRUPTED,),
        requests=2,
    ),
    Case(
        "cut for good",
        (Answer(("It is",), "cut"), *(Status(502),) * 9),
        "It is",
        Failure.CUT,
        True,
        (Waiting.INTERRUPTED,),
        3,
    ),
    Case(
        "cannot continue",
        (Answer(("It is",), "cut"), Status(400)),
        "It is",
        Failure.CUT,
        True,
        (Waiting.INTERRUPTED,),
        2,
    ),
    Case("refused", (Status(400),), "", Failure.REFUSED),
    Case("wrong key", (Status(401),), "", Failure.REFUSED),
    Case("long", (Status(400, message="maximum context length is 9"),), "Paris.", requests=2),
    Case(
        "too long",
        (Status(400, message="maximum context length is 9"),) * 2,
        "",
        Failure.TOO_LONG,
        requests=2,
    ),
]


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
async def test_faults(case: Case, fake: FakeUpstream, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG, logger="gpufleet_chat")
    fake.script.extend(case.script)
    display = Recorder()
    turn = Turn("q1", SECRET_QUESTION)
    async with answerer(fake) as answers:
        whole = await answers.run(turn, Conversation(), display)
    assert display.text == case.text
    assert turn.answer == case.text
    assert display.failure is case.failure
    assert whole is (case.failure is None)
    assert display.retry is case.retry
    assert tuple(display.waits) == case.waits
    assert len(fake.requests) == case.requests
    assert fake.authorizations[0] == "Bearer sesame"
    if case.failure is not None:
        assert display.reference in caplog.text
    assert "Mallory" not in caplog.text


async def test_cut_answer_is_continued_not_repeated(fake: FakeUpstream) -> None:
    fake.script.extend([Answer(("The ", "capital is "), "cut"), Answer((" Paris",))])
    async with answerer(fake) as answers:
        await answers.run(Turn("q1", "Capital?"), Conversation("Be brief."), Recorder())
    first, second = fake.requests
    assert "continue_final_message" not in first
    assert second["continue_final_message"] is True
    assert second["add_generation_prompt"] is False
    # A trailing space derails the model, so it is not sent.
    assert second["messages"][-1] == {"role": "assistant", "content": "The capital is"}
    assert second["messages"][:-1] == first["messages"]
    assert second["max_tokens"] == first["max_tokens"] - 2


THOUGHTS = Answer(("Hm", "m"), "cut", field_name="reasoning")


async def test_cut_thinking_begins_again_with_all_its_tokens(fake: FakeUpstream) -> None:
    fake.script.extend([THOUGHTS, Answer(("Well",), field_name="reasoning")])
    display, turn = Recorder(), Turn("q1", "?")
    async with answerer(fake) as answers:
        assert await answers.run(turn, Conversation(), display)
        seen = answers._metrics.text()
    first, second = fake.requests
    assert second == first
    assert (display.thoughts, turn.tokens) == ("Well", 1)
    # A person has waited once.
    assert b"first_token_seconds_count 1.0" in seen


async def test_try_again_after_thinking_has_all_its_tokens(fake: FakeUpstream) -> None:
    fake.script.extend([THOUGHTS, *[Status(502)] * 2])
    display, turn = Recorder(), Turn("q1", "?")
    async with answerer(fake) as answers:
        assert not await answers.run(turn, Conversation(), display)
        assert await answers.run(turn, Conversation(), display)
    assert (display.text, display.thoughts) == ("Paris.", "")
    assert fake.requests[-1] == fake.requests[0]


async def test_question_waits_for_recovery_and_is_sent_by_itself(fake: FakeUpstream) -> None:
    display = Recorder()
    async with answerer(fake) as answers:
        await fake.stop()
        running = asyncio.create_task(answers.run(Turn("q1", "?"), Conversation(), display))
        await asyncio.sleep(0.5)
        assert not running.done()
        assert display.waits == [Waiting.RECOVERING]
        await fake.start()
        assert await asyncio.wait_for(running, 3)
    assert display.text == "Paris."
    assert display.resumes


async def test_answer_cut_by_death_goes_on_after_recovery(fake: FakeUpstream) -> None:
    fake.script.append(Answer(("It is",), "hang"))
    display = Recorder()
    settings = replace(FAST, request_timeout_seconds=30)
    async with answerer(fake, settings) as answers:
        running = asyncio.create_task(answers.run(Turn("q1", "?"), Conversation(), display))
        await asyncio.wait_for(display.began.wait(), 3)
        await fake.stop()
        await asyncio.wait_for(display.waited.wait(), 3)
        await asyncio.sleep(0.4)
        fake.default = Answer((" Paris",))
        await fake.start()
        assert await asyncio.wait_for(running, 3)
    assert display.text == "It is Paris"
    assert display.waits == [Waiting.INTERRUPTED]


async def test_dead_back_end_is_down_before_the_watch_says_so(fake: FakeUpstream) -> None:
    slow_watch = replace(FAST.monitor, failures=1000)
    settings = replace(FAST, recovery_wait_seconds=0.5, monitor=slow_watch)
    display = Recorder()
    async with answerer(fake, settings, watch=False) as answers:
        fake.healthy = False
        fake.default = Status(502)
        await answers.run(Turn("q1", "?"), Conversation(), display)
    # The attempts, then quiet until recovery: nothing hammers a back end that restarts.
    assert len(fake.requests) == FAST.retry.attempts
    assert display.failure is Failure.UNAVAILABLE


async def test_offline_is_said_and_hammers_nothing(fake: FakeUpstream) -> None:
    fake.healthy, fake.health_code = False, "no_instance_runs"
    fake.default = Status(502)
    display = Recorder()
    settings = replace(FAST, recovery_wait_seconds=0.5)
    async with answerer(fake, settings, offline_seconds=0) as answers:
        await answers.run(Turn("q1", "?"), Conversation(), display)
    assert display.waits == [Waiting.OFFLINE]
    assert fake.requests == []
    assert display.failure is Failure.UNAVAILABLE


@pytest.mark.parametrize(
    ("pieces", "failure"), [((), Failure.UNAVAILABLE), (("It is",), Failure.CUT)]
)
async def test_no_recovery_in_time_is_said(
    fake: FakeUpstream, pieces: tuple[str, ...], failure: Failure
) -> None:
    fake.script.append(Answer(pieces, "cut"))
    fake.healthy = True
    display = Recorder()
    settings = replace(FAST, recovery_wait_seconds=0.6)
    async with answerer(fake, settings) as answers:
        fake.healthy = False
        fake.default = Status(503, (("retry-after", "0.1"),))
        await asyncio.wait_for(answers.run(Turn("q1", "?"), Conversation(), display), 3)
    assert display.failure is failure
    assert display.retry
    # A gateway without instances says "busy" too; a person is told the truth.
    assert Waiting.BUSY not in display.waits


async def test_try_again_goes_on_in_the_same_answer(fake: FakeUpstream) -> None:
    fake.script.extend([Answer(("It is",), "cut"), *[Status(502)] * 3])
    display, turn, conversation = Recorder(), Turn("q1", "?"), Conversation()
    async with answerer(fake) as answers:
        assert not await answers.run(turn, conversation, display)
        fake.script.clear()
        fake.default = Answer((" Paris",))
        assert await answers.run(turn, conversation, display)
    assert display.text == "It is Paris"
    assert [message["content"] for message in conversation.messages("next")] == [
        "?",
        "It is Paris",
        "next",
    ]


async def test_try_again_starts_over_where_continuing_is_refused(fake: FakeUpstream) -> None:
    fake.script.extend([Answer(("It is",), "cut"), Status(400)])
    display, turn = Recorder(), Turn("q1", "?")
    async with answerer(fake) as answers:
        assert not await answers.run(turn, Conversation(), display)
        assert await answers.run(turn, Conversation(), display)
    assert display.text == "Paris."
    assert "continue_final_message" not in fake.requests[-1]


async def test_stop_aborts_the_request_and_keeps_the_text(fake: FakeUpstream) -> None:
    fake.script.append(Answer(("It is",), "hang"))
    display, turn, conversation, turns = Recorder(), Turn("q1", "?"), Conversation(), Turns()

    async def run(answers: Answerer) -> None:
        with turns.running("s1", turn):
            await answers.run(turn, conversation, display)

    settings = replace(FAST, request_timeout_seconds=30)
    async with answerer(fake, settings) as answers:
        running = asyncio.create_task(run(answers))
        await asyncio.wait_for(display.began.wait(), 3)
        assert turns.stop(StopReason.PERSON, "other") == 0
        assert turns.stop(StopReason.PERSON, "s1") == 1
        with pytest.raises(asyncio.CancelledError):
            await running
        await asyncio.wait_for(fake.aborted.wait(), 1)
    assert display.closed == ["stopped"]
    assert len(turns) == 0
    assert conversation.messages("next")[1]["content"] == "It is"


async def test_long_history_is_shortened_from_its_beginning(fake: FakeUpstream) -> None:
    fake.script.append(Status(400, message="This model's maximum context length is 9 tokens."))
    conversation = Conversation()
    for number in range(3):
        conversation.add(Exchange(str(number), f"question {number}", f"answer {number}"))
    async with answerer(fake) as answers:
        assert await answers.run(Turn("q1", "?"), conversation, Recorder())
    assert [len(request["messages"]) for request in fake.requests] == [7, 5]
    assert fake.requests[1]["messages"][0]["content"] == "question 1"


async def test_history_is_trimmed_to_the_context_that_the_model_has(fake: FakeUpstream) -> None:
    fake.context_tokens, fake.prompt_tokens = 1000, 900
    conversation, display = Conversation(), Recorder()
    for number in range(10):
        conversation.add(Exchange(str(number), f"question {number} " + "x" * 500, "y" * 500))
    async with answerer(fake) as answers:
        assert await answers.run(Turn("q1", "?"), conversation, display)
        assert await answers.run(Turn("q2", "?"), conversation, display)
    sent = [request["messages"] for request in fake.requests]
    assert 1 < len(sent[0]) < 21
    assert sent[0][0]["content"].startswith(f"question {10 - len(sent[0]) // 2} ")
    assert fake.requests[0]["max_tokens"] < FAST.max_tokens
    assert display.forgotten == 1
    # All of it is still there for the person.
    assert len(conversation.exchanges) == 12


async def test_context_is_not_trimmed_where_the_back_end_does_not_tell_it(
    fake: FakeUpstream,
) -> None:
    conversation, display = Conversation(), Recorder()
    conversation.add(Exchange("0", "x" * 100_000, "y"))
    async with answerer(fake) as answers:
        assert await answers.run(Turn("q1", "?"), conversation, display)
    assert len(fake.requests[0]["messages"]) == 3
    assert fake.requests[0]["max_tokens"] == FAST.max_tokens
    assert display.forgotten == 0


async def test_history_stays_when_the_question_alone_is_too_long(fake: FakeUpstream) -> None:
    fake.default = Status(400, message="This model's maximum context length is 9 tokens.")
    conversation, display = Conversation(), Recorder()
    conversation.add(Exchange("0", "before", "answer"))
    async with answerer(fake) as answers:
        assert not await answers.run(Turn("q1", "?"), conversation, display)
        fake.default = Answer(("Paris",))
        assert await answers.run(Turn("q2", "short"), conversation, display)
    assert display.failure is Failure.TOO_LONG
    assert fake.requests[-1]["messages"][0]["content"] == "before"
    # A question that fills the context is tried with a short answer before it is refused.
    assert [request["max_tokens"] for request in fake.requests] == [1024, 1024, 256, 1024]


async def test_choices_are_sent(fake: FakeUpstream) -> None:
    chosen = Choices("Rhyme.", 0.5, 10, think=False)
    async with answerer(fake) as answers:
        await answers.run(Turn("q1", "?", chosen), Conversation("Be brief."), Recorder())
        await answers.run(Turn("q2", "?"), Conversation("Be brief."), Recorder())
    first, second = fake.requests
    assert first["messages"][0] == {"role": "system", "content": "Rhyme."}
    assert (first["temperature"], first["max_tokens"]) == (0.5, 10)
    assert first["chat_template_kwargs"]["enable_thinking"] is False
    assert second["messages"][0]["content"] == "Be brief."
    assert not {"temperature", "chat_template_kwargs"} & set(second)


async def test_answer_at_its_longest_length_is_said_to_be(fake: FakeUpstream) -> None:
    fake.script.append(Answer(("It is",), "length"))
    display = Recorder()
    async with answerer(fake) as answers:
        assert await answers.run(Turn("q1", "?"), Conversation(), display)
        assert await answers.run(Turn("q2", "?"), Conversation(), display)
    assert display.closed == ["at length", "finished"]


@pytest.mark.parametrize(
    ("wanted", "asked"), [("large", "large"), (None, "small"), ("forged", "small")]
)
async def test_the_chosen_model_is_asked(
    fake: FakeUpstream, wanted: str | None, asked: str
) -> None:
    fake.models = ("small", "large")
    async with answerer(fake) as answers:
        await answers.run(Turn("q1", "?", model=wanted), Conversation(), Recorder())
    assert fake.requests[0]["model"] == asked


async def test_the_operators_model_is_asked_whatever_was_chosen(fake: FakeUpstream) -> None:
    fake.models = ("small", "large")
    async with answerer(fake, replace(FAST, model="large")) as answers:
        await answers.run(Turn("q1", "?", model="small"), Conversation(), Recorder())
    assert fake.requests[0]["model"] == "large"


async def test_edited_question_replaces_what_followed(fake: FakeUpstream) -> None:
    conversation = Conversation()
    async with answerer(fake) as answers:
        for identifier, question in (("a", "one"), ("b", "two"), ("a", "one, better")):
            await answers.run(Turn(identifier, question), conversation, Recorder())
    assert fake.requests[-1]["messages"] == [{"role": "user", "content": "one, better"}]


async def test_broken_display_is_logged_and_told(
    fake: FakeUpstream, caplog: pytest.LogCaptureFixture
) -> None:
    class Broken(Recorder):
        async def show(self, delta: Delta) -> None:
            raise ZeroDivisionError("inner detail")

    display = Broken()
    async with answerer(fake) as answers:
        assert not await answers.run(Turn("q1", "?"), Conversation(), display)
    assert display.failure is Failure.INTERNAL
    assert display.reference in caplog.text
