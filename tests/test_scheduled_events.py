"""Scheduled events, over HTTP: listing them, and canceling each at most once."""

from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import httpx
import pytest

from prefect_calendly import CalendlyCredentials
from prefect_calendly.client import errors
from prefect_calendly.invitees import list_invitees_via
from prefect_calendly.sandbox import Sandbox
from prefect_calendly.sandbox.seed import ALICE, EVENT, GROUP, ORGANIZATION, SECOND_ORGANIZATION
from prefect_calendly.scheduled_events import (
    Cancellation,
    ScheduledEvent,
    acancel_scheduled_event,
    aget_scheduled_event,
    alist_scheduled_events,
    cancel_scheduled_event_via,
    list_scheduled_events_via,
)
from tests.support import Server, client_of, no_request, nothing_unknown, uri

CANCELLATION = "/scheduled_events/{uuid}/cancellation"


@pytest.fixture
def event(sandbox: Sandbox) -> str:
    """URI of a future event of Alice's."""
    return sandbox.add_event(sandbox.clock() + timedelta(days=3), invitees=[{"email": "a@x.example"}])


def canceled(sandbox: Sandbox) -> list[str]:
    return [item["uri"] for item in sandbox.state()["canceled_by_api"]]


async def test_an_event_has_every_documented_member(credentials: CalendlyCredentials) -> None:
    event = await aget_scheduled_event.fn(credentials, EVENT)
    assert event.start_time == datetime(2025, 3, 15, 14, tzinfo=UTC)
    assert event.location is not None
    assert (event.location.type, event.location.join_url) == ("zoom", "https://zoom.us/j/123456789")
    assert event.model_fields_set == set(ScheduledEvent.model_fields) - {"cancellation"}
    assert event.model_extra == {}
    assert event.event_memberships[0].user == uri("users", ALICE)
    for reference in (event, event.uri):
        assert await aget_scheduled_event.fn(credentials, reference) == event


async def test_every_filter_reaches_calendly(credentials: CalendlyCredentials, sandbox: Sandbox) -> None:
    organization: dict[str, Any] = {"organization": ORGANIZATION}
    now = datetime.now(timezone(timedelta(hours=5)))
    with nothing_unknown(sandbox):
        everything = await alist_scheduled_events.fn(credentials, **organization)
        active = await alist_scheduled_events.fn(credentials, **organization, status="active")
        gone = await alist_scheduled_events.fn(credentials, **organization, status="canceled")
        coming = await alist_scheduled_events.fn(credentials, **organization, min_start_time=now)
        past = await alist_scheduled_events.fn(credentials, **organization, max_start_time=now)
        backwards = await alist_scheduled_events.fn(credentials, **organization, sort="start_time:desc")
        forwards = await alist_scheduled_events.fn(credentials, **organization, sort="start_time:asc")
        mine = await alist_scheduled_events.fn(credentials, user=ALICE)
        of_group = await alist_scheduled_events.fn(credentials, **organization, group=GROUP)
        bobs = await alist_scheduled_events.fn(credentials, **organization, invitee_email="bob.smith@example.com")
    assert len(everything) >= 60
    assert len(active) + len(gone) == len(everything)
    assert {event.status for event in gone} == {"canceled"}
    assert all(event.cancellation for event in gone)
    assert len(coming) + len(past) == len(everything)
    assert all(event.start_time >= now for event in coming)
    assert forwards == everything
    assert [event.start_time for event in backwards] == [event.start_time for event in reversed(everything)]
    assert 0 < len(mine) < len(of_group) < len(everything)
    assert [event.uri for event in bobs] == [uri("scheduled_events", EVENT)]
    assert all(event.model_extra == {} for event in everything)


@pytest.mark.parametrize("count", [1, 7, 20, 100])
async def test_every_page_size_gives_every_event_once(
    count: int, credentials: CalendlyCredentials, sandbox: Sandbox
) -> None:
    everything = [event.uri for event in await alist_scheduled_events.fn(credentials, organization=ORGANIZATION)]
    sandbox.reset_stats()
    listed = await alist_scheduled_events.fn(credentials, organization=ORGANIZATION, count=count)
    assert [event.uri for event in listed] == everything
    assert sandbox.stats()["requests"] == -(-len(everything) // count)


@pytest.mark.parametrize(("limit", "count", "requests"), [(1, 100, 1), (25, 10, 3), (30, 20, 2), (50, 50, 1)])
async def test_a_limit_ends_the_listing_early(
    limit: int, count: int, requests: int, credentials: CalendlyCredentials, sandbox: Sandbox
) -> None:
    """Also where the last page is needed in part: the page token is bound to the page size."""
    everything = await alist_scheduled_events.fn(credentials, organization=ORGANIZATION)
    sandbox.reset_stats()
    some = await alist_scheduled_events.fn(credentials, organization=ORGANIZATION, limit=limit, count=count)
    assert some == everything[:limit]
    assert sandbox.stats()["requests"] == requests


async def test_a_page_token_goes_on_where_an_earlier_answer_stopped(credentials: CalendlyCredentials) -> None:
    everything = await alist_scheduled_events.fn(credentials, organization=ORGANIZATION)
    params = {"organization": uri("organizations", ORGANIZATION), "count": 10}
    async with credentials.get_client() as client:
        token = (await client.request("GET", "/scheduled_events", params=params))["pagination"]["next_page_token"]
    arguments: dict[str, Any] = {"organization": ORGANIZATION, "count": 10, "page_token": token}
    assert await alist_scheduled_events.fn(credentials, **arguments) == everything[10:]
    assert await alist_scheduled_events.fn(credentials, **arguments, limit=5) == everything[10:15]
    with pytest.raises(errors.BadRequestError, match="page_token"):
        await alist_scheduled_events.fn(credentials, user=ALICE, page_token=token)


@pytest.mark.usefixtures("impatient")
async def test_a_listing_survives_faults_on_its_way(credentials: CalendlyCredentials, sandbox: Sandbox) -> None:
    everything = await alist_scheduled_events.fn(credentials, organization=ORGANIZATION)
    for number, kind in enumerate(("server_error", "html_502", "drop_after", "truncated_body", "malformed_json")):
        sandbox.fault(kind, route="/scheduled_events", skip=number)
    assert await alist_scheduled_events.fn(credentials, organization=ORGANIZATION, count=10) == everything


NAIVE = datetime(2026, 1, 1)  # noqa: DTZ001
AWARE = datetime(2026, 1, 1, tzinfo=UTC)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({}, "give `user`, `organization` or `group`"),
        ({"group": GROUP}, "`group` needs `organization` too"),
        ({"user": "me"}, "user cannot be 'me'"),
        ({"user": uri("organizations", "X")}, "user must be the URI .* of a user"),
        ({"user": ALICE, "invitee_email": "nobody"}, "invitee_email must be an e-mail address"),
        ({"user": ALICE, "invitee_email": ""}, "invitee_email must be an e-mail address"),
        ({"user": ALICE, "status": "gone"}, "status must be one of active, canceled, not 'gone'"),
        ({"user": ALICE, "min_start_time": NAIVE}, "min_start_time must be an aware datetime: give it a time zone"),
        ({"user": ALICE, "max_start_time": NAIVE}, "max_start_time must be an aware datetime"),
        ({"user": ALICE, "max_start_time": NAIVE, "min_start_time": AWARE}, "max_start_time must be an aware"),
        ({"user": ALICE, "min_start_time": "2026-01-01"}, "min_start_time must be an aware datetime, not str"),
        ({"user": ALICE, "min_start_time": AWARE, "max_start_time": AWARE}, "max_start_time must be after min_start"),
        ({"user": ALICE, "sort": "name:asc"}, "sort must be a comma-separated list of start_time"),
        ({"user": ALICE, "count": 0}, "count must be 1 to 100"),
        ({"user": ALICE, "limit": 0}, "limit must be at least 1"),
    ],
)
async def test_bad_arguments_cost_no_request(
    arguments: dict[str, Any], words: str, credentials: CalendlyCredentials, sandbox: Sandbox
) -> None:
    with no_request(sandbox), pytest.raises(ValueError, match=words):
        await alist_scheduled_events.fn(credentials, **arguments)


async def test_another_organization_is_refused(credentials: CalendlyCredentials) -> None:
    with pytest.raises(errors.RoleRequiredError):
        await alist_scheduled_events.fn(credentials, organization=SECOND_ORGANIZATION)


async def test_new_values_are_kept_and_nested_ones_too(credentials: CalendlyCredentials, sandbox: Sandbox) -> None:
    sandbox.fault("enum_value", route="/scheduled_events/{uuid}", member="location.type", value="hologram")
    sandbox.fault("enum_value", route="/scheduled_events/{uuid}", member="status", value="postponed")
    event = await aget_scheduled_event.fn(credentials, EVENT)
    assert event.location is not None
    assert (event.location.type, event.status) == ("hologram", "postponed")


async def test_the_event_as_reference_of_others(credentials: CalendlyCredentials) -> None:
    async with credentials.get_client() as client:
        async for event in list_scheduled_events_via(client, user=uri("users", ALICE), limit=2):
            assert [invitee async for invitee in list_invitees_via(client, event)]


# Canceling


async def test_cancelling_tells_who_and_why_and_happens(
    event: str, credentials: CalendlyCredentials, sandbox: Sandbox
) -> None:
    with nothing_unknown(sandbox):
        cancellation = await acancel_scheduled_event.fn(credentials, event, reason="Office closed")
    assert (cancellation.canceled_by, cancellation.reason) == ("Alice Johnson", "Office closed")
    assert (cancellation.canceler_type, cancellation.created_at is not None) == ("host", True)
    assert canceled(sandbox) == [event]
    assert (await aget_scheduled_event.fn(credentials, event)).cancellation == cancellation
    assert sandbox.stats()["by_route"][f"POST {CANCELLATION}"] == 1


async def test_an_event_that_is_canceled_already_is_success(
    event: str, credentials: CalendlyCredentials, sandbox: Sandbox
) -> None:
    first = await acancel_scheduled_event.fn(credentials, event, reason="First")
    assert await acancel_scheduled_event.fn(credentials, event, reason="Second") == first
    assert canceled(sandbox) == [event]
    sandbox.fault("permission_denied", route="/scheduled_events/{uuid}", times=None)  # the look at it is refused
    assert await acancel_scheduled_event.fn(credentials, event) == Cancellation()


@pytest.mark.usefixtures("impatient")
@pytest.mark.parametrize("twice", [False, True])
@pytest.mark.parametrize(
    "kind",
    [
        *("drop_before", "drop_after", "reset", "error_after", "server_error", "html_502", "truncated_body"),
        *("malformed_json", "wrong_content_type", "external_calendar", "unavailable"),
    ],
)
async def test_however_the_answer_is_lost_the_event_is_canceled_once(
    kind: str, twice: bool, event: str, credentials: CalendlyCredentials, sandbox: Sandbox
) -> None:
    sandbox.fault(kind, route=CANCELLATION)
    if twice:
        sandbox.fault("drop_after", route=CANCELLATION)
    cancellation = await acancel_scheduled_event.fn(credentials, event, reason="Once")
    assert cancellation.reason == "Once"
    assert canceled(sandbox) == [event]
    assert sandbox.stats()["writes"] == {"cancellation": 1}


@pytest.mark.usefixtures("impatient")
@pytest.mark.parametrize("kind", ["drop_before", "drop_after"])
async def test_when_the_state_cannot_be_read_either_nobody_knows(
    kind: str, event: str, credentials: CalendlyCredentials, sandbox: Sandbox
) -> None:
    sandbox.fault(kind, route=CANCELLATION)
    sandbox.fault("server_error", route="/scheduled_events/{uuid}", times=None)
    with pytest.raises(errors.UnconfirmedWriteError, match="answer to a write was lost"):
        await acancel_scheduled_event.fn(credentials, event)
    assert sandbox.stats()["by_route"][f"POST {CANCELLATION}"] == 1


@pytest.mark.usefixtures("impatient")
async def test_an_outage_that_stays_is_raised_and_nothing_has_happened(
    event: str, credentials: CalendlyCredentials, sandbox: Sandbox
) -> None:
    sandbox.fault("server_error", route=CANCELLATION, times=None)
    with pytest.raises(errors.ServerError):
        await acancel_scheduled_event.fn(credentials, event)
    assert canceled(sandbox) == []


async def test_an_event_of_the_past_cannot_be_canceled(credentials: CalendlyCredentials, sandbox: Sandbox) -> None:
    with pytest.raises(errors.EventInPastError, match="Only future events"):
        await acancel_scheduled_event.fn(credentials, EVENT)
    assert sandbox.stats()["requests"] == 1


async def test_a_refused_reason_is_left_out_only_if_the_caller_says_so(
    event: str, credentials: CalendlyCredentials, sandbox: Sandbox
) -> None:
    sandbox.fault("cancellation_reason_quirk", times=None)
    with pytest.raises(errors.BadRequestError):
        await acancel_scheduled_event.fn(credentials, event, reason="Why")
    assert canceled(sandbox) == []
    cancellation = await acancel_scheduled_event.fn(credentials, event, reason="Why", drop_refused_reason=True)
    assert cancellation.reason is None
    assert canceled(sandbox) == [event]


async def test_without_a_reason_none_is_sent(event: str, credentials: CalendlyCredentials, sandbox: Sandbox) -> None:
    sandbox.fault("cancellation_reason_quirk", times=None)
    assert (await acancel_scheduled_event.fn(credentials, event)).reason is None


async def test_the_limits_of_a_cancellation_cost_no_request(
    event: str, credentials: CalendlyCredentials, sandbox: Sandbox
) -> None:
    with no_request(sandbox):
        with pytest.raises(ValueError, match="reason must be a text of at most 10000 characters"):
            await acancel_scheduled_event.fn(credentials, event, reason="x" * 10_001)
        with pytest.raises(ValueError, match=r"event must be the URI .* of a scheduled event"):
            await acancel_scheduled_event.fn(credentials, uri("users", ALICE))
    await acancel_scheduled_event.fn(credentials, event, reason="x" * 10_000)
    assert canceled(sandbox) == [event]


async def test_an_event_said_to_be_canceled_and_shown_as_active_is_no_success() -> None:
    said = {"title": "Permission Denied", "message": "Event is already canceled"}
    shown = {
        "uri": uri("scheduled_events", "E"),
        "status": "active",
        "start_time": "2030-01-01T00:00:00Z",
        "end_time": "2030-01-01T01:00:00Z",
        "created_at": "2026-01-01T00:00:00Z",
        "updated_at": "2026-01-01T00:00:00Z",
        "invitees_counter": {"total": 1, "active": 1, "limit": 1},
        "event_memberships": [],
    }
    server = Server(httpx.Response(403, json=said), httpx.Response(200, json={"resource": shown}))
    async with client_of(server) as client:
        with pytest.raises(errors.InvalidAnswerError, match="shows it as active"):
            await cancel_scheduled_event_via(client, "E")
