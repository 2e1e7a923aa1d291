"""Webhook deliveries, typed."""

from __future__ import annotations

from typing import Any, ClassVar, Final, Literal

from pydantic import Field, ValidationError
from pydantic_core import from_json

from prefect_calendly.event_types import EventType
from prefect_calendly.invitees import Invitee, Tracking
from prefect_calendly.resource import Items, Resource, Time
from prefect_calendly.scheduled_events import ScheduledEvent

PING: Final = "prefect_calendly.ping"
"""An event name of our own: a signed delivery of it shows that a receiver can be reached; it makes no Prefect event."""


class DeliveryError(ValueError):
    """A body that is no delivery of Calendly, or makes no event; the text names what is wrong, and shows no value."""


class RoutingFormAnswer(Resource):
    """An answer on a routing form."""

    question: str
    answer: str | None = None
    question_uuid: str | None = None


class RoutingFormResult(Resource):
    """Where a routing form has led."""

    type: Literal["event_type", "external_url", "custom_message"] | str
    value: str | dict[str, Any] | None = None


class RoutingFormSubmission(Resource):
    """A routing form submission."""

    uri: str
    routing_form: str
    questions_and_answers: Items[RoutingFormAnswer] = ()
    tracking: Tracking | None = None
    result: RoutingFormResult | None = None
    submitter: str | None = None
    submitter_type: Literal["Invitee"] | str | None = None
    created_at: Time
    updated_at: Time


class DeliveredInvitee(Invitee):
    """An invitee with the event that they booked."""

    scheduled_event: ScheduledEvent


class DeliveredContact(Resource):
    """A contact; a deleted one has only its URI and when it was deleted."""

    uri: str
    created_at: Time | None = None
    updated_at: Time | None = None
    deleted_at: Time | None = None


class ContactChange(Resource):
    """A contact, and the user whose it is."""

    user_uuid: str | None = None
    contact: DeliveredContact


class DeliveredRecap(Resource):
    """A meeting recap; a deleted one has only its URI and when it was deleted."""

    uri: str
    created_at: Time | None = None
    updated_at: Time | None = None
    deleted_at: Time | None = None


class RecapChange(Resource):
    """A meeting recap, and its meeting."""

    created_at: Time | None = None
    event: dict[str, Any] | None = None
    recap: DeliveredRecap


class Delivery(Resource):
    """What all deliveries have."""

    event: str = Field(min_length=1, max_length=200)
    """Name of what happened, such as `invitee.created`."""
    created_at: Time
    """When Calendly made the delivery; a redelivery has the same time."""
    created_by: str | None = None
    """URI of the user who made the subscription."""
    payload: Any

    names: ClassVar[tuple[str, ...]] = ()


class UnknownDelivery(Delivery):
    """A delivery of an event that this package does not know: Calendly has added it since."""

    payload: dict[str, Any]


class InviteeDelivery(Delivery):
    """An invitee has booked or canceled, or was marked as a no-show, or the mark was removed."""

    payload: DeliveredInvitee

    names = ("invitee.created", "invitee.canceled", "invitee_no_show.created", "invitee_no_show.deleted")


class RoutingFormDelivery(Delivery):
    """A routing form was submitted."""

    payload: RoutingFormSubmission

    names = ("routing_form_submission.created",)


class ContactDelivery(Delivery):
    """A contact was created, updated or deleted."""

    payload: ContactChange

    names = ("contact.created", "contact.updated", "contact.deleted")


class MeetingRecapDelivery(Delivery):
    """A meeting recap was created, updated or deleted."""

    payload: RecapChange

    names = ("meeting_recap.created", "meeting_recap.updated", "meeting_recap.deleted")


class EventTypeDelivery(Delivery):
    """An event type was created, updated or deleted."""

    payload: EventType

    names = ("event_type.created", "event_type.updated", "event_type.deleted")


_TYPES: Final[dict[str, type[Delivery]]] = {
    name: kind
    for kind in (InviteeDelivery, RoutingFormDelivery, ContactDelivery, MeetingRecapDelivery, EventTypeDelivery)
    for name in kind.names
}


def parse_delivery(body: bytes) -> Delivery:
    """Read the body of a delivery.

    Args:
        body: The request's body; verify its signature first.

    Returns:
        An `InviteeDelivery`, `RoutingFormDelivery`, `ContactDelivery`, `MeetingRecapDelivery`, `EventTypeDelivery`, or
        an `UnknownDelivery` of an event that this package does not know. Unknown members are kept (`model_extra`).

    Raises:
        DeliveryError: It is not JSON, or a member is missing or not of its type.

    Example:
        >>> delivery = parse_delivery(b'{"event": "comet.seen", "created_at": "2026-01-02T03:04:05Z", "payload": {}}')
        >>> type(delivery).__name__, delivery.event
        ('UnknownDelivery', 'comet.seen')
    """
    try:
        content = from_json(body, allow_inf_nan=False)  # also refuses too deep nesting and lone surrogates
    except ValueError:
        raise DeliveryError("the body is not JSON") from None
    if not isinstance(content, dict):
        raise DeliveryError("the body is not a JSON object")
    name = content.get("event")
    kind = _TYPES.get(name, UnknownDelivery) if isinstance(name, str) else UnknownDelivery
    try:
        return kind.model_validate(content)
    except ValidationError as error:
        raise DeliveryError(f"the delivery is not as documented: {_where(error)}") from None


def _where(error: ValidationError) -> str:
    """Name the wrong members and the rules that they break; their values may be personal."""
    known = error.errors(include_input=False, include_url=False, include_context=False)[:5]
    return "; ".join(f"{'.'.join(map(str, each['loc'])) or 'it'}: {each['type']}" for each in known)[:500]
