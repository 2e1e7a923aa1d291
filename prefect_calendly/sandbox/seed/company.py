"""The two companies: Acme of the documented examples, and Globex, which Acme's users must not see."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta

from prefect_calendly.sandbox.clock import parse_time
from prefect_calendly.sandbox.factories import add_event_type, add_user
from prefect_calendly.sandbox.model import (
    LOCATION_KINDS,
    EventType,
    Group,
    Organization,
    Question,
    Rule,
    Schedule,
    User,
)
from prefect_calendly.sandbox.seed.identifiers import (
    ALICE,
    EVENT_TYPE,
    GROUP,
    MEMBERSHIP,
    ORGANIZATION,
    QUESTION,
    SECOND_ORGANIZATION,
    SECOND_USER,
)
from prefect_calendly.sandbox.seed.seeder import FIRST_NAMES, HOST_ZONES, LAST_NAMES, Seeder


@dataclass(slots=True)
class Company:
    """Acme's hosts, Alice first, and the event types that events are booked of."""

    alice: User
    hosts: list[User]
    anywhere: EventType
    consultation: EventType
    workshop: EventType
    demo: EventType
    panel: EventType
    # By the identifier of the host: an event type for one invitee, and one for a group.
    solo: dict[str, EventType]
    sessions: dict[str, EventType]


def add_acme(seeder: Seeder) -> Company:
    """Add Alice's organization with its hosts, schedules, group and event types."""
    world = seeder.world
    plan, stage = ("basic", "free") if seeder.options.plan == "free" else (seeder.options.plan, "paid")
    organization = Organization(ORGANIZATION, "Acme", plan, stage, parse_time("2024-01-15T10:00:00Z"))
    world.organizations[ORGANIZATION] = organization
    alice = _alice(seeder, organization)
    hosts = [alice]
    for number in range(seeder.options.hosts):
        first, last = FIRST_NAMES[number % 20], LAST_NAMES[(number // 20 + number) % 20]
        suffix = f" {number // 400 + 1}" if number >= 400 else ""
        zone = HOST_ZONES[number % len(HOST_ZONES)]
        role = "owner" if number == 0 else "user"
        hosts.append(add_user(world, organization, f"{first} {last}{suffix}", timezone=zone, role=role))
    world.groups[GROUP] = Group(GROUP, "Sales", organization, hosts[:3], [hosts[0]], parse_time("2024-03-01T09:00:00Z"))
    return _event_types(seeder, alice, hosts)


def _alice(seeder: Seeder, organization: Organization) -> User:
    alice = add_user(
        seeder.world,
        organization,
        "Alice Johnson",
        email="alice.johnson@acme.com",
        role="admin",
        uuid=ALICE,
        membership=MEMBERSHIP,
        created=parse_time("2024-01-15T10:30:00Z"),
        updated=parse_time("2025-06-20T14:45:00Z"),
        avatar_url="https://example.com/avatar.png",
    )
    # A public holiday and an extra Saturday, near enough to lie in any window that is read.
    alice.schedules[0].rules += [
        Rule("date", _next_day(seeder, 12, range(5)), []),
        Rule("date", _next_day(seeder, 5, range(5, 6)), [("10:00", "12:00")]),
    ]
    evening = [Rule("wday", day, [("18:00", "20:00")]) for day in ("tuesday", "thursday")]
    alice.schedules.append(Schedule(seeder.world.uuid(), "Evenings", alice, "America/New_York", evening, default=False))
    return alice


def _next_day(seeder: Seeder, ahead: int, weekdays: range) -> str:
    """The first date on one of these weekdays, at least this many days ahead."""
    day = seeder.now.date() + timedelta(days=ahead)
    while day.weekday() not in weekdays:
        day += timedelta(days=1)
    return day.isoformat()


def _event_types(seeder: Seeder, alice: User, hosts: list[User]) -> Company:
    world = seeder.world
    meeting = add_event_type(
        world,
        "30 Minute Meeting",
        [alice],
        uuid=EVENT_TYPE,
        slug="30min",
        created=parse_time("2024-02-01T09:00:00Z"),
        updated=parse_time("2025-05-15T11:30:00Z"),
        color="#0066FF",
        description="A quick 30-minute catch-up call",
        questions=[Question(QUESTION, "What would you like to discuss?")],
    )
    add_event_type(
        world,
        "Intro Call",
        [alice],
        15,
        locations=[{"kind": "google_conference"}, {"kind": "outbound_call"}],
        questions=[
            Question(world.uuid(), "Company name", "string", required=True),
            Question(
                world.uuid(),
                "How did you hear about us?",
                "single_select",
                choices=["Search", "A friend"],
                include_other=True,
            ),
        ],
    )
    anywhere = add_event_type(
        world,
        "Meet Anywhere",
        [alice],
        duration_options=[30, 60],
        locations=[
            {"kind": "physical", "location": "1 Main Street", "additional_info": "Third floor"},
            {"kind": "ask_invitee", "location": "Where shall we meet?"},
            {"kind": "custom", "location": "The usual place"},
            {
                "kind": "inbound_call",
                "phone_number": "+1 202-555-0101",
                "additional_info": "Ask for Alice",
            },
            *({"kind": kind} for kind in LOCATION_KINDS[4:]),
        ],
    )
    consultation = add_event_type(world, "Paid Consultation", [alice], 60, is_paid=True)
    workshop = add_event_type(world, "Workshop", [alice], kind="group", limit=10)
    demo = add_event_type(world, "Product Demo", hosts[:3], pooling="round_robin", team="Sales", locations=[])
    panel = add_event_type(world, "Panel Interview", [alice, hosts[1]], pooling="collective", team="Hiring")
    add_event_type(world, "Evening Call", [alice], schedule=alice.schedules[1], secret=True)
    add_event_type(world, "Old Coffee Chat", [alice], active=False)
    solo, sessions = {alice.uuid: meeting}, {alice.uuid: workshop}
    for host in hosts[1:]:
        solo[host.uuid] = add_event_type(world, "30 Minute Meeting", [host], slug="30min")
        sessions[host.uuid] = add_event_type(world, "Group Session", [host], kind="group", limit=12)
    return Company(alice, hosts, anywhere, consultation, workshop, demo, panel, solo, sessions)


def add_globex(seeder: Seeder) -> User:
    """Add the other organization, with a few events of Zoe, whom its connection belongs to."""
    world = seeder.world
    first = world.organizations[ORGANIZATION]
    organization = Organization(
        SECOND_ORGANIZATION, "Globex", first.plan, first.stage, parse_time("2024-09-01T08:00:00Z")
    )
    world.organizations[organization.uuid] = organization
    add_user(
        world,
        organization,
        "Marta Nowak",
        email="marta.nowak@globex.example",
        role="owner",
        timezone="Europe/Berlin",
    )
    zoe = add_user(
        world,
        organization,
        "Zoe Rossi",
        email="zoe.rossi@globex.example",
        timezone="America/Sao_Paulo",
        uuid=SECOND_USER,
    )
    event_type = add_event_type(world, "Coffee with Zoe", [zoe])
    for start in seeder.slots(zoe)[::100]:
        event = seeder.event(event_type, start)
        seeder.invite(event, *seeder.person())
        world.add_event(event, bulk=True)
    return zoe
