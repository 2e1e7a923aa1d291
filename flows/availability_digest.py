"""The availability digest: who can be booked when, who cannot be booked at all, and what changed since last time."""

from __future__ import annotations

import hashlib
import json
import re
import time
from collections.abc import Awaitable, Callable, Iterable, Sequence
from datetime import UTC, date, datetime, timedelta
from typing import Annotated, Any, Final, Literal, TypeVar
from zoneinfo import ZoneInfo

from prefect.artifacts import Artifact, acreate_markdown_artifact, acreate_table_artifact
from pydantic import AfterValidator, Field, ValidationInfo, field_validator

from prefect_calendly import CalendlyClient, CalendlyCredentials
from prefect_calendly.availability import (
    AVAILABLE_TIMES_DAYS,
    BUSY_TIMES_DAYS,
    AvailabilitySchedule,
    list_availability_schedules_via,
    list_available_times_via,
    list_busy_times_via,
)
from prefect_calendly.client import Outcome, RequestMeter, count_requests
from prefect_calendly.client.errors import BadRequestError
from prefect_calendly.client.identifiers import CALENDLY_ORIGIN, uuid_of
from prefect_calendly.digest.model import Busy, Changes, Digest, Host, Offer, Problem, build_digest, compare
from prefect_calendly.digest.page import changes_in_words, digest_markdown, headline, open_slots_of_table, table_rows
from prefect_calendly.digest.time import day_bounds
from prefect_calendly.event_types import EventType, list_event_types_via
from prefect_calendly.organizations import list_memberships_via
from prefect_calendly.runs.flow import calendly_flow
from prefect_calendly.runs.forms import Notifier, Parameters, ZoneName, optional_form_field
from prefect_calendly.runs.markdown import pluralize
from prefect_calendly.runs.notifications import check_notifier, notify, notify_on_failure
from prefect_calendly.runs.progress import progress
from prefect_calendly.tasks import client_task
from prefect_calendly.users import User, aget_current_user, get_user_via

KEY_PREFIX: Final = "availability-digest-"
LONGEST_DIGEST_DAYS: Final = 62
FURTHEST_FIRST_DAY: Final = timedelta(days=730)
PROGRESS_KEY: Final = f"{KEY_PREFIX}progress"

_ABOUT = "Who can be booked when: free and full half-days, next free slots, changes."

# Any of these hosts may take such a booking: an open slot says nothing about one of them.
_ANY_OF_THE_HOSTS = ("round_robin", "multi_pool")
_EMAIL = re.compile(r"[^@\s,;<>]+@[^@\s,;<>]+\.[^@\s,;<>]+")

# Calendly wants times in the future: when the request arrives, not when it is made.
_MARGIN = timedelta(minutes=1)
_ASKS = 3

# A guess, until the event types are known.
_EVENT_TYPES_PER_HOST = 4

T = TypeVar("T")


# Parameters


def _host_reference(text: str) -> str:
    text = text.strip()
    if "@" not in text:
        return uuid_of(text, "users", "host")
    if not _EMAIL.fullmatch(text):
        raise ValueError("must be a user's URI, uuid or e-mail address; this is no e-mail address")
    return text.lower()


def _event_type_reference(text: str) -> str:
    return uuid_of(text.strip(), "event_types", "event type")


# What a form refuses by itself. Prefect shows the pattern to the person: its comment says what is wanted.
HostReference = Annotated[
    str,
    AfterValidator(_host_reference),
    Field(
        json_schema_extra={
            "pattern": r"(?#use a user's URI, uuid or e-mail address)"
            rf"^\s*(({CALENDLY_ORIGIN}/users/)?[A-Za-z0-9_-]+|[^@\s,;<>]+@[^@\s,;<>]+\.[^@\s,;<>]+)\s*$"
        }
    ),
]
EventTypeReference = Annotated[
    str,
    AfterValidator(_event_type_reference),
    Field(
        json_schema_extra={
            "pattern": r"(?#use an event type's URI or uuid)"
            rf"^\s*({CALENDLY_ORIGIN}/event_types/)?[A-Za-z0-9_-]+\s*$"
        }
    ),
]


class DigestRequest(Parameters):
    """Whose availability the digest shows, and for which days."""

    scope: Literal["hosts", "organization"] = Field(
        default="hosts",
        description="The hosts listed below, or every member of the organization (needs an owner or admin).",
        json_schema_extra={"position": 0},
    )
    hosts: tuple[HostReference, ...] = Field(
        default=(),
        max_length=1000,
        description=(
            "User URIs, uuids or e-mail addresses (these need an owner or admin; Prefect stores them with the run's "
            "parameters); empty = your own user. Leave empty with scope organization."
        ),
        json_schema_extra={"position": 1},
    )
    days: int = Field(
        default=7,
        ge=1,
        le=LONGEST_DIGEST_DAYS,
        description="How many days, 1 to 62.",
        json_schema_extra={"position": 2},
    )
    timezone: ZoneName = Field(
        default="UTC",
        max_length=100,
        description="IANA time zone, such as Europe/Berlin, in which days begin and times are shown.",
        json_schema_extra={"position": 3},
    )
    first_day: date | None = Field(
        default=None,
        description="First day of the digest, at most two years ahead; empty = today in the time zone.",
        json_schema_extra=optional_form_field(4),
    )
    event_types: tuple[EventTypeReference, ...] = Field(
        default=(),
        max_length=1000,
        description="Only these event types: URIs or uuids; empty = every active one.",
        json_schema_extra={"position": 5},
    )
    notify: Notifier = Field(
        default=None,
        description="Type and name of a saved notification block, such as slack-webhook/ops: gets a short message.",
        json_schema_extra=optional_form_field(6),
    )

    @field_validator("hosts")
    @classmethod
    def _goes_with_the_scope(cls, hosts: tuple[str, ...], info: ValidationInfo) -> tuple[str, ...]:
        if hosts and info.data.get("scope") == "organization":
            raise ValueError("must be empty with scope organization, which means every member")
        return hosts

    @field_validator("first_day")
    @classmethod
    def _is_ahead(cls, first_day: date | None, info: ValidationInfo) -> date | None:
        if first_day is not None and "timezone" in info.data:
            today = datetime.now(ZoneInfo(info.data["timezone"])).date()
            if not today <= first_day <= today + FURTHEST_FIRST_DAY:
                raise ValueError(f"must be {today} (today in {info.data['timezone']}) or up to two years later")
        return first_day

    @property
    def start_day(self) -> date:
        """The first day: the one asked for, or today."""
        return self.first_day or datetime.now(ZoneInfo(self.timezone)).date()


class DigestReport(Parameters):
    """How the flow ended; no personal data."""

    hosts: int = Field(ge=0, description="Hosts in the digest.")
    days: int = Field(ge=1, description="Days in the digest.")
    open_slots: int = Field(ge=0, description="Open slots; one of a shared event type counts once.")
    hosts_with_nothing_open: int = Field(ge=0, description="Hosts that nobody can book in these days.")
    unreadable: int = Field(ge=0, description="Things that could not be read; the markdown artifact lists them.")
    next_free: datetime | None = Field(description="The first open slot of all.")
    first_digest: bool = Field(description="Whether there was no earlier digest to compare with.")
    changed_hosts: int = Field(ge=0, description="Hosts with more or fewer open slots on the days of both digests.")
    markdown_artifact: str = Field(description="Key of the markdown artifact.")
    table_artifact: str = Field(description="Key of the table artifact.")
    notified: bool = Field(description="Whether a notification was sent.")
    requests: int = Field(ge=0, description="Requests sent to the gateway.")
    seconds: float = Field(ge=0, description="How long it took.")


class DigestUnreadableError(Exception):
    """No open slot of any host could be read: the digest is empty because of failures, not because all are busy."""


# Tasks


@client_task("Find the hosts")
async def find_hosts(client: CalendlyClient, request: DigestRequest, user: User) -> tuple[list[Host], list[Problem]]:
    """Return the hosts that were asked for, each once; and which of them could not be read."""
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
        if not found:  # the position, not the address: this text ends up in logs
            raise ValueError(f"hosts[{position}]: no member of the organization has this e-mail address")
        return found[0]

    outcomes = await client.each(range(len(request.hosts)), find)
    failed = [outcome for outcome in outcomes if outcome.error is not None]
    hosts = dict.fromkeys(outcome.value for outcome in outcomes if outcome.value is not None)
    problems = [Problem(f"hosts[{outcome.item}]", _why(outcome)) for outcome in failed]
    return list(hosts), problems


@client_task("List event types of the hosts")
async def read_offers(client: CalendlyClient, hosts: Sequence[str]) -> list[Outcome[str, list[Offer]]]:
    """Return the active event types of each host."""

    async def read(host: str) -> list[Offer]:
        return [_offer(item) async for item in list_event_types_via(client, user=host, active=True)]

    return await client.each(hosts, read)


@client_task("Read open slots")
async def read_slots(
    client: CalendlyClient, event_types: Sequence[str], start: datetime, end: datetime
) -> list[Outcome[str, list[datetime]]]:
    """Return the starts of the open slots of each event type."""

    async def read(event_type: str) -> list[datetime]:
        async def ask(begin: datetime) -> list[datetime]:
            slots = await list_available_times_via(client, event_type, start_time=begin, end_time=end)
            return [slot.start_time for slot in slots]

        return await from_now_on(ask, start, end)

    return await client.each(event_types, read)


@client_task("Read busy times")
async def read_busy(
    client: CalendlyClient, hosts: Sequence[str], start: datetime, end: datetime
) -> list[Outcome[str, list[Busy]]]:
    """Return the busy times of each host."""

    async def read(host: str) -> list[Busy]:
        async def ask(begin: datetime) -> list[Busy]:
            times = await list_busy_times_via(client, host, start_time=begin, end_time=end)
            return [Busy(time.type, time.start_time, time.end_time) for time in times]

        return await from_now_on(ask, start, end)

    return await client.each(hosts, read)


@client_task("Read working hours")
async def read_schedules(
    client: CalendlyClient, hosts: Sequence[str]
) -> list[Outcome[str, list[AvailabilitySchedule]]]:
    """Return the availability schedules of each host."""
    return await client.each(hosts, lambda host: list_availability_schedules_via(client, host))


async def from_now_on(ask: Callable[[datetime], Awaitable[list[T]]], start: datetime, end: datetime) -> list[T]:
    """Ask for a span whose past part is cut off: Calendly wants a start in the future.

    Args:
        ask: Asks for everything from a time on.
        start: Beginning of the span (aware).
        end: End of the span (aware).

    Returns:
        The answer; empty if the whole span is past.
    """
    asked = 0
    while (begin := max(start, datetime.now(UTC) + _MARGIN)) < end:
        asked += 1
        try:
            return await ask(begin)
        except BadRequestError:
            # A request may wait for a limit until its start has passed.
            if asked == _ASKS or begin > datetime.now(UTC):
                raise
    return []


def _host(user: Any) -> Host:
    return Host(user.uri.rpartition("/")[2], user.name)


def _offer(item: EventType) -> Offer:
    uuid = item.uri.rpartition("/")[2]
    owner = (item.profile.name if item.profile else None) or ""
    return Offer(uuid, item.name or item.slug or uuid, item.duration, item.pooling_type in _ANY_OF_THE_HOSTS, owner)


def _why(outcome: Outcome[Any, Any]) -> str:
    error = outcome.error
    return f"{type(error).__name__}. {error.hint if error is not None else ''}".strip()


# The flow


def artifact_key(account: str, request: DigestRequest) -> str:
    """Return the key of a digest: the same for every run of the same request by the same user.

    A first day that is named is part of it: such digests do not move on with the calendar.
    """
    identity = [account, request.scope, sorted(set(request.hosts)), request.days, request.timezone]
    identity += [sorted(set(request.event_types)), str(request.first_day)]
    return KEY_PREFIX + hashlib.sha256(json.dumps(identity).encode()).hexdigest()[:12]


async def _changes(digest: Digest, table_key: str) -> Changes | None:
    """Compare with the latest table artifact of the same key; None if there is none."""
    artifact = await Artifact.aget(table_key)
    if artifact is None or artifact.created is None:
        return None
    return compare(digest, open_slots_of_table(artifact.data), artifact.created)


@calendly_flow(flow_run_name="availability digest {request.start_day} +{request.days} days")
async def availability_digest(credentials: CalendlyCredentials, request: DigestRequest) -> DigestReport:
    """Say who can be booked when in the next days, who cannot be booked at all, and what changed since last time.

    Leaves a markdown artifact to read and a table artifact with one row per host and day. It only reads; what
    cannot be read of one host or event type is listed there and does not hide the others.

    Args:
        credentials: Whose Calendly to use; for other hosts than yourself, an owner's or admin's.
        request: Whose availability, and for which days.

    Returns:
        Counts, the first open slot, where the artifacts are, and what it cost.

    Raises:
        ValueError: There is no such notification block (nothing was asked), or an e-mail address belongs to no member
            of the organization.
        CalendlyError: The key was refused, or the hosts could not be listed.
        DigestUnreadableError: Nothing of any host could be read; the artifacts say why.
    """
    began = time.monotonic()
    await check_notifier(request.notify)
    async with notify_on_failure(request.notify, "Availability digest failed"):
        with count_requests() as meter:
            user, digest = await _read(credentials, request, meter)
        key = artifact_key(user.uri, request)
        table_key = f"{key}-table"
        changes = await _changes(digest, table_key)
        title = headline(digest)
        page = digest_markdown(digest, changes, table_key, meter, time.monotonic() - began)
        await acreate_markdown_artifact(page, key=key, description=_ABOUT)
        if digest.nothing_readable:
            raise DigestUnreadableError(
                f"No open slots could be read: {pluralize(len(digest.problems), 'problem')}, the first: "
                f"{digest.problems[0].why} All are listed in the artifact {key}."
            )
        message = f"{title}. {changes_in_words(changes)}"
        if digest.problems:
            message += f" {pluralize(len(digest.problems), 'thing')} could not be read."
        failure = await notify(request.notify, "Availability digest", message)
        # The table last: what the next digest is compared with is one that was read, and that somebody was told of.
        await acreate_table_artifact(table_rows(digest), key=table_key, description=title)
    return DigestReport(
        hosts=len(digest.hosts),
        days=len(digest.days),
        open_slots=digest.open_slots,
        hosts_with_nothing_open=len(digest.nothing_open),
        unreadable=len(digest.problems),
        next_free=digest.next_free,
        first_digest=changes is None,
        changed_hosts=len(changes.moved) if changes is not None else 0,
        markdown_artifact=key,
        table_artifact=table_key,
        notified=request.notify is not None and failure is None,
        requests=meter.requests,
        seconds=round(time.monotonic() - began, 2),
    )


async def _read(credentials: CalendlyCredentials, request: DigestRequest, meter: RequestMeter) -> tuple[User, Digest]:
    """Read everything, while showing how far it is, and make the digest of it."""
    now, first_day = datetime.now(UTC), request.start_day
    midnights = day_bounds(first_day, request.days, ZoneInfo(request.timezone))
    start, end = midnights[0], midnights[-1]
    slot_windows, busy_windows = (
        -(-(end - max(start, now)) // timedelta(days=days)) for days in (AVAILABLE_TIMES_DAYS, BUSY_TIMES_DAYS)
    )
    async with progress(PROGRESS_KEY, "Reading the availability", meter) as steps:
        user = await aget_current_user(credentials)
        hosts, problems = await find_hosts(credentials, request, user)
        names = {host.uuid: host.name for host in hosts}
        steps.expect(len(names) * (2 + busy_windows + _EVENT_TYPES_PER_HOST * slot_windows))

        offered = await read_offers(credentials, list(names))
        problems += _problems(offered, lambda host: f"event types of {names[host]}")
        offers = {host: _wanted(found, request.event_types) for host, found in _values(offered).items()}
        every = {offer.uuid: offer.name for found in offers.values() for offer in found}
        for uuid in request.event_types:
            if uuid not in every:
                problems.append(Problem(f"event type {uuid}", "it is no active event type of these hosts"))
        steps.expect(len(every) * slot_windows + len(names) * (busy_windows + 1))

        slots = await read_slots(credentials, list(every), start, end)
        problems += _problems(slots, lambda event_type: f"open slots of {every[event_type]}")
        busy = await read_busy(credentials, list(names), start, end)
        problems += _problems(busy, lambda host: f"busy times of {names[host]}")
        schedules = await read_schedules(credentials, list(names))
        problems += _problems(schedules, lambda host: f"working hours of {names[host]}")
    return user, build_digest(
        hosts,
        offers,
        _values(slots),
        _values(busy),
        _values(schedules),
        first_day=first_day,
        days=request.days,
        timezone=request.timezone,
        now=now,
        problems=problems,
    )


def _wanted(offers: Iterable[Offer], uuids: Sequence[str]) -> list[Offer]:
    return [offer for offer in offers if not uuids or offer.uuid in uuids]


def _values(outcomes: Iterable[Outcome[str, T]]) -> dict[str, T]:
    return {outcome.item: outcome.value for outcome in outcomes if outcome.value is not None}


def _problems(outcomes: Iterable[Outcome[str, Any]], what: Callable[[str], str]) -> list[Problem]:
    return [Problem(what(outcome.item), _why(outcome)) for outcome in outcomes if outcome.error is not None]
