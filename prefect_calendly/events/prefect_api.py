"""Events in Prefect's API: read them, post them, and make sure that they are stored."""

from __future__ import annotations

import asyncio
import itertools
import time
from collections.abc import AsyncIterator, Collection, Iterable, Iterator, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, Final, TypeVar
from uuid import UUID

import httpx
from prefect.client.orchestration import PrefectClient

from prefect_calendly.events.event import SOURCE_LABEL, CalendlyEvent, resource_id

T = TypeVar("T")

_EVENTS_PER_PAGE: Final = 50  # Prefect returns no more.
_EVENTS_PER_POST: Final = 200
# Prefect stores an event within some 5 seconds of accepting it.
_PAUSES_SECONDS: Final = (0.5, 1, 2, 3, 5)


class EventsNotStoredError(Exception):
    """Prefect accepted events and does not show them: it was restarted, or its database has a problem."""


async def post_events(client: PrefectClient, events: Sequence[CalendlyEvent]) -> None:
    """Post events to Prefect, which stores an id once.

    Prefect accepts events before it stores them: `emit_missing` makes sure that they are stored.

    Args:
        client: A client of the Prefect API.
        events: The events.

    Raises:
        httpx.HTTPError: Prefect was not reached, or refused them.
    """
    for batch in _batched(events, _EVENTS_PER_POST):
        await client.request("POST", "/events", json=[event.as_json() for event in batch])


async def known_events(client: PrefectClient, ids: Iterable[UUID]) -> dict[UUID, dict[str, Any]]:
    """Return those of some events that Prefect has; it deletes events after 7 days.

    Args:
        client: A client of the Prefect API.
        ids: Ids of the events.

    Returns:
        The events as Prefect returns them, by id; `received` is when it got them.

    Raises:
        httpx.HTTPError: Prefect was not reached, or gave no answer.
    """
    found: dict[UUID, dict[str, Any]] = {}
    # Without `until`, Prefect takes now; Calendly's clock may be ahead.
    until = (datetime.now(UTC) + timedelta(days=3650)).isoformat()
    since = datetime(2000, 1, 1, tzinfo=UTC).isoformat()
    for batch in _batched(dict.fromkeys(ids), _EVENTS_PER_PAGE):
        wanted = {"id": {"id": [str(each) for each in batch]}, "occurred": {"since": since, "until": until}}
        answer = await client.request("POST", "/events/filter", json={"filter": wanted, "limit": _EVENTS_PER_PAGE})
        found.update((UUID(each["id"]), each) for each in answer.json()["events"])
    return found


async def stored_events(
    client: PrefectClient, names: Sequence[str], since: datetime, until: datetime
) -> AsyncIterator[dict[str, Any]]:
    """Return the events of some names that occurred in a window, the oldest first.

    Args:
        client: A client of the Prefect API.
        names: Names of the events, such as `calendly.invitee.created`.
        since: Start of the window (aware), inclusive.
        until: End of the window (aware), inclusive.

    Returns:
        The events as Prefect returns them, page by page.

    Raises:
        httpx.HTTPError: Prefect was not reached, or gave no answer.
    """
    occurred = {"since": since.isoformat(), "until": until.isoformat()}
    wanted = {"event": {"name": list(names)}, "occurred": occurred, "order": "ASC"}
    answer = await client.request("POST", "/events/filter", json={"filter": wanted, "limit": _EVENTS_PER_PAGE})
    while True:
        page = answer.json()
        for event in page["events"]:
            yield event
        if not page["next_page"]:
            return
        # Only the token: the link has the host name that the server believes to have.
        token = httpx.URL(page["next_page"]).params["page-token"]
        answer = await client.request("GET", "/events/filter/next", params={"page-token": token})


async def count_events(
    client: PrefectClient, name: str, since: datetime, until: datetime, *, related_to: str | None = None
) -> int:
    """Return how many events of a name occurred in a window, by one request.

    Args:
        client: A client of the Prefect API.
        name: Name of the events.
        since: Start of the window (aware), inclusive.
        until: End of the window (aware), inclusive.
        related_to: URI of a Calendly resource, such as an organization: only events that it is related to.

    Raises:
        httpx.HTTPError: Prefect was not reached, or gave no answer.
    """
    occurred = {"since": since.isoformat(), "until": until.isoformat()}
    wanted: dict[str, Any] = {"event": {"name": [name]}, "occurred": occurred}
    if related_to is not None:
        wanted["related"] = {"id": [resource_id(related_to)]}
    answer = await client.request("POST", "/events/filter", json={"filter": wanted, "limit": 1})
    return int(answer.json()["total"])


async def last_delivery(client: PrefectClient) -> datetime | None:
    """Return when Prefect last received an event from a webhook; None if it has none.

    Args:
        client: A client of the Prefect API.

    Raises:
        httpx.HTTPError: Prefect was not reached, or gave no answer.
    """
    until = (datetime.now(UTC) + timedelta(days=3650)).isoformat()
    wanted = {"resource": {"labels": {SOURCE_LABEL: "webhook"}}, "occurred": {"until": until}, "order": "DESC"}
    answer = await client.request("POST", "/events/filter", json={"filter": wanted, "limit": 1})
    found = answer.json()["events"]
    return datetime.fromisoformat(found[0]["received"]) if found else None


async def emit_missing(
    client: PrefectClient,
    events: Collection[CalendlyEvent],
    *,
    within: timedelta = timedelta(seconds=60),
    pauses: Sequence[float] = _PAUSES_SECONDS,
) -> list[CalendlyEvent]:
    """Post those of some events that Prefect does not have, and wait until it has stored them.

    Safe to repeat, and beside a receiver that posts the same events.

    Args:
        client: A client of the Prefect API.
        events: The events.
        within: How long to wait until all of them are stored.
        pauses: Seconds before each look for them; after the last one they are posted again.

    Returns:
        Those that were missing, in the given order.

    Raises:
        EventsNotStoredError: Some are not stored after that time, although they were posted again.
        httpx.HTTPError: Prefect was not reached, or refused them.
    """
    by_id = {event.id: event for event in events}
    known = await known_events(client, by_id)
    missing = [event for ident, event in by_id.items() if ident not in known]
    left, deadline = missing, time.monotonic() + within.total_seconds()
    for attempt in itertools.count():
        if not left:
            return missing
        # A server that is restarted loses what it has accepted and not stored: then it is posted again.
        if attempt % len(pauses) == 0:
            await post_events(client, left)
        await asyncio.sleep(pauses[attempt % len(pauses)])
        known = await known_events(client, [event.id for event in left])
        left = [event for event in left if event.id not in known]
        if left and time.monotonic() > deadline:
            break
    raise EventsNotStoredError(
        f"Prefect accepted {len(left)} of {len(missing)} events and does not show them after "
        f"{within.total_seconds():g} s: look at the log and the database of its server, then run this again"
    )


def _batched(items: Iterable[T], size: int) -> Iterator[list[T]]:
    left = iter(items)
    while batch := list(itertools.islice(left, size)):
        yield batch
