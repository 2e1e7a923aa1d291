"""One pace for many processes: shares of it are taken from a global concurrency limit of Prefect."""

import asyncio
import contextlib
import math
import random
import threading
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any, Self
from uuid import uuid4

import httpx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from prefect import flow, get_client
from prefect.client.schemas.responses import GlobalConcurrencyLimitResponse
from prefect.exceptions import ObjectNotFound

from prefect_calendly import CalendlyCredentials, shared_pace
from prefect_calendly.client.errors import RateLimitedError
from prefect_calendly.client.pace import Limiter, Pace, Quota, RateLimit, Share, TakeShare
from prefect_calendly.sandbox import Sandbox
from prefect_calendly.shared_pace import SHARED_PACE, PrefectShares, share_of_run
from prefect_calendly.users import get_current_user_via
from tests.fixtures import credentials_for
from tests.support import VirtualTime

# The limiter, given shares


class Counter:
    """Counts for all processes: so many a second, a few at once, in the order in which they are asked for."""

    def __init__(self, clock: VirtualTime, rate: float, at_once: int) -> None:
        self.clock, self.rate, self.at_once = clock, rate, at_once
        self.taken_until = 0.0
        self.asked = 0

    async def __call__(self) -> Share:
        self.asked += 1
        await asyncio.sleep(0.01)
        starts_in = max(0.0, self.taken_until - self.clock.now)
        self.taken_until = self.clock.now + starts_in + self.at_once / self.rate
        return Share(self.at_once, starts_in)


class SlowPrefect:
    """Prefect's limit, far away: whoever asks while others ask sees what was there before and after, not between."""

    def __init__(self, clock: VirtualTime, rate: float, slots: int = 1000, *, active: bool = True) -> None:
        self.clock, self.rate, self.slots, self.active = clock, rate, slots, active
        self.taken_until = 0.0
        self.taken: list[int] = []
        """How many slots were taken each time."""

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *error: object) -> None:
        pass

    def _occupied(self) -> int:
        return math.ceil(max(0.0, self.taken_until - self.clock.now) * self.rate)

    async def read_global_concurrency_limit_by_name(self, name: str) -> GlobalConcurrencyLimitResponse:
        await asyncio.sleep(0.1)
        return GlobalConcurrencyLimitResponse(
            id=uuid4(),
            name=name,
            limit=self.slots,
            active=self.active,
            active_slots=self._occupied(),
            slot_decay_per_second=self.rate,
        )

    async def increment_concurrency_slots(self, names: list[str], slots: int, mode: str) -> None:
        await asyncio.sleep(0.1)
        if self._occupied() + slots > self.slots:
            request = httpx.Request("POST", "http://prefect.test")
            raise httpx.HTTPStatusError("locked", request=request, response=httpx.Response(423, request=request))
        self.taken_until = max(self.clock.now, self.taken_until) + slots / self.rate
        self.taken.append(slots)


def process(clock: VirtualTime, take_share: TakeShare | None) -> Limiter:
    """The limiter of another process: it shares nothing with those of the others."""
    return Limiter(Pace(clock.monotonic), Quota(clock.monotonic), 10, take_share)


def shares_of(prefect: SlowPrefect) -> PrefectShares:
    return PrefectShares(lambda: prefect, prefect.clock.monotonic)


async def sent(limiter: Limiter, clock: VirtualTime, count: int) -> list[float]:
    """When each of so many requests went, at most 16 waiting at the same time, as in a client."""
    times: list[float] = []
    numbers = iter(range(count))

    async def send() -> None:
        for _ in numbers:
            await limiter.wait()
            times.append(clock.now)
            limiter.quota.answered(RateLimit())

    await asyncio.gather(*(send() for _ in range(16)))
    return times


@pytest.mark.parametrize("processes", [1, 2, 5])
def test_processes_that_share_a_pace_keep_it_together_and_none_starves(
    processes: int, virtual_time: VirtualTime
) -> None:
    counter = Counter(virtual_time, rate=10, at_once=5)

    async def story() -> list[list[float]]:
        return await asyncio.gather(*(sent(process(virtual_time, counter), virtual_time, 60) for _ in range(processes)))

    times = virtual_time.run(story())
    together = sorted(moment for each in times for moment in each)
    assert len(together) == 60 * processes
    assert max(sum(start <= moment < start + 1 for moment in together) for start in together) <= 11
    assert together[-1] <= 60 * processes / 10 / 0.93
    ends = [each[-1] for each in times]
    assert min(ends) >= max(ends) - 0.5 * processes - 0.1  # all end within one round of shares


@pytest.mark.parametrize("processes", [2, 3, 5])
def test_processes_that_start_at_the_same_moment_do_not_go_on_in_step(
    processes: int, virtual_time: VirtualTime
) -> None:
    """A gateway's bucket of 10 forgives what meets by chance."""
    random.seed(7)
    shares = shares_of(SlowPrefect(virtual_time, 10))

    async def story() -> list[list[float]]:
        return await asyncio.gather(*(sent(process(virtual_time, shares), virtual_time, 60) for _ in range(processes)))

    together = sorted(moment for each in virtual_time.run(story()) for moment in each)
    assert together[-1] <= 60 * processes / 10 * 1.5  # 0.3 s of each share are Prefect's
    tokens, before, refused = 10.0, 0.0, 0
    for moment in together:
        tokens, before = min(10.0, tokens + (moment - before) * 10), moment
        refused += tokens < 1
        tokens -= tokens >= 1
    assert refused <= len(together) / 100


@settings(max_examples=30)
@given(st.lists(st.lists(st.floats(0, 8), min_size=1, max_size=25), min_size=1, max_size=4))
def test_no_rhythm_of_several_processes_gets_far_above_the_pace(pauses: list[list[float]]) -> None:
    clock = VirtualTime()
    counter = Counter(clock, rate=10, at_once=5)
    times: list[float] = []

    async def caller(limiter: Limiter, pause: float) -> None:
        await asyncio.sleep(pause)
        times.extend(await sent(limiter, clock, 1))

    async def story() -> None:
        limiters = [(process(clock, counter), each) for each in pauses]
        await asyncio.gather(*(caller(limiter, pause) for limiter, each in limiters for pause in each))

    clock.run(story())
    assert len(times) == sum(map(len, pauses))
    # What a process did not send in its time may follow up to a second later: one share each.
    assert max(sum(start <= moment < start + 1 for moment in times) for start in times) <= 11 + 5 * len(pauses)


@pytest.mark.parametrize("threads", [False, True])
def test_clients_of_one_process_ask_for_one_share_at_a_time(threads: bool, virtual_time: VirtualTime) -> None:
    """Each task has a client of its own; what one gets is for all of them."""
    clock = time.monotonic if threads else virtual_time.monotonic
    pace, asked, under_way = Pace(clock), 0, 0

    async def take() -> Share:
        nonlocal asked, under_way
        asked, under_way = asked + 1, under_way + 1
        await asyncio.sleep(0.1)
        assert under_way == 1
        under_way -= 1
        return Share(5, 0.0)

    async def client() -> None:
        mine = Limiter(pace, Quota(clock), 1000, take)
        await mine.wait()
        mine.quota.answered(RateLimit())

    async def clients() -> None:
        await asyncio.gather(*(client() for _ in range(10)))

    if threads:
        workers = [threading.Thread(target=asyncio.run, args=(clients(),)) for _ in range(3)]
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join()
        assert 6 <= asked <= 9  # threads may each be one request above what a share allows
    else:
        virtual_time.run(clients())
        assert asked == 2


async def never() -> Share:
    await asyncio.sleep(1e6)
    raise AssertionError


async def at_once() -> Share:
    return Share(5, 0.0)


def test_who_asks_for_a_share_and_is_canceled_holds_up_nobody(virtual_time: VirtualTime) -> None:
    pace = Pace(virtual_time.monotonic)

    async def story() -> None:
        stuck = asyncio.create_task(Limiter(pace, Quota(), 10, never).wait())
        await asyncio.sleep(1)
        stuck.cancel()
        await Limiter(pace, Quota(), 10, at_once).wait()

    virtual_time.run(story())
    assert virtual_time.now < 2


def test_who_asks_for_a_share_and_ends_with_its_event_loop_holds_up_nobody_for_more_than_a_minute(
    virtual_time: VirtualTime,
) -> None:
    """A loop that is closed cancels none of its tasks: nothing in them runs any more, no `finally` either."""
    pace = Pace(virtual_time.monotonic)
    loop = virtual_time.new_loop()
    stuck = loop.create_task(Limiter(pace, Quota(), 10, never).wait())
    loop.run_until_complete(asyncio.sleep(1))
    loop.close()
    virtual_time.run(Limiter(pace, Quota(), 10, at_once).wait())
    assert not stuck.done()
    stuck._log_destroy_pending = False  # type: ignore[attr-defined]  # or asyncio complains about it
    assert 60 <= virtual_time.now <= 61.1


def test_who_is_late_with_a_share_does_not_end_the_turn_of_the_next(virtual_time: VirtualTime) -> None:
    pace, asked = Pace(virtual_time.monotonic), list[float]()

    async def slow() -> Share:
        asked.append(virtual_time.now)
        await asyncio.sleep(90)
        return Share(1, 0.0)

    async def story() -> None:
        await asyncio.gather(*(Limiter(pace, Quota(), 10, slow).wait() for _ in range(3)))

    virtual_time.run(story())
    # At 60 the second asks. At 90 the first gets its share and uses it: it is still the second that asks, until 120.
    assert [round(moment) for moment in asked] == [0, 60, 120]


def test_a_share_that_was_not_used_in_its_time_is_asked_for_again(virtual_time: VirtualTime) -> None:
    counter = Counter(virtual_time, rate=10, at_once=5)
    mine = process(virtual_time, counter)

    async def story() -> None:
        for pause, asked in ((0, 1), (1, 1), (3, 2), (0.1, 2)):
            await asyncio.sleep(pause)
            await sent(mine, virtual_time, 1)
            assert counter.asked == asked

    virtual_time.run(story())


def test_where_nobody_counts_it_is_asked_again_after_a_minute(virtual_time: VirtualTime) -> None:
    asked: list[float] = []

    async def nobody() -> None:
        asked.append(virtual_time.now)

    times = virtual_time.run(sent(process(virtual_time, nobody), virtual_time, 1000))
    assert times[-1] <= 1000 / 10 / 0.95
    assert [round(moment) for moment in asked] == [0, 60]


# Shares from Prefect


@pytest.mark.parametrize("slots", [1, 10, 30])
def test_a_limit_with_few_slots_is_waited_for_and_never_asked_for_too_many(
    slots: int, virtual_time: VirtualTime
) -> None:
    prefect = SlowPrefect(virtual_time, 50, slots)

    async def story() -> None:
        await asyncio.gather(*(sent(process(virtual_time, shares_of(prefect)), virtual_time, 20) for _ in range(2)))

    virtual_time.run(story())
    assert virtual_time.now >= (40 - 2 * min(slots, 25)) / 50
    assert sum(prefect.taken) >= 40
    assert max(prefect.taken) <= min(slots, 25)


@pytest.mark.parametrize(
    ("rate", "slots", "active", "warns"),
    [(5, 10, False, ""), (0, 10, True, "no slot decay"), (5, 0, True, "no slots")],
)
def test_a_limit_that_is_off_or_is_no_rate_holds_nobody_up(
    rate: float, slots: int, active: bool, warns: str, virtual_time: VirtualTime, caplog: pytest.LogCaptureFixture
) -> None:
    prefect = SlowPrefect(virtual_time, rate, slots, active=active)
    prefect.taken_until = -1.0
    times = virtual_time.run(sent(process(virtual_time, shares_of(prefect)), virtual_time, 20))
    assert times[-1] <= 0.1 + 20 / 10
    assert prefect.taken == []
    said = [record.getMessage() for record in caplog.records if record.name == "prefect.calendly.pace"]
    assert bool(said) == bool(warns)
    assert all(warns in message for message in said)


def test_a_limit_that_others_have_taken_for_minutes_is_an_error_and_nothing_is_taken(
    virtual_time: VirtualTime,
) -> None:
    prefect = SlowPrefect(virtual_time, 0.1)
    prefect.taken_until = 3000.0
    with pytest.raises(RateLimitedError, match="Other runs have taken all of calendly-requests"):
        virtual_time.run(sent(process(virtual_time, shares_of(prefect)), virtual_time, 1))
    assert prefect.taken == []


def test_a_limit_that_stays_full_is_given_up_after_minutes(virtual_time: VirtualTime) -> None:
    class Full(SlowPrefect):
        async def increment_concurrency_slots(self, names: list[str], slots: int, mode: str) -> None:
            request = httpx.Request("POST", "http://prefect.test")
            raise httpx.HTTPStatusError("locked", request=request, response=httpx.Response(423, request=request))

    with pytest.raises(RateLimitedError):
        virtual_time.run(sent(process(virtual_time, shares_of(Full(virtual_time, 10))), virtual_time, 1))
    assert 300 < virtual_time.now < 310


def test_a_prefect_that_does_not_answer_holds_nobody_up_for_long(virtual_time: VirtualTime) -> None:
    class Silent(SlowPrefect):
        async def read_global_concurrency_limit_by_name(self, name: str) -> GlobalConcurrencyLimitResponse:
            await asyncio.sleep(3600)
            raise AssertionError

    silent = shares_of(Silent(virtual_time, 10))
    assert virtual_time.run(sent(process(virtual_time, silent), virtual_time, 10))[-1] < 12


def test_trouble_of_prefect_stops_no_request(virtual_time: VirtualTime, caplog: pytest.LogCaptureFixture) -> None:
    def gone() -> Any:
        raise ConnectionError("no Prefect there")

    shares = PrefectShares(gone, virtual_time.monotonic)
    assert len(virtual_time.run(sent(process(virtual_time, shares), virtual_time, 5))) == 5
    assert "could not be asked (ConnectionError): this process keeps its own pace" in caplog.text


def test_outside_of_a_run_no_prefect_is_asked() -> None:
    assert share_of_run() is None


# Shares from a Prefect server


@pytest.fixture
async def limit(prefect_server: None) -> AsyncIterator[Callable[..., Awaitable[None]]]:
    """Set the global concurrency limit, as a person would; gone after the test."""

    async def create(slots: int, per_second: float) -> None:
        async with get_client() as client:
            await client.upsert_global_concurrency_limit_by_name(SHARED_PACE, slots, per_second)

    yield create
    async with get_client() as client:
        with contextlib.suppress(ObjectNotFound):
            await client.delete_global_concurrency_limit_by_name(SHARED_PACE)


@flow
async def ask(accounts: list[CalendlyCredentials], times: int) -> float:
    """So many requests of each account at once; seconds that they took."""

    async def ask_as(credentials: CalendlyCredentials) -> None:
        async with credentials.get_client() as client:
            await client.all(range(times), lambda _: get_current_user_via(client))

    began = time.monotonic()
    await asyncio.gather(*map(ask_as, accounts))
    return time.monotonic() - began


def two_paces(sandbox: Sandbox) -> list[CalendlyCredentials]:
    """Credentials whose requests share no pace within this process, as if each were another process's."""
    sandbox.reset(rate_limit_per_minute=0)
    return [
        credentials_for(sandbox),
        credentials_for(sandbox, gateway_url=sandbox.gateway_url.replace("127.0.0.1", "localhost")),
    ]


async def test_runs_share_what_the_limit_allows(limit: Any, sandbox: Sandbox) -> None:
    await limit(1000, 50)
    seconds = await ask(two_paces(sandbox), 60)
    assert sandbox.stats()["requests"] == 120
    assert seconds >= (120 - 2 * 25) / 50  # the last shares are taken before, and sent at once


async def test_a_limit_with_few_slots_is_waited_for_at_a_real_prefect(limit: Any, sandbox: Sandbox) -> None:
    await limit(10, 50)
    assert await ask(two_paces(sandbox), 20) >= (40 - 2 * 10) / 50
    assert sandbox.stats()["requests"] == 40


async def test_without_the_limit_prefect_is_asked_once_for_all(
    prefect_server: None, sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = []

    class Counted(PrefectShares):
        async def __call__(self) -> Share | None:
            asked.append(1)
            return await super().__call__()

    monkeypatch.setattr(shared_pace, "_SHARES", Counted())
    await ask([credentials_for(sandbox)], 30)
    assert sandbox.stats()["requests"] == 30
    assert len(asked) == 1
