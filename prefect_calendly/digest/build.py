"""From what was read to the digest: what is open, busy and free in each half-day. No I/O."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Mapping, Sequence
from datetime import date, datetime, timedelta
from zoneinfo import ZoneInfo

from prefect_calendly.availability import AvailabilitySchedule
from prefect_calendly.digest.model import (
    BUSY_KINDS,
    BusySpan,
    Digest,
    HalfDay,
    Host,
    HostDay,
    HostDigest,
    HostedEventType,
    Problem,
)
from prefect_calendly.digest.time import (
    Span,
    count_per_period,
    free_time_per_period,
    half_day_bounds,
    merge_spans,
    time_per_period,
    working_hours,
)


def build_digest(
    hosts: Sequence[Host],
    event_types: Mapping[str, Sequence[HostedEventType]],
    slots: Mapping[str, list[datetime]],
    busy: Mapping[str, list[BusySpan]],
    schedules: Mapping[str, list[AvailabilitySchedule]],
    *,
    first_day: date,
    days: int,
    timezone: str,
    now: datetime,
    problems: Sequence[Problem] = (),
) -> Digest:
    """Build the digest from plain data; what is missing in a mapping could not be read.

    Calendly does not say which host an open slot of a pooled event type belongs to. It counts for each host of the
    pool who is not busy then and has it within the hours of one of their schedules.

    Args:
        hosts: The hosts of the digest.
        event_types: Active event types by host (uuid).
        slots: Starts of the open slots by event type (uuid).
        busy: Busy times by host (uuid).
        schedules: Schedules by host (uuid); working hours are those of the default one.
        first_day: First day, in `timezone`.
        days: Number of days.
        timezone: IANA time zone in which the days begin.
        now: Whatever is before this time is left out (aware).
        problems: What could not be read.

    Returns:
        The digest.
    """
    bounds = [max(bound, now) for bound in half_day_bounds(first_day, days, ZoneInfo(timezone))]
    dates = tuple(first_day + timedelta(days=number) for number in range(days))
    starts = {
        uuid: sorted({start for start in some if bounds[0] <= start < bounds[-1]}) for uuid, some in slots.items()
    }
    counts = {uuid: count_per_period(some, bounds) for uuid, some in starts.items()}
    all_problems = list(problems)
    digests = []
    for host in hosts:
        busy_by_kind: dict[str, list[Span]] = {kind: [] for kind in BUSY_KINDS}
        for span in busy.get(host.uuid, ()):
            busy_by_kind.setdefault(span.kind, []).append((span.start, span.end))
        try:
            default_hours, all_hours = _hours(schedules.get(host.uuid, ()), bounds[0], bounds[-1])
        except ValueError as error:
            default_hours = all_hours = None
            all_problems.append(Problem(f"working hours of {host.name}", str(error)))
        hosted = event_types.get(host.uuid)
        own_starts = _starts_of_host(hosted or (), starts, busy_by_kind, all_hours)
        own_counts = {uuid: count_per_period(some, bounds) for uuid, some in own_starts.items()}
        halves = _halves(bounds, own_counts, busy_by_kind if host.uuid in busy else None, default_hours)
        digests.append(
            HostDigest(
                host,
                tuple(map(HostDay, dates, zip(halves[::2], halves[1::2], strict=True))),
                min((some[0] for some in own_starts.values() if some), default=None),
                is_complete=hosted is not None and all(each.uuid in own_starts for each in hosted),
            )
        )
    known = {hosted.uuid: hosted for host in hosts for hosted in event_types.get(host.uuid, ())}
    per_event_type = {
        uuid: tuple(morning + afternoon for morning, afternoon in zip(halves[::2], halves[1::2], strict=True))
        for uuid, halves in counts.items()
        if uuid in known
    }
    return Digest(timezone, now, dates, tuple(digests), known, per_event_type, tuple(all_problems))


def _hours(
    schedules: Sequence[AvailabilitySchedule], start: datetime, end: datetime
) -> tuple[list[Span] | None, list[Span] | None]:
    """Return the hours of the default schedule, and those of all schedules; None where there is no such schedule."""
    hours: dict[bool, list[Span]] = {}
    for schedule in schedules:
        hours.setdefault(schedule.default, []).extend(working_hours(schedule, start, end))
    return hours.get(True), merge_spans(span for spans in hours.values() for span in spans) if hours else None


def _starts_of_host(
    event_types: Sequence[HostedEventType],
    starts: Mapping[str, Sequence[datetime]],
    busy_by_kind: Mapping[str, Sequence[Span]],
    hours: Sequence[Span] | None,
) -> dict[str, Sequence[datetime]]:
    """Return the open slots that one host can take, by event type (uuid), of those that could be read."""
    busy = merge_spans(span for spans in busy_by_kind.values() for span in spans)
    return {
        each.uuid: _bookable(starts[each.uuid], timedelta(minutes=each.minutes), busy, hours)
        if each.is_pooled
        else starts[each.uuid]
        for each in event_types
        if each.uuid in starts
    }


def _bookable(
    slots: Sequence[datetime], length: timedelta, busy: Sequence[Span], hours: Sequence[Span] | None
) -> list[datetime]:
    """Return the slots that overlap no busy span and lie within one span of the hours, if the hours are known."""
    busy_ends = [end for _, end in busy]
    hours_begin = [start for start, _ in hours or ()]

    def is_free(slot: datetime) -> bool:
        following = bisect_right(busy_ends, slot)
        return following == len(busy) or busy[following][0] >= slot + length

    def is_within_hours(slot: datetime) -> bool:
        last = bisect_right(hours_begin, slot) - 1
        return hours is None or (last >= 0 and slot + length <= hours[last][1])

    return [slot for slot in slots if is_free(slot) and is_within_hours(slot)]


def _halves(
    bounds: Sequence[datetime],
    counts: Mapping[str, Sequence[int]],
    busy_by_kind: Mapping[str, Sequence[Span]] | None,
    hours: Sequence[Span] | None,
) -> list[HalfDay]:
    """Return the half-days of a host; None for the busy times or the hours if they could not be read."""
    working = None if hours is None else time_per_period(hours, bounds)
    busy = free = None
    if busy_by_kind is not None:
        busy = {kind: time_per_period(spans, bounds) for kind, spans in busy_by_kind.items()}
        if hours is not None:
            free = free_time_per_period(hours, (span for spans in busy_by_kind.values() for span in spans), bounds)
    return [
        HalfDay(
            is_past=bounds[half] == bounds[half + 1],
            slots={uuid: per_half[half] for uuid, per_half in counts.items()},
            busy=None if busy is None else {kind: per_half[half] for kind, per_half in busy.items()},
            working=None if working is None else working[half],
            free=None if free is None else free[half],
        )
        for half in range(len(bounds) - 1)
    ]
