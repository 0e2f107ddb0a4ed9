# mypy: untyped-calls-exclude=chainlit
"""The Chainlit adapter: its hooks, and the loop that keeps every open page informed."""

from __future__ import annotations

import asyncio
import contextlib
import time
import uuid
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import chainlit as cl
from chainlit.config import config
from chainlit.context import init_ws_context
from chainlit.data.base import BaseDataLayer
from chainlit.server import sio
from chainlit.session import WebsocketSession, ws_sessions_id
from chainlit.socket import connection_successful
from chainlit.types import ThreadDict
from chainlit.user import User

from gpufleet_chat import services
from gpufleet_chat.admission import NotTaken
from gpufleet_chat.attachments import MAX_FILES, File, FileRefused, with_files
from gpufleet_chat.bounds import socket_bytes
from gpufleet_chat.chainlit_history import ChainlitHistory
from gpufleet_chat.chainlit_panel import panel
from gpufleet_chat.chainlit_sessions import GRACE_SECONDS, Janitor, connect
from gpufleet_chat.chainlit_view import (
    EXPORT_ACTION,
    EXPORT_FORMATS,
    REGENERATE_ACTION,
    RETRY_ACTION,
    TurnView,
)
from gpufleet_chat.choices import ChoiceError, Choices
from gpufleet_chat.conversation import Conversation, Exchange
from gpufleet_chat.export import export
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
    choices: Choices
    lock: asyncio.Lock = field(default_factory=asyncio.Lock)
    asked: set[str] = field(default_factory=set)
    turn: Turn | None = None
    failed: bool = False
    views: list[TurnView] = field(default_factory=list)
    offers_thinking: bool = False
    socket_id: str = ""
    pushed: tuple[State, int] | None = None
    pushed_at: float = 0.0
    lost_at: float | None = None
    told_of_history: bool = False


_parts = services.current()
_chats: dict[str, Chat] = {}
_writes: set[asyncio.Task[None]] = set()


def _chat(session: WebsocketSession) -> Chat:
    if session.id not in _chats:
        _chats[session.id] = Chat(Conversation(), Choices.default(_parts.settings))
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
    if session.thread_id_to_resume:
        # It is not there, or somebody else's: what is said from here on is another one.
        session.thread_id, session.thread_id_to_resume = str(uuid.uuid4()), None
    await _offer_settings(session, _chat(session))


async def on_chat_resume(thread: ThreadDict) -> None:
    """A conversation was opened that the history has kept: go on as if it had never ended."""
    session = _session()
    # Or Chainlit would open it again after each blip, in the middle of an answer.
    session.thread_id_to_resume, session.chat_started = None, True
    chat = _chats[session.id] = Chat(Conversation(), _kept_choices(thread))
    steps = thread["steps"]
    sent = await _history.sent_texts(thread["id"]) if _history else {}
    login = session.user.identifier if session.user else None
    for step in steps:
        if step["type"] != "user_message":
            continue
        question = sent.get(step["id"], step["output"])
        view = TurnView.restored(_parts.messages, session.language, step["id"], steps)
        chat.asked.add(step["id"])
        chat.views.append(view)
        chat.conversation.add(Exchange(step["id"], question, view.answer))
        chat.turn = Turn(
            step["id"],
            question,
            chat.choices,
            session.chat_profile,
            (),
            person(login, session.environ),
        )
    await _offer_settings(session, chat)
    if chat.views:
        await chat.views[-1].offer_again()


async def on_settings_update(values: dict[str, object]) -> None:
    """A person has chosen how the questions of this chat are asked from now on."""
    session = _session()
    chat = _chat(session)
    if not _parts.settings.settings_panel:
        return
    try:
        chat.choices = chat.choices.changed(values, _parts.settings)
    except ChoiceError as error:
        most = str(_parts.settings.max_tokens)
        text = _parts.messages.text(str(error), session.language, most=most)
        await cl.context.emitter.send_toast(text, "error")
        # The panel shows again what holds.
        await _offer_settings(session, chat)
        return
    if _history is not None and session.has_first_interaction:
        await _history.update_thread(session.thread_id)


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
    files = [
        File(element.name, Path(element.path))
        for element in message.elements
        if element.path is not None
    ]
    turn = Turn(
        message.id,
        message.content,
        chat.choices,
        session.chat_profile,
        files,
        person(login, session.environ),
    )
    view = TurnView(_parts.messages, session.language, message.id)
    await _run(session, chat, turn, view, edited)


@cl.action_callback(RETRY_ACTION)
async def on_retry(_action: cl.Action) -> None:
    """The person pressed "try again" below a failed answer."""
    session = _session()
    chat = _chat(session)
    if chat.turn is None or not chat.failed or _parts.turns.session_busy(session.id):
        return
    # Begun here, before the task: a second press meets a busy session or no notice.
    await chat.views[-1].resume()
    chat.turn.asked_at = time.monotonic()
    session.current_task = asyncio.create_task(_run_again(session, chat, chat.turn, chat.views[-1]))


@cl.action_callback(REGENERATE_ACTION)
async def on_regenerate(_action: cl.Action) -> None:
    """The person wants another answer to the last question."""
    session = _session()
    chat = _chat(session)
    if chat.turn is None or _parts.turns.session_busy(session.id):
        return
    await chat.views[-1].withdraw_actions()
    again = Turn(
        chat.turn.question_id,
        chat.turn.question,
        chat.choices,
        session.chat_profile,
        chat.turn.files,
        chat.turn.person,
    )
    run_id = chat.views[-1].run_id
    view = TurnView(_parts.messages, session.language, again.question_id, run_id)
    session.current_task = asyncio.create_task(_run_again(session, chat, again, view))


@cl.action_callback(EXPORT_ACTION)
async def on_export(action: cl.Action) -> None:
    """The person wants to keep the conversation as a file."""
    session = _session()
    form = str(action.payload.get("format"))
    if form not in EXPORT_FORMATS:
        return
    title = _parts.settings.title
    file = export(form, _chat(session).conversation, title, _parts.messages, session.language)
    payload = {"type": "download", "name": file.name, "mime": file.mime, "text": file.text}
    await sio.emit("window_message", payload, to=session.socket_id)


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


@cl.set_chat_profiles
async def models(_user: User | None, language: str | None) -> list[cl.ChatProfile]:
    """The models to choose from; none where there is no choice."""
    offered = await _parts.upstream.offered()
    if len(offered) < 2:
        return []
    text = _parts.messages.text("model", language)
    return [
        cl.ChatProfile(name=model.name, markdown_description=text, default=model is offered[0])
        for model in offered
    ]


async def on_connected(sid: str) -> None:
    """A page has connected: one that this process does not know may have been in a thread.

    Chainlit's page names its thread only where it was opened from the history.
    """
    session = WebsocketSession.get(sid)
    if _history is not None and session is not None:
        init_ws_context(session)
        if not session.restored and not session.thread_id_to_resume:
            thread_id = await _history.thread_of_page()
            if thread_id is not None:
                session.thread_id = session.thread_id_to_resume = thread_id
    await connection_successful(sid)


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
            values = {"reference": turn.reference, "seconds": str(refusal.seconds)}
            text = _parts.messages.text(refusal.failure.value, session.language, **values)
            await view.refuse(text)
        else:
            async with chat.lock:
                if edited:
                    # The page has dropped what followed an edited question.
                    chat.conversation.begin(turn.question_id)
                    await _remove_from(chat, view)
                await _make_last(chat, view)
                chat.turn, chat.failed = turn, True
                # The same question again is as long.
                retry = refusal.failure is not Failure.TOO_LONG
                await view.fail(refusal.failure, turn.reference, retry, refusal.seconds)


async def _answer(session: WebsocketSession, chat: Chat, turn: Turn, view: TurnView) -> None:
    """Answer after all earlier questions of this session."""
    with _parts.turns.running(session.id, turn):
        async with chat.lock:
            await _remove_from(chat, view)
            await _make_last(chat, view)
            # The end of an earlier question's task has told the page that nothing runs.
            await cl.context.emitter.task_start()
            if turn.files and not await _take_files(turn, view, session.language):
                chat.turn = None
                return
            chat.turn, chat.failed = turn, False
            chat.failed = not await _parts.answerer.run(turn, chat.conversation, view)
            await _offer_thinking(session, chat)


async def _remove_from(chat: Chat, view: TurnView) -> None:
    """A turn that is asked anew replaces all from there on."""
    for index, earlier in enumerate(chat.views):
        if earlier.question_id == view.question_id and earlier is not view:
            for old in chat.views[index:]:
                chat.conversation.begin(old.question_id)
                await old.remove()
            del chat.views[index:]
            break


async def _make_last(chat: Chat, view: TurnView) -> None:
    """Only the last turn has buttons."""
    if view not in chat.views:
        if chat.views:
            await chat.views[-1].withdraw_actions()
        chat.views.append(view)


async def _take_files(turn: Turn, view: TurnView, language: str) -> bool:
    """Put the text of the files before the question, or say why not."""
    most = _parts.settings.upload_max_mib
    try:
        turn.question = await with_files(turn.question, turn.files, most)
    except FileRefused as error:
        values = {"name": error.name, "most": str(most), "count": str(MAX_FILES)}
        await view.refuse(_parts.messages.text(error.key, language, **values))
        return False
    turn.files = ()
    if _history is not None:
        # Not awaited: the answer does not wait for the history.
        task = asyncio.create_task(_history.keep_sent_text(turn.question_id, turn.question))
        _writes.add(task)
        task.add_done_callback(_writes.discard)
    return True


async def _run_again(session: WebsocketSession, chat: Chat, turn: Turn, view: TurnView) -> None:
    """Run as Chainlit runs a question: the page is told of the end."""
    try:
        await _run(session, chat, turn, view)
    finally:
        await cl.context.emitter.task_end()


async def _offer_settings(session: WebsocketSession, chat: Chat) -> None:
    if not _parts.settings.settings_panel:
        return
    chat.offers_thinking = _parts.upstream.thinks(session.chat_profile)
    await panel(
        chat.choices, _parts.settings, _parts.messages, session.language, chat.offers_thinking
    ).send()


async def _offer_thinking(session: WebsocketSession, chat: Chat) -> None:
    """A model may just have been seen thinking: now it can be switched off."""
    if not chat.offers_thinking and _parts.upstream.thinks(session.chat_profile):
        await _offer_settings(session, chat)


def _kept_choices(thread: ThreadDict) -> Choices:
    default = Choices.default(_parts.settings)
    kept = (thread.get("metadata") or {}).get("choices")
    if _parts.settings.settings_panel and isinstance(kept, dict):
        # What the operator allows may be less by now.
        with contextlib.suppress(ChoiceError):
            return default.changed(kept, _parts.settings)
    return default


def _details(session: WebsocketSession) -> dict[str, Any]:
    """What the history keeps of a chat: its model, and what is not as the operator has set."""
    default = asdict(Choices.default(_parts.settings))
    chosen = asdict(_chat(session).choices)
    choices = {key: value for key, value in chosen.items() if value != default[key]}
    return {"chat_profile": session.chat_profile, "choices": choices}


async def _tell_of_history(session: WebsocketSession) -> None:
    """Say once that a chat cannot be kept: its answers do not depend on that."""
    chat = _chat(session)
    if chat.told_of_history:
        return
    chat.told_of_history = True
    toast = {"message": _parts.messages.text("history.fault", session.language), "type": "warning"}
    await sio.emit("toast", toast, to=session.socket_id)


async def keep_pages_informed() -> None:
    """Push the state of the back end to every page, catch up pages that came back, tidy up."""
    janitor = Janitor(_parts.settings.session_keep_seconds + GRACE_SECONDS)
    while True:
        for session in list(ws_sessions_id.values()):
            await _inform(session)
        for gone in _chats.keys() - ws_sessions_id.keys():
            _parts.turns.stop(StopReason.ABANDONED, gone)
            del _chats[gone]
        _parts.metrics.sessions.set(len(ws_sessions_id))
        await janitor.tidy()
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
    # The page puts the time in, by its own clock and in the way of its country.
    values = {"waiting": str(told[1]), "since": "{since}"}
    text = _parts.messages.text(BANNERS[state], session.language, **values)
    seconds = round(_parts.monitor.away_seconds())
    payload = {"type": "service-state", "state": state.value, "text": text, "seconds": seconds}
    await sio.emit("window_message", payload, to=session.socket_id)


async def _catch_up(session: WebsocketSession, chat: Chat) -> None:
    if chat.views:
        await chat.views[-1].resync(session)
    if _parts.turns.session_busy(session.id):
        await sio.emit("task_start", {}, to=session.socket_id)


sio.on("connect", connect)
_history = (
    ChainlitHistory(
        _parts.history, _parts.messages, _parts.metrics, tell=_tell_of_history, details=_details
    )
    if _parts.history is not None
    else None
)
if _history is not None:
    data_layer: BaseDataLayer = _history
    cl.data_layer(lambda: data_layer)
    cl.on_chat_resume(on_chat_resume)
    sio.on("connection_successful", on_connected)
sio.on("stop", on_stop)
# Not by its decorator, which tells the page that nothing runs, whatever runs.
config.code.on_settings_update = on_settings_update
# Chainlit's pages know a theme that its settings do not.
if _parts.settings.theme == "system":
    config.ui.default_theme = "system"
# What is larger closes the connection without a word; a question that is too long gets one.
sio.eio.max_http_buffer_size = socket_bytes(_parts.settings.message_max_chars)
_parts.background.append(keep_pages_informed)
