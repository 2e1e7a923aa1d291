"""The Prefect events of an invitee: booked, canceled, rescheduled, marked as a no-show."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from prefect_calendly.events.event import (
    DOMAIN_LABEL,
    MOVE_LABEL,
    PREFIX,
    SOURCE_LABEL,
    URI_LABEL,
    CalendlyEvent,
    Payload,
    Source,
    event_id,
    pick,
    related_resource,
    resource_id,
)
from prefect_calendly.invitees import Invitee
from prefect_calendly.scheduled_events import ScheduledEvent

# The standard payload has no free text, no telephone number, and no link by which somebody can join or cancel.
_INVITEE: Final = (
    *("uri", "email", "name", "status", "timezone", "event", "created_at", "updated_at", "rescheduled", "tracking"),
    *("old_invitee", "new_invitee", "routing_form_submission", "no_show", "reconfirmation", "scheduling_method"),
    "invitee_scheduled_by",
)
_SCHEDULED_EVENT: Final = (
    *("uri", "name", "status", "start_time", "end_time", "event_type", "invitees_counter", "created_at", "updated_at"),
)
_MEMBERSHIP: Final = ("user", "user_email", "user_name")
_CANCELLATION: Final = ("canceler_type", "created_at")


def events_of_invitee(
    invitee: Invitee,
    event: ScheduledEvent,
    *,
    payload: Payload = "standard",
    organization: str | None = None,
    source: Source = "poll",
) -> list[CalendlyEvent]:
    """Return the Prefect events of everything that an invitee shows to have happened to them, the oldest first.

    They have the ids that webhooks give them. An invitee does not show that a no-show mark was removed.

    Args:
        invitee: An invitee, as the API returns it.
        event: The scheduled event that they booked, in full.
        payload: `standard` leaves out free text, telephone numbers, links to join or cancel; `full` has everything.
        organization: URI of the organization, which becomes a related resource.
        source: Value of the label `calendly.source`.

    Returns:
        The events, at least `calendly.invitee.created`.

    Raises:
        UnstorableEventError: Prefect could not store one of them.

    Example:
        ```python
        event = get_scheduled_event(credentials, "DDDDDDDDDDDDDDDD")
        for invitee in list_invitees(credentials, event):
            events = events_of_invitee(invitee, event)
        ```
    """
    booking = Booking(invitee, event, payload, organization, source)
    found = [booking.created(), *booking.rescheduled(invitee.updated_at)]
    if invitee.status == "canceled":
        found.append(booking.canceled(invitee.updated_at))
    if invitee.no_show is not None:
        found.append(booking.no_show_created(invitee.updated_at))
    return sorted(found, key=lambda each: each.occurred)


@dataclass(frozen=True, slots=True)
class Booking:
    """One invitee of one scheduled event, and the Prefect events about them.

    Where a method takes `otherwise`, it is when the event occurred if the invitee itself does not say so.
    """

    invitee: Invitee
    event: ScheduledEvent
    payload: Payload
    organization: str | None
    source: Source

    def created(self) -> CalendlyEvent:
        """Somebody has booked, or arrived by a reschedule."""
        return self._event("invitee.created", self.invitee.created_at, move=self.invitee.old_invitee is not None)

    def canceled(self, otherwise: datetime) -> CalendlyEvent:
        """The booking was canceled, or left by a reschedule."""
        move = self.invitee.rescheduled or self.invitee.new_invitee is not None
        return self._event("invitee.canceled", self._canceled_at(otherwise), move=move)

    def rescheduled(self, otherwise: datetime) -> list[CalendlyEvent]:
        """Each reschedule in which the invitee is the old or the new one: both make the same event."""
        old, new = self.invitee.old_invitee, self.invitee.new_invitee
        found = [] if old is None else [self._reschedule(old, self.invitee.uri, self.invitee.created_at)]
        return found if new is None else [*found, self._reschedule(self.invitee.uri, new, self._canceled_at(otherwise))]

    def no_show_created(self, otherwise: datetime) -> CalendlyEvent:
        """The invitee was marked as a no-show."""
        mark = self.invitee.no_show
        if mark is None:  # without it, only the time distinguishes two marks of the same invitee
            return self._event("invitee_no_show.created", otherwise, self.invitee.updated_at.isoformat())
        return self._event("invitee_no_show.created", mark.created_at or otherwise, mark.uri)

    def no_show_deleted(self, otherwise: datetime) -> CalendlyEvent:
        """The no-show mark was removed."""
        mark = self.invitee.no_show
        which = mark.uri if mark is not None else self.invitee.updated_at.isoformat()
        return self._event("invitee_no_show.deleted", otherwise, which)

    def _event(self, name: str, occurred: datetime, *parts: str, move: bool = False) -> CalendlyEvent:
        return CalendlyEvent(
            event_id(name, self.invitee.uri, *parts),
            f"{PREFIX}{name}",
            occurred,
            self._resource(self.invitee.uri, move=move),
            (related_resource(self.event.uri, "scheduled-event"), *self._related()),
            self._payload(),
        )

    def _reschedule(self, old: str, new: str, occurred: datetime) -> CalendlyEvent:
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
            related_resource(old, "old-invitee"),
            related_resource(old_event, "old-event"),
            related_resource(new_event, "scheduled-event"),
        ]
        return CalendlyEvent(
            event_id("invitee.rescheduled", old),
            f"{PREFIX}invitee.rescheduled",
            occurred,
            self._resource(new, move=True),
            (*related, *self._related()),
            payload,
        )

    def _canceled_at(self, otherwise: datetime) -> datetime:
        for cancellation in (self.invitee.cancellation, self.event.cancellation):
            if cancellation is not None and cancellation.created_at is not None:
                return cancellation.created_at
        return otherwise

    def _resource(self, uri: str, *, move: bool) -> dict[str, str]:
        domain = self.invitee.email.rpartition("@")[2].lower()
        return {
            "prefect.resource.id": resource_id(uri),
            URI_LABEL: uri,
            MOVE_LABEL: "true" if move else "false",
            DOMAIN_LABEL: domain,
            SOURCE_LABEL: self.source,
        }

    def _related(self) -> Iterable[dict[str, str]]:
        if self.event.event_type is not None:
            yield related_resource(self.event.event_type, "event-type")
        for membership in self.event.event_memberships:
            yield related_resource(membership.user, "host")
        if self.organization is not None:
            yield related_resource(self.organization, "organization")

    def _payload(self) -> dict[str, Any]:
        invitee = self.invitee.model_dump(mode="json")
        invitee.pop("scheduled_event", None)
        event = self.event.model_dump(mode="json")
        if self.payload == "full":
            return {**invitee, "scheduled_event": event}
        standard_event = pick(event, _SCHEDULED_EVENT)
        standard_event["event_memberships"] = [pick(each, _MEMBERSHIP) for each in event["event_memberships"]]
        standard_event["event_guests"] = len(event["event_guests"])
        standard_event["location"] = pick(event["location"] or {}, ("type",)) or None
        standard_invitee = pick(invitee, _INVITEE)
        for standard, whole in ((standard_event, event), (standard_invitee, invitee)):
            if whole.get("cancellation") is not None:
                standard["cancellation"] = pick(whole["cancellation"], _CANCELLATION)
        return {**standard_invitee, "scheduled_event": standard_event}
