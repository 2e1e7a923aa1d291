"""What all parts of seeding use: free slots, events, invitees and people."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from datetime import UTC, date, datetime, time, timedelta
from functools import lru_cache
from itertools import cycle
from zoneinfo import ZoneInfo

from prefect_calendly.sandbox.clock import parse_time
from prefect_calendly.sandbox.factories import location_for
from prefect_calendly.sandbox.model import Event, EventType, Invitee, Location, Rule, User
from prefect_calendly.sandbox.slots import openings
from prefect_calendly.sandbox.world import World

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
# Of each hundred generated people, how many have an address in these domains (the IDN one in alternating spellings).
BLOCKED_SHARES = {"blocked.example": 4, "mail.spam-corp.example": 3, "bücher.example": 3}
IDN_SPELLINGS = ("bücher.example", "xn--bcher-kva.example", "BÜCHER.EXAMPLE")
ORDINARY_DOMAINS = ("acme.example", "globex.example", "initech.test", "umbrella.example", "example.com")
# Slots of Alice that the documented examples describe as open.
KEPT_OPEN = ("2025-03-17T14:00:00Z", "2025-03-17T14:30:00Z", "2025-03-20T15:00:00Z")


class Seeder:
    """Makes events and invitees for a world; everything random comes from the world's seed."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.options = world.options
        self.now = world.clock.now()
        self.random = world.random
        self._people = 0
        self._idn = cycle(IDN_SPELLINGS)
        self._slots: dict[User, list[datetime]] = {}

    def slots(self, host: User, *, after: datetime | None = None) -> list[datetime]:
        """The half-hour starts in a host's working hours, within the span of the generated events or a part of it."""
        if host not in self._slots:
            start, end = self.now - timedelta(days=DAYS_BACK), self.now + timedelta(days=DAYS_AHEAD)
            schedule = host.schedules[0]
            rules = tuple((rule.type, rule.day, tuple(rule.intervals)) for rule in schedule.rules)
            found = _half_hours(rules, schedule.timezone, start.date(), end.date())
            self._slots[host] = found[bisect_left(found, start) : bisect_left(found, end)]
        slots = self._slots[host]
        return slots if after is None else slots[bisect_right(slots, after) :]

    def event(
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
        """Make an event without invitees; it is not in the world yet."""
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

    def invite(self, event: Event, email: str, name: str) -> None:
        """Add an invitee to an event that is not in the world yet."""
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

    def person(self) -> tuple[str, str]:
        """The address and name of the next generated person; addresses are unique."""
        number, self._people = self._people, self._people + 1
        name = f"{self.random.choice(FIRST_NAMES)} {self.random.choice(LAST_NAMES)}"
        share = number * 37 % 100  # 37 and 100 have no common factor, so each hundred has each value once
        domain = ORDINARY_DOMAINS[number % len(ORDINARY_DOMAINS)]
        for blocked, wanted in BLOCKED_SHARES.items():
            if 0 <= share < wanted:
                domain = blocked
            share -= wanted
        if domain == IDN_SPELLINGS[0]:
            domain = next(self._idn)
        return f"{name.lower().replace(' ', '.')}{number}@{domain}", name


@lru_cache(maxsize=100)  # a sandbox that is reset for each test asks for the same days again and again
def _half_hours(
    rules: tuple[tuple[str, str, tuple[tuple[str, str], ...]], ...], zone: str, first: date, last: date
) -> list[datetime]:
    """The half-hour starts in the openings of some days and the days around them, ascending; not to be changed."""
    start = datetime.combine(first, time(), UTC)
    spans = openings(
        [Rule(kind, day, list(spans)) for kind, day, spans in rules],
        ZoneInfo(zone),
        start,
        start + timedelta(days=(last - first).days + 1),
    )
    kept, half_hour, found = {*map(parse_time, KEPT_OPEN)}, timedelta(minutes=30), []
    for opens, closes in spans:
        while opens + half_hour <= closes:
            if opens not in kept:
                found.append(opens)
            opens += half_hour
    return found
