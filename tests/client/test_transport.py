"""One request: parameters, bodies, answers of every size, and cancellation at any moment."""

import asyncio
import gzip
import random
from collections.abc import AsyncIterator
from datetime import datetime, timedelta, timezone
from typing import Any

import httpx
import pytest
from pydantic import BaseModel

from prefect_calendly.client import CalendlyClient, errors
from prefect_calendly.sandbox import Sandbox
from tests.client.faults import send
from tests.support import IMPATIENT, Server, VirtualTime, client_of, ok


def under_way(client: CalendlyClient) -> int:
    """How many requests Calendly's quota counts as sent and not answered."""
    return client._transport._limiters["gateway"].quota.under_way


def free_slots(client: CalendlyClient) -> int:
    """How many more requests may be under way at the same time."""
    return client._transport._slots._value


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
        assert under_way(client) == 0
    assert server.requests == []


async def test_a_client_that_is_closed_says_so() -> None:
    server = Server(ok())
    async with client_of(server) as client:
        pass
    with pytest.raises(RuntimeError, match="use it inside of its `async with`"):
        await client.request("GET", "/a")
    assert server.requests == []


async def test_an_empty_answer_is_none() -> None:
    assert await send(Server(httpx.Response(204))) is None
    assert await send(Server(httpx.Response(200))) is None


def test_a_cancelled_request_leaves_the_limiter_in_order(virtual_time: VirtualTime) -> None:
    async def slow(request: httpx.Request) -> httpx.Response:
        await asyncio.sleep(1000)
        return ok()

    async def story() -> None:
        async with client_of(httpx.MockTransport(slow)) as client:
            task = asyncio.create_task(client.request("GET", "/a"))
            await asyncio.sleep(1)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            assert under_way(client) == 0

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
            assert under_way(client) == 0

    virtual_time.run(story())
    assert len(server.requests) == requests
    assert 120 * requests <= virtual_time.now <= 120 * requests + 5


@pytest.mark.parametrize("status", [200, 400])
async def test_an_answer_without_measure_is_no_answer_packed_or_not(
    monkeypatch: pytest.MonkeyPatch, status: int
) -> None:
    monkeypatch.setattr("prefect_calendly.client.transport.MOST_BYTES", 1024**2)
    large = b'"' + b"x" * 3 * 1024**2 + b'"'

    def packed(status: int, content: bytes) -> httpx.Response:
        return httpx.Response(status, content=gzip.compress(content), headers={"content-encoding": "gzip"})

    for reply in (lambda _: packed(status, large), httpx.Response(status, content=large)):
        server = Server(reply)
        async with client_of(server, retry=IMPATIENT) as client:
            with pytest.raises(errors.InvalidAnswerError, match="more than 1 MiB"):
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
        for _ in range(50):
            canceled += sum(await asyncio.gather(*(impatient() for _ in range(6))))
        assert canceled > 120
        sandbox.clear_faults()
        async with asyncio.timeout(60):  # for ever, on a busy machine too
            answers = await client.all(range(40), lambda _: client.request("GET", "/users/me"))
        assert len(answers) == 40
        assert under_way(client) == 0
        assert free_slots(client) == 2


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


def test_all_clients_of_a_process_share_one_tls_context(monkeypatch: pytest.MonkeyPatch) -> None:
    """Building one costs some 50 ms."""
    CalendlyClient("key")
    monkeypatch.setattr(httpx, "create_ssl_context", lambda *args, **kwargs: pytest.fail("another one"))
    CalendlyClient("other-key", gateway_url="https://api.maton.ai/calendly")
