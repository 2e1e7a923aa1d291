"""Polling: find what has happened to bookings since the last run, by a cursor that each run leaves for the next."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import cached_property

from pydantic import Field, ValidationError

from prefect_calendly.bookings.changes import LEAST_OVERLAP, may_hide_changes
from prefect_calendly.bookings.cursor import Cursor, events_to_emit, first_cursor, next_cursor
from prefect_calendly.bookings.listing import SCOPE_HELP, Listing, Scope, list_bookings, owner_uri
from prefect_calendly.bookings.reading import PAYLOAD_HELP, Reading, read_invitees
from prefect_calendly.client import RequestMeter
from prefect_calendly.credentials import CalendlyCredentials
from prefect_calendly.events.event import CalendlyEvent, Payload
from prefect_calendly.runs.forms import Notifier, Parameters, optional_form_field
from prefect_calendly.runs.state import read_state, state_block, state_name
from prefect_calendly.scheduled_events import ScheduledEvent
from prefect_calendly.users import User


class BookingsToPoll(Parameters):
    """Whose bookings to poll, and how closely."""

    scope: Scope = Field(default="user", description=SCOPE_HELP, json_schema_extra={"position": 0})
    look_back_days: int = Field(
        default=1,
        ge=0,
        le=30,
        description="For how many days after an event has begun its changes, such as no-shows, are still found.",
        json_schema_extra={"position": 1},
    )
    recheck: bool = Field(
        default=False,
        description=(
            "Read the invitees of group events and of events that have begun even if Calendly does not show the event "
            "as changed. Finds no-shows; costs a request for each such event."
        ),
        json_schema_extra={"position": 2},
    )
    payload: Payload = Field(default="standard", description=PAYLOAD_HELP, json_schema_extra={"position": 3})
    notify: Notifier = Field(
        default=None,
        description=(
            "Type and name of a saved notification block, such as slack-webhook/ops. It gets a message when a run "
            "fails."
        ),
        json_schema_extra=optional_form_field(4),
    )


class PollReport(Parameters):
    """How a run of polling ended; holds no personal data."""

    seeded: bool = Field(description="Whether this was the first run, which only sets the cursor.")
    events_listed: int = Field(description="Scheduled events that were listed.")
    changed: int = Field(description="Of them, those that have changed, or could not be read last time.")
    invitee_lists: int = Field(description="Of them, those whose invitees were listed.")
    found: int = Field(description="Prefect events of what has happened since the last run.")
    emitted: dict[str, int] = Field(description="Of them, those that were emitted now, by name.")
    already_there: int = Field(description="Of them, those that Prefect had, from a webhook or an earlier run.")
    unreadable: int = Field(
        description="Scheduled events whose invitees could not be listed; the next run tries again."
    )
    updated_since_before: datetime | None = Field(description="From when on this run looked for changes.")
    updated_since: datetime = Field(description="From when on the next run looks for changes.")
    requests: int = Field(description="Requests sent to the gateway.")
    seconds: float = Field(description="How long the run took.")


@dataclass(frozen=True)
class Poll:
    """What a run has found since the cursor of the last one."""

    cursor: Cursor | None
    """None for the first run."""
    listing: Listing
    changed: Collection[ScheduledEvent]
    reading: Reading

    @cached_property
    def events_to_emit(self) -> list[CalendlyEvent]:
        """The Prefect events to emit: each once, the oldest first."""
        if self.cursor is None:
            return []
        return events_to_emit(self.reading.events, self.cursor, self.listing.started_at)

    @cached_property
    def next_cursor(self) -> Cursor:
        """The cursor for the next run, once all events are emitted."""
        listing, reading = self.listing, self.reading
        if self.cursor is None:
            return first_cursor(listing.events, listing.started_at, listing.seconds)
        return next_cursor(
            self.cursor,
            listing.events,
            reading.unread.keys(),
            reading.inconsistent,
            listing.started_at,
            listing.seconds,
        )

    def report(self, emitted: Collection[CalendlyEvent], meter: RequestMeter, seconds: float) -> PollReport:
        """Return how the run ended.

        Args:
            emitted: The events that Prefect did not have.
            meter: Has counted the requests of the run.
            seconds: How long it took.
        """
        found = len(self.events_to_emit)
        return PollReport(
            seeded=self.cursor is None,
            events_listed=len(self.listing.events),
            changed=len(self.changed),
            invitee_lists=len(self.reading.read),
            found=found,
            emitted=dict(sorted(Counter(event.event for event in emitted).items())),
            already_there=found - len(emitted),
            unreadable=len(self.reading.unread),
            updated_since_before=self.cursor.updated_since if self.cursor else None,
            updated_since=self.next_cursor.updated_since,
            requests=meter.requests,
            seconds=round(seconds, 2),
        )


def cursor_name(credentials: CalendlyCredentials, user: User, scope: Scope) -> str:
    """Return the name of the state that holds the cursor: one for each gateway, account and scope."""
    return state_name("poll", credentials.gateway_url, owner_uri(user, scope), scope)


async def read_cursor(name: str) -> Cursor | None:
    """Return the cursor that the last run has left; None for the first run.

    Raises:
        ValueError: Somebody has changed the block that holds it.
    """
    try:
        return await read_state(name, Cursor)
    except ValidationError:
        raise ValueError(
            f"the block {state_block(name)} does not hold what this flow has written there: delete the block, and the "
            "next run starts over (reconcile_bookings finds what is missed meanwhile)"
        ) from None


async def find_changes(
    credentials: CalendlyCredentials, user: User, polling: BookingsToPoll, cursor: Cursor | None, meter: RequestMeter
) -> Poll:
    """List the scheduled events, and read the invitees of those that have changed since the cursor.

    Args:
        credentials: Whose Calendly to use; for the whole organization, an owner's or admin's.
        user: The user of these credentials.
        polling: Whose bookings to look at, and how closely.
        cursor: What the last run has left; None for the first run, which reads no invitees.
        meter: Counts the requests of this run, for the progress.

    Raises:
        CalendlyError: The events could not be listed.
    """
    now = datetime.now(UTC)
    # An event that was booked since the last run may have begun since.
    since = min(now, cursor.list_from if cursor else now) - timedelta(days=polling.look_back_days) - LEAST_OVERLAP

    def to_read(event: ScheduledEvent) -> bool:
        if cursor is None:
            return False
        return cursor.has_changed(event) or (polling.recheck and may_hide_changes(event, now))

    listing = await list_bookings(credentials, polling.scope, owner_uri(user, polling.scope), since, to_read)
    reading = await read_invitees(
        credentials,
        listing.chosen,
        organization=user.current_organization,
        payload=polling.payload,
        source="poll",
        meter=meter,
    )
    changed = [event for event in listing.chosen if cursor is not None and cursor.has_changed(event)]
    return Poll(cursor, listing, changed, reading)
