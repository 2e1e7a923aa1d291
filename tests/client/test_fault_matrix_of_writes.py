"""Every kind of endpoint that writes, against everything that can go wrong: what is said, what has happened.

Over HTTP, against the sandbox: its figures tell what has happened.
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

ONLINE = {"kind": "zoom_conference"}


@dataclass(frozen=True)
class Write:
    """A kind of endpoint that changes something."""

    method: str
    route: str
    effect: str
    """What the sandbox counts."""
    call: Callable[[CalendlyClient, str], Awaitable[Any]]
    repeats: bool = True
    """Whether it is sent again when it is known not to have happened."""

    def error_for(self, fault: Fault) -> type[CalendlyError]:
        return (self.effect == "booking" and fault.of_booking) or fault.error


async def _cancel(client: CalendlyClient, event: str) -> Any:
    return await cancel_scheduled_event_via(client, event, reason="No, thank you")


async def _book(client: CalendlyClient, event: str) -> Any:
    event_type = (await get_scheduled_event_via(client, event)).event_type
    assert event_type
    start = datetime.now(UTC) + timedelta(days=35)  # the events of these tests take the free slots before
    slots = await list_available_times_via(client, event_type, start_time=start, end_time=start + timedelta(days=7))
    who = {"name": "Jane", "email": "jane@good.example", "timezone": "UTC"}
    return await create_invitee_via(client, event_type, start_time=slots[0].start_time, location=ONLINE, **who)


async def _subscribe(client: CalendlyClient, event: str) -> Any:
    url = f"https://hooks.example.com/{event}"  # another one for each test
    what = {"events": ["invitee.created"], "organization": ORGANIZATION, "scope": "organization"}
    return await create_webhook_subscription_via(client, url=url, **what)


async def _unsubscribe(client: CalendlyClient, event: str) -> Any:
    subscription = await _subscribe(client, event)
    await delete_webhook_subscription_via(client, subscription)


WRITES = {
    "cancel": Write("POST", "/scheduled_events/{uuid}/cancellation", "cancellation", _cancel),
    "book": Write("POST", "/invitees", "booking", _book, repeats=False),
    "subscribe": Write("POST", "/webhook_subscriptions", "webhook_subscription", _subscribe),
    "unsubscribe": Write("DELETE", "/webhook_subscriptions/{uuid}", "webhook_subscription_deleted", _unsubscribe),
}
every_write = pytest.mark.parametrize("write", WRITES.values(), ids=WRITES)


@pytest.fixture
def event(sandbox: Sandbox) -> str:
    return uuid_in(sandbox.add_event(invitees=[{"email": "jane@good.example"}]))


def happened(sandbox: Sandbox, write: Write) -> int:
    return int(sandbox.stats()["writes"].get(write.effect, 0))


@every_write
@every_fault
async def test_a_write_that_fails_once_happens_once_or_not_at_all_and_says_which(
    sandbox: Sandbox, event: str, write: Write, fault: Fault
) -> None:
    sandbox.fault(fault.kind, route=write.route, method=write.method, **dict(fault.options))
    async with client_of(sandbox, fault) as client:
        if fault.refused or fault.happened or (fault.repeated and write.repeats):
            await write.call(client, event)
            assert happened(sandbox, write) == 1
        else:
            error = UnconfirmedWriteError if fault.repeated else write.error_for(fault)
            with pytest.raises(error) as caught:
                await write.call(client, event)
            assert type(caught.value) is error
            assert fault.has_its_words(caught.value, lost=fault.repeated)
            assert happened(sandbox, write) == 0


@every_write
@every_lasting_fault
async def test_a_write_that_keeps_failing_never_happens_twice(
    sandbox: Sandbox, event: str, write: Write, fault: Fault
) -> None:
    sandbox.fault(fault.kind, route=write.route, method=write.method, times=None, **dict(fault.options))
    async with client_of(sandbox) as client:
        if fault.happened:
            await write.call(client, event)
        else:
            lost = fault.repeated and not write.repeats
            with pytest.raises(CalendlyError) as caught:
                await write.call(client, event)
            assert type(caught.value) is (UnconfirmedWriteError if lost else write.error_for(fault))
            assert fault.has_its_words(caught.value, lost=lost)
    assert happened(sandbox, write) == fault.happened


@every_write
@pytest.mark.parametrize("fault", [fault for fault in LASTING if fault.happened], ids=str)
async def test_where_nothing_can_be_looked_up_any_more_a_write_is_left_as_it_is_and_said_to_be_unconfirmed(
    sandbox: Sandbox, event: str, write: Write, fault: Fault
) -> None:
    async with client_of(sandbox) as client:
        sandbox.fault(fault.kind, route=write.route, method=write.method, times=None, **dict(fault.options))
        for route in ("/scheduled_events/{uuid}", "/scheduled_events", "/webhook_subscriptions"):
            skip = int(write.effect == "booking" and route.endswith("}"))  # it reads the event type before
            sandbox.fault("server_error", route=route, method="GET", times=None, skip=skip)
        sandbox.fault("server_error", route="/webhook_subscriptions/{uuid}", method="GET", times=None)
        if write.method == "DELETE" and fault.error is not ServerError and fault.kind != "drop_after":
            await write.call(client, event)  # it has an answer without a body: nothing of it can be broken
        else:
            with pytest.raises(UnconfirmedWriteError):
                await write.call(client, event)
    assert happened(sandbox, write) == 1


@pytest.mark.parametrize("call", [_cancel, _subscribe])
async def test_where_nobody_listens_it_says_so_and_nothing_can_have_happened(call: Any, sandbox: Sandbox) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    nowhere = {"gateway_url": f"http://127.0.0.1:{port}/calendly", "connections_url": f"http://127.0.0.1:{port}"}
    async with client_of(sandbox, **nowhere) as client:
        with pytest.raises(NetworkError, match="No connection to") as caught:
            await call(client, "EVENT")
    assert not caught.value.maybe_sent
