"""As many more events as requested, in known shares."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timedelta
from itertools import cycle

from prefect_calendly.sandbox.factories import cancel_before_adding
from prefect_calendly.sandbox.model import User
from prefect_calendly.sandbox.seed.company import Company
from prefect_calendly.sandbox.seed.seeder import Seeder

# Of each hundred generated events, how many are canceled, and how many have a guest of `blocked.example`. The shares of
# invitees with blocked domains are `seeder.BLOCKED_SHARES`.
CANCELED_SHARE = 10
BLOCKED_GUEST_SHARE = 2


def add_generated_events(seeder: Seeder, acme: Company, taken: set[tuple[User, datetime]]) -> None:
    """Fill the organization up to `events` and `invitees`, on slots in the hosts' hours; hosts take turns.

    The invitees beyond one per event are those of group events, up to twelve each.
    """
    world, options = seeder.world, seeder.options
    count = max(0, options.events - len(world.events))
    invitees = (options.invitees or options.events) - len(world.invitees)
    extras = max(0, invitees - count) if count else 0
    # So many group events that each has about five invitees, unless there are too few events for that.
    sessions = min(count, max(-(-extras // 4), count // 20))
    every = count / sessions if sessions else 0
    each = -(-count // len(acme.hosts))
    supply = {host.uuid: _supply(seeder, host, taken, each) for host in acme.hosts}
    made = 0
    for number in range(count):
        host = acme.hosts[number % len(acme.hosts)]
        session = bool(sessions) and number >= made * every
        size = 1
        if session:
            left = sessions - made
            size += -(-extras // left) if extras else 0
            extras -= size - 1
            made += 1
        event_type = (acme.sessions if session else acme.solo)[host.uuid]
        event = seeder.event(event_type, next(supply[host.uuid]), hosts=(host,))
        for _ in range(size):
            seeder.invite(event, *seeder.person())
        if number * 37 % 100 < BLOCKED_GUEST_SHARE:
            event.guests.append((f"guest{number}@blocked.example", event.created))
        if number * 61 % 100 < CANCELED_SHARE:
            by, canceler_type = (host.name, "host") if number % 2 else (event.invitees[0].name, "invitee")
            cancel_before_adding(event, by, canceler_type, "No longer needed" if number % 3 else None)
        world.add_event(event, bulk=True)


def _supply(seeder: Seeder, host: User, taken: set[tuple[User, datetime]], count: int) -> Iterator[datetime]:
    """Free slots of a host, so many, in random order. Once all are used they repeat, which makes double bookings."""
    after = seeder.now + timedelta(days=1) if seeder.options.upcoming else None
    used = {start for whose, start in taken if whose is host}
    slots = [slot for slot in seeder.slots(host, after=after) if slot not in used]
    return cycle(seeder.random.sample(slots, min(count, len(slots))))
