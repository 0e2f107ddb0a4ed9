"""The tables of the history, and how an older database becomes a newer one."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from sqlalchemy import (
    JSON,
    Column,
    Connection,
    Double,
    ForeignKey,
    Index,
    Integer,
    MetaData,
    String,
    Table,
    Text,
    insert,
    select,
    text,
    update,
)

tables = MetaData()

users = Table(
    "users",
    tables,
    Column("id", String(36), primary_key=True),
    Column("identifier", Text, nullable=False, unique=True),
    Column("created_at", Double, nullable=False),
    Column("details", JSON, nullable=False),
)
threads = Table(
    "threads",
    tables,
    Column("id", String(36), primary_key=True),
    Column("user_id", ForeignKey("users.id", ondelete="CASCADE"), nullable=False),
    Column("name", Text),
    # What is searched: no database folds the case of all languages by itself.
    Column("folded_name", Text),
    Column("created_at", Double, nullable=False),
    Column("updated_at", Double, nullable=False),
    # The page that was in it last: after a restart it comes back with this alone.
    Column("page_id", String(36)),
    Column("details", JSON, nullable=False),
    Index("threads_of_page", "page_id"),
    Index("threads_of_user", "user_id", "updated_at", "id"),
    Index("threads_by_age", "updated_at"),
)
steps = Table(
    "steps",
    tables,
    Column("id", String(36), primary_key=True),
    Column("thread_id", ForeignKey("threads.id", ondelete="CASCADE"), nullable=False),
    # No foreign key: a child may be written before its parent.
    Column("parent_id", String(36)),
    Column("kind", String(40), nullable=False),
    Column("name", Text, nullable=False),
    Column("text", Text, nullable=False),
    # What the model was sent, where that is more than a person has typed.
    Column("sent_text", Text),
    Column("created_at", Double, nullable=False),
    Column("details", JSON, nullable=False),
    Index("steps_of_thread", "thread_id", "created_at"),
    Index("steps_of_parent", "parent_id"),
)
elements = Table(
    "elements",
    tables,
    Column("id", String(36), primary_key=True),
    Column("thread_id", ForeignKey("threads.id", ondelete="CASCADE"), nullable=False),
    Column("step_id", ForeignKey("steps.id", ondelete="CASCADE"), nullable=False),
    Column("kind", String(40), nullable=False),
    Column("name", Text, nullable=False),
    Column("mime", Text),
    Index("elements_of_thread", "thread_id"),
    Index("elements_of_step", "step_id"),
)
feedback = Table(
    "feedback",
    tables,
    Column("id", String(36), primary_key=True),
    Column("step_id", ForeignKey("steps.id", ondelete="CASCADE"), nullable=False, unique=True),
    Column("value", Integer, nullable=False),
    Column("comment", Text),
    Column("created_at", Double, nullable=False),
)
_version = Table("schema_version", tables, Column("version", Integer, nullable=False))

Migration = Callable[[Connection], None]


def _first(connection: Connection) -> None:
    tables.create_all(connection)


# One entry for each version; never change one that was released. A release may be rolled back, so
# an older app must work on the newest database: only add, and what is added has a default or
# may be null.
MIGRATIONS: Sequence[Migration] = (_first,)
# Any number, the same for all who migrate one PostgreSQL database.
_LOCK = 5_067_203


def upgrade(connection: Connection, migrations: Sequence[Migration] = MIGRATIONS) -> int:
    """Bring the database to the newest version, inside the transaction of the connection.

    Returns the version that it has then, which is a higher one where a newer app was here.
    """
    if connection.dialect.name == "postgresql":
        connection.execute(text(f"SELECT pg_advisory_xact_lock({_LOCK})"))
    _version.create(connection, checkfirst=True)
    found = connection.execute(select(_version.c.version)).scalar()
    if found is None:
        connection.execute(insert(_version).values(version=0))
    version = found or 0
    for migrate in migrations[version:]:
        migrate(connection)
        version += 1
        connection.execute(update(_version).values(version=version))
    return version
