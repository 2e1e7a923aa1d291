"""Events that are missing get into Prefect, once."""

from __future__ import annotations

import gzip
import secrets
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import Any
from uuid import uuid4

import httpx
import pytest
from prefect.client.orchestration import PrefectClient, get_client

from prefect_calendly.events.emit import emit_events
from prefect_calendly.events.event import CalendlyEvent, event_id, related_resource
from prefect_calendly.events.prefect_api import (
    EventsNotStoredError,
    check_ready,
    count_events,
    emit_missing,
    events_client,
    known_events,
    post_bodies,
    post_events,
    stored_events,
)
from tests.inline import Inline
from tests.prefect_events import PrefectEvents
from tests.settings import changed_settings


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
    asked = ((one, "account"), (other, "account"), (one, "organization"), None)
    assert [await count_events(prefect, new[0].event, *window, related_to=each) for each in asked] == [2, 1, 0, 3]


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


class Answers(httpx.MockTransport):
    """Something at Prefect's address that answers everything alike, in parts of 1 MiB that it counts."""

    def __init__(self, parts: int = 1, part: bytes = b" " * 1024**2, coding: str = "identity") -> None:
        super().__init__(self._answer)
        self.read = 0
        self._parts, self._part, self._coding = parts, part, coding

    def _answer(self, _request: httpx.Request) -> httpx.Response:
        return httpx.Response(200, headers={"content-encoding": self._coding}, content=self._content())

    async def _content(self) -> AsyncIterator[bytes]:
        for _ in range(self._parts):
            self.read += 1
            yield self._part


async def ask(transport: Answers) -> None:
    """Ask for events, which fails as if there was no answer."""
    with changed_settings("api.url", "http://prefect.test/api"), changed_settings("client.csrf_support_enabled", False):
        async with events_client(transport=transport) as client:
            with pytest.raises(httpx.DecodingError):
                await known_events(client, [uuid4()])


async def test_no_more_of_an_answer_is_read_than_any_has() -> None:
    endless = Answers(parts=400)
    await ask(endless)
    assert endless.read == 33


async def test_an_answer_that_is_packed_is_not_unpacked() -> None:
    packed = Answers(part=gzip.compress(b" " * 1024**2), coding="gzip, gzip")
    await ask(packed)
    assert packed.read == 0


@pytest.mark.parametrize("body", [b"<html>", b"[]", b"{}", b'{"events": 1}', b'{"events": [{"id": "x"}]}', b"\xff"])
async def test_what_is_no_answer_of_prefects_is_as_none(body: bytes) -> None:
    await ask(Answers(part=body))


async def test_pages_that_are_empty_and_never_end_are_not_followed() -> None:
    class Endless(PrefectEvents):
        pages = 0

        async def request(self, *_: Any, **__: Any) -> Any:
            self.pages += 1
            page = {"events": [], "total": 1, "next_page": f"http://x/?page-token={self.pages}"}
            return SimpleNamespace(json=lambda: page)

    server: Any = Endless()
    now = datetime.now(UTC)
    assert [each async for each in stored_events(server, ["calendly.test"], now, now)] == []
    assert server.pages == 1


async def test_a_page_that_is_no_prefect_has_taken_nothing() -> None:
    class Page(PrefectEvents):
        async def request(self, *_: Any, **__: Any) -> Any:
            return SimpleNamespace(status_code=200)

    server: Any = Page()
    with pytest.raises(httpx.DecodingError, match="PREFECT_API_URL does not answer as Prefect does"):
        await post_events(server, events(1))


async def test_an_empty_post_asks_whether_prefect_would_take_events(prefect: PrefectClient) -> None:
    await check_ready(prefect)
    await post_bodies(prefect, [])


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
