"""What a client does about the limits that answers tell of."""

import asyncio
import collections
import contextlib
import gc
import math
import random

import httpx
import pytest

from prefect_calendly.client import CalendlyClient, Method, count_requests, errors
from prefect_calendly.sandbox import Sandbox
from tests.client.faults import WRITES, send
from tests.support import Server, VirtualTime, client_of, ok


@pytest.mark.parametrize("method", ["GET", *WRITES])
@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({"Retry-After": "7"}, 7),
        ({"X-RateLimit-Reset": "9", "X-RateLimit-Remaining": "0"}, 9),
        ({"X-RateLimit-Reset": "9", "Retry-After": "4"}, 4),
        ({"X-RateLimit-Reset": "9", "Retry-After": "Wed, 21 Oct 2026 07:28:00 GMT"}, 9),
        ({"Retry-After": "soon"}, 1),
        ({"Retry-After": "inf"}, 1),
        ({"X-RateLimit-Reset": "nan", "X-RateLimit-Remaining": "inf"}, 1),
        ({"Retry-After": "-5"}, 0),
        ({}, 1),
    ],
)
def test_after_a_429_the_server_is_left_alone_for_as_long_as_it_says(
    method: Method,
    headers: dict[str, str],
    seconds: float,
    virtual_time: VirtualTime,
) -> None:
    server = Server(httpx.Response(429, json={"message": "slow down"}, headers=headers), ok())
    with count_requests() as meter:
        virtual_time.run(send(server, method))
    assert len(server.requests) == 2
    assert seconds <= virtual_time.now <= seconds + 0.6
    assert meter.seconds_waited == pytest.approx(virtual_time.now, abs=0.01)


@pytest.mark.parametrize("headers", [{"Retry-After": "30"}, {"X-RateLimit-Reset": "30"}])
def test_after_a_429_all_callers_of_the_account_wait(headers: dict[str, str], virtual_time: VirtualTime) -> None:
    sent: list[float] = []

    def answer(request: httpx.Request) -> httpx.Response:
        sent.append(virtual_time.now)
        return httpx.Response(429, headers=headers) if len(sent) == 1 else ok()

    async def story() -> None:
        async with (
            client_of(Server(answer), api_key="shared-" + next(iter(headers))) as first,
            client_of(Server(answer), api_key="shared-" + next(iter(headers))) as second,
        ):
            one = asyncio.create_task(first.request("GET", "/a"))
            await asyncio.sleep(1)
            await asyncio.gather(one, *(second.request("GET", "/b") for _ in range(5)))

    virtual_time.run(story())
    assert len(sent) == 7
    assert min(sent[1:]) >= 30


def test_calendlys_window_is_of_one_connection_and_the_gateways_pace_of_the_key(virtual_time: VirtualTime) -> None:
    async def story(key: str, headers: dict[str, str]) -> float:
        limited = Server(httpx.Response(429, headers=headers), ok())
        async with (
            client_of(limited, api_key=key, connection_id="one") as first,
            client_of(Server(ok()), api_key=key, connection_id="two") as second,
        ):
            one = asyncio.create_task(first.request("GET", "/a"))
            await asyncio.sleep(1)
            began = virtual_time.now
            await second.request("GET", "/a")
            waited = virtual_time.now - began
            await one
            return waited

    assert virtual_time.run(story("window", {"X-RateLimit-Reset": "30"})) < 1
    assert virtual_time.run(story("pace", {"Retry-After": "30"})) >= 28


def test_endless_429_are_given_up_within_five_minutes(virtual_time: VirtualTime) -> None:
    server = Server(httpx.Response(429, json={"message": "no"}))
    with pytest.raises(errors.RateLimitedError):
        virtual_time.run(send(server))
    assert 200 < virtual_time.now <= 300


def test_a_429_of_longer_than_five_minutes_is_raised_at_once_and_nobody_else_hangs(virtual_time: VirtualTime) -> None:
    server = Server(httpx.Response(429, headers={"Retry-After": "3600"}))

    async def story() -> None:
        async with client_of(server) as client:
            for _ in range(2):
                with pytest.raises(errors.RateLimitedError, match="wait 3600 s"):
                    await client.request("GET", "/a")

    virtual_time.run(story())
    assert len(server.requests) == 1
    assert virtual_time.now < 1


@pytest.mark.parametrize(
    "reply",
    [
        httpx.Response(429, headers={"X-RateLimit-Reset": "1790000000"}),
        httpx.Response(429, headers={"X-RateLimit-Reset": "1790000000", "Retry-After": "1790000000"}),
        httpx.Response(429, headers={"Retry-After": "1e300"}),
        ok(**{"X-RateLimit-Remaining": "0", "X-RateLimit-Reset": "1790000000"}),
        ok(**{"X-RateLimit-Remaining": "0", "X-RateLimit-Reset": "1e300"}),
    ],
    ids=["reset", "both", "retry-after", "remaining", "1e300"],
)
def test_an_odd_header_closes_an_account_for_no_more_than_an_hour(
    reply: httpx.Response,
    virtual_time: VirtualTime,
) -> None:
    server = Server(reply, ok())

    async def story() -> None:
        async with client_of(server) as client:
            with contextlib.suppress(errors.RateLimitedError):
                await client.request("GET", "/a")
            await asyncio.sleep(3000)
            with pytest.raises(errors.RateLimitedError, match="nothing was sent"):
                await client.request("GET", "/a")
            await asyncio.sleep(601)
            await client.request("GET", "/a")

    virtual_time.run(story())
    assert len(server.requests) == 2
    assert virtual_time.now < 3602


def test_waiting_for_ones_turn_is_no_reason_to_give_up_at_the_first_429(virtual_time: VirtualTime) -> None:
    """The 400th second of a long fan-out is as good as the first."""
    count = 0

    def answer(request: httpx.Request) -> httpx.Response:
        nonlocal count
        count += 1
        return httpx.Response(429) if count == 380 else ok()

    async def story() -> None:
        async with client_of(Server(answer), requests_per_second=1) as client:
            await asyncio.gather(*(client.request("GET", "/a") for _ in range(400)))

    virtual_time.run(story())
    assert count == 401


@pytest.mark.parametrize("path", ["/invitees", "/event_types/C/invitees"])
def test_the_narrow_limits_of_bookings_do_not_stop_reading(path: str, virtual_time: VirtualTime) -> None:
    def answer(request: httpx.Request) -> httpx.Response:
        headers = {"X-RateLimit-Limit": "10", "X-RateLimit-Remaining": "0", "X-RateLimit-Reset": "3000"}
        return httpx.Response(429, headers=headers) if request.method == "POST" else ok()

    async def story() -> None:
        async with client_of(Server(answer)) as client:
            with pytest.raises(errors.RateLimitedError, match="3000 s"):
                await client.request("POST", path)
            await client.request("GET", "/users/me")

    virtual_time.run(story())
    assert virtual_time.now < 1


def test_a_booking_waits_for_its_own_limit(virtual_time: VirtualTime) -> None:
    server = Server(httpx.Response(429, headers={"X-RateLimit-Reset": "40"}), ok())
    virtual_time.run(send(server, "POST", "/invitees"))
    assert len(server.requests) == 2
    assert 40 <= virtual_time.now < 42


def test_a_window_that_is_used_up_is_waited_out_without_a_429(virtual_time: VirtualTime) -> None:
    server = Server(ok(**{"X-RateLimit-Remaining": "0", "X-RateLimit-Reset": "20"}), ok())

    async def story() -> None:
        async with client_of(server) as client:
            await client.request("GET", "/a")
            assert virtual_time.now < 1
            await client.request("GET", "/a")

    virtual_time.run(story())
    assert 20 <= virtual_time.now < 21


class Minutely:
    """A server that allows so many requests in each minute from the first on, and tells no `Retry-After`."""

    def __init__(self, limit: int, clock: VirtualTime, *, tells_window: bool) -> None:
        self.limit, self.clock, self.tells_window = limit, clock, tells_window
        self.used: dict[int, int] = collections.Counter()
        self.refused = 0

    def __call__(self, request: httpx.Request) -> httpx.Response:
        minute, second = divmod(self.clock.now, 60)
        self.used[int(minute)] += 1
        left = self.limit - self.used[int(minute)]
        headers = {"X-RateLimit-Remaining": str(max(0, left)), "X-RateLimit-Reset": str(math.ceil(60 - second))}
        headers = headers if self.tells_window else {}
        self.refused += left < 0
        return ok(**headers) if left >= 0 else httpx.Response(429, headers=headers)


@pytest.mark.parametrize(("tells_window", "slower"), [(True, 1.02), (False, 1.05)])
def test_fifty_requests_a_minute_are_used_to_the_full_without_retry_after(
    tells_window: bool, slower: float, virtual_time: VirtualTime
) -> None:
    """100 events: a page of them, and an invitee list each. The 101st request may go when two minutes are over."""
    random.seed(4)  # of the pauses
    server = Minutely(50, virtual_time, tells_window=tells_window)

    async def story() -> None:
        async with client_of(Server(server), requests_per_second=10) as client:
            await client.request("GET", "/scheduled_events")
            rows = await client.all(range(100), lambda number: client.request("GET", f"/scheduled_events/{number}"))
        assert len(rows) == 100

    virtual_time.run(story())
    assert 120 <= virtual_time.now <= 120 * slower
    assert server.refused == 0 if tells_window else server.refused < 100


def test_headers_of_the_connections_host_say_nothing_about_calendlys_window(virtual_time: VirtualTime) -> None:
    server = Server(ok(**{"X-RateLimit-Remaining": "0", "X-RateLimit-Reset": "200"}))

    async def story() -> None:
        async with client_of(server) as client:
            await client.request("GET", "/connections", host="connections")
            await client.request("GET", "/connections", host="connections")

    virtual_time.run(story())
    assert virtual_time.now < 1


CLOSED = {"X-RateLimit-Remaining": "0", "X-RateLimit-Reset": "50"}


@pytest.mark.parametrize("answer", [ok(**CLOSED), httpx.Response(429, headers=CLOSED)], ids=["used up", "429"])
def test_the_connections_host_does_not_wait_for_calendlys_quota(
    answer: httpx.Response, virtual_time: VirtualTime
) -> None:
    server = Server(answer, ok())

    async def story() -> None:
        async with client_of(server) as client:
            reading = asyncio.create_task(client.request("GET", "/users/me"))
            await asyncio.sleep(1)
            await client.request("GET", "/connections", host="connections")
            assert virtual_time.now < 2
            await reading
            await client.request("GET", "/users/me")
            assert virtual_time.now >= 50  # Calendly's own host waits

    virtual_time.run(story())


def test_calendly_does_not_wait_for_a_window_of_the_connections_host(virtual_time: VirtualTime) -> None:
    server = Server(httpx.Response(429, headers=CLOSED), ok())

    async def story() -> None:
        async with client_of(server) as client:
            listing = asyncio.create_task(client.request("GET", "/connections", host="connections"))
            await asyncio.sleep(1)
            await client.request("GET", "/users/me")
            assert virtual_time.now < 2
            await listing
            assert virtual_time.now >= 50

    virtual_time.run(story())


async def sixty(sandbox: Sandbox, requests_per_second: float) -> dict[str, int]:
    """Under another name of the host than in other tests, for the rate of their slowest living client holds."""
    url = sandbox.gateway_url.replace("127.0.0.1", "localhost")
    async with CalendlyClient(sandbox.api_key, gateway_url=url, requests_per_second=requests_per_second) as client:
        answers = await client.all(range(60), lambda _: client.request("GET", "/users/me"))
    assert len(answers) == 60
    by_status: dict[str, int] = sandbox.stats()["by_status"]
    return by_status


async def test_at_the_gateways_pace_there_is_no_429_and_if_there_is_everything_still_arrives(sandbox: Sandbox) -> None:
    sandbox.fault("rate_limited", shape="maton", retry_after=0, every=9, times=4)
    assert await sixty(sandbox, 5000) == {"200": 60, "429": 4}
    sandbox.reset(gateway_rps=50, rate_limit_per_minute=0)
    assert await sixty(sandbox, 50) == {"200": 60}


def test_a_client_that_is_gone_slows_nobody_down(virtual_time: VirtualTime) -> None:
    async def seconds_for(client: CalendlyClient, requests: int) -> float:
        await client.request("GET", "/a")
        began = virtual_time.now
        await asyncio.gather(*(client.request("GET", "/a") for _ in range(requests)))
        return virtual_time.now - began

    async def story() -> None:
        async with client_of(Server(ok()), api_key="gone", requests_per_second=10) as fast:
            async with client_of(Server(ok()), api_key="gone", requests_per_second=1) as slow:
                await slow.request("GET", "/a")
                assert 3 <= await seconds_for(fast, 3) <= 3 / 0.95
            del slow
            gc.collect()
            assert 1 <= await seconds_for(fast, 10) <= 1 / 0.95

    virtual_time.run(story())
