"""Every kind of endpoint that reads, against everything that can go wrong: what is said, what is repeated.

Over HTTP, against the sandbox.
"""

from __future__ import annotations

# ruff: noqa: F401, F811  (fixtures that are imported)
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from prefect_calendly.availability import list_available_times_via, list_busy_times_via
from prefect_calendly.client import CalendlyClient, count_requests
from prefect_calendly.client.errors import (
    BadRequestError,
    CalendlyError,
    CalendlyTokenError,
    ConflictError,
    EventInPastError,
    ExternalCalendarError,
    GatewayKeyError,
    InsufficientScopeError,
    InvalidAnswerError,
    NetworkError,
    NotFoundError,
    PermissionDeniedError,
    PlanRequiredError,
    RateLimitedError,
    RoleRequiredError,
    ServerError,
    SlotFilledError,
    UnconfirmedWriteError,
)
from prefect_calendly.connections import list_connections_via
from prefect_calendly.invitees import create_invitee_via, list_invitees_of_events_via, list_invitees_via
from prefect_calendly.resource import Resource
from prefect_calendly.sandbox import Sandbox
from prefect_calendly.scheduled_events import cancel_scheduled_event_via, get_scheduled_event_via
from prefect_calendly.webhook_subscriptions import create_webhook_subscription_via, delete_webhook_subscription_via
from tests.client.sandbox_faults import (
    LASTING,
    ORGANIZATION,
    Fault,
    _world,
    client_of,
    every_fault,
    every_lasting_fault,
    sandbox,
    uuid_in,
)

pytestmark = pytest.mark.usefixtures("impatient")


@dataclass(frozen=True)
class Read:
    """A kind of endpoint that is read."""

    route: str
    call: Callable[[CalendlyClient, str], Awaitable[Any]]
    skip: int = 0
    """How many requests go well before the one that does not."""


async def _one(client: CalendlyClient, event: str) -> Any:
    return await get_scheduled_event_via(client, event)


def _walk(client: CalendlyClient) -> AsyncIterator[Resource]:
    return client.pages("/scheduled_events", Resource, params={"organization": ORGANIZATION}, count=20)


async def _pages(client: CalendlyClient, event: str) -> Any:
    return [each.model_extra async for each in _walk(client)]


async def _page(client: CalendlyClient, event: str) -> Any:
    return [each async for each in list_invitees_via(client, event)]


async def _without_pages(client: CalendlyClient, event: str) -> Any:
    soon = datetime.now(UTC) + timedelta(hours=1)
    times = list_busy_times_via(client, "AAAAAAAAAAAAAAAA", start_time=soon, end_time=soon + timedelta(days=3))
    return await times


async def _of_the_gateway(client: CalendlyClient, event: str) -> Any:
    return await list_connections_via(client)


READS = {
    "one": Read("/scheduled_events/{uuid}", _one),
    "pages": Read("/scheduled_events", _pages, skip=1),
    "page": Read("/scheduled_events/{uuid}/invitees", _page),
    "without pages": Read("/user_busy_times", _without_pages),
    "of the gateway": Read("/connections", _of_the_gateway),
}
every_read = pytest.mark.parametrize("read", READS.values(), ids=READS)


@pytest.fixture(scope="module")
def event(_world: Sandbox) -> Iterator[str]:
    """An event for all of these tests; none of them may change anything."""
    yesterday = _world.clock() - timedelta(days=1)  # the link to its conference is there: nothing changes meanwhile
    event = uuid_in(_world.add_event(invitees=[{"email": "jane@good.example"}], created_at=yesterday))
    before = _world.state(full=True)["events"]
    yield event
    after = _world.state(full=True)["events"]
    assert {uuid: after[uuid] for uuid in before} == before


@every_read
@every_fault
async def test_a_read_that_fails_once_is_repeated_or_says_why_not(
    sandbox: Sandbox, event: str, read: Read, fault: Fault
) -> None:
    async with client_of(sandbox, fault) as client:
        with count_requests() as undisturbed:
            wanted = await read.call(client, event)
        sandbox.fault(fault.kind, route=read.route, method="GET", skip=read.skip, **dict(fault.options))
        with count_requests() as meter:
            if fault.repeated:
                assert await read.call(client, event) == wanted
                assert meter.requests == undisturbed.requests + meter.repeats
                # On a busy machine, half a second can be too short for other answers as well.
                assert meter.repeats == 1 or (fault.kind == "latency" and meter.repeats > 1)
            else:
                with pytest.raises(fault.error) as caught:
                    await read.call(client, event)
                assert type(caught.value) is fault.error
                assert fault.has_its_words(caught.value)
                assert (meter.requests, meter.repeats) == (1 + read.skip, 0)
    assert sandbox.stats()["writes"] == {}


@every_read
@every_lasting_fault
async def test_a_read_that_keeps_failing_ends_after_four_attempts(
    sandbox: Sandbox, event: str, read: Read, fault: Fault
) -> None:
    sandbox.fault(fault.kind, route=read.route, method="GET", skip=read.skip, times=None, **dict(fault.options))
    async with client_of(sandbox) as client:
        with count_requests() as meter, pytest.raises(fault.error) as caught:
            await read.call(client, event)
    assert type(caught.value) is fault.error
    assert fault.has_its_words(caught.value)
    assert meter.requests == read.skip + (4 if fault.repeated else 1)


@every_read
async def test_an_answer_that_is_right_is_read_whatever_it_calls_itself(
    sandbox: Sandbox, event: str, read: Read
) -> None:
    sandbox.fault("wrong_content_type", times=None)
    async with client_of(sandbox) as client:
        assert await read.call(client, event)


async def test_an_item_that_is_gone_when_it_is_read_hides_no_other(sandbox: Sandbox) -> None:
    made = [uuid_in(sandbox.add_event(invitees=[{"email": f"x{n}@good.example"}])) for n in range(5)]
    sandbox.fault("not_found", path=f"/scheduled_events/{made[2]}/invitees", times=None)
    async with client_of(sandbox) as client:
        found = await list_invitees_of_events_via(client, made)
    assert [type(each.error) for each in found] == [type(None)] * 2 + [NotFoundError] + [type(None)] * 2
    assert [len(each.invitees) for each in found] == [1, 1, 0, 1, 1]


async def test_a_token_that_goes_stale_in_the_middle_loses_nothing_and_repeats_nothing(sandbox: Sandbox) -> None:
    async with client_of(sandbox) as client:
        wanted = [each.model_extra async for each in _walk(client)]
        found = []
        async for each in _walk(client):
            found.append(each.model_extra)
            if len(found) == 30:
                sandbox.set_clock(sandbox.clock() + timedelta(days=1))  # tokens live for hours
        assert sandbox.stats()["by_status"]["400"] == 1
    assert found == wanted
    sandbox.set_clock(sandbox.clock() - timedelta(days=1))


@every_read
async def test_where_nobody_listens_it_says_so(read: Read, sandbox: Sandbox) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    nowhere = {"gateway_url": f"http://127.0.0.1:{port}/calendly", "connections_url": f"http://127.0.0.1:{port}"}
    async with client_of(sandbox, **nowhere) as client:
        with pytest.raises(NetworkError, match="No connection to") as caught:
            await read.call(client, "EVENT")
    assert not caught.value.maybe_sent
