"""The scheduled events of a user or an organization, kept so that 100,000 of them fit into memory."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final, Literal

from prefect_calendly.client import CalendlyClient
from prefect_calendly.scheduled_events import EventMembership, ScheduledEvent, list_scheduled_events_via
from prefect_calendly.tasks import client_task
from prefect_calendly.users import User

Scope = Literal["user", "organization"]
SCOPE_HELP: Final = "Your own events, or the whole organization's (needs an owner or admin)."

_IN_BRIEF: Final = {
    *("uri", "name", "status", "start_time", "end_time", "created_at", "updated_at"),
    *("invitees_counter", "event_memberships", "event_guests"),
}


@dataclass(frozen=True)
class Listing:
    """The scheduled events that were listed."""

    events: list[ScheduledEvent]
    """All of them, in brief."""
    chosen: list[ScheduledEvent]
    """Those that were chosen while they were listed, in full."""
    started_at: datetime
    """When the listing began, by our own clock."""
    seconds: float
    """How long it took."""


def owner_uri(user: User, scope: Scope) -> str:
    """Return the URI of the user, or of their organization."""
    return user.uri if scope == "user" else user.current_organization


@client_task("List scheduled events")
async def list_bookings(
    client: CalendlyClient, scope: Scope, owner: str, since: datetime, choose: Callable[[ScheduledEvent], bool]
) -> Listing:
    """List the scheduled events, of any status, that begin at some time or later, however far ahead.

    Source: `GET /scheduled_events`.

    Args:
        credentials: Whose Calendly to use.
        scope: What the owner is.
        owner: URI of the user or organization whose events to list.
        since: When the first of them begins (aware).
        choose: Which events to keep in full.

    Returns:
        The events, in brief, and those that were chosen.

    Example:
        ```python
        from datetime import UTC, datetime

        user = await aget_current_user(credentials)
        listing = await list_bookings(credentials, "user", user.uri, datetime.now(UTC), lambda event: False)
        print(len(listing.events))
        ```
    """
    started_at, began = datetime.now(UTC), time.monotonic()
    events: dict[str, ScheduledEvent] = {}
    chosen: dict[str, ScheduledEvent] = {}
    shared: dict[Any, Any] = {}
    listed = list_scheduled_events_via(
        client,
        user=owner if scope == "user" else None,
        organization=owner if scope == "organization" else None,
        min_start_time=since,
        sort="start_time:asc",
    )
    async for event in listed:
        # An event that changes while the pages are read can come twice: the later one is the newer one.
        events[event.uri] = in_brief(event, shared)
        chosen.pop(event.uri, None)
        if choose(event):
            chosen[event.uri] = event
    return Listing([*events.values()], [*chosen.values()], started_at, time.monotonic() - began)


def in_brief(event: ScheduledEvent, shared: dict[Any, Any]) -> ScheduledEvent:
    """Return an event with only those members that decisions need: a sixth of the memory.

    Args:
        event: The event. Of its hosts, only their URIs and names are kept, or addresses in place of names.
        shared: Values that many events have in common, so that they hold the same one; start with an empty dict.
    """
    hosts = tuple((host.user, host.user_name or host.user_email) for host in event.event_memberships)
    if hosts not in shared:
        shared[hosts] = tuple(EventMembership(user=user, user_name=name) for user, name in hosts)
    return ScheduledEvent.model_construct(
        _IN_BRIEF,  # One set for all events: a set of its own would be most of an event.
        uri=event.uri,
        name=shared.setdefault(event.name, event.name),
        status=shared.setdefault(event.status, event.status),
        start_time=event.start_time,
        end_time=event.end_time,
        created_at=event.created_at,
        updated_at=event.updated_at,
        invitees_counter=shared.setdefault(event.invitees_counter, event.invitees_counter),
        event_memberships=shared[hosts],
        event_guests=event.event_guests,
    )
