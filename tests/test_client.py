"""The client's promises: what is repeated, where the key goes, how lists are paged, what a write does when its
answer is lost."""

# ruff: noqa: F401, F811  (fixtures that are imported)

import asyncio
import collections
import contextlib
import gc
import gzip
import json
import logging
import math
import random
import traceback
import tracemalloc
import weakref
from collections.abc import AsyncIterator
from datetime import datetime, timedelta, timezone
from typing import Any

import httpx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import BaseModel, SecretStr

from prefect_calendly.client import (
    CalendlyClient,
    Method,
    checked_base_url,
    count_requests,
    errors,
    settle,
)
from prefect_calendly.client.answers import parsed
from prefect_calendly.client.transport import USER_AGENT
from prefect_calendly.resource import Resource
from prefect_calendly.sandbox import Sandbox
from tests.support import Reply, Server, VirtualTime, client_of, ok, page, virtual_time


class Thing(Resource):
    uri: str


WRITES: list[Method] = ["POST", "PATCH", "PUT", "DELETE"]
REQUEST = httpx.Request("GET", "https://x.example")
CALENDLY_500 = {"title": "Internal Server Error", "message": "unexpected"}

# Each: what happens, the error it is in the end, whether the request may have taken effect.
FAULTS: dict[str, tuple[Reply, type[errors.CalendlyError]]] = {
    "500": (httpx.Response(500, json=CALENDLY_500), errors.ServerError),
    "HTML 502": (httpx.Response(502, html="<html>Bad Gateway</html>"), errors.ServerError),
    "503": (httpx.Response(503, json={"message": "later"}), errors.ServerError),
    "424": (httpx.Response(424, json={"title": "External Calendar Error"}), errors.ExternalCalendarError),
    "truncated JSON": (httpx.Response(200, content=b'{"resource": {"ur'), errors.InvalidAnswerError),
    "HTML 200": (httpx.Response(200, html="<html>"), errors.InvalidAnswerError),
    "JSON too deep": (httpx.Response(200, content=b"[" * 200_000), errors.InvalidAnswerError),
    "no UTF-8": (httpx.Response(200, content=b'{"a": "\xff"}'), errors.InvalidAnswerError),
    "broken encoding": (httpx.DecodingError("bad gzip"), errors.InvalidAnswerError),
    "read timeout": (httpx.ReadTimeout("slow"), errors.NetworkError),
    "write timeout": (httpx.WriteTimeout("slow"), errors.NetworkError),
    "read error": (httpx.ReadError("reset"), errors.NetworkError),
    "server hung up": (httpx.RemoteProtocolError("hung up"), errors.NetworkError),
}
NEVER_SENT: dict[str, Reply] = {
    "refused": httpx.ConnectError("refused"),
    "connect timeout": httpx.ConnectTimeout("slow"),
}
FINAL: list[tuple[int, type[errors.CalendlyError]]] = [
    (400, errors.BadRequestError),
    (401, errors.GatewayKeyError),
    (403, errors.PermissionDeniedError),
    (404, errors.NotFoundError),
    (409, errors.ConflictError),
    (418, errors.CalendlyError),
    (422, errors.BadRequestError),
]


async def send(server: Server, method: Method = "GET", path: str = "/things/A", **options: Any) -> Any:
    async with client_of(server, **options) as client:
        return await client.request(method, path)


# What is repeated


@pytest.mark.parametrize("fault", [*FAULTS, *NEVER_SENT])
def test_a_read_is_repeated_until_it_works(fault: str, virtual_time: VirtualTime) -> None:
    broken = FAULTS[fault][0] if fault in FAULTS else NEVER_SENT[fault]
    server = Server(broken, broken, ok({"uri": "x"}))
    with count_requests() as meter:
        assert virtual_time.run(send(server)) == {"resource": {"uri": "x"}}
    assert len(server.requests) == 3
    assert (meter.requests, meter.repeats) == (3, 2)
    assert meter.seconds_waited == pytest.approx(virtual_time.now, abs=0.01)
    assert virtual_time.now > 0.1


@pytest.mark.parametrize("fault", FAULTS)
def test_a_read_is_given_up_after_four_attempts(fault: str, virtual_time: VirtualTime) -> None:
    broken, kind = FAULTS[fault]
    server = Server(broken)
    with pytest.raises(kind) as caught:
        virtual_time.run(send(server))
    assert len(server.requests) == 4
    assert (caught.value.method, caught.value.path) == ("GET", "/things/A")


@pytest.mark.parametrize("method", WRITES)
@pytest.mark.parametrize("fault", FAULTS)
def test_a_write_that_may_have_happened_is_never_repeated(
    method: Method,
    fault: str,
    virtual_time: VirtualTime,
) -> None:
    broken, kind = FAULTS[fault]
    server = Server(broken)
    with pytest.raises(kind):
        virtual_time.run(send(server, method))
    assert len(server.requests) == 1


@pytest.mark.parametrize("method", ["GET", *WRITES])
@pytest.mark.parametrize("fault", NEVER_SENT)
def test_what_was_never_sent_is_repeated(method: Method, fault: str, virtual_time: VirtualTime) -> None:
    server = Server(NEVER_SENT[fault], ok())
    virtual_time.run(send(server, method))
    assert len(server.requests) == 2
    server = Server(NEVER_SENT[fault])
    with pytest.raises(errors.NetworkError, match=r"No connection to gateway\.maton\.ai") as caught:
        virtual_time.run(send(server, method))
    assert len(server.requests) == 4
    assert not caught.value.maybe_sent


@pytest.mark.parametrize("method", ["GET", *WRITES])
@pytest.mark.parametrize(("status", "kind"), FINAL)
def test_a_refusal_is_final(
    method: Method,
    status: int,
    kind: type[errors.CalendlyError],
    virtual_time: VirtualTime,
) -> None:
    server = Server(httpx.Response(status, json={"message": "no"}))
    with pytest.raises(kind) as caught:
        virtual_time.run(send(server, method))
    assert type(caught.value) is kind
    assert len(server.requests) == 1
    assert virtual_time.now < 0.1


def test_a_refused_connection_is_a_network_error_over_a_real_socket() -> None:
    async def story() -> None:
        options: dict[str, Any] = {"gateway_url": "http://127.0.0.1:9", "requests_per_second": 1000}
        async with CalendlyClient("key", **options) as client:
            await client.request("GET", "/users/me")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("prefect_calendly.client.retry.backoff", lambda *_: 0.0)
        with pytest.raises(errors.NetworkError, match=r"No connection to 127.0.0.1:9 \(ConnectError\)"):
            asyncio.run(story())


# 429


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


def test_a_cancelled_request_leaves_the_limiter_in_order(virtual_time: VirtualTime) -> None:
    async def slow(request: httpx.Request) -> httpx.Response:
        await asyncio.sleep(1000)
        return ok()

    class Slow(httpx.MockTransport):
        pass

    async def story() -> None:
        async with client_of(Slow(slow)) as client:
            task = asyncio.create_task(client.request("GET", "/a"))
            await asyncio.sleep(1)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            assert client._transport._limiter.quota._under_way == 0

    virtual_time.run(story())


class _Drip(httpx.AsyncByteStream):
    """A body that comes byte by byte, and does not end."""

    async def __aiter__(self) -> AsyncIterator[bytes]:
        while True:
            yield b" "
            await asyncio.sleep(20)


@pytest.mark.parametrize(("method", "requests"), [("GET", 4), ("POST", 1)])
def test_an_answer_that_drips_for_ever_ends_as_one_that_was_lost(
    virtual_time: VirtualTime, method: Any, requests: int
) -> None:
    server = Server(lambda request: httpx.Response(200, stream=_Drip()))

    async def story() -> None:
        async with client_of(server, timeout_seconds=30) as client:
            with pytest.raises(errors.NetworkError, match=r"No whole answer came from .* within 120 s") as caught:
                await client.request(method, "/a")
            assert caught.value.maybe_sent
            assert client._transport._limiter.quota._under_way == 0

    virtual_time.run(story())
    assert len(server.requests) == requests
    assert 120 * requests <= virtual_time.now <= 120 * requests + 5


@pytest.mark.parametrize("status", [200, 400])
async def test_an_answer_without_measure_is_no_answer_packed_or_not(
    monkeypatch: pytest.MonkeyPatch, status: int
) -> None:
    monkeypatch.setattr("prefect_calendly.client.transport.MOST_BYTES", 2 * 1024**2)
    monkeypatch.setattr("prefect_calendly.client.retry.backoff", lambda *_: 0.0)
    large = b'"' + b"x" * 20 * 1024**2 + b'"'

    def packed(status: int, content: bytes) -> httpx.Response:
        return httpx.Response(status, content=gzip.compress(content), headers={"content-encoding": "gzip"})

    for reply in (lambda _: packed(status, large), httpx.Response(status, content=large)):
        server = Server(reply)
        async with client_of(server) as client:
            with pytest.raises(errors.InvalidAnswerError, match="more than 2 MiB"):
                await client.request("GET", "/a")
        assert len(server.requests) == 4
    async with client_of(Server(lambda _: packed(200, b'{"a": 1}'))) as client:
        assert await client.request("GET", "/a") == {"a": 1}


async def test_however_many_requests_are_cancelled_an_open_client_stays_usable(sandbox: Sandbox) -> None:
    """Cancelled at any moment: in the queue, while connecting, while the answer is awaited or read."""
    sandbox.reset(gateway_rps=0, rate_limit_per_minute=0)
    options: dict[str, Any] = {"gateway_url": sandbox.gateway_url, "requests_per_second": 10_000, "max_concurrency": 2}
    options["timeout_seconds"] = 1  # a connection that was cut off is given up, and the request repeated, in time
    moments = random.Random(3)

    async with CalendlyClient(sandbox.api_key, **options) as client:

        async def impatient() -> int:
            try:
                async with asyncio.timeout(moments.uniform(0, 0.01)):
                    await client.request("GET", "/users/me")
            except TimeoutError:
                return 1
            return 0

        sandbox.fault("latency", seconds=0.003, times=100_000)
        canceled = 0
        for _ in range(120):
            canceled += sum(await asyncio.gather(*(impatient() for _ in range(6))))
        assert canceled > 300
        sandbox.clear_faults()
        async with asyncio.timeout(60):  # for ever, on a busy machine too
            answers = await client.all(range(40), lambda _: client.request("GET", "/users/me"))
        assert len(answers) == 40
        assert client._transport._limiter.quota._under_way == 0
        assert client._transport._slots._value == 2


def test_a_client_that_is_gone_slows_nobody_down(virtual_time: VirtualTime) -> None:
    async def seconds_for_ten(client: CalendlyClient) -> float:
        await client.request("GET", "/a")
        began = virtual_time.now
        await asyncio.gather(*(client.request("GET", "/a") for _ in range(10)))
        return virtual_time.now - began

    async def story() -> None:
        async with client_of(Server(ok()), api_key="gone", requests_per_second=10) as fast:
            async with client_of(Server(ok()), api_key="gone", requests_per_second=1) as slow:
                await slow.request("GET", "/a")
                assert 10 <= await seconds_for_ten(fast) <= 10 / 0.95
            del slow
            gc.collect()
            assert 1 <= await seconds_for_ten(fast) <= 1 / 0.95

    virtual_time.run(story())


# Where the key goes


@pytest.mark.parametrize("method", ["GET", *WRITES])
@pytest.mark.parametrize("status", [301, 302, 303, 304, 307, 308])
def test_redirects_are_never_followed_nor_repeated(
    method: Method,
    status: int,
    virtual_time: VirtualTime,
) -> None:
    server = Server(httpx.Response(status, headers={"Location": "https://evil.example/"}))
    with pytest.raises(errors.InvalidAnswerError, match="redirect") as caught:
        virtual_time.run(send(server, method))
    assert caught.value.status == status
    assert len(server.requests) == 1
    assert server.hosts == {"gateway.maton.ai"}


async def test_the_key_goes_to_the_two_configured_hosts_and_no_other() -> None:
    server = Server(page([{"uri": "a"}], "t1"), page([{"uri": "b"}], None), ok())
    async with client_of(server, api_key="the-key", connection_id="conn-1") as client:
        assert [thing.uri async for thing in client.pages("/things", Thing)] == ["a", "b"]
        await client.request("GET", "/connections", host="connections")
    assert [request.url.host for request in server.requests] == ["gateway.maton.ai"] * 2 + ["ctrl.maton.ai"]
    assert [request.url.path for request in server.requests] == ["/calendly/things"] * 2 + ["/connections"]
    for request in server.requests:
        assert request.headers["Authorization"] == "Bearer the-key"
        assert request.headers["Maton-Connection"] == "conn-1"
        assert request.headers["User-Agent"] == USER_AGENT
        assert request.headers["Accept"] == "application/json"
        assert "the-key" not in str(request.url)


async def test_without_a_connection_the_gateway_chooses() -> None:
    server = Server(ok())
    await send(server)
    assert "Maton-Connection" not in server.requests[0].headers


async def test_calendly_itself_sees_nothing_of_maton() -> None:
    server = Server(ok())
    async with client_of(server, gateway_url="https://api.calendly.com/", connection_id="conn-1") as client:
        assert client.direct
        await client.request("GET", "/users/me")
        with pytest.raises(ValueError, match="no Maton connections here"):
            await client.request("GET", "/connections", host="connections")
    assert str(server.requests[0].url) == "https://api.calendly.com/users/me"
    assert not [name for name in server.requests[0].headers if "maton" in name]
    async with client_of(server, connections_url=None) as client:
        with pytest.raises(ValueError, match="no Maton connections here"):
            await client.request("GET", "/connections", host="connections")
    assert len(server.requests) == 1


async def test_the_newer_hosts_of_maton_work_too() -> None:
    server = Server(ok())
    options = {"gateway_url": "https://api.maton.ai/calendly", "connections_url": "https://api.maton.ai"}
    async with client_of(server, **options) as client:
        await client.request("GET", "/users/me")
        await client.request("GET", "/connections", host="connections")
    urls = [str(request.url) for request in server.requests]
    assert urls == ["https://api.maton.ai/calendly/users/me", "https://api.maton.ai/connections"]


@pytest.mark.parametrize(
    "url",
    [
        "https://gateway.maton.ai/calendly/",
        "HTTPS://example.com",
        "http://localhost:8000/calendly",
        "http://127.0.0.1:1",
        "http://[::1]:80",
        "http://10.1.2.3",
        "http://192.168.0.9:1",
        "http://gateway:8000",
        "http://maton.internal",
        "http://x.local",
        "http://x.localhost",
    ],
)
def test_https_anywhere_and_http_within_the_private_network_pass(url: str) -> None:
    assert checked_base_url(url, "gateway_url").lower() == url.rstrip("/").lower()


@pytest.mark.parametrize(
    "url",
    [
        "",
        "gateway.maton.ai",
        "http://gateway.maton.ai/calendly",
        "http://8.8.8.8",
        "http://134744072",
        "http://0x08080808",
        "ftp://localhost",
        "https://",
        "https://me:pass@gateway.maton.ai",
        "https://me@gateway.maton.ai",
        "https://gateway.maton.ai/?x=1",
        "https://gateway.maton.ai/#x",
        "https://gateway.maton.ai:99999",
        "https://gateway.maton.ai:x",
        "https://[",
        "javascript:alert(1)",
        "http://evil。example/x",
        "http://evil．example/x",
        "https://evil。example/x",
        "https://gätewäy.maton.ai",
        "http://löcalhost:8000",
        "http://localhost.:8000/calendly",
        "http://x.local.",
        "http://127.0.0.1.",
        "http://gateway.",
        "https://gateway.maton.ai./calendly",
    ],
)
def test_other_base_urls_are_refused_by_name(url: str) -> None:
    with pytest.raises(ValueError, match=r"^gateway_url must") as caught:
        CalendlyClient("key", gateway_url=url)
    assert "pass" not in str(caught.value)
    with pytest.raises(ValueError, match=r"^connections_url must"):
        CalendlyClient("key", connections_url=url or "x")


@pytest.mark.parametrize("url", ["http://evil。example/x", "https://gateway.maton.ai./calendly", "http://localhost."])
def test_other_spellings_of_a_host_are_refused_as_such(url: str) -> None:
    with pytest.raises(ValueError, match="plain ASCII, without a dot at the end"):
        checked_base_url(url, "gateway_url")


@pytest.mark.parametrize("key", ["", " ", "\n", "a b", "a\nb", "schlüssel-1", "a\x00b", "a\r\nX-Evil: 1"])
def test_what_is_no_key_is_refused_and_not_repeated(key: str) -> None:
    with pytest.raises(ValueError, match="api_key") as caught:
        CalendlyClient(key)
    assert not key.strip() or key not in str(caught.value)


@pytest.mark.parametrize("option", ["requests_per_second", "max_concurrency", "timeout_seconds"])
def test_figures_must_be_above_zero(option: str) -> None:
    with pytest.raises(ValueError, match=option):
        CalendlyClient("key", **{option: 0})  # type: ignore[arg-type]


def test_the_key_is_in_no_repr_log_or_traceback(caplog: pytest.LogCaptureFixture, virtual_time: VirtualTime) -> None:
    caplog.set_level(logging.DEBUG)
    shown: list[str] = []

    async def story() -> None:
        for reply in (*(reply for reply, _ in FAULTS.values()), *NEVER_SENT.values(), httpx.Response(401)):
            async with client_of(Server(reply), api_key="very-secret-key", connection_id="c") as client:
                shown.extend([repr(client), str(client)])
                try:
                    await client.request("POST", "/a", json={})
                except errors.CalendlyError as error:
                    shown.extend([repr(error), *traceback.format_exception(error), repr(vars(error))])

    virtual_time.run(story())
    assert len(shown) > 30
    assert "very-secret-key" not in "".join(shown) + caplog.text


REPEATED = "the-key-that-is-repeated"


@pytest.mark.parametrize("status", [302, 400, 401, 403, 404, 418, 422, 429, 500])
@pytest.mark.parametrize(
    "body",
    [
        {"message": f"No such key: {REPEATED}"},
        {"error": {"message": f"Invalid API key {REPEATED}"}},
        {"title": REPEATED, "message": f"x{REPEATED}x"},
        {"detail": [{"loc": [REPEATED], "msg": REPEATED}]},
        {"message": "no", "details": [{"parameter": REPEATED, "message": "k", "code": REPEATED}]},
        {"title": "Insufficient scope", "message": "no", "required_scopes": [REPEATED]},
    ],
)
def test_a_key_that_the_server_repeats_is_in_no_error(
    status: int,
    body: dict[str, Any],
    virtual_time: VirtualTime,
) -> None:
    server = Server(httpx.Response(status, json=body))
    with pytest.raises(errors.CalendlyError) as caught:
        virtual_time.run(send(server, "POST", api_key=REPEATED))
    error = caught.value
    shown = "".join([str(error), repr(error), *traceback.format_exception(error), repr(vars(error))])
    assert REPEATED not in shown
    assert error.status == status


async def test_a_masked_member_of_a_body_is_sent_in_clear_and_repeated_by_no_error() -> None:
    server = Server(httpx.Response(400, json={"title": "Invalid Argument", "message": f"{REPEATED} is no key"}))
    async with client_of(server) as client:
        for empty in ("", REPEATED):
            with pytest.raises(errors.BadRequestError) as caught:
                await client.request("POST", "/x", json={"key": SecretStr(empty), "url": "https://x.example"})
            assert json.loads(server.requests[-1].content) == {"key": empty, "url": "https://x.example"}
    assert str(caught.value).startswith("Invalid Argument: *** is no key (400 POST /x)")


async def test_a_masked_member_is_masked_in_the_spelling_of_json_too() -> None:
    key = 'quo"ted\\key-ü'
    server = Server(httpx.Response(400, json={"title": "Invalid Argument", "message": f"{key} is no key"}))
    async with client_of(server) as client:
        with pytest.raises(errors.BadRequestError, match=r"^Invalid Argument: \*\*\* is no key"):
            await client.request("POST", "/x", json={"key": SecretStr(key)})


@pytest.mark.parametrize("kind", [httpx.WriteTimeout, httpx.ConnectError, httpx.DecodingError, httpx.InvalidURL])
async def test_an_error_leads_to_nothing_that_was_sent(kind: type[Exception]) -> None:
    """A report that follows the chain, as debuggers do, would come to the variables of httpx."""
    async with client_of(Server(kind("broken"))) as client:
        with pytest.raises((errors.CalendlyError, ValueError)) as caught:
            await client.request("POST", "/x", json={"key": SecretStr(REPEATED)})
    assert caught.value.__context__ is caught.value.__cause__ is None


async def test_no_address_gets_into_the_log_by_way_of_httpx(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    async with client_of(Server(ok())) as client:
        await client.request("GET", "/scheduled_events", params={"invitee_email": "bob@example.com"})
    (record,) = [record for record in caplog.records if record.name == "httpx"]
    assert "https://gateway.maton.ai/calendly/scheduled_events " in record.getMessage()
    assert "bob" not in caplog.text
    async with httpx.AsyncClient(transport=Server(ok())) as other:  # somebody else's requests stay as they are
        await other.get("https://other.example/?q=visible")
    assert "q=visible" in caplog.text


# Parameters


class Colour(BaseModel):
    uri: str = "https://api.calendly.com/users/A"


async def test_parameters_go_out_as_calendly_wants_them() -> None:
    server = Server(ok())
    moment = datetime(2026, 3, 1, 12, tzinfo=timezone(timedelta(hours=2)))
    params = {"a": True, "b": False, "c": None, "d": 5, "e": "x+y@z&", "f": ["p", "q"], "g": moment, "h": Colour()}
    async with client_of(server) as client:
        await client.request("GET", "/things", params=params)
    assert server.requests[0].url.params.multi_items() == [
        ("a", "true"),
        ("b", "false"),
        ("d", "5"),
        ("e", "x+y@z&"),
        ("f", "p"),
        ("f", "q"),
        ("g", "2026-03-01T10:00:00.000000Z"),
        ("h", "https://api.calendly.com/users/A"),
    ]
    assert "e=x%2By" in str(server.requests[0].url)


async def test_what_cannot_be_sent_is_a_value_error_before_any_request() -> None:
    server = Server(ok())
    async with client_of(server) as client:
        naive = datetime(2026, 1, 1)  # noqa: DTZ001
        for path, params in (
            ("https://evil.example/", {}),
            ("/a/../b", {}),
            ("/a", {"start_time": naive}),
            ("/a", {"x": "y" * 70_000}),
        ):
            with pytest.raises(ValueError, match=r"path|start_time must be an aware|too long"):
                await client.request("GET", path, params=params)
        assert client._transport._limiter.quota._under_way == 0
    assert server.requests == []


async def test_an_empty_answer_is_none() -> None:
    assert await send(Server(httpx.Response(204))) is None
    assert await send(Server(httpx.Response(200))) is None


# Resources and lists


@pytest.mark.parametrize("body", [{}, [], {"resource": None}, {"resource": []}, "text", None])
async def test_an_answer_without_the_resource_is_named_unreadable(body: Any) -> None:
    async with client_of(Server(httpx.Response(200, json=body))) as client:
        with pytest.raises(errors.InvalidAnswerError, match="no 'resource'") as caught:
            await client.resource("/things/A", Thing)
    assert caught.value.member == "resource"


@pytest.mark.parametrize(
    ("item", "member"),
    [({}, "uri"), ({"uri": None}, "uri"), ({"uri": 3}, "uri"), ([], "resource"), (None, "resource")],
)
def test_a_missing_member_is_named_with_its_resource_and_the_input_not_shown(item: Any, member: str) -> None:
    with pytest.raises(errors.InvalidAnswerError) as caught:
        parsed(item, Thing, "GET", "/things/A")
    assert (caught.value.resource, caught.value.member) == ("Thing", member)
    assert f"Thing is unreadable at {member!r}" in str(caught.value)
    with pytest.raises(errors.InvalidAnswerError) as caught:
        parsed({"uri": ["bob@example.com"]}, Thing, "GET", "/things/A")
    assert "bob" not in str(caught.value)


async def test_members_we_do_not_know_are_kept() -> None:
    async with client_of(Server(ok({"uri": "a", "new": {"x": 1}}))) as client:
        thing = await client.resource("/things/A", Thing)
    assert thing.model_extra == {"new": {"x": 1}}


@pytest.mark.parametrize("body", [{}, {"collection": {}}, [1], {"collection": [{"no": "uri"}]}])
async def test_an_answer_that_is_no_collection_is_unreadable(body: Any) -> None:
    async with client_of(Server(httpx.Response(200, json=body))) as client:
        with pytest.raises(errors.InvalidAnswerError):
            await client.collection("/things", Thing)
        with pytest.raises(errors.InvalidAnswerError):
            [thing async for thing in client.pages("/things", Thing)]


async def listed(client: CalendlyClient, **options: Any) -> list[str]:
    return [thing.uri async for thing in client.pages("/things", Thing, **options)]


@settings(max_examples=60, deadline=None)
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
        return page(items, str(number + 1) if number < 79 else None)

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
                if count == 400:
                    tracemalloc.reset_peak()
                    after_few = tracemalloc.get_traced_memory()[0]
            growth = tracemalloc.get_traced_memory()[1] - after_few
        finally:
            tracemalloc.stop()
    assert count == 8000
    assert most <= 3
    assert growth < 2_000_000  # raw and parsed a page takes some 0.7 MB; all of them would be 16 MB


# Many requests


async def test_a_fan_out_is_bounded_keeps_the_order_and_survives_failures() -> None:
    under_way = most = 0

    async def call(number: int) -> int:
        nonlocal under_way, most
        under_way += 1
        most = max(most, under_way)
        await asyncio.sleep(0.001 * (number % 3))
        under_way -= 1
        if number % 10 == 3:
            raise errors.NotFoundError(f"no {number}")
        return number * 2

    async with client_of(Server(ok()), max_concurrency=4) as client:
        outcomes = await client.each(range(40), call)
        assert [outcome.item for outcome in outcomes] == list(range(40))
        for number, outcome in enumerate(outcomes):
            if number % 10 == 3:
                assert outcome.value is None
                assert str(outcome.error).startswith(f"no {number}")
            else:
                assert (outcome.value, outcome.error) == (number * 2, None)
        assert most == 4
        await client.each(range(10), call, at_once=1)
        assert await client.each([], call) == []
        with pytest.raises(errors.NotFoundError, match="no 13"):
            await client.all(range(10, 30), call)
        assert await client.all(range(3), call) == [0, 2, 4]
        with pytest.raises(ValueError, match="at_once must be at least 1"):
            await client.each(range(3), call, at_once=-1)


@pytest.mark.parametrize(
    "kind", [errors.GatewayKeyError, errors.CalendlyTokenError, errors.NoConnectionError, KeyError]
)
async def test_what_would_fail_for_all_ends_the_fan_out(kind: type[Exception]) -> None:
    calls = 0

    async def call(number: int) -> None:
        nonlocal calls
        calls += 1
        await asyncio.sleep(0)
        if number == 5:
            raise kind("no")

    async with client_of(Server(ok()), max_concurrency=2) as client:
        with pytest.raises(kind):
            await client.each(range(100), call)
    assert calls < 20


async def test_requests_at_once_are_bounded_however_many_are_asked_for() -> None:
    under_way = most = 0

    async def answer(request: httpx.Request) -> httpx.Response:
        nonlocal under_way, most
        under_way += 1
        most = max(most, under_way)
        await asyncio.sleep(0.002)
        under_way -= 1
        return ok()

    async with client_of(httpx.MockTransport(answer), max_concurrency=3) as client:
        await asyncio.gather(*(client.request("GET", "/a") for _ in range(30)))
    assert most == 3


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


# Writes that must not happen twice

LOST = [
    errors.NetworkError("gone"),
    errors.ServerError("500", status=500),
    errors.InvalidAnswerError("HTML", status=200),
    errors.ExternalCalendarError("424", status=424),
]


class World:
    """A write that does as told, and a look at its effect."""

    def __init__(
        self,
        *steps: Exception | str,
        effect_after: int | None = None,
        seen_after: int = 0,
        look: Exception | None = None,
    ) -> None:
        self.steps = list(steps)
        self.effect_after = effect_after
        self.seen_after = seen_after
        self.look_fails = look
        self.writes = self.looks = 0

    async def write(self) -> str:
        self.writes += 1
        step = self.steps[min(self.writes, len(self.steps)) - 1]
        if isinstance(step, Exception):
            raise step
        return step

    async def look_up(self) -> str | None:
        self.looks += 1
        if self.looks <= self.seen_after:
            return None
        if self.look_fails is not None:
            raise self.look_fails
        return "found" if self.effect_after is not None and self.writes >= self.effect_after else None

    def settle(self, time: VirtualTime, **options: Any) -> str:
        return time.run(settle(self.write, self.look_up, **options))


def test_a_write_that_works_is_not_looked_up(virtual_time: VirtualTime) -> None:
    world = World("done")
    assert world.settle(virtual_time) == "done"
    assert (world.writes, world.looks) == (1, 0)


@pytest.mark.parametrize("lost", LOST, ids=lambda lost: type(lost).__name__)
def test_after_a_lost_answer_an_effect_that_is_there_is_not_made_twice(
    lost: Exception,
    virtual_time: VirtualTime,
) -> None:
    world = World(lost, effect_after=1)
    assert world.settle(virtual_time) == "found"
    assert (world.writes, world.looks) == (1, 1)


@pytest.mark.parametrize("lost", LOST, ids=lambda lost: type(lost).__name__)
def test_after_a_lost_answer_an_effect_that_is_not_there_is_tried_again(
    lost: Exception,
    virtual_time: VirtualTime,
) -> None:
    world = World(lost, "done")
    assert world.settle(virtual_time) == "done"
    assert (world.writes, world.looks) == (2, 1)
    world = World(lost)
    with pytest.raises(type(lost)) as caught:
        world.settle(virtual_time)
    assert caught.value is lost
    assert (world.writes, world.looks) == (3, 3)
    assert virtual_time.now <= 3


@pytest.mark.parametrize("lost", LOST, ids=lambda lost: type(lost).__name__)
@pytest.mark.parametrize(("seen_after", "seconds"), [(0, 0), (1, 1), (2, 3), (3, 7), (4, 15)])
def test_what_must_not_be_repeated_is_looked_for_until_it_turns_up(
    lost: Exception,
    seen_after: int,
    seconds: float,
    virtual_time: VirtualTime,
) -> None:
    world = World(lost, effect_after=1, seen_after=seen_after)
    assert world.settle(virtual_time, repeat=False) == "found"
    assert (world.writes, world.looks) == (1, seen_after + 1)
    assert virtual_time.now == pytest.approx(seconds, abs=0.01)


@pytest.mark.parametrize("lost", LOST, ids=lambda lost: type(lost).__name__)
def test_what_must_not_be_repeated_and_never_turns_up_is_unconfirmed(
    lost: Exception,
    virtual_time: VirtualTime,
) -> None:
    world = World(lost, "made twice")
    with pytest.raises(errors.UnconfirmedWriteError, match="not there so far") as caught:
        world.settle(virtual_time, repeat=False)
    assert str(lost).split(".")[0] in str(caught.value)
    assert "Look at the calendar" in str(caught.value)
    assert (world.writes, world.looks) == (1, 5)
    assert virtual_time.now == pytest.approx(15, abs=0.01)


@pytest.mark.parametrize(
    "error",
    [
        errors.ConflictError("there"),
        errors.SlotFilledError("somebody else's"),
        errors.NetworkError("no", maybe_sent=False),
        errors.InvalidAnswerError("redirect", status=302),
    ],
    ids=lambda error: type(error).__name__,
)
def test_a_refusal_of_what_must_not_be_repeated_is_just_that(error: Exception, virtual_time: VirtualTime) -> None:
    world = World(error, "made", effect_after=1)
    with pytest.raises(type(error)) as caught:
        world.settle(virtual_time, repeat=False)
    assert caught.value is error
    assert (world.writes, world.looks) == (1, 0)
    assert virtual_time.now == 0


@pytest.mark.parametrize("seen_after", [0, 1, 4])
def test_when_a_look_for_what_must_not_be_repeated_fails_nobody_knows(
    seen_after: int,
    virtual_time: VirtualTime,
) -> None:
    world = World(
        errors.ServerError("lost 500", status=500, method="POST", path="/invitees"),
        effect_after=1,
        seen_after=seen_after,
        look=errors.PermissionDeniedError("look 403", status=403),
    )
    with pytest.raises(errors.UnconfirmedWriteError, match=r"lost 500.*look 403") as caught:
        world.settle(virtual_time, repeat=False)
    assert (caught.value.method, caught.value.path) == ("POST", "/invitees")
    assert (world.writes, world.looks) == (1, seen_after + 1)


def test_what_works_at_once_needs_no_look_even_if_it_must_not_be_repeated(virtual_time: VirtualTime) -> None:
    world = World("done")
    assert world.settle(virtual_time, repeat=False) == "done"
    assert (world.writes, world.looks, virtual_time.now) == (1, 0, 0)


def test_a_refusal_after_a_lost_answer_may_mean_that_it_is_done(virtual_time: VirtualTime) -> None:
    world = World(LOST[0], errors.ConflictError("there"), effect_after=2)
    assert world.settle(virtual_time) == "found"
    world = World(LOST[0], errors.ConflictError("somebody else's"))
    with pytest.raises(errors.ConflictError):
        world.settle(virtual_time)
    assert world.writes == 2


def test_a_refusal_at_once_is_just_that(virtual_time: VirtualTime) -> None:
    world = World(errors.ConflictError("there"), effect_after=1)
    with pytest.raises(errors.ConflictError):
        world.settle(virtual_time)
    assert (world.writes, world.looks) == (1, 0)


@pytest.mark.parametrize("steps", [[LOST[0]], [LOST[1], errors.ConflictError("there")]])
def test_when_the_look_up_fails_too_the_error_says_that_nobody_knows(
    steps: list[Exception],
    virtual_time: VirtualTime,
) -> None:
    world = World(*steps, look=errors.ServerError("look 500", method="GET", path="/x"))
    with pytest.raises(errors.UnconfirmedWriteError, match="look 500") as caught:
        world.settle(virtual_time)
    assert world.writes == 1
    assert "Look at the calendar" in str(caught.value)


@pytest.mark.parametrize(
    "error", [errors.NetworkError("no", maybe_sent=False), errors.InvalidAnswerError("redirect", status=302)]
)
def test_what_surely_did_not_happen_needs_no_look(error: Exception, virtual_time: VirtualTime) -> None:
    world = World(error)
    with pytest.raises(type(error)):
        world.settle(virtual_time)
    assert (world.writes, world.looks) == (1, 0)


def test_never_sent_after_a_lost_answer_is_still_looked_up(virtual_time: VirtualTime) -> None:
    world = World(LOST[0], errors.NetworkError("no", maybe_sent=False), effect_after=2)
    assert world.settle(virtual_time) == "found"
    assert (world.writes, world.looks) == (2, 2)


@given(st.lists(st.booleans(), max_size=4))
def test_however_answers_get_lost_the_effect_is_there_once(lost: list[bool]) -> None:
    """The first answers are lost, with or without the effect; then one arrives. A look tells the truth."""
    made = 0

    async def write() -> str:
        nonlocal made
        if not lost:
            made += 1
            return "done"
        made += lost.pop(0)
        raise errors.NetworkError("lost")

    async def look_up() -> str | None:
        return "found" if made else None

    try:
        VirtualTime().run(settle(write, look_up))
    except errors.NetworkError:
        assert made == 0
    else:
        assert made == 1


@pytest.mark.parametrize(
    ("replies", "writes", "ends"),
    [
        ([httpx.Response(204)], 1, None),
        ([httpx.ReadTimeout("lost"), httpx.Response(404)], 1, None),
        ([httpx.ReadTimeout("lost"), ok(), httpx.Response(204)], 2, None),
        ([httpx.ReadTimeout("lost"), ok(), httpx.Response(404), httpx.Response(404)], 2, None),
        ([httpx.Response(404)], 1, errors.NotFoundError),
        ([httpx.Response(500), httpx.Response(403)], 1, errors.UnconfirmedWriteError),
        ([httpx.Response(500), ok(), httpx.Response(500), ok(), httpx.Response(500), ok()], 3, errors.ServerError),
    ],
)
def test_a_deletion_looks_whether_it_is_gone_before_it_repeats(
    replies: list[Reply],
    writes: int,
    ends: type[Exception] | None,
    virtual_time: VirtualTime,
) -> None:
    async def story() -> None:
        async with client_of(server) as client:
            await client.delete("/things/A")

    server = Server(*replies)
    if ends is None:
        virtual_time.run(story())
    else:
        with pytest.raises(ends):
            virtual_time.run(story())
    assert [request.method for request in server.requests].count("DELETE") == writes
    assert len(server.requests) == len(replies)


def test_all_clients_of_a_process_share_one_tls_context(monkeypatch: pytest.MonkeyPatch) -> None:
    """Building one costs some 50 ms."""
    CalendlyClient("key")
    monkeypatch.setattr(httpx, "create_ssl_context", lambda *args, **kwargs: pytest.fail("another one"))
    CalendlyClient("other-key", gateway_url="https://api.maton.ai/calendly")
