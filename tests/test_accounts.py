"""Two accounts in one process never see each other's data, and nobody sees a key."""

import asyncio
import logging
import os
from collections.abc import Iterable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from prefect import flow
from prefect.settings import (
    PREFECT_LOCAL_STORAGE_PATH,
    PREFECT_RESULTS_PERSIST_BY_DEFAULT,
    PREFECT_TASKS_DEFAULT_PERSIST_RESULT,
    temporary_settings,
)

from prefect_calendly import CalendlyCredentials
from prefect_calendly.client import errors
from prefect_calendly.sandbox import Sandbox
from prefect_calendly.sandbox.seed import ALICE, SECOND_CONNECTION, SECOND_USER
from prefect_calendly.scheduled_events import acancel_scheduled_event, alist_scheduled_events, list_scheduled_events
from prefect_calendly.users import aget_current_user, get_current_user
from tests.fixtures import credentials_for
from tests.support import database_of_prefect, uri


@pytest.fixture
def second(sandbox: Sandbox) -> CalendlyCredentials:
    """Zoe's account, of another organization, behind the same key."""
    return credentials_for(sandbox, connection_id=SECOND_CONNECTION)


async def test_side_by_side_each_gets_its_own(
    credentials: CalendlyCredentials, second: CalendlyCredentials, sandbox: Sandbox
) -> None:
    alice, zoe = uri("users", ALICE), uri("users", SECOND_USER)
    users = await asyncio.gather(*(aget_current_user.fn(block) for block in [credentials, second] * 10))
    assert [user.uri for user in users] == [alice, zoe] * 10
    mine, hers = await asyncio.gather(
        alist_scheduled_events.fn(credentials, user=alice), alist_scheduled_events.fn(second, user=zoe)
    )
    assert mine
    assert hers
    assert not {event.uri for event in mine} & {event.uri for event in hers}
    with pytest.raises(errors.RoleRequiredError):
        await alist_scheduled_events.fn(second, user=alice)


def test_inside_prefect_too_even_where_results_persist_by_default(
    prefect_server: None,
    credentials: CalendlyCredentials,
    second: CalendlyCredentials,
    sandbox: Sandbox,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Prefect's cache key masks secrets: with a cache the second account would be served the first one's data.

    One run tries it all: runs take long.
    """
    caplog.set_level(logging.DEBUG)
    other_key = credentials_for(sandbox, api_key=sandbox.second_key)
    wrong_key = credentials_for(sandbox, api_key="wrong-but-secret-key")
    event = sandbox.add_event(sandbox.clock() + timedelta(days=3))
    blocks = (credentials, second, credentials)
    failures: list[str] = []
    counts: list[int] = []

    @flow(persist_result=False)
    async def both_accounts(wrong: CalendlyCredentials) -> tuple[list[str], list[str]]:
        users = [await aget_current_user(block) for block in blocks]
        with pytest.raises(errors.NoConnectionError):
            await aget_current_user(other_key)
        without_async = await asyncio.to_thread(lambda: [get_current_user(block) for block in blocks])
        # A poll reads anew.
        for _ in range(2):
            counts.append(len(await alist_scheduled_events(credentials, user=ALICE, status="canceled")))
            await acancel_scheduled_event(credentials, event)
        # A wrong key, and somebody's address.
        await alist_scheduled_events(credentials, user=ALICE, invitee_email="private.person@example.com")
        state = await aget_current_user(wrong, return_state=True)
        failures.append(f"{state} {state.message} {await state.aresult(raise_on_failure=False)!r}")
        with pytest.raises(errors.GatewayKeyError):
            await asyncio.to_thread(list_scheduled_events.fn, wrong, user=ALICE)
        return [user.uri for user in users], [user.uri for user in without_async]

    settings: Any = {
        PREFECT_RESULTS_PERSIST_BY_DEFAULT: True,
        PREFECT_TASKS_DEFAULT_PERSIST_RESULT: True,
        PREFECT_LOCAL_STORAGE_PATH: tmp_path,
    }
    with temporary_settings(settings):
        found = asyncio.run(both_accounts(wrong_key))
    expected = [uri("users", ALICE), uri("users", SECOND_USER), uri("users", ALICE)]
    assert found == (expected, expected)
    # Each call was made: six that were answered, and one of each key that is not accepted.
    assert sandbox.stats()["by_route"]["GET /users/me"] == 6 + 2
    assert [file for file in tmp_path.rglob("*") if file.is_file()] == []  # and nothing was stored
    assert counts == [counts[0], counts[0] + 1]

    assert "Invalid or missing API key" in failures[0]
    assert b"both-accounts" in contents(database_of_prefect())  # the right files are searched
    stored = contents([*database_of_prefect(), *Path(os.environ["PREFECT_HOME"]).rglob("*")])
    for secret in ("wrong-but-secret-key", "private.person"):
        assert secret not in caplog.text + failures[0]
        assert secret.encode() not in stored
    assert credentials.api_key.get_secret_value() not in caplog.text


def contents(files: Iterable[Path]) -> bytes:
    return b"".join(file.read_bytes() for file in files if file.is_file())
