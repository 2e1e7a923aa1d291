"""Answers that no honest server gives: whatever comes, it is an answer or one of our errors, and costs little."""

import asyncio
import gzip
import tracemalloc
import zlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import httpx
import pytest

from prefect_calendly.client import CalendlyClient, RetryPolicy, errors
from prefect_calendly.client.bodies import read_body
from tests.client.faults import send
from tests.support import IMPATIENT, Server, client_of

ONCE = RetryPolicy(attempts=1)


@asynccontextmanager
async def answering(answer: bytes) -> AsyncIterator[tuple[CalendlyClient, list[bytes]]]:
    """A client of a server that gives one answer, byte by byte, to every request; and the requests it got."""
    requests: list[bytes] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        requests.append(await reader.readuntil(b"\r\n\r\n"))
        writer.write(answer)
        writer.close()

    async with await asyncio.start_server(serve, "127.0.0.1") as server:
        port = server.sockets[0].getsockname()[1]
        async with CalendlyClient(
            "key-of-hostile-answers", gateway_url=f"http://127.0.0.1:{port}", connections_url=None, retry=ONCE
        ) as client:
            yield client, requests


async def test_a_header_beyond_ascii_is_a_header_as_any() -> None:
    head = b"HTTP/1.1 %s\r\nX-Note: caf\xe9 \xe2\x98\x95\r\nX-Request-Id: r\xe9q-1\r\nConnection: close\r\n\r\n"
    async with answering(head % b"200 OK" + b'{"resource": {}}') as (client, requests):
        assert await client.request("POST", "/a", json={}) == {"resource": {}}
        assert len(requests) == 1
    async with answering(head % b"404 Gone" + b"{}") as (client, _):
        with pytest.raises(errors.NotFoundError) as caught:
            await client.request("GET", "/a")
    assert caught.value.request_id == "réq-1"


@pytest.mark.parametrize("location", [b"http://[", b"http://\xff\xfe.example/", b"//", b"http://" + b"x" * 70_000])
async def test_a_redirect_to_no_url_is_one_of_our_errors(location: bytes) -> None:
    async with answering(b"HTTP/1.1 302 Found\r\nLocation: %s\r\n\r\n" % location) as (client, _):
        with pytest.raises(errors.CalendlyError):
            await client.request("GET", "/a")


def streamed(parts: list[bytes], coding: str) -> httpx.Response:
    async def stream() -> AsyncIterator[bytes]:
        for part in parts:
            yield part

    return httpx.Response(200, headers={"Content-Encoding": coding} if coding else {}, content=stream())


BODY = b'{"a": 1}' * 10
PACKED = gzip.compress(BODY)


@pytest.mark.parametrize(
    ("parts", "coding"),
    [
        ([BODY], ""),
        ([BODY[:5], BODY[5:]], "identity"),
        ([PACKED], "gzip"),
        ([PACKED[:5], PACKED[5:]], "GZIP"),
        ([bytes([each]) for each in PACKED], "x-gzip"),
        ([PACKED, b"what comes after it"], "gzip"),
    ],
)
async def test_a_body_is_read_packed_or_not(parts: list[bytes], coding: str) -> None:
    assert await read_body(streamed(parts, coding), len(BODY)) == BODY


@pytest.mark.parametrize("coding", ["", "gzip"])
async def test_no_body_is_an_empty_one(coding: str) -> None:
    assert await read_body(streamed([], coding), 100) == b""


@pytest.mark.parametrize(
    ("parts", "coding", "why"),
    [
        ([gzip.compress(gzip.compress(PACKED))], "gzip, gzip, gzip", "by gzip, once"),
        ([gzip.compress(PACKED)], "gzip,gzip", "by gzip, once"),
        ([zlib.compress(BODY)], "deflate", "by gzip, once"),
        ([BODY], "br", "by gzip, once"),
        ([BODY], "gzip", "cannot be unpacked"),
        ([PACKED[:-9]], "gzip", "not whole"),
        ([b"x" * 60, b"x" * 60], "", "more than"),
        ([gzip.compress(b"x" * 101)], "gzip", "more than"),
        ([PACKED, b"x" * 100], "gzip", "more than"),  # what comes after the end is no way around it
    ],
)
async def test_a_body_that_is_none_says_why(parts: list[bytes], coding: str, why: str) -> None:
    with pytest.raises(httpx.DecodingError, match=why):
        await read_body(streamed(parts, coding), 100)


async def test_a_bomb_is_not_unpacked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("prefect_calendly.client.transport.MOST_BYTES", 1024**2)
    bomb = gzip.compress(bytes(32 * 1024**2), 1)
    server = Server(lambda _: streamed([bomb], "gzip"))
    async with client_of(server, retry=IMPATIENT) as client:
        tracemalloc.start()
        try:
            with pytest.raises(errors.InvalidAnswerError, match="more than 1 MiB"):
                await client.request("GET", "/a")
            assert tracemalloc.get_traced_memory()[1] < 8 * 1024**2
        finally:
            tracemalloc.stop()
    assert server.requests[0].headers["Accept-Encoding"] == "gzip"


async def test_of_very_many_details_a_few_are_read() -> None:
    detail = {"parameter": "p" * 5_000, "message": "m" * 5_000, "code": "c" * 5_000}
    body = {"title": "Invalid Argument", "message": "no", "details": [detail] * 300}
    with pytest.raises(errors.BadRequestError) as caught:
        await send(Server(httpx.Response(400, json=body)))
    assert len(caught.value.details) == 11
    assert str(caught.value.details[-1]) == "and 290 more"
