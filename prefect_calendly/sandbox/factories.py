"""Making users, event types and locations, for seeding and for the control surface."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

from prefect_calendly.sandbox.model import (
    Cancellation,
    Event,
    EventType,
    Location,
    Organization,
    Rule,
    Schedule,
    User,
    slugify,
)
from prefect_calendly.sandbox.world import World

WORKING_HOURS = ("09:00", "17:00")
_JOIN_URLS = {
    "zoom_conference": "https://zoom.us/j/",
    "google_conference": "https://meet.google.com/",
    "gotomeeting_conference": "https://global.gotomeeting.com/join/",
    "microsoft_teams_conference": "https://teams.microsoft.com/l/meetup-join/",
    "webex_conference": "https://acme.webex.com/meet/",
}


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
    """Add a user with a membership and a default schedule: Monday to Friday, 9 to 17, unless `rules` are given."""
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
        working = ("monday", "tuesday", "wednesday", "thursday", "friday")
        rules = [Rule("wday", day, [WORKING_HOURS]) for day in working]
        rules += [Rule("wday", "saturday", []), Rule("wday", "sunday", [])]
    user.schedules.append(Schedule(world.uuid(), "Working hours", user, timezone, rules))
    world.users[user.uuid] = user
    return user


def add_event_type(
    world: World, name: str, hosts: list[User], duration: int = 30, *, uuid: str | None = None, **more: Any
) -> EventType:
    """Add an event type of these hosts, by default with Zoom as its location; `more` are members of `EventType`."""
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
    """The location of an event with this identifier: the first that its type offers."""
    return location_from(event_type.locations[0], uuid) if event_type.locations else None


def location_from(offered: dict[str, Any], uuid: str) -> Location:
    """The location of an event, made from one that its type offers."""
    kind = offered["kind"]
    text = offered.get("phone_number") if kind == "inbound_call" else offered.get("location")
    if kind == "outbound_call":
        text = "+1 202-555-0143"
    elif kind == "ask_invitee":
        text = "Café at the corner"
    return Location(kind, text, offered.get("additional_info"), join_url_of(kind, uuid))


def join_url_of(kind: str, uuid: str) -> str | None:
    """The link to the conference of an event; None if the location is not a conference."""
    return f"{_JOIN_URLS[kind]}{uuid.lower()}" if kind in _JOIN_URLS else None


def cancel_before_adding(event: Event, by: str, canceler_type: str, reason: str | None) -> None:
    """Cancel an event that is not in the world yet, some hours after it was created."""
    moment = event.created + timedelta(hours=5)
    event.cancellation = Cancellation(by, reason, canceler_type, moment)
    event.updated = moment
    for invitee in event.invitees:
        invitee.cancellation = event.cancellation
        invitee.updated = moment
