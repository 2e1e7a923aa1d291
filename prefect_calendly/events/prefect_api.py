"""Prefect's events: which of ours are there, and feeding it those that are not."""

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

from prefect_calendly.events.events import SOURCE_LABEL, CalendlyEvent

T = TypeVar("T")

_MOST_PER_QUESTION: Final = 50  # Prefect's page
_MOST_PER_POST: Final = 200
_PAUSES_SECONDS: Final = (0.5, 1, 2, 3, 5)


class EventsNotStoredError(Exception):
    """Prefect took events and does not show them: it was restarted, or its database is out of order."""


def _batched(items: Iterable[T], most: int) -> Iterator[list[T]]:
    left = iter(items)
    while some := list(itertools.islice(left, most)):
        yield some


async def post_events(client: PrefectClient, events: Sequence[CalendlyEvent]) -> None:
    """Give Prefect events; those that it knows are stored once.

    That it takes them does not mean that it has stored them: see `emit_missing`.

    Args:
        client: A client of the Prefect API.
        events: The events.

    Raises:
        httpx.HTTPError: Prefect was not reached, or refused them.
    """
    for some in _batched(events, _MOST_PER_POST):
        await client.request("POST", "/events", json=[event.as_json() for event in some])


async def known_events(client: PrefectClient, ids: Iterable[UUID]) -> dict[UUID, dict[str, Any]]:
    """Return those of some events that Prefect has stored and not yet forgotten (it does so after 7 days).

    Args:
        client: A client of the Prefect API.
        ids: The events' ids.

    Returns:
        The events as Prefect returns them, by id; `received` tells when it got them.

    Raises:
        httpx.HTTPError: Prefect was not reached, or gave no answer.
    """
    found: dict[UUID, dict[str, Any]] = {}
    # Left out, `until` would be now; Calendly's clock may be ahead.
    until = (datetime.now(UTC) + timedelta(days=3650)).isoformat()
    since = datetime(2000, 1, 1, tzinfo=UTC).isoformat()
    for some in _batched(dict.fromkeys(ids), _MOST_PER_QUESTION):
        wanted = {"id": {"id": [str(each) for each in some]}, "occurred": {"since": since, "until": until}}
        answer = await client.request("POST", "/events/filter", json={"filter": wanted, "limit": _MOST_PER_QUESTION})
        found.update((UUID(each["id"]), each) for each in answer.json()["events"])
    return found


async def stored_events(
    client: PrefectClient, names: Sequence[str], since: datetime, until: datetime
) -> AsyncIterator[dict[str, Any]]:
    """Return the events of some names that occurred in some time, the oldest first.

    Args:
        client: A client of the Prefect API.
        names: The events' names, such as `calendly.invitee.created`.
        since: From when on (aware), inclusive.
        until: Until when (aware), inclusive.

    Returns:
        The events as Prefect returns them, page by page.

    Raises:
        httpx.HTTPError: Prefect was not reached, or gave no answer.
    """
    occurred = {"since": since.isoformat(), "until": until.isoformat()}
    wanted = {"event": {"name": list(names)}, "occurred": occurred, "order": "ASC"}
    answer = await client.request("POST", "/events/filter", json={"filter": wanted, "limit": _MOST_PER_QUESTION})
    while True:
        page = answer.json()
        for event in page["events"]:
            yield event
        if not page["next_page"]:
            return
        # Only the token: the link names the host that the server believes to have.
        token = httpx.URL(page["next_page"]).params["page-token"]
        answer = await client.request("GET", "/events/filter/next", params={"page-token": token})


async def count_events(client: PrefectClient, name: str, since: datetime, until: datetime) -> int:
    """Return how many events of a name occurred in some time, by one question.

    Args:
        client: A client of the Prefect API.
        name: The events' name.
        since: From when on (aware), inclusive.
        until: Until when (aware), inclusive.

    Raises:
        httpx.HTTPError: Prefect was not reached, or gave no answer.
    """
    occurred = {"since": since.isoformat(), "until": until.isoformat()}
    wanted = {"event": {"name": [name]}, "occurred": occurred}
    answer = await client.request("POST", "/events/filter", json={"filter": wanted, "limit": 1})
    return int(answer.json()["total"])


async def last_delivery(client: PrefectClient) -> datetime | None:
    """Return when Prefect last got an event that a webhook has told of; None if it remembers none.

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
    client: PrefectClient, events: Collection[CalendlyEvent], *, within: timedelta = timedelta(seconds=60)
) -> list[CalendlyEvent]:
    """Give Prefect those of some events that it does not know, and wait until it has stored them.

    Safe to run again, and beside a receiver that tells of the same.

    Args:
        client: A client of the Prefect API.
        events: The events.
        within: How long to wait until all are stored.

    Returns:
        Those that were missing, in the given order.

    Raises:
        EventsNotStoredError: Some are not stored after that time, although they were given again.
        httpx.HTTPError: Prefect was not reached, or refused them.
    """
    by_id = {event.id: event for event in events}
    there = await known_events(client, by_id)
    missing = [event for ident, event in by_id.items() if ident not in there]
    left, deadline = missing, time.monotonic() + within.total_seconds()
    for attempt in itertools.count():
        if not left:
            return missing
        # Prefect stores what it was given within some 5 seconds. What it has forgotten over a restart is given again.
        if attempt % len(_PAUSES_SECONDS) == 0:
            await post_events(client, left)
        await asyncio.sleep(_PAUSES_SECONDS[attempt % len(_PAUSES_SECONDS)])
        there = await known_events(client, [event.id for event in left])
        left = [event for event in left if event.id not in there]
        if left and time.monotonic() > deadline:
            break
    raise EventsNotStoredError(
        f"Prefect took {len(left)} of {len(missing)} events and does not show them after {within.total_seconds():g} s; "
        "look at its server's log and database, and run this again"
    )
