# mypy: untyped-calls-exclude=chainlit
"""The Chainlit adapter: its hooks for what people do in a chat."""

from __future__ import annotations

import asyncio
import time
import uuid
from pathlib import Path

import chainlit as cl
from chainlit.chat_context import chat_contexts
from chainlit.config import config
from chainlit.server import sio
from chainlit.session import WebsocketSession
from chainlit.user import User

from gpufleet_chat import services
from gpufleet_chat.admission import NotTaken
from gpufleet_chat.attachments import LOST, MAX_FILES, File, FileRefused, with_files
from gpufleet_chat.bounds import socket_bytes
from gpufleet_chat.chainlit_chats import Chat, chat_of, chats, current_session
from gpufleet_chat.chainlit_panel import offer_settings, offer_thinking
from gpufleet_chat.chainlit_presence import keep_pages_informed
from gpufleet_chat.chainlit_reload import on_connect
from gpufleet_chat.chainlit_resume import LOST_FILES, history
from gpufleet_chat.chainlit_view import (
    EXPORT_ACTION,
    EXPORT_FORMATS,
    REGENERATE_ACTION,
    RETRY_ACTION,
    TurnView,
)
from gpufleet_chat.choices import ChoiceError
from gpufleet_chat.export import export
from gpufleet_chat.turn import Failure, StopReason, Turn
from gpufleet_chat.visitors import person

_parts = services.current()
_writes: set[asyncio.Task[None]] = set()


@cl.on_chat_start
async def on_chat_start() -> None:
    """A page was opened, or a new chat begun: forget what was said."""
    session = current_session()
    chats.pop(session.id, None)
    if session.thread_id_to_resume:
        # It is not there, or somebody else's: what is said from here on is another one.
        session.thread_id, session.thread_id_to_resume = str(uuid.uuid4()), None
        await _tell_unknown(session)
    await offer_settings(session, chat_of(session))


async def _tell_unknown(session: WebsocketSession) -> None:
    """The page may show what this chat does not know: the next question is asked without it."""
    message = cl.Message(content=_parts.messages.text("unknown", session.language))
    # Not below the run of a hook, which the page has none of.
    message.parent_id = None
    await message.send()


async def on_settings_update(values: dict[str, object]) -> None:
    """A person has chosen how the questions of this chat are asked from now on."""
    session = current_session()
    chat = chat_of(session)
    if not _parts.settings.settings_panel:
        return
    try:
        chat.choices = chat.choices.changed(values, _parts.settings)
    except ChoiceError as error:
        most = str(_parts.settings.max_tokens)
        text = _parts.messages.text(str(error), session.language, most=most)
        await cl.context.emitter.send_toast(text, "error")
        # The panel shows again what holds.
        await offer_settings(session, chat)
        return
    if history is not None and session.has_first_interaction:
        await history.update_thread(session.thread_id)


@cl.on_message
async def on_message(message: cl.Message) -> None:
    """A question was asked, or an earlier one edited."""
    session = current_session()
    chat = chat_of(session)
    edited, replaced = message.id in chat.asked, 0
    if edited:
        # What is being answered comes after the edited question, or is that question.
        replaced = _parts.turns.stop(StopReason.EDITED, session.id)
    chat.asked.add(message.id)
    login = session.user.identifier if session.user else None
    # An edited question keeps its files, which may be gone by now.
    file_text = chat.file_texts.get(message.id, "")
    files = [
        File(element.name, Path(element.path))
        for element in message.elements
        if element.path is not None and not file_text
    ]
    turn = Turn(
        message.id,
        message.content,
        chat.choices,
        session.chat_profile,
        files,
        person(login, session.environ),
        file_text,
    )
    if LOST_FILES in (message.metadata or {}):
        turn.files = [LOST]
    run = cl.context.current_run
    view = TurnView(
        _parts.messages, session.language, message.id, run.to_dict() if run is not None else None
    )
    await _run(session, chat, turn, view, edited, replaced)


_on_message = config.code.on_message


async def on_known_message(message: cl.Message | None) -> None:
    """Chainlit has None for an edit of a message that it does not know."""
    if message is None:
        await _tell_unknown(current_session())
    elif _on_message is not None:
        await _on_message(message)


@cl.action_callback(RETRY_ACTION)
async def on_retry(action: cl.Action) -> None:
    """The person pressed "try again" below a failed answer."""
    session = current_session()
    chat = chat_of(session)
    if await _is_stale(action, chat):
        return
    if (
        chat.turn is None
        or not chat.failed
        or chat.elsewhere
        or _parts.turns.session_busy(session.id)
    ):
        return
    # Before anything is awaited: a second press meanwhile finds nothing to try again.
    chat.failed = False
    await chat.views[-1].resume()
    chat.turn.asked_at = time.monotonic()
    session.current_task = asyncio.create_task(_run_again(session, chat, chat.turn, chat.views[-1]))


@cl.action_callback(REGENERATE_ACTION)
async def on_regenerate(action: cl.Action) -> None:
    """The person wants another answer to the last question."""
    session = current_session()
    chat = chat_of(session)
    if await _is_stale(action, chat):
        return
    if chat.turn is None or chat.elsewhere or _parts.turns.session_busy(session.id):
        return
    # Before anything is awaited: a second press meanwhile finds no question.
    answered, chat.turn = chat.turn, None
    await chat.views[-1].withdraw_actions()
    again = Turn(
        answered.question_id,
        answered.question,
        chat.choices,
        session.chat_profile,
        answered.files,
        answered.person,
        answered.file_text,
    )
    run = chat.views[-1].run
    view = TurnView(_parts.messages, session.language, again.question_id, run)
    session.current_task = asyncio.create_task(_run_again(session, chat, again, view))


async def _is_stale(action: cl.Action, chat: Chat) -> bool:
    """Whether a button stands below another question than the last one; then it goes."""
    if chat.views and action.payload.get("question") == chat.views[-1].question_id:
        return False
    await action.remove()
    return True


@cl.action_callback(EXPORT_ACTION)
async def on_export(action: cl.Action) -> None:
    """The person wants to keep the conversation as a file."""
    session = current_session()
    form = str(action.payload.get("format"))
    if form not in EXPORT_FORMATS:
        return
    title = _parts.settings.title
    file = export(form, chat_of(session).conversation, title, _parts.messages, session.language)
    payload = {"type": "download", "name": file.name, "mime": file.mime, "text": file.text}
    await sio.emit("window_message", payload, to=session.socket_id)


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


async def on_stop(sid: str) -> None:
    """The person pressed stop; Chainlit's own handler adds an untranslated message."""
    session = WebsocketSession.get(sid)
    if session is not None:
        _parts.turns.stop(StopReason.PERSON, session.id)


async def _run(
    session: WebsocketSession,
    chat: Chat,
    turn: Turn,
    view: TurnView,
    edited: bool = False,
    replaced: int = 0,
) -> None:
    """Answer the question, or say why it is not taken."""
    try:
        with _parts.admission.taken(turn, replaced):
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
        asked = False
        try:
            async with chat.lock:
                await _remove_from(chat, view)
                await _make_last(chat, view)
                # Chainlit deletes what follows an edited question: that is no answer to one before.
                chat_contexts.get(session.id, []).sort(key=lambda said: said.id == turn.question_id)
                # The end of an earlier question's task has told the page that nothing runs.
                await cl.context.emitter.task_start()
                if turn.files and not await _take_files(turn, view, session.language):
                    chat.turn = None
                    return
                asked = True
                await _ask(session, chat, turn, view)
        except asyncio.CancelledError:
            if not asked and turn.stop_reason is not StopReason.EDITED:
                await _close_unasked(chat, turn, view)
            raise


async def _ask(session: WebsocketSession, chat: Chat, turn: Turn, view: TurnView) -> None:
    """Have the question answered, whose turn it is now."""
    _keep_file_text(chat, turn)
    chat.turn, chat.failed = turn, False
    try:
        chat.failed = not await _parts.answerer.run(turn, chat.conversation, view)
    except asyncio.CancelledError:
        # Who comes back after all finds "try again" below it.
        chat.failed = turn.stop_reason is StopReason.ABANDONED
        raise
    await offer_thinking(session, chat)


async def _close_unasked(chat: Chat, turn: Turn, view: TurnView) -> None:
    """Say of a question that was ended in the line, or while its files were read, that it was."""
    async with chat.lock:
        await _make_last(chat, view)
        chat.turn, chat.failed = turn, False
        if turn.stop_reason is StopReason.RESTART:
            await view.fail(Failure.RESTARTING, turn.reference, retry=False)
        else:
            await view.stopped()


async def _remove_from(chat: Chat, view: TurnView) -> None:
    """A turn that is asked anew replaces all from there on."""
    for index, earlier in enumerate(chat.views):
        if earlier.question_id == view.question_id and earlier is not view:
            for old in chat.views[index:]:
                chat.conversation.begin(old.question_id)
                await view.replace(old)
            del chat.views[index:]
            break


async def _make_last(chat: Chat, view: TurnView) -> None:
    """Only the last turn has buttons."""
    if view not in chat.views:
        if chat.views:
            await chat.views[-1].withdraw_actions()
        chat.views.append(view)


async def _take_files(turn: Turn, view: TurnView, language: str) -> bool:
    """Read the files of the question, or say why not."""
    most = _parts.settings.upload_max_mib
    try:
        turn.file_text = await with_files("", turn.files, most)
    except FileRefused as error:
        values = {"name": error.name, "most": str(most), "count": str(MAX_FILES)}
        await view.refuse(_parts.messages.text(error.key, language, **values))
        return False
    turn.files = ()
    return True


def _keep_file_text(chat: Chat, turn: Turn) -> None:
    """Remember what the model is sent beside what the person has typed."""
    if not turn.file_text:
        return
    chat.file_texts[turn.question_id] = turn.file_text
    if history is not None:
        # Not awaited: the answer does not wait for the history.
        task = asyncio.create_task(history.keep_sent_text(turn.question_id, turn.sent))
        _writes.add(task)
        task.add_done_callback(_writes.discard)


async def _run_again(session: WebsocketSession, chat: Chat, turn: Turn, view: TurnView) -> None:
    """Run as Chainlit runs a question: the page is told of the end."""
    try:
        await _run(session, chat, turn, view)
    finally:
        await cl.context.emitter.task_end()


sio.on("connect", on_connect)
sio.on("stop", on_stop)
# Chainlit's own wrapper would break on None.
config.code.on_message = on_known_message
# Not by its decorator, which tells the page that nothing runs, whatever runs.
config.code.on_settings_update = on_settings_update
# Chainlit's pages know a theme that its settings do not.
if _parts.settings.theme == "system":
    config.ui.default_theme = "system"
# What is larger closes the connection without a word; a question that is too long gets one.
sio.eio.max_http_buffer_size = socket_bytes(_parts.settings.message_max_chars)
_parts.background.append(keep_pages_informed)
