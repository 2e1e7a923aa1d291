"""Local days, spans and working hours are right in any time zone, also when the clocks change."""

from collections import Counter
from datetime import date, datetime, time, timedelta
from itertools import pairwise
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from prefect_calendly.digest.time import (
    count_per_period,
    day_bounds,
    free_time_per_period,
    half_day_bounds,
    local_to_utc,
    merge_spans,
    time_per_period,
    working_hours,
)
from tests.digest.examples import (
    AUTUMN,
    BERLIN,
    MONDAY,
    NOW,
    SPRING,
    STEP,
    Spans,
    days_of_2026,
    every_day,
    few,
    first_days,
    minutes,
    moments,
    schedule,
    spans,
    steps,
    utc,
    zones,
)

# Local days


@pytest.mark.parametrize(
    ("day", "clock", "zone", "expected"),
    [
        (date(2026, 1, 1), 9 * 60, "Europe/Berlin", utc(1, 8, month=1)),
        (SPRING, 0, "Europe/Berlin", utc(28, 23)),
        (SPRING, 150, "Europe/Berlin", utc(29, 1)),  # 02:30 does not exist: the clock skips from 02:00 to 03:00
        (SPRING, 180, "Europe/Berlin", utc(29, 1)),
        (AUTUMN, 150, "Europe/Berlin", utc(25, 0, 30, month=10)),  # 02:30 occurs twice: the first
        (AUTUMN, 1440, "Europe/Berlin", utc(25, 23, month=10)),
        (date(2026, 10, 4), 130, "Australia/Lord_Howe", utc(3, 15, 30, month=10)),  # 02:10 is skipped
        (date(2026, 4, 24), 0, "Africa/Cairo", utc(23, 22, month=4)),  # there is no midnight
    ],
)
def test_a_local_time_becomes_the_instant_at_which_clocks_show_it(
    day: date, clock: int, zone: str, expected: datetime
) -> None:
    assert local_to_utc(day, clock, ZoneInfo(zone)) == expected


@few
@given(days_of_2026, st.integers(1, 31), zones)
def test_days_follow_each_other_and_last_as_long_as_the_clocks_say(first: date, days: int, zone: str) -> None:
    bounds = day_bounds(first, days, ZoneInfo(zone))
    assert len(bounds) == days + 1
    lengths = {(later - earlier) / timedelta(hours=1) for earlier, later in pairwise(bounds)}
    assert lengths <= {23, 23.5, 24, 24.5, 25}
    for number, bound in enumerate(bounds):
        assert bound.astimezone(ZoneInfo(zone)).date() == first + timedelta(days=number)
        assert (bound - timedelta(seconds=1)).astimezone(ZoneInfo(zone)).date() < first + timedelta(days=number)


@few
@given(days_of_2026, st.integers(1, 10), zones)
def test_half_days_split_each_day_at_local_noon(first: date, days: int, zone: str) -> None:
    bounds = half_day_bounds(first, days, ZoneInfo(zone))
    assert bounds[::2] == day_bounds(first, days, ZoneInfo(zone))
    for number, noon in enumerate(bounds[1::2]):
        clock = noon.astimezone(ZoneInfo(zone))
        assert (clock.date(), clock.time()) == (first + timedelta(days=number), time(12))
    assert bounds == sorted(set(bounds))
    assert {later - earlier for earlier, later in pairwise(bounds)} <= {minutes(30 * half) for half in range(22, 27)}


# Spans


@few
@given(spans)
def test_merged_spans_are_apart_and_cover_the_same_time(some: Spans) -> None:
    result = merge_spans(some)
    assert all(earlier[1] < later[0] for earlier, later in pairwise(result))
    assert steps(result) == steps(some)
    assert sum((end - start for start, end in result), timedelta()) == STEP * len(steps(some))


@few
@given(spans, first_days, st.integers(1, 14), zones)
def test_time_per_day_never_exceeds_the_day_and_adds_up_to_that_of_all_days(
    some: Spans, first: date, days: int, zone: str
) -> None:
    bounds = day_bounds(first, days, ZoneInfo(zone))
    per_day = time_per_period(some, bounds)
    lengths = [later - earlier for earlier, later in pairwise(bounds)]
    assert all(timedelta() <= covered <= length for covered, length in zip(per_day, lengths, strict=True))
    assert [sum(per_day, timedelta())] == time_per_period(some, [bounds[0], bounds[-1]])
    assert time_per_period([(bounds[0], bounds[-1])], bounds) == lengths


@few
@given(spans, spans, first_days, st.integers(1, 14), zones)
def test_free_time_is_the_part_of_the_hours_that_is_not_busy_counted_once(
    hours: Spans, busy: Spans, first: date, days: int, zone: str
) -> None:
    bounds = half_day_bounds(first, days, ZoneInfo(zone))
    free = sorted(steps(hours) - steps(busy))
    assert free_time_per_period(hours, busy, bounds) == [STEP * count for count in count_per_period(free, bounds)]


@few
@given(st.lists(moments, max_size=50), first_days, st.integers(1, 14), zones)
def test_slots_are_counted_on_their_local_day(slots: list[datetime], first: date, days: int, zone: str) -> None:
    expected = Counter(slot.astimezone(ZoneInfo(zone)).date() for slot in slots)
    counts = count_per_period(slots, day_bounds(first, days, ZoneInfo(zone)))
    assert counts == [expected[first + timedelta(days=number)] for number in range(days)]


# Working hours


@few
@given(days_of_2026, st.integers(0, 23), st.integers(1, 24), zones, zones)
def test_working_hours_are_the_hours_that_clocks_show_in_the_schedule_s_own_zone(
    first: date, opens: int, closes: int, own_zone: str, zone: str
) -> None:
    own = ZoneInfo(own_zone)
    bounds = day_bounds(first, 3, ZoneInfo(zone))
    found = working_hours(every_day(f"{opens:02}:00", f"{closes:02}:00", own_zone), bounds[0], bounds[-1])
    long_days = set()  # an hour that occurs twice is open from its first time on: the examples below have these days
    for number in range(-1, 5):
        start, end = day_bounds(first + timedelta(days=number), 1, own)
        if end - start > timedelta(days=1):
            long_days.add(first + timedelta(days=number))
    at = bounds[0]
    while at < bounds[-1]:
        local = at.astimezone(own)
        if local.date() not in long_days:
            assert any(start <= at < end for start, end in found) == (opens <= local.hour < closes), local
        at += minutes(30)


@pytest.mark.parametrize(
    ("hours", "day", "expected"),
    [
        (("00:00", "24:00"), SPRING, 23),
        (("00:00", "00:00"), SPRING, 23),
        (("00:00", "24:00"), AUTUMN, 25),
        (("02:30", "05:00"), SPRING, 2),  # begins within the hour that is skipped
        (("01:00", "02:30"), SPRING, 1),
        (("02:10", "02:50"), SPRING, 0),
        (("01:00", "05:00"), AUTUMN, 5),
        (("9:00", "17:00:00"), SPRING, 8),
        (("17:00", "09:00"), SPRING, 0),
    ],
)
def test_working_hours_are_right_when_the_clocks_change(hours: tuple[str, str], day: date, expected: float) -> None:
    bounds = day_bounds(day, 1, BERLIN)
    [length] = time_per_period(working_hours(every_day(*hours, "Europe/Berlin"), *bounds), bounds)
    assert length == timedelta(hours=expected)


def test_a_date_overrides_its_weekday_and_intervals_of_one_day_add_up() -> None:
    rules = schedule(
        monday=[("09:00", "12:00"), ("11:00", "13:00"), ("15:00", "16:00")],
        d2026_03_09=[],
        d2026_03_10=[("08:00", "09:00")],
    )
    bounds = day_bounds(MONDAY, 15, ZoneInfo("UTC"))
    worked = time_per_period(working_hours(rules, bounds[0], bounds[-1]), bounds)
    assert {day: length for day, length in enumerate(worked) if length} == {
        0: timedelta(hours=5),
        8: timedelta(hours=1),
        14: timedelta(hours=5),
    }


def test_rules_of_an_unknown_type_are_ignored() -> None:
    rules = schedule(monday=[("09:00", "10:00")])
    unknown = rules.rules[0].model_copy(update={"type": "lunar", "wday": None})
    changed = rules.model_copy(update={"rules": (*rules.rules, unknown)})
    assert working_hours(changed, NOW, NOW + timedelta(days=1)) == [(utc(2, 9), utc(2, 10))]
