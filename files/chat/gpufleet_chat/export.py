"""A conversation as a file that a person keeps."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime

from gpufleet_chat.conversation import Conversation
from gpufleet_chat.messages import Messages


@dataclass(frozen=True)
class Download:
    """A file for the person's browser."""

    name: str
    mime: str
    text: str


def export(
    form: str, conversation: Conversation, title: str, messages: Messages, language: str
) -> Download:
    """The whole conversation in the form "markdown" or "json"; raises KeyError for another."""
    kind, mime, write = _FORMS[form]
    now = datetime.now(UTC)
    name = f"chat-{now:%Y-%m-%d-%H%M%S}.{kind}"
    return Download(name, mime, write(conversation, title, now, messages, language))


def _markdown(
    conversation: Conversation, title: str, now: datetime, messages: Messages, language: str
) -> str:
    parts = [f"# {title}", f"{now:%Y-%m-%d %H:%M} UTC"]
    if conversation.system_prompt:
        parts += [_heading(messages, "system", language), conversation.system_prompt]
    for exchange in conversation.exchanges:
        parts += [_heading(messages, "person", language), exchange.question]
        parts += [_heading(messages, "assistant", language), exchange.answer]
    return "\n\n".join(part.strip() for part in parts) + "\n"


def _heading(messages: Messages, role: str, language: str) -> str:
    return f"## {messages.text(f'export.{role}', language)}"


def _json(
    conversation: Conversation, title: str, now: datetime, _messages: Messages, _language: str
) -> str:
    said = [{"role": "system", "content": conversation.system_prompt}]
    if not conversation.system_prompt:
        said = []
    for exchange in conversation.exchanges:
        said.append({"role": "user", "content": exchange.question})
        said.append({"role": "assistant", "content": exchange.answer})
    data = {"title": title, "exported_at": now.isoformat(timespec="seconds"), "messages": said}
    return json.dumps(data, ensure_ascii=False, indent=2) + "\n"


_Write = Callable[[Conversation, str, datetime, Messages, str], str]
_FORMS: dict[str, tuple[str, str, _Write]] = {
    "markdown": ("md", "text/markdown", _markdown),
    "json": ("json", "application/json", _json),
}
