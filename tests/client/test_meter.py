"""What is counted of a stretch of work."""

import asyncio

import httpx
import pytest

from prefect_calendly.client import count_requests
from tests.support import Server, VirtualTime, client_of, ok


async def test_counting_requests_nests_and_does_not_leak() -> None:
    server = Server(ok())
    async with client_of(server) as client:
        with count_requests() as outer:
            await client.request("GET", "/a")
            with count_requests() as inner:
                await asyncio.gather(client.request("GET", "/a"), client.request("GET", "/a"))
        await client.request("GET", "/a")
    assert (outer.requests, inner.requests, outer.repeats) == (3, 2, 0)


async def test_the_least_that_was_left_of_calendlys_limit_is_told() -> None:
    def left(remaining: str) -> httpx.Response:
        return ok(**{"X-RateLimit-Limit": "500", "X-RateLimit-Remaining": remaining, "X-RateLimit-Reset": "30"})

    async with client_of(Server(left("12"), left("7"), left("499"), ok(), left("many"))) as client:
        with count_requests() as meter:
            assert (meter.least_left, meter.limit) == (None, None)
            for _ in range(5):
                await client.request("GET", "/a")
        assert (meter.least_left, meter.limit) == (7, 500)


def test_what_waits_at_the_same_time_is_counted_once(virtual_time: VirtualTime) -> None:
    async def story() -> None:
        server = Server(*[ok()] * 11, httpx.Response(429, headers={"Retry-After": "20"}), ok())
        async with client_of(server, requests_per_second=1) as client:
            with count_requests() as outer:
                await client.request("GET", "/a")
                assert outer.seconds_waited == pytest.approx(0, abs=0.01)
                await asyncio.sleep(100)  # nobody waits for a limit here
                with count_requests() as inner:
                    began = virtual_time.now
                    await asyncio.gather(*(client.request("GET", "/a") for _ in range(10)))
                    assert inner.seconds_waited == pytest.approx(virtual_time.now - began, abs=0.01)
                    assert 9 <= inner.seconds_waited <= 9 / 0.95
                await asyncio.sleep(100)
                began = virtual_time.now
                await asyncio.gather(client.request("GET", "/a"), client.request("GET", "/a"))
                waited = outer.seconds_waited - inner.seconds_waited
                assert waited == pytest.approx(virtual_time.now - began, abs=0.01)
                assert 20 <= waited <= 24
            assert (outer.requests, inner.requests, outer.repeats) == (14, 10, 1)

    virtual_time.run(story())


def test_a_cancelled_wait_is_counted_as_long_as_it_lasted(virtual_time: VirtualTime) -> None:
    async def story() -> None:
        async with client_of(Server(ok()), requests_per_second=0.1) as client:
            await client.request("GET", "/a")
            with count_requests() as meter:
                with pytest.raises(TimeoutError):
                    async with asyncio.timeout(3):
                        await asyncio.gather(*(client.request("GET", "/a") for _ in range(5)))
                await asyncio.sleep(50)
            assert meter.seconds_waited == pytest.approx(3, abs=0.01)
            assert meter.requests == 0

    virtual_time.run(story())
