"""What the history holds, and who may have it: every call names the person it acts for."""

from __future__ import annotations

import time
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import (
    ColumnElement,
    Executable,
    Row,
    ScalarSelect,
    and_,
    case,
    delete,
    func,
    or_,
    select,
    update,
)
from sqlalchemy.dialects.postgresql import insert as postgresql_insert
from sqlalchemy.dialects.sqlite import insert as sqlite_insert
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from gpufleet_chat.history_schema import (
    MIGRATIONS,
    Migration,
    elements,
    feedback,
    steps,
    threads,
    upgrade,
    users,
)

MAX_NAME_CHARACTERS = 200
# Pages of a file that are given back at a time.
_VACUUM_PAGES = 1000


class NotOwnerError(Exception):
    """The thread or step belongs to somebody else, or is not there."""


@dataclass(frozen=True)
class User:
    """A person who has logged in."""

    id: str
    identifier: str
    created_at: float
    details: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Rating:
    """A thumb: 1 is up, 0 is down."""

    id: str
    value: int
    comment: str | None


@dataclass(frozen=True)
class Step:
    """One thing that was said or thought; details are the user interface's own."""

    id: str
    parent_id: str | None
    kind: str
    name: str
    text: str
    created_at: float
    sent_text: str | None = None
    details: Mapping[str, Any] = field(default_factory=dict)
    rating: Rating | None = None


@dataclass(frozen=True)
class Element:
    """A file that came with a step: its name, not what it holds."""

    id: str
    step_id: str
    kind: str
    name: str
    mime: str | None


@dataclass(frozen=True)
class ThreadName:
    """A conversation as a list shows it."""

    id: str
    name: str | None
    updated_at: float


@dataclass(frozen=True)
class Thread:
    """A whole conversation."""

    id: str
    name: str | None
    created_at: float
    details: Mapping[str, Any]
    steps: Sequence[Step]
    elements: Sequence[Element]


class HistoryStore:
    """The conversations in a database; raises what its driver raises.

    A thread of somebody else is as good as none. Writes must not run at the same time.
    """

    def __init__(self, engine: AsyncEngine) -> None:
        self._engine = engine
        self._writer = engine.execution_options(writes=True)
        self._insert: Any = (
            postgresql_insert if engine.dialect.name == "postgresql" else sqlite_insert
        )

    async def open(self, migrations: Sequence[Migration] = MIGRATIONS) -> int:
        """Make or renew the tables; returns the version of the schema."""
        async with self._writer.begin() as connection:
            return await connection.run_sync(upgrade, migrations)

    async def close(self) -> None:
        """Close all connections."""
        await self._engine.dispose()

    async def user(self, identifier: str) -> User | None:
        """The person of this login."""
        async with self._engine.connect() as connection:
            statement = select(users).where(users.c.identifier == _clean(identifier))
            row = (await connection.execute(statement)).one_or_none()
        return None if row is None else User(row.id, row.identifier, row.created_at, row.details)

    async def keep_user(self, identifier: str, details: Mapping[str, Any]) -> User:
        """Make the person known, or renew what is known."""
        async with self._writer.begin() as connection:
            statement = self._insert(users).values(
                id=str(uuid.uuid4()),
                identifier=_clean(identifier),
                created_at=time.time(),
                details=dict(details),
            )
            statement = statement.on_conflict_do_update(
                index_elements=["identifier"], set_={"details": statement.excluded.details}
            ).returning(users)
            row = (await connection.execute(statement)).one()
        return User(row.id, row.identifier, row.created_at, row.details)

    async def names(
        self, owner: str, first: int, before: tuple[float, str] | None = None, search: str = ""
    ) -> list[ThreadName]:
        """The person's threads, the newest first: only those before a time and an id."""
        statement = (
            select(threads.c.id, threads.c.name, threads.c.updated_at)
            .where(_owned_by(owner))
            .order_by(threads.c.updated_at.desc(), threads.c.id.desc())
            .limit(first)
        )
        if before is not None:
            moment, thread_id = before
            statement = statement.where(
                or_(
                    threads.c.updated_at < moment,
                    and_(threads.c.updated_at == moment, threads.c.id < thread_id),
                )
            )
        if search:
            folded = _clean(search).casefold()
            statement = statement.where(threads.c.folded_name.contains(folded, autoescape=True))
        async with self._engine.connect() as connection:
            rows = (await connection.execute(statement)).all()
        return [ThreadName(row.id, row.name, row.updated_at) for row in rows]

    async def owns(self, owner: str, thread_id: str) -> bool:
        """Whether there is such a thread of this person."""
        async with self._engine.connect() as connection:
            return await _thread(connection, owner, thread_id) is not None

    async def thread_of_page(self, owner: str, page_id: str) -> str | None:
        """The person's thread in which this page was."""
        statement = (
            select(threads.c.id)
            .where(threads.c.page_id == page_id, _owned_by(owner))
            .order_by(threads.c.updated_at.desc())
            .limit(1)
        )
        async with self._engine.connect() as connection:
            return (await connection.execute(statement)).scalar()

    async def thread(self, owner: str, thread_id: str) -> Thread | None:
        """A whole thread of this person."""
        said = (
            select(
                steps,
                feedback.c.id.label("rating_id"),
                feedback.c.value,
                feedback.c.comment,
            )
            .outerjoin(feedback, feedback.c.step_id == steps.c.id)
            .where(steps.c.thread_id == thread_id)
            .order_by(steps.c.created_at, steps.c.id)
        )
        files = select(elements).where(elements.c.thread_id == thread_id)
        async with self._engine.connect() as connection:
            found = await _thread(connection, owner, thread_id)
            if found is None:
                return None
            step_rows = (await connection.execute(said)).all()
            element_rows = (await connection.execute(files)).all()
        return Thread(
            found.id,
            found.name,
            found.created_at,
            found.details,
            [_step(row) for row in step_rows],
            [_element(row) for row in element_rows],
        )

    async def begin_thread(
        self,
        owner: str,
        thread_id: str,
        name: str,
        details: Mapping[str, Any],
        page_id: str | None = None,
    ) -> None:
        """Give a thread its name and details, and make it if it is new; raises NotOwnerError."""
        short = _name(name)
        async with self._writer.begin() as connection:
            await self._own(connection, owner, thread_id, begins=True)
            await connection.execute(
                update(threads)
                .where(threads.c.id == thread_id)
                .values(
                    name=short,
                    folded_name=short.casefold(),
                    details=dict(details),
                    page_id=page_id,
                )
            )

    async def keep_details(
        self,
        owner: str,
        thread_id: str,
        details: Mapping[str, Any],
        page_id: str | None = None,
    ) -> None:
        """Renew the details of a thread, if it is there."""
        await self._changed(
            update(threads)
            .where(threads.c.id == thread_id, _owned_by(owner))
            .values(details=dict(details), page_id=page_id)
        )

    async def rename(self, owner: str, thread_id: str, name: str) -> None:
        """Give a thread that is there another name; raises NotOwnerError."""
        short = _name(name)
        statement = (
            update(threads)
            .where(threads.c.id == thread_id, _owned_by(owner))
            .values(name=short, folded_name=short.casefold())
        )
        if not await self._changed(statement):
            raise NotOwnerError

    async def delete_thread(self, owner: str, thread_id: str) -> None:
        """Delete a thread with all it holds; raises NotOwnerError."""
        if not await self._changed(
            delete(threads).where(threads.c.id == thread_id, _owned_by(owner))
        ):
            raise NotOwnerError

    async def keep_step(self, owner: str, thread_id: str, step: Step, begins: bool = False) -> None:
        """Keep a step as it is now; raises NotOwnerError.

        One that begins may make its thread, and names one without a name. Others must not: the
        thread was deleted meanwhile.
        """
        async with self._writer.begin() as connection:
            await self._own(connection, owner, thread_id, begins)
            statement = self._insert(steps).values(
                id=step.id,
                thread_id=thread_id,
                parent_id=step.parent_id,
                kind=step.kind,
                name=_clean(step.name),
                text=_clean(step.text),
                created_at=step.created_at,
                details=dict(step.details),
            )
            new = statement.excluded
            kept = await connection.execute(
                statement.on_conflict_do_update(
                    index_elements=["id"],
                    set_={
                        "parent_id": new.parent_id,
                        "kind": new.kind,
                        "name": new.name,
                        "text": new.text,
                        # It was sent with the text before.
                        "sent_text": case((steps.c.text == new.text, steps.c.sent_text)),
                        "details": new.details,
                    },
                    # A page chooses the ids of its questions: it must not reach other threads.
                    where=steps.c.thread_id == thread_id,
                ).returning(steps.c.id)
            )
            if kept.one_or_none() is None:
                raise NotOwnerError
            changed: dict[str, Any] = {"updated_at": time.time()}
            if begins:
                # The question that was to name it may have met a fault.
                short = _name(step.text)
                changed["name"] = func.coalesce(threads.c.name, short)
                changed["folded_name"] = func.coalesce(threads.c.folded_name, short.casefold())
            await connection.execute(
                update(threads).where(threads.c.id == thread_id).values(changed)
            )

    async def keep_sent_text(self, owner: str, thread_id: str, step_id: str, text: str) -> None:
        """Keep what the model was sent for a question."""
        await self._changed(
            update(steps)
            .where(_step_of(owner, step_id), steps.c.thread_id == thread_id)
            .values(sent_text=_clean(text))
        )

    async def sent_texts(self, owner: str, thread_id: str) -> dict[str, str]:
        """What the model was sent, by the ids of the questions where that was kept."""
        statement = (
            select(steps.c.id, steps.c.sent_text)
            .join(threads, threads.c.id == steps.c.thread_id)
            .where(threads.c.id == thread_id, _owned_by(owner), steps.c.sent_text.is_not(None))
        )
        async with self._engine.connect() as connection:
            return {row.id: row.sent_text for row in await connection.execute(statement)}

    async def delete_step(self, owner: str, thread_id: str, step_id: str) -> None:
        """Delete a step of this thread, and all below it."""
        async with self._writer.begin() as connection:
            if await _thread(connection, owner, thread_id) is None:
                return
            below = select(steps.c.id).where(steps.c.id == step_id).cte(recursive=True)
            below = below.union(select(steps.c.id).where(steps.c.parent_id == below.c.id))
            await connection.execute(
                delete(steps).where(
                    steps.c.id.in_(select(below.c.id)), steps.c.thread_id == thread_id
                )
            )

    async def keep_element(self, owner: str, thread_id: str, element: Element) -> None:
        """Keep the name of a file that came with a step; raises NotOwnerError."""
        async with self._writer.begin() as connection:
            found = select(steps.c.id).where(
                _step_of(owner, element.step_id), steps.c.thread_id == thread_id
            )
            if (await connection.execute(found)).one_or_none() is None:
                raise NotOwnerError
            await connection.execute(
                self._insert(elements)
                .values(
                    id=element.id,
                    thread_id=thread_id,
                    step_id=element.step_id,
                    kind=element.kind,
                    name=_clean(element.name),
                    mime=element.mime and _clean(element.mime),
                )
                .on_conflict_do_nothing()
            )

    async def element(self, owner: str, thread_id: str, element_id: str) -> Element | None:
        """The file of a thread of this person."""
        async with self._engine.connect() as connection:
            if await _thread(connection, owner, thread_id) is None:
                return None
            statement = select(elements).where(
                elements.c.id == element_id, elements.c.thread_id == thread_id
            )
            row = (await connection.execute(statement)).one_or_none()
        return None if row is None else _element(row)

    async def delete_element(self, owner: str, thread_id: str, element_id: str) -> None:
        """Forget a file."""
        of_thread = select(threads.c.id).where(threads.c.id == thread_id, _owned_by(owner))
        await self._changed(
            delete(elements).where(elements.c.id == element_id, elements.c.thread_id.in_(of_thread))
        )

    async def rate(
        self, owner: str, step_id: str, value: int, comment: str | None
    ) -> tuple[Rating, bool]:
        """Put a thumb on a step, in place of an earlier one; raises NotOwnerError.

        The second value tells whether it points another way than before.
        """
        async with self._writer.begin() as connection:
            found = (
                select(steps.c.id, feedback.c.value)
                .outerjoin(feedback, feedback.c.step_id == steps.c.id)
                .where(_step_of(owner, step_id))
            )
            before = (await connection.execute(found)).one_or_none()
            if before is None:
                raise NotOwnerError
            statement = self._insert(feedback).values(
                id=str(uuid.uuid4()),
                step_id=step_id,
                value=value,
                comment=comment and _clean(comment),
                created_at=time.time(),
            )
            new = statement.excluded
            statement = statement.on_conflict_do_update(
                index_elements=["step_id"], set_={"value": new.value, "comment": new.comment}
            ).returning(feedback)
            row = (await connection.execute(statement)).one()
        return Rating(row.id, row.value, row.comment), before.value != value

    async def take_rating_back(self, owner: str, rating_id: str) -> None:
        """Delete a thumb of this person; raises NotOwnerError."""
        own = (
            select(steps.c.id)
            .join(threads, threads.c.id == steps.c.thread_id)
            .where(_owned_by(owner))
        )
        if not await self._changed(
            delete(feedback).where(feedback.c.id == rating_id, feedback.c.step_id.in_(own))
        ):
            raise NotOwnerError

    async def delete_older(self, moment: float, most: int) -> int:
        """Delete so many threads at most that nothing was added to since then; how many it were."""
        old = select(threads.c.id).where(threads.c.updated_at < moment).limit(most)
        return await self._changed(delete(threads).where(threads.c.id.in_(old)))

    async def give_space_back(self) -> None:
        """Make a file smaller by some of what was deleted; a server does so by itself."""
        if self._engine.dialect.name != "sqlite":
            return
        async with self._engine.connect() as connection:
            vacuum = f"PRAGMA incremental_vacuum({_VACUUM_PAGES})"
            driver = (await connection.get_raw_connection()).driver_connection
            if driver is None:
                return
            # Outside of any transaction; and a cursor would give back no more than one page.
            await driver.executescript(vacuum)

    async def count(self) -> int:
        """How many threads there are, of all people."""
        async with self._engine.connect() as connection:
            statement = select(func.count()).select_from(threads)
            return int((await connection.execute(statement)).scalar_one())

    async def _own(
        self, connection: AsyncConnection, owner: str, thread_id: str, begins: bool
    ) -> None:
        """See that the thread is the person's, and make it if it begins; raises NotOwnerError."""
        if begins:
            now = time.time()
            await connection.execute(
                self._insert(users)
                .values(id=str(uuid.uuid4()), identifier=_clean(owner), created_at=now, details={})
                .on_conflict_do_nothing()
            )
            await connection.execute(
                self._insert(threads)
                .values(
                    id=thread_id,
                    user_id=_person(owner),
                    created_at=now,
                    updated_at=now,
                    details={},
                )
                .on_conflict_do_nothing()
            )
        if await _thread(connection, owner, thread_id) is None:
            raise NotOwnerError

    async def _changed(self, statement: Executable) -> int:
        async with self._writer.begin() as connection:
            return (await connection.execute(statement)).rowcount


async def _thread(connection: AsyncConnection, owner: str, thread_id: str) -> Row[Any] | None:
    statement = select(threads).where(threads.c.id == thread_id, _owned_by(owner))
    return (await connection.execute(statement)).one_or_none()


def _owned_by(owner: str) -> ColumnElement[bool]:
    return threads.c.user_id == _person(owner)


def _person(owner: str) -> ScalarSelect[str]:
    return select(users.c.id).where(users.c.identifier == _clean(owner)).scalar_subquery()


def _step_of(owner: str, step_id: str) -> ColumnElement[bool]:
    own = select(threads.c.id).where(_owned_by(owner))
    return and_(steps.c.id == step_id, steps.c.thread_id.in_(own))


def _step(row: Row[Any]) -> Step:
    rating = None if row.rating_id is None else Rating(row.rating_id, row.value, row.comment)
    return Step(
        row.id,
        row.parent_id,
        row.kind,
        row.name,
        row.text,
        row.created_at,
        row.sent_text,
        row.details,
        rating,
    )


def _element(row: Row[Any]) -> Element:
    return Element(row.id, row.step_id, row.kind, row.name, row.mime)


def _name(text: str) -> str:
    return " ".join(_clean(text).split())[:MAX_NAME_CHARACTERS]


def _clean(text: str) -> str:
    """Without what a database cannot hold: NUL, and halves of characters."""
    return text.replace("\0", "\N{REPLACEMENT CHARACTER}").encode(errors="replace").decode()
