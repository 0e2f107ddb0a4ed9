# mypy: untyped-calls-exclude=prometheus_client
"""What a monitoring system may ask of the chat, in Prometheus' text format."""

from __future__ import annotations

from collections.abc import Callable

from prometheus_client import (
    CONTENT_TYPE_PLAIN_0_0_4,
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    disable_created_metrics,
    generate_latest,
)
from prometheus_client.process_collector import ProcessCollector

from gpufleet_chat.answer_queue import AnswerQueue
from gpufleet_chat.monitor import Monitor, State

CONTENT_TYPE = CONTENT_TYPE_PLAIN_0_0_4
HISTORY_OPERATIONS = (
    "open",
    "user",
    "list",
    "author",
    "thread",
    "rename",
    "delete",
    "step",
    "element",
    "feedback",
    "clean",
)
_SECONDS = (0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300, 900)
_TOKEN_SECONDS = (0.005, 0.01, 0.02, 0.03, 0.05, 0.075, 0.1, 0.15, 0.25, 0.5, 1, 2.5)


class Metrics:
    """All numbers of the process; each instance has a registry of its own."""

    def __init__(self, queue: AnswerQueue, monitor: Monitor) -> None:
        # A gauge with the time of creation beside every counter is noise.
        disable_created_metrics()
        self._registry = CollectorRegistry()
        self._questions = Counter(
            "gpufleet_chat_questions",
            "Questions that came to their end, refused ones included.",
            ["outcome", "reason"],
            registry=self._registry,
        )
        # So that a rate is right from the first one on.
        self._questions.labels("answered", "none")
        self.first_token = Histogram(
            "gpufleet_chat_time_to_first_token_seconds",
            "From the question to the first token, waiting and recoveries included.",
            buckets=_SECONDS,
            registry=self._registry,
        )
        self.token_time = Histogram(
            "gpufleet_chat_time_per_token_seconds",
            "Mean time between two tokens of an answer, one observation for each.",
            buckets=_TOKEN_SECONDS,
            registry=self._registry,
        )
        self.tokens = Counter(
            "gpufleet_chat_tokens",
            "Tokens that came, thinking included.",
            registry=self._registry,
        )
        self.queue_wait = Histogram(
            "gpufleet_chat_queue_wait_seconds",
            "From the question to its first place among the answers in progress.",
            buckets=_SECONDS,
            registry=self._registry,
        )
        self.backend_faults = Counter(
            "gpufleet_chat_backend_faults",
            "Requests to the back end that gave no answer or broke off, repeated ones included.",
            ["kind"],
            registry=self._registry,
        )
        for kind in ("busy", "unavailable", "cut"):
            self.backend_faults.labels(kind)
        self.sessions = Gauge(
            "gpufleet_chat_sessions",
            "Chats kept in memory: open pages, and closed ones that may come back.",
            registry=self._registry,
        )
        self.history_faults = Counter(
            "gpufleet_chat_history_faults",
            "Reads and writes of the history that failed, by what was done.",
            ["operation"],
            registry=self._registry,
        )
        for operation in HISTORY_OPERATIONS:
            self.history_faults.labels(operation)
        self.ratings = Counter(
            "gpufleet_chat_ratings",
            "Thumbs that people have put on answers, changed ones included.",
            ["thumb"],
            registry=self._registry,
        )
        for thumb in ("up", "down"):
            self.ratings.labels(thumb)
        self._gauge("answers_running", "Answers in progress.").set_function(lambda: queue.running)
        self._gauge("answers_limit", "How many answers may be in progress.").set(queue.at_once)
        self._gauge("queue_length", "Questions that wait for a place.").set_function(
            lambda: queue.waiting
        )
        self._gauge("queue_limit", "How many questions may wait.").set(queue.length)
        self._gauge(
            "person_limit", "How many questions one person may have in progress and waiting."
        ).set(queue.per_person)
        self.rate_limit = self._gauge(
            "person_limit_per_minute", "How many questions one person may ask a minute; 0: any."
        )
        self.draining = self._gauge("draining", "1 from the signal to stop to the end.")
        self._gauge("saturated", "1 while people wait because of others.").set_function(
            lambda: queue.is_saturated
        )
        state = Gauge(
            "gpufleet_chat_backend_state",
            "1 for the state that the back end is in.",
            ["state"],
            registry=self._registry,
        )
        for each in State:
            if each is not State.SATURATED:
                state.labels(each.value).set_function(_is_in(monitor, each))
        ProcessCollector(registry=self._registry)

    def question_ended(self, outcome: str, reason: str) -> None:
        """Count a question: answered, stopped, failed or refused, and why."""
        self._questions.labels(outcome, reason).inc()

    def text(self) -> bytes:
        """Everything, in the format that CONTENT_TYPE names."""
        return generate_latest(self._registry)

    def _gauge(self, name: str, text: str) -> Gauge:
        return Gauge(f"gpufleet_chat_{name}", text, registry=self._registry)


def _is_in(monitor: Monitor, state: State) -> Callable[[], float]:
    return lambda: monitor.state is state
