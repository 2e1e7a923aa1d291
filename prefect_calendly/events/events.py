"""Calendly's happenings as Prefect events, each with an id that is the same whoever tells of it.

A webhook, its redelivery, polling and a backfill of the same booking make an event of the same id, and Prefect stores
an id once. Nothing here asks or writes anything.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final, Literal
from uuid import UUID, uuid5

from prefect_calendly.client.identifiers import CALENDLY_ORIGIN
from prefect_calendly.invitees import Invitee
from prefect_calendly.scheduled_events import ScheduledEvent
from prefect_calendly.webhooks.deliveries import (
    ContactDelivery,
    Delivery,
    EventTypeDelivery,
    InviteeDelivery,
    MeetingRecapDelivery,
    RoutingFormDelivery,
)

PREFIX: Final = "calendly."
"""Of the events' names, their resources' ids and their own labels."""
MOVE_LABEL: Final = "calendly.move"
SOURCE_LABEL: Final = "calendly.source"
DOMAIN_LABEL: Final = "calendly.email-domain"
URI_LABEL: Final = "calendly.uri"

Source = Literal["webhook", "poll", "backfill"]
Payload = Literal["standard", "full"]

_NAMESPACE: Final = UUID("39878920-719d-541f-9bea-ff7f4720f8d0")
_MOST_RELATED: Final = 90  # Prefect takes 100

# What the standard payload has: no free text, no telephone number, no link by which one can join or cancel.
_INVITEE = (
    *("uri", "email", "name", "status", "timezone", "event", "created_at", "updated_at", "rescheduled", "tracking"),
    *("old_invitee", "new_invitee", "routing_form_submission", "no_show", "reconfirmation", "scheduling_method"),
    "invitee_scheduled_by",
)
_SCHEDULED_EVENT = (
    *("uri", "name", "status", "start_time", "end_time", "event_type", "invitees_counter", "created_at", "updated_at"),
)
_MEMBERSHIP = ("user", "user_email", "user_name")
_CANCELLATION = ("canceler_type", "created_at")
_EVENT_TYPE = (
    *("uri", "name", "active", "slug", "scheduling_url", "duration", "duration_options", "kind", "pooling_type"),
    *("type", "created_at", "updated_at", "deleted_at", "is_paid", "profile", "secret", "booking_method"),
)
_SUBMISSION = ("uri", "routing_form", "tracking", "submitter", "submitter_type", "created_at", "updated_at")
_CHANGE = ("uri", "created_at", "updated_at", "deleted_at")


@dataclass(frozen=True, slots=True)
class CalendlyEvent:
    """A Prefect event about something that has happened in Calendly."""

    id: UUID
    event: str
    """Name, such as `calendly.invitee.created`."""
    occurred: datetime
    resource: Mapping[str, str]
    related: tuple[Mapping[str, str], ...] = ()
    payload: Mapping[str, Any] = field(default_factory=dict, repr=False)

    def as_json(self) -> dict[str, Any]:
        """Return it as Prefect's `POST /events` takes it."""
        return {
            "id": str(self.id),
            "event": self.event,
            "occurred": self.occurred.isoformat(),
            "resource": dict(self.resource),
            "related": [dict(each) for each in self.related],
            "payload": dict(self.payload),
        }


def event_id(happened: str, *what: str) -> UUID:
    """Return the id of the event for what has happened, and to what.

    Args:
        happened: Name, such as `invitee.created`.
        what: URIs, and whatever tells two happenings to the same apart.

    Returns:
        The same id for the same arguments, for ever.

    Example:
        >>> uri = "https://api.calendly.com/scheduled_events/E/invitees/I"
        >>> event_id("invitee.created", uri) == event_id("invitee.created", uri)
        True
    """
    return uuid5(_NAMESPACE, json.dumps([happened, *what]))


def events_of_delivery(
    delivery: Delivery, *, payload: Payload = "standard", organization: str | None = None, source: Source = "webhook"
) -> list[CalendlyEvent]:
    """Return the Prefect events of a webhook delivery.

    One, and a second one, `calendly.invitee.rescheduled`, for either half of a reschedule: both halves make it with the
    same id. The halves themselves are labeled `calendly.move: "true"`.

    Args:
        delivery: What Calendly has delivered.
        payload: `standard` leaves out free text, telephone numbers, links to join or cancel; `full` has all.
        organization: URI of the organization, which a delivery does not tell.
        source: Who tells of it.

    Returns:
        The events.

    Example:
        ```python
        for event in events_of_delivery(parse_delivery(body)):
            print(event.event, event.resource["prefect.resource.id"])
        ```
    """
    if isinstance(delivery, InviteeDelivery):
        invitee = delivery.payload
        event = invitee.scheduled_event
        about = _Booking(invitee, event, payload, organization, source)
        if delivery.event == "invitee.created":
            return [about.created(), *about.moved(delivery.created_at)]
        if delivery.event == "invitee.canceled":
            return [about.canceled(delivery.created_at), *about.moved(delivery.created_at)]
        if delivery.event == "invitee_no_show.created":
            return [about.no_show_created(delivery.created_at)]
        return [about.no_show_deleted(delivery.created_at)]
    return [_other(delivery, payload, organization, source)]


def events_of_invitee(
    invitee: Invitee,
    event: ScheduledEvent,
    *,
    payload: Payload = "standard",
    organization: str | None = None,
    source: Source = "poll",
) -> list[CalendlyEvent]:
    """Return the Prefect events of all that an invitee shows to have happened to them, the oldest first.

    With the ids that webhooks give them: booked, canceled, moved, marked as a no-show. That such a mark was taken away
    again cannot be seen.

    Args:
        invitee: An invitee, as the API returns it.
        event: The event that they booked.
        payload: As for `events_of_delivery`.
        organization: URI of the organization.
        source: Who tells of it.

    Returns:
        The events, at least `calendly.invitee.created`.

    Example:
        ```python
        for invitee in list_invitees(credentials, event):
            events = events_of_invitee(invitee, event)
        ```
    """
    about = _Booking(invitee, event, payload, organization, source)
    found = [about.created(), *about.moved(invitee.updated_at)]
    if invitee.status == "canceled":
        found.append(about.canceled(invitee.updated_at))
    if invitee.no_show is not None:
        found.append(about.no_show_created(invitee.updated_at))
    return sorted(found, key=lambda each: each.occurred)


@dataclass(frozen=True, slots=True)
class _Booking:
    """What happens to one invitee."""

    invitee: Invitee
    event: ScheduledEvent
    payload: Payload
    organization: str | None
    source: Source

    def created(self) -> CalendlyEvent:
        return self._made("invitee.created", self.invitee.created_at, moved=self.invitee.old_invitee is not None)

    def canceled(self, otherwise: datetime) -> CalendlyEvent:
        moved = self.invitee.rescheduled or self.invitee.new_invitee is not None
        return self._made("invitee.canceled", self._canceled_at(otherwise), moved=moved)

    def moved(self, otherwise: datetime) -> list[CalendlyEvent]:
        """The one event of each move of which the invitee is a half; either half makes the same."""
        old, new = self.invitee.old_invitee, self.invitee.new_invitee
        found = [] if old is None else [self._move(old, self.invitee.uri, self.invitee.created_at)]
        return found if new is None else [*found, self._move(self.invitee.uri, new, self._canceled_at(otherwise))]

    def _move(self, old: str, new: str, occurred: datetime) -> CalendlyEvent:
        old_event, new_event = (uri.rpartition("/invitees/")[0] for uri in (old, new))
        payload = {
            "old_invitee": old,
            "new_invitee": new,
            "old_event": old_event,
            "new_event": new_event,
            "email": self.invitee.email,
            "name": self.invitee.name,
            "event_type": self.event.event_type,
        }
        related = [
            _related(old, "old-invitee"),
            _related(old_event, "old-event"),
            _related(new_event, "scheduled-event"),
        ]
        return CalendlyEvent(
            event_id("invitee.rescheduled", old),
            f"{PREFIX}invitee.rescheduled",
            occurred,
            self._resource(new, moved=True),
            _each_once([*related, *self._around()]),
            _clean(payload),
        )

    def no_show_created(self, otherwise: datetime) -> CalendlyEvent:
        mark = self.invitee.no_show
        if mark is None:  # the mark tells two of the same invitee apart
            return self._made("invitee_no_show.created", otherwise, self.invitee.updated_at.isoformat())
        return self._made("invitee_no_show.created", mark.created_at or otherwise, mark.uri)

    def no_show_deleted(self, otherwise: datetime) -> CalendlyEvent:
        mark = self.invitee.no_show
        what = mark.uri if mark is not None else self.invitee.updated_at.isoformat()
        return self._made("invitee_no_show.deleted", otherwise, what)

    def _canceled_at(self, otherwise: datetime) -> datetime:
        for cancellation in (self.invitee.cancellation, self.event.cancellation):
            if cancellation is not None and cancellation.created_at is not None:
                return cancellation.created_at
        return otherwise

    def _made(self, happened: str, occurred: datetime, *more: str, moved: bool = False) -> CalendlyEvent:
        resource = self._resource(self.invitee.uri, moved=moved)
        related = [_related(self.event.uri, "scheduled-event"), *self._around()]
        ident = event_id(happened, self.invitee.uri, *more)
        return CalendlyEvent(
            ident, f"{PREFIX}{happened}", occurred, resource, _each_once(related), _clean(self._payload())
        )

    def _resource(self, uri: str, *, moved: bool) -> dict[str, str]:
        domain = self.invitee.email.rpartition("@")[2].lower()
        return {
            "prefect.resource.id": resource_id(uri),
            URI_LABEL: uri,
            MOVE_LABEL: "true" if moved else "false",
            DOMAIN_LABEL: _clean(domain),
            SOURCE_LABEL: self.source,
        }

    def _around(self) -> Iterable[dict[str, str]]:
        if self.event.event_type is not None:
            yield _related(self.event.event_type, "event-type")
        for membership in self.event.event_memberships:
            yield _related(membership.user, "host")
        if self.organization is not None:
            yield _related(self.organization, "organization")

    def _payload(self) -> dict[str, Any]:
        invitee = self.invitee.model_dump(mode="json")
        invitee.pop("scheduled_event", None)
        event = self.event.model_dump(mode="json")
        if self.payload == "full":
            return {**invitee, "scheduled_event": event}
        reduced = _only(event, _SCHEDULED_EVENT)
        reduced["event_memberships"] = [_only(each, _MEMBERSHIP) for each in event["event_memberships"]]
        reduced["event_guests"] = len(event["event_guests"])
        reduced["location"] = _only(event["location"] or {}, ("type",)) or None
        for kept, whole in ((reduced, event), (kept_invitee := _only(invitee, _INVITEE), invitee)):
            if whole.get("cancellation") is not None:
                kept["cancellation"] = _only(whole["cancellation"], _CANCELLATION)
        return {**kept_invitee, "scheduled_event": reduced}


def _other(delivery: Delivery, payload: Payload, organization: str | None, source: Source) -> CalendlyEvent:
    """The event of a delivery that is not about an invitee."""
    whole: dict[str, Any] = delivery.model_dump(mode="json")["payload"]
    about: Mapping[str, Any] = whole
    reduced = _only(whole, _CHANGE)
    related: list[dict[str, str]] = []
    if isinstance(delivery, RoutingFormDelivery):
        reduced = {**_only(whole, _SUBMISSION), "result": _only(whole["result"] or {}, ("type",)) or None}
        related.append(_related(delivery.payload.routing_form, "routing-form"))
        if delivery.payload.submitter is not None:
            related.append(_related(delivery.payload.submitter, "invitee"))
    elif isinstance(delivery, EventTypeDelivery):
        reduced = _only(whole, _EVENT_TYPE)
        if delivery.payload.profile is not None:
            related.append(_related(delivery.payload.profile.owner, "owner"))
    elif isinstance(delivery, ContactDelivery):
        about = whole["contact"]
        reduced = {"user_uuid": delivery.payload.user_uuid, "contact": _only(about, _CHANGE)}
        if delivery.payload.user_uuid:
            related.append(_related(f"{CALENDLY_ORIGIN}/users/{delivery.payload.user_uuid}", "host"))
    elif isinstance(delivery, MeetingRecapDelivery):
        about = whole["recap"]
        event = whole["event"] or {}
        reduced = {"event": _only(event, ("uri", "start_time", "end_time")) or None, "recap": _only(about, _CHANGE)}
        if isinstance(event.get("uri"), str):
            related.append(_related(event["uri"], "scheduled-event"))
    if organization is not None:
        related.append(_related(organization, "organization"))

    uri = about.get("uri")
    if isinstance(uri, str) and uri.startswith("https://"):
        # What happens once is told by what it happens to; a change, or what is not known here, by its time too.
        once = delivery.event.endswith((".created", ".deleted")) and type(delivery) in _KNOWN
        changed = about.get("updated_at")
        when = () if once else (changed if isinstance(changed, str) else delivery.created_at.isoformat(),)
        ident = event_id(delivery.event, uri, *when)
        resource = {"prefect.resource.id": resource_id(uri), URI_LABEL: uri}
    else:
        digest = hashlib.sha256(json.dumps(whole, sort_keys=True).encode()).hexdigest()
        ident = event_id(delivery.event, delivery.created_at.isoformat(), digest)
        resource = {"prefect.resource.id": f"{PREFIX}delivery.{ident}"}
    return CalendlyEvent(
        ident,
        f"{PREFIX}{delivery.event}",
        delivery.created_at,
        _clean({**resource, SOURCE_LABEL: source}),
        _each_once(related),
        _clean(whole if payload == "full" else reduced),
    )


_KNOWN: Final = (RoutingFormDelivery, ContactDelivery, MeetingRecapDelivery, EventTypeDelivery)


def resource_id(uri: str) -> str:
    """Return the id of a Calendly resource in Prefect.

    Args:
        uri: Its URI.

    Returns:
        Kind and uuid.

    Example:
        >>> resource_id("https://api.calendly.com/scheduled_events/E/invitees/I")
        'calendly.invitee.I'
        >>> resource_id("https://api.calendly.com/organizations/O")
        'calendly.organization.O'
    """
    *_, collection, uuid = ["", "", *uri.rstrip("/").split("/")]
    return f"{PREFIX}{collection.removesuffix('s').replace('_', '-')}.{uuid}"


def _related(uri: str, role: str) -> dict[str, str]:
    return {"prefect.resource.id": resource_id(uri), "prefect.resource.role": role, URI_LABEL: uri}


def _each_once(related: Iterable[Mapping[str, str]]) -> tuple[Mapping[str, str], ...]:
    found = {(each["prefect.resource.id"], each["prefect.resource.role"]): _clean(each) for each in related}
    return tuple(found.values())[:_MOST_RELATED]


def _only(whole: Mapping[str, Any], members: Iterable[str]) -> dict[str, Any]:
    return {member: whole[member] for member in members if member in whole}


def _clean(value: Any) -> Any:
    """Without the one character that PostgreSQL cannot store: it would refuse all events that come with this one."""
    if isinstance(value, str):
        return value.replace("\x00", "")
    if isinstance(value, Mapping):
        return {_clean(name): _clean(each) for name, each in value.items()}
    if isinstance(value, list | tuple):
        return [_clean(each) for each in value]
    return value
