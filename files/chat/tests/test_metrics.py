"""The numbers are in Prometheus' format, and named by its rules."""

from __future__ import annotations

import re

from gpufleet_chat.answer_queue import AnswerQueue
from gpufleet_chat.metrics import Metrics
from gpufleet_chat.monitor import Monitor, State
from gpufleet_chat.settings import MonitorSettings
from gpufleet_chat.upstream import Health
from prometheus_client.parser import text_string_to_metric_families


async def ready() -> Health:
    return Health.READY


def parts() -> tuple[Metrics, AnswerQueue, Monitor]:
    queue = AnswerQueue(at_once=3, length=7, per_person=5)
    monitor = Monitor(MonitorSettings(), ready)
    return Metrics(queue, monitor), queue, monitor


def values(metrics: Metrics) -> dict[tuple[str, tuple[str, ...]], float]:
    """Each sample by its name and label values."""
    families = text_string_to_metric_families(metrics.text().decode())
    return {
        (sample.name, tuple(sample.labels.values())): sample.value
        for family in families
        for sample in family.samples
    }


def test_names_and_units() -> None:
    metrics, _, _ = parts()
    for family in text_string_to_metric_families(metrics.text().decode()):
        assert family.documentation
        if family.name.startswith("process_"):
            continue
        assert re.fullmatch(r"gpufleet_chat_[a-z_]+", family.name)
        if family.type == "counter":
            assert {sample.name for sample in family.samples} == {f"{family.name}_total"}
        if family.type == "histogram":
            assert family.name.endswith("_seconds")


async def test_values() -> None:
    metrics, _, monitor = parts()
    metrics.question_ended("refused", "too_often")
    before = values(metrics)
    assert before["gpufleet_chat_questions_total", ("refused", "too_often")] == 1
    assert before["gpufleet_chat_questions_total", ("answered", "none")] == 0
    assert before["gpufleet_chat_answers_limit", ()] == 3
    assert before["gpufleet_chat_queue_limit", ()] == 7
    assert before["gpufleet_chat_person_limit", ()] == 5
    assert before["gpufleet_chat_backend_faults_total", ("cut",)] == 0
    assert before["gpufleet_chat_backend_state", ("unknown",)] == 1
    await monitor.check_now()
    after = values(metrics)
    states = {name: after["gpufleet_chat_backend_state", (name,)] for name in ("up", "unknown")}
    assert states == {"up": 1, "unknown": 0}
    assert ("gpufleet_chat_backend_state", (State.SATURATED.value,)) not in after
    assert after["process_resident_memory_bytes", ()] > 1_000_000
