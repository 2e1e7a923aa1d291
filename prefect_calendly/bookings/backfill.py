"""Backfill: emit the events of a window that Prefect does not have, for a time without webhooks."""

from __future__ import annotations

import time
from datetime import UTC, datetime, timedelta

from pydantic import Field

from prefect_calendly.bookings.changes import CLOCKS_DIFFER
from prefect_calendly.bookings.cursor import REMEMBERED
from prefect_calendly.bookings.listing import Scope
from prefect_calendly.bookings.reading import in_window, read_window
from prefect_calendly.client import count_requests
from prefect_calendly.credentials import CalendlyCredentials
from prefect_calendly.events.emit import emit_events
from prefect_calendly.events.event import Payload, Source
from prefect_calendly.runs.forms import Parameters
from prefect_calendly.runs.logger import run_logger
from prefect_calendly.runs.markdown import pluralize
from prefect_calendly.users import aget_current_user


class BackfillReport(Parameters):
    """What a backfill has found and emitted; holds no personal data."""

    found: int = Field(description="Prefect events of the window that follow from what Calendly shows.")
    emitted: int = Field(description="Of them, those that Prefect did not have, and that were emitted now.")
    already_there: int = Field(description="Of them, those that Prefect had.")
    unreadable: int = Field(description="Scheduled events whose invitees could not be listed; theirs are not emitted.")
    events_listed: int = Field(description="Scheduled events that were listed.")
    invitee_lists: int = Field(description="Scheduled events whose invitees were listed.")
    requests: int = Field(description="Requests sent to the gateway.")
    seconds: float = Field(description="How long the backfill took.")


async def backfill(
    credentials: CalendlyCredentials,
    *,
    scope: Scope,
    since: datetime,
    until: datetime | None = None,
    payload: Payload = "standard",
    source: Source = "backfill",
) -> BackfillReport:
    """Emit the events of everything that happened to bookings in a window, as far as Prefect does not have them.

    To be called inside a flow, for a time in which webhooks were not delivered. Safe to repeat, and beside webhooks and
    polling, whose cursor it does not move. A backfill cannot detect a removed no-show.

    Args:
        credentials: Whose Calendly to use; for the whole organization, an owner's or admin's.
        scope: The user's own events, or the whole organization's.
        since: Start of the window (aware), at most 6 days ago.
        until: End of the window (aware), exclusive; open by default.
        payload: What the events hold, as for `events_of_invitee`.
        source: Value of their label `calendly.source`.

    Returns:
        What was found and emitted; `unreadable` counts scheduled events whose invitees could not be listed.

    Raises:
        ValueError: A time is naive or too long ago, or `until` is not after `since`; no request was sent.
        CalendlyError: The scheduled events could not be listed; nothing was emitted.
        EventsNotStoredError: Prefect accepted some events and does not show them.

    Example:
        ```python
        from datetime import UTC, datetime, timedelta

        from prefect import flow

        @flow
        async def after_an_outage(credentials: CalendlyCredentials) -> BackfillReport:
            since = datetime.now(UTC) - timedelta(hours=30)
            return await backfill(credentials, scope="organization", since=since)
        ```
    """
    began = time.monotonic()
    check_window(since, until)
    with count_requests() as meter:
        user = await aget_current_user(credentials)
        listing, reading = await read_window(
            credentials,
            user,
            scope=scope,
            since=since,
            until=until or datetime.now(UTC) + CLOCKS_DIFFER,
            payload=payload,
            source=source,
            meter=meter,
        )
        found = {event.id: event for event in reading.events if in_window(event.occurred, since, until)}
        emitted = await emit_events(sorted(found.values(), key=lambda event: event.occurred))
    run_logger().info(
        "Backfill since %s: %s found, %s of them emitted, the invitees of %s could not be listed; %s",
        f"{since.astimezone(UTC):%Y-%m-%d %H:%M} UTC",
        pluralize(len(found), "event"),
        len(emitted),
        pluralize(len(reading.unread), "booking"),
        pluralize(meter.requests, "request"),
    )
    return BackfillReport(
        found=len(found),
        emitted=len(emitted),
        already_there=len(found) - len(emitted),
        unreadable=len(reading.unread),
        events_listed=len(listing.events),
        invitee_lists=len(reading.read),
        requests=meter.requests,
        seconds=round(time.monotonic() - began, 2),
    )


def check_window(since: datetime, until: datetime | None) -> None:
    """Make sure that the events of a window can still be emitted once.

    Raises:
        ValueError: A time is naive or too long ago, or the end is not after the start.
    """
    for name, each in (("since", since), ("until", until)):
        if each is not None and each.utcoffset() is None:
            raise ValueError(f"{name} must have a time zone, such as datetime.now(UTC)")
    if since < datetime.now(UTC) - REMEMBERED - timedelta(minutes=1):
        raise ValueError(
            f"since must be at most {REMEMBERED.days} days ago: Prefect deletes events after 7 days, and would store "
            "what it has deleted a second time. Read older bookings from Calendly itself"
        )
    if until is not None and until <= since:
        raise ValueError("until must be after since")
