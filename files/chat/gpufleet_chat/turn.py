"""One question and its answer, through every fault of the back end in between."""

from __future__ import annotations

import asyncio
import logging
import secrets
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass, field
from enum import Enum
from typing import Protocol

from gpufleet_chat.answer_queue import AnswerQueue
from gpufleet_chat.attachments import File
from gpufleet_chat.choices import Choices
from gpufleet_chat.conversation import Conversation, Exchange
from gpufleet_chat.logs import event
from gpufleet_chat.metrics import Metrics
from gpufleet_chat.monitor import Monitor, State
from gpufleet_chat.settings import Settings
from gpufleet_chat.upstream import (
    Busy,
    Cut,
    Delta,
    LengthReached,
    Model,
    Refused,
    Request,
    TooLong,
    Unavailable,
    Upstream,
    UpstreamError,
    Usage,
)

log = logging.getLogger(__name__)

# The part of the context that the history leaves to the answer, if no shorter one is asked for.
ANSWER_SHARE = 4
# What a long question may leave to its answer before it is too long.
SHORT_ANSWER_TOKENS = 256


class Waiting(Enum):
    """Why a person waits; the values are keys of the message texts."""

    RECOVERING = "waiting.recovering"
    OFFLINE = "waiting.offline"
    QUEUED = "waiting.queued"
    BUSY = "waiting.busy"
    INTERRUPTED = "waiting.interrupted"


# What a question waits for while no instance is ready.
_AWAY = {State.DOWN: Waiting.RECOVERING, State.OFFLINE: Waiting.OFFLINE}


class Failure(Enum):
    """Why a question stays without a whole answer; the values are keys of the message texts."""

    UNAVAILABLE = "failed.unavailable"
    CUT = "failed.cut"
    TOO_LONG = "failed.too_long"
    REFUSED = "failed.refused"
    INTERNAL = "failed.internal"
    RESTARTING = "failed.restarting"
    TOO_OFTEN = "refused.too_often"
    TOO_MANY_AT_ONCE = "refused.too_many_at_once"
    QUEUE_FULL = "refused.queue_full"


RETRYABLE = frozenset({Failure.UNAVAILABLE, Failure.CUT, Failure.INTERNAL})


class StopReason(Enum):
    """Who ended a turn before its end."""

    PERSON = "person"
    # By a person who asks something else instead.
    EDITED = "edited"
    ABANDONED = "abandoned"
    RESTART = "restart"


class Display(Protocol):
    """What a user interface must be able to show of a turn."""

    async def show(self, delta: Delta) -> None:
        """Add a piece to the answer, or to the thinking before it."""

    async def forgot(self) -> None:
        """Say that the beginning of the conversation does not fit into the model's context."""

    async def restart(self) -> None:
        """Clear the answer and the thinking before it: they begin again."""

    async def wait(self, waiting: Waiting, ahead: int = 0) -> None:
        """Say why nothing comes, how many questions come first; again it changes nothing."""

    async def resume(self) -> None:
        """Take back what wait said."""

    async def finish(self, length_reached: bool = False) -> None:
        """Close the answer as it stands, and say so when it is empty or as long as it may be."""

    async def stopped(self) -> None:
        """Close the answer where a person stopped it."""

    async def fail(self, failure: Failure, reference: str, retry: bool, seconds: int = 0) -> None:
        """Close the answer and say in plain words what happened, with an offer to try again.

        seconds is how long a person must wait before that, 0 where nobody knows.
        """


@dataclass
class Turn:
    """A question and how far its answer has come; run again it goes on where it was.

    Without choices it is asked as the operator has set; model is the one that was chosen.
    """

    question_id: str
    question: str
    choices: Choices | None = None
    model: str | None = None
    # Not read yet; what they hold becomes file_text.
    files: Sequence[File] = ()
    person: str = ""
    # Stands before the question in what the model is sent.
    file_text: str = ""
    answer: str = ""
    tokens: int = 0
    stop_reason: StopReason = StopReason.PERSON
    continuable: bool = True
    short: bool = False
    length_reached: bool = False
    # Whether a person has seen a first piece; what begins again is no second one.
    begun: bool = False
    reference: str = field(default_factory=lambda: secrets.token_hex(4))
    # Of the monotonic clock: its rank in the queue, and what people feel as the time to an answer.
    asked_at: float = field(default_factory=time.monotonic)

    @property
    def sent(self) -> str:
        """What the model is sent."""
        return self.file_text + self.question


class TurnFailed(Exception):
    """The turn ended without a whole answer, for a reason a person can be told."""

    def __init__(self, failure: Failure, cause: UpstreamError) -> None:
        super().__init__(f"{type(cause).__name__}: {cause}")
        self.failure = failure


class Answerer:
    """Runs turns: streams, repeats, waits for recovery and continues what was cut."""

    def __init__(
        self,
        settings: Settings,
        upstream: Upstream,
        monitor: Monitor,
        queue: AnswerQueue,
        metrics: Metrics,
    ) -> None:
        self._settings = settings
        self._upstream = upstream
        self._monitor = monitor
        self._queue = queue
        self._metrics = metrics

    async def run(self, turn: Turn, conversation: Conversation, display: Display) -> bool:
        """Answer the question on the display; True when the answer is whole.

        Never raises but asyncio.CancelledError, after the display has been closed.
        """
        started = time.monotonic()
        if turn.choices is not None:
            conversation.system_prompt = turn.choices.system_prompt
        conversation.begin(turn.question_id)
        first_sent = conversation.first_sent
        outcome, reason = "answered", "none"
        failure: Failure | None = None
        try:
            if turn.answer and not turn.continuable:
                await _begin_again(turn, display)
            await self._answer(turn, conversation, display)
            await display.finish(turn.length_reached)
        except asyncio.CancelledError:
            outcome, reason = "stopped", turn.stop_reason.value
            await self._close_stopped(turn, display)
            raise
        except TurnFailed as error:
            failure = error.failure
            if failure is Failure.TOO_LONG:
                # Leaving out the history has not helped, so it stays.
                conversation.send_again_from(first_sent)
            log.warning(event("turn_fault", ref=turn.reference, cause=str(error)))
        except Exception:
            # Whatever breaks, a person reads a sentence with a reference and the log the rest.
            failure = Failure.INTERNAL
            log.exception(event("turn_error", ref=turn.reference))
        finally:
            if failure is not None:
                outcome, reason = "failed", failure.name.lower()
            self._metrics.question_ended(outcome, reason)
            conversation.add(Exchange(turn.question_id, turn.sent, turn.answer))
            log.info(
                event(
                    "turn",
                    ref=turn.reference,
                    outcome=outcome,
                    reason=reason,
                    tokens=turn.tokens,
                    seconds=time.monotonic() - started,
                )
            )
        if failure is not None:
            await display.fail(failure, turn.reference, failure in RETRYABLE)
        return failure is None

    async def _close_stopped(self, turn: Turn, display: Display) -> None:
        if turn.stop_reason in (StopReason.PERSON, StopReason.EDITED):
            await display.stopped()
        elif turn.stop_reason is StopReason.RESTART:
            await display.fail(Failure.RESTARTING, turn.reference, retry=False)
        else:
            await display.fail(Failure.CUT, turn.reference, retry=True)

    async def _answer(self, turn: Turn, conversation: Conversation, display: Display) -> None:
        retry = self._settings.retry
        deadline = time.monotonic() + self._settings.recovery_wait_seconds
        attempt = 0
        waited = False
        while True:
            if self._monitor.state in _AWAY:
                why = _AWAY[self._monitor.state]
                await display.wait(Waiting.INTERRUPTED if turn.answer else why)
                if not await self._monitor.wait_up(deadline - time.monotonic()):
                    raise TurnFailed(_given_up(turn), Unavailable("no recovery in time"))
                attempt = 0
            try:
                async with self._place(turn, display):
                    if not waited:
                        # What others take before it is no fault of the back end.
                        waited = True
                        deadline = time.monotonic() + self._settings.recovery_wait_seconds
                        self._metrics.queue_wait.observe(time.monotonic() - turn.asked_at)
                    if self._monitor.state in _AWAY:
                        continue
                    if turn.tokens and not turn.answer:
                        # Thoughts cannot be continued.
                        await _begin_again(turn, display)
                    await self._stream(turn, conversation, display)
            except TooLong as error:
                if turn.answer or not (conversation.forget_oldest() or _shorten(turn)):
                    raise TurnFailed(Failure.TOO_LONG, error) from error
                log.info(event("history_shortened", ref=turn.reference, left=len(conversation)))
            except Refused as error:
                if not turn.answer:
                    raise TurnFailed(Failure.REFUSED, error) from error
                # Not every chat template can continue an answer.
                turn.continuable = False
                raise TurnFailed(Failure.CUT, error) from error
            except (Unavailable, Cut) as error:
                log.info(
                    event("upstream_fault", ref=turn.reference, attempt=attempt, cause=str(error))
                )
                self._metrics.backend_faults.labels(type(error).__name__.lower()).inc()
                attempt += 1
                delay = min(
                    retry.first_delay_seconds * 2 ** min(attempt - 1, 30), retry.max_delay_seconds
                )
                if isinstance(error, Busy):
                    attempt, delay = 0, error.retry_after_seconds
                await self._before_repeat(error, attempt, turn, display)
                if time.monotonic() + delay > deadline:
                    raise TurnFailed(_given_up(turn), error) from error
                if isinstance(error, Busy) and self._monitor.state is State.UP:
                    self._queue.pause(delay)
                else:
                    # A recovery ends the pause early; a change to down is met at the top.
                    await self._monitor.wait_change(delay)
            else:
                return

    @asynccontextmanager
    async def _place(self, turn: Turn, display: Display) -> AsyncIterator[None]:
        """Hold a place among the answers that grow at once; the person sees how many come first."""

        async def tell(ahead: int) -> None:
            if turn.answer:
                await display.wait(Waiting.INTERRUPTED)
            else:
                await display.wait(Waiting.QUEUED if ahead else Waiting.BUSY, ahead)

        async with self._queue.place(turn.person, turn.asked_at, tell):
            yield

    async def _before_repeat(
        self, error: UpstreamError, attempt: int, turn: Turn, display: Display
    ) -> None:
        """Tell the person, and tell a back end that is gone from one that only stumbles."""
        exhausted = attempt >= self._settings.retry.attempts
        if isinstance(error, Busy) or exhausted:
            # A gateway without any instance answers 503 too: only its health tells them apart.
            if not await self._monitor.check_now():
                self._monitor.report_down()
                return
            if exhausted:
                raise TurnFailed(_given_up(turn), error) from error
        if turn.answer:
            await display.wait(Waiting.INTERRUPTED)
        elif isinstance(error, Busy):
            await display.wait(Waiting.BUSY)
        elif attempt > 1:
            await display.wait(Waiting.RECOVERING)

    async def _stream(self, turn: Turn, conversation: Conversation, display: Display) -> None:
        request = self._request(turn, conversation, await self._upstream.model(turn.model))
        first_at: float | None = None
        tokens = 0
        async with aclosing(self._upstream.stream(request)) as stream:
            async for item in stream:
                if isinstance(item, Usage):
                    if not request.partial:
                        conversation.measure(request.messages, item.prompt_tokens)
                    continue
                if isinstance(item, LengthReached):
                    turn.length_reached = True
                    continue
                if first_at is None:
                    first_at = time.monotonic()
                    if not turn.begun:
                        turn.begun = True
                        self._metrics.first_token.observe(first_at - turn.asked_at)
                    await display.resume()
                    if conversation.news_of_forgetting():
                        await display.forgot()
                tokens += item.tokens
                turn.tokens += item.tokens
                self._metrics.tokens.inc(item.tokens)
                if not item.reasoning:
                    turn.answer += item.text
                await display.show(item)
        if first_at is not None and tokens > 1:
            self._metrics.token_time.observe((time.monotonic() - first_at) / (tokens - 1))
        await display.resume()

    def _request(self, turn: Turn, conversation: Conversation, model: Model) -> Request:
        """The question with as much history as the model takes, and the room for its answer."""
        choices = turn.choices or Choices.default(self._settings)
        most = choices.max_tokens - turn.tokens
        if turn.short:
            most = min(most, SHORT_ANSWER_TOKENS)
        if model.context_tokens is not None:
            reserve = min(most, model.context_tokens // ANSWER_SHARE)
            conversation.fit(turn.sent + turn.answer, model.context_tokens - reserve)
            asked = conversation.tokens(conversation.messages(turn.sent + turn.answer))
            # Never below what the answer was promised: the estimate may be wrong.
            most = min(most, max(reserve, model.context_tokens - asked))
        messages = conversation.messages(turn.sent)
        return Request(model.name, messages, choices, max(1, most), turn.answer)


async def _begin_again(turn: Turn, display: Display) -> None:
    """Forget what there is of the answer and what it has cost; the person sees it begin anew."""
    turn.answer, turn.tokens, turn.length_reached = "", 0, False
    await display.restart()


def _shorten(turn: Turn) -> bool:
    """Ask for a short answer, so that a long question fits; False when it was tried."""
    tried, turn.short = turn.short, True
    return not tried


def _given_up(turn: Turn) -> Failure:
    return Failure.CUT if turn.answer else Failure.UNAVAILABLE
