"""When hosts can be booked: their schedules minus events and busy times, across clock changes."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from functools import lru_cache
from zoneinfo import ZoneInfo

from prefect_calendly.sandbox.model import WEEKDAYS, EventType, Rule, Schedule, User
from prefect_calendly.sandbox.world import World

Span = tuple[datetime, datetime]


@dataclass(slots=True)
class Slot:
    """A start at which an event type can be booked, and the hosts who could take it."""

    start: datetime
    invitees_remaining: int
    hosts: tuple[User, ...]


def available(world: World, event_type: EventType, start: datetime, end: datetime) -> list[Slot]:
    """The open slots of an event type that start within `[start, end)` and in the future, ascending.

    The slots of a host follow each other by the duration, from the start of each opening in the schedule. Round robin
    has the union of its hosts' slots; a collective type has the slots within the intersection of their openings.
    """
    if not event_type.active:
        return []
    start = max(start, world.clock.now() + timedelta(microseconds=1))
    openings = {host: openings_of(event_type.schedule_of(host), start, end) for host in event_type.hosts}
    teams: list[tuple[tuple[User, ...], list[Span]]]
    if event_type.pooling == "collective":
        common = openings[event_type.hosts[0]]
        for host in event_type.hosts[1:]:
            common = _intersection(common, openings[host])
        teams = [(tuple(event_type.hosts), common)]
    else:
        teams = [((host,), openings[host]) for host in event_type.hosts]
    found: dict[datetime, Slot] = {}
    for team, spans in teams:
        for moment, remaining in _steps(world, event_type, team, spans, start, end):
            slot = found.setdefault(moment, Slot(moment, remaining, ()))
            slot.hosts += team
    return [found[moment] for moment in sorted(found)]


def _steps(
    world: World,
    event_type: EventType,
    team: tuple[User, ...],
    spans: list[Span],
    start: datetime,
    end: datetime,
) -> Iterator[tuple[datetime, int]]:
    length = timedelta(minutes=event_type.duration)
    events = {e for host in team for e in world.events_between(host, start, end + length)}
    # A group event leaves its own slot open until it is full.
    sessions = {e for e in events if event_type.kind == "group" and e.event_type is event_type}
    own = {e.start: e for e in sessions}
    mine = _Busy((e.start, e.end) for e in sessions)
    others = _Busy(
        [(e.start, e.end) for e in events - sessions] + [(b.start, b.end) for host in team for b in host.busy]
    )
    for opens, closes in spans:
        moment = opens
        if moment < start:  # skip whole steps, to stay on the grid that begins with the opening
            moment += length * -(-(start - moment) // length)
        while moment + length <= closes and moment < end:
            if not others.overlaps(moment, moment + length):
                if moment in own:
                    remaining = event_type.limit - own[moment].active_invitees
                    if remaining > 0:
                        yield moment, remaining
                elif not mine.overlaps(moment, moment + length):
                    yield moment, event_type.limit
            moment += length


class _Busy:
    """Busy spans, merged into disjoint ones so that one binary search finds an overlap."""

    def __init__(self, spans: Iterable[Span]) -> None:
        self.starts: list[datetime] = []
        self.ends: list[datetime] = []
        for start, end in sorted(spans):
            if self.ends and start <= self.ends[-1]:
                self.ends[-1] = max(self.ends[-1], end)
            else:
                self.starts.append(start)
                self.ends.append(end)

    def overlaps(self, start: datetime, end: datetime) -> bool:
        first = bisect_right(self.ends, start)
        return first < len(self.starts) and self.starts[first] < end


def _intersection(left: list[Span], right: list[Span]) -> list[Span]:
    both = ((max(a[0], b[0]), min(a[1], b[1])) for a in left for b in right)
    return sorted(span for span in both if span[0] < span[1])


def openings_of(schedule: Schedule, start: datetime, end: datetime) -> list[Span]:
    """The openings of a schedule that overlap `[start, end)`, as UTC spans, ascending."""
    return openings(schedule.rules, ZoneInfo(schedule.timezone), start, end)


def openings(rules: Iterable[Rule], zone: ZoneInfo, start: datetime, end: datetime) -> list[Span]:
    """The openings by some rules in a zone that overlap `[start, end)`, as UTC spans, ascending."""
    weekly: dict[str, list[tuple[str, str]]] = {}
    dated: dict[str, list[tuple[str, str]]] = {}
    for rule in rules:
        (dated if rule.type == "date" else weekly).setdefault(rule.day, []).extend(rule.intervals)
    day = start.astimezone(zone).date() - timedelta(days=1)
    last = end.astimezone(zone).date()
    spans = []
    while day <= last:
        key = day.isoformat()
        for opens, closes in dated[key] if key in dated else weekly.get(WEEKDAYS[day.weekday()], ()):
            span = instant(day, opens, zone), instant(day, closes, zone)
            if span[0] < span[1] and span[0] < end and span[1] > start:
                spans.append(span)
        day += timedelta(days=1)
    return sorted(spans)


@lru_cache(maxsize=10_000)  # seeding asks for the same hours of the same days for every host of a zone
def instant(day: date, clock: str, zone: ZoneInfo) -> datetime:
    """The UTC instant of a local time such as "09:00".

    A local time that a clock change skips is the instant of the change; one that occurs twice is its first occurrence.
    """
    if clock == "24:00":
        day, clock = day + timedelta(days=1), "00:00"
    local = datetime.combine(day, time.fromisoformat(clock))
    before = local.replace(tzinfo=zone).astimezone(UTC)
    if before.astimezone(zone).replace(tzinfo=None) == local:
        return before
    # The time is skipped. Fold 1 reads it with the offset after the change, so the change lies between both readings.
    low, high = local.replace(tzinfo=zone, fold=1).astimezone(UTC), before
    offset = high.astimezone(zone).utcoffset()
    while high - low > timedelta(seconds=1):
        middle = (low + (high - low) / 2).replace(microsecond=0)
        if middle.astimezone(zone).utcoffset() == offset:
            high = middle
        else:
            low = middle
    return high
