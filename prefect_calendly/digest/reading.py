"""Reading what a digest is made of: hosts, their event types, open slots, busy times and schedules."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, Final, TypeVar
from zoneinfo import ZoneInfo

from prefect_calendly.availability import (
    AVAILABLE_TIMES_DAYS,
    BUSY_TIMES_DAYS,
    AvailabilitySchedule,
    list_availability_schedules_via,
    list_available_times_via,
    list_busy_times_via,
)
from prefect_calendly.client import CalendlyClient, Outcome
from prefect_calendly.client.errors import BadRequestError
from prefect_calendly.credentials import CalendlyCredentials
from prefect_calendly.digest.build import build_digest
from prefect_calendly.digest.model import BusySpan, Digest, Host, HostedEventType, Problem
from prefect_calendly.digest.request import DigestRequest
from prefect_calendly.digest.time import day_bounds
from prefect_calendly.event_types import EventType, list_event_types_via
from prefect_calendly.organizations import list_memberships_via
from prefect_calendly.runs.progress import Steps
from prefect_calendly.tasks import client_task
from prefect_calendly.users import User, get_user_via

# Calendly refuses a start time that is past when the request arrives.
START_MARGIN: Final = timedelta(minutes=1)
_MAX_ATTEMPTS: Final = 3

_POOLING_TYPES: Final = ("round_robin", "multi_pool")

# For the progress, until the event types are known.
_EVENT_TYPES_PER_HOST_ESTIMATE: Final = 4

T = TypeVar("T")


async def read_digest(
    credentials: CalendlyCredentials, request: DigestRequest, user: User, steps: Steps | None = None
) -> Digest:
    """Read the availability of the hosts and make the digest of it.

    What cannot be read of one host or event type becomes a problem of the digest and does not stop the rest.

    Args:
        credentials: Whose Calendly to use; an owner's or admin's for other hosts than yourself.
        request: Whose availability, and for which days.
        user: The current user, who is the host if the request names none.
        steps: Progress whose total is kept up to date, in requests.

    Returns:
        The digest.

    Raises:
        ValueError: An email address belongs to no member of the organization.
        CalendlyError: The key was refused, or the members of the organization could not be listed.

    Example:
        ```python
        user = await aget_current_user(credentials)
        digest = await read_digest(credentials, DigestRequest(days=14), user)
        print(digest.open_slots, digest.next_slot)
        ```
    """
    now, first_day = datetime.now(UTC), request.start_day
    midnights = day_bounds(first_day, request.days, ZoneInfo(request.timezone))
    start, end = midnights[0], midnights[-1]
    slot_requests, busy_requests = (
        -(-(end - max(start, now)) // timedelta(days=days)) for days in (AVAILABLE_TIMES_DAYS, BUSY_TIMES_DAYS)
    )

    def expect(requests: int) -> None:
        if steps is not None:
            steps.expect(requests)

    hosts, problems = await find_hosts(credentials, request, user)
    names = {host.uuid: host.name for host in hosts}
    expect(len(names) * (2 + busy_requests + _EVENT_TYPES_PER_HOST_ESTIMATE * slot_requests))

    event_types_read = await read_event_types(credentials, list(names))
    problems += _problems(event_types_read, lambda host: f"event types of {names[host]}")
    event_types = {host: _requested(found, request) for host, found in _values(event_types_read).items()}
    titles = {each.uuid: each.name for found in event_types.values() for each in found}
    problems += [
        Problem(f"event type {uuid}", "not an active event type of these hosts")
        for uuid in request.event_types
        if uuid not in titles
    ]
    expect(len(titles) * slot_requests + len(names) * (busy_requests + 1))

    slots = await read_open_slots(credentials, list(titles), start, end)
    problems += _problems(slots, lambda event_type: f"open slots of {titles[event_type]}")
    busy = await read_busy_times(credentials, list(names), start, end)
    problems += _problems(busy, lambda host: f"busy times of {names[host]}")
    schedules = await read_schedules(credentials, list(names))
    problems += _problems(schedules, lambda host: f"working hours of {names[host]}")
    return build_digest(
        hosts,
        event_types,
        _values(slots),
        _values(busy),
        _values(schedules),
        first_day=first_day,
        days=request.days,
        timezone=request.timezone,
        now=now,
        problems=problems,
    )


# Tasks


@client_task("Find hosts")
async def find_hosts(client: CalendlyClient, request: DigestRequest, user: User) -> tuple[list[Host], list[Problem]]:
    """Return the requested hosts, each once, and which of them could not be read.

    Args:
        credentials: Whose Calendly to use.
        request: Whose availability; only `scope` and `hosts` count here.
        user: The current user.

    Returns:
        The hosts, and the problems.

    Raises:
        ValueError: An email address belongs to no member of the organization.
        CalendlyError: See `prefect_calendly.client.errors`.

    Example:
        ```python
        user = await aget_current_user(credentials)
        hosts, problems = await find_hosts(credentials, DigestRequest(scope="organization"), user)
        ```
    """
    if request.scope == "organization":
        members = list_memberships_via(client, organization=user.current_organization)
        return list({_host(member.user): None async for member in members}), []
    if not request.hosts:
        return [_host(user)], []

    async def find(position: int) -> Host:
        reference = request.hosts[position]
        if reference in (user.uri.rpartition("/")[2], user.email.lower()):
            return _host(user)
        if "@" not in reference:
            return _host(await get_user_via(client, reference))
        members = list_memberships_via(client, organization=user.current_organization, email=reference)
        found = [_host(member.user) async for member in members]
        if not found:  # the error names the position, not the address, because it ends up in logs
            raise ValueError(f"hosts[{position}]: no member of the organization has this email address")
        return found[0]

    outcomes = await client.each(range(len(request.hosts)), find)
    hosts = dict.fromkeys(outcome.value for outcome in outcomes if outcome.value is not None)
    return list(hosts), _problems(outcomes, lambda position: f"hosts[{position}]")


@client_task("Read event types of hosts")
async def read_event_types(client: CalendlyClient, hosts: Sequence[str]) -> list[Outcome[str, list[HostedEventType]]]:
    """Return the active event types of each host.

    Args:
        credentials: Whose Calendly to use.
        hosts: Uuids.

    Returns:
        One outcome per host, in order.

    Raises:
        CalendlyError: The key was refused, or there is no connection.

    Example:
        ```python
        [outcome] = await read_event_types(credentials, ["AAAAAAAAAAAAAAAA"])
        ```
    """

    async def read(host: str) -> list[HostedEventType]:
        return [_event_type(item) async for item in list_event_types_via(client, user=host, active=True)]

    return await client.each(hosts, read)


@client_task("Read open slots")
async def read_open_slots(
    client: CalendlyClient, event_types: Sequence[str], start: datetime, end: datetime
) -> list[Outcome[str, list[datetime]]]:
    """Return the starts of the open slots of each event type.

    Args:
        credentials: Whose Calendly to use.
        event_types: Uuids.
        start: Start of the span (aware); what is past of it has no open slots.
        end: End of the span (aware).

    Returns:
        One outcome per event type, in order.

    Raises:
        CalendlyError: The key was refused, or there is no connection.

    Example:
        ```python
        from datetime import UTC, datetime, timedelta

        now = datetime.now(UTC)
        [outcome] = await read_open_slots(credentials, ["CCCCCCCCCCCCCCCC"], now, now + timedelta(days=7))
        ```
    """

    async def read(event_type: str) -> list[datetime]:
        async def ask(begin: datetime) -> list[datetime]:
            slots = await list_available_times_via(client, event_type, start_time=begin, end_time=end)
            return [slot.start_time for slot in slots]

        return await from_now_on(ask, start, end)

    return await client.each(event_types, read)


@client_task("Read busy times")
async def read_busy_times(
    client: CalendlyClient, hosts: Sequence[str], start: datetime, end: datetime
) -> list[Outcome[str, list[BusySpan]]]:
    """Return the busy times of each host.

    Args:
        credentials: Whose Calendly to use.
        hosts: Uuids.
        start: Start of the span (aware); its past part is left out.
        end: End of the span (aware).

    Returns:
        One outcome per host, in order.

    Raises:
        CalendlyError: The key was refused, or there is no connection.

    Example:
        ```python
        from datetime import UTC, datetime, timedelta

        now = datetime.now(UTC)
        [outcome] = await read_busy_times(credentials, ["AAAAAAAAAAAAAAAA"], now, now + timedelta(days=7))
        ```
    """

    async def read(host: str) -> list[BusySpan]:
        async def ask(begin: datetime) -> list[BusySpan]:
            times = await list_busy_times_via(client, host, start_time=begin, end_time=end)
            return [BusySpan(time.type, time.start_time, time.end_time) for time in times]

        return await from_now_on(ask, start, end)

    return await client.each(hosts, read)


@client_task("Read working hours")
async def read_schedules(
    client: CalendlyClient, hosts: Sequence[str]
) -> list[Outcome[str, list[AvailabilitySchedule]]]:
    """Return the availability schedules of each host.

    Args:
        credentials: Whose Calendly to use.
        hosts: Uuids.

    Returns:
        One outcome per host, in order.

    Raises:
        CalendlyError: The key was refused, or there is no connection.

    Example:
        ```python
        [outcome] = await read_schedules(credentials, ["AAAAAAAAAAAAAAAA"])
        ```
    """
    return await client.each(hosts, lambda host: list_availability_schedules_via(client, host))


async def from_now_on(
    ask: Callable[[datetime], Awaitable[list[T]]], start: datetime, end: datetime, *, margin: timedelta = START_MARGIN
) -> list[T]:
    """Ask for the future part of a span: Calendly refuses a start that is past.

    Args:
        ask: Asks for everything from a time on.
        start: Start of the span (aware).
        end: End of the span (aware).
        margin: How long the request may take to arrive.

    Returns:
        The answer; empty if the whole span is past.

    Raises:
        BadRequestError: Calendly refused the request for another reason.
    """
    attempts = 0
    while (begin := max(start, datetime.now(UTC) + margin)) < end:
        attempts += 1
        try:
            return await ask(begin)
        except BadRequestError:
            # A request that waits for a rate limit may be sent when its start is past.
            if attempts == _MAX_ATTEMPTS or begin > datetime.now(UTC):
                raise
    return []


def _host(user: Any) -> Host:
    return Host(user.uri.rpartition("/")[2], user.name)


def _event_type(item: EventType) -> HostedEventType:
    uuid = item.uri.rpartition("/")[2]
    return HostedEventType(
        uuid,
        name=item.name or item.slug or uuid,
        minutes=item.duration,
        is_pooled=item.pooling_type in _POOLING_TYPES,
        owner=(item.profile.name if item.profile else None) or "",
    )


def _requested(event_types: Iterable[HostedEventType], request: DigestRequest) -> list[HostedEventType]:
    return [each for each in event_types if not request.event_types or each.uuid in request.event_types]


def _values(outcomes: Iterable[Outcome[str, T]]) -> dict[str, T]:
    return {outcome.item: outcome.value for outcome in outcomes if outcome.value is not None}


def _problems(outcomes: Iterable[Outcome[Any, Any]], subject: Callable[[Any], str]) -> list[Problem]:
    return [
        Problem(subject(outcome.item), f"{type(outcome.error).__name__}. {outcome.error.hint}".strip())
        for outcome in outcomes
        if outcome.error is not None
    ]
