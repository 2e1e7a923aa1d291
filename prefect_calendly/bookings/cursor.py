"""How far polling has come: what the next run reads, and which events it emits. Nothing here sends a request."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from datetime import datetime, timedelta
from typing import Final

from pydantic import AwareDatetime

from prefect_calendly.bookings.changes import (
    CLOCKS_DIFFER,
    fingerprint,
    fingerprint_of_change,
    newest_change,
    overlap,
)
from prefect_calendly.events.event import CalendlyEvent
from prefect_calendly.runs.forms import Parameters
from prefect_calendly.scheduled_events import ScheduledEvent

REMEMBERED: Final = timedelta(days=6)
"""How old an event may be to be emitted. Prefect deletes events after 7 days, and would then store it again."""


class Cursor(Parameters):
    """How far polling has come, by Calendly's clock; saved after each run for the next one."""

    seeded_at: AwareDatetime
    """Changes after this time are emitted, changes before it never."""
    updated_since: AwareDatetime
    """All changes before this time have been emitted."""
    listed_at: AwareDatetime
    """When the last listing began, by our own clock."""
    list_from: AwareDatetime
    """Events that begin from here on were listed, or have to be listed again; by our own clock."""
    done: frozenset[str] = frozenset()
    """Fingerprints of the changes since `updated_since` that have been emitted."""
    retry: frozenset[str] = frozenset()
    """Fingerprints of the events that could not be read, and are read again as long as Prefect remembers."""

    def has_changed(self, event: ScheduledEvent) -> bool:
        """Say whether to read an event: it has changed since, or could not be read last time."""
        if self.retry and fingerprint(event.uri) in self.retry:
            return True
        since = event.updated_at >= self.updated_since and event.updated_at > self.seeded_at
        return since and fingerprint_of_change(event) not in self.done


def first_cursor(listed: Iterable[ScheduledEvent], listed_at: datetime, seconds: float) -> Cursor:
    """Return the cursor of a first run, which emits nothing.

    Args:
        listed: All events that were listed.
        listed_at: When the listing began, by our own clock.
        seconds: How long it took.
    """
    earliest = listed_at - CLOCKS_DIFFER
    # In an account without recent changes, older ones could not all be found: their events may have begun.
    start = max(newest_change(listed, listed_at) or earliest, earliest)
    return Cursor(seeded_at=start, updated_since=start - overlap(seconds), listed_at=listed_at, list_from=listed_at)


def events_to_emit(events: Iterable[CalendlyEvent], cursor: Cursor, now: datetime) -> list[CalendlyEvent]:
    """Return the events to emit: each once, the oldest first.

    Not those from before the first run, and not those so old that Prefect may have stored and deleted them since an
    earlier run emitted them.

    Args:
        events: The events of all invitees that were read.
        cursor: The cursor that the run started from.
        now: The time, by our own clock.
    """
    since = min(now - REMEMBERED, cursor.listed_at - CLOCKS_DIFFER)
    wanted = {each.id: each for each in events if each.occurred > cursor.seeded_at and each.occurred >= since}
    return sorted(wanted.values(), key=lambda each: each.occurred)


def next_cursor(
    cursor: Cursor,
    listed: Sequence[ScheduledEvent],
    unread: Collection[str],
    inconsistent: Collection[str],
    listed_at: datetime,
    seconds: float,
) -> Cursor:
    """Return the cursor for the next run, once all events of this one are emitted.

    Args:
        cursor: The cursor that the run started from.
        listed: All events that were listed.
        unread: URIs of those whose invitees could not be listed; the next run tries again.
        inconsistent: URIs of those whose invitees did not match; they are read again for a while.
        listed_at: When the listing began, by our own clock.
        seconds: How long it took.
    """
    since = cursor.updated_since
    newest = newest_change(listed, listed_at)
    if newest is not None:
        since = max(since, newest - overlap(seconds))
    recent = [event for event in listed if event.updated_at >= since and event.updated_at > cursor.seeded_at]
    # Older ones are given up: their events are too old to be emitted.
    failed = [event for event in listed if event.uri in unread and event.updated_at >= listed_at - REMEMBERED]
    return Cursor(
        seeded_at=cursor.seeded_at,
        updated_since=since,
        listed_at=listed_at,
        # What could not be read is listed again, even when it has begun.
        list_from=min([listed_at, *(event.start_time for event in failed)]),
        done=frozenset(
            fingerprint_of_change(event)
            for event in recent
            if event.uri not in unread and event.uri not in inconsistent
        ),
        retry=frozenset(fingerprint(event.uri) for event in failed),
    )
