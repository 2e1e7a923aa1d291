"""Give Prefect the events that it does not have."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from typing import Final

from prefect import task
from prefect.cache_policies import NO_CACHE

from prefect_calendly.events.event import CalendlyEvent
from prefect_calendly.events.prefect_api import emit_missing, events_client

_EVENTS_PER_BATCH: Final = 500


async def emit_events(events: Iterable[CalendlyEvent]) -> list[CalendlyEvent]:
    """Emit those of some events that Prefect does not have, and wait until it has stored them; inside a flow.

    Safe to repeat, and beside a receiver that emits the same events: Prefect stores an id once.

    Args:
        events: The events, in the order in which Prefect is to get them.

    Returns:
        Those that Prefect did not have, in the same order.

    Raises:
        EventsNotStoredError: Prefect accepted some events and does not show them.
        httpx.HTTPError: Prefect was not reached, or refused them.

    Example:
        ```python
        from prefect import flow

        @flow
        async def emit_bookings_of(credentials: CalendlyCredentials, event: ScheduledEvent) -> None:
            invitees = await alist_invitees(credentials, event)
            await emit_events(each for invitee in invitees for each in events_of_invitee(invitee, event))
        ```
    """
    batch = deque({event.id: event for event in events}.values())
    if not batch:
        return []
    return await _emit.with_options(task_run_name=f"Emit events ({len(batch)})")(batch)


# The events come in a deque because Prefect walks through every list that a task is given.
@task(name="Emit events", cache_policy=NO_CACHE, persist_result=False)
async def _emit(events: deque[CalendlyEvent]) -> list[CalendlyEvent]:
    waiting, missing = list(events), list[CalendlyEvent]()
    async with events_client() as client:
        for first in range(0, len(waiting), _EVENTS_PER_BATCH):
            missing += await emit_missing(client, waiting[first : first + _EVENTS_PER_BATCH])
    return missing
