"""The showcase: every situation that a flow can meet, once, among Alice's events."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

from prefect_calendly.sandbox.factories import cancel_before_adding, location_from
from prefect_calendly.sandbox.model import Cancellation, Event, EventType, NoShow, User
from prefect_calendly.sandbox.seed.company import Company
from prefect_calendly.sandbox.seed.identifiers import ALICE
from prefect_calendly.sandbox.seed.seeder import Seeder

GOOD = ("dora.good@globex.example", "Dora Good")
BLOCKED = ("eve@blocked.example", "Eve Blocked")
MOVED = ("rita.moved@example.com", "Rita Moved")


def add_showcase(seeder: Seeder, acme: Company) -> set[tuple[User, datetime]]:
    """Add the showcase; return the slots it takes, which no other event may have."""
    world, alice, meeting = seeder.world, acme.alice, acme.solo[ALICE]
    slots = seeder.slots(alice)
    past = slots[:3]
    # Spread, so that much of her time stays open.
    ahead = iter(seeder.slots(alice, after=seeder.now + timedelta(days=2))[::3])
    made: list[Event] = []

    def add(event_type: EventType, start: datetime, *people: tuple[str, str], **more: Any) -> Event:
        event = seeder.event(event_type, start, **more)
        for email, name in people:
            seeder.invite(event, email, name)
        made.append(event)
        return event

    paid = add(meeting, past[0], ("pat.payer@example.com", "Pat Payer"))
    paid.invitees[0].payment = {
        "external_id": "ch_" + world.uuid(),
        "provider": "stripe",
        "amount": 49.0,
        "currency": "USD",
        "terms": "Paid in advance",
        "successful": True,
    }
    missed = add(meeting, past[2], ("nora.noshow@example.com", "Nora Noshow")).invitees[0]
    missed.no_show = NoShow(world.uuid(), missed, missed.event.end)
    world.no_shows[missed.no_show.uuid] = missed.no_show
    old, new = add(meeting, next(ahead), MOVED), add(meeting, next(ahead), MOVED)
    old.invitees[0].new_invitee, new.invitees[0].old_invitee = new.invitees[0], old.invitees[0]
    cancel_before_adding(old, "Rita Moved", "invitee", None)
    add(acme.workshop, next(ahead), GOOD, BLOCKED, ("fay@umbrella.example", "Fay Umbrella"))
    add(acme.workshop, next(ahead), BLOCKED, ("x@mail.spam-corp.example", "Xavier Spam"))
    left = add(acme.workshop, next(ahead), GOOD, ("leaver@blocked.example", "Leo Leaver"))
    left.invitees[1].cancellation = Cancellation("Leo Leaver", "Changed my mind", "invitee", left.created)
    add(meeting, next(ahead), GOOD, guests=["spy@blocked.example"])
    add(meeting, next(ahead), ("BUCH@BÜCHER.EXAMPLE", "Bruno Buch"))
    add(meeting, next(ahead), ("buch@xn--bcher-kva.example", "Bruno Buch"))
    cancel_before_adding(add(meeting, next(ahead), BLOCKED), alice.name, "host", "Not a customer")
    for offered in acme.anywhere.locations:
        start = next(ahead)
        add(acme.anywhere, start, GOOD, location=location_from(offered, world.uuid()))
    second = acme.hosts[1]
    theirs = seeder.slots(second, after=seeder.now + timedelta(days=2))
    add(acme.demo, theirs[0], GOOD, hosts=(second,))
    used = {event.start for event in made}
    common = min(set(slots).intersection(theirs) - used)
    add(acme.panel, common, GOOD, hosts=(alice, second))
    for event in made:
        world.add_event(event, bulk=True)
    return {(host, event.start) for event in made for host in event.hosts}
