"""Prefect's events: what is missing gets there, once."""

from __future__ import annotations

import json
import secrets
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import pytest
from prefect.client.orchestration import PrefectClient, get_client

from prefect_calendly.events.events import CalendlyEvent, event_id
from prefect_calendly.events.prefect_api import EventsNotStoredError, emit_missing, known_events, post_events


def events(number: int, occurred: datetime | None = None) -> list[CalendlyEvent]:
    """So many events of a happening of their own."""
    happened = f"test.{secrets.token_hex(6)}"
    return [
        CalendlyEvent(
            event_id(happened, str(each)),
            f"calendly.{happened}",
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


async def test_events_that_are_missing_are_stored_once_however_often_they_are_told(prefect: PrefectClient) -> None:
    told = events(120)
    assert await emit_missing(prefect, told[:70]) == told[:70]
    assert await emit_missing(prefect, told) == told[70:]
    assert await emit_missing(prefect, [*told, *told]) == []
    await post_events(prefect, told)
    assert await stored(prefect, told[0]) == 120
    there = await known_events(prefect, [event.id for event in told])
    assert there.keys() == {event.id for event in told}
    assert there[told[7].id]["payload"] == {"number": 7}


async def test_an_event_of_a_clock_that_is_ahead_is_found(prefect: PrefectClient) -> None:
    told = events(1, datetime.now(UTC) + timedelta(days=2))
    assert await emit_missing(prefect, told) == told
    assert await emit_missing(prefect, told) == []


async def test_nothing_to_tell_asks_nothing() -> None:
    assert await emit_missing(PrefectClient("http://127.0.0.1:9/api"), []) == []


class Forgetful(httpx.MockTransport):
    """A Prefect that takes events and forgets the first so many posts of them, as one that is restarted does."""

    def __init__(self, forgets: int) -> None:
        super().__init__(self._answer)
        self.left = forgets
        self.posts = 0
        self.stored: dict[str, Any] = {}

    def _answer(self, request: httpx.Request) -> httpx.Response:
        content = json.loads(request.content) if request.content else None
        if request.url.path.endswith("/events/filter"):
            found = [self.stored[each] for each in content["filter"]["id"]["id"] if each in self.stored]
            return httpx.Response(200, json={"events": found, "total": len(found), "next_page": None})
        if request.url.path.endswith("/events"):
            self.posts += 1
            self.left -= 1
            self.stored.update({} if self.left >= 0 else {each["id"]: each for each in content})
            return httpx.Response(204)
        return httpx.Response(404)


@pytest.fixture
def no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("prefect_calendly.events.prefect_api._PAUSES_SECONDS", (0.001, 0.001))


@pytest.mark.usefixtures("no_pauses")
async def test_what_prefect_forgets_over_a_restart_is_told_again() -> None:
    server, told = Forgetful(2), events(3)
    async with httpx.AsyncClient(transport=server, base_url="http://prefect.test/api") as http:
        client: Any = http
        assert await emit_missing(client, told) == told
    assert server.posts == 3
    assert len(server.stored) == 3


@pytest.mark.usefixtures("no_pauses")
async def test_a_prefect_that_stores_nothing_is_an_error_that_says_so() -> None:
    async with httpx.AsyncClient(transport=Forgetful(1_000_000), base_url="http://prefect.test/api") as http:
        client: Any = http
        with pytest.raises(EventsNotStoredError, match=r"2 of 2 events .* run this again"):
            await emit_missing(client, events(2), within=timedelta(seconds=0.05))
