"""The invitees of scheduled events, and the Prefect events that follow from them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Final

from prefect_calendly.bookings.changes import may_hide_changes
from prefect_calendly.bookings.listing import Listing, Scope, list_bookings, owner_uri
from prefect_calendly.client import RequestMeter
from prefect_calendly.client.errors import CalendlyError, InvalidAnswerError
from prefect_calendly.client.identifiers import uuid_of
from prefect_calendly.credentials import CalendlyCredentials
from prefect_calendly.events.event import CalendlyEvent, Payload, Source, UnstorableEventError
from prefect_calendly.events.invitees import events_of_invitee
from prefect_calendly.invitees import Invitee, alist_invitees_of_events
from prefect_calendly.runs.forms import Parameters
from prefect_calendly.runs.markdown import escape, pluralize, short_error
from prefect_calendly.runs.progress import progress
from prefect_calendly.scheduled_events import ScheduledEvent
from prefect_calendly.users import User

PROGRESS_KEY: Final = "reading-bookings-progress"
PAYLOAD_HELP: Final = (
    "What the events hold. standard leaves out answers, telephone numbers, reasons and links to join or cancel; full "
    "has everything."
)

# An event that began so long before a window is listed too: its no-shows may be marked in the window.
_NO_SHOWS_WITHIN: Final = timedelta(days=1)
_EVENTS_PER_TASK: Final = 1_000
_MOST_PROBLEMS: Final = 10


class BookingsUnreadableError(Exception):
    """The invitees of some events could not be listed; all others were handled. `report` says how the run ended."""

    def __init__(self, message: str, report: Parameters | None = None) -> None:
        super().__init__(message)
        self.report = report


@dataclass
class Reading:
    """What the invitees of some scheduled events show."""

    events: list[CalendlyEvent] = field(default_factory=list)
    """The Prefect events of all invitees that were listed."""
    read: set[str] = field(default_factory=set)
    """URIs of the scheduled events whose invitees were listed."""
    unread: dict[str, CalendlyError] = field(default_factory=dict)
    """Why the invitees of scheduled events could not be listed, or make no events, by URI."""
    inconsistent: set[str] = field(default_factory=set)
    """URIs of those scheduled events whose invitees do not match their own counter."""

    @property
    def problems(self) -> list[str]:
        """What could not be read, in a few lines of markdown."""
        lines = [
            f"{uuid_of(uri, 'scheduled_events', 'event')}: {escape(short_error(error))}"
            for uri, error in self.unread.items()
        ]
        more = len(lines) - _MOST_PROBLEMS
        return lines[:_MOST_PROBLEMS] + ([f"and {more} more"] if more > 0 else [])


async def read_invitees(
    credentials: CalendlyCredentials,
    events: Sequence[ScheduledEvent],
    *,
    organization: str,
    payload: Payload,
    source: Source,
    meter: RequestMeter,
) -> Reading:
    """List the invitees of scheduled events, and make the Prefect events of what has happened to them.

    Args:
        credentials: Whose Calendly to use.
        events: The scheduled events, in full.
        organization: URI of their organization.
        payload: What the Prefect events hold.
        source: Value of their label `calendly.source`.
        meter: Counts the requests of this run, for the progress.

    Returns:
        What was read. An event whose invitees cannot be listed is noted there, and does not stop the others.
    """
    reading = Reading()
    async with progress(PROGRESS_KEY, f"Reading the invitees of {pluralize(len(events), 'event')}", meter, len(events)):
        for first in range(0, len(events), _EVENTS_PER_TASK):
            batch = events[first : first + _EVENTS_PER_TASK]
            # URIs instead of models: Prefect walks through all arguments of a task.
            found = await alist_invitees_of_events(credentials, [event.uri for event in batch])
            for event, its in zip(batch, found, strict=True):
                if its.error is not None:
                    reading.unread[event.uri] = its.error
                    continue
                reading.read.add(event.uri)
                if not is_consistent(event, its.invitees):
                    reading.inconsistent.add(event.uri)
                for invitee in its.invitees:
                    try:
                        reading.events += events_of_invitee(
                            invitee, event, payload=payload, organization=organization, source=source
                        )
                    except UnstorableEventError as error:
                        reading.unread[event.uri] = InvalidAnswerError(f"An invitee makes no event: {error}")
    return reading


def is_consistent(event: ScheduledEvent, invitees: Sequence[Invitee]) -> bool:
    """Say whether an event's invitees match its counter: they were listed later, and maybe from another server."""
    counter, active = event.invitees_counter, sum(invitee.status != "canceled" for invitee in invitees)
    return len(invitees) >= counter.total and active <= counter.active


async def read_window(
    credentials: CalendlyCredentials,
    user: User,
    *,
    scope: Scope,
    since: datetime,
    until: datetime,
    payload: Payload,
    source: Source,
    meter: RequestMeter,
) -> tuple[Listing, Reading]:
    """Read everything that can have happened to bookings in a window, and perhaps more.

    Args:
        credentials: Whose Calendly to use; for the organization, an owner's or admin's.
        user: The user of these credentials.
        scope: The user's own events, or the organization's.
        since: Start of the window (aware).
        until: End of the window (aware).
        payload: What the Prefect events hold.
        source: Value of their label `calendly.source`.
        meter: Counts the requests of this run, for the progress.

    Returns:
        The scheduled events that were listed, and what the invitees of some of them show.

    Raises:
        CalendlyError: The events could not be listed.
    """

    def may_have_changed(event: ScheduledEvent) -> bool:
        return event.updated_at >= since or may_hide_changes(event, until)

    listing = await list_bookings(
        credentials, scope, owner_uri(user, scope), since - _NO_SHOWS_WITHIN, may_have_changed
    )
    reading = await read_invitees(
        credentials,
        listing.chosen,
        organization=user.current_organization,
        payload=payload,
        source=source,
        meter=meter,
    )
    return listing, reading


def in_window(occurred: datetime, since: datetime, until: datetime | None) -> bool:
    """Say whether a time is in a window, whose end is exclusive; None is an open end."""
    return since <= occurred and (until is None or occurred < until)
