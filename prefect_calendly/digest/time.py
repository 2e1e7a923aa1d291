"""Time of the digest: local days and half-days, spans, and working hours as UTC instants. No I/O."""

from __future__ import annotations

import re
from bisect import bisect_right
from collections import Counter
from collections.abc import Iterable, Sequence
from datetime import UTC, date, datetime, timedelta
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from prefect_calendly.availability import AvailabilitySchedule

Span = tuple[datetime, datetime]

_WEEKDAYS = ("monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday")
_MINUTES_PER_DAY = 24 * 60


# Local days


def local_to_utc(day: date, minutes: int, zone: ZoneInfo) -> datetime:
    """Convert a local time of day to UTC.

    Args:
        day: The local date.
        minutes: Minutes after 00:00 local time; 1440 is midnight of the next day.
        zone: The local time zone.

    Returns:
        The instant in UTC. If the local time occurs twice, the first one; if it is skipped, the moment of the skip.

    Example:
        >>> from datetime import date
        >>> from zoneinfo import ZoneInfo
        >>> local_to_utc(date(2026, 3, 29), 150, ZoneInfo("Europe/Berlin"))  # 02:30 does not exist
        datetime.datetime(2026, 3, 29, 1, 0, tzinfo=datetime.timezone.utc)
    """
    local = datetime.combine(day, datetime.min.time()) + timedelta(minutes=minutes)
    late, early = (local.replace(tzinfo=zone, fold=fold).astimezone(UTC) for fold in (0, 1))
    # fold=1 comes first only if the local time is skipped. The skip lies between the two: find it by bisection.
    while late - early > timedelta(seconds=1):
        middle = (early + (late - early) / 2).replace(microsecond=0)
        if middle.astimezone(zone).replace(tzinfo=None) < local:
            early = middle
        else:
            late = middle
    return late


def day_bounds(first_day: date, days: int, zone: ZoneInfo) -> list[datetime]:
    """Return the start of each local day and the end of the last one, in UTC: `days + 1` instants."""
    return [local_to_utc(first_day + timedelta(days=number), 0, zone) for number in range(days + 1)]


def half_day_bounds(first_day: date, days: int, zone: ZoneInfo) -> list[datetime]:
    """Return the start of each local half-day and the end of the last one, in UTC: `2 * days + 1` instants."""
    halves = [
        local_to_utc(first_day + timedelta(days=number), half * _MINUTES_PER_DAY // 2, zone)
        for number in range(days)
        for half in (0, 1)
    ]
    return [*halves, local_to_utc(first_day + timedelta(days=days), 0, zone)]


# Spans


def merge_spans(spans: Iterable[Span]) -> list[Span]:
    """Merge spans that overlap or touch, drop empty ones, and return the rest in order."""
    result: list[Span] = []
    for start, end in sorted(span for span in spans if span[0] < span[1]):
        if result and start <= result[-1][1]:
            result[-1] = result[-1][0], max(result[-1][1], end)
        else:
            result.append((start, end))
    return result


def time_per_period(spans: Iterable[Span], bounds: Sequence[datetime]) -> list[timedelta]:
    """Return how much of each period the spans cover; overlaps count once.

    Args:
        spans: Spans in any order.
        bounds: Start of each period and end of the last one, ascending.

    Returns:
        One duration per period.
    """
    result = [timedelta()] * (len(bounds) - 1)
    for start, end in merge_spans(spans):
        period = max(0, bisect_right(bounds, start) - 1)
        while period < len(result) and bounds[period] < end:
            result[period] += min(end, bounds[period + 1]) - max(start, bounds[period])
            period += 1
    return result


def free_time_per_period(hours: Iterable[Span], busy: Iterable[Span], bounds: Sequence[datetime]) -> list[timedelta]:
    """Return how much of the hours in each period is not busy; overlaps count once."""
    busy = list(busy)
    busy_or_working, only_busy = time_per_period([*hours, *busy], bounds), time_per_period(busy, bounds)
    return [total - taken for total, taken in zip(busy_or_working, only_busy, strict=True)]


def count_per_period(moments: Iterable[datetime], bounds: Sequence[datetime]) -> list[int]:
    """Return how many moments fall into each period; those outside of all periods are not counted."""
    counts = Counter(bisect_right(bounds, moment) - 1 for moment in moments)
    return [counts[period] for period in range(len(bounds) - 1)]


# Working hours


def working_hours(schedule: AvailabilitySchedule, start: datetime, end: datetime) -> list[Span]:
    """Return the working hours of a schedule as spans in UTC; a rule for a date overrides the rule of its weekday.

    Args:
        schedule: Rules for weekdays and dates, in the schedule's own time zone.
        start: Start of the span to cover (aware).
        end: End of the span to cover (aware).

    Returns:
        Spans in order; the first and the last may reach beyond the span to cover.

    Raises:
        ValueError: The schedule's time zone is unknown, or its hours are malformed.
    """
    try:
        zone = ZoneInfo(schedule.timezone)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        raise ValueError("the schedule has an unknown time zone") from None
    weekly: dict[str, list[tuple[int, int]]] = {}
    dated: dict[date, list[tuple[int, int]]] = {}
    for rule in schedule.rules:
        hours = [(_minutes_of_day(interval.from_), _minutes_of_day(interval.to)) for interval in rule.intervals]
        if rule.type == "date" and rule.date is not None:
            dated.setdefault(rule.date, []).extend(hours)
        elif rule.type == "wday" and rule.wday is not None:
            weekly.setdefault(rule.wday, []).extend(hours)
    spans = []
    day, last_day = start.astimezone(zone).date(), end.astimezone(zone).date()
    while day <= last_day:
        hours = dated[day] if day in dated else weekly.get(_WEEKDAYS[day.weekday()], [])
        for opens, closes in hours:
            # An interval that ends at 00:00 ends with the day.
            spans.append((local_to_utc(day, opens, zone), local_to_utc(day, closes or _MINUTES_PER_DAY, zone)))
        day += timedelta(days=1)
    return merge_spans(spans)


def _minutes_of_day(text: str) -> int:
    found = re.fullmatch(r"(\d{1,2}):(\d\d)(:00)?", text)
    if found is None or (minutes := int(found[1]) * 60 + int(found[2])) > _MINUTES_PER_DAY:
        raise ValueError("the schedule has hours that are not of the form hh:mm")
    return minutes
