"""The availability digest as plain data: who can be booked when, and what is different from last time."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from typing import Final, NamedTuple
from zoneinfo import ZoneInfo

from prefect_calendly.availability import AvailabilitySchedule
from prefect_calendly.digest.time import (
    Span,
    free_per_part,
    half_day_bounds,
    merged,
    openings,
    slots_per_part,
    time_per_part,
)

BUSY_KINDS: Final = ("calendly", "reserved", "external")


# What is read, and the digest made of it


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
class HalfDay:
    """A host's half-day, before or after noon of the digest's zone; of today what is left of it."""

    is_over: bool
    slots: Mapping[str, int]
    """Open slots that start in it, by event type (uuid)."""
    busy: Mapping[str, timedelta] | None
    """Busy time by kind; overlaps within a kind count once. None: could not be read."""
    working: timedelta | None
    """Working hours of the default schedule. None: there is none, or it could not be read."""
    free: timedelta | None
    """How much of the working hours is not busy; overlaps count once. None: not known."""

    @property
    def open_slots(self) -> int:
        return sum(self.slots.values())

    @property
    def free_share(self) -> float | None:
        """How much of the working hours is free, 0 to 1; None if there are none, or it is not known."""
        return self.free / self.working if self.working and self.free is not None else None


@dataclass(frozen=True, slots=True)
class HostDay:
    """A host's day, in the digest's zone: its two halves together."""

    date: date
    halves: tuple[HalfDay, HalfDay]

    @property
    def slots(self) -> dict[str, int]:
        before, after = (half.slots for half in self.halves)
        return {uuid: before[uuid] + after[uuid] for uuid in before}

    @property
    def busy(self) -> dict[str, timedelta] | None:
        before, after = (half.busy for half in self.halves)
        return None if before is None or after is None else {kind: before[kind] + after[kind] for kind in before}

    @property
    def working(self) -> timedelta | None:
        before, after = (half.working for half in self.halves)
        return None if before is None or after is None else before + after

    @property
    def open_slots(self) -> int:
        return sum(half.open_slots for half in self.halves)


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
    def nothing_readable(self) -> bool:
        """Whether there are no open slots because of failures, not because all are busy."""
        incomplete = not self.hosts or not all(host.complete for host in self.hosts)
        return bool(self.problems) and not self.slots_per_offer and incomplete

    @property
    def next_free(self) -> datetime | None:
        return min((host.next_free for host in self.hosts if host.next_free is not None), default=None)


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
    bounds = [max(bound, now) for bound in half_day_bounds(first_day, days, zone)]
    dates = tuple(first_day + timedelta(days=number) for number in range(days))
    starts = {uuid: sorted({s for s in some if bounds[0] <= s < bounds[-1]}) for uuid, some in slots.items()}
    counts = {uuid: slots_per_part(some, bounds) for uuid, some in starts.items()}
    found = list(problems)
    digests = []
    for host in hosts:
        busy_spans: dict[str, list[Span]] = {kind: [] for kind in BUSY_KINDS}
        for stretch in busy.get(host.uuid, ()):
            busy_spans.setdefault(stretch.kind, []).append((stretch.start, stretch.end))
        all_busy = merged(span for spans in busy_spans.values() for span in spans)
        hours: dict[bool, list[Span]] = {}
        try:
            for schedule in schedules.get(host.uuid, ()):
                hours.setdefault(schedule.default, []).extend(openings(schedule, bounds[0], bounds[-1]))
        except ValueError as error:
            hours = {}
            found.append(Problem(f"working hours of {host.name}", str(error)))
        all_hours = merged(span for spans in hours.values() for span in spans) if hours else None

        mine: dict[str, list[int]] = {}
        firsts: list[datetime] = []
        readable = [offer for offer in offers.get(host.uuid, ()) if offer.uuid in starts]
        for offer in readable:
            possible = starts[offer.uuid]
            mine[offer.uuid] = counts[offer.uuid]
            if offer.any_of_the_hosts:
                possible = _possible(possible, timedelta(minutes=offer.minutes), all_busy, all_hours)
                mine[offer.uuid] = slots_per_part(possible, bounds)
            firsts += possible[:1]

        was_read = host.uuid in busy
        busy_time = {kind: time_per_part(spans, bounds) for kind, spans in busy_spans.items()}
        working = time_per_part(hours[True], bounds) if True in hours else None
        free = free_per_part(hours[True], all_busy, bounds) if True in hours and was_read else None
        halves = [
            HalfDay(
                bounds[part] == bounds[part + 1],
                {uuid: per_part[part] for uuid, per_part in mine.items()},
                {kind: per_part[part] for kind, per_part in busy_time.items()} if was_read else None,
                None if working is None else working[part],
                None if free is None else free[part],
            )
            for part in range(2 * days)
        ]
        digests.append(
            HostDigest(
                host,
                tuple(map(HostDay, dates, zip(halves[::2], halves[1::2], strict=True))),
                min(firsts, default=None),
                complete=host.uuid in offers and len(readable) == len(offers[host.uuid]),
            )
        )
    known = {offer.uuid: offer for host in hosts for offer in offers.get(host.uuid, ())}
    per_offer = {
        uuid: tuple(before + after for before, after in zip(per_part[::2], per_part[1::2], strict=True))
        for uuid, per_part in counts.items()
        if uuid in known
    }
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
