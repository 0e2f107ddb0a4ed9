# mypy: untyped-calls-exclude=chainlit
"""A page that was loaded anew in mid-answer: it goes on with the session that it had."""

from __future__ import annotations

from typing import Any

from chainlit.chat_context import chat_contexts
from chainlit.server import sio
from chainlit.session import WebsocketSession, ws_sessions_id
from chainlit.user_session import user_sessions

from gpufleet_chat import services
from gpufleet_chat.chainlit_chats import answering_elsewhere, chats
from gpufleet_chat.chainlit_presence import note_return
from gpufleet_chat.chainlit_sessions import connect

_parts = services.current()


async def on_connect(sid: str, environ: dict[str, Any], auth: object) -> bool:
    """Let a page in, and give it the session that still answers in its thread for no page.

    A page that is loaded anew has a new session.
    """
    accepted = await connect(sid, environ, auth)
    session = WebsocketSession.get(sid)
    if session is not None:
        _take_over(session)
        current = WebsocketSession.get(sid)
        if current is not None and current.restored:
            note_return(current)
    return accepted


def _take_over(new: WebsocketSession) -> None:
    if new.restored or new.thread_id_to_resume is None:
        return
    for old in answering_elsewhere(new):
        if not sio.manager.is_connected(old.socket_id, "/"):
            _move(old, new)
            return


def _move(old: WebsocketSession, new: WebsocketSession) -> None:
    """Let the old session have the id and the connection of the new one."""
    _parts.turns.move(old.id, new.id)
    chats[new.id] = chats.pop(old.id)
    # The page will show what the history has, and edit that.
    chat_contexts.pop(old.id, None)
    user_sessions.pop(old.id, None)
    del ws_sessions_id[old.id]
    old.id, old.emit, old.emit_call = new.id, new.emit, new.emit_call
    old.environ, old.token = new.environ, new.token
    ws_sessions_id[old.id] = old
    old.restore(new.socket_id)
    # Chainlit sends the thread to whoever resumes it.
    old.thread_id_to_resume = old.thread_id
