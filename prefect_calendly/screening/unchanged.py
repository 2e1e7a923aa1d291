"""The cursor of a scan: events that an earlier scan has read and kept, and that have not changed since."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from datetime import datetime, timedelta

from pydantic import AwareDatetime

from prefect_calendly.bookings.changes import (
    CLOCKS_DIFFER,
    fingerprint,
    fingerprint_of_change,
    is_shared,
    newest_change,
    overlap,
)
from prefect_calendly.runs.forms import Parameters
from prefect_calendly.scheduled_events import ScheduledEvent


class Unchanged(Parameters):
    """What a scan has read, if its plan was carried out."""

    since: AwareDatetime
    """Events that begin from here on …"""
    until: AwareDatetime
    """… and before this were listed."""
    updated_since: AwareDatetime
    """Earlier changes are known; in Calendly's own time."""
    all_read_at: AwareDatetime
    """When every event was last read, by our own clock."""
    seen: frozenset[str] = frozenset()
    """Fingerprints of events whose `updated_at` alone does not tell of a change: shared or recent ones."""
    rescan: frozenset[str] = frozenset()
    """Fingerprints of the URIs of events to read again, changed or not."""

    def has(self, event: ScheduledEvent) -> bool:
        """Say whether an event was read and kept, and has not changed since."""
        if not self.since <= event.start_time < self.until or fingerprint(event.uri) in self.rescan:
            return False
        if event.updated_at < self.updated_since and not is_shared(event):
            return True
        return _fingerprint(event) in self.seen


def events_to_scan(
    events: Iterable[ScheduledEvent], known: Unchanged | None, listed_at: datetime, full_scan_after: timedelta
) -> list[ScheduledEvent]:
    """Return the events whose invitees must be listed.

    Args:
        events: All events that were listed.
        known: The cursor of the last scan; None if there was none.
        listed_at: When the listing began.
        full_scan_after: How long after the last full scan every event is read again: a change that Calendly does
            not show is found then.
    """
    if known is None or not known.all_read_at <= listed_at < known.all_read_at + full_scan_after:
        return list(events)
    return [event for event in events if not known.has(event)]


def next_cursor(
    listed: Sequence[ScheduledEvent],
    read: Collection[ScheduledEvent],
    not_kept: Collection[str],
    known: Unchanged | None,
    *,
    window: tuple[datetime, datetime],
    listed_at: datetime,
    seconds: float,
) -> Unchanged:
    """Return the cursor for the next scan, on condition that this one's plan is carried out.

    Args:
        listed: All events that were listed.
        read: Those whose invitees were listed.
        not_kept: URIs of those that are to be canceled or reported, or could not be read.
        known: The cursor of the last scan.
        window: When the listed events begin: from when on, and before when.
        listed_at: When the listing began, by our own clock.
        seconds: How long it took.
    """
    # Whichever clock is behind: a change that is read twice costs one request.
    newest = newest_change(listed, listed_at) or listed_at - CLOCKS_DIFFER
    updated_since = min(newest, listed_at) - overlap(seconds)
    kept = [event for event in listed if event.uri not in not_kept]
    return Unchanged(
        since=window[0],
        until=window[1],
        updated_since=updated_since,
        all_read_at=listed_at if known is None or len(read) == len(listed) else known.all_read_at,
        seen=frozenset(_fingerprint(event) for event in kept if is_shared(event) or event.updated_at >= updated_since),
    )


def with_rescan(cursor: Unchanged, uris: Iterable[str]) -> Unchanged:
    """Note events that the next scan must read, changed or not.

    Args:
        cursor: The cursor for the next scan.
        uris: URIs of the events.
    """
    return cursor.model_copy(update={"rescan": frozenset(map(fingerprint, uris))})


def _fingerprint(event: ScheduledEvent) -> str:
    # Whoever joins a group raises the total, also after somebody else has left it.
    counter = event.invitees_counter
    return fingerprint(f"{fingerprint_of_change(event)} {counter.total} {counter.active}")
