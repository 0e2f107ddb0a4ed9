"""What all sessions of the process share, put together once at start."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field

from gpufleet_chat import history
from gpufleet_chat.admission import Admission
from gpufleet_chat.answer_queue import AnswerQueue
from gpufleet_chat.logins import Logins
from gpufleet_chat.messages import Messages
from gpufleet_chat.metrics import Metrics
from gpufleet_chat.monitor import Monitor, State
from gpufleet_chat.rate_limit import RateLimit
from gpufleet_chat.settings import Secrets, Settings
from gpufleet_chat.turn import Answerer
from gpufleet_chat.turns import Turns
from gpufleet_chat.upstream import Upstream


@dataclass(frozen=True)
class Services:
    """The shared parts; background holds the loops that an adapter adds to the server's own."""

    settings: Settings
    messages: Messages
    upstream: Upstream
    monitor: Monitor
    answerer: Answerer
    turns: Turns
    queue: AnswerQueue
    admission: Admission
    metrics: Metrics
    logins: Logins
    history: history.History | None = None
    background: list[Callable[[], Coroutine[None, None, None]]] = field(default_factory=list)

    def state(self) -> State:
        """What people are told: the back end's state, or that they wait for each other."""
        state = self.monitor.state
        return State.SATURATED if state is State.UP and self.queue.is_saturated else state


def build(settings: Settings, secrets: Secrets) -> Services:
    """Put the shared parts together; nothing runs yet."""
    upstream = Upstream(settings, secrets)
    monitor = Monitor(settings.monitor, upstream.health)
    queue = AnswerQueue(
        settings.concurrent_answers, settings.queue_length, settings.questions_per_person
    )
    metrics = Metrics(queue, monitor)
    turns = Turns()
    metrics.rate_limit.set(settings.messages_per_minute)
    metrics.draining.set_function(lambda: turns.draining)
    return Services(
        settings=settings,
        messages=Messages(),
        upstream=upstream,
        monitor=monitor,
        answerer=Answerer(settings, upstream, monitor, queue, metrics),
        turns=turns,
        queue=queue,
        admission=Admission(
            queue,
            RateLimit(settings.messages_per_minute),
            turns,
            metrics,
            settings.message_max_chars,
        ),
        metrics=metrics,
        logins=Logins(settings, secrets),
        history=history.build(settings, secrets, metrics),
    )


_current: Services | None = None


def install(services: Services) -> None:
    """Make the shared parts known to the adapter, which its framework loads as a file."""
    global _current
    _current = services


def current() -> Services:
    """The shared parts; raises RuntimeError before install."""
    if _current is None:
        raise RuntimeError("the server installs its services before it loads the adapter")
    return _current
