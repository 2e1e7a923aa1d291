"""When a request may go: the gateway's rate, Calendly's window, and everybody waiting after a 429."""

import asyncio
import gc
import threading
import time

import httpx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from prefect_calendly.client.errors import RateLimitedError
from prefect_calendly.client.pace import Limiter, Limits, Pace, Quota, RateLimit
from tests.support import VirtualTime


def limiter(clock: VirtualTime, requests_per_second: float = 10) -> Limiter:
    return Limiter(Pace(clock.monotonic), Quota(clock.monotonic), requests_per_second)


async def go(limiter: Limiter, clock: VirtualTime, times: list[float]) -> None:
    await limiter.wait()
    times.append(clock.now)
    limiter.quota.answered(RateLimit())


async def all_go(limiter: Limiter, clock: VirtualTime, count: int) -> list[float]:
    times: list[float] = []
    await asyncio.gather(*(go(limiter, clock, times) for _ in range(count)))
    return times


def most_in_a_second(times: list[float]) -> int:
    return max(sum(start <= moment < start + 1 for moment in times) for start in times)


@pytest.mark.parametrize("rate", [0.5, 1, 3, 10, 50])
def test_never_more_than_the_rate_in_any_second_and_hardly_less(rate: float, virtual_time: VirtualTime) -> None:
    times = virtual_time.run(all_go(limiter(virtual_time, rate), virtual_time, 120))
    assert most_in_a_second(times) <= max(1, rate)
    assert 119 / rate <= times[-1] <= 119 / rate / 0.95


@settings(max_examples=30)
@given(st.lists(st.floats(0, 5), min_size=1, max_size=40), st.integers(1, 20))
def test_no_rhythm_of_callers_gets_above_the_rate(pauses: list[float], rate: int) -> None:
    clock = VirtualTime()
    mine = limiter(clock, rate)
    times: list[float] = []

    async def caller(pause: float) -> None:
        await asyncio.sleep(pause)
        await go(mine, clock, times)

    async def callers() -> None:
        await asyncio.gather(*map(caller, pauses))

    clock.run(callers())
    assert len(times) == len(pauses)
    assert most_in_a_second(times) <= rate


@settings(max_examples=30)
@given(st.lists(st.floats(0, 0.03), min_size=1, max_size=300), st.integers(1, 400))
def test_however_late_callers_wake_up_they_do_not_get_above_the_rate(lateness: list[float], rate: int) -> None:
    clock = VirtualTime()
    mine = limiter(clock, rate)
    times: list[float] = []
    for late in lateness:
        while wait := mine.pace.take(mine):
            clock.now += wait + late
        times.append(clock.now)
    assert most_in_a_second(times) <= rate


@pytest.mark.parametrize(("late", "lost"), [(0.0, 0.0), (0.002, 0.0), (0.0045, 0.0), (0.02, 0.015)])
def test_a_few_milliseconds_of_lateness_do_not_slow_the_pace_down(
    late: float, lost: float, virtual_time: VirtualTime
) -> None:
    mine = limiter(virtual_time, 50)
    for _ in range(100):
        while wait := mine.pace.take(mine):
            virtual_time.now += wait + late
    assert virtual_time.now == pytest.approx(99 * (1 / (50 * 0.97) + lost), abs=0.01)


def test_until_its_slot_is_due_a_caller_is_told_how_long_and_takes_nothing(virtual_time: VirtualTime) -> None:
    mine = limiter(virtual_time, 1)
    assert mine.pace.take(mine) == 0
    told = [mine.pace.take(mine) for _ in range(50)]
    assert told == [told[0]] * 50
    assert 0.99 <= told[0] <= 1 / 0.95
    virtual_time.now += told[0] + 1e-6
    assert mine.pace.take(mine) == 0
    assert mine.pace.take(mine) > 0.9


def test_callers_that_are_cancelled_while_waiting_do_not_delay_those_after_them(virtual_time: VirtualTime) -> None:
    mine = limiter(virtual_time, 1)

    async def story() -> list[float]:
        impatient = [asyncio.create_task(mine.wait()) for _ in range(50)]
        await asyncio.sleep(0.5)
        assert [task.done() for task in impatient].count(True) == 1  # the first slot
        for task in impatient:
            task.cancel()
        ended = await asyncio.gather(*impatient, return_exceptions=True)
        assert [isinstance(end, asyncio.CancelledError) for end in ended].count(True) == 49
        return await all_go(mine, virtual_time, 3)

    times = virtual_time.run(story())
    for number, moment in enumerate(times, start=1):
        assert number <= moment <= number / 0.95  # as if nobody had waited in between


def test_after_a_pause_all_wait_and_go_on_at_the_pace_not_at_once(virtual_time: VirtualTime) -> None:
    mine = limiter(virtual_time, 10)
    mine.pace.pause(30)
    times = virtual_time.run(all_go(mine, virtual_time, 40))
    assert times[0] >= 30
    assert most_in_a_second(times) <= 10


def test_a_shorter_pause_does_not_end_a_longer_one(virtual_time: VirtualTime) -> None:
    mine = limiter(virtual_time, 10)
    mine.pace.pause(30)
    mine.pace.pause(1)
    assert mine.pace.paused_for() == 30
    assert virtual_time.run(all_go(mine, virtual_time, 1))[0] >= 30


def test_a_pause_that_comes_while_others_wait_holds_them_too(virtual_time: VirtualTime) -> None:
    mine = limiter(virtual_time, 1)

    async def story() -> list[float]:
        waiting = asyncio.create_task(all_go(mine, virtual_time, 3))
        await asyncio.sleep(0.1)
        mine.pace.pause(50)
        return await waiting

    times = virtual_time.run(story())
    assert times[0] == 0
    assert min(times[1:]) >= 50


def test_an_empty_window_is_waited_out_before_a_429_can_happen(virtual_time: VirtualTime) -> None:
    mine = limiter(virtual_time, 1000)

    async def story() -> list[float]:
        await mine.wait()
        mine.quota.answered(RateLimit(remaining=3, reset_seconds=60))
        return await all_go(mine, virtual_time, 10)

    times = virtual_time.run(story())
    assert [moment < 60 for moment in times] == [True] * 3 + [False] * 7


def test_those_under_way_count_against_the_window(virtual_time: VirtualTime) -> None:
    mine = limiter(virtual_time, 1000)

    async def story() -> None:
        for _ in range(4):
            await mine.wait()
        mine.quota.answered(RateLimit(remaining=3, reset_seconds=60))  # three more are under way: nothing is left
        assert mine.quota.closed_for() == pytest.approx(60)
        for left in (2, 1):
            mine.quota.answered(RateLimit(remaining=left, reset_seconds=60))
        assert mine.quota.closed_for() > 0
        mine.quota.answered(RateLimit(remaining=5, reset_seconds=60))  # the last one sets it right
        assert mine.quota.closed_for() == 0

    virtual_time.run(story())


@settings(max_examples=20)
@given(limit=st.integers(1, 30), callers=st.integers(1, 60), latency=st.floats(0, 3), at_once=st.integers(1, 10))
def test_against_calendlys_window_no_request_is_ever_too_many(
    limit: int, callers: int, latency: float, at_once: int
) -> None:
    """A server that counts a window of 60 s; only the first requests of a window may guess, as many as go at once.

    It answers in the order of the requests: above 194 a second several could go at the same moment.
    """
    clock = VirtualTime()
    mine = limiter(clock, 190)
    window = {"started": 0.0, "used": 0}
    too_many = 0
    slots = asyncio.Semaphore(at_once)

    async def call() -> None:
        nonlocal too_many
        async with slots:
            await mine.wait()
            if clock.now - window["started"] >= 60:
                window.update(started=clock.now, used=0)
            window["used"] += 1
            too_many += window["used"] > limit
            left, reset = max(0.0, limit - window["used"]), window["started"] + 60 - clock.now
            await asyncio.sleep(latency)
            mine.quota.answered(RateLimit(remaining=int(left), reset_seconds=max(0.0, reset - latency)))

    async def story() -> None:
        await asyncio.gather(*(call() for _ in range(callers)))

    clock.run(story())
    windows = -(-callers // limit) + 1
    assert too_many <= max(0, at_once - limit) * windows


def test_after_the_reset_the_old_figure_means_nothing(virtual_time: VirtualTime) -> None:
    quota = Quota(virtual_time.monotonic)
    quota.answered(RateLimit(remaining=1, reset_seconds=10))
    assert quota.take() == 0
    assert quota.take() == 10
    virtual_time.now = 10.5
    assert [quota.take() for _ in range(5)] == [0] * 5


def test_exhausted_keeps_the_longest_wait(virtual_time: VirtualTime) -> None:
    quota = Quota(virtual_time.monotonic)
    quota.exhausted(60)
    quota.exhausted(5)
    assert quota.closed_for() == 60


def test_an_answer_nobody_asked_for_does_no_harm() -> None:
    quota = Quota()
    quota.answered(RateLimit())
    assert quota.take() == 0


@pytest.mark.parametrize("close", [lambda mine: mine.pace.pause(301), lambda mine: mine.quota.exhausted(86_400)])
def test_nobody_waits_for_longer_than_five_minutes_in_silence(close, virtual_time: VirtualTime) -> None:  # type: ignore[no-untyped-def]
    mine = limiter(virtual_time)
    close(mine)
    with pytest.raises(RateLimitedError, match="nothing was sent; wait") as caught:
        virtual_time.run(mine.wait())
    assert caught.value.retry_after_seconds is not None
    assert caught.value.retry_after_seconds > 300
    assert virtual_time.now == 0


@pytest.mark.parametrize("seconds", [1_790_000_000.0, 1e300])
@pytest.mark.parametrize(
    "close",
    [
        lambda mine, seconds: mine.pace.pause(seconds),
        lambda mine, seconds: mine.quota.exhausted(seconds),
        lambda mine, seconds: mine.quota.answered(RateLimit(remaining=0, reset_seconds=seconds)),
    ],
    ids=["pause", "exhausted", "answered"],
)
def test_no_header_closes_anything_for_more_than_an_hour(close, seconds: float, virtual_time: VirtualTime) -> None:  # type: ignore[no-untyped-def]
    """An epoch instead of seconds, say."""
    mine = limiter(virtual_time)
    close(mine, seconds)
    with pytest.raises(RateLimitedError) as caught:
        virtual_time.run(mine.wait())
    assert caught.value.retry_after_seconds == 3600
    virtual_time.now += 3600.001
    assert virtual_time.run(all_go(mine, virtual_time, 1))[0] <= 3601


def test_one_account_shares_its_limits_and_others_do_not() -> None:
    limits = Limits()
    first = limits.limiter("https://a.example", "k1", "one", 10)
    assert limits.limiter("https://a.example", "k1", "one", 10).pace is first.pace
    assert limits.limiter("https://a.example", "k1", "one", 10).quota is first.quota
    second = limits.limiter("https://a.example", "k1", "other", 10)
    assert second.pace is first.pace  # the gateway counts by key
    assert second.quota is not first.quota  # Calendly counts by user
    for base, key in (("https://a.example", "k2"), ("https://b.example", "k1")):
        assert limits.limiter(base, key, "one", 10).pace is not first.pace
        assert limits.limiter(base, key, "one", 10).quota is not first.quota
    limits.clear()
    assert limits.limiter("https://a.example", "k1", "one", 10).pace is not first.pace
    assert limits.limiter("https://a.example", "k1", "one", 10).quota is not first.quota


async def rate_of(clock: VirtualTime, *limiters: Limiter) -> float:
    """Requests a second, when each of the limiters sends as many as it may at the same time."""
    times: list[float] = []
    await asyncio.gather(*(go(each, clock, times) for _ in range(8) for each in limiters))
    return (len(times) - 1) / (times[-1] - times[0])


def test_of_several_rates_for_one_key_the_slowest_in_use_holds(virtual_time: VirtualTime) -> None:
    def of_key(rate: float, window: str = "one") -> Limiter:
        return virtual_time.limits.limiter("https://a.example", "key", window, rate)

    first, slow, third = of_key(10), of_key(2), of_key(8, "other")
    assert virtual_time.run(rate_of(virtual_time, slow, first, third)) == pytest.approx(2 * 0.97, rel=0.05)
    del slow
    gc.collect()  # who is gone counts no more
    assert virtual_time.run(rate_of(virtual_time, third, first)) == pytest.approx(8 * 0.97, rel=0.1)
    del third
    gc.collect()
    assert virtual_time.run(rate_of(virtual_time, first)) == pytest.approx(10 * 0.97, rel=0.1)


def test_an_idle_limiter_slows_no_other_of_its_key(virtual_time: VirtualTime) -> None:
    slow, fast = (virtual_time.limits.limiter("https://a.example", "key", "one", rate) for rate in (1, 10))

    async def story() -> None:
        assert await rate_of(virtual_time, fast) == pytest.approx(10 * 0.97, rel=0.05)  # the other has sent nothing yet
        await all_go(slow, virtual_time, 1)
        assert len(await all_go(fast, virtual_time, 3)) == 3
        assert virtual_time.now > 3  # at the pace of the slow one, which has sent just now
        await asyncio.sleep(5)
        assert await rate_of(virtual_time, fast) == pytest.approx(10 * 0.97, rel=0.05)

    virtual_time.run(story())


def test_a_limiter_that_waits_for_its_turn_is_in_use_however_slow_it_is(virtual_time: VirtualTime) -> None:
    slow, fast = (virtual_time.limits.limiter("https://a.example", "key", "one", rate) for rate in (0.01, 10))

    async def story() -> None:
        await all_go(slow, virtual_time, 1)
        waiting = asyncio.create_task(all_go(slow, virtual_time, 1))
        await asyncio.sleep(50)
        began = virtual_time.now
        await asyncio.gather(waiting, all_go(fast, virtual_time, 1))
        assert virtual_time.now - began > 100  # both wait: one for the next slot, one for the slot after it

    virtual_time.run(story())


def test_threads_with_loops_of_their_own_share_the_pace() -> None:
    times: list[float] = []
    limits = Limits()

    def thread() -> None:
        async def work() -> None:
            mine = limits.limiter("https://threads.example", "key", "one", 200)
            for _ in range(5):
                await mine.wait()
                times.append(time.monotonic())
                mine.quota.answered(RateLimit())

        asyncio.run(work())

    threads = [threading.Thread(target=thread) for _ in range(4)]
    began = time.monotonic()
    for item in threads:
        item.start()
    for item in threads:
        item.join()
    assert len(times) == 20
    # 5 ms may be caught up with; a limiter of each thread's own would need a quarter of it.
    assert max(times) - began >= 19 / 200 / 0.97 - 0.006


# What answers say


@pytest.mark.parametrize(
    ("headers", "said"),
    [
        ({}, RateLimit()),
        (
            {"X-RateLimit-Limit": "500", "X-RateLimit-Remaining": "7", "X-RateLimit-Reset": "30", "Retry-After": "3"},
            RateLimit(limit=500, remaining=7, reset_seconds=30.0, retry_after_seconds=3.0),
        ),
        ({"Retry-After": "1.5"}, RateLimit(retry_after_seconds=1.5)),
        ({"Retry-After": "Wed, 21 Oct 2026 07:28:00 GMT", "X-RateLimit-Remaining": "many"}, RateLimit()),
        ({"X-RateLimit-Reset": "nan", "X-RateLimit-Remaining": "inf", "Retry-After": "-inf"}, RateLimit()),
        ({"X-RateLimit-Remaining": "-3", "X-RateLimit-Reset": "-1"}, RateLimit(remaining=0, reset_seconds=0.0)),
    ],
)
def test_a_rate_limit_is_read_from_headers_and_odd_ones_say_nothing(headers: dict[str, str], said: RateLimit) -> None:
    assert RateLimit.from_headers(headers) == said
    assert RateLimit.from_headers(httpx.Headers({name.lower(): value for name, value in headers.items()})) == said


@pytest.mark.parametrize(
    ("said", "seconds", "of_window"),
    [
        (RateLimit(), 1, False),
        (RateLimit(retry_after_seconds=7), 7, False),
        (RateLimit(retry_after_seconds=0), 0, False),
        (RateLimit(reset_seconds=9), 9, True),
        (RateLimit(reset_seconds=9, retry_after_seconds=4), 4, True),
    ],
)
def test_retry_after_comes_before_the_reset_and_a_429_without_either_has_passed_in_a_second(
    said: RateLimit, seconds: float, of_window: bool
) -> None:
    assert (said.wait_seconds, said.of_window) == (seconds, of_window)
