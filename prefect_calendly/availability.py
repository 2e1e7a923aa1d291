"""Availability: open slots, busy times and working hours."""

from __future__ import annotations

import asyncio
from collections.abc import Hashable
from datetime import date as Date
from datetime import datetime, timedelta
from typing import Any, Literal, TypeVar

from pydantic import Field

from prefect_calendly.client import CalendlyClient
from prefect_calendly.client.errors import CalendlyError
from prefect_calendly.client.identifiers import Reference, uri_of
from prefect_calendly.client.times import utc, wire_time
from prefect_calendly.resource import Items, Resource, Time, check_order, windows
from prefect_calendly.tasks import make_tasks

AVAILABLE_TIMES_DAYS = 31
BUSY_TIMES_DAYS = 7
# For the text of an error: what one request answers wherever the API is, and what somebody may wait for it.
_NEXT_DAYS = 7
_LONGEST_LOOK_SECONDS = 10

Weekday = Literal["sunday", "monday", "tuesday", "wednesday", "thursday", "friday", "saturday"]


class AvailableTime(Resource):
    """An open slot of an event type."""

    status: Literal["available"] | str
    invitees_remaining: int
    start_time: Time
    scheduling_url: str


class BusyEvent(Resource):
    """The scheduled event behind a busy time."""

    uri: str


class BusyTime(Resource):
    """A span of time in which a user cannot be booked."""

    type: Literal["calendly", "reserved", "external"] | str
    start_time: Time
    end_time: Time
    buffered_start_time: Time | None = None
    buffered_end_time: Time | None = None
    event: BusyEvent | None = None


class Interval(Resource):
    """A span of a day, as `hh:mm` in the time zone of the schedule."""

    from_: str = Field(alias="from")
    to: str


class AvailabilityRule(Resource):
    """The hours of a weekday, or of one date, which overrides its weekday; without intervals: not available."""

    type: Literal["wday", "date"] | str
    wday: Weekday | str | None = None
    date: Date | None = None
    intervals: Items[Interval] = ()


class AvailabilitySchedule(Resource):
    """A user's working hours."""

    uri: str
    default: bool
    name: str | None = None
    user: str
    timezone: str
    rules: Items[AvailabilityRule] = ()


T = TypeVar("T", AvailableTime, BusyTime)


async def _in_windows(
    client: CalendlyClient, path: str, model: type[T], params: dict[str, Any], start: datetime, end: datetime, days: int
) -> list[tuple[datetime, list[T]]]:
    """Request each window of a span, several at once; return the beginning and the items of each, in order."""
    check_order(start, end, "start_time", "end_time")

    async def ask(window: tuple[datetime, datetime]) -> tuple[datetime, list[T]]:
        span = {"start_time": wire_time(window[0], "start_time"), "end_time": wire_time(window[1], "end_time")}
        return window[0], await client.collection(path, model, params={**params, **span})

    return await client.all(windows(utc(start, "start_time"), utc(end, "end_time"), days), ask)


async def list_available_times_via(
    client: CalendlyClient,
    event_type: Reference,
    *,
    start_time: datetime,
    end_time: datetime,
    window_days: int = AVAILABLE_TIMES_DAYS,
) -> list[AvailableTime]:
    """Return the open slots of an event type within a span of any length.

    The API answers for at most 31 days at once: a longer span is requested in windows, which are put together.

    Source: `GET /event_type_available_times`.

    Args:
        credentials: The Calendly account to use.
        event_type: URI, uuid or model.
        start_time: Beginning of the span (aware, any zone); Calendly requires a time in the future.
        end_time: End of the span (aware, any zone).
        window_days: Days per request, 1 to 31; use 7 where Calendly still applies its old limit.

    Returns:
        The slots by start time, each once.

    Raises:
        ValueError: A time is naive, the end is not after the start, or `window_days` is out of range.
        CalendlyError: The call failed; see `prefect_calendly.client.errors`.

    Example:
        ```python
        from datetime import UTC, datetime, timedelta

        soon = datetime.now(UTC) + timedelta(hours=1)
        slots = list_available_times(
            credentials, "CCCCCCCCCCCCCCCC", start_time=soon, end_time=soon + timedelta(days=90)
        )
        ```
    """
    if not 1 <= window_days <= AVAILABLE_TIMES_DAYS:
        raise ValueError(f"window_days must be 1 to {AVAILABLE_TIMES_DAYS}, not {window_days!r}")
    uri = uri_of(event_type, "event_types", "event_type")
    parts = await _in_windows(
        client,
        "/event_type_available_times",
        AvailableTime,
        {"event_type": uri},
        start_time,
        end_time,
        window_days,
    )
    by_start = {slot.start_time: slot for _, part in parts for slot in part}
    return [by_start[start] for start in sorted(by_start)]


alist_available_times, list_available_times = make_tasks("List available times", list_available_times_via)


async def next_start_times(client: CalendlyClient, event_type: Reference, start_time: datetime) -> str | None:
    """Say which start times an event type offers instead of one that was refused.

    Source: `GET /event_type_available_times`, once.

    Args:
        client: An open client.
        event_type: URI, uuid or model.
        start_time: What was refused (aware, any zone); the others are shown in its zone.

    Returns:
        A sentence; None if the refused time is offered nevertheless, or what is offered cannot be read now.

    Raises:
        ValueError: `event_type` does not name an event type, or `start_time` is naive.
    """
    try:
        async with asyncio.timeout(_LONGEST_LOOK_SECONDS):
            slots = await list_available_times_via(
                client, event_type, start_time=start_time, end_time=start_time + timedelta(days=_NEXT_DAYS)
            )
    except (CalendlyError, TimeoutError):
        return None
    offered = [slot.start_time for slot in slots]
    if start_time in offered:
        return None
    shown = ", ".join(moment.astimezone(start_time.tzinfo).isoformat() for moment in offered[:3])
    return (
        f"{start_time.isoformat()} is not a start time this event type offers; "
        f"next: {shown or f'none within {_NEXT_DAYS} days'}."
    )


async def list_busy_times_via(
    client: CalendlyClient, user: Reference, *, start_time: datetime, end_time: datetime
) -> list[BusyTime]:
    """Return when a user is busy within a span of any length.

    The API answers for at most 7 days at once: a longer span is requested in windows, which are put together. A busy
    time that two windows cut in two comes back whole.

    Source: `GET /user_busy_times`.

    Args:
        credentials: The Calendly account to use.
        user: URI, uuid or model.
        start_time: Beginning of the span (aware, any zone); Calendly requires a time in the future.
        end_time: End of the span (aware, any zone).

    Returns:
        The busy times by start time.

    Raises:
        ValueError: A time is naive, or the end is not after the start.
        CalendlyError: The call failed; see `prefect_calendly.client.errors`.

    Example:
        ```python
        from datetime import UTC, datetime, timedelta

        soon = datetime.now(UTC) + timedelta(hours=1)
        busy = list_busy_times(
            credentials, "AAAAAAAAAAAAAAAA", start_time=soon, end_time=soon + timedelta(days=14)
        )
        ```
    """
    uri = uri_of(user, "users", "user")
    parts = await _in_windows(
        client, "/user_busy_times", BusyTime, {"user": uri}, start_time, end_time, BUSY_TIMES_DAYS
    )
    return stitched(parts)


alist_busy_times, list_busy_times = make_tasks("List busy times", list_busy_times_via)


def stitched(parts: list[tuple[datetime, list[BusyTime]]]) -> list[BusyTime]:
    """Put the busy times of adjoining windows together: one that two windows share comes once, and whole.

    Args:
        parts: For each window, in order, its beginning and its busy times.

    Returns:
        All busy times by start time. Equal ones of one window stay, because two calendars can hold the same hour.
    """
    result: list[BusyTime] = []
    seen: set[tuple[Hashable, ...]] = set()
    for boundary, part in parts:
        cut: dict[tuple[Hashable, ...], list[int]] = {}
        for index, busy in enumerate(result):
            if busy.end_time == boundary:
                cut.setdefault(_identity(busy), []).append(index)
        for busy in part:
            if (*_identity(busy), busy.start_time, busy.end_time) in seen:
                continue
            if busy.start_time == boundary and (indices := cut.get(_identity(busy))):
                first = indices.pop(0)
                ends = {"end_time": busy.end_time, "buffered_end_time": busy.buffered_end_time}
                result[first] = result[first].model_copy(update=ends)
            else:
                result.append(busy)
        seen |= {(*_identity(busy), busy.start_time, busy.end_time) for busy in part}
    return sorted(result, key=lambda busy: (busy.start_time, busy.end_time))


def _identity(busy: BusyTime) -> tuple[Hashable, ...]:
    return busy.type, busy.event.uri if busy.event else None


async def list_availability_schedules_via(client: CalendlyClient, user: Reference) -> list[AvailabilitySchedule]:
    """Return a user's working hours; one schedule is the default.

    Source: `GET /user_availability_schedules`.

    Args:
        credentials: The Calendly account to use.
        user: URI, uuid or model.

    Returns:
        The schedules, with their rules in their own time zones.

    Raises:
        ValueError: `user` does not name a user.
        CalendlyError: The call failed; see `prefect_calendly.client.errors`.

    Example:
        ```python
        for schedule in list_availability_schedules(credentials, "AAAAAAAAAAAAAAAA"):
            print(schedule.name, schedule.timezone, schedule.default)
        ```
    """
    params = {"user": uri_of(user, "users", "user")}
    return await client.collection("/user_availability_schedules", AvailabilitySchedule, params=params)


alist_availability_schedules, list_availability_schedules = make_tasks(
    "List availability schedules", list_availability_schedules_via
)
