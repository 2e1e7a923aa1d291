"""The seeded world: the documented examples under their documented identifiers, and as many events as asked.

What flows can rely on, whatever the seed (see the constants): fixed shares of invitees and guests of three
suspicious domains, of cancelled events, and a show-case of Alice's with every situation once.
"""

from __future__ import annotations

import gc
import random
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from itertools import cycle
from typing import Any

from .model import (
    LOCATION_KINDS,
    Busy,
    Cancellation,
    Connection,
    Event,
    EventType,
    Group,
    Invitee,
    Location,
    NoShow,
    Organization,
    Question,
    Rule,
    Schedule,
    User,
    Webhook,
    slugify,
)
from .slots import openings_of
from .world import Clock, Options, World

ALICE = "AAAAAAAAAAAAAAAA"
ORGANIZATION = "BBBBBBBBBBBBBBBB"
EVENT_TYPE = "CCCCCCCCCCCCCCCC"
EVENT = "DDDDDDDDDDDDDDDD"
INVITEE = "EEEEEEEEEEEEEEEE"
MEMBERSHIP = "FFFFFFFFFFFFFFFF"
WEBHOOK = "GGGGGGGGGGGGGGGG"
CONNECTION = "21fd90f9-5935-43cd-b6c8-bde9d915ca80"
# Not in the order; fixed so that tests and demonstrations can name them.
GROUP = "HHHHHHHHHHHHHHHH"
SECOND_CONNECTION = "5f0d4c1e-8a53-4b6e-9f0e-2d6a7f3c9b11"
PENDING_CONNECTION = "9c2b7d60-1e34-4f7a-8d15-6b0a4e5f2c33"
FOREIGN_APP_CONNECTION = "3a8e6f52-7c19-4d0b-b2a4-1f5d9e8c7b44"
SECOND_ORGANIZATION = "SSSSSSSSSSSSSSSS"
SECOND_USER = "ZZZZZZZZZZZZZZZZ"

# Per hundred generated invitees, so many are of these domains (the IDN one in its three spellings by turns).
BLOCKED_SHARES = {"blocked.example": 4, "mail.spam-corp.example": 3, "bücher.example": 3}
IDN_SPELLINGS = ("bücher.example", "xn--bcher-kva.example", "BÜCHER.EXAMPLE")
# Per hundred generated events: cancelled ones, and ones with a guest of `blocked.example`.
CANCELED_SHARE = 10
BLOCKED_GUEST_SHARE = 2
ORDINARY_DOMAINS = ("acme.example", "globex.example", "initech.test", "umbrella.example", "example.com")

DAYS_BACK, DAYS_AHEAD = 30, 60
HOST_ZONES = ("Europe/Berlin", "Asia/Kolkata", "Australia/Lord_Howe", "America/Sao_Paulo", "America/New_York")
FIRST_NAMES = (
    "Amina", "Ben", "Chloe", "Diego", "Elena", "Farid", "Greta", "Hiro", "Ines", "Jonas",
    "Kavya", "Liam", "Mei", "Noah", "Olga", "Pavel", "Quinn", "Rosa", "Sven", "Tara",
)  # fmt: skip
LAST_NAMES = (
    "Abara", "Becker", "Costa", "Dubois", "Eriksen", "Fischer", "Garcia", "Haddad", "Ito", "Jansen",
    "Kumar", "Lopez", "Moreau", "Novak", "Okafor", "Petrov", "Rossi", "Silva", "Tanaka", "Weber",
)  # fmt: skip
WORKING_WEEK = [("09:00", "17:00")]
# Slots of Alice that the documented examples want open.
KEPT_OPEN = ("2025-03-17T14:00:00Z", "2025-03-17T14:30:00Z", "2025-03-20T15:00:00Z")


def build(options: Options) -> World:
    """A world, the same for the same options (as far as `now` is given); what is added to it later is not."""
    now = time_of(options.now) if options.now is not None else None
    world = World(options, Clock(now, options.clock_speed), random.Random(options.seed))
    with _without_gc():
        builder = _Builder(world)
        builder.company()
        builder.documented_examples()
        builder.show_case()
        builder.generated_events()
        builder.second_company()
        builder.connections()
        world.sort_indices()
    # What is made from now on must not look like what another run of the sandbox made: receivers know uuids again.
    world.random = random.Random()
    return world


@contextmanager
def _without_gc() -> Iterator[None]:
    """A million new objects make the collector run in vain again and again."""
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()


def time_of(value: str | datetime) -> datetime:
    if not isinstance(value, str | datetime):
        raise ValueError(f"a time is an ISO text, such as 2025-03-14T15:00:00Z, not {value!r}")
    moment = datetime.fromisoformat(value) if isinstance(value, str) else value
    return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).astimezone(UTC)


def add_user(
    world: World,
    organization: Organization,
    name: str,
    *,
    email: str | None = None,
    timezone: str = "America/New_York",
    role: str = "user",
    rules: list[Rule] | None = None,
    uuid: str | None = None,
    membership: str | None = None,
    created: datetime | None = None,
    updated: datetime | None = None,
    avatar_url: str | None = None,
) -> User:
    """A user with a membership and a default schedule (Monday to Friday, nine to five, if no rules given)."""
    created = created or world.clock.now() - timedelta(days=400)
    user = User(
        uuid or world.uuid(),
        name,
        email or f"{slugify(name).replace('-', '.')}@acme.example",
        timezone,
        organization,
        role,
        membership or world.uuid(),
        created,
        updated or created,
        slugify(name),
        avatar_url,
    )
    if rules is None:
        rules = [Rule("wday", day, list(WORKING_WEEK)) for day in ("monday", "tuesday", "wednesday", "thursday")]
        rules += [Rule("wday", "friday", list(WORKING_WEEK))]
        rules += [Rule("wday", "saturday", []), Rule("wday", "sunday", [])]
    user.schedules.append(Schedule(world.uuid(), "Working hours", user, timezone, rules))
    world.users[user.uuid] = user
    return user


def add_event_type(
    world: World, name: str, hosts: list[User], duration: int = 30, *, uuid: str | None = None, **more: Any
) -> EventType:
    organization = hosts[0].organization
    created = more.pop("created", None) or world.clock.now() - timedelta(days=300)
    event_type = EventType(
        uuid or world.uuid(),
        name,
        organization,
        hosts,
        duration,
        more.pop("slug", None) or slugify(name),
        sum(t.hosts[0] is hosts[0] for t in world.event_types.values()),
        created,
        more.pop("updated", None) or created,
        **more,
    )
    event_type.locations = event_type.locations or [{"kind": "zoom_conference"}]
    world.event_types[event_type.uuid] = event_type
    return event_type


def location_for(event_type: EventType, uuid: str) -> Location | None:
    """The place of a seeded event: what the first location of its type says."""
    if not event_type.locations:
        return None
    return _location(event_type.locations[0], uuid)


def _location(offered: dict[str, Any], uuid: str) -> Location:
    kind = offered["kind"]
    text = offered.get("phone_number") if kind == "inbound_call" else offered.get("location")
    if kind == "outbound_call":
        text = "+1 202-555-0143"
    elif kind == "ask_invitee":
        text = "Café at the corner"
    return Location(kind, text, offered.get("additional_info"), join_url_of(kind, uuid))


def join_url_of(kind: str, uuid: str) -> str | None:
    hosts = {
        "zoom_conference": "https://zoom.us/j/",
        "google_conference": "https://meet.google.com/",
        "gotomeeting_conference": "https://global.gotomeeting.com/join/",
        "microsoft_teams_conference": "https://teams.microsoft.com/l/meetup-join/",
        "webex_conference": "https://acme.webex.com/meet/",
    }
    return f"{hosts[kind]}{uuid.lower()}" if kind in hosts else None


def cancel(event: Event, by: str, kind: str, reason: str | None) -> None:
    """Cancel an event that is not filed yet, some hours after it was made."""
    moment = event.created + timedelta(hours=5)
    event.cancellation = Cancellation(by, reason, kind, moment)
    event.updated = moment
    for invitee in event.invitees:
        invitee.cancellation = event.cancellation
        invitee.updated = moment


class _Builder:
    def __init__(self, world: World) -> None:
        self.world = world
        self.options = world.options
        self.now = world.clock.now()
        self.random = world.random
        self.people = 0
        self.idn = cycle(IDN_SPELLINGS)
        self.slots: dict[User, list[datetime]] = {}

    # The documented company

    def company(self) -> None:
        world = self.world
        plan, stage = ("basic", "free") if self.options.plan == "free" else (self.options.plan, "paid")
        organization = Organization(ORGANIZATION, "Acme", plan, stage, time_of("2024-01-15T10:00:00Z"))
        world.organizations[ORGANIZATION] = organization
        self.alice = add_user(
            world,
            organization,
            "Alice Johnson",
            email="alice.johnson@acme.com",
            role="admin",
            uuid=ALICE,
            membership=MEMBERSHIP,
            created=time_of("2024-01-15T10:30:00Z"),
            updated=time_of("2025-06-20T14:45:00Z"),
            avatar_url="https://example.com/avatar.png",
        )
        # A public holiday and an extra Saturday, near enough to lie in everybody's windows.
        self.alice.schedules[0].rules += [
            Rule("date", self._day(12, range(5)), []),
            Rule("date", self._day(5, range(5, 6)), [("10:00", "12:00")]),
        ]
        evening = [Rule("wday", day, [("18:00", "20:00")]) for day in ("tuesday", "thursday")]
        self.alice.schedules.append(
            Schedule(world.uuid(), "Evenings", self.alice, "America/New_York", evening, default=False)
        )
        self.hosts = [self.alice]
        for number in range(self.options.hosts):
            first, last = FIRST_NAMES[number % 20], LAST_NAMES[(number // 20 + number) % 20]
            suffix = f" {number // 400 + 1}" if number >= 400 else ""
            zone = HOST_ZONES[number % len(HOST_ZONES)]
            role = "owner" if number == 0 else "user"
            self.hosts.append(add_user(world, organization, f"{first} {last}{suffix}", timezone=zone, role=role))
        world.groups[GROUP] = Group(
            GROUP, "Sales", organization, self.hosts[:3], [self.hosts[0]], time_of("2024-03-01T09:00:00Z")
        )
        self._event_types()

    def _day(self, ahead: int, weekdays: range) -> str:
        """The first date of these weekdays at least so many days ahead."""
        day = self.now.date() + timedelta(days=ahead)
        while day.weekday() not in weekdays:
            day += timedelta(days=1)
        return day.isoformat()

    def _event_types(self) -> None:
        world, alice, second = self.world, self.alice, self.hosts[1]
        add_event_type(
            world,
            "30 Minute Meeting",
            [alice],
            uuid=EVENT_TYPE,
            slug="30min",
            created=time_of("2024-02-01T09:00:00Z"),
            updated=time_of("2025-05-15T11:30:00Z"),
            color="#0066FF",
            description="A quick 30-minute catch-up call",
            questions=[Question("QQQQQQQQQQQQQQQ", "What would you like to discuss?")],
        )
        self.intro = add_event_type(
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
        self.anywhere = add_event_type(
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
        self.consultation = add_event_type(world, "Paid Consultation", [alice], 60, is_paid=True)
        self.workshop = add_event_type(world, "Workshop", [alice], kind="group", limit=10)
        self.demo = add_event_type(
            world, "Product Demo", self.hosts[:3], pooling="round_robin", team="Sales", locations=[]
        )
        self.panel = add_event_type(world, "Panel Interview", [alice, second], pooling="collective", team="Hiring")
        add_event_type(world, "Evening Call", [alice], schedule=alice.schedules[1], secret=True)
        add_event_type(world, "Old Coffee Chat", [alice], active=False)
        self.solo = {alice.uuid: world.event_types[EVENT_TYPE]}
        self.sessions = {alice.uuid: self.workshop}
        for host in self.hosts[1:]:
            self.solo[host.uuid] = add_event_type(world, "30 Minute Meeting", [host], slug="30min")
            self.sessions[host.uuid] = add_event_type(world, "Group Session", [host], kind="group", limit=12)

    def documented_examples(self) -> None:
        world, alice = self.world, self.alice
        event_type = world.event_types[EVENT_TYPE]
        created = time_of("2025-03-10T09:15:00Z")
        event = self._event(
            event_type,
            time_of("2025-03-15T14:00:00Z"),
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
        busy = self._event(self.consultation, time_of("2025-03-17T10:00:00Z"), created=created)
        self._invite(busy, "carol.jones@example.com", "Carol Jones")
        world.add_event(busy, bulk=True)
        alice.busy.append(Busy(time_of("2025-03-18T14:00:00Z"), time_of("2025-03-18T15:00:00Z")))
        alice.busy.append(Busy(*self._hour(alice, 9)))
        alice.busy.append(Busy(*self._hour(alice, 10), type="reserved"))
        since = time_of("2025-03-01T12:00:00Z")
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

    def _hour(self, host: User, days: int) -> tuple[datetime, datetime]:
        """The first working hour of the first opening so many days ahead."""
        start = self.now + timedelta(days=days)
        opens = openings_of(host.schedules[0], start, start + timedelta(days=7))[0][0]
        return opens, opens + timedelta(hours=1)

    # Generated events

    def show_case(self) -> None:
        """Every situation once, on slots of Alice's that nothing else takes."""
        world, alice = self.world, self.alice
        slots = self._slots(alice)
        past = [s for s in slots if s < self.now - timedelta(days=1)]
        # Spread, so that plenty of her time stays open.
        ahead = iter([s for s in slots if s > self.now + timedelta(days=2)][::3])
        taken: list[Event] = []

        def put(event_type: EventType, start: datetime, *people: tuple[str, str], **more: Any) -> Event:
            event = self._event(event_type, start, **more)
            for email, name in people:
                self._invite(event, email, name)
            taken.append(event)
            return event

        good, bad = ("dora.good@globex.example", "Dora Good"), ("eve@blocked.example", "Eve Blocked")
        paid = put(self.solo[ALICE], past[0], ("pat.payer@example.com", "Pat Payer"))
        paid.invitees[0].payment = {
            "external_id": "ch_" + world.uuid(),
            "provider": "stripe",
            "amount": 49.0,
            "currency": "USD",
            "terms": "Paid in advance",
            "successful": True,
        }
        missed = put(self.solo[ALICE], past[2], ("nora.noshow@example.com", "Nora Noshow")).invitees[0]
        missed.no_show = NoShow(world.uuid(), missed, missed.event.end)
        world.no_shows[missed.no_show.uuid] = missed.no_show
        moved = ("rita.moved@example.com", "Rita Moved")
        old = put(self.solo[ALICE], next(ahead), moved)
        new = put(self.solo[ALICE], next(ahead), moved)
        old.invitees[0].new_invitee, new.invitees[0].old_invitee = new.invitees[0], old.invitees[0]
        cancel(old, "Rita Moved", "invitee", None)
        put(self.workshop, next(ahead), good, bad, ("fay@umbrella.example", "Fay Umbrella"))
        put(self.workshop, next(ahead), bad, ("x@mail.spam-corp.example", "Xavier Spam"))
        left = put(self.workshop, next(ahead), good, ("leaver@blocked.example", "Leo Leaver"))
        left.invitees[1].cancellation = Cancellation("Leo Leaver", "Changed my mind", "invitee", left.created)
        put(self.solo[ALICE], next(ahead), good, guests=["spy@blocked.example"])
        put(self.solo[ALICE], next(ahead), ("BUCH@BÜCHER.EXAMPLE", "Bruno Buch"))
        put(self.solo[ALICE], next(ahead), ("buch@xn--bcher-kva.example", "Bruno Buch"))
        cancel(put(self.solo[ALICE], next(ahead), bad), alice.name, "host", "Not a customer")
        for offered in self.anywhere.locations:
            start = next(ahead)
            put(self.anywhere, start, good, location=_location(offered, world.uuid()))
        second = self.hosts[1]
        theirs = [s for s in self._slots(second) if s > self.now + timedelta(days=2)]
        put(self.demo, theirs[0], good, hosts=(second,))
        used = {event.start for event in taken}
        both = min(set(slots).intersection(theirs) - used)
        put(self.panel, both, good, hosts=(alice, second))
        for event in taken:
            world.add_event(event, bulk=True)
        self.taken = {(host, event.start) for event in taken for host in event.hosts}

    def generated_events(self) -> None:
        """Fill the organisation up to `events`, on real slots of the hosts by turns.

        The extra invitees make group events of up to twelve.
        """
        count = max(0, self.options.events - len(self.world.events))
        invitees = (self.options.invitees or self.options.events) - len(self.world.invitees)
        extras = max(0, invitees - count) if count else 0
        # So many group events that each has about five invitees, unless there are too few events for that.
        sessions = min(count, max(-(-extras // 4), count // 20))
        every = count / sessions if sessions else 0
        supply = {host.uuid: self._supply(host) for host in self.hosts}
        made = 0
        for number in range(count):
            host = self.hosts[number % len(self.hosts)]
            session = bool(sessions) and number >= made * every
            size = 1
            if session:
                left = sessions - made
                size += -(-extras // left) if extras else 0
                extras -= size - 1
                made += 1
            event_type = (self.sessions if session else self.solo)[host.uuid]
            event = self._event(event_type, next(supply[host.uuid]), hosts=(host,))
            for _ in range(size):
                self._invite(event, *self._person())
            if number * 37 % 100 < BLOCKED_GUEST_SHARE:
                event.guests.append((f"guest{number}@blocked.example", event.created))
            if number * 61 % 100 < CANCELED_SHARE:
                by, kind = (host.name, "host") if number % 2 else (event.invitees[0].name, "invitee")
                cancel(event, by, kind, "No longer needed" if number % 3 else None)
            self.world.add_event(event, bulk=True)

    def _slots(self, host: User) -> list[datetime]:
        """Half-hour starts in the host's hours over the span of the generated events."""
        if host in self.slots:
            return self.slots[host]
        kept = {time_of(text) for text in KEPT_OPEN}
        start, end = self.now - timedelta(days=DAYS_BACK), self.now + timedelta(days=DAYS_AHEAD)
        half_hour, slots = timedelta(minutes=30), []
        for opens, closes in openings_of(host.schedules[0], start, end):
            while opens + half_hour <= closes:
                if start <= opens < end and opens not in kept:
                    slots.append(opens)
                opens += half_hour
        self.slots[host] = slots
        return slots

    def _supply(self, host: User) -> Iterator[datetime]:
        """Random free slots, each once; only when all are used up do they come again (double bookings)."""
        first = self.now + timedelta(days=1 if self.options.upcoming else -DAYS_BACK)
        slots = [slot for slot in self._slots(host) if slot >= first and (host, slot) not in self.taken]
        self.random.shuffle(slots)
        return cycle(slots)

    def _person(self) -> tuple[str, str]:
        number, self.people = self.people, self.people + 1
        name = f"{self.random.choice(FIRST_NAMES)} {self.random.choice(LAST_NAMES)}"
        share = number * 37 % 100  # 37 and 100 share no factor: each hundred has each value once
        domain = ORDINARY_DOMAINS[number % len(ORDINARY_DOMAINS)]
        for blocked, wanted in BLOCKED_SHARES.items():
            if 0 <= share < wanted:
                domain = blocked
            share -= wanted
        if domain == IDN_SPELLINGS[0]:
            domain = next(self.idn)
        return f"{name.lower().replace(' ', '.')}{number}@{domain}", name

    def _event(
        self,
        event_type: EventType,
        start: datetime,
        *,
        hosts: tuple[User, ...] | None = None,
        uuid: str | None = None,
        created: datetime | None = None,
        location: Location | None = None,
        guests: list[str] | None = None,
    ) -> Event:
        # Booked one to ten days before it starts, but never later than now.
        created = created or min(start, self.now) - timedelta(seconds=self.random.randrange(86400, 864000))
        uuid = uuid or self.world.uuid()
        return Event(
            uuid,
            event_type,
            hosts or (event_type.hosts[0],),
            start,
            start + timedelta(minutes=event_type.duration),
            created,
            created,
            location or location_for(event_type, uuid),
            guests=[(email, created) for email in guests or ()],
        )

    def _invite(self, event: Event, email: str, name: str) -> None:
        created = event.created + timedelta(seconds=7 * len(event.invitees))
        event.invitees.append(
            Invitee(
                self.world.uuid(),
                event,
                email,
                name,
                self.random.choice(HOST_ZONES),
                created,
                created,
                scheduling_method="instant_book",
            )
        )

    # The other account, and what the gateway knows

    def second_company(self) -> None:
        world = self.world
        first = world.organizations[ORGANIZATION]
        organization = Organization(
            SECOND_ORGANIZATION, "Globex", first.plan, first.stage, time_of("2024-09-01T08:00:00Z")
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
        self.zoe = add_user(
            world,
            organization,
            "Zoe Rossi",
            email="zoe.rossi@globex.example",
            timezone="America/Sao_Paulo",
            uuid=SECOND_USER,
        )
        event_type = add_event_type(world, "Coffee with Zoe", [self.zoe])
        for start in self._slots(self.zoe)[::100]:
            event = self._event(event_type, start)
            self._invite(event, *self._person())
            world.add_event(event, bulk=True)

    def connections(self) -> None:
        key = self.options.api_key
        documented = time_of("2025-12-08T07:20:53.488460Z"), time_of("2026-01-31T20:03:32.593153Z")
        newer, newest = time_of("2026-02-01T09:00:00.000001Z"), time_of("2026-02-02T09:00:00.000001Z")
        for id_, owner, app, status, created, updated, user in (
            (CONNECTION, key, "calendly", "ACTIVE", *documented, self.alice),
            (SECOND_CONNECTION, key, "calendly", "ACTIVE", newer, newer, self.zoe),
            (PENDING_CONNECTION, key, "calendly", "PENDING", newest, newest, None),
            (FOREIGN_APP_CONNECTION, self.options.second_key, "slack", "ACTIVE", newer, newer, None),
        ):
            token = f"{self.random.getrandbits(128):032x}"
            self.world.connections[id_] = Connection(id_, owner, app, status, created, updated, token, user)
