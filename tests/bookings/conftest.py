"""A sandbox without the events of its start, and what webhooks would make of its bookings."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

from prefect_calendly.events.event import CalendlyEvent
from prefect_calendly.webhooks.deliveries import parse_delivery
from prefect_calendly.webhooks.delivery_events import events_of_delivery
from tests.world import ORGANIZATION, World, uuid_of

Webhook = Callable[[str], list[CalendlyEvent]]


@pytest.fixture
def webhook(world: World) -> Webhook:
    """The events that the receiver makes of the booking of a scheduled event with one invitee."""

    def made_of(uri: str) -> list[CalendlyEvent]:
        (invitee,) = world.listing(f"/scheduled_events/{uuid_of(uri)}/invitees")
        listed: list[dict[str, Any]] = world.listing("/scheduled_events", organization=ORGANIZATION)
        payload = {**invitee, "scheduled_event": next(event for event in listed if event["uri"] == uri)}
        body = {"event": "invitee.created", "created_at": invitee["updated_at"], "payload": payload}
        return events_of_delivery(parse_delivery(json.dumps(body).encode()), organization=ORGANIZATION)

    return made_of
