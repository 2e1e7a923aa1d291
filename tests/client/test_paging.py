"""Lists that come in pages."""

import asyncio
import gc
import json
import tracemalloc
import weakref
from typing import Any

import httpx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from prefect_calendly.client import CalendlyClient, errors
from prefect_calendly.resource import Resource
from tests.client.faults import Thing
from tests.support import Server, client_of, page


async def listed(client: CalendlyClient, **options: Any) -> list[str]:
    return [thing.uri async for thing in client.pages("/things", Thing, **options)]


@settings(max_examples=30)
@given(st.lists(st.lists(st.integers(), max_size=5), min_size=1, max_size=8), st.none() | st.integers(1, 30))
def test_however_a_list_is_split_into_pages_each_item_comes_once(split: list[list[int]], limit: int | None) -> None:
    def answer(request: httpx.Request) -> httpx.Response:
        number = int(request.url.params.get("page_token", "0"))
        items = [{"uri": str(item)} for item in split[number]]
        return page(items, str(number + 1) if number + 1 < len(split) else None)

    async def story() -> list[str]:
        async with client_of(server) as client:
            return await listed(client, params={"user": "u"}, limit=limit)

    server = Server(answer)
    everything = [str(item) for items in split for item in items]
    assert asyncio.run(story()) == everything[:limit]
    sizes = {request.url.params["count"] for request in server.requests}
    assert sizes == {str(min(100, limit or 100))}
    assert {request.url.params["user"] for request in server.requests} == {"u"}


async def test_next_page_is_never_fetched_only_its_token_counts() -> None:
    server = Server(page([{"uri": "a"}], "t1"), page([], "t2"), page([{"uri": "b"}], None))
    async with client_of(server) as client:
        assert await listed(client) == ["a", "b"]
    assert server.hosts == {"gateway.maton.ai"}
    assert [request.url.params.get("page_token") for request in server.requests] == [None, "t1", "t2"]


async def test_a_listing_stops_at_its_limit_without_another_page() -> None:
    server = Server(page([{"uri": "a"}, {"uri": "b"}], "t1"))
    async with client_of(server) as client:
        assert await listed(client, limit=2) == ["a", "b"]
    assert len(server.requests) == 1
    assert server.requests[0].url.params["count"] == "2"


async def test_a_token_of_the_callers_goes_out_with_its_own_count() -> None:
    """A token is bound to the page size it was made for."""
    server = Server(page([{"uri": "a"}], None))
    async with client_of(server) as client:
        assert await listed(client, page_token="t7", count=50, limit=10) == ["a"]
    assert dict(server.requests[0].url.params) == {"count": "50", "page_token": "t7"}


def stale() -> httpx.Response:
    details = [{"parameter": "page_token", "message": "invalid"}]
    return httpx.Response(400, json={"title": "Invalid Argument", "message": "…", "details": details})


async def test_after_a_stale_token_nothing_is_lost_and_nothing_comes_twice() -> None:
    a, b, c, d, new = ({"uri": name} for name in ("a", "b", "c", "d", "new"))
    again = [stale(), page([new, a], "u1"), page([b, c], "u2"), stale(), page([new, a], "v1"), page([b, c], "v2")]
    server = Server(page([a, b], "t1"), *again, page([d], None))
    async with client_of(server) as client:
        assert await listed(client) == ["a", "b", "new", "c", "d"]
    tokens = [request.url.params.get("page_token") for request in server.requests]
    assert tokens == [None, "t1", None, "u1", "u2", None, "v1", "v2"]


async def test_a_token_of_the_callers_that_is_stale_and_a_list_that_never_ends_well_are_errors() -> None:
    async with client_of(Server(stale())) as client:
        with pytest.raises(errors.BadRequestError):
            await listed(client, page_token="t7")
    server = Server(*[page([{"uri": "a"}], "t1"), stale()] * 9)
    async with client_of(server) as client:
        with pytest.raises(errors.BadRequestError):
            await listed(client)
    assert len(server.requests) == 8
    server = Server(page([{"uri": "a"}], "t1"), httpx.Response(400, json={"message": "no", "details": []}))
    async with client_of(server) as client:
        with pytest.raises(errors.BadRequestError):
            await listed(client)
    assert len(server.requests) == 2


@pytest.mark.parametrize("tokens", [[["odd"], ["odd"]], ["t1", "t1"], ["t1", "t2", "t1"], ["t1", "t2", "t3", "t2"]])
async def test_a_token_that_leads_back_is_an_error_not_an_endless_loop(tokens: list[Any]) -> None:
    server = Server(*(page([{"uri": "a"}], token) for token in tokens))
    async with client_of(server) as client:
        with pytest.raises(errors.InvalidAnswerError, match="earlier page"):
            await listed(client)
    assert len(server.requests) == len(tokens)


@pytest.mark.parametrize("items", [[], [{"uri": "a"}]])
async def test_a_list_that_has_nothing_new_for_ever_is_an_error_not_an_endless_loop(items: list[Any]) -> None:
    server = Server(lambda request: page(items, f"t{len(server.requests)}"))
    async with client_of(server) as client:
        with pytest.raises(errors.InvalidAnswerError, match="20 pages in a row have nothing new"):
            await listed(client)
    assert len(server.requests) <= 22


async def test_items_without_a_uri_are_new_ones() -> None:
    server = Server(*(page([{"name": "a"}], f"t{number}") for number in range(30)), page([], None))
    async with client_of(server) as client:
        assert len([item async for item in client.pages("/things", Resource)]) == 30


async def test_empty_pages_in_between_are_no_end_and_what_is_read_again_is_nothing_to_worry_about() -> None:
    def part(first: int, *, fresh: bool) -> list[httpx.Response]:
        some = [page([{"uri": str(first)}], f"{first}{fresh}"), *(page([], f"{first}{fresh}{n}") for n in range(20))]
        return [*some, page([{"uri": str(first + 1)}], f"{first}{fresh}more")]

    first, again = [*part(0, fresh=True), *part(2, fresh=True)], [*part(0, fresh=False), *part(2, fresh=False)]
    server = Server(*first, stale(), *again, page([{"uri": "4"}], None))
    async with client_of(server) as client:
        assert await listed(client) == ["0", "1", "2", "3", "4"]


@pytest.mark.parametrize("token", ["x" * 100_000, "\ud800", "a\x00b"])
async def test_a_token_that_cannot_be_sent_is_an_unreadable_answer(token: str) -> None:
    content = json.dumps({"collection": [], "pagination": {"next_page_token": token}}).encode()
    async with client_of(Server(httpx.Response(200, content=content))) as client:
        with pytest.raises(errors.InvalidAnswerError, match="token of the next page"):
            await listed(client)


@pytest.mark.parametrize("uri", [[], {}, 3])
async def test_an_item_with_an_odd_uri_is_unreadable(uri: Any) -> None:
    async with client_of(Server(page([{"uri": uri}], None))) as client:
        with pytest.raises(errors.InvalidAnswerError, match="unreadable at 'uri'"):
            await listed(client)


@pytest.mark.parametrize("pagination", [None, {}, {"next_page_token": None}, {"next_page_token": ""}, "x"])
async def test_a_list_without_a_token_has_ended(pagination: Any) -> None:
    server = Server(httpx.Response(200, json={"collection": [{"uri": "a"}], "pagination": pagination}))
    async with client_of(server) as client:
        assert await listed(client) == ["a"]


@pytest.mark.parametrize("options", [{"count": 0}, {"count": 101}, {"count": True}, {"count": "5"}, {"count": 2.0}])
async def test_the_page_size_is_checked_before_any_request(options: dict[str, Any]) -> None:
    server = Server(page([], None))
    async with client_of(server) as client:
        with pytest.raises(ValueError, match="count must be 1 to 100"):
            await listed(client, **options)
        for limit in (0, -1, True, "3"):
            with pytest.raises(ValueError, match="limit must be at least 1"):
                await listed(client, limit=limit)
    assert server.requests == []


async def test_walking_many_pages_holds_one_of_them() -> None:
    def answer(request: httpx.Request) -> httpx.Response:
        number = int(request.url.params.get("page_token", "0"))
        items = [{"uri": f"{number}-{item}", "ballast": "x" * 2000} for item in range(100)]
        return page(items, str(number + 1) if number < 24 else None)

    alive: weakref.WeakSet[Any] = weakref.WeakSet()
    most = count = 0
    async with client_of(httpx.MockTransport(answer)) as client:
        gc.collect()
        tracemalloc.start()
        try:
            async for thing in client.pages("/things", Thing):
                alive.add(thing)
                count += 1
                if count % 50 == 0:
                    most = max(most, len(alive))
                if count == 300:
                    tracemalloc.reset_peak()
                    after_few = tracemalloc.get_traced_memory()[0]
            growth = tracemalloc.get_traced_memory()[1] - after_few
        finally:
            tracemalloc.stop()
    assert count == 2500
    assert most <= 3
    assert growth < 2_000_000  # raw and parsed a page takes some 0.7 MB; the rest of them would be 14 MB
