"""Time as the digest needs it: what clocks on walls show as instants, and how much of it falls into a day."""

from __future__ import annotations

import re
from bisect import bisect_right
from collections import Counter
from collections.abc import Iterable, Sequence
from datetime import UTC, date, datetime, timedelta
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from prefect_calendly.availability import AvailabilitySchedule

_WEEKDAYS = ("monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday")

Span = tuple[datetime, datetime]


def instant(day: date, minutes: int, zone: ZoneInfo) -> datetime:
    """Return when a clock on the wall shows a time of a day.

    Args:
        day: The local date.
        minutes: Minutes the clock shows after 00:00; 1440 is the next day's midnight.
        zone: Where the clock hangs.

    Returns:
        The instant in UTC: of a time that comes twice the first; of one that is jumped over, the jump.

    Example:
        >>> instant(date(2026, 3, 29), 150, ZoneInfo("Europe/Berlin"))  # 02:30 does not exist
        datetime.datetime(2026, 3, 29, 1, 0, tzinfo=datetime.timezone.utc)
    """
    local = datetime.combine(day, datetime.min.time()) + timedelta(minutes=minutes)
    late, early = (local.replace(tzinfo=zone, fold=fold).astimezone(UTC) for fold in (0, 1))
    # Only for a time that is jumped over does fold=1 come first; the jump lies between the two.
    while late - early > timedelta(seconds=1):
        middle = (early + (late - early) / 2).replace(microsecond=0)
        if middle.astimezone(zone).replace(tzinfo=None) < local:
            early = middle
        else:
            late = middle
    return late


def day_bounds(first_day: date, days: int, zone: ZoneInfo) -> list[datetime]:
    """Return the midnights that begin each day and end the last one, in UTC: one more than there are days."""
    return [instant(first_day + timedelta(days=number), 0, zone) for number in range(days + 1)]


def half_day_bounds(first_day: date, days: int, zone: ZoneInfo) -> list[datetime]:
    """Return the midnights and noons that begin each half-day, and the midnight that ends the last one, in UTC."""
    halves = [
        instant(first_day + timedelta(days=number), 12 * 60 * half, zone) for number in range(days) for half in (0, 1)
    ]
    return [*halves, instant(first_day + timedelta(days=days), 0, zone)]


def merged(spans: Iterable[Span]) -> list[Span]:
    """Return the same time in spans that neither overlap nor touch, in order; empty spans are dropped."""
    result: list[Span] = []
    for start, end in sorted(span for span in spans if span[0] < span[1]):
        if result and start <= result[-1][1]:
            result[-1] = result[-1][0], max(result[-1][1], end)
        else:
            result.append((start, end))
    return result


def time_per_part(spans: Iterable[Span], bounds: Sequence[datetime]) -> list[timedelta]:
    """Return how much of each day or half-day is covered; overlaps count once.

    Args:
        spans: Any spans.
        bounds: Beginnings of the parts and the end of the last one, ascending.

    Returns:
        One duration per part.
    """
    result = [timedelta()] * (len(bounds) - 1)
    for start, end in merged(spans):
        part = max(0, bisect_right(bounds, start) - 1)
        while part < len(result) and bounds[part] < end:
            result[part] += min(end, bounds[part + 1]) - max(start, bounds[part])
            part += 1
    return result


def free_per_part(hours: Iterable[Span], busy: Iterable[Span], bounds: Sequence[datetime]) -> list[timedelta]:
    """Return how much of the hours in each day or half-day is not busy; overlaps count once."""
    taken = list(busy)
    either, busy_alone = time_per_part([*hours, *taken], bounds), time_per_part(taken, bounds)
    return [both - alone for both, alone in zip(either, busy_alone, strict=True)]


def slots_per_part(slots: Iterable[datetime], bounds: Sequence[datetime]) -> list[int]:
    """Return how many slots start in each day or half-day; those before the first or after the last are left out."""
    counts = Counter(bisect_right(bounds, slot) - 1 for slot in slots)
    return [counts[part] for part in range(len(bounds) - 1)]


def openings(schedule: AvailabilitySchedule, start: datetime, end: datetime) -> list[Span]:
    """Return the working hours of a schedule around a span; a rule for a date overrides its weekday's.

    Args:
        schedule: Weekly rules and dates, in the schedule's own zone.
        start: Beginning of the span (aware).
        end: End of the span (aware).

    Returns:
        Spans in UTC, in order; the first and last may reach beyond the span.

    Raises:
        ValueError: The schedule's zone is unknown here, or its hours are no times.
    """
    try:
        zone = ZoneInfo(schedule.timezone)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        raise ValueError("its time zone is unknown here") from None
    weekly: dict[str, list[tuple[int, int]]] = {}
    dated: dict[date, list[tuple[int, int]]] = {}
    for rule in schedule.rules:
        hours = [(_clock(interval.from_), _clock(interval.to)) for interval in rule.intervals]
        if rule.type == "date" and rule.date is not None:
            dated.setdefault(rule.date, []).extend(hours)
        elif rule.type == "wday" and rule.wday is not None:
            weekly.setdefault(rule.wday, []).extend(hours)
    spans = []
    day, last = start.astimezone(zone).date(), end.astimezone(zone).date()
    while day <= last:
        hours = dated[day] if day in dated else weekly.get(_WEEKDAYS[day.weekday()], [])
        # 00:00 as an end is the end of the day.
        spans += [(instant(day, opens, zone), instant(day, closes or 24 * 60, zone)) for opens, closes in hours]
        day += timedelta(days=1)
    return merged(spans)


def _clock(text: str) -> int:
    found = re.fullmatch(r"(\d{1,2}):(\d\d)(:00)?", text)
    if found is None or (minutes := int(found[1]) * 60 + int(found[2])) > 24 * 60:
        raise ValueError("its hours are no times of the form hh:mm")
    return minutes
