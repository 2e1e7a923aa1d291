"""What has changed in Calendly since the last run.

Calendly lists no changes: all events of a window are listed, and only those that have changed are read.
"""

from __future__ import annotations

import hashlib
from base64 import urlsafe_b64encode
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from typing import Final

from prefect_calendly.scheduled_events import ScheduledEvent

CLOCKS_DIFFER: Final = timedelta(hours=1)
"""By how much. A time that is further ahead is a mistake: were it believed, nothing would be new until then."""

# A change is seen a little later in another page, or by another server of Calendly.
LEAST_OVERLAP: Final = timedelta(minutes=5)


def overlap(seconds: float) -> timedelta:
    """Return how far two runs' looks at changes overlap, after a listing that took some seconds."""
    return max(LEAST_OVERLAP, timedelta(seconds=2 * seconds))


def newest_change(events: Iterable[ScheduledEvent], now: datetime) -> datetime | None:
    """Return when the last change of some events was, in Calendly's own time; None if there are no events."""
    times = (event.updated_at for event in events)
    return max((each for each in times if each <= now + CLOCKS_DIFFER), default=None)


def fingerprint(text: str) -> str:
    """Return eight letters that stand for a text: what is kept has to be short, and names nobody."""
    return urlsafe_b64encode(hashlib.sha256(text.encode()).digest()[:6]).decode()


def fingerprint_of_change(event: ScheduledEvent) -> str:
    """Return a mark of an event as it is after its last change."""
    return fingerprint(f"{event.uri} {event.updated_at.astimezone(UTC).isoformat()}")


def is_shared(event: ScheduledEvent) -> bool:
    """Say whether several can book or have booked an event.

    Calendly does not say whether somebody who joins or leaves a group changes the event's `updated_at`.
    """
    return event.invitees_counter.limit > 1 or event.invitees_counter.total > 1
