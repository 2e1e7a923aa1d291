"""When a request may go: the gateway's rate, Calendly's window, and everybody waiting after a 429."""

# ruff: noqa: F401, F811  (fixtures that are imported)

import asyncio
import gc
import threading
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from prefect_calendly.client.errors import RateLimitedError
from prefect_calendly.client.pace import Limiter, Pace, Quota, limiter_for
from tests.support import VirtualTime, virtual_time


def limiter(requests_per_second: float = 10) -> Limiter:
    return Limiter(Pace(), Quota(), requests_per_second)


async def go(limiter: Limiter, clock: VirtualTime, times: list[float]) -> None:
    await limiter.wait()
    times.append(clock.now)
    limiter.quota.answered(None, None)


async def all_go(limiter: Limiter, clock: VirtualTime, count: int) -> list[float]:
    times: list[float] = []
    await asyncio.gather(*(go(limiter, clock, times) for _ in range(count)))
    return times


def most_in_a_second(times: list[float]) -> int:
    return max(sum(start <= moment < start + 1 for moment in times) for start in times)


@pytest.mark.parametrize("rate", [0.5, 1, 3, 10, 50])
def test_never_more_than_the_rate_in_any_second_and_hardly_less(rate: float, virtual_time: VirtualTime) -> None:
    times = virtual_time.run(all_go(limiter(rate), virtual_time, 120))
    assert most_in_a_second(times) <= max(1, rate)
    assert 119 / rate <= times[-1] <= 119 / rate / 0.95


@settings(max_examples=30, deadline=None)
@given(st.lists(st.floats(0, 5), min_size=1, max_size=40), st.integers(1, 20))
def test_no_rhythm_of_callers_gets_above_the_rate(pauses: list[float], rate: int) -> None:
    clock = VirtualTime()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("prefect_calendly.client.pace.time", clock)
        mine = limiter(rate)
        times: list[float] = []

        async def callers() -> None:
            async def caller(pause: float) -> None:
                await asyncio.sleep(pause)
                await go(mine, clock, times)

            await asyncio.gather(*map(caller, pauses))

        clock.run(callers())
    assert len(times) == len(pauses)
    assert most_in_a_second(times) <= rate


@settings(max_examples=60, deadline=None)
@given(st.lists(st.floats(0, 0.03), min_size=1, max_size=300), st.integers(1, 400))
def test_however_late_callers_wake_up_they_do_not_get_above_the_rate(lateness: list[float], rate: int) -> None:
    clock = VirtualTime()
    mine = limiter(rate)
    times: list[float] = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("prefect_calendly.client.pace.time", clock)
        for late in lateness:
            while wait := mine.pace.take():
                clock.now += wait + late
            times.append(clock.now)
    assert most_in_a_second(times) <= rate


@pytest.mark.parametrize(("late", "lost"), [(0.0, 0.0), (0.002, 0.0), (0.0045, 0.0), (0.02, 0.015)])
def test_a_few_milliseconds_of_lateness_do_not_slow_the_pace_down(
    late: float, lost: float, virtual_time: VirtualTime
) -> None:
    mine = limiter(50)
    for _ in range(100):
        while wait := mine.pace.take():
            virtual_time.now += wait + late
    assert virtual_time.now == pytest.approx(99 * (1 / (50 * 0.97) + lost), abs=0.01)


def test_until_its_slot_is_due_a_caller_is_told_how_long_and_takes_nothing(virtual_time: VirtualTime) -> None:
    mine = limiter(1)
    assert mine.pace.take() == 0
    told = [mine.pace.take() for _ in range(50)]
    assert told == [told[0]] * 50
    assert 0.99 <= told[0] <= 1 / 0.95
    virtual_time.now += told[0] + 1e-6
    assert mine.pace.take() == 0
    assert mine.pace.take() > 0.9


def test_callers_that_are_cancelled_while_waiting_do_not_delay_those_after_them(virtual_time: VirtualTime) -> None:
    mine = limiter(1)

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
    mine = limiter(10)
    mine.pace.pause(30)
    times = virtual_time.run(all_go(mine, virtual_time, 40))
    assert times[0] >= 30
    assert most_in_a_second(times) <= 10


def test_a_shorter_pause_does_not_end_a_longer_one(virtual_time: VirtualTime) -> None:
    mine = limiter(10)
    mine.pace.pause(30)
    mine.pace.pause(1)
    assert mine.pace.paused_for() == 30
    assert virtual_time.run(all_go(mine, virtual_time, 1))[0] >= 30


def test_a_pause_that_comes_while_others_wait_holds_them_too(virtual_time: VirtualTime) -> None:
    mine = limiter(1)

    async def story() -> list[float]:
        waiting = asyncio.create_task(all_go(mine, virtual_time, 3))
        await asyncio.sleep(0.1)
        mine.pace.pause(50)
        return await waiting

    times = virtual_time.run(story())
    assert times[0] == 0
    assert min(times[1:]) >= 50


def test_an_empty_window_is_waited_out_before_a_429_can_happen(virtual_time: VirtualTime) -> None:
    mine = limiter(1000)

    async def story() -> list[float]:
        await mine.wait()
        mine.quota.answered(remaining=3, reset_seconds=60)
        return await all_go(mine, virtual_time, 10)

    times = virtual_time.run(story())
    assert [moment < 60 for moment in times] == [True] * 3 + [False] * 7


def test_those_under_way_count_against_the_window(virtual_time: VirtualTime) -> None:
    mine = limiter(1000)

    async def story() -> None:
        for _ in range(4):
            await mine.wait()
        mine.quota.answered(remaining=3, reset_seconds=60)  # three more are under way: nothing is left
        assert mine.quota.closed_for() == pytest.approx(60)
        for left in (2, 1):
            mine.quota.answered(remaining=left, reset_seconds=60)
        assert mine.quota.closed_for() > 0
        mine.quota.answered(remaining=5, reset_seconds=60)  # the last one sets it right
        assert mine.quota.closed_for() == 0

    virtual_time.run(story())


@settings(max_examples=40, deadline=None)
@given(limit=st.integers(1, 30), callers=st.integers(1, 60), latency=st.floats(0, 3), at_once=st.integers(1, 10))
def test_against_calendlys_window_no_request_is_ever_too_many(
    limit: int, callers: int, latency: float, at_once: int
) -> None:
    """A server that counts a window of 60 s; only the first requests of a window may guess, as many as go at once.

    It answers in the order of the requests: above 194 a second several could go at the same moment.
    """
    clock = VirtualTime()
    mine = limiter(190)
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
            mine.quota.answered(int(left), max(0.0, reset - latency))

    async def story() -> None:
        await asyncio.gather(*(call() for _ in range(callers)))

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("prefect_calendly.client.pace.time", clock)
        clock.run(story())
    windows = -(-callers // limit) + 1
    assert too_many <= max(0, at_once - limit) * windows


def test_after_the_reset_the_old_figure_means_nothing(virtual_time: VirtualTime) -> None:
    quota = Quota()
    quota.answered(remaining=1, reset_seconds=10)
    assert quota.take() == 0
    assert quota.take() == 10
    virtual_time.now = 10.5
    assert [quota.take() for _ in range(5)] == [0] * 5


def test_exhausted_keeps_the_longest_wait(virtual_time: VirtualTime) -> None:
    quota = Quota()
    quota.exhausted(60)
    quota.exhausted(5)
    assert quota.closed_for() == 60


def test_an_answer_nobody_asked_for_does_no_harm() -> None:
    quota = Quota()
    quota.answered(None, None)
    assert quota.take() == 0


@pytest.mark.parametrize("close", [lambda mine: mine.pace.pause(301), lambda mine: mine.quota.exhausted(86_400)])
def test_nobody_waits_for_longer_than_five_minutes_in_silence(close, virtual_time: VirtualTime) -> None:  # type: ignore[no-untyped-def]
    mine = limiter()
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
        lambda mine, seconds: mine.quota.answered(0, seconds),
    ],
    ids=["pause", "exhausted", "answered"],
)
def test_no_header_closes_anything_for_more_than_an_hour(close, seconds: float, virtual_time: VirtualTime) -> None:  # type: ignore[no-untyped-def]
    """An epoch instead of seconds, say."""
    mine = limiter()
    close(mine, seconds)
    with pytest.raises(RateLimitedError) as caught:
        virtual_time.run(mine.wait())
    assert caught.value.retry_after_seconds == 3600
    virtual_time.now += 3600.001
    assert virtual_time.run(all_go(mine, virtual_time, 1))[0] <= 3601


def test_one_account_shares_its_limits_and_others_do_not() -> None:
    first = limiter_for("https://a.example", "k1", None, 10)
    assert limiter_for("https://a.example", "k1", None, 10).pace is first.pace
    assert limiter_for("https://a.example", "k1", None, 10).quota is first.quota
    second = limiter_for("https://a.example", "k1", "other", 10)
    assert second.pace is first.pace  # the gateway counts by key
    assert second.quota is not first.quota  # Calendly counts by user
    for base, key in (("https://a.example", "k2"), ("https://b.example", "k1")):
        assert limiter_for(base, key, None, 10).pace is not first.pace
        assert limiter_for(base, key, None, 10).quota is not first.quota


def test_of_several_rates_for_one_key_the_slowest_in_use_holds(virtual_time: VirtualTime) -> None:
    first = limiter_for("https://a.example", "k3", None, 10)
    slow = limiter_for("https://a.example", "k3", None, 2)
    third = limiter_for("https://a.example", "k3", "other", 8)

    def rate(mine: Limiter) -> float:
        times = virtual_time.run(all_go(mine, virtual_time, 10))
        return 9 / (times[-1] - times[0])

    for mine in (first, slow, third):
        assert rate(mine) == pytest.approx(2, rel=0.05)
        assert rate(mine) <= 2
    del slow, mine
    gc.collect()
    for mine in (first, third):
        assert rate(mine) == pytest.approx(8, rel=0.05)
        assert rate(mine) <= 8
    del third, mine
    gc.collect()
    assert rate(first) == pytest.approx(10, rel=0.05)
    late = limiter_for("https://a.example", "k3", None, 4)
    rate(late)  # the slot before it may still be an earlier one
    assert rate(first) == pytest.approx(4, rel=0.05)


def test_threads_with_loops_of_their_own_share_the_pace() -> None:
    times: list[float] = []

    def thread() -> None:
        async def work() -> None:
            mine = limiter_for("https://threads.example", "key", None, 200)
            for _ in range(5):
                await mine.wait()
                times.append(time.monotonic())
                mine.quota.answered(None, None)

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
