"""The client of the OpenAI-compatible API: streamed answers, or a typed reason for none."""

from __future__ import annotations

import asyncio
import contextlib
import json
import math
import ssl
import time
from collections.abc import AsyncGenerator, Iterator, Sequence
from contextlib import aclosing
from dataclasses import dataclass, replace
from enum import Enum
from typing import Any, TypedDict

import aiohttp
import httpx
from httpx_aiohttp import AiohttpTransport

from gpufleet_chat.choices import Choices
from gpufleet_chat.settings import Secrets, Settings

CONNECT_SECONDS = 5.0
BUSY_SECONDS = 2.0
BUSY_MAX_SECONDS = 15.0
# What a connection can meet; the transport does not translate every error of its own.
FAULTS = (httpx.HTTPError, aiohttp.ClientError)
# How long the list of models may be old before a page asks for it again.
MODELS_SECONDS = 30.0
# The switches of the families that think; a template ignores one that it does not know.
NO_THINKING = {"enable_thinking": False, "thinking": False}


class Health(Enum):
    """READY: an instance answers. NOT_READY: none does yet. NONE_RUNS: none is being started."""

    READY = "ready"
    NOT_READY = "not_ready"
    NONE_RUNS = "none_runs"


class ChatMessage(TypedDict):
    """One message of a conversation as the API takes it."""

    role: str
    content: str


@dataclass(frozen=True)
class Model:
    """A model that the back end offers; context_tokens is None where it does not say."""

    name: str
    context_tokens: int | None = None


@dataclass(frozen=True)
class Request:
    """A question as it is sent; partial is an answer to be continued."""

    model: str
    messages: Sequence[ChatMessage]
    choices: Choices
    max_tokens: int
    partial: str = ""


@dataclass(frozen=True)
class Usage:
    """How many tokens the back end has counted in the messages."""

    prompt_tokens: int


@dataclass(frozen=True)
class LengthReached:
    """The answer has as many tokens as were asked for, and may be without its end."""


@dataclass(frozen=True)
class Delta:
    """A piece of an answer; reasoning marks what a model thinks before it answers."""

    text: str
    reasoning: bool = False
    tokens: int = 1


class UpstreamError(Exception):
    """No whole answer came; the message is for the log and holds no conversation text."""


class Unavailable(UpstreamError):
    """Nothing was answered, so the request may be sent again."""


class Busy(Unavailable):
    """The back end refused for load; it may be asked again after so many seconds."""

    def __init__(self, detail: str, retry_after_seconds: float) -> None:
        super().__init__(detail)
        self.retry_after_seconds = retry_after_seconds


class Cut(UpstreamError):
    """The answer began and broke off."""


class TooLong(UpstreamError):
    """The conversation does not fit into the model's context."""


class Refused(UpstreamError):
    """The request is wrong in itself; sending it again cannot help."""


@dataclass(frozen=True)
class _Finished:
    """The back end has said why the answer ends; its end mark may be missing then."""


@dataclass(frozen=True)
class _End:
    """Nothing more comes; cut says why, unless this is the end mark."""

    cut: str | None = None


_Item = Delta | Usage | LengthReached | _Finished | _End


class Upstream:
    """Talks to {upstream_url}/chat/completions, /models and /health over one connection pool."""

    def __init__(
        self,
        settings: Settings,
        secrets: Secrets,
        transport: httpx.AsyncBaseTransport | None = None,
    ) -> None:
        self._settings = settings
        self._models: list[Model] = []
        self._models_at = -math.inf
        self._models_current = False
        self._thinkers: set[str] = set()
        verify: ssl.SSLContext | bool = True
        if settings.upstream_ca_path is not None:
            verify = ssl.create_default_context(cafile=settings.upstream_ca_path)
        headers = {"Authorization": f"Bearer {secrets.api_key}"} if secrets.api_key else {}
        self._client = httpx.AsyncClient(
            base_url=settings.upstream_url.rstrip("/") + "/",
            headers=headers,
            verify=verify,
            transport=transport or _transport(verify),
            # Silence is timed per event below: keep-alive comments would reset a read timeout.
            timeout=httpx.Timeout(None, connect=CONNECT_SECONDS),
            # The gateway is a fixed address; a proxy variable of the host must not divert it.
            trust_env=False,
        )

    async def close(self) -> None:
        """Close all connections."""
        await self._client.aclose()

    async def health(self) -> Health:
        """What the gateway says of the instances behind it."""
        seconds = self._settings.monitor.timeout_seconds
        try:
            response = await self._client.get("health", timeout=seconds)
        except FAULTS:
            return Health.NOT_READY
        if response.status_code == 200:
            return Health.READY
        code = _error_field(response.content, "code")
        return Health.NONE_RUNS if code == "no_instance_runs" else Health.NOT_READY

    def thinks(self, wanted: str | None) -> bool:
        """Whether the model that would be asked has been seen thinking; the API does not say it."""
        return bool(self._models) and self._choose(wanted).name in self._thinkers

    async def offered(self) -> Sequence[Model]:
        """The models that a person may choose from; the last known when none answers."""
        if time.monotonic() - self._models_at > MODELS_SECONDS:
            # Set first: pages that open meanwhile do not wait for a back end that hangs.
            self._models_at = time.monotonic()
            with contextlib.suppress(UpstreamError):
                await self._list_models(self._settings.monitor.timeout_seconds)
        return [model for model in self._models if self._settings.model in (None, model.name)]

    async def model(self, wanted: str | None = None) -> Model:
        """The model to ask: the wanted one if it is offered, else the operator's or the first.

        Raises Unavailable, Busy or Refused.
        """
        if not self._models_current:
            await self._list_models(self._settings.request_timeout_seconds)
        return self._choose(wanted)

    def _choose(self, wanted: str | None) -> Model:
        offered = {model.name: model for model in self._models}
        if self._settings.model is not None:
            # A name that is not listed may be right: the back end decides.
            return offered.get(self._settings.model, Model(self._settings.model))
        return offered.get(wanted or "", self._models[0])

    async def stream(self, request: Request) -> AsyncGenerator[Delta | Usage | LengthReached, None]:
        """The answer, piece by piece, and what the back end says of its length.

        Tokens that have come together are one piece: who falls behind catches up.
        Raises Unavailable or Busy before the first piece, Cut after it, TooLong or Refused.
        """
        silence = self._settings.request_timeout_seconds
        begun = False
        finished = False
        partial = request.partial
        overlap = partial[len(partial.rstrip()) :]
        try:
            async with asyncio.timeout(silence) as limit:
                body = _body(request)
                async with self._client.stream("POST", "chat/completions", json=body) as response:
                    if response.status_code != 200:
                        raise await self._failure(response)
                    async with aclosing(_batches(response)) as batches:
                        async for batch in batches:
                            heard = any(isinstance(item, Delta) for item in batch)
                            if heard:
                                limit.reschedule(None)
                            for item in batch:
                                if isinstance(item, _End):
                                    if item.cut is None:
                                        return
                                    raise Cut(item.cut)
                                if isinstance(item, _Finished):
                                    finished = True
                                    continue
                                if isinstance(item, Delta):
                                    begun = True
                                    if item.reasoning:
                                        self._thinkers.add(request.model)
                                    if partial:
                                        item, overlap = _join(item, overlap)
                                    if not item.text:
                                        continue
                                yield item
                            if heard:
                                limit.reschedule(asyncio.get_running_loop().time() + silence)
                    # The stream ended without its end mark.
                    if not finished:
                        raise Cut("the stream ended early")
        except TimeoutError:
            self._forget_models()
            if finished:
                return
            detail = f"no byte for {silence:g} s"
            raise (Cut(detail) if begun else Unavailable(detail)) from None
        except (*FAULTS, Cut) as error:
            self._forget_models()
            if finished:
                # The answer is whole: to continue it would add to it.
                return
            detail = f"{type(error).__name__}: {error}"
            raise (Cut(detail) if begun else Unavailable(detail)) from error

    async def _list_models(self, seconds: float) -> None:
        try:
            response = await self._client.get("models", timeout=seconds)
        except FAULTS as error:
            raise Unavailable(f"{type(error).__name__}: {error}") from error
        if response.status_code != 200:
            raise await self._failure(response)
        models = _models(response.content)
        if not models:
            raise Unavailable("the back end lists no model")
        self._models, self._models_at, self._models_current = models, time.monotonic(), True

    def _forget_models(self) -> None:
        """Ask for the models again: after a fault another release may serve others."""
        self._models_current = False

    async def _failure(self, response: httpx.Response) -> UpstreamError:
        status = response.status_code
        self._forget_models()
        retry_after = response.headers.get("retry-after")
        if status == 429 or (status == 503 and retry_after):
            return Busy(f"status {status}", _seconds(retry_after))
        # vLLM's 404 names a model that it does not have: another release may have brought others.
        if status >= 500 or status == 404:
            return Unavailable(f"status {status}")
        message = _error_field(await response.aread(), "message")
        if status == 400 and "context length" in message:
            return TooLong(f"status {status}")
        return Refused(f"status {status}")


def _body(request: Request) -> dict[str, Any]:
    choices, partial = request.choices, request.partial
    body: dict[str, Any] = {
        "model": request.model,
        "messages": list(request.messages),
        "stream": True,
        "stream_options": {"include_usage": True},
        "max_tokens": request.max_tokens,
    }
    if choices.temperature is not None:
        body["temperature"] = choices.temperature
    if not choices.think:
        body["chat_template_kwargs"] = NO_THINKING
    if partial:
        # A trailing space would be tokenised alone and derail the model.
        body["messages"] = [*request.messages, {"role": "assistant", "content": partial.rstrip()}]
        body["continue_final_message"] = True
        body["add_generation_prompt"] = False
    return body


def _models(body: bytes) -> list[Model]:
    try:
        return [_model(item) for item in json.loads(body)["data"]]
    except (ValueError, KeyError, TypeError):
        return []


def _model(item: dict[str, Any]) -> Model:
    length = item.get("max_model_len")
    return Model(str(item["id"]), length if isinstance(length, int) and length > 0 else None)


def _transport(verify: ssl.SSLContext | bool) -> AiohttpTransport:
    """Reads at a third of the processor time of httpx's own; 0 stands for no limit."""
    limits = httpx.Limits(max_connections=0, keepalive_expiry=5)
    return AiohttpTransport(verify=verify, limits=limits, trust_env=False)


async def _batches(response: httpx.Response) -> AsyncGenerator[list[_Item], None]:
    """What each read from the network holds of server-sent events."""
    rest = b""
    async for chunk in response.aiter_bytes():
        *lines, rest = (rest + chunk).split(b"\n")
        yield _tokens_together(_items(lines))
    yield list(_items([rest]))


def _items(lines: Sequence[bytes]) -> Iterator[_Item]:
    """The decoded events, up to an end."""
    for line in lines:
        if not line.startswith(b"data:"):
            continue
        data = line[5:].strip()
        if data == b"[DONE]":
            yield _End()
            return
        try:
            event = json.loads(data)
        except ValueError:
            yield _End("an event is not JSON")
            return
        if not isinstance(event, dict) or "error" in event:
            yield _End("an error came inside the stream")
            return
        if (usage := _usage(event)) is not None:
            yield usage
        reason = _finish_reason(event)
        if reason == "abort":
            # What vLLM with several API servers says, with status 200, while its engine stops.
            yield _End("the back end has aborted the answer")
            return
        if reason is not None:
            yield _Finished()
        if reason == "length":
            yield LengthReached()
        if (delta := _delta(event)) is not None:
            yield delta


def _tokens_together(items: Iterator[_Item]) -> list[_Item]:
    """Make one piece of tokens that follow each other."""
    joined: list[_Item] = []
    for item in items:
        last = joined[-1] if joined else None
        if isinstance(item, Delta) and isinstance(last, Delta) and item.reasoning == last.reasoning:
            joined[-1] = replace(last, text=last.text + item.text, tokens=last.tokens + item.tokens)
        else:
            joined.append(item)
    return joined


def _choice(item: dict[str, Any]) -> dict[str, Any]:
    choices = item.get("choices") or [{}]
    choice = choices[0]
    return choice if isinstance(choice, dict) else {}


def _finish_reason(item: dict[str, Any]) -> str | None:
    reason = _choice(item).get("finish_reason")
    return None if reason is None else str(reason)


def _usage(item: dict[str, Any]) -> Usage | None:
    usage = item.get("usage")
    tokens = usage.get("prompt_tokens") if isinstance(usage, dict) else None
    return Usage(tokens) if isinstance(tokens, int) else None


def _delta(item: dict[str, Any]) -> Delta | None:
    delta = _choice(item).get("delta") or {}
    if delta.get("content"):
        return Delta(str(delta["content"]))
    # The older name of the field is still in use.
    reasoning = delta.get("reasoning") or delta.get("reasoning_content")
    return Delta(str(reasoning), reasoning=True) if reasoning else None


def _join(delta: Delta, overlap: str) -> tuple[Delta, str]:
    """Drop the white space that the continued text already ends with.

    What continues an answer is answer, whatever a parser for reasoning takes it for.
    """
    text = delta.text
    while overlap and text and text[0] == overlap[0]:
        text, overlap = text[1:], overlap[1:]
    return Delta(text, tokens=delta.tokens), "" if text else overlap


def _seconds(retry_after: str | None) -> float:
    try:
        return min(max(float(retry_after or BUSY_SECONDS), 0.1), BUSY_MAX_SECONDS)
    except ValueError:
        return BUSY_SECONDS


def _error_field(body: bytes, name: str) -> str:
    try:
        return str(json.loads(body)["error"][name])
    except (ValueError, KeyError, TypeError):
        return ""
