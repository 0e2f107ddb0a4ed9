"""The history of conversations, which may break without an answer ever breaking with it."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from sqlalchemy.exc import ArgumentError
from sqlalchemy.ext.asyncio import AsyncEngine

from gpufleet_chat.history_engine import BUSY_SECONDS, file_engine, server_engine
from gpufleet_chat.history_store import HistoryStore, NotOwnerError
from gpufleet_chat.logs import event
from gpufleet_chat.metrics import Metrics
from gpufleet_chat.settings import Secrets, Settings, SettingsError

log = logging.getLogger(__name__)

FILE_NAME = "history.sqlite3"
REOPEN_SECONDS = 10.0
# Old threads are deleted in batches, so that nobody waits long for the one writer.
CLEAN_SECONDS = 3600.0
_BATCH = 20
_PAUSE_SECONDS = 0.2
# How long the last writes may take when the process ends.
_CLOSE_SECONDS = 5.0
_DAY = 86_400


class HistoryFault(Exception):
    """The history cannot be read or written now; it is logged and counted already."""


class History:
    """The store with its faults: each is logged, counted and raised as one that says nothing."""

    def __init__(self, store: HistoryStore, days: int, metrics: Metrics) -> None:
        self._store = store
        self._days = days
        self._metrics = metrics
        self._lock = asyncio.Lock()
        self._opened = False
        self._writes = 0
        self._idle = asyncio.Event()
        self._idle.set()

    @asynccontextmanager
    async def reading(self, what: str) -> AsyncIterator[HistoryStore]:
        """The store, to read from; raises HistoryFault."""
        async with self._guarded(what):
            yield self._store

    @asynccontextmanager
    async def writing(self, what: str) -> AsyncIterator[HistoryStore]:
        """The store, to write to, in the order of the calls; raises HistoryFault.

        NotOwnerError passes.
        """
        self._writes += 1
        self._idle.clear()
        try:
            async with self._guarded(what):
                # A database that is locked for long must not gather all the writes of that time.
                async with asyncio.timeout(2 * BUSY_SECONDS):
                    await self._lock.acquire()
                try:
                    yield self._store
                finally:
                    self._lock.release()
        finally:
            self._writes -= 1
            if self._writes == 0:
                self._idle.set()

    async def open(self) -> None:
        """Open the store; where that fails, run tries again."""
        try:
            async with self._lock:
                version = await self._store.open()
        except Exception as error:
            self._fault("open", error)
        else:
            self._opened = True
            log.info(event("history_opened", schema=version))

    async def run(self) -> None:
        """See that the store is open, then delete what is too old, again and again."""
        while not self._opened:
            await asyncio.sleep(REOPEN_SECONDS)
            await self.open()
        while True:
            try:
                await self.clean()
            except HistoryFault:
                log.info(event("history_cleaning_put_off"))
            await asyncio.sleep(CLEAN_SECONDS)

    async def clean(self) -> int:
        """Delete all threads that are too old, and give their space back; how many it were."""
        if self._days == 0:
            return 0
        before, deleted = time.time() - self._days * _DAY, 0
        while True:
            async with self.writing("clean") as store:
                batch = await store.delete_older(before, _BATCH)
                await store.give_space_back()
            deleted += batch
            if batch < _BATCH:
                break
            await asyncio.sleep(_PAUSE_SECONDS)
        if deleted:
            log.info(event("history_cleaned", threads=deleted, days=self._days))
        return deleted

    async def close(self) -> None:
        """Let the last writes end, then close the store."""
        try:
            async with asyncio.timeout(_CLOSE_SECONDS):
                await self._idle.wait()
        except TimeoutError:
            log.warning(event("history_writes_lost", writes=self._writes))
        await self._store.close()

    @asynccontextmanager
    async def _guarded(self, what: str) -> AsyncIterator[None]:
        try:
            if not self._opened:
                raise HistoryFault("not open yet")
            yield
        except NotOwnerError:
            raise
        except Exception as error:
            # Whatever a driver raises: no answer may depend on it.
            self._fault(what, error)
            raise HistoryFault from error

    def _fault(self, what: str, error: Exception) -> None:
        self._metrics.history_faults.labels(what).inc()
        # The cause alone: SQLAlchemy adds the statement.
        cause = getattr(error, "orig", None) or error
        reason = (str(cause).splitlines() or [""])[0][:200]
        log.error(event("history_fault", during=what, error=type(cause).__name__, reason=reason))


def history_file(settings: Settings) -> Path:
    """Where the history is, unless a PostgreSQL server has it."""
    return Path(settings.state_directory) / FILE_NAME


def build(settings: Settings, secrets: Secrets, metrics: Metrics) -> History | None:
    """The history of these settings; None where nobody logs in."""
    if not settings.keeps_history:
        return None
    return History(HistoryStore(_engine(settings, secrets)), settings.history_days, metrics)


def _engine(settings: Settings, secrets: Secrets) -> AsyncEngine:
    if settings.history_database == "sqlite":
        return file_engine(history_file(settings))
    try:
        return server_engine(secrets.database_url or "")
    except (ValueError, ArgumentError):
        # Without its text, which may hold the password.
        raise SettingsError(
            "the credential database_url must be postgresql://USER:PASSWORD@HOST/DATABASE while "
            'the setting "history_database" is postgresql; correct one of them'
        ) from None
