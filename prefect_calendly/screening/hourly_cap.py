"""How many bookings of an account were canceled within the last hour, by all runs together.

Each cancellation is an event in Prefect, which all workers can count. Only these events name an account: what others
have put into Prefect does not count.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Final

import httpx
from prefect import runtime

from prefect_calendly.events.event import (
    PREFIX,
    URI_LABEL,
    CalendlyEvent,
    event_id,
    related_resource,
    resource_id,
)
from prefect_calendly.events.prefect_api import count_events, events_client, post_events
from prefect_calendly.runs.logger import run_logger
from prefect_calendly.screening.decision import Decision

_CANCELED: Final = "screening.canceled"
_REFUSED: Final = "screening.refused"
_ACCOUNT: Final = "account"
_PERIOD: Final = timedelta(hours=1)


async def count_recent_cancellations(account: str) -> int:
    """Return how many bookings of an account were canceled within the last hour.

    Args:
        account: URI of the user or the organization, as the plan has it.
    """
    return await _count(_CANCELED, account)


async def record_cancellation(decision: Decision, account: str) -> None:
    """Count a cancellation.

    Args:
        decision: About the event that was canceled.
        account: URI of the user or the organization, as the plan has it.
    """
    await _emit(_CANCELED, decision, account)


async def record_refusal(decision: Decision, account: str) -> bool:
    """Note that a booking was left alone because of the cap.

    Args:
        decision: About its event.
        account: URI of the user or the organization, as the plan has it.

    Returns:
        Whether it is the account's first one within an hour.
    """
    first = not await _count(_REFUSED, account)
    await _emit(_REFUSED, decision, account)
    return first


async def _count(name: str, account: str) -> int:
    now = datetime.now(UTC)
    async with events_client() as client:
        # Another worker's clock may be ahead.
        return await count_events(
            client, f"{PREFIX}{name}", now - _PERIOD, now + _PERIOD, related_to=(account, _ACCOUNT)
        )


async def _emit(name: str, decision: Decision, account: str) -> None:
    event = CalendlyEvent(
        event_id(name, decision.event),
        f"{PREFIX}{name}",
        datetime.now(UTC),
        {"prefect.resource.id": resource_id(decision.event), URI_LABEL: decision.event},
        (
            related_resource(account, _ACCOUNT),
            {"prefect.resource.id": f"prefect.flow-run.{runtime.flow_run.id}", "prefect.resource.role": "flow-run"},
        ),
        {"domains": sorted({match.domain for match in decision.matches})},
    )
    try:
        async with events_client() as client:
            await post_events(client, [event])
    except httpx.HTTPError as error:  # what is done is done
        run_logger().warning("The event %s could not be emitted: %s", event.event, type(error).__name__)
