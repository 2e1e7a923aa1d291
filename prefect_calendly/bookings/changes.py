"""How a change of a scheduled event is recognized, and how far back to look for changes.

Calendly does not list changes: a run lists all events of a window, and reads only those that have changed.
"""

from __future__ import annotations

import hashlib
from base64 import urlsafe_b64encode
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from typing import Final

from prefect_calendly.scheduled_events import ScheduledEvent

CLOCKS_DIFFER: Final = timedelta(hours=1)
"""By how much at most. A time further ahead is a mistake: were it believed, nothing would be new until then."""

# Another page, or another server of Calendly, may show a change a little later.
LEAST_OVERLAP: Final = timedelta(minutes=5)


def overlap(seconds: float) -> timedelta:
    """Return how far back a run looks for changes that the run before may not have seen.

    Args:
        seconds: How long the listing of the run before took.
    """
    return max(LEAST_OVERLAP, timedelta(seconds=2 * seconds))


def newest_change(events: Iterable[ScheduledEvent], now: datetime) -> datetime | None:
    """Return when the last change of some events was, by Calendly's clock; None if there are no events."""
    times = (event.updated_at for event in events)
    return max((each for each in times if each <= now + CLOCKS_DIFFER), default=None)


def fingerprint(text: str) -> str:
    """Return eight characters that stand for a text: short enough to be kept by the thousand, and anonymous."""
    return urlsafe_b64encode(hashlib.sha256(text.encode()).digest()[:6]).decode()


def fingerprint_of_change(event: ScheduledEvent) -> str:
    """Return the fingerprint of an event as it is after its last change."""
    return fingerprint(f"{event.uri} {event.updated_at.astimezone(UTC).isoformat()}")


def is_shared(event: ScheduledEvent) -> bool:
    """Say whether several people can book, or have booked, an event.

    Calendly does not document whether `updated_at` changes when somebody joins or leaves a group event.
    """
    return event.invitees_counter.limit > 1 or event.invitees_counter.total > 1


def may_hide_changes(event: ScheduledEvent, until: datetime) -> bool:
    """Say whether something may have happened to the invitees of an event although its `updated_at` is older.

    Calendly does not document whether `updated_at` changes with a no-show mark, or with a group.

    Args:
        event: The event.
        until: End of the time in question (aware): no-shows are marked once an event has begun.
    """
    return event.start_time <= until or is_shared(event)
