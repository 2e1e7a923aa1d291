"""Every kind of endpoint against everything that can go wrong: what is said, what is repeated, what has happened.

Over HTTP, against the sandbox: its state tells what has happened.
"""

from __future__ import annotations

import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from prefect_calendly.availability import (
    list_available_times_via,
    list_busy_times_via,
)
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
from prefect_calendly.invitees import (
    create_invitee_via,
    list_invitees_of_events_via,
    list_invitees_via,
)
from prefect_calendly.resource import Resource
from prefect_calendly.sandbox import Sandbox
from prefect_calendly.scheduled_events import (
    cancel_scheduled_event_via,
    get_scheduled_event_via,
)
from prefect_calendly.webhook_subscriptions import (
    create_webhook_subscription_via,
    delete_webhook_subscription_via,
)
from tests.conftest import credentials_for

pytestmark = pytest.mark.usefixtures("impatient")

ORGANIZATION = "https://api.calendly.com/organizations/BBBBBBBBBBBBBBBB"
URL = "https://hooks.example.com/fault-matrix"
ONLINE = {"kind": "zoom_conference"}


@dataclass(frozen=True)
class Fault:
    """Something that goes wrong, and what it looks like to a caller."""

    kind: str
    error: type[CalendlyError]
    says: str
    """What the text of the error begins with."""
    repeated: bool = False
    """Whether a GET is sent again."""
    happened: bool = False
    """Whether a write has taken effect all the same."""
    refused: bool = False
    """Whether it says that a write was not looked at: then it is sent again without looking."""
    of_booking: type[CalendlyError] | None = None
    """What it is for a booking, if something else."""
    options: tuple[tuple[str, Any], ...] = ()

    def __str__(self) -> str:
        return "-".join([self.kind, *(str(value) for _, value in self.options)])

    def has_its_words(self, error: CalendlyError, *, lost: bool = False) -> bool:
        """Whether an error's text says what went wrong, where, and what to do; and, of a write, what was lost."""
        text = str(error)
        said = text.startswith(f"The answer to a write was lost ({self.says}" if lost else self.says)
        return said and f"{error.method} {error.path}" in text and bool(error.hint) and text.endswith(error.hint)


NO_ACCESS = "You do not have permission to access this resource."
SCOPES = "This operation requires the scopes listed in the 'required_scopes' array: scheduled_events:read"
CALENDAR = "There is a problem accessing your calendar."
ERROR_500 = "Internal Server Error: The server encountered an unexpected condition that prevented it from fulfilling"
BROKEN = "The connection broke to 127.0.0.1"
MALFORMED = "The answer is not JSON"

FAULTS = [
    Fault("unauthorized_gateway", GatewayKeyError, "Invalid or missing API key (401 "),
    Fault("unauthorized_calendly", CalendlyTokenError, "Unauthenticated: The access token is invalid (401 "),
    Fault("insufficient_scope", InsufficientScopeError, f"Insufficient scope: {SCOPES} (403 "),
    Fault("permission_denied", RoleRequiredError, f"Permission Denied: {NO_ACCESS} (403 "),
    Fault(
        "permission_denied",
        EventInPastError,
        "Permission Denied: Event in the past (403 ",
        options=(("message", "Event in the past"),),
    ),
    Fault(
        "permission_denied",
        PermissionDeniedError,
        "Permission Denied: You can not change owner role (403 ",
        options=(("message", "You can not change owner role"),),
    ),
    Fault("plan", PlanRequiredError, "Permission Denied: Please upgrade your Calendly account to Standard (403 "),
    Fault("not_found", NotFoundError, "Resource Not Found: The server could not find the requested resource. (404 "),
    Fault(
        "already_exists",
        ConflictError,
        "Already Exists: The resource already exists (409 ",
        of_booking=SlotFilledError,
    ),
    Fault("bad_request_without_details", BadRequestError, "Invalid Argument: The supplied parameters are invalid. (4"),
    Fault("redirect", InvalidAnswerError, "A redirect (302) was refused: the key goes to the configured hosts only"),
    Fault(
        "rate_limited",
        RateLimitedError,
        "Too Many Requests: Too many requests; wait 0 s (429 ",
        repeated=True,
        refused=True,
        options=(("reset", 0),),
    ),
    Fault(
        "rate_limited",
        RateLimitedError,
        "Too many requests; wait 0 s (429 ",
        repeated=True,
        refused=True,
        options=(("shape", "maton"), ("retry_after", 0)),
    ),
    Fault("external_calendar", ExternalCalendarError, f"External Calendar Error: {CALENDAR} (424 ", repeated=True),
    Fault("server_error", ServerError, ERROR_500, repeated=True),
    Fault("html_502", ServerError, "The server answered 502 without saying why (502 ", repeated=True),
    Fault("unavailable", ServerError, "Service Unavailable (503 ", repeated=True),
    Fault("drop_before", NetworkError, BROKEN, repeated=True),
    Fault("reset", NetworkError, BROKEN, repeated=True),
    Fault(  # longer than the client waits
        "latency", NetworkError, BROKEN, repeated=True, happened=True, options=(("seconds", 1.5),)
    ),
    Fault("drop_after", NetworkError, BROKEN, repeated=True, happened=True),
    Fault("error_after", ServerError, ERROR_500, repeated=True, happened=True),
    Fault("truncated_body", NetworkError, BROKEN, repeated=True, happened=True),
    Fault("malformed_json", InvalidAnswerError, MALFORMED, repeated=True, happened=True),
]
every_fault = pytest.mark.parametrize("fault", FAULTS, ids=str)
# A limit and a slow server that last are told of elsewhere: they take their time.
LASTING = [fault for fault in FAULTS if not fault.refused and fault.kind != "latency"]
every_lasting_fault = pytest.mark.parametrize("fault", LASTING, ids=str)


def client_of(sandbox: Sandbox, **options: Any) -> CalendlyClient:
    return credentials_for(sandbox, timeout_seconds=0.5, **options).get_client()


# Reading


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


@pytest.fixture
def event(sandbox: Sandbox) -> str:
    return uuid_in(sandbox.add_event(invitees=[{"email": "jane@good.example"}]))


@every_read
@every_fault
async def test_a_read_that_fails_once_is_repeated_or_says_why_not(
    sandbox: Sandbox, event: str, read: Read, fault: Fault
) -> None:
    before = sandbox.state(full=True)["events"]
    async with client_of(sandbox) as client:
        with count_requests() as undisturbed:
            wanted = await read.call(client, event)
        sandbox.fault(fault.kind, route=read.route, method="GET", skip=read.skip, **dict(fault.options))
        with count_requests() as meter:
            if fault.repeated:
                assert await read.call(client, event) == wanted
                assert (meter.requests, meter.repeats) == (undisturbed.requests + 1, 1)
            else:
                with pytest.raises(fault.error) as caught:
                    await read.call(client, event)
                assert type(caught.value) is fault.error
                assert fault.has_its_words(caught.value)
                assert (meter.requests, meter.repeats) == (1 + read.skip, 0)
    assert sandbox.state(full=True)["events"] == before


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


# Writing


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
    soon = datetime.now(UTC) + timedelta(hours=1)
    slots = await list_available_times_via(client, event_type, start_time=soon, end_time=soon + timedelta(days=7))
    who = {"name": "Jane", "email": "jane@good.example", "timezone": "UTC"}
    return await create_invitee_via(client, event_type, start_time=slots[0].start_time, location=ONLINE, **who)


async def _subscribe(client: CalendlyClient, event: str) -> Any:
    what = {"events": ["invitee.created"], "organization": ORGANIZATION, "scope": "organization"}
    return await create_webhook_subscription_via(client, url=URL, **what)


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


def happened(sandbox: Sandbox, write: Write) -> int:
    return int(sandbox.stats()["writes"].get(write.effect, 0))


@every_write
@every_fault
async def test_a_write_that_fails_once_happens_once_or_not_at_all_and_says_which(
    sandbox: Sandbox, event: str, write: Write, fault: Fault
) -> None:
    sandbox.fault(fault.kind, route=write.route, method=write.method, **dict(fault.options))
    async with client_of(sandbox) as client:
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


@pytest.mark.parametrize("call", [*(read.call for read in READS.values()), _cancel, _subscribe])
async def test_where_nobody_listens_it_says_so_and_nothing_can_have_happened(call: Any, sandbox: Sandbox) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    nowhere = {"gateway_url": f"http://127.0.0.1:{port}/calendly", "connections_url": f"http://127.0.0.1:{port}"}
    async with client_of(sandbox, **nowhere) as client:
        with pytest.raises(NetworkError, match="No connection to") as caught:
            await call(client, "EVENT")
    assert not caught.value.maybe_sent


def uuid_in(uri: str) -> str:
    return uri.rpartition("/")[2]
