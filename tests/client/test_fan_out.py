"""One call for each of many items."""

import asyncio

import pytest

from prefect_calendly.client import errors
from tests.support import Server, client_of, ok


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
