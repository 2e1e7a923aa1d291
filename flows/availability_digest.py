"""The availability digest: who can be booked when, who cannot be booked at all, and what changed since last time."""

from __future__ import annotations

import hashlib
import json
import re
import time
from bisect import bisect_right
from collections import Counter
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from typing import Annotated, Any, Final, Literal, NamedTuple, TypeVar
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from prefect import flow
from prefect.artifacts import Artifact, acreate_markdown_artifact, acreate_table_artifact
from pydantic import AfterValidator, Field, ValidationInfo, field_validator

from flows.common import BlockReference, Parameters, ZoneName, cell, counted, markdown_table, notify
from prefect_calendly import CalendlyClient, CalendlyCredentials
from prefect_calendly.availability import (
    AvailabilitySchedule,
    alist_availability_schedules,
    alist_available_times,
    alist_busy_times,
)
from prefect_calendly.client import Outcome, RequestMeter, count_requests
from prefect_calendly.endpoints import endpoint_task, on_client, stream
from prefect_calendly.errors import BadRequestError
from prefect_calendly.event_types import EventType, alist_event_types
from prefect_calendly.identifiers import uuid_of
from prefect_calendly.organizations import alist_memberships
from prefect_calendly.users import User, aget_current_user, aget_user

KEY_PREFIX: Final = "availability-digest-"
LONGEST_DIGEST_DAYS: Final = 62
FURTHEST_FIRST_DAY: Final = timedelta(days=730)

_WEEKDAYS = ("monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday")
_BUSY_KINDS = ("calendly", "reserved", "external")
# Any of these hosts may take such a booking: an open slot says nothing about one of them.
_ANY_OF_THE_HOSTS = ("round_robin", "multi_pool")
_EMAIL = re.compile(r"[^@\s,;<>]+@[^@\s,;<>]+\.[^@\s,;<>]+")

# Calendly wants times in the future: when the request arrives, not when it is made.
_MARGIN = timedelta(minutes=1)
_ASKS = 3

# The markdown is read on a phone; the table artifact has everything.
_SHOWN_HOSTS = 50
_SHOWN_DAYS = 14
_DAYS_PER_TABLE = 7

T = TypeVar("T")
Span = tuple[datetime, datetime]


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


class DigestRequest(Parameters):
    """Whose availability the digest shows, and for which days."""

    scope: Literal["hosts", "organization"] = Field(
        default="hosts",
        description="The hosts listed below, or every member of the organisation (needs an owner or admin).",
        json_schema_extra={"position": 0},
    )
    hosts: tuple[Annotated[str, AfterValidator(_host_reference)], ...] = Field(
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
        json_schema_extra={"position": 4},
    )
    event_types: tuple[Annotated[str, AfterValidator(_event_type_reference)], ...] = Field(
        default=(),
        max_length=1000,
        description="Only these event types: URIs or uuids; empty = every active one.",
        json_schema_extra={"position": 5},
    )
    notify: BlockReference | None = Field(
        default=None,
        max_length=200,
        description="Type and name of a saved notification block, such as slack-webhook/ops: gets a short message.",
        json_schema_extra={"position": 6},
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


# Plain data: what is read, and the digest made of it


class Host(NamedTuple):
    """Somebody who can be booked."""

    uuid: str
    name: str


class Offer(NamedTuple):
    """An active event type."""

    uuid: str
    name: str
    minutes: float
    any_of_the_hosts: bool = False
    owner: str = ""
    """Name of the user or team that offers it."""


class Busy(NamedTuple):
    """A stretch in which a host cannot be booked."""

    kind: str
    start: datetime
    end: datetime


class Problem(NamedTuple):
    """Something that could not be read."""

    what: str
    why: str


@dataclass(frozen=True, slots=True)
class HostDay:
    """A host's day, in the digest's zone; today from now on."""

    date: date
    slots: Mapping[str, int]
    """Open slots by event type (uuid)."""
    busy: Mapping[str, timedelta] | None
    """Busy time by kind; overlaps within a kind count once. None: could not be read."""
    working: timedelta | None
    """Working hours of the default schedule. None: there is none, or it could not be read."""

    @property
    def open_slots(self) -> int:
        return sum(self.slots.values())


@dataclass(frozen=True, slots=True)
class HostDigest:
    """A host's days."""

    host: Host
    days: tuple[HostDay, ...]
    next_free: datetime | None
    complete: bool
    """Whether the slots of all event types could be read."""

    @property
    def open_slots(self) -> int:
        return sum(day.open_slots for day in self.days)

    @property
    def nothing_open(self) -> bool:
        """Whether nobody can book this host; not said of one whose slots could not all be read."""
        return self.complete and self.open_slots == 0


@dataclass(frozen=True, slots=True)
class Digest:
    """Who can be booked when."""

    timezone: str
    made_at: datetime
    days: tuple[date, ...]
    hosts: tuple[HostDigest, ...]
    offers: Mapping[str, Offer]
    slots_per_offer: Mapping[str, tuple[int, ...]]
    """Open slots per event type and day, whoever hosts it."""
    problems: tuple[Problem, ...]

    @property
    def open_slots(self) -> int:
        return sum(sum(counts) for counts in self.slots_per_offer.values())

    @property
    def nothing_open(self) -> tuple[HostDigest, ...]:
        return tuple(host for host in self.hosts if host.nothing_open)

    @property
    def next_free(self) -> datetime | None:
        return min((host.next_free for host in self.hosts if host.next_free is not None), default=None)


# What decides: time


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


def merged(spans: Iterable[Span]) -> list[Span]:
    """Return the same time in spans that neither overlap nor touch, in order; empty spans are dropped."""
    result: list[Span] = []
    for start, end in sorted(span for span in spans if span[0] < span[1]):
        if result and start <= result[-1][1]:
            result[-1] = result[-1][0], max(result[-1][1], end)
        else:
            result.append((start, end))
    return result


def time_per_day(spans: Iterable[Span], bounds: Sequence[datetime]) -> list[timedelta]:
    """Return how much of each day is covered; overlaps count once.

    Args:
        spans: Any spans.
        bounds: Beginnings of the days and the end of the last one, ascending.

    Returns:
        One duration per day.
    """
    result = [timedelta()] * (len(bounds) - 1)
    for start, end in merged(spans):
        day = max(0, bisect_right(bounds, start) - 1)
        while day < len(result) and bounds[day] < end:
            result[day] += min(end, bounds[day + 1]) - max(start, bounds[day])
            day += 1
    return result


def slots_per_day(slots: Iterable[datetime], bounds: Sequence[datetime]) -> list[int]:
    """Return how many slots start on each day; those before the first or after the last day are left out."""
    counts = Counter(bisect_right(bounds, slot) - 1 for slot in slots)
    return [counts[day] for day in range(len(bounds) - 1)]


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


# What decides: the digest


def build_digest(
    hosts: Sequence[Host],
    offers: Mapping[str, Sequence[Offer]],
    slots: Mapping[str, list[datetime]],
    busy: Mapping[str, list[Busy]],
    schedules: Mapping[str, list[AvailabilitySchedule]],
    *,
    first_day: date,
    days: int,
    timezone: str,
    now: datetime,
    problems: Sequence[Problem] = (),
) -> Digest:
    """Make the digest of plain data; what a mapping lacks could not be read.

    Calendly does not tell which host an open slot of a round robin is of. It counts for each host of it who is not
    busy then, and within one of whose schedules it lies.

    Args:
        hosts: Who is in the digest.
        offers: Active event types by host (uuid).
        slots: Starts of the open slots by event type (uuid).
        busy: Busy times by host (uuid).
        schedules: Schedules by host (uuid); the default one counts.
        first_day: First day, in `timezone`.
        days: How many days.
        timezone: IANA zone in which the days begin.
        now: What is before it is left out (aware).
        problems: What could not be read.

    Returns:
        The digest.
    """
    zone = ZoneInfo(timezone)
    bounds = [max(bound, now) for bound in day_bounds(first_day, days, zone)]
    dates = tuple(first_day + timedelta(days=number) for number in range(days))
    starts = {uuid: sorted({s for s in some if bounds[0] <= s < bounds[-1]}) for uuid, some in slots.items()}
    counts = {uuid: slots_per_day(some, bounds) for uuid, some in starts.items()}
    found = list(problems)
    digests = []
    for host in hosts:
        busy_spans: dict[str, list[Span]] = {kind: [] for kind in _BUSY_KINDS}
        for stretch in busy.get(host.uuid, ()):
            busy_spans.setdefault(stretch.kind, []).append((stretch.start, stretch.end))
        busy_days = {kind: time_per_day(spans, bounds) for kind, spans in busy_spans.items()}
        hours: dict[bool, list[Span]] = {}
        try:
            for schedule in schedules.get(host.uuid, ()):
                hours.setdefault(schedule.default, []).extend(openings(schedule, bounds[0], bounds[-1]))
        except ValueError as error:
            hours = {}
            found.append(Problem(f"working hours of {host.name}", str(error)))
        working = time_per_day(hours[True], bounds) if True in hours else None
        all_busy = merged(span for spans in busy_spans.values() for span in spans)
        all_hours = merged(span for spans in hours.values() for span in spans) if hours else None

        mine: dict[str, list[int]] = {}
        firsts: list[datetime] = []
        readable = [offer for offer in offers.get(host.uuid, ()) if offer.uuid in starts]
        for offer in readable:
            possible = starts[offer.uuid]
            mine[offer.uuid] = counts[offer.uuid]
            if offer.any_of_the_hosts:
                possible = _possible(possible, timedelta(minutes=offer.minutes), all_busy, all_hours)
                mine[offer.uuid] = slots_per_day(possible, bounds)
            firsts += possible[:1]

        digests.append(
            HostDigest(
                host,
                tuple(
                    HostDay(
                        day,
                        {uuid: per_day[number] for uuid, per_day in mine.items()},
                        {kind: per_day[number] for kind, per_day in busy_days.items()} if host.uuid in busy else None,
                        None if working is None else working[number],
                    )
                    for number, day in enumerate(dates)
                ),
                min(firsts, default=None),
                complete=host.uuid in offers and len(readable) == len(offers[host.uuid]),
            )
        )
    known = {offer.uuid: offer for host in hosts for offer in offers.get(host.uuid, ())}
    per_offer = {uuid: tuple(counts[uuid]) for uuid in known if uuid in counts}
    return Digest(timezone, now, dates, tuple(digests), known, per_offer, tuple(found))


def _possible(
    slots: Sequence[datetime], length: timedelta, busy: Sequence[Span], hours: Sequence[Span] | None
) -> list[datetime]:
    """Return the slots that overlap no busy span and lie within one span of the hours, where these are known."""
    busy_ends = [end for _, end in busy]
    openings_begin = [start for start, _ in hours or ()]

    def is_free(slot: datetime) -> bool:
        following = bisect_right(busy_ends, slot)
        return following == len(busy) or busy[following][0] >= slot + length

    def is_open(slot: datetime) -> bool:
        last = bisect_right(openings_begin, slot) - 1
        return hours is None or (last >= 0 and slot + length <= hours[last][1])

    return [slot for slot in slots if is_free(slot) and is_open(slot)]


# What decides: changes


@dataclass(frozen=True, slots=True)
class Changes:
    """What is different from the previous digest; hosts that are in both, and could be read for both."""

    since: datetime
    closed: tuple[Host, ...]
    """Have nothing open now, and had something."""
    reopened: tuple[Host, ...]
    """Have something open now, and had nothing."""
    moved: tuple[tuple[Host, int], ...]
    """More or fewer open slots on the days of both, without today: of that, hours have just passed."""


def table_rows(digest: Digest) -> list[dict[str, Any]]:
    """Return the table artifact: one row per host and day, which the next digest is compared with."""
    offers = {uuid: cell(offer.name) for uuid, offer in digest.offers.items()}
    rows = []
    for entry in digest.hosts:
        for day in entry.days:
            other = [length for kind, length in (day.busy or {}).items() if kind not in _BUSY_KINDS]
            rows.append(
                {
                    "host": cell(entry.host.name),
                    "date": day.date.isoformat(),
                    "open_slots": day.open_slots if entry.complete or day.slots else None,
                    "working_hours": None if day.working is None else _hours(day.working),
                    **{f"busy_{kind}": None if day.busy is None else _hours(day.busy[kind]) for kind in _BUSY_KINDS},
                    "busy_other": None if day.busy is None else _hours(sum(other, timedelta())),
                    "by_event_type": ", ".join(
                        f"{offers[uuid]}: {count}" for uuid, count in day.slots.items() if count
                    ),
                    "complete": entry.complete,
                    "host_uuid": entry.host.uuid,
                }
            )
    return rows


def open_slots_of_table(data: Any) -> dict[str, dict[str, int]]:
    """Read open slots by host (uuid) and date back from a table artifact; rows that say too little are left out."""
    try:
        rows = json.loads(data) if isinstance(data, str) else data
    except ValueError:
        rows = []
    result: dict[str, dict[str, int]] = {}
    for row in rows if isinstance(rows, list) else ():
        if isinstance(row, dict) and row.get("complete") is True and isinstance(row.get("open_slots"), int):
            result.setdefault(str(row.get("host_uuid")), {})[str(row.get("date"))] = row["open_slots"]
    return result


def compare(digest: Digest, previous: Mapping[str, Mapping[str, int]], since: datetime) -> Changes:
    """Compare a digest with the previous one.

    Args:
        digest: The new digest.
        previous: Open slots by host (uuid) and date of the previous one.
        since: When the previous one was made.

    Returns:
        The changes.
    """
    today = digest.made_at.astimezone(ZoneInfo(digest.timezone)).date()
    closed, reopened, moved = [], [], []
    for entry in digest.hosts:
        before = previous.get(entry.host.uuid)
        if before is None or not entry.complete:
            continue
        had = sum(before.values())
        if had and entry.nothing_open:
            closed.append(entry.host)
        if not had and not entry.nothing_open:
            reopened.append(entry.host)
        difference = sum(
            day.open_slots - before[day.date.isoformat()]
            for day in entry.days
            if day.date > today and day.date.isoformat() in before
        )
        if difference:
            moved.append((entry.host, difference))
    moved.sort(key=lambda item: item[1])
    return Changes(since, tuple(closed), tuple(reopened), tuple(moved))


# What is shown


def headline(digest: Digest) -> str:
    """Return the digest in one line."""
    return (
        f"{counted(len(digest.hosts), 'host')}, {counted(len(digest.days), 'day')} from {_day(digest.days[0])} "
        f"{digest.days[0].year} ({digest.timezone}): {counted(digest.open_slots, 'open slot')}, "
        f"{counted(len(digest.nothing_open), 'host')} with nothing open"
    )


def changes_in_words(changes: Changes | None) -> str:
    """Return the changes in one line."""
    if changes is None:
        return "First digest: nothing to compare with yet."
    if not (changes.closed or changes.reopened or changes.moved):
        return "No changes."
    return (
        f"{counted(len(changes.closed), 'host')} with nothing open any more, {len(changes.reopened)} open again, "
        f"{counted(len(changes.moved), 'host')} with other numbers of open slots."
    )


def digest_markdown(digest: Digest, changes: Changes | None, table_key: str, meter: RequestMeter) -> str:
    """Return the markdown artifact: short lines and narrow tables, for a phone; names are made safe.

    Args:
        digest: The digest.
        changes: What changed; None for the first digest.
        table_key: Key of the table artifact, which holds everything.
        meter: What it cost.

    Returns:
        Markdown.
    """
    zone = ZoneInfo(digest.timezone)
    # Those who need attention first: whoever cannot be booked.
    hosts = sorted(digest.hosts, key=lambda entry: (not entry.nothing_open, entry.open_slots, entry.host.name))
    shown = hosts[:_SHOWN_HOSTS]
    lines = ["# Availability digest", "", f"{headline(digest)}.", "", f"Made {_moment(digest.made_at, zone)}."]
    if digest.days[0] == digest.made_at.astimezone(zone).date():
        lines[-1] += " Today counts from then on."
    bounds = day_bounds(digest.days[0], len(digest.days), zone)
    for day, begins, ends in zip(digest.days, bounds, bounds[1:], strict=False):
        if ends - begins != timedelta(days=1):
            lines += ["", f"The clocks change: {_day(day)} has {_hours(ends - begins):g} hours."]
    if len(hosts) > len(shown):
        more = f"Only {len(shown)} of the {len(hosts)} hosts are shown here"
        lines += ["", f"{more}, fewest open slots first; the table artifact `{table_key}` has all."]

    nobody = "Nobody." if all(entry.complete for entry in hosts) else "Nobody whose slots could all be read."
    lines += ["", "## Nothing open", "", *(_some(entry.host.name for entry in hosts if entry.nothing_open) or [nobody])]

    lines += ["", "## Changes", "", changes_in_words(changes)]
    if changes is not None:
        lines[-1] += f" Compared with the digest of {_moment(changes.since, zone)}."
        lines += ["", *_some((host.name for host in changes.closed), ": nothing open any more")]
        lines += _some((host.name for host in changes.reopened), ": open again")
        lines += _some(f"{host.name}: {by:+d}" for host, by in changes.moved)

    next_free = [_moment(entry.next_free, zone) if entry.next_free else "–" for entry in shown]
    rows = [(entry.host.name, first, _open(entry)) for entry, first in zip(shown, next_free, strict=True)]
    lines += ["", "## Next free slot", "", markdown_table(["Host", "Next free", "Open"], rows)]

    lines += ["", "## Open slots per day"]
    for first in range(0, min(len(digest.days), _SHOWN_DAYS), _DAYS_PER_TABLE):
        numbers = range(first, min(first + _DAYS_PER_TABLE, len(digest.days), _SHOWN_DAYS))
        heads = [_day(digest.days[number]) for number in numbers]
        per_host = [(entry.host.name, *(_open(entry, entry.days[number]) for number in numbers)) for entry in shown]
        offers = sorted(digest.slots_per_offer.items(), key=lambda item: (-sum(item[1]), item[0]))[:_SHOWN_HOSTS]
        per_offer = [
            (_whose(digest.offers[uuid], len(hosts)), *(counts[number] for number in numbers))
            for uuid, counts in offers
        ]
        lines += ["", markdown_table(["Host", *heads], per_host)]
        lines += ["", markdown_table(["Event type", *heads], per_offer)]
    if len(digest.days) > _SHOWN_DAYS:
        lines += ["", f"The later days are in the table artifact `{table_key}`."]

    kinds = ["Booked", "Reserved", "Other calendars"]
    lines += ["", "## Hours", "", markdown_table(["Host", "Working", *kinds], map(_hours_row, shown))]

    if digest.problems:
        lines += ["", "## Could not be read", ""]
        lines += _some(f"{problem.what}: {problem.why}" for problem in digest.problems)
    cost = f"{counted(meter.requests, 'request')}, {meter.repeats} of them repeats, {meter.seconds_waited:.1f} s waited"
    return "\n".join([*lines, "", f"Cost: {cost}.", ""])


def _whose(offer: Offer, hosts: int) -> str:
    return f"{offer.name} ({offer.owner})" if hosts > 1 and offer.owner else offer.name


def _hours_row(entry: HostDigest) -> tuple[str, ...]:
    working = [day.working for day in entry.days if day.working is not None]
    cells = [f"{_hours(sum(working, timedelta())):.1f}" if working else "–"]
    for kind in _BUSY_KINDS:
        lengths = [day.busy[kind] for day in entry.days if day.busy is not None]
        cells.append(f"{_hours(sum(lengths, timedelta())):.1f}" if lengths else "?")
    return entry.host.name, *cells


def _open(entry: HostDigest, day: HostDay | None = None) -> str:
    """Return open slots, in all or of a day: `5`; `5+` where some event types could not be read; `?` for all."""
    if not entry.complete and not entry.days[0].slots:
        return "?"
    return f"{entry.open_slots if day is None else day.open_slots}{'' if entry.complete else '+'}"


def _some(texts: Iterable[str], ending: str = "") -> list[str]:
    every = list(texts)
    lines = [f"- {cell(text)}{ending}" for text in every[:_SHOWN_HOSTS]]
    return lines if len(every) <= _SHOWN_HOSTS else [*lines, f"- and {len(every) - _SHOWN_HOSTS} more{ending}"]


def _hours(length: timedelta) -> float:
    return round(length / timedelta(hours=1), 2)


def _day(day: date) -> str:
    return f"{day:%a} {day.day} {day:%b}"


def _moment(moment: datetime, zone: ZoneInfo) -> str:
    local = moment.astimezone(zone)
    return f"{_day(local.date())} {local:%H:%M}"


# Tasks


@endpoint_task("Find the hosts")
async def find_hosts(client: CalendlyClient, request: DigestRequest, user: User) -> tuple[list[Host], list[Problem]]:
    """Return the hosts that were asked for, each once; and which of them could not be read."""
    if request.scope == "organization":
        members = stream(alist_memberships)(client, organization=user.current_organization)
        return list({_host(member.user): None async for member in members}), []
    if not request.hosts:
        return [_host(user)], []

    async def find(position: int) -> Host:
        reference = request.hosts[position]
        if reference in (user.uri.rpartition("/")[2], user.email.lower()):
            return _host(user)
        if "@" not in reference:
            return _host(await on_client(aget_user)(client, reference))
        members = stream(alist_memberships)(client, organization=user.current_organization, email=reference)
        found = [_host(member.user) async for member in members]
        if not found:  # the position, not the address: this text ends up in logs
            raise ValueError(f"hosts[{position}]: no member of the organisation has this e-mail address")
        return found[0]

    outcomes = await client.each(range(len(request.hosts)), find)
    failed = [outcome for outcome in outcomes if outcome.error is not None]
    hosts = dict.fromkeys(outcome.value for outcome in outcomes if outcome.value is not None)
    problems = [Problem(f"hosts[{outcome.item}]", _why(outcome)) for outcome in failed]
    return list(hosts), problems


@endpoint_task("List event types of the hosts")
async def read_offers(client: CalendlyClient, hosts: Sequence[str]) -> list[Outcome[str, list[Offer]]]:
    """Return the active event types of each host."""

    async def read(host: str) -> list[Offer]:
        return [_offer(item) async for item in stream(alist_event_types)(client, user=host, active=True)]

    return await client.each(hosts, read)


@endpoint_task("Read open slots")
async def read_slots(
    client: CalendlyClient, event_types: Sequence[str], start: datetime, end: datetime
) -> list[Outcome[str, list[datetime]]]:
    """Return the starts of the open slots of each event type."""

    async def read(event_type: str) -> list[datetime]:
        async def ask(begin: datetime) -> list[datetime]:
            slots = await on_client(alist_available_times)(client, event_type, start_time=begin, end_time=end)
            return [slot.start_time for slot in slots]

        return await from_now_on(ask, start, end)

    return await client.each(event_types, read)


@endpoint_task("Read busy times")
async def read_busy(
    client: CalendlyClient, hosts: Sequence[str], start: datetime, end: datetime
) -> list[Outcome[str, list[Busy]]]:
    """Return the busy times of each host."""

    async def read(host: str) -> list[Busy]:
        async def ask(begin: datetime) -> list[Busy]:
            times = await on_client(alist_busy_times)(client, host, start_time=begin, end_time=end)
            return [Busy(time.type, time.start_time, time.end_time) for time in times]

        return await from_now_on(ask, start, end)

    return await client.each(hosts, read)


@endpoint_task("Read working hours")
async def read_schedules(
    client: CalendlyClient, hosts: Sequence[str]
) -> list[Outcome[str, list[AvailabilitySchedule]]]:
    """Return the availability schedules of each host."""
    return await client.each(hosts, lambda host: on_client(alist_availability_schedules)(client, host))


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


@flow(flow_run_name="availability digest {request.start_day} +{request.days} days")
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
        ValueError: An e-mail address belongs to no member of the organisation.
        CalendlyError: The key was refused, or the hosts could not be listed.
        DigestUnreadableError: Nothing of any host could be read; the artifacts say why.
    """
    began, now, first_day = time.monotonic(), datetime.now(UTC), request.start_day
    midnights = day_bounds(first_day, request.days, ZoneInfo(request.timezone))
    start, end = midnights[0], midnights[-1]
    with count_requests() as meter:
        user = await aget_current_user(credentials)
        hosts, problems = await find_hosts(credentials, request, user)
        names = {host.uuid: host.name for host in hosts}

        offered = await read_offers(credentials, list(names))
        problems += _problems(offered, lambda host: f"event types of {names[host]}")
        offers = {host: _wanted(found, request.event_types) for host, found in _values(offered).items()}
        every = {offer.uuid: offer.name for found in offers.values() for offer in found}
        for uuid in request.event_types:
            if uuid not in every:
                problems.append(Problem(f"event type {uuid}", "it is no active event type of these hosts"))

        slots = await read_slots(credentials, list(every), start, end)
        problems += _problems(slots, lambda event_type: f"open slots of {every[event_type]}")
        busy = await read_busy(credentials, list(names), start, end)
        problems += _problems(busy, lambda host: f"busy times of {names[host]}")
        schedules = await read_schedules(credentials, list(names))
        problems += _problems(schedules, lambda host: f"working hours of {names[host]}")

        digest = build_digest(
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
    key = artifact_key(user.uri, request)
    table_key = f"{key}-table"
    changes = await _changes(digest, table_key)
    title = headline(digest)
    # The table last: a run that is killed before it has told nobody, so the next one tells the same changes.
    await acreate_markdown_artifact(digest_markdown(digest, changes, table_key, meter), key=key, description=title)
    await acreate_table_artifact(table_rows(digest), key=table_key, description=title)
    message = f"{title}. {changes_in_words(changes)}"
    if digest.problems:
        message += f" {counted(len(digest.problems), 'thing')} could not be read."
    failure = await notify(request.notify, "Availability digest", message)
    if digest.problems and (not offers or (every and not _values(slots))):
        raise DigestUnreadableError(
            f"No open slots could be read: {counted(len(digest.problems), 'problem')}, the first: "
            f"{digest.problems[0].why} All are listed in the artifact {key}."
        )
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


def _wanted(offers: Iterable[Offer], uuids: Sequence[str]) -> list[Offer]:
    return [offer for offer in offers if not uuids or offer.uuid in uuids]


def _values(outcomes: Iterable[Outcome[str, T]]) -> dict[str, T]:
    return {outcome.item: outcome.value for outcome in outcomes if outcome.value is not None}


def _problems(outcomes: Iterable[Outcome[str, Any]], what: Callable[[str], str]) -> list[Problem]:
    return [Problem(what(outcome.item), _why(outcome)) for outcome in outcomes if outcome.error is not None]
