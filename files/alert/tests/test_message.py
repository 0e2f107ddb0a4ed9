"""What people read: everything that matters, within a size, without secrets and prompts."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import pytest
from gpufleet_alert.message import MAX_BYTES, compose
from gpufleet_alert.notice import KINDS, Notice
from gpufleet_alert.redact import clean, without

Make = Callable[..., Notice]
PAGES = Path(__file__).resolve().parents[3] / "docs" / "incidents"


@pytest.fixture(autouse=True)
def zone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TZ", "Asia/Shanghai")
    time.tzset()


def test_says_everything(notice: Make) -> None:
    made = notice(since=1790000000.0, restarts=3)
    message = compose(made, "gpu1", 2, ["20:00:00 first", "20:00:01 last"])
    assert message.title == "gpu1: smollm2 failed and is being restarted"
    assert message.body.splitlines() == [
        "What: vLLM ended unasked (status 0)",
        "Unit: vllm@smollm2.service",
        "Since: 2026-09-21 22:13:20+08:00",
        "Restarts so far: 3",
        "Not sent before this one, being of the same sort: 2",
        "Next: wait for the notice that it works again; if none comes, see"
        " docs/incidents/restarted.md",
        "Last lines:",
        "20:00:00 first",
        "20:00:01 last",
    ]


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_has_words_and_a_page(kind: str, notice: Make) -> None:
    message = compose(notice(kind=kind), "gpu1", 0, [])
    assert f"docs/incidents/{kind}.md" in message.body
    assert (PAGES / f"{kind}.md").is_file()
    assert "smollm2" in message.title
    assert "{" not in message.title + message.body


def test_how_to_resume(notice: Make) -> None:
    body = compose(notice(kind="gave_up"), "gpu1", 0, []).body
    assert (
        "systemctl reset-failed vllm@smollm2.service && systemctl start vllm@smollm2.service"
        in body
    )


@pytest.mark.parametrize("character", ["x", "模", "\udcff", '"'])
def test_stays_within_its_size(character: str, notice: Make) -> None:
    long = character * 5000
    made = notice(what=long, instance=long, unit=f"vllm@{long}.service")
    message = compose(made, long, 10**6, [f"{number} {long}" for number in range(50)])
    assert len(f"{message.title}\r\n{message.body}".encode()) <= MAX_BYTES


def test_last_lines_go_first(notice: Make) -> None:
    lines = [f"line {number} " + "x" * 100 for number in range(50)]
    body = compose(notice(), "gpu1", 0, lines).body
    assert lines[-1] in body
    assert lines[-10] in body
    assert lines[0] not in body


SECRET = "s3cret-value"


@pytest.mark.parametrize(
    "line",
    [
        f"api_key='{SECRET}'",
        f"--api-key={SECRET}",
        f"non-default args: {{'api_key': ['{SECRET}', 'other-{SECRET}'], 'port': 8000}}",
        f'{{"token": "{SECRET}"}}',
        f"HF_TOKEN={SECRET}",
        f"Authorization: Bearer {SECRET}",
        f"header bearer {SECRET} refused",
        f"GET https://user:{SECRET}@example.com/x",
        f"POST /robot/send?access_token={SECRET}&sign={SECRET}",
        f"PASSWORD: {SECRET}",
        f"hf_{SECRET}",
        f"sk-{SECRET}",
        f"Received request cmpl-1: prompt: 'tell me of {SECRET}', params: x",
        f'{{"role": "user", "content": "my {SECRET}"}}',
        f"messages=[{{'role': 'user', 'x': '{SECRET}'}}]",
        f"prompt_token_ids: [1, 2], {SECRET}",
    ],
)
def test_secrets_and_prompts_stay(line: str) -> None:
    assert SECRET not in clean(line)
    assert clean(line)


@pytest.mark.parametrize(
    "line",
    [
        "Avg prompt throughput: 12.0 tokens/s, Avg generation throughput: 3.0 tokens/s",
        "torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 2.00 GiB",
        "EngineCore died (pid 12): max_num_batched_tokens=2048",
        "NVRM: Xid (PCI:0000:3b:00): 79, GPU has fallen off the bus.",
    ],
)
def test_what_helps_stays(line: str) -> None:
    assert clean(line) == line


def test_one_printable_line() -> None:
    assert clean("\x1b[31mred\x1b[0m\nnext\x00") == "red  next"
    assert without("url of mytoken1 and mytoken", ["mytoken", "mytoken1"]) == "url of *** and ***"
