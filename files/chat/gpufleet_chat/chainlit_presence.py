# mypy: untyped-calls-exclude=chainlit
"""The loop that keeps every open page informed, and notes which are gone."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Iterator
from contextlib import contextmanager

from chainlit.server import sio
from chainlit.session import WebsocketSession, ws_sessions_id

from gpufleet_chat import services
from gpufleet_chat.chainlit_chats import Chat, chat_of, chats
from gpufleet_chat.chainlit_sessions import GRACE_SECONDS, Janitor
from gpufleet_chat.logs import event
from gpufleet_chat.monitor import State
from gpufleet_chat.turn import StopReason

log = logging.getLogger(__name__)

# A page that lost its connection may come back this soon and find its answer still growing.
ABANDONED_SECONDS = 60.0
PRESENCE_SECONDS = 1.0
# A connection may be dead for as long before that is seen: Engine.IO's ping and its answer.
UNNOTICED_SECONDS = 60.0
# A count in the banner is read aloud to some, so it moves no more often.
COUNT_SECONDS = 5.0
BANNERS = {
    State.UP: "banner.back",
    State.DOWN: "banner.recovering",
    State.OFFLINE: "banner.offline",
    State.SATURATED: "banner.saturated",
}

_parts = services.current()


async def keep_pages_informed() -> None:
    """Push the state of the back end to every page, end what nobody waits for, tidy up."""
    janitor = Janitor(_parts.settings.session_keep_seconds + GRACE_SECONDS)
    while True:
        for session in list(ws_sessions_id.values()):
            with _survived("inform"):
                await _inform(session)
        for gone in chats.keys() - ws_sessions_id.keys():
            _parts.turns.stop(StopReason.ABANDONED, gone)
            del chats[gone]
        _parts.metrics.sessions.set(len(ws_sessions_id))
        with _survived("tidy"):
            await janitor.tidy()
        await _parts.monitor.wait_change(PRESENCE_SECONDS)


@contextmanager
def _survived(during: str) -> Iterator[None]:
    """Log what breaks for one page, so that all others are still informed."""
    try:
        yield
    except Exception:
        log.exception(event("presence_error", during=during))


async def _inform(session: WebsocketSession) -> None:
    chat = chat_of(session)
    if chat.socket_id != session.socket_id:
        chat.socket_id, chat.pushed = session.socket_id, None
    if sio.manager.is_connected(session.socket_id, "/"):
        chat.lost_at = None
    elif chat.lost_at is None:
        chat.lost_at = time.monotonic()
    elif time.monotonic() - chat.lost_at > ABANDONED_SECONDS:
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


def note_return(session: WebsocketSession) -> None:
    """A page came back: note since when it has missed things, before that is forgotten."""
    chat = chat_of(session)
    lost_at = time.monotonic() if chat.lost_at is None else chat.lost_at
    chat.missed_since = min(chat.missed_since, lost_at - UNNOTICED_SECONDS)


async def catch_up(session: WebsocketSession) -> None:
    """Show a page that came back what it may have missed, and whether an answer is on its way."""
    chat = chat_of(session)
    since, chat.missed_since = chat.missed_since, math.inf
    for view in list(chat.views):
        if view is chat.views[-1] or view.changed_at >= since:
            await view.resync(session)
    if _parts.turns.session_busy(session.id):
        await sio.emit("task_start", {}, to=session.socket_id)
