"""Scheduled events: meetings that were booked."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import datetime
from typing import Any, Literal

from prefect_calendly.client import CalendlyClient
from prefect_calendly.client.errors import AlreadyCanceledError, BadRequestError, CalendlyError, InvalidAnswerError
from prefect_calendly.client.identifiers import Reference, filled_path, optional_uris, uuid_of
from prefect_calendly.client.times import wire_time
from prefect_calendly.resource import Items, Resource, Time, check_choice, check_email, check_order, check_sort
from prefect_calendly.tasks import make_tasks

LONGEST_REASON = 10_000


class Cancellation(Resource):
    """Who canceled an event or an invitee, and why."""

    canceled_by: str | None = None
    reason: str | None = None
    canceler_type: Literal["host", "invitee"] | str | None = None
    created_at: Time | None = None


class EventLocation(Resource):
    """Where an event takes place; `type` says which other members there are."""

    type: (
        Literal[
            "physical",
            "ask_invitee",
            "custom",
            "inbound_call",
            "outbound_call",
            "google_conference",
            "zoom",
            "gotomeeting",
            "microsoft_teams_conference",
            "webex_conference",
        ]
        | str
    )
    location: str | None = None
    additional_info: str | None = None
    status: Literal["initiated", "processing", "pushed", "failed"] | str | None = None
    join_url: str | None = None
    data: dict[str, Any] | None = None


class InviteesCounter(Resource):
    """How many invitees an event has and can have."""

    total: int
    active: int
    limit: int


class EventMembership(Resource):
    """A host of an event."""

    user: str
    user_email: str | None = None
    user_name: str | None = None
    buffered_start_time: Time | None = None
    buffered_end_time: Time | None = None


class EventGuest(Resource):
    """A guest of an invitee."""

    email: str
    created_at: Time | None = None
    updated_at: Time | None = None


class CalendarEvent(Resource):
    """The same event in the host's own calendar."""

    kind: Literal["exchange", "google", "icloud", "outlook", "outlook_desktop"] | str
    external_id: str | None = None


class ScheduledEvent(Resource):
    """A meeting that was booked."""

    uri: str
    name: str | None = None
    meeting_notes_plain: str | None = None
    meeting_notes_html: str | None = None
    status: Literal["active", "canceled"] | str
    start_time: Time
    end_time: Time
    event_type: str | None = None
    location: EventLocation | None = None
    invitees_counter: InviteesCounter
    created_at: Time
    updated_at: Time
    event_memberships: tuple[EventMembership, ...]
    event_guests: Items[EventGuest] = ()
    calendar_event: CalendarEvent | None = None
    cancellation: Cancellation | None = None


async def list_scheduled_events_via(
    client: CalendlyClient,
    *,
    user: Reference | None = None,
    organization: Reference | None = None,
    group: Reference | None = None,
    invitee_email: str | None = None,
    status: Literal["active", "canceled"] | None = None,
    min_start_time: datetime | None = None,
    max_start_time: datetime | None = None,
    sort: str | None = None,
    count: int = 100,
    page_token: str | None = None,
    limit: int | None = None,
) -> AsyncIterator[ScheduledEvent]:
    """Return the scheduled events of a user, an organization or a group.

    Source: `GET /scheduled_events`.

    Args:
        credentials: The Calendly account to use.
        user: Only events of this user; for another user than the credentials' own, give `organization` too.
        organization: Only events of this organization; all of its events are for owners and admins only.
        group: Only events of this group; give `organization` too.
        invitee_email: Only events with an invitee of this address.
        status: `active` or `canceled`; both by default.
        min_start_time: Only events that start at this time (aware, any zone) or later.
        max_start_time: Only events that start before this time (aware, any zone).
        sort: `start_time:asc` or `start_time:desc`.
        count: Items per page, 1 to 100.
        page_token: Where to start: the token of an earlier answer to the same call, with the same `count`.
        limit: Return at most this many items; all by default.

    Returns:
        The events.

    Raises:
        ValueError: No owner is given, a time is naive, or an argument is out of range.
        CalendlyError: The call failed; see `prefect_calendly.client.errors`.

    Example:
        ```python
        from datetime import UTC, datetime

        events = list_scheduled_events(
            credentials, user="AAAAAAAAAAAAAAAA", status="active", min_start_time=datetime.now(UTC)
        )
        ```
    """
    if user is None and organization is None and group is None:
        raise ValueError("give `user`, `organization` or `group`")
    if group is not None and organization is None:
        raise ValueError("`group` needs `organization` too")
    check_email(invitee_email, "invitee_email")
    check_choice(status, ("active", "canceled"), "status")
    check_sort(sort, ("start_time",))
    check_order(min_start_time, max_start_time, "min_start_time", "max_start_time")
    filters = optional_uris(user=(user, "users"), organization=(organization, "organizations"), group=(group, "groups"))
    async for event in client.pages(
        "/scheduled_events",
        ScheduledEvent,
        params={
            **filters,
            "invitee_email": invitee_email,
            "status": status,
            "min_start_time": wire_time(min_start_time, "min_start_time"),
            "max_start_time": wire_time(max_start_time, "max_start_time"),
            "sort": sort,
        },
        count=count,
        page_token=page_token,
        limit=limit,
    ):
        yield event


alist_scheduled_events, list_scheduled_events = make_tasks("List scheduled events", list_scheduled_events_via)


async def get_scheduled_event_via(client: CalendlyClient, event: Reference) -> ScheduledEvent:
    """Return one scheduled event.

    Source: `GET /scheduled_events/{uuid}`.

    Args:
        credentials: The Calendly account to use.
        event: URI, uuid or model.

    Returns:
        The event as it is now.

    Raises:
        ValueError: `event` does not name a scheduled event.
        CalendlyError: The call failed; see `prefect_calendly.client.errors`.

    Example:
        ```python
        event = get_scheduled_event(credentials, "DDDDDDDDDDDDDDDD")
        ```
    """
    uuid = uuid_of(event, "scheduled_events", "event")
    return await client.resource(filled_path("/scheduled_events/{uuid}", {"uuid": uuid}), ScheduledEvent)


aget_scheduled_event, get_scheduled_event = make_tasks("Get a scheduled event", get_scheduled_event_via)


async def cancel_scheduled_event_via(
    client: CalendlyClient,
    event: Reference,
    *,
    reason: str | None = None,
    drop_refused_reason: bool = False,
    already_canceled_ok: bool = True,
) -> Cancellation:
    """Cancel a scheduled event for **all** its invitees; Calendly notifies them.

    An event that is already canceled counts as success unless `already_canceled_ok` is off. After a lost answer, the
    state of the event is read before anything is repeated.

    Source: `POST /scheduled_events/{uuid}/cancellation`.

    Args:
        credentials: The Calendly account to use: of a host of the event, or of an owner or admin.
        event: URI, uuid or model of a future event.
        reason: Text for the invitees, at most 10,000 characters.
        drop_refused_reason: Cancel without a reason if Calendly refuses it: some accounts answer 400 to any reason.
        already_canceled_ok: Whether an event that somebody else has canceled counts as success.

    Returns:
        Who canceled it, when and why. If it was already canceled: that cancellation, without members where Calendly
        does not show it.

    Raises:
        ValueError: `event` does not name a scheduled event, or `reason` is too long.
        EventInPastError: The event has begun.
        AlreadyCanceledError: It is already canceled, and `already_canceled_ok` is off.
        UnconfirmedWriteError: The answer was lost, and the state of the event could not be read.
        CalendlyError: The call failed; see `prefect_calendly.client.errors`.

    Example:
        ```python
        user = get_current_user(credentials)
        events = list_scheduled_events(credentials, user=user, status="active", sort="start_time:desc", limit=1)
        cancellation = cancel_scheduled_event(credentials, events[0], reason="Office closed")
        ```
    """
    if reason is not None and (not isinstance(reason, str) or len(reason) > LONGEST_REASON):
        raise ValueError(f"reason must be a text of at most {LONGEST_REASON} characters")
    uuid = uuid_of(event, "scheduled_events", "event")
    path = filled_path("/scheduled_events/{uuid}/cancellation", {"uuid": uuid})

    async def cancel(body: dict[str, str]) -> Cancellation:
        return await client.resource(path, Cancellation, method="POST", json=body)

    async def existing() -> Cancellation | None:
        now = await get_scheduled_event_via(client, uuid)
        return (now.cancellation or Cancellation()) if now.status == "canceled" else None

    async def write() -> Cancellation:
        try:
            return await cancel({"reason": reason} if reason else {})
        except BadRequestError:
            if not (reason and drop_refused_reason):
                raise
            return await cancel({})

    try:
        return await client.confirm_write(write, existing)
    except AlreadyCanceledError as error:
        if not already_canceled_ok:
            raise
        try:
            found = await existing()
        except CalendlyError:  # it is canceled; only who did it is not known
            return Cancellation()
        if found is None:
            raise InvalidAnswerError(
                "Calendly says that the event is already canceled, and shows it as active", method="POST", path=path
            ) from error
        return found


acancel_scheduled_event, cancel_scheduled_event = make_tasks(
    "Cancel a scheduled event", cancel_scheduled_event_via, writes=True
)
