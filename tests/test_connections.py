"""Connections of the gateway, over HTTP."""

from datetime import UTC, datetime
from typing import Any

import httpx
import pytest

from prefect_calendly import CalendlyCredentials
from prefect_calendly.client import errors
from prefect_calendly.connections import (
    Connection,
    acreate_connection,
    adelete_connection,
    aget_active_connection,
    aget_connection,
    alist_connections,
    create_connection_via,
    get_active_connection_via,
    list_connections_via,
)
from prefect_calendly.sandbox import Sandbox
from prefect_calendly.sandbox.seed import CONNECTION, PENDING_CONNECTION, SECOND_CONNECTION
from tests.fixtures import credentials_for
from tests.support import IMPATIENT, Server, VirtualTime, client_of, no_request, nothing_unknown

ALL = {CONNECTION, SECOND_CONNECTION, PENDING_CONNECTION}


def ids(connections: list[Connection]) -> set[str]:
    return {connection.connection_id for connection in connections}


def known(sandbox: Sandbox) -> set[str]:
    """The key's connections to Calendly, as the sandbox has them."""
    return {item["connection_id"] for item in sandbox.state()["connection_list"] if item["app"] == "calendly"}


async def test_a_connection_has_every_documented_member_and_masks_its_url(credentials: CalendlyCredentials) -> None:
    connection = await aget_connection.fn(credentials, CONNECTION)
    assert (connection.connection_id, connection.status, connection.app) == (CONNECTION, "ACTIVE", "calendly")
    assert connection.creation_time == datetime(2025, 12, 8, 7, 20, 53, 488460, tzinfo=UTC)
    assert connection.model_extra == {}
    assert connection.url is not None
    secret = connection.url.get_secret_value()
    assert secret.startswith("https://connect.maton.ai/?session_token=")
    for shown in (repr(connection), str(connection), connection.model_dump_json()):
        assert secret.partition("=")[2] not in shown


async def test_every_filter(credentials: CalendlyCredentials, sandbox: Sandbox) -> None:
    with nothing_unknown(sandbox):
        assert ids(await alist_connections.fn(credentials)) == ALL
        assert ids(await alist_connections.fn(credentials, status="PENDING")) == {PENDING_CONNECTION}
        assert ids(await alist_connections.fn(credentials, status="ACTIVE")) == {CONNECTION, SECOND_CONNECTION}
        assert await alist_connections.fn(credentials, status="FAILED") == []
        assert await alist_connections.fn(credentials, method="JWT") == []
        assert len(await alist_connections.fn(credentials, method="OAUTH2", limit=2)) == 2


@pytest.mark.parametrize(
    ("filters", "words"),
    [
        ({"status": "GONE"}, "status must be one of ACTIVE, PENDING, FAILED"),
        ({"method": "PIGEON"}, "method must be one of API_KEY, BASIC"),
        ({"limit": 0}, "limit must be at least 1"),
    ],
)
async def test_bad_arguments_cost_no_request(
    filters: dict[str, Any], words: str, credentials: CalendlyCredentials, sandbox: Sandbox
) -> None:
    with no_request(sandbox):
        with pytest.raises(ValueError, match=words):
            await alist_connections.fn(credentials, **filters)
        with pytest.raises(ValueError, match="method must be one of"):
            await acreate_connection.fn(credentials, method="PIGEON")
        for task in (aget_connection, adelete_connection, aget_active_connection):
            with pytest.raises(ValueError, match="connection_id must be"):
                await task.fn(credentials, "../users/me")
        for wrong in ({"timeout_seconds": 0}, {"poll_seconds": 0}):
            with pytest.raises(ValueError, match="must be above 0"):
                await aget_active_connection.fn(credentials, CONNECTION, **wrong)


@pytest.mark.parametrize("method", [None, "OAUTH2"])
async def test_created_waited_for_and_deleted(method: Any, credentials: CalendlyCredentials, sandbox: Sandbox) -> None:
    sandbox.set_login(activate_after_gets=3)
    with nothing_unknown(sandbox):
        pending = await acreate_connection.fn(credentials, method=method)
        assert pending.status == "PENDING"
        active = await aget_active_connection.fn(credentials, pending.connection_id, poll_seconds=0.001)
        assert (active.connection_id, active.status) == (pending.connection_id, "ACTIVE")
        assert known(sandbox) == ALL | {active.connection_id}
        await adelete_connection.fn(credentials, active.connection_id)
    assert known(sandbox) == ALL
    with pytest.raises(errors.NotFoundError):
        await adelete_connection.fn(credentials, active.connection_id)


async def test_a_connection_that_failed_is_final(credentials: CalendlyCredentials, sandbox: Sandbox) -> None:
    sandbox.set_connection(PENDING_CONNECTION, status="FAILED")
    with pytest.raises(errors.ConnectionFailedError, match="Create a new connection"):
        await aget_active_connection.fn(credentials, PENDING_CONNECTION)
    assert sandbox.stats()["requests"] == 1


def test_waiting_has_an_end_and_looks_in_the_rhythm_asked_for(virtual_time: VirtualTime) -> None:
    pending = {"connection_id": "c", "status": "PENDING", "creation_time": "2026-01-01T00:00:00Z", "app": "calendly"}
    server = Server(httpx.Response(200, json={"connection": pending}))

    async def story() -> None:
        async with client_of(server) as client:
            await get_active_connection_via(client, "c", timeout_seconds=25, poll_seconds=10)

    with pytest.raises(errors.ConnectionPendingError, match="still PENDING after 25 s"):
        virtual_time.run(story())
    assert len(server.requests) == 4  # at 0, 10, 20 and 25 seconds
    assert 25 <= virtual_time.now < 26


@pytest.mark.usefixtures("impatient")
@pytest.mark.parametrize("kind", ["drop_before", "html_502"])
async def test_a_connection_that_may_be_made_late_is_not_asked_for_twice(
    kind: str, credentials: CalendlyCredentials, sandbox: Sandbox
) -> None:
    sandbox.fault(kind, method="POST", route="/connections")
    with pytest.raises(errors.UnconfirmedWriteError):
        await acreate_connection.fn(credentials)
    assert known(sandbox) == ALL
    assert sandbox.stats()["by_route"]["POST /connections"] == 1


@pytest.mark.usefixtures("impatient")
@pytest.mark.parametrize("kind", ["drop_after", "error_after", "truncated_body"])
async def test_however_the_answer_is_lost_one_connection_is_made(
    kind: str, credentials: CalendlyCredentials, sandbox: Sandbox
) -> None:
    sandbox.fault(kind, method="POST", route="/connections")
    pending = await acreate_connection.fn(credentials)
    assert known(sandbox) == ALL | {pending.connection_id}
    assert pending.connection_id not in ALL


@pytest.mark.usefixtures("impatient")
@pytest.mark.parametrize("kind", ["drop_before", "drop_after", "error_after", "html_502"])
async def test_however_the_answer_is_lost_a_deletion_happens_once(
    kind: str, credentials: CalendlyCredentials, sandbox: Sandbox
) -> None:
    sandbox.fault(kind, method="DELETE", route="/connections/{connection_id}")
    await adelete_connection.fn(credentials, SECOND_CONNECTION)
    assert known(sandbox) == ALL - {SECOND_CONNECTION}


FULL = {"connection_id": "new", "status": "PENDING", "creation_time": "2026-01-01T00:00:00Z", "app": "calendly"}


@pytest.mark.parametrize(
    "answer",
    [{"connection": {"connection_id": "new"}}, {"connection_id": "new"}, {"connection_Id": "new"}, {"id": "new"}],
)
async def test_every_wrapping_seen_in_the_wild_is_read(answer: dict[str, Any]) -> None:
    server = Server(
        httpx.Response(200, json={"connections": []}),
        httpx.Response(200, json=answer),
        httpx.Response(200, json={"connection": FULL}),
    )
    async with client_of(server) as client:
        assert (await create_connection_via(client)).connection_id == "new"
    assert server.hosts == {"ctrl.maton.ai"}
    assert [request.url.path for request in server.requests] == ["/connections", "/connections", "/connections/new"]


@pytest.mark.usefixtures("impatient")
@pytest.mark.parametrize("answer", [{}, [], {"connection": None}, {"connection": {"connection_id": 7}}])
async def test_an_answer_without_an_id_is_looked_up(answer: Any) -> None:
    none, made = httpx.Response(200, json={"connections": []}), httpx.Response(200, json={"connections": [FULL]})
    async with client_of(Server(none, httpx.Response(200, json=answer), made), retry=IMPATIENT) as client:
        assert (await create_connection_via(client)).connection_id == "new"


async def test_calendly_itself_has_no_connections() -> None:
    server = Server(httpx.Response(200))
    async with client_of(server, gateway_url="https://api.calendly.com") as client:
        for call in (list_connections_via(client), create_connection_via(client)):
            with pytest.raises(ValueError, match="no Maton connections here"):
                await call
    assert server.requests == []


async def test_another_key_sees_none_of_them(sandbox: Sandbox) -> None:
    other = credentials_for(sandbox, api_key=sandbox.second_key)
    assert await alist_connections.fn(other) == []
    with pytest.raises(errors.NotFoundError):
        await aget_connection.fn(other, CONNECTION)
