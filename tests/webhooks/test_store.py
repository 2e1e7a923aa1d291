"""The store: what has come is known again, what is not in Prefect yet is kept whole, and in time all is forgotten."""

from __future__ import annotations

import asyncio
import contextlib
import os
import sqlite3
import stat
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import pytest
import sqlalchemy as sa

from prefect_calendly.webhooks.errors import StoreUnavailableError
from prefect_calendly.webhooks.store import EventStore
from prefect_calendly.webhooks.store import store_url as checked


@contextlib.asynccontextmanager
async def opened(url: str, lock_seconds: float = 60) -> AsyncIterator[EventStore]:
    store = EventStore(url, lock_seconds=lock_seconds)
    await store.open()
    try:
        yield store
    finally:
        await store.close()


@pytest.fixture
async def store(store_url: str) -> AsyncIterator[EventStore]:
    async with opened(store_url) as store:
        yield store


def events(number: int) -> dict[UUID, str]:
    return {uuid4(): f'{{"number": {each}}}' for each in range(number)}


async def test_what_has_come_before_is_known_and_whether_prefect_was_told(store: EventStore) -> None:
    first, second, third = events(3).items()
    assert await store.add(dict([first, second])) == {}
    await store.mark_posted([first[0]])
    assert await store.add(dict([second, third, first])) == {first[0]: True, second[0]: False}
    await store.confirm([second[0]])
    assert await store.add(dict([second])) == {second[0]: True}


async def test_an_event_stays_whole_until_it_was_seen_in_prefect(store: EventStore) -> None:
    told, waiting, seen = events(3).items()
    await store.add(dict([told, waiting, seen]))
    await store.mark_posted([told[0], seen[0]])
    await store.confirm([seen[0]])
    left = {each.id: each.posted_at is not None for each in await store.unconfirmed(0)}
    assert left == {told[0]: True, waiting[0]: False}
    assert await store.bodies([told[0], waiting[0], seen[0]]) == dict([told, waiting])
    assert await store.count_unconfirmed() == 2
    assert await store.unconfirmed(60) == []


async def test_the_longest_untouched_comes_first(store: EventStore) -> None:
    first, second = events(2).items()
    await store.add(dict([first]))
    await store.add(dict([second]))
    await store.mark_posted([first[0]])
    assert [each.id for each in await store.unconfirmed(0)] == [second[0], first[0]]


async def test_what_is_old_is_forgotten_and_what_was_never_seen_is_named(store: EventStore) -> None:
    seen, lost = events(2).items()
    await store.add(dict([seen, lost]))
    await store.confirm([seen[0]])
    assert await store.expire(30) == []
    assert await store.add(dict([seen])) == {seen[0]: True}
    assert await store.expire(0) == [lost[0]]
    assert await store.add(dict([seen, lost])) == {}


async def test_two_receivers_that_start_and_write_at_once_know_each_event_once(store_url: str) -> None:
    some = events(300)
    stores = [EventStore(store_url) for _ in range(4)]
    await asyncio.gather(*(store.open() for store in stores))
    turned = dict(reversed(some.items()))
    found = await asyncio.gather(*(store.add(turned if n % 2 else some) for n, store in enumerate(stores)))
    assert sum(len(some) - len(known) for known in found) == len(some)
    await asyncio.gather(*(store.close() for store in stores))


async def test_receivers_that_make_the_same_file_at_once_do_not_refuse_to_start(tmp_path: Path) -> None:
    for number in range(15):
        stores = [EventStore(f"sqlite:///{tmp_path / f'{number}.db'}") for _ in range(4)]
        await asyncio.gather(*(store.open() for store in stores))
        await asyncio.gather(*(store.close() for store in stores))


async def test_a_file_can_be_read_by_its_owner_only_and_keeps_nothing_of_what_was_confirmed(tmp_path: Path) -> None:
    path = tmp_path / "receiver.db"
    async with opened(f"sqlite:///{path}") as store:
        ident = uuid4()
        await store.add({ident: "jane@example.org" * 100})
        modes = {name: stat.S_IMODE(os.stat(tmp_path / name).st_mode) for name in os.listdir(tmp_path)}
        assert modes == dict.fromkeys(("receiver.db", "receiver.db-wal", "receiver.db-shm"), 0o600)
        await store.confirm([ident])
    assert os.listdir(tmp_path) == ["receiver.db"]
    assert b"jane" not in path.read_bytes()


async def test_what_is_written_down_outlives_a_power_cut(tmp_path: Path) -> None:
    async with opened(f"sqlite:///{tmp_path / 'receiver.db'}") as store, store._begin() as connection:
        for pragma, wanted in (("journal_mode", "wal"), ("synchronous", 2), ("secure_delete", 1)):
            assert (await connection.execute(sa.text(f"PRAGMA {pragma}"))).scalar() == wanted


async def test_a_store_that_is_locked_is_unavailable_and_says_nothing_of_the_events(
    tmp_path: Path,
) -> None:
    path = tmp_path / "receiver.db"
    async with opened(f"sqlite:///{path}", lock_seconds=0.05) as store:
        with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as other:
            other.execute("BEGIN IMMEDIATE")
            with pytest.raises(StoreUnavailableError) as refused:
                await store.add({uuid4(): "jane@example.org"})
            assert not await store.is_ready()  # although it can be read
        assert "jane" not in str(refused.value)
        assert refused.value.__cause__ is None
        assert await store.is_ready()
        assert await store.add(events(1)) == {}


async def test_a_store_that_was_full_is_ready_when_it_can_be_written_again(tmp_path: Path) -> None:
    path = tmp_path / "receiver.db"
    full = "BEFORE INSERT ON calendly_receiver_events BEGIN SELECT RAISE(ABORT, 'database or disk is full'); END"
    async with opened(f"sqlite:///{path}") as store:
        with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as other:
            assert await store.is_ready()
            other.execute(f"CREATE TRIGGER full {full}")
            with pytest.raises(StoreUnavailableError):
                await store.add(events(1))
            assert [await store.is_ready() for _ in range(2)] == [False, False]
            other.execute("DROP TRIGGER full")
        assert await store.is_ready()
        assert await store.unconfirmed(0) == []


@pytest.mark.parametrize("replaced", [False, True])
async def test_a_file_that_was_deleted_is_noticed(tmp_path: Path, replaced: bool) -> None:
    path = tmp_path / "receiver.db"
    async with opened(f"sqlite:///{path}") as store:
        path.unlink()
        if replaced:
            path.touch()
        with pytest.raises(StoreUnavailableError, match="deleted or replaced: restart the receiver"):
            await store.add(events(1))
        assert not await store.is_ready()


@pytest.mark.parametrize(
    ("url", "driver", "more"),
    [
        ("sqlite:///a.db", "sqlite+aiosqlite", {}),
        ("sqlite+pysqlite:////var/a.db", "sqlite+aiosqlite", {}),
        ("postgresql://u:p@h/d?sslmode=require", "postgresql+asyncpg", {"ssl": "require"}),
        ("postgres://u@h/d", "postgresql+asyncpg", {}),
        ("postgresql+psycopg2://u@h/d", "postgresql+asyncpg", {}),
    ],
)
def test_any_url_of_sqlite_or_postgresql_will_do(url: str, driver: str, more: dict[str, Any]) -> None:
    found = checked(url)
    assert (found.drivername, dict(found.query)) == (driver, more)


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("receiver.db", "needs a URL"),
        ("", "needs a URL"),
        ("sqlite://", "needs a file"),
        ("sqlite:///:memory:", "needs a file"),
        ("mysql://u:p4ssword@h/d", "must be SQLite or PostgreSQL, not mysql"),
    ],
)
def test_another_url_is_refused_with_what_to_give_instead(url: str, words: str) -> None:
    with pytest.raises(ValueError, match=words) as refused:
        checked(url)
    assert "p4ssword" not in str(refused.value)


@pytest.mark.parametrize(
    "url", ["sqlite:////nowhere/a.db", "sqlite:////dev/null", "postgresql://u:p4ssword@127.0.0.1:1/d"]
)
async def test_a_store_that_cannot_be_used_is_named_with_the_reason_and_without_the_password(url: str) -> None:
    with pytest.raises(StoreUnavailableError) as refused:
        await EventStore(url).open()
    assert url.replace("p4ssword", "***") in str(refused.value)
    assert "\n" not in str(refused.value)
