"""The Prefect events of a webhook delivery."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any, Final

from prefect_calendly.client.identifiers import CALENDLY_ORIGIN
from prefect_calendly.events.event import (
    OWN_NAMES,
    PREFIX,
    SOURCE_LABEL,
    URI_LABEL,
    CalendlyEvent,
    Payload,
    Source,
    UnstorableEventError,
    event_id,
    pick,
    related_resource,
    resource_id,
)
from prefect_calendly.events.invitees import Booking
from prefect_calendly.webhooks.deliveries import (
    ContactDelivery,
    Delivery,
    DeliveryError,
    EventTypeDelivery,
    InviteeDelivery,
    MeetingRecapDelivery,
    RoutingFormDelivery,
)

# What the standard payload has: no free text.
_EVENT_TYPE: Final = (
    *("uri", "name", "active", "slug", "scheduling_url", "duration", "duration_options", "kind", "pooling_type"),
    *("type", "created_at", "updated_at", "deleted_at", "is_paid", "profile", "secret", "booking_method"),
)
_SUBMISSION: Final = ("uri", "routing_form", "tracking", "submitter", "submitter_type", "created_at", "updated_at")
_TIMES: Final = ("uri", "created_at", "updated_at", "deleted_at")

_KNOWN: Final = (RoutingFormDelivery, ContactDelivery, MeetingRecapDelivery, EventTypeDelivery)


def events_of_delivery(
    delivery: Delivery, *, payload: Payload = "standard", organization: str | None = None, source: Source = "webhook"
) -> list[CalendlyEvent]:
    """Return the Prefect events of a webhook delivery.

    There is one, and a second one, `calendly.invitee.rescheduled`, for either half of a reschedule: both halves make it
    with the same id. The halves themselves have the label `calendly.move: "true"`.

    Args:
        delivery: What Calendly has delivered.
        payload: `standard` leaves out free text, telephone numbers, links to join or cancel; `full` has everything.
        organization: URI of the organization, which a delivery does not contain; it becomes a related resource.
        source: Value of the label `calendly.source`.

    Returns:
        The events.

    Raises:
        DeliveryError: Prefect could not store the events, or only this package makes events of that name.

    Example:
        ```python
        for event in events_of_delivery(parse_delivery(body)):
            print(event.event, event.resource["prefect.resource.id"])
        ```
    """
    if delivery.event.startswith(OWN_NAMES):
        raise DeliveryError("the delivery has a name that only this package gives")
    try:
        return _events(delivery, payload, organization, source)
    except UnstorableEventError as error:
        raise DeliveryError(f"the delivery makes no event that Prefect can store: {error}") from None


def _events(delivery: Delivery, payload: Payload, organization: str | None, source: Source) -> list[CalendlyEvent]:
    if not isinstance(delivery, InviteeDelivery):
        return [_event(delivery, payload, organization, source)]
    invitee = delivery.payload
    booking = Booking(invitee, invitee.scheduled_event, payload, organization, source)
    if delivery.event == "invitee.created":
        return [booking.created(), *booking.rescheduled(delivery.created_at)]
    if delivery.event == "invitee.canceled":
        return [booking.canceled(delivery.created_at), *booking.rescheduled(delivery.created_at)]
    if delivery.event == "invitee_no_show.created":
        return [booking.no_show_created(delivery.created_at)]
    return [booking.no_show_deleted(delivery.created_at)]


def _event(delivery: Delivery, payload: Payload, organization: str | None, source: Source) -> CalendlyEvent:
    """Return the event of a delivery that is not about an invitee."""
    whole: dict[str, Any] = delivery.model_dump(mode="json")["payload"]
    about: Mapping[str, Any] = whole
    standard = pick(whole, _TIMES)
    related: list[dict[str, str]] = []
    if isinstance(delivery, RoutingFormDelivery):
        standard = {**pick(whole, _SUBMISSION), "result": pick(whole["result"] or {}, ("type",)) or None}
        related.append(related_resource(delivery.payload.routing_form, "routing-form"))
        if delivery.payload.submitter is not None:
            related.append(related_resource(delivery.payload.submitter, "invitee"))
    elif isinstance(delivery, EventTypeDelivery):
        standard = pick(whole, _EVENT_TYPE)
        if delivery.payload.profile is not None:
            related.append(related_resource(delivery.payload.profile.owner, "owner"))
    elif isinstance(delivery, ContactDelivery):
        about = whole["contact"]
        standard = {"user_uuid": delivery.payload.user_uuid, "contact": pick(about, _TIMES)}
        if delivery.payload.user_uuid:
            related.append(related_resource(f"{CALENDLY_ORIGIN}/users/{delivery.payload.user_uuid}", "host"))
    elif isinstance(delivery, MeetingRecapDelivery):
        about = whole["recap"]
        event = whole["event"] or {}
        standard = {"event": pick(event, ("uri", "start_time", "end_time")) or None, "recap": pick(about, _TIMES)}
        if isinstance(event.get("uri"), str):
            related.append(related_resource(event["uri"], "scheduled-event"))
    if organization is not None:
        related.append(related_resource(organization, "organization"))

    uri = about.get("uri")
    if isinstance(uri, str) and uri.startswith("https://"):
        # A resource is created and deleted once. Anything else can happen to it again, at another time.
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
        {**resource, SOURCE_LABEL: source},
        tuple(related),
        whole if payload == "full" else standard,
    )
