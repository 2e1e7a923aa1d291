"""How many bookings were canceled within the last hour, by all runs together: counted as events in Prefect."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Final

import httpx
from prefect import runtime
from prefect.client.orchestration import get_client

from prefect_calendly.events.event import PREFIX, URI_LABEL, CalendlyEvent, event_id, resource_id
from prefect_calendly.events.prefect_api import count_events, post_events
from prefect_calendly.runs.logger import run_logger
from prefect_calendly.screening.decision import Decision

_CANCELED: Final = "screening.canceled"
_REFUSED: Final = "screening.refused"
_PERIOD: Final = timedelta(hours=1)


async def count_recent_cancellations() -> int:
    """Return how many bookings were canceled within the last hour."""
    return await _count(_CANCELED)


async def record_cancellation(decision: Decision) -> None:
    """Count a cancellation.

    Args:
        decision: About the event that was canceled.
    """
    await _emit(_CANCELED, decision)


async def record_refusal(decision: Decision) -> bool:
    """Note that a booking was left alone because of the cap.

    Args:
        decision: About its event.

    Returns:
        Whether it is the first one within an hour.
    """
    first = not await _count(_REFUSED)
    await _emit(_REFUSED, decision)
    return first


async def _count(happened: str) -> int:
    now = datetime.now(UTC)
    async with get_client() as client:
        # Another worker's clock may be ahead.
        return await count_events(client, f"{PREFIX}{happened}", now - _PERIOD, now + _PERIOD)


async def _emit(happened: str, decision: Decision) -> None:
    event = CalendlyEvent(
        event_id(happened, decision.event),
        f"{PREFIX}{happened}",
        datetime.now(UTC),
        {"prefect.resource.id": resource_id(decision.event), URI_LABEL: decision.event},
        ({"prefect.resource.id": f"prefect.flow-run.{runtime.flow_run.id}", "prefect.resource.role": "flow-run"},),
        {"domains": sorted({match.domain for match in decision.matches})},
    )
    try:
        async with get_client() as client:
            await post_events(client, [event])
    except httpx.HTTPError as error:  # what is done is done
        run_logger().warning("The event %s could not be emitted: %s", event.event, type(error).__name__)
