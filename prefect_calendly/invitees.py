"""Invitees: the people who booked, and bookings on their behalf."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any, Literal

from prefect_calendly.availability import next_start_times
from prefect_calendly.client import CalendlyClient
from prefect_calendly.client.errors import (
    BadRequestError,
    CalendlyError,
    NotFoundError,
    PermissionDeniedError,
    SlotFilledError,
    UnconfirmedWriteError,
)
from prefect_calendly.client.identifiers import CALENDLY_ORIGIN, HasUri, Reference, filled_path, uri_of, uuid_of
from prefect_calendly.client.times import utc, wire_time
from prefect_calendly.event_types import get_event_type_via
from prefect_calendly.resource import (
    Items,
    Resource,
    Time,
    check_choice,
    check_email,
    check_sort,
    given_model,
    zone_names,
)
from prefect_calendly.scheduled_events import Cancellation, list_scheduled_events_via
from prefect_calendly.tasks import make_tasks
from prefect_calendly.users import User, get_current_user_via

MOST_GUESTS = 10
LOCATION_KINDS_WITH_PLACE = ("physical", "outbound_call", "ask_invitee", "custom")
LOCATION_KINDS: tuple[str, ...] = (
    *LOCATION_KINDS_WITH_PLACE,
    "inbound_call",
    "zoom_conference",
    "google_conference",
    "gotomeeting_conference",
    "microsoft_teams_conference",
    "webex_conference",
)
# `POST /event_types/{uuid}/invitees` also takes the names that scheduled events have.
_ALIASES_OF_EVENT_TYPE_ROUTE = ("zoom", "gotomeeting")


class QuestionAndAnswer(Resource):
    """An answer on the booking form."""

    question: str
    answer: str
    position: int


class AnswerByUuid(Resource):
    """An answer on the booking form, for `route="event_type"`."""

    question_uuid: str
    answer: str


class Tracking(Resource):
    """Where a booking came from."""

    utm_campaign: str | None = None
    utm_source: str | None = None
    utm_medium: str | None = None
    utm_content: str | None = None
    utm_term: str | None = None
    salesforce_uuid: str | None = None


class Payment(Resource):
    """What an invitee paid."""

    external_id: str | None = None
    provider: Literal["stripe", "paypal"] | str | None = None
    amount: Decimal | str | None = None
    currency: Literal["AUD", "CAD", "EUR", "GBP", "USD"] | str | None = None
    terms: str | None = None
    successful: bool | None = None


class NoShow(Resource):
    """That an invitee did not show up."""

    uri: str
    created_at: Time | None = None


class Reconfirmation(Resource):
    """Whether an invitee was asked to confirm again, and did."""

    created_at: Time | None = None
    confirmed_at: Time | None = None


class Invitee(Resource):
    """A person who booked an event."""

    uri: str
    email: str
    name: str
    first_name: str | None = None
    last_name: str | None = None
    status: Literal["active", "canceled"] | str
    questions_and_answers: Items[QuestionAndAnswer] = ()
    timezone: str | None = None
    event: str
    created_at: Time
    updated_at: Time
    tracking: Tracking | None = None
    text_reminder_number: str | None = None
    rescheduled: bool = False
    """True on the old invitee of a booking that was rescheduled."""
    old_invitee: str | None = None
    new_invitee: str | None = None
    cancel_url: str | None = None
    reschedule_url: str | None = None
    routing_form_submission: str | None = None
    cancellation: Cancellation | None = None
    payment: Payment | None = None
    no_show: NoShow | None = None
    reconfirmation: Reconfirmation | None = None
    scheduling_method: Literal["instant_book", "api"] | str | None = None
    invitee_scheduled_by: str | None = None


@dataclass(frozen=True, slots=True)
class EventInvitees:
    """One event of `list_invitees_of_events`: its invitees, or why they could not be listed."""

    event: str
    """URI of the event."""
    invitees: tuple[Invitee, ...] = ()
    error: CalendlyError | None = None


async def list_invitees_via(
    client: CalendlyClient,
    event: Reference,
    *,
    status: Literal["active", "canceled"] | None = None,
    email: str | None = None,
    sort: str | None = None,
    count: int = 100,
    page_token: str | None = None,
    limit: int | None = None,
) -> AsyncIterator[Invitee]:
    """Return the invitees of a scheduled event.

    Source: `GET /scheduled_events/{uuid}/invitees`.

    Args:
        credentials: The Calendly account to use.
        event: URI, uuid or model of the event.
        status: `active` or `canceled`; both by default.
        email: Only invitees with this address.
        sort: `created_at:asc` (the default) or `created_at:desc`.
        count: Items per page, 1 to 100.
        page_token: Where to start: the token of an earlier answer to the same call, with the same `count`.
        limit: Return at most this many items; all by default.

    Returns:
        The invitees.

    Raises:
        ValueError: `event` does not name a scheduled event, or an argument is out of range.
        CalendlyError: The call failed; see `prefect_calendly.client.errors`.

    Example:
        ```python
        for invitee in list_invitees(credentials, "DDDDDDDDDDDDDDDD", status="active"):
            print(invitee.timezone)
        ```
    """
    check_choice(status, ("active", "canceled"), "status")
    check_email(email, "email")
    check_sort(sort, ("created_at",))
    async for invitee in client.pages(
        filled_path("/scheduled_events/{uuid}/invitees", {"uuid": uuid_of(event, "scheduled_events", "event")}),
        Invitee,
        params={"status": status, "email": email, "sort": sort},
        count=count,
        page_token=page_token,
        limit=limit,
    ):
        yield invitee


alist_invitees, list_invitees = make_tasks("List invitees", list_invitees_via)


async def get_invitee_via(client: CalendlyClient, invitee: Reference, *, event: Reference | None = None) -> Invitee:
    """Return one invitee.

    Source: `GET /scheduled_events/{event_uuid}/invitees/{invitee_uuid}`.

    Args:
        credentials: The Calendly account to use.
        invitee: URI or model; or the bare uuid, with `event`.
        event: URI, uuid or model of the event; required with a bare uuid only.

    Returns:
        The invitee.

    Raises:
        ValueError: `invitee` does not name an invitee, `event` no event, or they do not belong together.
        CalendlyError: The call failed; see `prefect_calendly.client.errors`.

    Example:
        ```python
        invitee = get_invitee(credentials, "EEEEEEEEEEEEEEEE", event="DDDDDDDDDDDDDDDD")
        ```
    """
    text = invitee.uri if isinstance(invitee, HasUri) else invitee
    whole = re.fullmatch(rf"{re.escape(CALENDLY_ORIGIN)}/scheduled_events/([\w-]+)/invitees/([\w-]+)", str(text))
    if whole:
        event_uuid, invitee_uuid = whole.groups()
        if event is not None and uuid_of(event, "scheduled_events", "event") != event_uuid:
            raise ValueError("`invitee` belongs to another event than `event`")
    elif event is None:
        raise ValueError("invitee must be the URI of an invitee; with a bare uuid give `event` too")
    else:
        event_uuid, invitee_uuid = (
            uuid_of(event, "scheduled_events", "event"),
            uuid_of(invitee, "invitees", "invitee"),
        )
    path = filled_path("/scheduled_events/{event}/invitees/{invitee}", {"event": event_uuid, "invitee": invitee_uuid})
    return await client.resource(path, Invitee)


aget_invitee, get_invitee = make_tasks("Get an invitee", get_invitee_via)


async def list_invitees_of_events_via(
    client: CalendlyClient,
    events: Iterable[Reference],
    *,
    status: Literal["active", "canceled"] | None = None,
    email: str | None = None,
) -> list[EventInvitees]:
    """Return the invitees of many events, with a bounded number of requests at once.

    An event that cannot be read has an error, and the others are read all the same. A refused key or a missing
    connection ends the call.

    Source: `GET /scheduled_events/{uuid}/invitees`, for each event.

    Args:
        credentials: The Calendly account to use.
        events: URIs, uuids or models.
        status: `active` or `canceled`; both by default.
        email: Only those with this address.

    Returns:
        For each event, in the same order, its invitees or its error.

    Raises:
        ValueError: `events` is not a list of events, or a filter is out of range. Nothing was sent.
        AuthenticationError: The key or token was refused.
        NoConnectionError: There is no Calendly connection.

    Example:
        ```python
        events = list_scheduled_events(credentials, user="AAAAAAAAAAAAAAAA", limit=20)
        for outcome in list_invitees_of_events(credentials, events, status="active"):
            print(outcome.event, len(outcome.invitees), outcome.error)
        ```
    """
    check_choice(status, ("active", "canceled"), "status")
    check_email(email, "email")
    if isinstance(events, str | HasUri):
        raise ValueError("events must be a list of events: for one event there is `list_invitees`")
    uris = [uri_of(event, "scheduled_events", "events") for event in events]

    async def of_event(uri: str) -> tuple[Invitee, ...]:
        return tuple([invitee async for invitee in list_invitees_via(client, uri, status=status, email=email)])

    outcomes = await client.each(uris, of_event)
    return [EventInvitees(outcome.item, outcome.value or (), outcome.error) for outcome in outcomes]


alist_invitees_of_events, list_invitees_of_events = make_tasks(
    "List the invitees of events", list_invitees_of_events_via
)


async def create_invitee_via(
    client: CalendlyClient,
    event_type: Reference,
    *,
    start_time: datetime,
    email: str,
    timezone: str,
    name: str | None = None,
    first_name: str | None = None,
    last_name: str | None = None,
    text_reminder_number: str | None = None,
    location: Mapping[str, str] | None = None,
    questions_and_answers: Sequence[QuestionAndAnswer | AnswerByUuid | Mapping[str, Any]] = (),
    tracking: Tracking | Mapping[str, str | None] | None = None,
    event_guests: Sequence[str] = (),
    route: Literal["official", "event_type"] = "official",
) -> Invitee:
    """Book an open slot of an event type; Calendly sends invitations and e-mails.

    After a lost answer, the booking is looked up by event type, start and address, and never sent again, so that nobody
    gets a second meeting. An invitee of this address who has that slot already is returned then.

    Source: `POST /invitees`; with `route="event_type"`, `POST /event_types/{uuid}/invitees`.

    Args:
        credentials: The Calendly account to use; older accounts need a paid plan.
        event_type: URI, uuid or model.
        start_time: Start of an open slot (aware, any zone), as `list_available_times` returns it.
        email: Address of the invitee.
        timezone: IANA name of the invitee's zone, such as `Europe/Berlin`.
        name: Full name; this or `first_name` is required.
        first_name: First name, for forms that ask for first and last name.
        last_name: Last name, with `first_name`.
        text_reminder_number: Phone number for text reminders, in international form.
        location: One of the locations that the event type offers: `{"kind": …}`, and `"location"` for a kind that
            needs it. Leave it out where the event type has none, and for round robin.
        questions_and_answers: Answers to the form's questions: `question` (its exact text), `answer`, `position`;
            with `route="event_type"`: `question_uuid`, `answer`.
        tracking: Where the booking came from.
        event_guests: Addresses of at most 10 guests.
        route: `official` for the endpoint of Calendly's documentation, `event_type` for that of the gateway's.

    Returns:
        The new invitee; `event` is the URI of the new event.

    Raises:
        ValueError: An argument is missing or out of range. Nothing was sent.
        SlotFilledError: The event type does not offer this start time, or no longer; the text names the next ones.
        PlanRequiredError: The plan does not include bookings by the API.
        UnconfirmedWriteError: The answer was lost, and the booking was not found, or could not be looked up.
        CalendlyError: The call failed; see `prefect_calendly.client.errors`.

    Example:
        ```python
        from datetime import UTC, datetime, timedelta

        soon = datetime.now(UTC) + timedelta(hours=1)
        event_type = "CCCCCCCCCCCCCCCC"
        slots = list_available_times(credentials, event_type, start_time=soon, end_time=soon + timedelta(days=31))
        invitee = create_invitee(
            credentials,
            event_type,
            start_time=slots[0].start_time,
            email="bob.smith@example.com",
            name="Bob Smith",
            timezone="America/Los_Angeles",
            location={"kind": "zoom_conference"},
        )
        ```
    """
    event_type_uri = uri_of(event_type, "event_types", "event_type")
    start = utc(start_time, "start_time")
    check_choice(route, ("official", "event_type"), "route")
    kinds = LOCATION_KINDS if route == "official" else (*LOCATION_KINDS, *_ALIASES_OF_EVENT_TYPE_ROUTE)
    _check_booking(email, timezone, name, first_name, location, kinds, event_guests)
    answer_model = QuestionAndAnswer if route == "official" else AnswerByUuid
    answers = [given_model(answer_model, item, "questions_and_answers") for item in questions_and_answers]
    person = {
        "name": name,
        "first_name": first_name,
        "last_name": last_name,
        "email": email,
        "timezone": timezone,
        "text_reminder_number": text_reminder_number,
    }
    invitee = {key: value for key, value in person.items() if value is not None}
    body: dict[str, Any] = {"start_time": wire_time(start, "start_time")}
    if location is not None:
        body["location"] = dict(location)
    if answers:
        body["questions_and_answers"] = [answer.model_dump() for answer in answers]
    if tracking is not None:
        body["tracking"] = given_model(Tracking, tracking, "tracking").model_dump()
    if event_guests:
        body["event_guests"] = list(event_guests)
    if route == "official":
        path = "/invitees"
        body |= {"event_type": event_type_uri, "invitee": invitee}
    else:
        uuid = uuid_of(event_type, "event_types", "event_type")
        path = filled_path("/event_types/{uuid}/invitees", {"uuid": uuid})
        body |= invitee

    async def book() -> Invitee:
        return await client.resource(path, Invitee, method="POST", json=body)

    async def existing() -> Invitee | None:
        return await _booking(client, event_type_uri, start, email)

    try:
        return await client.send_once(book, existing)
    except BadRequestError as error:
        if isinstance(error, SlotFilledError) or any("start_time" in (item.parameter or "") for item in error.details):
            error.hint = await next_start_times(client, event_type_uri, start_time) or error.hint
        raise


acreate_invitee, create_invitee = make_tasks("Book an event for an invitee", create_invitee_via, writes=True)


def _check_booking(
    email: str,
    timezone: str,
    name: str | None,
    first_name: str | None,
    location: Mapping[str, str] | None,
    location_kinds: Sequence[str],
    event_guests: Sequence[str],
) -> None:
    """Check all that can be checked before anything is sent; the error texts repeat no personal detail."""
    if not name and not first_name:
        raise ValueError("give the invitee's `name`, or `first_name` (and `last_name`)")
    check_email(email or "", "email")
    if timezone not in zone_names():
        raise ValueError(f"timezone must be an IANA time zone such as Europe/Berlin, not {timezone!r}")
    if isinstance(event_guests, str) or len(event_guests) > MOST_GUESTS:
        raise ValueError(f"event_guests must be a list of at most {MOST_GUESTS} addresses, not {len(event_guests)}")
    for index, guest in enumerate(event_guests):
        check_email(guest, f"event_guests[{index}]")
    if location is not None:
        if not isinstance(location, Mapping):
            raise ValueError(f'location must be a mapping such as {{"kind": "zoom_conference"}}, not {location!r:.40}')
        check_choice(location.get("kind") or "", location_kinds, "location['kind']")
        if location["kind"] in LOCATION_KINDS_WITH_PLACE and not location.get("location"):
            raise ValueError(f"location of kind {location['kind']!r} needs 'location' too")


async def _booking(client: CalendlyClient, event_type: str, start: datetime, email: str) -> Invitee | None:
    """Look up an active booking by event type, start and address.

    Raises:
        UnconfirmedWriteError: It was not found among the events that this user may read, and there may be others.
    """
    user = await get_current_user_via(client)
    filters: dict[str, Any] = {
        "invitee_email": email,
        "status": "active",
        "min_start_time": start,
        "max_start_time": start + timedelta(seconds=1),
    }
    list_events = list_scheduled_events_via
    try:
        events = [event async for event in list_events(client, organization=user.current_organization, **filters)]
        all_seen = True
    except PermissionDeniedError:  # no admin: only the user's own events
        events = [event async for event in list_events(client, user=user, **filters)]
        all_seen = False
    for event in events:
        if event.event_type == event_type and event.start_time == start:
            try:
                async for invitee in list_invitees_via(client, event, status="active", sort="created_at:desc"):
                    if invitee.email.casefold() == email.casefold():
                        return invitee
            except NotFoundError:
                continue
    if not all_seen and not await _is_only_host(client, event_type, user):
        raise UnconfirmedWriteError(
            "The answer to a booking was lost, and this user may not see the event type's bookings",
            method="POST",
            path="/invitees",
        )
    return None


async def _is_only_host(client: CalendlyClient, event_type: str, user: User) -> bool:
    its = await get_event_type_via(client, event_type)
    return its.pooling_type is None and its.profile is not None and its.profile.owner == user.uri
