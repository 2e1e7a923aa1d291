"""The state of the sandbox: everything that exists, its clock, and the few ways it changes."""

from __future__ import annotations

import base64
import math
import random
import secrets
import time
from bisect import bisect_left, insort
from collections import defaultdict
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

from .model import (
    Cancellation,
    Connection,
    Event,
    EventType,
    Group,
    Invitee,
    NoShow,
    Organization,
    User,
    Webhook,
)
from .slots import LONGEST_EVENT, busy_events

PLANS = ("free", "standard", "teams", "enterprise")
FASTEST = 1_000_000


@dataclass(slots=True, frozen=True)
class Options:
    """What a sandbox is started with; the command line has the same names."""

    events: int = 300
    invitees: int | None = None
    hosts: int = 3
    upcoming: bool = False
    seed: int = 1
    now: str | datetime | None = None
    clock_speed: float = 1
    latency_ms: float = 0
    gateway_rps: float = 10
    rate_limit_per_minute: int | None = None
    plan: str = "teams"
    api_key: str = "sandbox-key"
    second_key: str = "sandbox-key-2"
    native_token: str = "sandbox-token"  # noqa: S105 - opens nothing real

    def __post_init__(self) -> None:
        if self.plan not in PLANS:
            raise ValueError(f"plan must be one of {', '.join(PLANS)}, not {self.plan!r}")
        if self.hosts < 1:
            raise ValueError("hosts must be at least 1: the organisation needs an owner besides Alice")
        if self.events < 0:
            raise ValueError("events must not be negative")
        if self.invitees is not None and self.invitees < self.events:
            raise ValueError("invitees must be at least the number of events: each has one or more")
        if self.events == 0 and self.invitees:
            raise ValueError("invitees without events have nowhere to go")
        checked_speed(self.clock_speed)

    @property
    def calendly_limit(self) -> int:
        """Calendly's requests per user and minute; 0 is off."""
        if self.rate_limit_per_minute is not None:
            return self.rate_limit_per_minute
        return 50 if self.plan == "free" else 500


def checked_speed(value: Any) -> float:
    """How many seconds of the sandbox's clock a real one lasts."""
    number = isinstance(value, int | float) and not isinstance(value, bool)
    if not number or not math.isfinite(value) or not 0 < value <= FASTEST:
        raise ValueError(f"the clock's speed must be a number above 0, at most {FASTEST}: 1 is real time")
    return float(value)


class Clock:
    """The sandbox's time: runs on from where it was set, as fast as it is told, or stands still."""

    def __init__(self, now: datetime | None = None, speed: float = 1) -> None:
        self.frozen = False
        self.speed = speed
        self.set(now or datetime.now(UTC))

    def now(self) -> datetime:
        if self.frozen:
            return self._base
        return self._base + timedelta(seconds=(time.monotonic() - self._since) * self.speed)

    def set(self, now: datetime) -> None:
        self._base = now.astimezone(UTC)
        self._since = time.monotonic()

    def freeze(self, frozen: bool) -> None:
        self.set(self.now())
        self.frozen = frozen

    def run_at(self, speed: float) -> None:
        self.set(self.now())
        self.speed = speed

    def real_seconds_until(self, moment: datetime) -> float | None:
        """How long that takes as the clock runs now; None if it stands still."""
        return None if self.frozen else max(0.0, (moment - self.now()).total_seconds() / self.speed)


def _nobody_listens(name: str, item: Invitee | EventType) -> None:
    """A world that is being seeded has no deliveries."""


def event_key(event: Event) -> tuple[datetime, str]:
    return event.start, event.uuid


@dataclass(eq=False, repr=False)
class World:
    options: Options
    clock: Clock
    random: random.Random
    organizations: dict[str, Organization] = field(default_factory=dict)
    users: dict[str, User] = field(default_factory=dict)
    groups: dict[str, Group] = field(default_factory=dict)
    event_types: dict[str, EventType] = field(default_factory=dict)
    events: dict[str, Event] = field(default_factory=dict)
    invitees: dict[str, Invitee] = field(default_factory=dict)
    no_shows: dict[str, NoShow] = field(default_factory=dict)
    webhooks: dict[str, Webhook] = field(default_factory=dict)
    connections: dict[str, Connection] = field(default_factory=dict)
    bookings: list[Invitee] = field(default_factory=list)
    # A pending connection turns ACTIVE by itself at its n-th GET, or after so many seconds; None is never.
    activate_after_gets: int | None = 2
    activate_after_seconds: float | None = None
    # Signs page tokens: those of another world are foreign.
    secret: bytes = field(default_factory=lambda: secrets.token_bytes(16))
    # (uuid of a user or an organisation, status or None for both) -> events ascending by start.
    by_owner: defaultdict[tuple[str, str | None], list[Event]] = field(default_factory=lambda: defaultdict(list))
    by_email: defaultdict[str, list[Event]] = field(default_factory=lambda: defaultdict(list))
    # Who is told of what webhooks deliver: the event's name and whom or what it is about.
    tell: Callable[[str, Invitee | EventType], None] = _nobody_listens

    def uuid(self) -> str:
        """A fresh identifier of Calendly's form: 16 characters of A-Z0-9."""
        return base64.b32encode(self.random.randbytes(10)).decode()

    # Reading

    def members(self, organization: Organization) -> list[User]:
        return [u for u in self.users.values() if u.organization is organization]

    def events_between(self, host: User, start: datetime, end: datetime) -> list[Event]:
        """The host's active events that overlap `[start, end)`, ascending."""
        index = self.by_owner[host.uuid, "active"]
        low = bisect_left(index, (start - LONGEST_EVENT, ""), key=event_key)
        high = bisect_left(index, (end, ""), key=event_key)
        return busy_events(index[low:high], start, end)

    # Changing

    def add_event(self, event: Event, *, bulk: bool = False) -> Event:
        """File an event with its invitees. `bulk` leaves the indices unsorted until `sort_indices`."""
        self.events[event.uuid] = event
        for index in self._indices_of(event, None, event.status):
            if bulk:
                index.append(event)
            else:
                insort(index, event, key=event_key)
        for invitee in event.invitees:
            self._file_invitee(invitee, bulk=bulk)
        return event

    def sort_indices(self) -> None:
        for index in (*self.by_owner.values(), *self.by_email.values()):
            index.sort(key=event_key)

    def add_invitee(self, invitee: Invitee) -> None:
        """One more invitee for an event that is already filed."""
        invitee.event.invitees.append(invitee)
        invitee.event.updated = invitee.created
        self._file_invitee(invitee)
        self.tell("invitee.created", invitee)

    def tell_booked(self, event: Event) -> None:
        """An event that was filed with its invitees was booked by them just now."""
        for invitee in event.invitees:
            if invitee.cancellation is None:
                self.tell("invitee.created", invitee)

    def cancel(self, event: Event, by: User | Invitee, reason: str | None) -> Cancellation:
        """Cancel an event for all of its invitees."""
        now = self.clock.now()
        cancellation = Cancellation(by.name, reason, "host" if isinstance(by, User) else "invitee", now)
        for index in self._indices_of(event, "active"):
            del index[bisect_left(index, event_key(event), key=event_key)]
        event.cancellation = cancellation
        event.updated = now
        for index in self._indices_of(event, "canceled"):
            insort(index, event, key=event_key)
        leaving = [invitee for invitee in event.invitees if invitee.cancellation is None]
        for invitee in leaving:
            invitee.cancellation = cancellation
            invitee.updated = now
        for invitee in leaving:
            self.tell("invitee.canceled", invitee)
        return cancellation

    def leave(self, invitee: Invitee, reason: str | None) -> None:
        """An invitee cancels: the event goes on if others are left, else it is cancelled."""
        event, now = invitee.event, self.clock.now()
        if event.active_invitees == 1:
            self.cancel(event, invitee, reason)
            return
        invitee.cancellation = Cancellation(invitee.name, reason, "invitee", now)
        invitee.updated = event.updated = now
        self.tell("invitee.canceled", invitee)

    def mark_no_show(self, invitee: Invitee) -> NoShow:
        now = self.clock.now()
        item = invitee.no_show = NoShow(self.uuid(), invitee, now)
        invitee.updated = now  # the event's own time stays: nothing says that Calendly moves it
        self.no_shows[item.uuid] = item
        self.tell("invitee_no_show.created", invitee)
        return item

    def unmark_no_show(self, item: NoShow) -> None:
        item.invitee.no_show = None
        item.invitee.updated = self.clock.now()
        del self.no_shows[item.uuid]
        self.tell("invitee_no_show.deleted", item.invitee)

    def _indices_of(self, event: Event, *statuses: str | None) -> Iterable[list[Event]]:
        owners = (event.organization.uuid, *(host.uuid for host in event.hosts))
        return (self.by_owner[owner, status] for owner in owners for status in statuses)

    def _file_invitee(self, invitee: Invitee, *, bulk: bool = False) -> None:
        self.invitees[invitee.uuid] = invitee
        index = self.by_email[invitee.email.lower()]
        if invitee.event in index:
            return
        if bulk:
            index.append(invitee.event)
        else:
            insort(index, invitee.event, key=event_key)


def summary(world: World) -> dict[str, Any]:
    """How much there is of everything."""
    statuses = [event.status for event in world.events.values()]
    return {
        "organizations": len(world.organizations),
        "users": len(world.users),
        "event_types": len(world.event_types),
        "scheduled_events": len(statuses),
        "active_events": statuses.count("active"),
        "canceled_events": statuses.count("canceled"),
        "invitees": len(world.invitees),
        "no_shows": len(world.no_shows),
        "webhook_subscriptions": len(world.webhooks),
        "connections": len(world.connections),
    }
