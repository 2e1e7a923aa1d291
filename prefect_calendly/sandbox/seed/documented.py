"""The documented examples, as they stand in Calendly's and the gateway's documentation."""

from __future__ import annotations

from datetime import datetime, timedelta

from prefect_calendly.sandbox.clock import parse_time
from prefect_calendly.sandbox.model import Busy, Invitee, Location, Webhook
from prefect_calendly.sandbox.seed.company import Company
from prefect_calendly.sandbox.seed.identifiers import ALICE, EVENT, INVITEE, WEBHOOK
from prefect_calendly.sandbox.seed.seeder import Seeder
from prefect_calendly.sandbox.slots import openings_of


def add_documented_examples(seeder: Seeder, acme: Company) -> None:
    """Add the documented event with its invitee, Alice's busy times, and the webhook subscription."""
    world, alice = seeder.world, acme.alice
    created = parse_time("2025-03-10T09:15:00Z")
    event = seeder.event(
        acme.solo[ALICE],
        parse_time("2025-03-15T14:00:00Z"),
        uuid=EVENT,
        created=created,
        location=Location("zoom_conference", join_url="https://zoom.us/j/123456789"),
    )
    event.invitees.append(
        Invitee(
            INVITEE,
            event,
            "bob.smith@example.com",
            "Bob Smith",
            "America/Los_Angeles",
            created,
            created,
            answers=(("What would you like to discuss?", "Project timeline review", 0),),
            scheduling_method="instant_book",
        )
    )
    world.add_event(event, bulk=True)
    busy = seeder.event(acme.consultation, parse_time("2025-03-17T10:00:00Z"), created=created)
    seeder.invite(busy, "carol.jones@example.com", "Carol Jones")
    world.add_event(busy, bulk=True)
    alice.busy.append(Busy(parse_time("2025-03-18T14:00:00Z"), parse_time("2025-03-18T15:00:00Z")))
    alice.busy.append(Busy(*_working_hour(seeder, acme, 9)))
    alice.busy.append(Busy(*_working_hour(seeder, acme, 10), type="reserved"))
    since = parse_time("2025-03-01T12:00:00Z")
    world.webhooks[WEBHOOK] = Webhook(
        WEBHOOK,
        "https://example.com/webhook",
        ["invitee.created", "invitee.canceled"],
        "organization",
        alice.organization,
        alice,
        since,
        since,
    )


def _working_hour(seeder: Seeder, acme: Company, days: int) -> tuple[datetime, datetime]:
    """Alice's first working hour at least this many days ahead."""
    start = seeder.now + timedelta(days=days)
    opens = openings_of(acme.alice.schedules[0], start, start + timedelta(days=7))[0][0]
    return opens, opens + timedelta(hours=1)
