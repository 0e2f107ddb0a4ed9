# mypy: untyped-calls-exclude=chainlit
"""Chainlit's sessions: who may open one, and that nothing of one stays when it is gone."""

from __future__ import annotations

import asyncio
import ctypes
import logging
import re
import shutil
import time
from pathlib import Path
from typing import Any

import chainlit.socket
from chainlit.chat_context import chat_contexts
from chainlit.config import FILES_DIRECTORY
from chainlit.server import sio
from chainlit.session import WebsocketSession, ws_sessions_id, ws_sessions_sid
from chainlit.user_session import user_sessions

from gpufleet_chat.logs import event

log = logging.getLogger(__name__)

_ID = re.compile(r"[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}")
# Chainlit's own timer comes first; this is for sessions that it has lost sight of.
GRACE_SECONDS = 5.0
SWEEP_SECONDS = 5.0


async def connect(sid: str, environ: dict[str, Any], auth: object) -> bool:
    """Let a page in whose session has an id as Chainlit's pages make them.

    Chainlit names a directory after it, and deletes that in the end: ".." would be the app's own.
    """
    identifier = auth.get("sessionId") if isinstance(auth, dict) else None
    if not (isinstance(identifier, str) and _ID.fullmatch(identifier)):
        raise ConnectionRefusedError("the id of the session is none")
    return bool(await chainlit.socket.connect(sid, environ, auth))


class Janitor:
    """Ends sessions whose page is away for too long, and deletes what they have left."""

    def __init__(self, keep_seconds: float) -> None:
        self._keep_seconds = keep_seconds
        self._away_since: dict[str, float] = {}
        self._ended = False
        self._swept_at = time.monotonic()

    async def tidy(self) -> None:
        """Look once; may be called often."""
        now = time.monotonic()
        for session in list(ws_sessions_id.values()):
            if sio.manager.is_connected(session.socket_id, "/"):
                self._away_since.pop(session.id, None)
            elif now - self._away_since.setdefault(session.id, now) >= self._keep_seconds:
                await _end(session)
        for left in (self._away_since, chat_contexts, user_sessions):
            for gone in left.keys() - ws_sessions_id.keys():
                del left[gone]
                self._ended = True
        if now - self._swept_at >= SWEEP_SECONDS:
            self._swept_at = now
            try:
                await asyncio.to_thread(_delete_files)
            except OSError as error:
                log.warning(event("files_not_deleted", cause=str(error)))
            if self._ended:
                self._ended = False
                _give_memory_back()


async def _end(session: WebsocketSession) -> None:
    try:
        await session.delete()
    except OSError as error:
        # The next sweeps try again.
        log.warning(event("files_not_deleted", cause=str(error)))
    finally:
        ws_sessions_sid.pop(session.socket_id, None)
        ws_sessions_id.pop(session.id, None)


def _delete_files() -> None:
    """Delete the uploaded files of sessions that are no more."""
    for directory in Path(FILES_DIRECTORY).iterdir():
        if directory.name not in ws_sessions_id:
            shutil.rmtree(directory, ignore_errors=True)


def _give_memory_back() -> None:
    """Let the system have what closed chats have taken; the C library keeps it otherwise."""
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)
