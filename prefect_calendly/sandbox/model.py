"""The records of the sandbox's Calendly, compact enough for 100,000 events."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

API = "https://api.calendly.com"
PAGES = "https://calendly.com"

CONFERENCES = (
    "google_conference",
    "zoom_conference",
    "gotomeeting_conference",
    "microsoft_teams_conference",
    "webex_conference",
)
LOCATION_KINDS = ("physical", "ask_invitee", "custom", "inbound_call", "outbound_call", *CONFERENCES)
# No event lasts longer: what is under way at a time has started within this span before it.
LONGEST_EVENT = timedelta(hours=24)
WEEKDAYS = ("monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday")


def slugify(text: str) -> str:
    return "-".join("".join(c if c.isalnum() else " " for c in text.lower()).split())


@dataclass(slots=True, eq=False, repr=False)
class Organization:
    uuid: str
    name: str
    plan: str
    stage: str
    created: datetime

    @property
    def uri(self) -> str:
        return f"{API}/organizations/{self.uuid}"


@dataclass(slots=True)
class Rule:
    """One rule of a schedule: `day` is the name of a weekday or a date; without intervals it is closed."""

    type: str
    day: str
    intervals: list[tuple[str, str]]


@dataclass(slots=True, eq=False, repr=False)
class Schedule:
    uuid: str
    name: str
    user: User
    timezone: str
    rules: list[Rule]
    default: bool = True

    @property
    def uri(self) -> str:
        return f"{API}/user_availability_schedules/{self.uuid}"


@dataclass(slots=True)
class Busy:
    """A busy time that is not a scheduled event: `external` (from another calendar) or `reserved`."""

    start: datetime
    end: datetime
    type: str = "external"


@dataclass(slots=True, eq=False, repr=False)
class User:
    """A user, together with the membership of their one organization."""

    uuid: str
    name: str
    email: str
    timezone: str
    organization: Organization
    role: str
    membership: str
    created: datetime
    updated: datetime
    slug: str
    avatar_url: str | None = None
    locale: str = "en"
    schedules: list[Schedule] = field(default_factory=list)
    busy: list[Busy] = field(default_factory=list)

    @property
    def uri(self) -> str:
        return f"{API}/users/{self.uuid}"

    @property
    def manages(self) -> bool:
        """Whether the role may see and change what belongs to others in the organization."""
        return self.role in ("admin", "owner")


@dataclass(slots=True, eq=False, repr=False)
class Group:
    uuid: str
    name: str
    organization: Organization
    members: list[User]
    admins: list[User]
    created: datetime

    @property
    def uri(self) -> str:
        return f"{API}/groups/{self.uuid}"


@dataclass(slots=True)
class Question:
    """A custom question. Only the specification's booking route uses `uuid`; Calendly shows none."""

    uuid: str
    name: str
    type: str = "text"
    required: bool = False
    choices: list[str] = field(default_factory=list)
    include_other: bool = False
    enabled: bool = True


@dataclass(slots=True, eq=False, repr=False)
class EventType:
    uuid: str
    name: str
    organization: Organization
    hosts: list[User]
    duration: int
    slug: str
    position: int
    created: datetime
    updated: datetime
    kind: str = "solo"
    pooling: str | None = None
    active: bool = True
    limit: int = 1
    locations: list[dict[str, Any]] = field(default_factory=list)
    questions: list[Question] = field(default_factory=list)
    schedule: Schedule | None = None
    duration_options: list[int] | None = None
    color: str = "#0066ff"
    description: str | None = None
    team: str | None = None
    is_paid: bool = False
    secret: bool = False

    @property
    def uri(self) -> str:
        return f"{API}/event_types/{self.uuid}"

    @property
    def scheduling_url(self) -> str:
        return f"{PAGES}/{slugify(self.team) if self.team else self.hosts[0].slug}/{self.slug}"

    def schedule_of(self, host: User) -> Schedule:
        """The schedule that applies to a host: the event type's own if it is theirs, else the host's default."""
        if self.schedule is not None and self.schedule.user is host:
            return self.schedule
        return next(s for s in host.schedules if s.default)


@dataclass(slots=True)
class Cancellation:
    canceled_by: str
    reason: str | None
    canceler_type: str
    created: datetime


@dataclass(slots=True)
class Location:
    """Where an event takes place; `kind` is spelled as event types and requests spell it."""

    kind: str
    location: str | None = None
    additional_info: str | None = None
    join_url: str | None = None


@dataclass(slots=True, eq=False, repr=False)
class Event:
    uuid: str
    event_type: EventType
    hosts: tuple[User, ...]
    start: datetime
    end: datetime
    created: datetime
    updated: datetime
    location: Location | None
    source: str = "seed"
    invitees: list[Invitee] = field(default_factory=list)
    guests: list[tuple[str, datetime]] = field(default_factory=list)
    cancellation: Cancellation | None = None
    canceled_through_api: bool = False
    name: str | None = None

    @property
    def uri(self) -> str:
        return f"{API}/scheduled_events/{self.uuid}"

    @property
    def status(self) -> str:
        return "active" if self.cancellation is None else "canceled"

    @property
    def organization(self) -> Organization:
        return self.event_type.organization

    @property
    def active_invitees(self) -> int:
        return sum(invitee.cancellation is None for invitee in self.invitees)


@dataclass(slots=True, eq=False, repr=False)
class NoShow:
    uuid: str
    invitee: Invitee
    created: datetime

    @property
    def uri(self) -> str:
        return f"{API}/invitee_no_shows/{self.uuid}"


@dataclass(slots=True, eq=False, repr=False)
class Invitee:
    uuid: str
    event: Event
    email: str
    name: str
    timezone: str
    created: datetime
    updated: datetime
    first_name: str | None = None
    last_name: str | None = None
    answers: tuple[tuple[str, str, int], ...] = ()
    tracking: dict[str, str | None] | None = None
    text_reminder_number: str | None = None
    cancellation: Cancellation | None = None
    old_invitee: Invitee | None = None
    new_invitee: Invitee | None = None
    payment: dict[str, Any] | None = None
    no_show: NoShow | None = None
    scheduling_method: str | None = None
    scheduled_by: User | None = None

    @property
    def uri(self) -> str:
        return f"{self.event.uri}/invitees/{self.uuid}"

    @property
    def status(self) -> str:
        return "active" if self.cancellation is None else "canceled"


@dataclass(slots=True, eq=False, repr=False)
class Webhook:
    uuid: str
    callback_url: str
    events: list[str]
    scope: str
    organization: Organization
    creator: User
    created: datetime
    updated: datetime
    user: User | None = None
    group: Group | None = None
    state: str = "active"
    retry_started: datetime | None = None
    signing_key: str | None = None

    @property
    def uri(self) -> str:
        return f"{API}/webhook_subscriptions/{self.uuid}"


@dataclass(slots=True, eq=False, repr=False)
class Connection:
    """A connection of the gateway: the permission of an API key to act as one Calendly user."""

    id: str
    key: str
    app: str
    status: str
    created: datetime
    updated: datetime
    session_token: str
    user: User | None
    gets: int = 0
