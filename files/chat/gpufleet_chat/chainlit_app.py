# mypy: untyped-calls-exclude=chainlit
"""The Chainlit adapter: its hooks, and the loop that keeps every open page informed."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass, field

import chainlit as cl
from chainlit.chat_context import chat_contexts
from chainlit.server import sio
from chainlit.session import WebsocketSession, ws_sessions_id
from chainlit.user import User

from gpufleet_chat import services
from gpufleet_chat.admission import NotTaken
from gpufleet_chat.chainlit_view import RETRY_ACTION, TurnView
from gpufleet_chat.conversation import Conversation
from gpufleet_chat.monitor import State
from gpufleet_chat.turn import Failure, StopReason, Turn
from gpufleet_chat.visitors import person

# A page that lost its connection may come back this soon and find its answer still growing.
ABANDONED_SECONDS = 60.0
PRESENCE_SECONDS = 1.0
# A count in the banner is read aloud to some, so it moves no more often.
COUNT_SECONDS = 5.0
BANNERS = {
    State.UP: "banner.back",
    State.DOWN: "banner.recovering",
    State.OFFLINE: "banner.offline",
    State.SATURATED: "banner.saturated",
}


@dataclass
class Chat:
    """What we keep of one Chainlit session."""

    conversation: Conversation
    lock: asyncio.Lock = field(default_factory=asyncio.Lock)
    asked: set[str] = field(default_factory=set)
    turn: Turn | None = None
    view: TurnView | None = None
    socket_id: str = ""
    pushed: tuple[State, int] | None = None
    pushed_at: float = 0.0
    lost_at: float | None = None


_parts = services.current()
_chats: dict[str, Chat] = {}


def _chat(session: WebsocketSession) -> Chat:
    if session.id not in _chats:
        _chats[session.id] = Chat(Conversation(_parts.settings.system_prompt))
    return _chats[session.id]


def _session() -> WebsocketSession:
    session = cl.context.session
    if not isinstance(session, WebsocketSession):
        raise TypeError("the chat is served over websockets only")
    return session


@cl.on_chat_start
async def on_chat_start() -> None:
    """A page was opened, or a new chat begun: forget what was said."""
    session = _session()
    _chats.pop(session.id, None)
    _chat(session)


@cl.on_message
async def on_message(message: cl.Message | None) -> None:
    """A question was asked, or an earlier one edited."""
    # Chainlit passes None for an edit of a message it no longer knows.
    if message is None:
        return
    session = _session()
    chat = _chat(session)
    edited = message.id in chat.asked
    if edited:
        # What is being answered comes after the edited question, or is that question.
        _parts.turns.stop(StopReason.PERSON, session.id)
    chat.asked.add(message.id)
    login = session.user.identifier if session.user else None
    turn = Turn(message.id, message.content, person(login, session.environ))
    view = TurnView(_parts.messages, session.language, message.id)
    await _run(session, chat, turn, view, edited)


@cl.action_callback(RETRY_ACTION)
async def on_retry(_action: cl.Action) -> None:
    """The person pressed "try again" below a failed answer."""
    session = _session()
    chat = _chat(session)
    if chat.turn is None or chat.view is None or _parts.turns.session_busy(session.id):
        return
    # Begun here, before the task: a second press meets a busy session or no notice.
    await chat.view.resume()
    chat.turn.asked_at = time.monotonic()
    session.current_task = asyncio.create_task(_retry(session, chat, chat.turn, chat.view))


@cl.on_chat_end
async def on_chat_end() -> None:
    """The connection was lost, for good or for a blip: the loop below tells which."""
    chat = _chats.get(_session().id)
    if chat is not None:
        chat.lost_at = time.monotonic()


@cl.set_starters
async def starters(_user: User | None, language: str | None) -> list[cl.Starter]:
    """Questions to begin with, in the language of the page."""
    return [
        cl.Starter(
            label=_parts.messages.text(f"starter.{name}.label", language),
            message=_parts.messages.text(f"starter.{name}.message", language),
        )
        for name in ("explain", "write", "ask")
    ]


async def on_stop(sid: str) -> None:
    """The person pressed stop; Chainlit's own handler adds an untranslated message."""
    session = WebsocketSession.get(sid)
    if session is not None:
        _parts.turns.stop(StopReason.PERSON, session.id)


async def _run(
    session: WebsocketSession, chat: Chat, turn: Turn, view: TurnView, edited: bool = False
) -> None:
    """Answer the question, or say why it is not taken."""
    try:
        with _parts.admission.taken(turn):
            await _answer(session, chat, turn, view)
    except NotTaken as refusal:
        if refusal.failure is Failure.RESTARTING:
            await view.fail(refusal.failure, turn.reference, retry=False)
        elif _parts.turns.session_busy(session.id) and not edited:
            # "Try again" belongs to the question that is being answered.
            await view.fail(refusal.failure, turn.reference, False, refusal.seconds)
        else:
            async with chat.lock:
                # The page has dropped what followed an edited question.
                chat.conversation.begin(turn.question_id)
                chat.turn, chat.view = turn, view
                await view.fail(refusal.failure, turn.reference, True, refusal.seconds)


async def _answer(session: WebsocketSession, chat: Chat, turn: Turn, view: TurnView) -> None:
    """Answer after all earlier questions of this session."""
    with _parts.turns.running(session.id, turn):
        async with chat.lock:
            chat.turn, chat.view = turn, view
            # The end of an earlier question's task has told the page that nothing runs.
            await cl.context.emitter.task_start()
            if await _parts.answerer.run(turn, chat.conversation, view):
                chat.turn = None


async def _retry(session: WebsocketSession, chat: Chat, turn: Turn, view: TurnView) -> None:
    """Run as Chainlit runs a question: the page is told of the end."""
    try:
        await _run(session, chat, turn, view)
    finally:
        await cl.context.emitter.task_end()


async def keep_pages_informed() -> None:
    """Push the state of the back end to every page, catch up pages that came back, tidy up."""
    while True:
        for session in list(ws_sessions_id.values()):
            await _inform(session)
        for gone in _chats.keys() - ws_sessions_id.keys():
            _parts.turns.stop(StopReason.ABANDONED, gone)
            del _chats[gone]
        _parts.metrics.sessions.set(len(ws_sessions_id))
        # Chainlit never drops these itself.
        for gone in chat_contexts.keys() - ws_sessions_id.keys():
            del chat_contexts[gone]
        await _parts.monitor.wait_change(PRESENCE_SECONDS)


async def _inform(session: WebsocketSession) -> None:
    chat = _chat(session)
    if chat.socket_id != session.socket_id:
        came_back = chat.socket_id != ""
        chat.socket_id, chat.pushed, chat.lost_at = session.socket_id, None, None
        if came_back:
            await _catch_up(session, chat)
    if chat.lost_at is not None and time.monotonic() - chat.lost_at > ABANDONED_SECONDS:
        _parts.turns.stop(StopReason.ABANDONED, session.id)
    await _push_state(session, chat)


async def _push_state(session: WebsocketSession, chat: Chat) -> None:
    state, now = _parts.state(), time.monotonic()
    told = (state, _parts.queue.waiting if state is State.SATURATED else 0)
    same_state = chat.pushed is not None and chat.pushed[0] is state
    if state is State.UNKNOWN or chat.pushed == told:
        return
    if same_state and now - chat.pushed_at < COUNT_SECONDS:
        return
    chat.pushed, chat.pushed_at = told, now
    text = _parts.messages.text(BANNERS[state], session.language, waiting=str(told[1]))
    payload = {"type": "service-state", "state": state.value, "text": text}
    await sio.emit("window_message", payload, to=session.socket_id)


async def _catch_up(session: WebsocketSession, chat: Chat) -> None:
    if chat.view is not None:
        await chat.view.resync(session)
    if _parts.turns.session_busy(session.id):
        await sio.emit("task_start", {}, to=session.socket_id)


sio.on("stop", on_stop)
_parts.background.append(keep_pages_informed)
