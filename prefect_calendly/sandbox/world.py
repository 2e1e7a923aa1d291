"""Everything that exists in the sandbox's Calendly, and the few ways in which it changes."""

from __future__ import annotations

import base64
import random
import secrets
from bisect import bisect_left, insort
from collections import defaultdict
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from prefect_calendly.sandbox.clock import Clock
from prefect_calendly.sandbox.model import (
    LONGEST_EVENT,
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
from prefect_calendly.sandbox.options import Options


def _no_subscriptions(name: str, item: Invitee | EventType) -> None:
    """Events of a world that is still being seeded are not delivered."""


def event_key(event: Event) -> tuple[datetime, str]:
    return event.start, event.uuid


@dataclass(eq=False, repr=False)
class World:
    """All records, with the indices that listings need. The methods that change bookings emit webhook events."""

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
    # A pending connection turns ACTIVE at this GET, or after this many seconds; None is never.
    activate_after_gets: int | None = 2
    activate_after_seconds: float | None = None
    # Signs page tokens, so that a token from before a reset is not accepted.
    secret: bytes = field(default_factory=lambda: secrets.token_bytes(16))
    # (identifier of a user or an organization, status or None for both) -> events, ascending by start.
    by_owner: defaultdict[tuple[str, str | None], list[Event]] = field(default_factory=lambda: defaultdict(list))
    by_email: defaultdict[str, list[Event]] = field(default_factory=lambda: defaultdict(list))
    # Called for each webhook event with its name and the invitee or event type it is about.
    emit: Callable[[str, Invitee | EventType], None] = _no_subscriptions

    def uuid(self) -> str:
        """A fresh identifier of Calendly's form: 16 characters of A-Z0-9."""
        return base64.b32encode(self.random.randbytes(10)).decode()

    # Reading

    def members(self, organization: Organization) -> list[User]:
        return [u for u in self.users.values() if u.organization is organization]

    def events_between(self, host: User, start: datetime, end: datetime) -> list[Event]:
        """The active events of a host that overlap `[start, end)`, ascending."""
        index = self.by_owner[host.uuid, "active"]
        low = bisect_left(index, (start - LONGEST_EVENT, ""), key=event_key)
        high = bisect_left(index, (end, ""), key=event_key)
        return [event for event in index[low:high] if event.end > start]

    # Changing

    def add_event(self, event: Event, *, bulk: bool = False) -> Event:
        """Add an event with its invitees. `bulk` leaves the indices unsorted until `sort_indices` is called."""
        self.events[event.uuid] = event
        for index in self._indices_of(event, None, event.status):
            if bulk:
                index.append(event)
            else:
                insort(index, event, key=event_key)
        for invitee in event.invitees:
            self._index_invitee(invitee, bulk=bulk)
        return event

    def sort_indices(self) -> None:
        for index in (*self.by_owner.values(), *self.by_email.values()):
            index.sort(key=event_key)

    def add_invitee(self, invitee: Invitee) -> None:
        """Add an invitee to an event that was added before."""
        invitee.event.invitees.append(invitee)
        invitee.event.updated = invitee.created
        self._index_invitee(invitee)
        self.emit("invitee.created", invitee)

    def emit_booked(self, event: Event) -> None:
        """Emit `invitee.created` for each active invitee of an event that was just added."""
        for invitee in event.invitees:
            if invitee.cancellation is None:
                self.emit("invitee.created", invitee)

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
            self.emit("invitee.canceled", invitee)
        return cancellation

    def cancel_invitee(self, invitee: Invitee, reason: str | None) -> None:
        """Cancel for one invitee; the event is canceled with its last one."""
        event, now = invitee.event, self.clock.now()
        if event.active_invitees == 1:
            self.cancel(event, invitee, reason)
            return
        invitee.cancellation = Cancellation(invitee.name, reason, "invitee", now)
        invitee.updated = event.updated = now
        self.emit("invitee.canceled", invitee)

    def mark_no_show(self, invitee: Invitee) -> NoShow:
        now = self.clock.now()
        item = invitee.no_show = NoShow(self.uuid(), invitee, now)
        invitee.updated = now  # the event is not updated: nothing documents that Calendly does so
        self.no_shows[item.uuid] = item
        self.emit("invitee_no_show.created", invitee)
        return item

    def unmark_no_show(self, item: NoShow) -> None:
        item.invitee.no_show = None
        item.invitee.updated = self.clock.now()
        del self.no_shows[item.uuid]
        self.emit("invitee_no_show.deleted", item.invitee)

    def _indices_of(self, event: Event, *statuses: str | None) -> Iterable[list[Event]]:
        owners = (event.organization.uuid, *(host.uuid for host in event.hosts))
        return (self.by_owner[owner, status] for owner in owners for status in statuses)

    def _index_invitee(self, invitee: Invitee, *, bulk: bool = False) -> None:
        self.invitees[invitee.uuid] = invitee
        index = self.by_email[invitee.email.lower()]
        if invitee.event in index:
            return
        if bulk:
            index.append(invitee.event)
        else:
            insort(index, invitee.event, key=event_key)


def summary(world: World) -> dict[str, Any]:
    """Count the records of each kind."""
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
