# mypy: untyped-calls-exclude=chainlit
"""The history as Chainlit asks for it.

Chainlit calls most of this from tasks that it forgets, and checks little of who asks: here a
fault ends in a word to the person, and everything is asked of the store in the person's name.
"""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from contextvars import ContextVar
from datetime import UTC, datetime
from typing import Any, cast

from chainlit.context import ChainlitContextException, get_context
from chainlit.data.base import BaseDataLayer
from chainlit.element import Element as ShownElement
from chainlit.element import ElementDict
from chainlit.session import WebsocketSession
from chainlit.step import StepDict
from chainlit.types import (
    Feedback,
    PageInfo,
    PaginatedResponse,
    Pagination,
    ThreadDict,
    ThreadFilter,
)
from chainlit.user import PersistedUser
from chainlit.user import User as ShownUser
from fastapi import HTTPException

from gpufleet_chat.history import History, HistoryFault
from gpufleet_chat.history_store import (
    Element,
    HistoryStore,
    NotOwnerError,
    Rating,
    Step,
    Thread,
    User,
)
from gpufleet_chat.logins import PROBE_NAME
from gpufleet_chat.logs import event
from gpufleet_chat.messages import Messages
from gpufleet_chat.metrics import Metrics
from gpufleet_chat.request_language import request_language

log = logging.getLogger(__name__)

# The key of a message's metadata without which an assistant's message is not kept: notices that
# only hold for a moment are such messages, too.
KEPT = "kept"
_MAX_NAMES = 100
_MAX_USERS = 10_000
_DETAILS = (
    "start",
    "end",
    "language",
    "isError",
    "showInput",
    "defaultOpen",
    "autoCollapse",
    "metadata",
)
# Who sends the request that is being answered. Chainlit asks for the user first, in the same task.
_reader: ContextVar[str | None] = ContextVar("reader", default=None)

Tell = Callable[[WebsocketSession], Awaitable[None]]
Details = Callable[[WebsocketSession], Mapping[str, Any]]


class ChainlitHistory(BaseDataLayer):
    """Chainlit's data layer on our history.

    tell is called when something said in a chat could not be kept; details are what is kept of a
    chat beside its messages.
    """

    def __init__(
        self, history: History, messages: Messages, metrics: Metrics, tell: Tell, details: Details
    ) -> None:
        self._history = history
        self._messages = messages
        self._metrics = metrics
        self._tell = tell
        self._details = details
        self._users: dict[str, PersistedUser] = {}

    async def get_user(self, identifier: str) -> PersistedUser | None:
        """The person, who sends the request that is being answered."""
        _reader.set(identifier)
        if identifier == PROBE_NAME:
            return _stranger(identifier)
        if identifier not in self._users:
            try:
                async with self._history.reading("user") as store:
                    found = await store.user(identifier)
            except HistoryFault:
                return None
            return None if found is None else self._remember(found)
        return self._users[identifier]

    async def create_user(self, user: ShownUser) -> PersistedUser:
        """Make a person known; one whom the database does not know may chat all the same."""
        _reader.set(user.identifier)
        try:
            async with self._history.writing("user") as store:
                return self._remember(await store.keep_user(user.identifier, user.metadata))
        except HistoryFault:
            return _stranger(user.identifier)

    async def list_threads(
        self, pagination: Pagination, filters: ThreadFilter
    ) -> PaginatedResponse[ThreadDict]:
        """The names of the person's threads; what was said in them is not read."""
        first = max(1, min(pagination.first, _MAX_NAMES))
        async with self._request("list") as (owner, store):
            before = _position(pagination.cursor)
            names = await store.names(owner, first + 1, before, filters.search or "")
        shown = names[:first]
        cursors = [f"{name.updated_at!r} {name.id}" for name in shown]
        return PaginatedResponse(
            pageInfo=PageInfo(
                hasNextPage=len(names) > first,
                startCursor=cursors[0] if cursors else None,
                endCursor=cursors[-1] if cursors else None,
            ),
            data=[
                ThreadDict(
                    id=name.id,
                    # The page groups by this time what comes in the order of the other.
                    createdAt=_iso(name.updated_at),
                    name=name.name,
                    userId=None,
                    userIdentifier=owner,
                    tags=None,
                    metadata=None,
                    steps=[],
                    elements=None,
                )
                for name in shown
            ],
        )

    async def get_thread_author(self, thread_id: str) -> str:
        """The person, if it is theirs; else nobody, as if there were no such thread."""
        async with self._request("author") as (owner, store):
            return owner if await store.owns(owner, thread_id) else ""

    async def get_thread(self, thread_id: str) -> ThreadDict | None:
        """A thread of the person with all that was said; without one, also after a fault."""
        owner = _owner()
        if owner is None:
            return None
        try:
            async with self._history.reading("thread") as store:
                thread = await store.thread(owner, thread_id)
        except HistoryFault:
            return None
        return None if thread is None else _thread_dict(thread, owner)

    async def update_thread(
        self,
        thread_id: str,
        name: str | None = None,
        user_id: str | None = None,
        metadata: dict[str, Any] | None = None,
        tags: list[str] | None = None,
    ) -> None:
        """Begin a thread, rename one, or keep what has changed of a chat.

        What Chainlit would keep beside is left out: the session's values are not the history's.
        """
        session = _session()
        if session is None:
            if name is not None:
                async with self._request("rename", writes=True) as (owner, store):
                    await store.rename(owner, thread_id, name)
            return
        details = self._details(session)

        async def keep(owner: str, store: HistoryStore) -> None:
            if name is not None:
                await store.begin_thread(owner, thread_id, name, details, session.id)
            else:
                await store.keep_details(owner, thread_id, details, session.id)

        await self._from_chat("thread", keep)

    async def delete_thread(self, thread_id: str) -> None:
        """Delete a thread of the person."""
        async with self._request("delete", writes=True) as (owner, store):
            await store.delete_thread(owner, thread_id)

    async def create_step(self, step_dict: StepDict) -> None:
        """Keep what was said, if it belongs to the history."""
        if not _belongs(step_dict):
            return
        thread_id, step = step_dict.get("threadId") or "", _step(step_dict)
        await self._from_chat(
            "step",
            lambda owner, store: store.keep_step(
                owner, thread_id, step, begins=step.kind == "user_message"
            ),
        )

    async def update_step(self, step_dict: StepDict) -> None:
        """Keep what was said as it is now."""
        await self.create_step(step_dict)

    async def delete_step(self, step_id: str) -> None:
        """Forget what was said, and all that was said to it."""
        thread_id = _chat_thread()
        await self._from_chat(
            "step", lambda owner, store: store.delete_step(owner, thread_id, step_id)
        )

    async def keep_sent_text(self, question_id: str, text: str) -> None:
        """Keep what the model was sent for a question, where a person has typed less."""
        thread_id = _chat_thread()
        await self._from_chat(
            "step", lambda owner, store: store.keep_sent_text(owner, thread_id, question_id, text)
        )

    async def thread_of_page(self) -> str | None:
        """The thread of a page whose session is not known any more; raises HistoryFault."""
        session, owner = _session(), _owner()
        if session is None or owner is None:
            return None
        async with self._history.reading("thread") as store:
            named = session.thread_id_to_resume
            if named is None:
                return await store.thread_of_page(owner, session.id)
            return named if await store.owns(owner, named) else None

    async def sent_texts(self, thread_id: str) -> dict[str, str]:
        """What the model was sent, by question; tells the person when that is not known."""
        session, owner = _session(), _owner()
        if session is None or owner is None:
            return {}
        try:
            async with self._history.reading("thread") as store:
                return await store.sent_texts(owner, thread_id)
        except HistoryFault:
            await self._tell(session)
            return {}

    async def create_element(self, element: ShownElement) -> None:
        """Keep the name of a file."""
        step_id = element.for_id
        if step_id is None:
            return
        kept = Element(element.id, step_id, element.type, element.name, element.mime)
        thread_id = element.thread_id
        await self._from_chat(
            "element", lambda owner, store: store.keep_element(owner, thread_id, kept)
        )

    async def get_element(self, thread_id: str, element_id: str) -> ElementDict | None:
        """A file of a thread of the person."""
        async with self._request("element") as (owner, store):
            element = await store.element(owner, thread_id, element_id)
        return None if element is None else _element_dict(element, thread_id)

    async def delete_element(self, element_id: str, thread_id: str | None = None) -> None:
        """Forget a file."""
        await self._from_chat(
            "element",
            lambda owner, store: store.delete_element(owner, thread_id or "", element_id),
        )

    async def upsert_feedback(self, feedback: Feedback) -> str:
        """Keep a thumb, with its comment."""
        async with self._request("feedback", writes=True) as (owner, store):
            value = 1 if feedback.value else 0
            rating, turned = await store.rate(owner, feedback.forId, value, feedback.comment)
        if turned:
            self._metrics.ratings.labels("up" if value else "down").inc()
        return rating.id

    async def delete_feedback(self, feedback_id: str) -> bool:
        """Take a thumb back."""
        async with self._request("feedback", writes=True) as (owner, store):
            await store.take_rating_back(owner, feedback_id)
        return True

    async def get_favorite_steps(self, user_id: str) -> list[StepDict]:
        """None: favorites are off."""
        return []

    async def build_debug_url(self) -> str:
        """None: there is no page for it."""
        return ""

    async def close(self) -> None:
        """The server closes the history."""

    def _remember(self, user: User) -> PersistedUser:
        if len(self._users) >= _MAX_USERS:
            self._users.clear()
        known = PersistedUser(
            id=user.id,
            identifier=user.identifier,
            metadata=dict(user.details),
            createdAt=_iso(user.created_at),
        )
        self._users[user.identifier] = known
        return known

    @asynccontextmanager
    async def _request(
        self, what: str, writes: bool = False
    ) -> AsyncIterator[tuple[str, HistoryStore]]:
        """The store for a request that waits for the result, whose sender is told of a fault."""
        owner = _owner()
        if owner is None:
            raise HTTPException(401, "Unauthorized")
        access = self._history.writing if writes else self._history.reading
        try:
            async with access(what) as store:
                yield owner, store
        except NotOwnerError:
            raise HTTPException(404, "Not found") from None
        except HistoryFault:
            # The page shows it as it is.
            text = self._messages.text("history.away", request_language())
            raise HTTPException(503, text) from None

    async def _from_chat(
        self, what: str, act: Callable[[str, HistoryStore], Awaitable[None]]
    ) -> None:
        """Keep what happens in a chat, which goes on after a fault."""
        session, owner = _session(), _owner()
        if session is None or owner is None:
            return
        try:
            async with self._history.writing(what) as store:
                await act(owner, store)
        except NotOwnerError:
            log.info(event("history_refused", during=what, user=owner))
        except HistoryFault:
            await self._tell(session)


def _session() -> WebsocketSession | None:
    try:
        session = get_context().session
    except ChainlitContextException:
        return None
    return session if isinstance(session, WebsocketSession) else None


def _owner() -> str | None:
    """Who has logged in; nobody where the request and the chat are not of the same person."""
    session, reader = _session(), _reader.get()
    if reader == PROBE_NAME:
        return None
    if session is None:
        return reader
    chatting = session.user.identifier if session.user else None
    return chatting if reader in (None, chatting) else None


def _stranger(identifier: str) -> PersistedUser:
    """A person of whom the history knows nothing."""
    return PersistedUser(id=identifier, identifier=identifier, createdAt=_iso(0))


def _belongs(step: StepDict) -> bool:
    kind = step["type"]
    if kind == "assistant_message":
        return bool((step.get("metadata") or {}).get(KEPT))
    if kind == "run":
        # Answers and thinking hang from those of questions; the page's other hooks run, too.
        return step.get("name") == "on_message"
    # Thinking is kept when it has ended.
    return kind == "user_message" or (kind == "llm" and bool(step.get("end")))


def _chat_thread() -> str:
    session = _session()
    return session.thread_id if session else ""


def _position(cursor: str | None) -> tuple[float, str] | None:
    moment, _space, thread_id = (cursor or "").partition(" ")
    try:
        return float(moment), thread_id
    except ValueError:
        return None


def _iso(moment: float) -> str:
    return datetime.fromtimestamp(moment, UTC).isoformat().replace("+00:00", "Z")


def _moment(iso: str | None) -> float:
    try:
        return datetime.fromisoformat(iso or "").timestamp()
    except ValueError:
        return datetime.now(UTC).timestamp()


def _step(step: StepDict) -> Step:
    given: Mapping[str, Any] = step
    return Step(
        id=step["id"],
        parent_id=step.get("parentId"),
        kind=step["type"],
        name=step.get("name") or "",
        text=step.get("output") or "",
        created_at=_moment(step.get("createdAt")),
        details={key: given[key] for key in _DETAILS if given.get(key) not in (None, {}, False)},
    )


def _thread_dict(thread: Thread, owner: str) -> ThreadDict:
    return ThreadDict(
        id=thread.id,
        createdAt=_iso(thread.created_at),
        name=thread.name,
        userId=None,
        userIdentifier=owner,
        tags=None,
        metadata=dict(thread.details),
        steps=[_step_dict(step, thread.id) for step in thread.steps],
        elements=[_element_dict(element, thread.id) for element in thread.elements],
    )


def _step_dict(step: Step, thread_id: str) -> StepDict:
    shown: Any = {
        "id": step.id,
        "threadId": thread_id,
        "parentId": step.parent_id,
        "type": step.kind,
        "name": step.name,
        "input": "",
        "output": step.text,
        "createdAt": _iso(step.created_at),
        "streaming": False,
        "metadata": {},
        **step.details,
    }
    if step.rating is not None:
        shown["feedback"] = _feedback_dict(step.rating, step.id)
    return cast(StepDict, shown)


def _feedback_dict(rating: Rating, step_id: str) -> dict[str, Any]:
    return {
        "id": rating.id,
        "forId": step_id,
        "value": rating.value,
        "comment": rating.comment,
    }


def _element_dict(element: Element, thread_id: str) -> ElementDict:
    shown: Any = {
        "id": element.id,
        "threadId": thread_id,
        "forId": element.step_id,
        "type": element.kind,
        "name": element.name,
        "mime": element.mime,
        "display": "inline",
    }
    return cast(ElementDict, shown)
