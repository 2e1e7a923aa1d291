"""A Prefect event about something that has happened in Calendly: its name, id, labels and related resources.

The id follows from what has happened. A webhook, its redelivery, polling and a backfill make an event of the same id
for the same booking, and Prefect stores an id once.

Prefect takes events that its database cannot store, and then drops all that it would have stored with them. So an event
is checked, bounded and cleaned here, where it is made.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, Final, Literal
from uuid import UUID, uuid5

from pydantic_core import to_json

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

OWN_NAMES: Final = ("delivery.", "invitee.rescheduled", "receiver.", "screening.")
"""How the names of events begin that only this package makes, after the prefix: no delivery may be called so."""

_NAMESPACE: Final = UUID("39878920-719d-541f-9bea-ff7f4720f8d0")
_NAME: Final = re.compile(rf"{re.escape(PREFIX)}[!-~]{{1,200}}")
_MOST_RELATED: Final = 90  # Prefect refuses an event with more than 100.
_MOST_LABEL_BYTES: Final = 1_000  # PostgreSQL cannot index more than 2,700 bytes: name, resource and time together.
_MOST_BYTES: Final = 1_000_000  # Prefect drops an event of more than 1.5 MB.
_MOST_NESTED: Final = 100
_MOST_AWAY: Final = timedelta(days=3_650)
_MOST_INTEGER: Final = 2**63 - 1


class UnstorableEventError(ValueError):
    """Prefect could not store this event; the text names what is wrong with it, and shows no value."""


@dataclass(frozen=True, slots=True)
class CalendlyEvent:
    """A Prefect event about something that has happened in Calendly.

    What Prefect's database cannot store is left out of its labels and its payload.

    Raises:
        UnstorableEventError: It is too large, or its name, its time or a label is none that Prefect can store.
    """

    id: UUID
    event: str
    """Name, such as `calendly.invitee.created`."""
    occurred: datetime
    """When it happened in Calendly; not when we heard of it."""
    resource: Mapping[str, str]
    """Labels of the resource that it is about."""
    related: tuple[Mapping[str, str], ...] = ()
    payload: Mapping[str, Any] = field(default_factory=dict, repr=False)

    def __post_init__(self) -> None:
        if not _NAME.fullmatch(self.event):
            raise UnstorableEventError("its name is not of 1 to 200 printable ASCII characters")
        if self.occurred.tzinfo is None or abs(self.occurred - datetime.now(UTC)) > _MOST_AWAY:
            raise UnstorableEventError("its time is more than ten years away, or has no zone")
        related = {
            (each["prefect.resource.id"], each["prefect.resource.role"]): each for each in map(_storable, self.related)
        }
        object.__setattr__(self, "resource", _storable(self.resource))
        object.__setattr__(self, "related", tuple(related.values())[:_MOST_RELATED])
        object.__setattr__(self, "payload", _storable(self.payload))
        for labels in (self.resource, *self.related):
            if any(len(label.encode()) > _MOST_LABEL_BYTES for label in labels.values()):
                raise UnstorableEventError(f"a label has more than {_MOST_LABEL_BYTES:,} bytes")
        if len(to_json(self.as_json())) > _MOST_BYTES:
            raise UnstorableEventError(f"it has more than {_MOST_BYTES:,} bytes")

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


def pick(whole: Mapping[str, Any], members: Iterable[str]) -> dict[str, Any]:
    """Return some members of a resource, as far as it has them."""
    return {member: whole[member] for member in members if member in whole}


def _storable(value: Any, depth: int = 0) -> Any:
    """Return a value without what PostgreSQL refuses in JSON: NUL, halves of characters, numbers without an end."""
    if depth > _MOST_NESTED:
        raise UnstorableEventError(f"it is nested more than {_MOST_NESTED} levels deep")
    if isinstance(value, str):
        return value.replace("\x00", "").encode(errors="replace").decode()
    if isinstance(value, Mapping):
        return {_storable(name): _storable(each, depth + 1) for name, each in value.items()}
    if isinstance(value, list | tuple):
        return [_storable(each, depth + 1) for each in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if isinstance(value, int) and abs(value) > _MOST_INTEGER:
        return None
    return value
