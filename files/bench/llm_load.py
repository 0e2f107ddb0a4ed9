# Copyright: (c) The gpufleet maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Asks a vLLM instance for many streams of tokens at once and measures how they come.

Every client asks again as soon as its answer is whole, so the number of open requests stays.
Prompts are token ids drawn at random: no cache knows them. Several processes share the clients and
do no more than count; ``client_busy`` says how near the busiest came to being the limit itself.

Standard library only; Python 3.9 or newer.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import multiprocessing
import os
import random
import re
import sys
import time
from collections.abc import Callable, Iterable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

_EVENT = b"data: {"
_DONE = b"[DONE]"
_LAST_CHUNK = b"0\r\n\r\n"
_USAGE = re.compile(rb'"completion_tokens": ?(\d+)')
_LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)", re.IGNORECASE)
_MESSAGE = re.compile(rb'"(?:message|detail)": ?"((?:[^"\\]|\\.)*)"')
# A mark split between two reads is found with what is left of the first.
_TAIL = len(_EVENT) - 1
_USAGE_TAIL = 2048
_BACK_OFF_SECONDS = 0.1
_START_SECONDS = 1.0  # for the processes to be there
_MAX_GAPS = 20_000
# Most of a vocabulary that is used, and what is where nothing tells its size.
_MAX_VOCABULARY = 100_000
_USUAL_VOCABULARY = 30_000


@dataclass(frozen=True)
class Load:
    """What is asked for, by how many clients; seconds of the measurement and before it."""

    host: str
    port: int
    model: str
    concurrency: int
    seconds: float = 10.0
    warm_up: float = 3.0
    input_tokens: int = 256
    output_tokens: int = 128
    vocabulary: int = _MAX_VOCABULARY
    api_key: str = ""

    def request(self, source: random.Random) -> bytes:
        """Return one HTTP request with a prompt of its own."""
        # The first ids are often special ones.
        least = min(1000, self.vocabulary // 2)
        body = json.dumps(
            {
                "model": self.model,
                "prompt": [
                    source.randrange(least, self.vocabulary) for _token in range(self.input_tokens)
                ],
                "max_tokens": self.output_tokens,
                "ignore_eos": True,
                "temperature": 0,
                "stream": True,
                "stream_options": {"include_usage": True},
            }
        ).encode()
        key = f"Authorization: Bearer {self.api_key}\r\n" if self.api_key else ""
        head = (
            f"POST /v1/completions HTTP/1.1\r\nHost: {self.host}:{self.port}\r\n{key}"
            f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
        )
        return head.encode() + body


@dataclass
class Answer:
    """One answer: when it was asked for, when each event came (monotonic seconds), its tokens.

    ``tokens`` is what the server says at the end; 0 while it has not.
    """

    sent: float
    times: list[float] = field(default_factory=list)
    tokens: int = 0


@dataclass
class Counts:
    """What one process has seen within the measurement; seconds, tokens by half of the time."""

    tokens: list[float] = field(default_factory=lambda: [0.0, 0.0])
    first_tokens: list[float] = field(default_factory=list)
    gaps: list[float] = field(default_factory=list)
    completed: int = 0
    short: int = 0
    failed: int = 0
    problems: list[str] = field(default_factory=list)
    busy: float = 0.0


class Client(asyncio.Protocol):
    """One connection: asks, notes what comes, and asks again while ``again`` says so."""

    def __init__(self, load: Load, source: random.Random, log: AnswerLog) -> None:
        self._load = load
        self._source = source
        self._log = log
        self._transport: asyncio.Transport | None = None
        self._answer: Answer | None = None
        self._tail = self._end = b""
        self._refusal = b""
        self._done = False
        loop = asyncio.get_running_loop()
        self.begun: asyncio.Future[None] = loop.create_future()
        self.closed: asyncio.Future[None] = loop.create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Send the first request."""
        self._transport = cast(asyncio.Transport, transport)
        self._ask()

    def data_received(self, data: bytes) -> None:
        """Count the events of the answer."""
        now = time.monotonic()
        answer = self._answer
        if answer is None or self._transport is None:
            return
        begins = not answer.times and not self._tail
        if self._refusal or (begins and not data.startswith(b"HTTP/1.1 200")):
            self._refusal += data
            if is_whole(self._refusal):
                self._fail(refusal_text(self._refusal))
            return
        text = self._tail + data
        answer.times += [now] * text.count(_EVENT)
        if answer.times:
            _settle(self.begun)
        self._done = self._done or _DONE in text
        self._tail = text[-_TAIL:]
        self._end = (self._end + data)[-_USAGE_TAIL:]
        if self._done and text.endswith(_LAST_CHUNK):
            self._finish(answer)

    def connection_lost(self, exc: Exception | None) -> None:
        """Note an answer that was cut."""
        if self._answer is not None and not self._log.over:
            cut = f"cut after {len(self._answer.times)} events: {exc or 'closed'}"
            self._log.failed(refusal_text(self._refusal) if self._refusal else cut)
        _settle(self.begun)
        _settle(self.closed)

    def stop(self) -> Answer | None:
        """Close the connection; return the answer that was under way."""
        answer, self._answer = self._answer, None
        if self._transport is not None:
            self._transport.abort()
        return answer

    def _ask(self) -> None:
        self._tail = self._end = b""
        self._done = False
        request = self._load.request(self._source)
        self._answer = Answer(time.monotonic())
        if self._transport is not None:
            self._transport.write(request)

    def _finish(self, answer: Answer) -> None:
        usage = _USAGE.search(self._end)
        answer.tokens = int(usage.group(1)) if usage else 0
        answer.times.pop()  # the event with the usage
        self._answer = None
        if self._log.finished(answer, self._load):
            self._ask()
        elif self._transport is not None:
            self._transport.close()

    def _fail(self, problem: str) -> None:
        self._answer = None
        self._log.failed(problem)
        if self._transport is not None:
            self._transport.abort()


def is_whole(answer: bytes) -> bool:
    """Whether an answer that is no stream is there as far as its head tells its length."""
    head, end, body = answer.partition(b"\r\n\r\n")
    length = _LENGTH.search(head)
    return bool(end) and (length is None or len(body) >= int(length.group(1)))


def refusal_text(answer: bytes) -> str:
    """Status and message of an answer that is no stream."""
    head, _end, body = answer.partition(b"\r\n\r\n")
    message = _MESSAGE.search(body)
    parts = (head.split(b"\r\n")[0], message.group(1) if message else body)
    return ": ".join(part.decode("utf-8", "replace")[:200] for part in parts if part)


def _settle(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)


class AnswerLog:
    """The answers of all clients of a process."""

    def __init__(self, *, once: bool = False) -> None:
        self._once = once
        self.over = False
        self.whole: list[Answer] = []
        self.short = 0
        self.problems: list[str] = []

    def finished(self, answer: Answer, load: Load) -> bool:
        """Take an answer; tell whether its client is to ask again."""
        if answer.tokens != load.output_tokens or not answer.times:
            self.short += 1
        else:
            self.whole.append(answer)
        return not self._once and not self.over

    def failed(self, problem: str) -> None:
        """Note a request without an answer."""
        if not self.over:
            self.problems.append(problem)


async def _keep_asking(
    load: Load, source: random.Random, log: AnswerLog, at: float
) -> list[Answer]:
    """One client until the end, with a new connection where one was lost; return what is open."""
    await asyncio.sleep(max(0.0, at - time.monotonic()))
    loop = asyncio.get_running_loop()
    client: Client | None = None
    try:
        while True:
            try:
                _transport, client = await loop.create_connection(
                    lambda: Client(load, source, log), load.host, load.port
                )
                await client.closed
            except OSError as error:
                log.failed(f"no connection: {error}")
            await asyncio.sleep(_BACK_OFF_SECONDS)
    except asyncio.CancelledError:
        left = client.stop() if client else None
        return [left] if left else []


async def _clients(load: Load, share: range, starts_at: float) -> Counts:
    log = AnswerLog()
    begin = starts_at + load.warm_up
    end = begin + load.seconds
    tasks = []
    for number in share:
        # Spread over the warm-up: clients that start together would go on in step.
        at = starts_at + load.warm_up * number / load.concurrency
        # Of no known seed: prompts of an earlier measurement may still be cached.
        source = random.Random()  # noqa: S311
        tasks.append(asyncio.ensure_future(_keep_asking(load, source, log, at)))
    await asyncio.sleep(max(0.0, begin - time.monotonic()))
    used = time.process_time()
    await asyncio.sleep(max(0.0, end - time.monotonic()))
    used = time.process_time() - used
    log.over = True
    for task in tasks:
        task.cancel()
    ends = await asyncio.gather(*tasks)
    counts = summarise(log.whole, [answer for left in ends for answer in left], begin, end)
    counts.short, counts.failed = log.short, len(log.problems)
    counts.problems = log.problems[:3]
    counts.busy = used / load.seconds
    return counts


def summarise(whole: list[Answer], left: list[Answer], begin: float, end: float) -> Counts:
    """Count what came from `begin` to `end` (monotonic seconds); `left` was still under way.

    An event may carry several tokens: each event of an answer counts its even share.
    """
    counts = Counts()
    events = sum(len(answer.times) for answer in whole)
    usual = sum(answer.tokens for answer in whole) / events if events else 1.0
    middle = (begin + end) / 2
    for answer in [*whole, *left]:
        share = answer.tokens / len(answer.times) if answer.tokens else usual
        for at in answer.times:
            if begin <= at < end:
                counts.tokens[at >= middle] += share
        if answer.times and begin <= answer.times[0] < end:
            counts.first_tokens.append(answer.times[0] - answer.sent)
        if answer.tokens and begin <= answer.times[-1] < end:
            counts.completed += 1
        counts.gaps += [
            after - before
            for before, after in zip(answer.times, answer.times[1:])
            if begin <= after < end
        ]
    if len(counts.gaps) > _MAX_GAPS:
        counts.gaps = random.Random(0).sample(counts.gaps, _MAX_GAPS)  # noqa: S311
    return counts


def _work(load: Load, share: range, starts_at: float) -> Counts:
    return asyncio.run(_clients(load, share, starts_at))


def measure(load: Load, processes: int) -> dict[str, Any]:
    """Run the load in this many processes and return the numbers for JSON: tokens/s, ms."""
    processes = min(processes, load.concurrency)
    starts_at = time.monotonic() + _START_SECONDS
    shares = [range(first, load.concurrency, processes) for first in range(processes)]
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(processes, mp_context=context) as pool:
        found = list(pool.map(_work, [load] * processes, shares, [starts_at] * processes))
    halves = [sum(one.tokens[half] for one in found) * 2 / load.seconds for half in (0, 1)]
    first_tokens = [value for one in found for value in one.first_tokens]
    gaps = [value for one in found for value in one.gaps]
    rate = sum(halves) / 2
    return {
        "concurrency": load.concurrency,
        "input_tokens": load.input_tokens,
        "output_tokens": load.output_tokens,
        "seconds": load.seconds,
        "tokens_per_second": round(rate, 1),
        "halves": [round(half, 1) for half in halves],
        "first_token_ms": quantiles(first_tokens),
        "inter_token_ms": quantiles(gaps),
        "completed": sum(one.completed for one in found),
        "short": sum(one.short for one in found),
        "failed": sum(one.failed for one in found),
        "problems": [problem for one in found for problem in one.problems][:5],
        "client_busy": round(max(one.busy for one in found), 2),
    }


def send_together(load: Load, act: Callable[[], None], patience: float = 120.0) -> dict[str, Any]:
    """Send one request by each client, call ``act`` once all have a token; say what became of them.

    Clients still without an end after ``patience`` seconds are among ``problems``.
    """
    return asyncio.run(_send_together(load, act, patience))


async def _send_together(load: Load, act: Callable[[], None], patience: float) -> dict[str, Any]:
    loop = asyncio.get_running_loop()
    log = AnswerLog(once=True)
    clients: list[Client] = []
    for _number in range(load.concurrency):
        client = Client(load, random.Random(), log)  # noqa: S311
        await loop.create_connection(lambda made=client: made, load.host, load.port)  # type: ignore[misc]
        clients.append(client)
    end = time.monotonic() + patience
    await asyncio.wait([client.begun for client in clients], timeout=patience)
    await loop.run_in_executor(None, act)
    _done, hanging = await asyncio.wait(
        [client.closed for client in clients], timeout=max(0.1, end - time.monotonic())
    )
    problems = [*log.problems, *["no end"] * len(hanging)]
    for client in clients:
        client.stop()
    return {
        "sent": len(clients),
        "whole": len(log.whole),
        "short": log.short,
        "problems": problems,
    }


def quantiles(values: Iterable[float]) -> dict[str, float | None]:
    """Return median and 99th percentile of seconds, in milliseconds."""
    ordered = sorted(values)
    if not ordered:
        return {"p50": None, "p99": None}
    at = {"p50": 0.5, "p99": 0.99}
    return {
        name: round(ordered[min(len(ordered) - 1, int(part * len(ordered)))] * 1000, 2)
        for name, part in at.items()
    }


def vocabulary_of(directory: Path) -> int:
    """Return how many token ids to use of the model in `directory`: vLLM refuses others."""
    try:
        config = json.loads((directory / "config.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return _USUAL_VOCABULARY
    # A model of more than text has a part for it.
    sizes = [part.get("vocab_size") for part in (config, config.get("text_config") or {})]
    size = next((size for size in sizes if isinstance(size, int)), _USUAL_VOCABULARY)
    return min(size, _MAX_VOCABULARY)


def main(arguments: list[str] | None = None) -> int:
    """Print one JSON object; exit status 1 when a request failed or none was completed."""
    parser = argparse.ArgumentParser(prog="llm_load", description=__doc__)
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--model", required=True, help="as the instance serves it")
    parser.add_argument("--concurrency", type=int, default=32, help="requests open at once")
    parser.add_argument("--seconds", type=float, default=10.0)
    parser.add_argument("--warm-up", type=float, default=3.0, metavar="SECONDS")
    parser.add_argument("--input-tokens", type=int, default=256)
    parser.add_argument("--output-tokens", type=int, default=128)
    parser.add_argument(
        "--model-directory", type=Path, help="whose config.json tells the size of the vocabulary"
    )
    parser.add_argument("--vocabulary", type=int, help="token ids to use, in place of that")
    parser.add_argument("--processes", type=int, default=max(1, (os.cpu_count() or 2) // 2))
    # A key is no argument: everyone on a host can read those.
    parser.add_argument("--api-key-file", type=Path, help="file whose first line is the key")
    options = vars(parser.parse_args(arguments))
    processes, key_file = options.pop("processes"), options.pop("api_key_file")
    key = key_file.read_text(encoding="ascii").split()[0] if key_file else ""
    directory = options.pop("model_directory") or Path()
    options["vocabulary"] = options["vocabulary"] or vocabulary_of(directory)
    load = Load(**options, api_key=key)
    found = measure(load, processes)
    print(json.dumps(found))
    return 1 if found["failed"] or found["short"] or not found["completed"] else 0


if __name__ == "__main__":
    sys.exit(main())
