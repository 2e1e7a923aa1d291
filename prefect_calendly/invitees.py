"""Invitees: the people who booked, and booking for them."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any, Literal, TypeVar

from pydantic import BaseModel, ValidationError

from prefect_calendly.client import CalendlyClient
from prefect_calendly.client.errors import CalendlyError, NotFoundError, PermissionDeniedError, UnconfirmedWriteError
from prefect_calendly.client.identifiers import CALENDLY_ORIGIN, HasUri, Reference, filled_path, uri_of, uuid_of
from prefect_calendly.client.times import utc, wire_time
from prefect_calendly.event_types import get_event_type_via
from prefect_calendly.resource import Items, Resource, Time, check_choice, check_email, check_sort, zone_names
from prefect_calendly.scheduled_events import Cancellation, list_scheduled_events_via
from prefect_calendly.tasks import make_tasks
from prefect_calendly.users import User, get_current_user_via

G = TypeVar("G", bound=BaseModel)

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
# The older route has the names of scheduled events.
_ALIASES_OF_EVENT_TYPE_ROUTE = ("zoom", "gotomeeting")


class QuestionAndAnswer(Resource):
    """An answer on the booking form."""

    question: str
    answer: str
    position: int


class AnswerByUuid(Resource):
    """An answer on the booking form of the older route."""

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
    """The mark of an invitee who did not come."""

    uri: str
    created_at: Time | None = None


class Reconfirmation(Resource):
    """Whether an invitee confirmed again."""

    created_at: Time | None = None
    confirmed_at: Time | None = None


class Invitee(Resource):
    """Somebody who booked an event."""

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
    """True on the old invitee of a booking that was moved."""
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
        credentials: Whose Calendly to use.
        event: URI, uuid or model of the event.
        status: `active` or `canceled`; both by default.
        email: Only those with this address.
        sort: `created_at:asc` (the default) or `created_at:desc`.
        count: Items per request, 1 to 100.
        page_token: Where to start, from an earlier answer.
        limit: Return at most that many; all by default.

    Returns:
        The invitees.

    Raises:
        ValueError: `event` is none, or an argument is out of range.
        CalendlyError: See `prefect_calendly.client.errors`.

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
        credentials: Whose Calendly to use.
        invitee: URI or model; or the bare uuid, with `event`.
        event: URI, uuid or model of the event; needed with a bare uuid only.

    Returns:
        The invitee.

    Raises:
        ValueError: `invitee` or `event` is none.
        CalendlyError: See `prefect_calendly.client.errors`.

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
    """Return the invitees of many events: one task, a bounded number of requests at once.

    An event that cannot be read does not hide the others; a refused key or a missing connection ends it all.

    Source: `GET /scheduled_events/{uuid}/invitees`, for each event.

    Args:
        credentials: Whose Calendly to use.
        events: URIs, uuids or models.
        status: `active` or `canceled`; both by default.
        email: Only those with this address.

    Returns:
        For each event, in the same order, its invitees or its error.

    Raises:
        ValueError: `events` is no list of events, or a filter is out of range; before any request.
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
    """Book an open slot of an event type; invitations and e-mails go out.

    After a lost answer the booking is looked up (same event type, start and address) and never sent again, so that
    nobody gets a second meeting; if the invitee has that slot already, that invitee is returned.

    Source: `POST /invitees`; with `route="event_type"`, `POST /event_types/{uuid}/invitees`.

    Args:
        credentials: Whose Calendly to use; needs a paid plan on older accounts.
        event_type: URI, uuid or model.
        start_time: Aware, any zone; must be an open slot (`list_available_times`).
        email: Address of the invitee.
        timezone: IANA name of the invitee's zone, such as `Europe/Berlin`.
        name: Full name; this or `first_name` is needed.
        first_name: With `last_name`, for forms that split the name.
        last_name: See `first_name`.
        text_reminder_number: Phone number for text reminders, in international form.
        location: Where it takes place, `{"kind": …}` and, for a kind that needs one, `"location"`; one that the event
            type offers. Leave it out where the event type has none, and for round robin.
        questions_and_answers: Answers to the form's questions: `question` (its exact text), `answer`, `position`;
            with `route="event_type"`: `question_uuid`, `answer`.
        tracking: Where the booking came from.
        event_guests: At most 10 further addresses.
        route: `official` is Calendly's documented path; `event_type` the one of the gateway's own documents.

    Returns:
        The invitee; `event` is the URI of the new event.

    Raises:
        ValueError: An argument is missing or out of range; before any request.
        SlotFilledError: Somebody else has that start time.
        PlanRequiredError: The plan has no booking by API.
        UnconfirmedWriteError: The answer was lost, and the booking was not found, or could not be looked up.
        CalendlyError: See `prefect_calendly.client.errors`.

    Example:
        ```python
        from datetime import UTC, datetime, timedelta

        soon = datetime.now(UTC) + timedelta(hours=1)
        event_type = get_event_type(credentials, "CCCCCCCCCCCCCCCC")
        slots = list_available_times(credentials, event_type, start_time=soon, end_time=soon + timedelta(days=31))
        invitee = create_invitee(
            credentials,
            event_type,
            start_time=slots[0].start_time,
            email="bob.smith@example.com",
            name="Bob Smith",
            timezone="America/Los_Angeles",
            location={"kind": event_type.locations[0].kind},
        )
        ```
    """
    event_type_uri = uri_of(event_type, "event_types", "event_type")
    start = utc(start_time, "start_time")
    check_choice(route, ("official", "event_type"), "route")
    kinds = LOCATION_KINDS if route == "official" else (*LOCATION_KINDS, *_ALIASES_OF_EVENT_TYPE_ROUTE)
    _check_booking(email, timezone, name, first_name, location, kinds, event_guests)
    answer_model = QuestionAndAnswer if route == "official" else AnswerByUuid
    answers = [_given(answer_model, item, "questions_and_answers") for item in questions_and_answers]
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
        body["tracking"] = _given(Tracking, tracking, "tracking").model_dump()
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

    return await client.send_once(book, existing)


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
    """Check what can be checked before anything is sent; the texts never repeat a personal detail."""
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


def _given(model: type[G], value: Any, argument: str) -> G:
    """Read a model that the caller gives, whole or as a mapping; a misspelled member is an error, not dropped."""
    try:
        given = model.model_validate(value.model_dump() if isinstance(value, model) else value)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False, include_context=False)[0]
        raise ValueError(f"{argument}: {'.'.join(map(str, first['loc']))}: {first['msg']}") from None
    if given.model_extra:
        known = ", ".join(model.model_fields)
        raise ValueError(f"{argument} has an unknown member {next(iter(given.model_extra))!r}; there are {known}")
    return given


async def _booking(client: CalendlyClient, event_type: str, start: datetime, email: str) -> Invitee | None:
    """Look an active booking up by event type, start and address.

    Raises:
        UnconfirmedWriteError: It was not found where the user may look, and may be where the user may not.
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
