"""Events that need not be looked at again, because a run before has found them harmless and nothing has changed."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from datetime import datetime, timedelta
from typing import Final

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

# Together they fit into a variable: 5,000 characters.
_MOST_SEEN: Final = 300
_MOST_AGAIN: Final = 80


class Harmless(Parameters):
    """What a successful run has looked at, and found nothing in that it left to the next one."""

    since: AwareDatetime
    """Events that begin from here on …"""
    until: AwareDatetime
    """… and before this were listed."""
    updated_since: AwareDatetime
    """Changes before are known; in Calendly's own time."""
    all_read_at: AwareDatetime
    """When every event was last read, known or not; by the own clock."""
    seen: tuple[str, ...] = ()
    """Marks of harmless events as they were, of which the time of the last change alone says too little."""
    again: tuple[str, ...] = ()
    """Marks of events to look at again, whatever their last change."""

    def knows(self, event: ScheduledEvent) -> bool:
        """Say whether an event is harmless."""
        if not self.since <= event.start_time < self.until or fingerprint(event.uri) in self.again:
            return False
        if event.updated_at < self.updated_since and not is_shared(event):
            return True
        return _mark_as_it_is(event) in self.seen


def to_read(
    events: Iterable[ScheduledEvent], known: Harmless | None, listed_at: datetime, all_after: timedelta
) -> list[ScheduledEvent]:
    """Return the events whose invitees are to be listed.

    Args:
        events: All events that were listed.
        known: What an earlier run has found; None if there was none.
        listed_at: When the listing began.
        all_after: How long after all were read, all are read again: should Calendly change an event without
            saying so, it is seen then.
    """
    if known is None or not known.all_read_at <= listed_at < known.all_read_at + all_after:
        return list(events)
    return [event for event in events if not known.knows(event)]


def after_reading(
    listed: Sequence[ScheduledEvent],
    read: Collection[ScheduledEvent],
    not_harmless: Collection[str],
    known: Harmless | None,
    *,
    window: tuple[datetime, datetime],
    listed_at: datetime,
    seconds: float,
) -> Harmless:
    """Return what the next run need not look at again, if this one does what it has decided.

    Args:
        listed: All events that were listed.
        read: Those whose invitees were listed.
        not_harmless: URIs of those about which something was decided.
        known: What an earlier run has found.
        window: When the listed events begin: from when on, and before when.
        listed_at: When the listing began, by the own clock.
        seconds: How long it took.
    """
    # Whichever clock is behind: a change that is looked at twice costs a request.
    newest = newest_change(listed, listed_at) or listed_at - CLOCKS_DIFFER
    updated_since = min(newest, listed_at) - overlap(seconds)
    harmless = [event for event in listed if event.uri not in not_harmless]
    doubtful = [event for event in harmless if is_shared(event) or event.updated_at >= updated_since]
    doubtful.sort(key=lambda event: event.updated_at, reverse=True)
    return Harmless(
        since=window[0],
        until=window[1],
        updated_since=updated_since,
        all_read_at=listed_at if known is None or len(read) == len(listed) else known.all_read_at,
        seen=tuple(map(_mark_as_it_is, doubtful[:_MOST_SEEN])),
    )


def left_over(known: Harmless, uris: Collection[str]) -> Harmless | None:
    """Note events that are to be looked at again; None if they are too many to be noted."""
    if len(uris) > _MOST_AGAIN:
        return None
    return known.model_copy(update={"again": tuple(map(fingerprint, uris))})


def _mark_as_it_is(event: ScheduledEvent) -> str:
    # Whoever joins a group raises the total, also after somebody else has left it.
    counter = event.invitees_counter
    return fingerprint(f"{fingerprint_of_change(event)} {counter.total} {counter.active}")
