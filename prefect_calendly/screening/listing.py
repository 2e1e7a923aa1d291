"""The events that a scan reads: all of an organization in memory at once, each in brief."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from prefect_calendly.bookings.listing import in_brief
from prefect_calendly.client import CalendlyClient
from prefect_calendly.client.identifiers import Reference
from prefect_calendly.scheduled_events import ScheduledEvent, list_scheduled_events_via
from prefect_calendly.tasks import client_task


@client_task("List scheduled events")
async def list_active_events(
    client: CalendlyClient,
    *,
    since: datetime,
    until: datetime,
    user: Reference | None = None,
    organization: Reference | None = None,
) -> list[ScheduledEvent]:
    """Return the active events of a user or an organization that begin within some time; in brief, each once.

    Source: `GET /scheduled_events`.

    Args:
        credentials: Whose Calendly to use; for the whole organization, an owner's or admin's.
        since: Only those that start at this time (aware, any zone) or later.
        until: Only those that start before this time (aware, any zone).
        user: Of this user.
        organization: Of this organization.

    Returns:
        The events, as `in_brief` returns them, by start.

    Raises:
        ValueError: No owner is given, or a time is naive.
        CalendlyError: See `prefect_calendly.client.errors`.

    Example:
        ```python
        from datetime import UTC, datetime, timedelta

        now = datetime.now(UTC)
        events = await list_active_events.fn(
            credentials, user="AAAAAAAAAAAAAAAA", since=now, until=now + timedelta(days=7)
        )
        ```
    """
    listed = list_scheduled_events_via(
        client,
        user=user,
        organization=organization,
        status="active",
        min_start_time=since,
        max_start_time=until,
        sort="start_time:asc",
    )
    shared: dict[Any, Any] = {}
    # A page that shifts while it is read can repeat an event.
    return list({event.uri: in_brief(event, shared) async for event in listed}.values())
