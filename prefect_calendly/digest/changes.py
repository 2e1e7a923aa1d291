"""What is different from the previous digest. No I/O."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from zoneinfo import ZoneInfo

from prefect_calendly.digest.model import Digest, Host


@dataclass(frozen=True, slots=True)
class Changes:
    """What is different from the previous digest, for hosts that could be read completely in both."""

    since: datetime
    """When the previous digest was made."""
    no_longer_bookable: tuple[Host, ...]
    """Had open slots, and have none now."""
    bookable_again: tuple[Host, ...]
    """Had no open slots, and have some now."""
    slot_changes: tuple[tuple[Host, int], ...]
    """More or fewer open slots on the days of both digests, the largest loss first. Today is left out, where slots
    are lost by time passing."""


def compare(digest: Digest, previous: Mapping[str, Mapping[str, int]], since: datetime) -> Changes:
    """Compare a digest with the previous one.

    Args:
        digest: The new digest.
        previous: Open slots of the previous one, by host (uuid) and date (ISO 8601).
        since: When the previous one was made (aware).

    Returns:
        The changes.
    """
    today = digest.made_at.astimezone(ZoneInfo(digest.timezone)).date()
    no_longer_bookable, bookable_again, slot_changes = [], [], []
    for entry in digest.hosts:
        before = previous.get(entry.host.uuid)
        if before is None or not entry.is_complete:
            continue
        had_slots = any(before.values())
        if had_slots and entry.has_no_slots:
            no_longer_bookable.append(entry.host)
        if not had_slots and not entry.has_no_slots:
            bookable_again.append(entry.host)
        difference = sum(
            day.open_slots - before[day.date.isoformat()]
            for day in entry.days
            if day.date > today and day.date.isoformat() in before
        )
        if difference:
            slot_changes.append((entry.host, difference))
    slot_changes.sort(key=lambda item: item[1])
    return Changes(since, tuple(no_longer_bookable), tuple(bookable_again), tuple(slot_changes))
