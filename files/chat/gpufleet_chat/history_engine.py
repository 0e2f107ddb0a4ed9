"""The connection to the database of the history: a file of this host, or a PostgreSQL server."""

from __future__ import annotations

import os
from pathlib import Path

from sqlalchemy import Connection, event
from sqlalchemy.engine import URL, make_url
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine
from sqlalchemy.pool import ConnectionPoolEntry

# How long one statement may wait for another process, or for the server.
BUSY_SECONDS = 5
# Connections to a file are threads, to a server they are shared with other hosts.
_CONNECTIONS = 4
_WAL_BYTES = 64 * 1024 * 1024


def file_engine(path: Path) -> AsyncEngine:
    """An engine on a file, which only this user may read; it is made at the first use."""
    engine = create_async_engine(
        URL.create("sqlite+aiosqlite", database=str(path)),
        pool_size=_CONNECTIONS,
        max_overflow=0,
        # Statements hold what people have said, and errors are logged.
        hide_parameters=True,
        connect_args={"timeout": BUSY_SECONDS, "isolation_level": None},
    )

    @event.listens_for(engine.sync_engine, "do_connect")
    def keep_private(*_arguments: object) -> None:
        # The files beside it take over this mode.
        os.close(os.open(path, os.O_RDWR | os.O_CREAT, 0o600))
        path.chmod(0o600)

    @event.listens_for(engine.sync_engine, "connect")
    def configure(connection: object, _entry: ConnectionPoolEntry) -> None:
        cursor = connection.cursor()  # type: ignore[attr-defined]
        # Before the first table, or it has no effect.
        cursor.execute("PRAGMA auto_vacuum = INCREMENTAL")
        cursor.execute("PRAGMA journal_mode = WAL")
        cursor.execute(f"PRAGMA journal_size_limit = {_WAL_BYTES}")
        cursor.execute("PRAGMA synchronous = NORMAL")
        cursor.execute("PRAGMA foreign_keys = ON")
        # What a person deletes is overwritten, not only unlinked.
        cursor.execute("PRAGMA secure_delete = ON")
        cursor.close()

    @event.listens_for(engine.sync_engine, "begin")
    def begin(connection: Connection) -> None:
        # The driver would begin too late for tables to be part of a transaction. A reader must not
        # take the lock; a writer that takes it late fails at once instead of waiting.
        writes = connection.get_execution_options().get("writes", False)
        connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")

    return engine


def server_engine(url: str) -> AsyncEngine:
    """An engine on postgresql://USER:PASSWORD@HOST/DATABASE; raises ValueError for another URL."""
    given = make_url(url)
    if given.drivername not in ("postgresql", "postgres"):
        raise ValueError("not a URL of PostgreSQL")
    # libpq's name for what this driver calls ssl.
    query = {"ssl" if key == "sslmode" else key: value for key, value in given.query.items()}
    return create_async_engine(
        given.set(drivername="postgresql+asyncpg", query=query),
        pool_size=_CONNECTIONS,
        max_overflow=_CONNECTIONS,
        pool_timeout=BUSY_SECONDS,
        # A server that was restarted has closed what the pool holds.
        pool_pre_ping=True,
        hide_parameters=True,
        connect_args={"timeout": BUSY_SECONDS, "command_timeout": BUSY_SECONDS},
    )
