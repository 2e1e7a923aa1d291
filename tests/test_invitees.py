"""Invitees, over HTTP: reading them, of many events at once, and booking each at most once."""

import re
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import httpx
import pytest

from prefect_calendly import CalendlyCredentials
from prefect_calendly.availability import alist_available_times
from prefect_calendly.client import errors
from prefect_calendly.event_types import alist_event_types
from prefect_calendly.invitees import (
    AnswerByUuid,
    Invitee,
    QuestionAndAnswer,
    Tracking,
    acreate_invitee,
    aget_invitee,
    alist_invitees,
    alist_invitees_of_events,
    create_invitee_via,
)
from prefect_calendly.sandbox import Sandbox
from prefect_calendly.sandbox.seed import ALICE, EVENT, EVENT_TYPE, INVITEE, ORGANIZATION, SECOND_CONNECTION
from prefect_calendly.scheduled_events import aget_scheduled_event, alist_scheduled_events
from tests.fixtures import credentials_for
from tests.support import Server, client_of, no_request, nothing_unknown, uri

INVITEE_URI = f"{uri('scheduled_events', EVENT)}/invitees/{INVITEE}"
BOOKING = "/invitees"
AVAILABLE = "/event_type_available_times"


async def test_an_invitee_has_every_documented_member(credentials: CalendlyCredentials) -> None:
    (invitee,) = await alist_invitees.fn(credentials, EVENT)
    assert (invitee.uri, invitee.email, invitee.name) == (INVITEE_URI, "bob.smith@example.com", "Bob Smith")
    assert invitee.questions_and_answers[0].answer == "Project timeline review"
    assert invitee.model_fields_set == set(Invitee.model_fields) - {"cancellation"}
    assert invitee.model_extra == {}
    assert invitee.tracking is not None
    assert set(Tracking.model_fields) == invitee.tracking.model_fields_set


async def test_what_is_rare_is_read_too(credentials: CalendlyCredentials) -> None:
    """Payments, no-shows, rescheduled and canceled invitees of the sandbox's show-case."""
    events = await alist_scheduled_events.fn(credentials, organization=ORGANIZATION)
    outcomes = await alist_invitees_of_events.fn(credentials, events)
    assert not [outcome.error for outcome in outcomes if outcome.error]
    invitees = [invitee for outcome in outcomes for invitee in outcome.invitees]
    assert all(invitee.model_extra == {} for invitee in invitees)
    (payment,) = [invitee.payment for invitee in invitees if invitee.payment]
    assert (payment.amount, payment.currency, payment.successful) == (49.0, "USD", True)
    assert [invitee.no_show.uri for invitee in invitees if invitee.no_show]
    (moved,) = [invitee for invitee in invitees if invitee.rescheduled]
    assert moved.new_invitee in [invitee.uri for invitee in invitees if invitee.old_invitee == moved.uri]
    assert all(invitee.cancellation for invitee in invitees if invitee.status == "canceled")


async def test_every_filter_sort_and_page_size(credentials: CalendlyCredentials, sandbox: Sandbox) -> None:
    people = [
        {"email": f"p{number}@x.example", "status": "active" if number % 3 else "canceled"} for number in range(9)
    ]
    event = sandbox.add_event(sandbox.clock() + timedelta(days=3), invitees=people)
    with nothing_unknown(sandbox):
        everybody = await alist_invitees.fn(credentials, event)
        active = await alist_invitees.fn(credentials, event, status="active")
        (one,) = await alist_invitees.fn(credentials, event, email="p4@x.example")
        backwards = await alist_invitees.fn(credentials, event, sort="created_at:desc")
        assert await alist_invitees.fn(credentials, event, sort="created_at:asc", count=2) == everybody
        assert await alist_invitees.fn(credentials, event, count=2, limit=3) == everybody[:3]
    assert [invitee.email for invitee in everybody] == [f"p{number}@x.example" for number in range(9)]
    assert len(active) == 6
    assert one.email == "p4@x.example"
    assert backwards == everybody[::-1]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"event": ""}, "event must be the URI .* of a scheduled event"),
        ({"event": EVENT, "status": "gone"}, "status must be one of"),
        ({"event": EVENT, "email": "x"}, "email must be an e-mail address"),
        ({"event": EVENT, "sort": "start_time:asc"}, "sort must be a comma-separated list of created_at"),
        ({"event": EVENT, "count": 0}, "count must be"),
        ({"event": EVENT, "limit": 0}, "limit must be"),
    ],
)
async def test_bad_filters_cost_no_request(
    arguments: dict[str, Any], words: str, credentials: CalendlyCredentials, sandbox: Sandbox
) -> None:
    with no_request(sandbox), pytest.raises(ValueError, match=words):
        await alist_invitees.fn(credentials, **arguments)


async def test_an_invitee_is_named_by_uri_model_or_uuid_with_the_event(
    credentials: CalendlyCredentials, sandbox: Sandbox
) -> None:
    invitee = await aget_invitee.fn(credentials, INVITEE_URI)
    assert invitee.uri == INVITEE_URI
    assert await aget_invitee.fn(credentials, invitee) == invitee
    assert await aget_invitee.fn(credentials, INVITEE, event=EVENT) == invitee
    assert await aget_invitee.fn(credentials, invitee, event=uri("scheduled_events", EVENT)) == invitee
    with no_request(sandbox):
        for wrong, event, words in (
            (INVITEE, None, "with a bare uuid give `event` too"),
            (uri("users", "X"), None, "must be the URI of an invitee"),
            (INVITEE_URI, "OTHER", "belongs to another event"),
            ("", EVENT, "invitee must be"),
            ("a/b", EVENT, "invitee must be"),
            (f"{uri('scheduled_events', 'Ä')}/invitees/X", None, "path may hold"),
            (INVITEE, "../x", "event must be"),
        ):
            with pytest.raises(ValueError, match=words):
                await aget_invitee.fn(credentials, wrong, event=event)
    with pytest.raises(errors.NotFoundError):
        await aget_invitee.fn(credentials, "NONE", event=EVENT)


# Of many events


@pytest.mark.usefixtures("impatient")
async def test_of_many_events_each_has_its_own_outcome(credentials: CalendlyCredentials, sandbox: Sandbox) -> None:
    events = await alist_scheduled_events.fn(credentials, organization=ORGANIZATION)
    broken = events[3].uri.rpartition("/")[2]
    down = events[4].uri.rpartition("/")[2]
    sandbox.fault("missing_member", path=f"/scheduled_events/{broken}/invitees", member="email")
    sandbox.fault("server_error", path=f"/scheduled_events/{down}/invitees", times=None)
    sandbox.fault("server_error", route="/scheduled_events/{uuid}/invitees", every=9, times=3)
    references = [*events, "NONE"]
    with nothing_unknown(sandbox):
        outcomes = await alist_invitees_of_events.fn(credentials, references)
    assert [outcome.event for outcome in outcomes[:-1]] == [event.uri for event in events]
    failed = {number: outcome.error for number, outcome in enumerate(outcomes) if outcome.error}
    assert {number: type(error) for number, error in failed.items()} == {
        3: errors.InvalidAnswerError,
        4: errors.ServerError,
        len(events): errors.NotFoundError,
    }
    assert (failed[3].resource, failed[3].member) == ("Invitee", "email")
    for number, outcome in enumerate(outcomes):
        assert bool(outcome.invitees) != (number in failed)
        assert all(invitee.event == outcome.event for invitee in outcome.invitees)


async def test_of_many_events_the_filters_and_an_iterator_work(
    credentials: CalendlyCredentials, sandbox: Sandbox
) -> None:
    with nothing_unknown(sandbox):
        (outcome,) = await alist_invitees_of_events.fn(
            credentials, iter([EVENT]), status="active", email="bob.smith@example.com"
        )
        assert [invitee.uri for invitee in outcome.invitees] == [INVITEE_URI]
        (outcome,) = await alist_invitees_of_events.fn(credentials, [EVENT], status="canceled")
        assert (outcome.invitees, outcome.error) == ((), None)
        assert await alist_invitees_of_events.fn(credentials, []) == []


async def test_requests_at_once_stay_bounded(sandbox: Sandbox) -> None:
    sandbox.reset(latency_ms=5)
    few = credentials_for(sandbox, max_concurrency=3)
    await alist_invitees_of_events.fn(few, [EVENT] * 30)
    stats = sandbox.stats()
    assert stats["requests"] == 30
    assert 2 <= stats["max_in_flight"] <= 3


@pytest.mark.parametrize(
    ("kind", "error"),
    [("unauthorized_gateway", errors.GatewayKeyError), ("unauthorized_calendly", errors.CalendlyTokenError)],
)
async def test_a_refused_key_ends_it_all(
    kind: str, error: type[Exception], credentials: CalendlyCredentials, sandbox: Sandbox
) -> None:
    sandbox.fault(kind, times=None)
    with pytest.raises(error):
        await alist_invitees_of_events.fn(credentials, [EVENT] * 200)
    assert sandbox.stats()["requests"] <= 2 * credentials.max_concurrency


async def test_without_a_connection_it_ends_too(sandbox: Sandbox) -> None:
    with pytest.raises(errors.NoConnectionError, match="create_connection"):
        await alist_invitees_of_events.fn(credentials_for(sandbox, api_key=sandbox.second_key), [EVENT] * 3)


@pytest.mark.parametrize(
    ("events", "words"),
    [
        (EVENT, "events must be a list of events"),
        (uri("scheduled_events", EVENT), "events must be a list of events"),
        ([EVENT, ""], "events must be the URI .* of a scheduled event"),
        ([EVENT, uri("users", "X")], "events must be the URI .* of a scheduled event"),
    ],
)
async def test_what_is_no_list_of_events_costs_no_request(
    events: Any, words: str, credentials: CalendlyCredentials, sandbox: Sandbox
) -> None:
    one = await aget_scheduled_event.fn(credentials, EVENT)
    with no_request(sandbox):
        with pytest.raises(ValueError, match=words):
            await alist_invitees_of_events.fn(credentials, events)
        with pytest.raises(ValueError, match="events must be a list"):
            await alist_invitees_of_events.fn(credentials, one)
        with pytest.raises(ValueError, match="status must be"):
            await alist_invitees_of_events.fn(credentials, [EVENT], status="gone")


# Booking


@pytest.fixture
async def slot(credentials: CalendlyCredentials, sandbox: Sandbox) -> datetime:
    """An open slot of Alice's 30 minute meeting; the sandbox has counted nothing yet."""
    start = sandbox.clock() + timedelta(days=2)
    slots = await alist_available_times.fn(
        credentials, EVENT_TYPE, start_time=start, end_time=start + timedelta(days=9)
    )
    sandbox.reset_stats()
    return slots[5].start_time


def booking(slot: datetime, **more: Any) -> dict[str, Any]:
    return {
        "start_time": slot,
        "email": "Kim@example.com",
        "name": "Kim Doe",
        "timezone": "Europe/Berlin",
        "location": {"kind": "zoom_conference"},
        **more,
    }


def bookings(sandbox: Sandbox) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = sandbox.state()["bookings"]
    return found


async def test_a_booking_carries_every_field(
    slot: datetime, credentials: CalendlyCredentials, sandbox: Sandbox
) -> None:
    (event_type,) = [item for item in await alist_event_types.fn(credentials, user=ALICE) if item.name == "Intro Call"]
    start = sandbox.clock() + timedelta(days=2)
    slots = await alist_available_times.fn(
        credentials, event_type, start_time=start, end_time=start + timedelta(days=5)
    )
    elsewhere = slots[0].start_time.astimezone(timezone(timedelta(hours=-7)))
    with nothing_unknown(sandbox):
        invitee = await acreate_invitee.fn(
            credentials,
            event_type,
            start_time=elsewhere,
            email="kim@example.com",
            timezone="Asia/Kolkata",
            first_name="Kim",
            last_name="Doe",
            text_reminder_number="+1 202-555-0199",
            location={"kind": "outbound_call", "location": "+1 202-555-0100"},
            questions_and_answers=[
                QuestionAndAnswer(question="Company name", answer="Acme", position=0),
                {"question": "How did you hear about us?", "answer": "A bird", "position": 1},
            ],
            tracking=Tracking(utm_source="tests"),
            event_guests=[f"guest{number}@example.com" for number in range(10)],
        )
    assert (invitee.name, invitee.first_name, invitee.last_name) == ("Kim Doe", "Kim", "Doe")
    assert (invitee.email, invitee.timezone) == ("kim@example.com", "Asia/Kolkata")
    assert invitee.text_reminder_number == "+1 202-555-0199"
    assert [(a.question, a.answer, a.position) for a in invitee.questions_and_answers] == [
        ("Company name", "Acme", 0),
        ("How did you hear about us?", "A bird", 1),
    ]
    assert invitee.tracking == Tracking.model_validate({**dict.fromkeys(Tracking.model_fields), "utm_source": "tests"})
    assert invitee.scheduling_method == "api"
    event = await aget_scheduled_event.fn(credentials, invitee.event)
    assert event.start_time == elsewhere
    assert len(event.event_guests) == 10
    assert event.location is not None
    assert (event.location.type, event.location.location) == ("outbound_call", "+1 202-555-0100")


async def test_the_route_of_the_order_books_the_same(
    slot: datetime, credentials: CalendlyCredentials, sandbox: Sandbox
) -> None:
    """Its body is flat, its answers name the question's uuid, and its locations are those of events."""
    slots = await alist_available_times.fn(credentials, EVENT_TYPE, start_time=slot, end_time=slot + timedelta(days=5))
    answer = {"question_uuid": "QQQQQQQQQQQQQQQ", "answer": "Plans"}
    answers = (answer, AnswerByUuid(**answer))
    for free, answer in zip(slots, answers, strict=False):
        values = booking(free.start_time, location={"kind": "zoom"}, questions_and_answers=[answer])
        with nothing_unknown(sandbox):
            invitee = await acreate_invitee.fn(credentials, EVENT_TYPE, **values, route="event_type")
        assert (invitee.email, invitee.timezone) == ("Kim@example.com", "Europe/Berlin")
        assert invitee.questions_and_answers[0].question == "What would you like to discuss?"
    assert sandbox.stats()["by_route"]["POST /event_types/{uuid}/invitees"] == 2
    assert len(bookings(sandbox)) == 2


async def test_a_round_robin_without_location_is_booked(credentials: CalendlyCredentials, sandbox: Sandbox) -> None:
    (demo,) = [item for item in await alist_event_types.fn(credentials, user=ALICE) if item.name == "Product Demo"]
    start = sandbox.clock() + timedelta(days=2)
    slots = await alist_available_times.fn(credentials, demo, start_time=start, end_time=start + timedelta(days=5))
    values = booking(slots[0].start_time)
    del values["location"]
    assert (await acreate_invitee.fn(credentials, demo, **values)).status == "active"


async def test_a_slot_that_somebody_else_has_is_refused(
    slot: datetime, credentials: CalendlyCredentials, sandbox: Sandbox
) -> None:
    await acreate_invitee.fn(credentials, EVENT_TYPE, **booking(slot))
    with pytest.raises(errors.SlotFilledError, match="start time has been filled"):
        await acreate_invitee.fn(credentials, EVENT_TYPE, **booking(slot, email="other@example.com"))
    assert len(bookings(sandbox)) == 1
    assert sandbox.stats()["by_route"] == {f"POST {BOOKING}": 2, f"GET {AVAILABLE}": 1}


async def test_a_start_time_that_is_not_offered_is_answered_with_the_next_ones_in_its_zone(
    slot: datetime, credentials: CalendlyCredentials, sandbox: Sandbox
) -> None:
    slots = await alist_available_times.fn(credentials, EVENT_TYPE, start_time=slot, end_time=slot + timedelta(days=7))
    zone = timezone(timedelta(hours=5, minutes=30))
    wanted = slots[0].start_time.astimezone(zone) + timedelta(minutes=7)
    with pytest.raises(errors.SlotFilledError) as caught:
        await acreate_invitee.fn(credentials, EVENT_TYPE, **booking(wanted))
    following = ", ".join(each.start_time.astimezone(zone).isoformat() for each in slots[1:4])
    offered = f"{wanted.isoformat()} is not a start time this event type offers; next: {following}."
    assert str(caught.value).endswith(f". {offered}")
    assert bookings(sandbox) == []


@pytest.mark.usefixtures("impatient")
@pytest.mark.parametrize("kind", ["server_error", "not_found", "drop_before", "malformed_json"])
async def test_if_the_next_ones_cannot_be_read_the_refusal_stays_as_it_is(
    kind: str, slot: datetime, credentials: CalendlyCredentials, sandbox: Sandbox
) -> None:
    sandbox.fault(kind, route=AVAILABLE, times=None)
    with pytest.raises(errors.SlotFilledError, match=r"has been filled.*\. Choose another .*`list_available_times`\.$"):
        await acreate_invitee.fn(credentials, EVENT_TYPE, **booking(slot + timedelta(minutes=7)))


@pytest.mark.parametrize(
    ("offered", "words"),
    [
        ([], "2030-03-02T10:00:00+00:00 is not a start time this event type offers; next: none within 7 days."),
        (["2030-03-02T10:00:00Z", "2030-03-02T11:00:00Z"], errors.BadRequestError.hint),
    ],
)
async def test_a_refusal_says_if_nothing_is_offered_soon_and_nothing_new_if_the_time_is_offered(
    offered: list[str], words: str
) -> None:
    open_slot = {"status": "available", "invitees_remaining": 1, "scheduling_url": "https://calendly.com/x"}
    refusal = {"title": "Invalid Argument", "details": [{"parameter": "start_time", "message": "is invalid"}]}
    server = Server(
        httpx.Response(400, json=refusal),
        httpx.Response(200, json={"collection": [{**open_slot, "start_time": start} for start in offered]}),
    )
    async with client_of(server) as client:
        with pytest.raises(errors.BadRequestError) as caught:
            await create_invitee_via(client, EVENT_TYPE, **booking(datetime(2030, 3, 2, 10, tzinfo=UTC)))
    assert str(caught.value) == f"{caught.value.reason}. {words}"
    assert len(server.requests) == 2


async def test_a_free_plan_is_told_so(sandbox: Sandbox) -> None:
    sandbox.reset(plan="free", rate_limit_per_minute=0)
    with pytest.raises(errors.PlanRequiredError, match="Upgrade the Calendly plan"):
        await acreate_invitee.fn(credentials_for(sandbox), EVENT_TYPE, **booking(sandbox.clock() + timedelta(days=1)))


LOST = ["drop_after", "error_after", "truncated_body", "malformed_json"]
NOT_DONE = ["drop_before", "reset", "server_error", "html_502"]


@pytest.mark.usefixtures("impatient")
@pytest.mark.parametrize("route", ["official", "event_type"])
@pytest.mark.parametrize("kind", LOST)
async def test_however_the_answer_is_lost_nobody_gets_a_second_meeting(
    kind: str, route: str, slot: datetime, credentials: CalendlyCredentials, sandbox: Sandbox
) -> None:
    template = BOOKING if route == "official" else "/event_types/{uuid}/invitees"
    sandbox.fault(kind, method="POST", route=template)
    invitee = await acreate_invitee.fn(credentials, EVENT_TYPE, **booking(slot), route=route)
    assert [item["uri"] for item in bookings(sandbox)] == [invitee.uri]
    assert sandbox.stats()["writes"] == {"booking": 1}
    assert sandbox.stats()["unknown_parameters"] == []


@pytest.mark.usefixtures("impatient")
@pytest.mark.parametrize("kind", NOT_DONE)
async def test_a_booking_that_is_not_found_is_not_sent_again_for_it_may_still_come(
    kind: str, slot: datetime, credentials: CalendlyCredentials, sandbox: Sandbox
) -> None:
    sandbox.fault(kind, method="POST", route=BOOKING)
    with pytest.raises(errors.UnconfirmedWriteError, match="not there so far"):
        await acreate_invitee.fn(credentials, EVENT_TYPE, **booking(slot))
    assert sandbox.stats()["by_route"][f"POST {BOOKING}"] == 1


@pytest.mark.usefixtures("impatient")
async def test_who_may_not_see_the_hosts_events_is_told_that_nobody_knows(sandbox: Sandbox) -> None:
    plain = credentials_for(sandbox)
    (workshop,) = [item for item in await alist_event_types.fn(plain, user=ALICE) if item.name == "Workshop"]
    start = sandbox.clock() + timedelta(days=2)
    slots = await alist_available_times.fn(plain, workshop, start_time=start, end_time=start + timedelta(days=9))
    user = sandbox.add_user("Uma Plain", role="user")["uri"]
    sandbox.set_connection("21fd90f9-5935-43cd-b6c8-bde9d915ca80", user=user)
    sandbox.fault("drop_after", method="POST", route=BOOKING)
    with pytest.raises(errors.UnconfirmedWriteError, match="may not see"):
        await acreate_invitee.fn(plain, workshop, **booking(slots[3].start_time))
    assert sandbox.stats()["writes"] == {"booking": 1}


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"tracking": {"utm_sorce": "news"}}, "tracking has an unknown member 'utm_sorce'"),
        ({"tracking": Tracking.model_validate({"utm_sorce": "news"})}, "tracking has an unknown member"),
        ({"questions_and_answers": [{"question": "?", "answer": "!"}]}, "questions_and_answers: position"),
        ({"location": "zoom_conference"}, "location must be a mapping"),
    ],
)
async def test_what_is_misspelt_is_an_error_and_not_dropped(
    change: dict[str, Any], words: str, slot: datetime, credentials: CalendlyCredentials, sandbox: Sandbox
) -> None:
    sandbox.reset_stats()
    with pytest.raises(ValueError, match=re.escape(words)):
        await acreate_invitee.fn(credentials, EVENT_TYPE, **{**booking(slot), **change})
    assert sandbox.stats()["requests"] == 0


@pytest.mark.usefixtures("impatient")
async def test_in_a_group_event_too_where_a_second_booking_would_succeed(
    credentials: CalendlyCredentials, sandbox: Sandbox
) -> None:
    (workshop,) = [item for item in await alist_event_types.fn(credentials, user=ALICE) if item.name == "Workshop"]
    start = sandbox.clock() + timedelta(days=2)
    slots = await alist_available_times.fn(credentials, workshop, start_time=start, end_time=start + timedelta(days=9))
    values = booking(slots[3].start_time)
    await acreate_invitee.fn(credentials, workshop, **{**values, "email": "first@example.com"})
    sandbox.fault("drop_after", method="POST", route=BOOKING)
    invitee = await acreate_invitee.fn(credentials, workshop, **values)
    assert invitee.email == "Kim@example.com"
    assert [item["email"] for item in bookings(sandbox)] == ["first@example.com", "Kim@example.com"]


@pytest.mark.usefixtures("impatient")
async def test_an_invitee_who_has_cancelled_there_is_not_taken_for_the_booking(
    credentials: CalendlyCredentials, sandbox: Sandbox
) -> None:
    (workshop,) = [item for item in await alist_event_types.fn(credentials, user=ALICE) if item.name == "Workshop"]
    start = sandbox.clock() + timedelta(days=2)
    slots = await alist_available_times.fn(credentials, workshop, start_time=start, end_time=start + timedelta(days=9))
    values = booking(slots[3].start_time)
    people = [{"email": values["email"], "status": "canceled"}, {"email": "other@example.com"}]
    sandbox.add_event(values["start_time"], event_type=workshop.uri, invitees=people)
    sandbox.fault("drop_before", method="POST", route=BOOKING)
    with pytest.raises(errors.UnconfirmedWriteError, match="not there so far"):
        await acreate_invitee.fn(credentials, workshop, **values)
    assert bookings(sandbox) == []


@pytest.mark.usefixtures("impatient")
async def test_a_plain_user_looks_among_the_own_events(sandbox: Sandbox) -> None:
    zoe = credentials_for(sandbox, connection_id=SECOND_CONNECTION)
    (event_type,) = await alist_event_types.fn(zoe, user="ZZZZZZZZZZZZZZZZ")
    start = sandbox.clock() + timedelta(days=2)
    slots = await alist_available_times.fn(zoe, event_type, start_time=start, end_time=start + timedelta(days=9))
    sandbox.fault("drop_after", method="POST", route=BOOKING)
    invitee = await acreate_invitee.fn(zoe, event_type, **booking(slots[0].start_time))
    assert [item["uri"] for item in bookings(sandbox)] == [invitee.uri]
    assert sandbox.stats()["by_status"]["403"] == 1


@pytest.mark.usefixtures("impatient")
async def test_an_event_that_vanishes_while_it_is_looked_up_is_no_booking(
    slot: datetime, credentials: CalendlyCredentials, sandbox: Sandbox
) -> None:
    sandbox.fault("drop_after", method="POST", route=BOOKING)
    sandbox.fault("not_found", route="/scheduled_events/{uuid}/invitees")
    invitee = await acreate_invitee.fn(credentials, EVENT_TYPE, **booking(slot))  # the second look finds it
    assert [item["uri"] for item in bookings(sandbox)] == [invitee.uri]


@pytest.mark.usefixtures("impatient")
async def test_an_event_of_another_type_at_that_time_is_not_taken_for_the_booking(
    slot: datetime, credentials: CalendlyCredentials, sandbox: Sandbox
) -> None:
    types = await alist_event_types.fn(credentials, user=ALICE)
    (other,) = [item.uri for item in types if item.name == "Paid Consultation"]
    sandbox.add_event(slot, event_type=other, invitees=[{"email": "kim@example.com"}])
    sandbox.fault("drop_before", method="POST", route=BOOKING)
    with pytest.raises(errors.UnconfirmedWriteError, match="not there so far"):
        await acreate_invitee.fn(credentials, EVENT_TYPE, **booking(slot))
    assert bookings(sandbox) == []


@pytest.mark.usefixtures("impatient")
@pytest.mark.parametrize("kind", ["drop_before", "drop_after"])
async def test_when_the_booking_cannot_be_looked_up_either_nobody_knows(
    kind: str, slot: datetime, credentials: CalendlyCredentials, sandbox: Sandbox
) -> None:
    sandbox.fault(kind, method="POST", route=BOOKING)
    sandbox.fault("server_error", route="/scheduled_events", times=None)
    with pytest.raises(errors.UnconfirmedWriteError, match="before you repeat it") as caught:
        await acreate_invitee.fn(credentials, EVENT_TYPE, **booking(slot))
    assert "kim" not in str(caught.value).lower()
    assert sandbox.stats()["by_route"][f"POST {BOOKING}"] == 1


GUESTS = [f"guest{number}@example.com" for number in range(11)]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"start_time": datetime(2030, 1, 1)}, "start_time must be an aware datetime"),  # noqa: DTZ001
        ({"start_time": "2030-01-01T00:00:00Z"}, "start_time must be an aware datetime, not str"),
        ({"email": "kim"}, "email must be an e-mail address"),
        ({"email": "kim doe@example.com"}, "email must be an e-mail address"),
        ({"email": None}, "email must be an e-mail address"),
        ({"timezone": "Mars/Base"}, "timezone must be an IANA time zone such as Europe/Berlin, not 'Mars/Base'"),
        ({"timezone": ""}, "timezone must be an IANA time zone"),
        ({"name": None}, "give the invitee's `name`, or `first_name`"),
        ({"name": ""}, "give the invitee's `name`"),
        ({"event_guests": GUESTS}, "event_guests must be a list of at most 10 addresses, not 11"),
        ({"event_guests": "guest@example.com"}, "event_guests must be a list"),
        ({"event_guests": ["guest@example.com", "kim"]}, r"event_guests\[1\] must be an e-mail address"),
        ({"location": {}}, r"location\['kind'\] must be one of"),
        ({"location": {"kind": "moon"}}, r"location\['kind'\] must be one of"),
        ({"location": {"kind": "zoom"}}, r"location\['kind'\] must be one of"),
        ({"location": {"kind": "physical"}}, "location of kind 'physical' needs 'location' too"),
        ({"questions_and_answers": [{"question": "Why?", "answer": "So"}]}, "position"),
        ({"questions_and_answers": [{"question_uuid": "Q", "answer": "So"}]}, "question"),
        ({"questions_and_answers": [{"answer": "So"}], "route": "event_type"}, "question_uuid"),
        ({"route": "scenic"}, "route must be one of official, event_type, not 'scenic'"),
        ({"event_type": uri("users", "X")}, "event_type must be the URI .* of an event type"),
    ],
)
async def test_a_bad_booking_costs_no_request_and_repeats_no_personal_detail(
    change: dict[str, Any], words: str, credentials: CalendlyCredentials, sandbox: Sandbox
) -> None:
    values = booking(sandbox.clock() + timedelta(days=1))
    with no_request(sandbox), pytest.raises(ValueError, match=words) as caught:
        await acreate_invitee.fn(credentials, **{"event_type": EVENT_TYPE, **values, **change})
    assert "kim" not in str(caught.value).lower()


@pytest.mark.usefixtures("impatient")
async def test_bookings_have_limits_of_their_own_and_reading_goes_on(sandbox: Sandbox) -> None:
    sandbox.reset(rate_limit_per_minute=500, gateway_rps=0)
    credentials = credentials_for(sandbox, api_key=sandbox.api_key)
    sandbox.fault("rate_limited", method="POST", route=BOOKING, times=None, reset=86_000)
    with pytest.raises(errors.RateLimitedError, match="86000 s"):
        await acreate_invitee.fn(credentials, EVENT_TYPE, **booking(sandbox.clock() + timedelta(days=1)))
    assert await alist_invitees.fn(credentials, EVENT)
