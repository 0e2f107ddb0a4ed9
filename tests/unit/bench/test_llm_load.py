"""The load generator against a server whose speed is known."""

from __future__ import annotations

import asyncio
import json
import statistics
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import llm_load
import pytest

TOKENS = 20
GAP_SECONDS = 0.01
FIRST_SECONDS = 0.05


class SlowServer:
    """Streams `TOKENS` tokens at a known pace; breaks its answers where told."""

    def __init__(self) -> None:
        self.tokens = TOKENS
        self.per_event = 1
        self.cut = False
        self.vocabulary = 200_000
        self.status = "200 OK"
        self.prompts: set[str] = set()
        # When each answer was asked for, and when its tokens went: the pace on a busy machine.
        self.answers: list[list[float]] = []
        self.port = 0
        self.loop = asyncio.new_event_loop()
        self._ready = threading.Event()
        threading.Thread(target=self._run, daemon=True).start()
        assert self._ready.wait(5)

    def _run(self) -> None:
        asyncio.set_event_loop(self.loop)
        server = self.loop.run_until_complete(asyncio.start_server(self._serve, "127.0.0.1", 0))
        self.port = server.sockets[0].getsockname()[1]
        self._ready.set()
        self.loop.run_forever()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while True:
                await self._answer(reader, writer)
        except (asyncio.IncompleteReadError, ConnectionError):
            writer.close()

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = (await reader.readuntil(b"\r\n\r\n")).decode()
        length = int(head.lower().split("content-length: ")[1].split("\r\n")[0])
        request = json.loads(await reader.readexactly(length))
        self.prompts.add(str(request["prompt"]))
        times = [time.monotonic()]
        self.answers.append(times)
        if max(request["prompt"]) >= self.vocabulary:
            await self._refuse(writer)
            return
        writer.write(f"HTTP/1.1 {self.status}\r\nTransfer-Encoding: chunked\r\n\r\n".encode())
        await asyncio.sleep(FIRST_SECONDS)
        for _ in range(self.tokens // self.per_event):
            await self._event(writer, {"choices": [{"text": "a"}]})
            times.append(time.monotonic())
            await asyncio.sleep(GAP_SECONDS)
            if self.cut:
                raise ConnectionError
        await self._event(writer, {"choices": [], "usage": {"completion_tokens": self.tokens}})
        # What ends the answer comes in two reads.
        writer.write(b"e\r\ndata: [DO")
        await writer.drain()
        await asyncio.sleep(0.001)
        writer.write(b"NE]\n\n\r\n0\r\n\r\n")

    async def _refuse(self, writer: asyncio.StreamWriter) -> None:
        """As vLLM does, head and body apart."""
        body = b'{"error": {"message": "Token id 40000 is out of vocabulary", "code": 400}}'
        head = f"HTTP/1.1 400 Bad Request\r\ncontent-length: {len(body)}\r\n\r\n"
        writer.write(head.encode())
        await writer.drain()
        await asyncio.sleep(0.01)
        writer.write(body)

    async def _event(self, writer: asyncio.StreamWriter, document: object) -> None:
        line = f"data: {json.dumps(document)}\n\n"
        writer.write(f"{len(line):x}\r\n{line}\r\n".encode())
        await writer.drain()


@pytest.fixture
def server() -> Iterator[SlowServer]:
    slow = SlowServer()
    yield slow
    slow.loop.call_soon_threadsafe(slow.loop.stop)


def load(server: SlowServer, **changes: object) -> llm_load.Load:
    usual = {"concurrency": 4, "seconds": 1.5, "warm_up": 0.5, "output_tokens": TOKENS}
    return llm_load.Load("127.0.0.1", server.port, "m", **{**usual, **changes})  # type: ignore[arg-type]


def test_a_known_pace_is_measured(server: SlowServer) -> None:
    begin = time.monotonic() + llm_load._START_SECONDS + 0.5
    found = llm_load.measure(load(server), processes=2)
    tokens = [at for times in server.answers for at in times[1:] if begin <= at < begin + 1.5]
    firsts = [times[1] - times[0] for times in server.answers if len(times) > 1]
    gaps = [b - a for times in server.answers for a, b in zip(times[1:], times[2:])]
    assert found["tokens_per_second"] == pytest.approx(len(tokens) / 1.5, rel=0.1)
    for name, seconds in (("first_token_ms", firsts), ("inter_token_ms", gaps)):
        assert found[name]["p50"] == pytest.approx(statistics.median(seconds) * 1000, rel=0.3)
    assert (found["short"], found["failed"]) == (0, 0)
    assert found["completed"] >= 8
    assert len(server.prompts) >= found["completed"], "a cache could know a prompt sent twice"


def test_no_prompt_is_one_of_an_earlier_measurement(server: SlowServer) -> None:
    llm_load.measure(load(server, seconds=0.5), processes=1)
    before, server.prompts = server.prompts, set()
    llm_load.measure(load(server, seconds=0.5), processes=1)
    assert before
    assert server.prompts
    assert not before & server.prompts


def test_an_event_of_several_tokens_counts_them_all(server: SlowServer) -> None:
    server.per_event = 4
    found = llm_load.measure(load(server), processes=1)
    expected = 4 * TOKENS / (FIRST_SECONDS + TOKENS / 4 * GAP_SECONDS)
    # A busy machine gives less; one token an event would be a quarter.
    assert expected / 2 < found["tokens_per_second"] < expected * 1.25


def test_cut_answers_are_failures(server: SlowServer) -> None:
    server.cut = True
    found = llm_load.measure(load(server), processes=1)
    assert found["failed"] > 0
    assert found["completed"] == 0
    assert "cut after" in found["problems"][0]


def test_another_status_is_a_failure(server: SlowServer) -> None:
    server.status = "503 Service Unavailable"
    found = llm_load.measure(load(server), processes=1)
    assert found["failed"] > 0
    assert "503" in found["problems"][0]


def ask_as_the_playbook_does(server: SlowServer, directory: Path) -> int:
    arguments = {"port": server.port, "model": "m", "output-tokens": TOKENS, "processes": 1}
    arguments |= {"model-directory": directory, "seconds": 1.5, "warm-up": 0.5, "concurrency": 2}
    return llm_load.main([f"--{name}={value}" for name, value in arguments.items()])


@pytest.mark.parametrize(
    "config", [{"vocab_size": 32_000}, {"text_config": {"vocab_size": 32_000}}, None, {}]
)
def test_prompts_are_of_the_models_vocabulary(
    server: SlowServer, tmp_path: Path, config: dict[str, object] | None
) -> None:
    server.vocabulary = 32_000
    if config is not None:
        (tmp_path / "config.json").write_text(json.dumps(config))
    assert ask_as_the_playbook_does(server, tmp_path) == 0
    used = {token for prompt in server.prompts for token in json.loads(prompt)}
    assert 25_000 < max(used) < 32_000


def test_large_vocabularies_are_used_in_part_as_ever(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps({"vocab_size": 151_936}))
    assert llm_load.vocabulary_of(tmp_path) == 100_000


def test_refusals_are_told_in_the_servers_words(server: SlowServer) -> None:
    server.vocabulary = 32_000
    found = llm_load.measure(load(server), processes=1)
    assert found["completed"] == 0
    assert found["problems"][0] == ("HTTP/1.1 400 Bad Request: Token id 40000 is out of vocabulary")


def test_short_answers_are_told(server: SlowServer) -> None:
    found = llm_load.measure(load(server, output_tokens=TOKENS + 1), processes=1)
    assert found["short"] > 0
    assert found["completed"] == 0


def test_answers_sent_together_are_all_whole(server: SlowServer) -> None:
    found = llm_load.send_together(load(server), lambda: None)
    assert found == {"sent": 4, "whole": 4, "short": 0, "problems": []}


def test_answers_lost_in_a_drain_are_told(server: SlowServer) -> None:
    def act() -> None:
        server.cut = True

    found = llm_load.send_together(load(server), act)
    assert found["whole"] == 0
    assert len(found["problems"]) == 4
