# mypy: untyped-calls-exclude=chainlit
"""What is kept of each open chat."""

from __future__ import annotations

import asyncio
import math
from dataclasses import dataclass, field

import chainlit as cl
from chainlit.session import WebsocketSession, ws_sessions_id

from gpufleet_chat import services
from gpufleet_chat.chainlit_view import TurnView
from gpufleet_chat.choices import Choices
from gpufleet_chat.conversation import Conversation
from gpufleet_chat.monitor import State
from gpufleet_chat.turn import Turn


@dataclass
class Chat:
    """What we keep of one Chainlit session."""

    conversation: Conversation
    choices: Choices
    lock: asyncio.Lock = field(default_factory=asyncio.Lock)
    asked: set[str] = field(default_factory=set)
    # What their files held, by question.
    file_texts: dict[str, str] = field(default_factory=dict)
    turn: Turn | None = None
    failed: bool = False
    views: list[TurnView] = field(default_factory=list)
    offers_thinking: bool = False
    socket_id: str = ""
    pushed: tuple[State, int] | None = None
    pushed_at: float = 0.0
    lost_at: float | None = None
    # A page that has come back, and is not caught up yet, may have missed what changed since.
    missed_since: float = math.inf
    told_of_history: bool = False
    # Its last question is being answered in another tab, as far as this one knows.
    elsewhere: bool = False


_parts = services.current()
# By the id of their session.
chats: dict[str, Chat] = {}


def chat_of(session: WebsocketSession) -> Chat:
    """The chat of a session, made where there is none yet."""
    if session.id not in chats:
        chats[session.id] = Chat(Conversation(), Choices.default(_parts.settings))
    return chats[session.id]


def answering_elsewhere(session: WebsocketSession) -> list[WebsocketSession]:
    """The other sessions of this person that answer in the same thread."""
    return [
        other
        for other in ws_sessions_id.values()
        if other is not session
        and other.thread_id == session.thread_id
        and session.user is not None
        and other.user is not None
        and other.user.identifier == session.user.identifier
        and _parts.turns.session_busy(other.id)
    ]


def current_session() -> WebsocketSession:
    """The session for which this task runs."""
    session = cl.context.session
    if not isinstance(session, WebsocketSession):
        raise TypeError("the chat is served over websockets only")
    return session
