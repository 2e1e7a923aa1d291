"""The digest counts slots, busy times and working hours right, and never takes a failure for a full calendar."""

from collections import Counter
from datetime import date, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from prefect_calendly.availability import AvailabilitySchedule
from prefect_calendly.digest.model import BusySpan, Host, HostedEventType, Problem
from prefect_calendly.digest.time import local_to_utc
from tests.digest.examples import (
    AUTUMN,
    BERLIN,
    MONDAY,
    SPRING,
    Spans,
    digest_of,
    every_day,
    few,
    minutes,
    moments,
    schedule,
    spans,
    utc,
    zones,
)

# Days


def test_slots_are_counted_by_day_and_event_type_from_now_on() -> None:
    first = [utc(2, 7, 59), utc(2, 9), utc(2, 9), utc(4, 23, 30), utc(5, 0)]
    digest = digest_of({"T": first, "U": [utc(2, 8), utc(3, 12)]})
    [ada] = digest.hosts
    assert [dict(day.slots) for day in ada.days] == [{"T": 1, "U": 1}, {"T": 0, "U": 1}, {"T": 1, "U": 0}]
    assert digest.open_slots == ada.open_slots == 4
    assert ada.next_slot == digest.next_slot == utc(2, 8)
    assert ada.is_complete
    assert not ada.has_no_slots


@few
@given(st.lists(moments, max_size=50, unique=True), zones, zones)
def test_no_time_zone_of_the_digest_loses_a_slot(slots: list[datetime], one: str, other: str) -> None:
    digests = [digest_of({"T": slots}, timezone=zone, first_day=date(2026, 3, 20), days=20) for zone in (one, other)]
    assert [digest.open_slots for digest in digests] == [len(slots)] * 2
    assert digests[0].next_slot == digests[1].next_slot == min(slots, default=None)


def test_busy_time_is_counted_by_kind_without_overlaps_and_cut_at_local_midnight() -> None:
    stretches = [
        BusySpan("calendly", utc(2, 10), utc(2, 11)),
        BusySpan("calendly", utc(2, 10, 30), utc(2, 11, 30)),
        BusySpan("external", utc(2, 22), utc(3, 1)),  # midnight in Berlin is 23:00 UTC
        BusySpan("reserved", utc(2, 7), utc(2, 9)),  # from now on
        BusySpan("focus", utc(4, 10), utc(4, 11)),
    ]
    digest = digest_of({}, busy={"A": stretches}, timezone="Europe/Berlin")
    busy = [day.busy or {} for day in digest.hosts[0].days]
    assert [day["calendly"] for day in busy] == [minutes(90), minutes(0), minutes(0)]
    assert [day["external"] for day in busy] == [minutes(60), minutes(120), minutes(0)]
    assert [day["reserved"] for day in busy] == [minutes(60), minutes(0), minutes(0)]
    assert [day["focus"] for day in busy] == [minutes(0), minutes(0), minutes(60)]


def test_working_hours_are_those_of_the_default_schedule_cut_into_the_days_of_the_digest() -> None:
    other = schedule(default=False, tuesday=[("00:00", "24:00")])
    own = schedule("Asia/Kolkata", tuesday=[("00:00", "10:00")])  # Monday 18:30 to Tuesday 04:30 UTC
    digest = digest_of({}, schedules={"A": [other, own]})
    assert [day.working for day in digest.hosts[0].days] == [minutes(330), minutes(270), minutes(0)]


@pytest.mark.parametrize(
    ("broken", "reason"),
    [
        (schedule("Mars/Base", monday=[("09:00", "17:00")]), "the schedule has an unknown time zone"),
        (schedule("../etc", monday=[("09:00", "17:00")]), "the schedule has an unknown time zone"),
        (schedule(monday=[("nine", "17:00")]), "the schedule has hours that are not of the form hh:mm"),
        (schedule(monday=[("09:00", "25:00")]), "the schedule has hours that are not of the form hh:mm"),
    ],
)
def test_a_malformed_schedule_becomes_a_problem_and_hides_nothing_else(
    broken: AvailabilitySchedule, reason: str
) -> None:
    digest = digest_of({"T": [utc(2, 9)]}, schedules={"A": [broken]})
    assert digest.problems == (Problem("working hours of Ada", reason),)
    assert digest.hosts[0].days[0].working is None
    assert digest.open_slots == 1


def test_a_slot_of_a_round_robin_counts_for_each_host_who_can_take_it_and_once_in_all() -> None:
    slots = {"R": [utc(2, 9), utc(2, 10), utc(2, 11), utc(2, 12)]}
    round_robin = [HostedEventType("R", "Demo", 30, is_pooled=True)]
    hosts = tuple(Host(name, name) for name in "ABCD")
    digest = digest_of(
        slots,
        hosts=hosts,
        event_types={host.uuid: round_robin for host in hosts},
        busy={
            "A": [BusySpan("external", utc(2, 8), utc(2, 9, 15)), BusySpan("calendly", utc(2, 11, 29), utc(2, 11, 31))],
            "B": [BusySpan("external", utc(1, 0), utc(9, 0))],
            "C": [BusySpan("external", utc(2, 9, 30), utc(2, 10))],
        },
        schedules={"C": [schedule(monday=[("09:00", "11:15")]), schedule(default=False, monday=[("12:00", "12:29")])]},
    )
    assert [host.open_slots for host in digest.hosts] == [2, 0, 2, 4]
    assert [host.next_slot for host in digest.hosts] == [utc(2, 10), None, utc(2, 9), utc(2, 9)]
    assert digest.open_slots == 4
    assert [host.host.uuid for host in digest.hosts_without_slots] == ["B"]


def test_a_host_whose_slots_could_not_be_read_is_not_one_without_open_slots() -> None:
    hosts = tuple(Host(name, name) for name in "ABC")
    digest = digest_of(
        {"T": []},
        hosts=hosts,
        event_types={"A": [HostedEventType("T", "T", 30), HostedEventType("U", "U", 30)], "B": []},
    )
    assert [host.is_complete for host in digest.hosts] == [False, True, False]
    assert [host.host.uuid for host in digest.hosts_without_slots] == ["B"]


# Half-days


@few
@given(
    st.lists(moments, max_size=40, unique=True),
    spans,
    st.dates(date(2026, 3, 24), date(2026, 4, 2)),
    moments,
    zones,
    zones,
)
def test_a_half_day_has_its_slots_and_its_free_share_in_any_zone_from_now_on(
    slots: list[datetime], busy: Spans, first: date, now: datetime, zone: str, own_zone: str
) -> None:
    local = ZoneInfo(zone)
    digest = digest_of(
        {"T": slots},
        busy={"A": [BusySpan("external", *span) for span in busy]},
        schedules={"A": [every_day("09:00", "17:00", own_zone)]},
        first_day=first,
        days=8,
        timezone=zone,
        now=now,
    )
    expected = Counter((at.astimezone(local).date(), at.astimezone(local).hour >= 12) for at in slots if at >= now)
    for day in digest.hosts[0].days:
        for is_afternoon, half in enumerate(day.halves):
            assert half.open_slots == expected[day.date, bool(is_afternoon)]
            end = local_to_utc(day.date, 24 * 60 if is_afternoon else 12 * 60, local)
            assert half.is_past == (end <= now)
            assert half.working is not None
            assert half.free is not None
            assert timedelta() <= half.free <= half.working <= minutes(12.5 * 60)
            if half.free_share is None:
                assert half.working == timedelta()
            else:
                assert 0 <= half.free_share <= 1
        assert sum((half.working or timedelta() for half in day.halves), timedelta()) == day.working


@pytest.mark.parametrize(("day", "morning_hours"), [(SPRING, 11), (AUTUMN, 13), (MONDAY, 12)])
def test_the_half_day_in_which_the_clocks_change_is_as_long_as_they_say(day: date, morning_hours: int) -> None:
    digest = digest_of(
        {},
        schedules={"A": [every_day("00:00", "24:00", "Europe/Berlin")]},
        busy={"A": [BusySpan("external", local_to_utc(day, 180, BERLIN), local_to_utc(day, 12 * 60, BERLIN))]},
        first_day=day,
        days=1,
        timezone="Europe/Berlin",
        now=utc(1, 0, month=1),
    )
    morning, afternoon = digest.hosts[0].days[0].halves
    assert (morning.working, afternoon.working) == (timedelta(hours=morning_hours), timedelta(hours=12))
    assert (morning.free, afternoon.free) == (timedelta(hours=morning_hours - 9), timedelta(hours=12))


def test_overlapping_busy_times_count_once_and_those_outside_of_working_hours_do_not_count() -> None:
    digest = digest_of(
        {},
        schedules={"A": [every_day("08:00", "12:00", "UTC")]},
        busy={
            "A": [
                BusySpan("calendly", utc(3, 9), utc(3, 11)),
                BusySpan("external", utc(3, 10), utc(3, 11, 30)),
                BusySpan("external", utc(3, 14), utc(3, 20)),
                BusySpan("reserved", utc(3, 6), utc(3, 8)),
            ]
        },
    )
    morning, afternoon = digest.hosts[0].days[1].halves
    assert (morning.working, morning.free, morning.free_share) == (minutes(240), minutes(90), 0.375)
    assert (afternoon.working, afternoon.free, afternoon.free_share) == (minutes(0), minutes(0), None)
