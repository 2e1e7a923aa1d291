"""Events that are missing get into Prefect, once."""

from __future__ import annotations

import secrets
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from prefect.client.orchestration import PrefectClient, get_client

from prefect_calendly.events.emit import emit_events
from prefect_calendly.events.event import CalendlyEvent, event_id, related_resource
from prefect_calendly.events.prefect_api import (
    EventsNotStoredError,
    count_events,
    emit_missing,
    known_events,
    post_events,
    stored_events,
)
from tests.inline import Inline
from tests.prefect_events import PrefectEvents


def events(number: int, occurred: datetime | None = None) -> list[CalendlyEvent]:
    """So many events with a name of their own."""
    name = f"test.{secrets.token_hex(6)}"
    return [
        CalendlyEvent(
            event_id(name, str(each)),
            f"calendly.{name}",
            occurred or datetime.now(UTC),
            {"prefect.resource.id": f"calendly.test.{each}"},
            payload={"number": each},
        )
        for each in range(number)
    ]


async def stored(client: PrefectClient, event: CalendlyEvent) -> int:
    """How many events of a name Prefect has."""
    body = {"filter": {"event": {"name": [event.event]}}, "limit": 50}
    return int((await client.request("POST", "/events/filter", json=body)).json()["total"])


@pytest.fixture
async def prefect(prefect_server: None) -> AsyncIterator[PrefectClient]:
    async with get_client() as client:
        yield client


async def test_events_that_are_missing_are_stored_once_however_often_they_are_emitted(prefect: PrefectClient) -> None:
    new = events(120)
    assert await emit_missing(prefect, new[:70]) == new[:70]
    assert await emit_missing(prefect, new) == new[70:]
    assert await emit_missing(prefect, [*new, *new]) == []
    await post_events(prefect, new)
    assert await stored(prefect, new[0]) == 120
    known = await known_events(prefect, [event.id for event in new])
    assert known.keys() == {event.id for event in new}
    assert known[new[7].id]["payload"] == {"number": 7}
    now = datetime.now(UTC)
    window = (now - timedelta(hours=1), now + timedelta(hours=1))
    assert len([each async for each in stored_events(prefect, [new[0].event], *window)]) == 120
    assert await count_events(prefect, new[0].event, *window) == 120


async def test_events_are_counted_by_the_resource_that_they_are_related_to(prefect: PrefectClient) -> None:
    one, other = (f"https://api.calendly.com/organizations/{secrets.token_hex(6)}" for _ in range(2))
    owners = (one, one, other)
    new = [
        replace(event, related=(related_resource(o, "account"),)) for event, o in zip(events(3), owners, strict=True)
    ]
    await emit_missing(prefect, new)
    window = (datetime.now(UTC) - timedelta(hours=1), datetime.now(UTC) + timedelta(hours=1))
    counts = [await count_events(prefect, new[0].event, *window, related_to=uri) for uri in (one, other, None)]
    assert counts == [2, 1, 3]


async def test_an_event_of_a_clock_that_is_ahead_is_found(prefect: PrefectClient) -> None:
    new = events(1, datetime.now(UTC) + timedelta(days=2))
    assert await emit_missing(prefect, new) == new
    assert await emit_missing(prefect, new) == []


async def test_without_events_no_request_is_sent() -> None:
    assert await emit_missing(PrefectClient("http://127.0.0.1:9/api"), []) == []


async def test_a_flow_emits_each_event_once_in_the_given_order(inline: Inline) -> None:
    new = events(3)
    assert await emit_events([new[1], new[0], new[1]]) == [new[1], new[0]]
    assert await emit_events(new) == [new[2]]
    assert list(inline.events.stored) == [new[1].id, new[0].id, new[2].id]


class Forgetful(PrefectEvents):
    """A Prefect that accepts events and forgets the first so many posts of them, as one that is restarted does."""

    def __init__(self, forgets: int) -> None:
        super().__init__()
        self.left = forgets
        self.posts = 0

    async def request(self, method: str, path: str, **body: Any) -> Any:
        if path == "/events":
            self.posts += 1
            self.left -= 1
            self.forgets = self.left >= 0
        return await super().request(method, path, **body)


async def test_what_prefect_forgets_over_a_restart_is_posted_again() -> None:
    server, new = Forgetful(2), events(3)
    client: Any = server
    assert await emit_missing(client, new, pauses=(0, 0)) == new
    assert server.posts == 3
    assert len(server.stored) == 3


async def test_a_prefect_that_stores_nothing_is_an_error_that_says_so() -> None:
    client: Any = Forgetful(1_000_000)
    with pytest.raises(EventsNotStoredError, match=r"2 of 2 events .* run this again"):
        await emit_missing(client, events(2), within=timedelta(0), pauses=(0,))
