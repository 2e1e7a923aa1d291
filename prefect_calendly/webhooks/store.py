"""The receiver's store: which events have come, and those that were not seen in Prefect yet.

An event is written down before it is posted to Prefect, and kept whole until it was seen there: neither a receiver that
is killed nor a Prefect that is restarted loses it. Its id is kept for longer, to recognize a late redelivery.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
import sqlite3
import time
from collections.abc import AsyncIterator, Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final
from uuid import UUID, uuid4

import sqlalchemy as sa
from prefect.settings import get_current_settings
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import ArgumentError
from sqlalchemy.ext.asyncio import AsyncConnection, create_async_engine

from prefect_calendly.webhooks.errors import StoreUnavailableError

_TIMEOUT_SECONDS: Final = 10.0
_MAX_UNCONFIRMED: Final = 10_000  # read at a time
_LOCK_OF_SCHEMA: Final = 0x0CA1_E4D1

_METADATA: Final = sa.MetaData()
_EVENTS: Final = sa.Table(
    "calendly_receiver_events",
    _METADATA,
    sa.Column("id", sa.Uuid, primary_key=True),
    sa.Column("received_at", sa.Double, nullable=False, index=True),  # unix seconds, as all times here
    sa.Column("posted_at", sa.Double),
    sa.Column("body", sa.Text),  # the event as JSON, until it was seen in Prefect
)
_ID, _RECEIVED, _POSTED, _BODY = _EVENTS.c
sa.Index(
    "ix_calendly_receiver_events_unconfirmed",
    _RECEIVED,
    sqlite_where=_BODY.is_not(None),
    postgresql_where=_BODY.is_not(None),
)


@dataclass(frozen=True, slots=True)
class Unconfirmed:
    """An event that was not seen in Prefect yet; times in unix seconds."""

    id: UUID
    received_at: float
    posted_at: float | None


def default_store_url() -> str:
    """Return the URL of the SQLite file in Prefect's home folder."""
    home = get_current_settings().home
    home.mkdir(parents=True, exist_ok=True)
    return f"sqlite:///{home / 'calendly-receiver.db'}"


def store_url(text: str) -> URL:
    """Return the URL of a store, with the driver that it is used with here.

    Args:
        text: An SQLAlchemy URL of SQLite or PostgreSQL, such as `sqlite:///receiver.db` or
            `postgresql://user:password@host/database`.

    Returns:
        The same with an asynchronous driver.

    Raises:
        ValueError: It is no URL, or of another database, or of SQLite without a file.

    Example:
        >>> store_url("postgresql://receiver@db/calendly").drivername
        'postgresql+asyncpg'
    """
    try:
        url = make_url(text)
    except (ArgumentError, ValueError):
        raise ValueError("the store needs a URL such as sqlite:///receiver.db or postgresql://user@host/db") from None
    kind = url.drivername.partition("+")[0]
    if kind == "sqlite":
        if not url.database or url.database == ":memory:" or url.database.startswith("file:"):
            raise ValueError("the store needs a file, such as sqlite:///receiver.db: memory is lost with the process")
        return url.set(drivername="sqlite+aiosqlite")
    if kind in ("postgresql", "postgres"):
        query = {"ssl" if name == "sslmode" else name: value for name, value in url.query.items()}
        return url.set(drivername="postgresql+asyncpg", query=query)
    raise ValueError(f"the store must be SQLite or PostgreSQL, not {kind}")


class EventStore:
    """The store, in SQLite or PostgreSQL; several receivers may share it.

    Args:
        url: As for `store_url`.
        lock_seconds: How long it may be locked by others.

    Raises:
        ValueError: The URL cannot be used.
    """

    def __init__(self, url: str, *, lock_seconds: float = 5.0) -> None:
        self._url = store_url(url)
        self._lock_seconds = lock_seconds
        self._file: tuple[int, int] | None = None
        self._takes_writes = False
        self._insert: Any
        if self._url.get_backend_name() == "sqlite":
            arguments = {"timeout": lock_seconds}
            self._insert = sqlite.insert(_EVENTS)
        else:
            arguments = {"timeout": lock_seconds, "command_timeout": _TIMEOUT_SECONDS}
            self._insert = postgresql.insert(_EVENTS)
        self._insert = self._insert.on_conflict_do_nothing(index_elements=["id"]).returning(_ID)
        # Parameters hold personal data, and errors would show them otherwise.
        self._engine = create_async_engine(
            self._url,
            connect_args=arguments,
            hide_parameters=True,
            pool_pre_ping=self._url.get_backend_name() != "sqlite",
        )
        if self._url.get_backend_name() == "sqlite":
            sa.event.listen(self._engine.sync_engine, "connect", _set_up_sqlite)

    @property
    def shown(self) -> str:
        """Its URL as errors may show it: without driver and password."""
        return self._url.set(drivername=self._url.get_backend_name()).render_as_string(hide_password=True)

    async def open(self) -> None:
        """Make its file and table, where there are none.

        Raises:
            StoreUnavailableError: It cannot be used; the text says which it is, and why.
        """
        try:
            if self._url.get_backend_name() == "sqlite":
                await asyncio.to_thread(_make_file, Path(str(self._url.database)), self._lock_seconds)
                self._file = _identity(str(self._url.database))
            async with asyncio.timeout(_TIMEOUT_SECONDS), self._engine.begin() as connection:
                # When two make the same table at the same time, one of them fails.
                if connection.dialect.name == "sqlite":
                    await connection.exec_driver_sql("BEGIN IMMEDIATE")
                else:
                    await connection.execute(sa.select(sa.func.pg_advisory_xact_lock(_LOCK_OF_SCHEMA)))
                await connection.run_sync(_METADATA.create_all)
                await connection.execute(sa.update(_EVENTS).where(sa.false()).values(body=None))  # can it be written?
        except Exception as error:
            await self._engine.dispose()
            cause = getattr(error, "orig", None) or error
            why = (str(cause).strip() or type(cause).__name__).splitlines()[0]
            raise StoreUnavailableError(f"the store {self.shown} cannot be used: {why}") from None

    async def close(self) -> None:
        """Close all connections to it."""
        await self._engine.dispose()

    async def add(self, bodies: Mapping[UUID, str]) -> dict[UUID, bool]:
        """Write down events that have come.

        Args:
            bodies: The events as JSON, by id.

        Returns:
            Those that had come before, and whether they were posted to Prefect.

        Raises:
            StoreUnavailableError: They are not written down.
        """
        now = time.time()
        # Always in the same order: two receivers must not wait for each other.
        rows = [{"id": ident, "received_at": now, "body": bodies[ident]} for ident in sorted(bodies)]
        async with self._write() as connection:
            new = set((await connection.execute(self._insert, rows)).scalars())
            old = [ident for ident in bodies if ident not in new]
            if not old:
                return {}
            found = await connection.execute(sa.select(_ID, _POSTED).where(_ID.in_(old)))
            return {ident: posted is not None for ident, posted in found}

    async def mark_posted(self, ids: Collection[UUID]) -> None:
        """Write down that Prefect has taken these events just now."""
        await self._change(ids, posted_at=time.time())

    async def confirm(self, ids: Collection[UUID]) -> None:
        """Write down that these events were seen in Prefect, and delete their contents."""
        await self._change(ids, body=None, posted_at=sa.func.coalesce(_POSTED, time.time()))

    async def _change(self, ids: Collection[UUID], **values: Any) -> None:
        if ids:
            async with self._write() as connection:
                await connection.execute(sa.update(_EVENTS).where(_ID.in_(sorted(ids))).values(values))

    async def unconfirmed(self, quiet_seconds: float) -> list[Unconfirmed]:
        """Return events that were not seen in Prefect yet, the oldest first, at most 10,000.

        Args:
            quiet_seconds: Only those that came, or were posted, at least so long ago.
        """
        touched = sa.func.coalesce(_POSTED, _RECEIVED)
        query = (
            sa.select(_ID, _RECEIVED, _POSTED)
            .where(_BODY.is_not(None), touched <= time.time() - quiet_seconds)
            .order_by(touched)
            .limit(_MAX_UNCONFIRMED)
        )
        async with self._begin() as connection:
            return [Unconfirmed(*row) for row in await connection.execute(query)]

    async def bodies(self, ids: Collection[UUID]) -> dict[UUID, str]:
        """Return events as JSON, by id; those that are confirmed have none any longer."""
        query = sa.select(_ID, _BODY).where(_ID.in_(list(ids)), _BODY.is_not(None))
        async with self._begin() as connection:
            return dict((await connection.execute(query)).all())

    async def count_unconfirmed(self) -> int:
        """Return how many events were not seen in Prefect yet."""
        async with self._begin() as connection:
            query = sa.select(sa.func.count()).select_from(_EVENTS).where(_BODY.is_not(None))
            return int((await connection.execute(query)).scalar_one())

    async def expire(self, days: float) -> list[UUID]:
        """Delete events that came long ago.

        Args:
            days: How long ago, in days.

        Returns:
            Those of them that were never seen in Prefect.
        """
        old = _EVENTS.c.received_at < time.time() - days * 86_400
        async with self._write() as connection:
            lost = list((await connection.execute(sa.select(_ID).where(old, _BODY.is_not(None)))).scalars())
            await connection.execute(sa.delete(_EVENTS).where(old))
        return lost

    async def is_ready(self) -> bool:
        """Say whether it answers and can be written; unless the last write went well, by writing something."""
        try:
            if self._takes_writes:
                async with self._begin() as connection:
                    await connection.execute(sa.select(_ID).limit(1))
            else:
                async with self._write() as connection:
                    ident = uuid4()
                    await connection.execute(self._insert, [{"id": ident, "received_at": time.time(), "body": None}])
                    await connection.execute(sa.delete(_EVENTS).where(_EVENTS.c.id == ident))
        except StoreUnavailableError:
            return False
        return True

    @contextlib.asynccontextmanager
    async def _write(self) -> AsyncIterator[AsyncConnection]:
        try:
            async with self._begin() as connection:
                yield connection
        except StoreUnavailableError:
            self._takes_writes = False
            raise
        self._takes_writes = True

    @contextlib.asynccontextmanager
    async def _begin(self) -> AsyncIterator[AsyncConnection]:
        # An open file that was deleted can be written all the same, and is lost at the end.
        if self._file is not None and _identity(str(self._url.database)) != self._file:
            raise StoreUnavailableError("the store's file was deleted or replaced: restart the receiver")
        try:
            async with asyncio.timeout(_TIMEOUT_SECONDS), self._engine.begin() as connection:
                yield connection
        except Exception as error:  # the drivers raise their own, too
            raise StoreUnavailableError(f"the store does not answer ({type(error).__name__})") from None


def _identity(path: str) -> tuple[int, int] | None:
    """What distinguishes a file from another one of the same name; None if there is none."""
    try:
        found = os.stat(path)
    except OSError:
        return None
    return found.st_dev, found.st_ino


def _make_file(path: Path, lock_seconds: float) -> None:
    # SQLite itself would make a file that others may read. Its two other files get the mode of this one.
    path.touch(0o600)
    with contextlib.closing(sqlite3.connect(path, timeout=lock_seconds)) as connection:
        deadline = time.monotonic() + lock_seconds
        while True:
            try:
                connection.execute("PRAGMA journal_mode = WAL")  # stays so for this file
                return
            except sqlite3.OperationalError as error:
                # When several change it at once, SQLite lets none wait: each has read what the others want to write.
                if error.sqlite_errorcode & 0xFF != sqlite3.SQLITE_BUSY or time.monotonic() > deadline:
                    raise
                time.sleep(random.uniform(0.001, 0.02))  # noqa: S311


def _set_up_sqlite(connection: Any, _record: Any) -> None:
    cursor = connection.cursor()
    # Calendly does not repeat a delivery that was taken, so it must survive a power cut. Once a batch, it costs little.
    cursor.execute("PRAGMA synchronous = FULL")
    cursor.execute("PRAGMA secure_delete = ON")  # the contents of a confirmed event are overwritten
    cursor.close()
