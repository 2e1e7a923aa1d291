"""Two accounts in one process never see each other's data, and nobody sees a key."""

import asyncio
import logging
import os
from collections.abc import Iterable
from datetime import timedelta
from pathlib import Path

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
from tests.conftest import credentials_for
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


@pytest.mark.parametrize("setting", [PREFECT_RESULTS_PERSIST_BY_DEFAULT, PREFECT_TASKS_DEFAULT_PERSIST_RESULT])
def test_inside_prefect_too_even_where_results_persist_by_default(
    setting: object,
    prefect_server: None,
    credentials: CalendlyCredentials,
    second: CalendlyCredentials,
    sandbox: Sandbox,
    tmp_path: Path,
) -> None:
    """Prefect's cache key masks secrets: with a cache the second account would be served the first one's data."""
    other_key = credentials_for(sandbox, api_key=sandbox.second_key)

    @flow(persist_result=False)
    async def of_both() -> list[str]:
        users = [await aget_current_user(block) for block in (credentials, second, credentials)]
        with pytest.raises(errors.NoConnectionError):
            await aget_current_user(other_key)
        return [user.uri for user in users]

    @flow(persist_result=False)
    def of_both_without_async() -> list[str]:
        return [get_current_user(block).uri for block in (credentials, second, credentials)]

    with temporary_settings({setting: True, PREFECT_LOCAL_STORAGE_PATH: tmp_path}):  # type: ignore[dict-item]
        expected = [uri("users", ALICE), uri("users", SECOND_USER), uri("users", ALICE)]
        assert asyncio.run(of_both()) == expected  # type: ignore[arg-type]
        assert of_both_without_async() == expected
    assert sandbox.stats()["by_status"] == {"200": 6, "400": 1}  # each call was made
    assert [file for file in tmp_path.rglob("*") if file.is_file()] == []  # and nothing was stored


async def test_a_poll_inside_one_run_reads_afresh(
    prefect_server: None, credentials: CalendlyCredentials, sandbox: Sandbox
) -> None:
    event = sandbox.add_event(sandbox.clock() + timedelta(days=3))

    @flow
    async def polls() -> list[int]:
        counts = []
        for _ in range(2):
            counts.append(len(await alist_scheduled_events(credentials, user=ALICE, status="canceled")))
            await acancel_scheduled_event(credentials, event)
        return counts

    with temporary_settings({PREFECT_RESULTS_PERSIST_BY_DEFAULT: True}):
        before, after = await polls()
    assert after == before + 1


def test_the_key_and_the_addresses_are_in_no_log_state_or_file_of_prefect(
    prefect_server: None, sandbox: Sandbox, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    wrong = credentials_for(sandbox, api_key="wrong-but-secret-key")
    right = credentials_for(sandbox)
    failures: list[str] = []

    @flow
    async def leaky(block: CalendlyCredentials) -> None:
        await alist_scheduled_events(right, user=ALICE, invitee_email="private.person@example.com")
        state = await aget_current_user(block, return_state=True)
        failures.append(f"{state} {state.message} {await state.aresult(raise_on_failure=False)!r}")
        with pytest.raises(errors.GatewayKeyError):
            await asyncio.to_thread(list_scheduled_events.fn, block, user=ALICE)

    asyncio.run(leaky(wrong))  # type: ignore[arg-type]
    assert "Invalid or missing API key" in failures[0]
    assert b"leaky" in contents(database_of_prefect())  # the right files are searched
    home = Path(os.environ["PREFECT_HOME"])
    stored = contents([*database_of_prefect(), *home.rglob("*")])
    for secret in ("wrong-but-secret-key", "private.person"):
        assert secret not in caplog.text + failures[0]
        assert secret.encode() not in stored
    assert right.api_key.get_secret_value() not in caplog.text


def contents(files: Iterable[Path]) -> bytes:
    return b"".join(file.read_bytes() for file in files if file.is_file())
