# mypy: untyped-calls-exclude=chainlit
"""Conversations that the history has kept: Chainlit's hooks to keep them, and to go on with one."""

from __future__ import annotations

import asyncio
import contextlib
import time
from dataclasses import asdict
from typing import Any
from weakref import WeakKeyDictionary

import chainlit as cl
from chainlit.chat_context import chat_contexts
from chainlit.context import init_ws_context
from chainlit.data.base import BaseDataLayer
from chainlit.server import sio
from chainlit.session import WebsocketSession, ws_sessions_id
from chainlit.socket import connection_successful, message
from chainlit.types import MessagePayload, ThreadDict

from gpufleet_chat import services
from gpufleet_chat.chainlit_chats import (
    Chat,
    answering_elsewhere,
    chat_of,
    chats,
    current_session,
)
from gpufleet_chat.chainlit_history import ChainlitHistory
from gpufleet_chat.chainlit_panel import offer_settings
from gpufleet_chat.chainlit_presence import catch_up
from gpufleet_chat.chainlit_view import TurnView
from gpufleet_chat.choices import ChoiceError, Choices
from gpufleet_chat.conversation import Conversation, Exchange
from gpufleet_chat.history import HistoryFault
from gpufleet_chat.turn import Turn
from gpufleet_chat.visitors import person

_parts = services.current()
# A page of ours says at once that it has connected; what comes first is only delayed.
CONNECTED_SECONDS = 15.0
# Longer than a history that could not be opened is left alone.
HISTORY_SECONDS = 12.0
HISTORY_ASK_SECONDS = 0.5
ELSEWHERE_ASK_SECONDS = 0.5
# The key of a question's metadata where a file of it is not here.
LOST_FILES = "lost_files"
_waits: set[asyncio.Task[None]] = set()
_connected: WeakKeyDictionary[WebsocketSession, asyncio.Event] = WeakKeyDictionary()


async def on_chat_resume(thread: ThreadDict) -> None:
    """A conversation was opened that the history has kept: go on as if it had never ended."""
    session = current_session()
    # Or Chainlit would open it again after each blip, in the middle of an answer.
    session.thread_id_to_resume, session.chat_started = None, True
    if session.restored:
        # The page was loaded anew in mid-answer: it is caught up with what is answered.
        await offer_settings(session, chat_of(session))
        return
    chat = chats[session.id] = Chat(Conversation(), _kept_choices(thread))
    steps = thread["steps"]
    sent = await history.sent_texts(thread["id"]) if history else {}
    login = session.user.identifier if session.user else None
    for step in steps:
        if step["type"] != "user_message":
            continue
        question = step["output"]
        file_text = _file_text(sent.get(step["id"], ""), question)
        if file_text:
            chat.file_texts[step["id"]] = file_text
        view = TurnView.restored(_parts.messages, session.language, step["id"], steps)
        chat.asked.add(step["id"])
        chat.views.append(view)
        chat.conversation.add(Exchange(step["id"], file_text + question, view.answer))
        chat.turn = Turn(
            step["id"],
            question,
            chat.choices,
            session.chat_profile,
            (),
            person(login, session.environ),
            file_text,
        )
    await offer_settings(session, chat)
    if chat.views:
        last = chat.views[-1]
        chat.elsewhere = bool(answering_elsewhere(session))
        if chat.elsewhere:
            task = asyncio.create_task(_open_again(session))
            _waits.add(task)
            task.add_done_callback(_waits.discard)
        notice = await (last.say_elsewhere() if chat.elsewhere else last.offer_again())
        if notice is not None:
            # The page shows the thread as it is sent after this.
            steps.append(notice)


async def _open_again(session: WebsocketSession) -> None:
    """Show the thread anew when another tab has its answer, to a page that waits for it."""
    while (
        answering_elsewhere(session)
        or _parts.turns.session_busy(session.id)
        or not sio.manager.is_connected(session.socket_id, "/")
    ):
        await asyncio.sleep(ELSEWHERE_ASK_SECONDS)
        if ws_sessions_id.get(session.id) is not session:
            return
    # The history is written beside the answer.
    await asyncio.sleep(ELSEWHERE_ASK_SECONDS)
    # What is asked from here on waits, as in a page that has just come.
    _connected[session] = asyncio.Event()
    session.thread_id_to_resume, session.restored = session.thread_id, False
    chat_contexts.pop(session.id, None)
    await on_connected(session.socket_id)


async def on_connected(sid: str) -> None:
    """A page has connected: one that this process does not know may have been in a thread."""
    session = WebsocketSession.get(sid)
    if history is not None and session is not None:
        init_ws_context(session)
        if session.thread_id_to_resume and not session.has_first_interaction:
            # Also where the page was lost before its thread was opened.
            session.restored = False
        if not session.restored:
            thread_id = await _thread_of_page(session, history)
            if thread_id is not None:
                session.thread_id = session.thread_id_to_resume = thread_id
        if session.socket_id != sid:
            return
    try:
        await connection_successful(sid)
        if session is not None and session.restored:
            # Not before: Chainlit has told the page just now that nothing runs.
            await catch_up(session)
    finally:
        if session is not None:
            _connected.setdefault(session, asyncio.Event()).set()


async def _thread_of_page(session: WebsocketSession, history: ChainlitHistory) -> str | None:
    """The thread to open; waits a while for a history that is away, if there is one to open."""
    give_up = time.monotonic() + HISTORY_SECONDS
    told = False
    while True:
        try:
            return await history.thread_of_page()
        except HistoryFault:
            if session.thread_id_to_resume is None or time.monotonic() > give_up:
                return None
        if not told:
            told = True
            text = _parts.messages.text("history.away", session.language)
            await sio.emit("toast", {"message": text, "type": "warning"}, to=session.socket_id)
        await asyncio.sleep(HISTORY_ASK_SECONDS)


async def on_question(sid: str, payload: MessagePayload) -> None:
    """A question has come: it is taken once its chat is there.

    A page keeps what is sent while it has no connection, and sends that before all else: after a
    restart the question would begin a thread of its own, whose answer the page does not show.
    """
    session = WebsocketSession.require(sid)
    connected = _connected.setdefault(session, asyncio.Event())
    if not connected.is_set():
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(connected.wait(), CONNECTED_SECONDS)
        # The page shows what its thread holds by now, which is without this question.
        await init_ws_context(session).emitter.send_step(payload["message"])
    if _misses_files(session, payload):
        metadata = payload["message"].get("metadata") or {}
        payload["message"]["metadata"] = {**metadata, LOST_FILES: True}
    await message(sid, payload)


def _misses_files(session: WebsocketSession, payload: MessagePayload) -> bool:
    """Whether a file was added before the chat has restarted: Chainlit leaves it out."""
    files = payload.get("fileReferences") or []
    return any(file["id"] not in session.files for file in files)


def _file_text(sent: str, question: str) -> str:
    """What stands before the question in what the model was sent."""
    return sent.removesuffix(question) if sent.endswith(question) else ""


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
    chosen = asdict(chat_of(session).choices)
    choices = {key: value for key, value in chosen.items() if value != default[key]}
    return {"chat_profile": session.chat_profile, "choices": choices}


async def _tell_of_history(session: WebsocketSession) -> None:
    """Say once that a chat cannot be kept: its answers do not depend on that."""
    chat = chat_of(session)
    if chat.told_of_history:
        return
    chat.told_of_history = True
    toast = {"message": _parts.messages.text("history.fault", session.language), "type": "warning"}
    await sio.emit("toast", toast, to=session.socket_id)


history = (
    ChainlitHistory(
        _parts.history, _parts.messages, _parts.metrics, tell=_tell_of_history, details=_details
    )
    if _parts.history is not None
    else None
)
if history is not None:
    data_layer: BaseDataLayer = history
    cl.data_layer(lambda: data_layer)
    cl.on_chat_resume(on_chat_resume)
sio.on("connection_successful", on_connected)
sio.on("client_message", on_question)
