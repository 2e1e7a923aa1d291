"""A Prefect event about something that has happened in Calendly: its name, id, labels and related resources.

The id follows from what has happened. A webhook, its redelivery, polling and a backfill make an event of the same id
for the same booking, and Prefect stores an id once.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final, Literal
from uuid import UUID, uuid5

PREFIX: Final = "calendly."
"""Of the names of events, of the ids of their resources, and of our own labels."""
MOVE_LABEL: Final = "calendly.move"
SOURCE_LABEL: Final = "calendly.source"
DOMAIN_LABEL: Final = "calendly.email-domain"
URI_LABEL: Final = "calendly.uri"

Source = Literal["webhook", "poll", "backfill"]
"""What has made an event; the value of the label `calendly.source`."""
Payload = Literal["standard", "full"]
"""How much an event holds: `standard` leaves out free text, telephone numbers, and links to join or cancel."""

_NAMESPACE: Final = UUID("39878920-719d-541f-9bea-ff7f4720f8d0")
_MOST_RELATED: Final = 90  # Prefect refuses an event with more than 100.


@dataclass(frozen=True, slots=True)
class CalendlyEvent:
    """A Prefect event about something that has happened in Calendly."""

    id: UUID
    event: str
    """Name, such as `calendly.invitee.created`."""
    occurred: datetime
    """When it happened in Calendly; not when we heard of it."""
    resource: Mapping[str, str]
    """Labels of the resource that it is about."""
    related: tuple[Mapping[str, str], ...] = ()
    payload: Mapping[str, Any] = field(default_factory=dict, repr=False)

    def as_json(self) -> dict[str, Any]:
        """Return the event as Prefect's `POST /events` takes it."""
        return {
            "id": str(self.id),
            "event": self.event,
            "occurred": self.occurred.isoformat(),
            "resource": dict(self.resource),
            "related": [dict(each) for each in self.related],
            "payload": dict(self.payload),
        }


def event_id(name: str, *parts: str) -> UUID:
    """Return the id of an event: the same for the same arguments, forever.

    Args:
        name: What has happened, without our prefix, such as `invitee.created`.
        parts: URI of the resource, and whatever else distinguishes two such events.

    Returns:
        The id.

    Example:
        >>> uri = "https://api.calendly.com/scheduled_events/E/invitees/I"
        >>> event_id("invitee.created", uri) == event_id("invitee.created", uri)
        True
    """
    return uuid5(_NAMESPACE, json.dumps([name, *parts]))


def resource_id(uri: str) -> str:
    """Return the id that a Calendly resource has in Prefect.

    Args:
        uri: URI of the resource.

    Returns:
        Its kind and uuid.

    Example:
        >>> resource_id("https://api.calendly.com/scheduled_events/E/invitees/I")
        'calendly.invitee.I'
        >>> resource_id("https://api.calendly.com/organizations/O")
        'calendly.organization.O'
    """
    *_, collection, uuid = ["", "", *uri.rstrip("/").split("/")]
    return f"{PREFIX}{collection.removesuffix('s').replace('_', '-')}.{uuid}"


def related_resource(uri: str, role: str) -> dict[str, str]:
    """Return the labels of a related resource.

    Args:
        uri: URI of the resource.
        role: What it is to the event, such as `host`.
    """
    return {"prefect.resource.id": resource_id(uri), "prefect.resource.role": role, URI_LABEL: uri}


def related_resources(related: Iterable[Mapping[str, str]]) -> tuple[Mapping[str, str], ...]:
    """Return related resources as an event can hold them: each role of a resource once, and not too many."""
    found = {(each["prefect.resource.id"], each["prefect.resource.role"]): storable(each) for each in related}
    return tuple(found.values())[:_MOST_RELATED]


def pick(whole: Mapping[str, Any], members: Iterable[str]) -> dict[str, Any]:
    """Return some members of a resource, as far as it has them."""
    return {member: whole[member] for member in members if member in whole}


def storable(value: Any) -> Any:
    """Return a value without NUL characters: PostgreSQL would refuse all events of the same request."""
    if isinstance(value, str):
        return value.replace("\x00", "")
    if isinstance(value, Mapping):
        return {storable(name): storable(each) for name, each in value.items()}
    if isinstance(value, list | tuple):
        return [storable(each) for each in value]
    return value
