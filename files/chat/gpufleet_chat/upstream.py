"""The client of the OpenAI-compatible API: streamed answers, or a typed reason for none."""

from __future__ import annotations

import asyncio
import contextlib
import json
import math
import ssl
import time
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from enum import Enum
from typing import Any, TypedDict

import httpx

from gpufleet_chat.choices import Choices
from gpufleet_chat.settings import Secrets, Settings

CONNECT_SECONDS = 5.0
BUSY_SECONDS = 2.0
BUSY_MAX_SECONDS = 15.0
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
            transport=transport,
            # Silence is timed per event below: keep-alive comments would reset a read timeout.
            timeout=httpx.Timeout(None, connect=CONNECT_SECONDS),
            limits=httpx.Limits(max_connections=None, max_keepalive_connections=20),
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
        except httpx.HTTPError:
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
                    async with aclosing(_events(response)) as events:
                        async for item in events:
                            if isinstance(item, str):
                                break
                            delta = _delta(item)
                            finished = finished or _finish_reason(item) is not None
                            if (usage := _usage(item)) is not None:
                                yield usage
                            if _finish_reason(item) == "length":
                                yield LengthReached()
                            if delta is None:
                                continue
                            if delta.reasoning:
                                self._thinkers.add(request.model)
                            limit.reschedule(None)
                            begun = True
                            if partial:
                                delta, overlap = _join(delta, overlap)
                            if delta.text:
                                yield delta
                            limit.reschedule(asyncio.get_running_loop().time() + silence)
                        else:
                            # The stream ended without its end mark.
                            if not finished:
                                raise Cut("the stream ended early")
        except TimeoutError:
            self._forget_models()
            detail = f"no byte for {silence:g} s"
            raise (Cut(detail) if begun else Unavailable(detail)) from None
        except (httpx.HTTPError, Cut) as error:
            self._forget_models()
            detail = f"{type(error).__name__}: {error}"
            raise (Cut(detail) if begun else Unavailable(detail)) from error

    async def _list_models(self, seconds: float) -> None:
        try:
            response = await self._client.get("models", timeout=seconds)
        except httpx.HTTPError as error:
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
        if status >= 500:
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


async def _events(response: httpx.Response) -> AsyncGenerator[dict[str, Any] | str, None]:
    """The decoded data of each server-sent event; "[DONE]" comes as a text."""
    async for line in response.aiter_lines():
        if not line.startswith("data:"):
            continue
        data = line[5:].strip()
        if data == "[DONE]":
            yield data
            return
        try:
            item = json.loads(data)
        except ValueError:
            raise Cut("an event is not JSON") from None
        if not isinstance(item, dict) or "error" in item:
            raise Cut("an error came inside the stream")
        yield item


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
    return Delta(text), "" if text else overlap


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
