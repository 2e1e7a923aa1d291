"""The availability digest as plain data."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from typing import Final, NamedTuple

BUSY_KINDS: Final = ("calendly", "reserved", "external")
"""What makes a host busy, as Calendly names it: bookings, reserved slots, events of connected calendars."""


class Host(NamedTuple):
    """Somebody who can be booked."""

    uuid: str
    name: str


class HostedEventType(NamedTuple):
    """An active event type of a host."""

    uuid: str
    name: str
    minutes: float
    """Length of a meeting."""
    is_pooled: bool = False
    """Whether any one of several hosts takes the booking, as in a round robin."""
    owner: str = ""
    """Name of the user or team that offers it."""


class BusySpan(NamedTuple):
    """A time in which a host cannot be booked."""

    kind: str
    start: datetime
    end: datetime


class Problem(NamedTuple):
    """Something that could not be read."""

    subject: str
    reason: str


@dataclass(frozen=True, slots=True)
class HalfDay:
    """The morning or the afternoon of a host's day, in the digest's time zone; of today only what is left of it."""

    is_past: bool
    slots: Mapping[str, int]
    """Number of open slots that start in it, by event type (uuid)."""
    busy: Mapping[str, timedelta] | None
    """Busy time by kind; overlaps within a kind count once. None if it could not be read."""
    working: timedelta | None
    """Working hours of the default schedule. None if there is none, or it could not be read."""
    free: timedelta | None
    """Working hours that are not busy; overlaps count once. None if unknown."""

    @property
    def open_slots(self) -> int:
        return sum(self.slots.values())

    @property
    def free_share(self) -> float | None:
        """Which share of the working hours is free, 0 to 1; None without working hours, or if unknown."""
        return self.free / self.working if self.working and self.free is not None else None


@dataclass(frozen=True, slots=True)
class HostDay:
    """A host's day in the digest's time zone."""

    date: date
    halves: tuple[HalfDay, HalfDay]

    @property
    def slots(self) -> dict[str, int]:
        morning, afternoon = (half.slots for half in self.halves)
        return {uuid: morning[uuid] + afternoon[uuid] for uuid in morning}

    @property
    def busy(self) -> dict[str, timedelta] | None:
        morning, afternoon = (half.busy for half in self.halves)
        if morning is None or afternoon is None:
            return None
        return {kind: morning[kind] + afternoon[kind] for kind in morning}

    @property
    def working(self) -> timedelta | None:
        morning, afternoon = (half.working for half in self.halves)
        return None if morning is None or afternoon is None else morning + afternoon

    @property
    def open_slots(self) -> int:
        return sum(half.open_slots for half in self.halves)


@dataclass(frozen=True, slots=True)
class HostDigest:
    """All days of a host."""

    host: Host
    days: tuple[HostDay, ...]
    next_slot: datetime | None
    """Start of the first open slot."""
    is_complete: bool
    """Whether the open slots of all of the host's event types could be read."""

    @property
    def open_slots(self) -> int:
        return sum(day.open_slots for day in self.days)

    @property
    def has_no_slots(self) -> bool:
        """Whether nobody can book this host. False if not all slots could be read: there may be some."""
        return self.is_complete and self.open_slots == 0


@dataclass(frozen=True, slots=True)
class Digest:
    """Who can be booked when."""

    timezone: str
    made_at: datetime
    days: tuple[date, ...]
    hosts: tuple[HostDigest, ...]
    event_types: Mapping[str, HostedEventType]
    """All event types of the hosts, by uuid."""
    slots_per_event_type: Mapping[str, tuple[int, ...]]
    """Open slots per day by event type (uuid); one that several hosts share counts once."""
    problems: tuple[Problem, ...]

    @property
    def open_slots(self) -> int:
        return sum(sum(counts) for counts in self.slots_per_event_type.values())

    @property
    def hosts_without_slots(self) -> tuple[HostDigest, ...]:
        return tuple(host for host in self.hosts if host.has_no_slots)

    @property
    def next_slot(self) -> datetime | None:
        """Start of the first open slot of all hosts."""
        return min((host.next_slot for host in self.hosts if host.next_slot is not None), default=None)

    @property
    def is_unreadable(self) -> bool:
        """Whether there are no open slots because reading failed, not because everybody is busy."""
        incomplete = not self.hosts or not all(host.is_complete for host in self.hosts)
        return bool(self.problems) and not self.slots_per_event_type and incomplete
