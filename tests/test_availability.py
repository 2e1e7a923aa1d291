"""Availability: any span, split into what the API allows and put together again."""

from collections import Counter
from datetime import UTC, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from prefect_calendly import CalendlyCredentials
from prefect_calendly.availability import (
    AvailabilitySchedule,
    AvailableTime,
    BusyTime,
    alist_availability_schedules,
    alist_available_times,
    alist_busy_times,
    stitched,
)
from prefect_calendly.client import errors
from prefect_calendly.client.times import utc, wire_time
from prefect_calendly.resource import check_choice, check_email, check_order, windows
from prefect_calendly.sandbox import Sandbox
from prefect_calendly.sandbox.seed import ALICE, EVENT_TYPE
from tests.fixtures import credentials_for
from tests.support import no_request, nothing_unknown, uri

NOW = datetime(2026, 3, 2, 12, tzinfo=UTC)
moments = st.datetimes(datetime(2026, 1, 1), datetime(2027, 1, 1), timezones=st.just(UTC))  # noqa: DTZ001


# Pure


@given(moments, st.timedeltas(timedelta(0), timedelta(days=400)), st.integers(1, 40))
def test_windows_cover_any_span_without_gap_or_overlap(start: datetime, length: timedelta, days: int) -> None:
    parts = list(windows(start, start + length, days))
    assert len(parts) == -(-length // timedelta(days=days))
    edges = [start, *(end for _, end in parts)]
    assert [begin for begin, _ in parts] == edges[:-1]
    assert edges[-1] == start + length
    assert all(timedelta(0) < end - begin <= timedelta(days=days) for begin, end in parts)


def busy(start: datetime, end: datetime, event: str | None = None, type: str = "external") -> BusyTime:
    return BusyTime.model_validate(
        {"type": type, "start_time": start, "end_time": end, "event": {"uri": event} if event else None}
    )


hours = st.integers(0, 24 * 20)
stretches = st.lists(st.tuples(hours, st.integers(1, 24 * 9)), max_size=12)


def in_windows(truth: list[BusyTime], days: int, *, cut: bool) -> list[tuple[datetime, list[BusyTime]]]:
    """What a server tells window by window; it may cut a stretch at the window's ends, or show it whole in each."""
    parts = []
    for start, end in windows(NOW, NOW + timedelta(days=30), days):
        part = [item for item in truth if item.start_time < end and item.end_time > start]
        if cut:
            part = [
                busy(max(i.start_time, start), min(i.end_time, end), i.event.uri if i.event else None) for i in part
            ]
        parts.append((start, part))
    return parts


def spans(items: list[BusyTime]) -> list[tuple[datetime, datetime]]:
    return sorted((item.start_time, item.end_time) for item in items)


@given(stretches, st.integers(1, 8), st.booleans())
def test_what_windows_cut_comes_back_whole_and_once(raw: list[tuple[int, int]], days: int, cut: bool) -> None:
    truth = [
        busy(NOW + timedelta(hours=start), NOW + timedelta(hours=start + length), f"e{number}")
        for number, (start, length) in enumerate(raw)
    ]
    result = stitched(in_windows(truth, days, cut=cut))
    assert spans(result) == spans(truth)
    assert {item.event.uri for item in result if item.event} == {item.event.uri for item in truth if item.event}
    assert [item.start_time for item in result] == sorted(item.start_time for item in result)


@given(stretches, st.integers(1, 8), st.booleans())
def test_without_names_every_hour_is_busy_as_often_as_it_was(raw: list[tuple[int, int]], days: int, cut: bool) -> None:
    """External stretches have no identity: two that touch at a window's edge may come back as one, no hour is lost."""
    truth = [busy(NOW + timedelta(hours=start), NOW + timedelta(hours=start + length)) for start, length in raw]
    result = stitched(in_windows(truth, days, cut=cut))

    def load(items: list[BusyTime]) -> Counter[datetime]:
        """How often each hour is busy: all stretches begin and end with one."""
        hour = timedelta(hours=1)
        return Counter(
            item.start_time + number * hour
            for item in items
            for number in range((item.end_time - item.start_time) // hour)
        )

    assert load(result) == load(truth)


def test_two_calendars_with_the_same_hours_stay_two_across_the_cut() -> None:
    edge = NOW + timedelta(days=7)
    first = [busy(edge - timedelta(hours=2), edge)] * 2
    second = [busy(edge, edge + timedelta(hours=3))] * 2
    assert (
        spans(stitched([(NOW, first), (edge, second)])) == [(edge - timedelta(hours=2), edge + timedelta(hours=3))] * 2
    )


def test_the_buffer_after_a_stretch_is_that_of_its_end() -> None:
    edge = NOW + timedelta(days=7)
    before = busy(edge - timedelta(hours=1), edge, "e").model_copy(
        update={"buffered_start_time": edge - timedelta(hours=2), "buffered_end_time": edge}
    )
    after = busy(edge, edge + timedelta(hours=1), "e").model_copy(
        update={"buffered_start_time": edge, "buffered_end_time": edge + timedelta(hours=2)}
    )
    (whole,) = stitched([(NOW, [before]), (edge, [after])])
    assert (whole.buffered_start_time, whole.buffered_end_time) == (
        edge - timedelta(hours=2),
        edge + timedelta(hours=2),
    )


def test_different_events_that_touch_at_the_edge_stay_two() -> None:
    edge = NOW + timedelta(days=7)
    parts = [
        (NOW, [busy(edge - timedelta(hours=1), edge, "a")]),
        (edge, [busy(edge, edge + timedelta(hours=1), "b"), busy(edge, edge + timedelta(hours=1), type="reserved")]),
    ]
    assert len(stitched(parts)) == 3


@given(st.datetimes(timezones=st.timezones() | st.just(UTC)).filter(lambda moment: 1 < moment.year < 9999))
def test_times_go_out_in_utc_to_the_microsecond(moment: datetime) -> None:
    text = wire_time(moment, "x")
    assert text is not None
    if moment.year > 1000:
        assert datetime.fromisoformat(text) == moment.astimezone(UTC)
    assert utc(moment, "x").tzinfo is UTC
    assert text.endswith("Z")


def test_the_small_checks() -> None:
    assert wire_time(None, "x") is None
    check_order(None, NOW, "a", "b")
    check_order(NOW, None, "a", "b")
    check_choice(None, ("x",), "a")
    check_email(None, "a")
    check_email("jörg@bücher.example", "a")
    with pytest.raises(ValueError, match="b must be after a"):
        check_order(NOW, NOW, "a", "b")


# Over HTTP


async def test_open_slots_of_any_span_are_each_there_once(credentials: CalendlyCredentials, sandbox: Sandbox) -> None:
    start = sandbox.clock() + timedelta(hours=1)
    end = start + timedelta(days=80)
    with nothing_unknown(sandbox):
        slots = await alist_available_times.fn(credentials, EVENT_TYPE, start_time=start, end_time=end)
        assert sandbox.stats()["requests"] == 3
        narrow = await alist_available_times.fn(credentials, EVENT_TYPE, start_time=start, end_time=end, window_days=7)
    assert sandbox.stats()["requests"] == 3 + 12
    assert narrow == slots
    times = [slot.start_time for slot in slots]
    assert times == sorted(set(times))
    assert len(times) > 300
    assert start <= times[0]
    assert end - timedelta(days=5) < times[-1] < end
    assert slots[0].model_extra == {}
    assert slots[0].model_fields_set == set(AvailableTime.model_fields)


@pytest.mark.parametrize(
    ("now", "opens_before", "opens_after"),
    [("2026-03-02T00:00:00+00:00", 14, 13), ("2026-10-20T00:00:00+00:00", 13, 14)],
)
async def test_across_a_clock_change_working_hours_stay_where_they_were(
    now: str, opens_before: int, opens_after: int, sandbox: Sandbox
) -> None:
    """New York changes on 8 March and 1 November 2026; Alice works from nine there."""
    sandbox.reset(now=now, events=0, invitees=0)
    start = sandbox.clock() + timedelta(hours=1)
    slots = await alist_available_times.fn(
        credentials_for(sandbox), EVENT_TYPE, start_time=start, end_time=start + timedelta(days=40)
    )
    zone = ZoneInfo("America/New_York")
    change = datetime(2026, 3, 8, 12, tzinfo=UTC) if opens_before == 14 else datetime(2026, 11, 1, 12, tzinfo=UTC)
    for slot in slots:
        assert 9 <= slot.start_time.astimezone(zone).hour < 17
    firsts = {min(s.start_time.hour for s in slots if (s.start_time < change) == before) for before in (True, False)}
    assert firsts == {opens_before, opens_after}


async def test_busy_times_longer_than_a_window_come_back_whole(
    credentials: CalendlyCredentials, sandbox: Sandbox
) -> None:
    start = sandbox.clock() + timedelta(hours=1)
    holiday = (start + timedelta(days=5), start + timedelta(days=26))
    sandbox.add_busy_time(*holiday)
    sandbox.add_busy_time(*holiday)  # in two calendars
    sandbox.add_busy_time(start + timedelta(days=33), start + timedelta(days=33, hours=1), type="reserved")
    meeting = sandbox.add_event(start + timedelta(days=28, minutes=-15))  # over the edge of a window
    with nothing_unknown(sandbox):
        found = await alist_busy_times.fn(credentials, ALICE, start_time=start, end_time=start + timedelta(days=40))
    assert sandbox.stats()["requests"] == 6
    assert [(item.start_time, item.end_time) for item in found].count(holiday) == 2
    (own,) = [item for item in found if item.event and item.event.uri == meeting]
    assert own.end_time - own.start_time == timedelta(minutes=30)
    assert own.model_fields_set == set(BusyTime.model_fields)
    assert {item.type for item in found} == {"calendly", "external", "reserved"}
    assert [item.start_time for item in found] == sorted(item.start_time for item in found)
    once = [(item.start_time, item.end_time, item.event.uri) for item in found if item.event]
    assert len(once) == len(set(once))


async def test_working_hours_have_every_documented_member(credentials: CalendlyCredentials, sandbox: Sandbox) -> None:
    with nothing_unknown(sandbox):
        default, evenings = await alist_availability_schedules.fn(credentials, uri("users", ALICE))
    assert (default.default, evenings.default) == (True, False)
    assert (default.timezone, evenings.name) == ("America/New_York", "Evenings")
    assert default.model_fields_set == set(AvailabilitySchedule.model_fields)
    monday = next(rule for rule in default.rules if rule.wday == "monday")
    assert (monday.intervals[0].from_, monday.intervals[0].to) == ("09:00", "17:00")
    closed, _ = [rule for rule in default.rules if rule.type == "date"]
    assert closed.intervals == ()
    assert closed.date is not None
    assert closed.date > NOW.date() - timedelta(days=10_000)


NAIVE = datetime(2030, 1, 1)  # noqa: DTZ001
AWARE = datetime(2030, 1, 1, tzinfo=UTC)


@pytest.mark.parametrize(
    ("times", "words"),
    [
        ({"start_time": NAIVE, "end_time": AWARE}, "start_time must be an aware datetime"),
        ({"start_time": AWARE, "end_time": NAIVE}, "end_time must be an aware datetime"),
        ({"start_time": AWARE, "end_time": AWARE}, "end_time must be after start_time"),
        ({"start_time": AWARE, "end_time": AWARE - timedelta(days=1)}, "end_time must be after start_time"),
        ({"start_time": AWARE.date(), "end_time": AWARE}, "start_time must be an aware datetime, not date"),
    ],
)
async def test_bad_spans_cost_no_request(
    times: dict[str, Any], words: str, credentials: CalendlyCredentials, sandbox: Sandbox
) -> None:
    with no_request(sandbox):
        with pytest.raises(ValueError, match=words):
            await alist_available_times.fn(credentials, EVENT_TYPE, **times)
        with pytest.raises(ValueError, match=words):
            await alist_busy_times.fn(credentials, ALICE, **times)


async def test_other_bad_arguments_cost_no_request(credentials: CalendlyCredentials, sandbox: Sandbox) -> None:
    span: dict[str, Any] = {"start_time": AWARE, "end_time": AWARE + timedelta(days=1)}
    with no_request(sandbox):
        for days in (0, 32):
            with pytest.raises(ValueError, match=f"window_days must be 1 to 31, not {days}"):
                await alist_available_times.fn(credentials, EVENT_TYPE, **span, window_days=days)
        with pytest.raises(ValueError, match=r"event_type must be the URI .* of an event type"):
            await alist_available_times.fn(credentials, uri("users", ALICE), **span)
        with pytest.raises(ValueError, match="user cannot be 'me'"):
            await alist_busy_times.fn(credentials, "me", **span)
        with pytest.raises(ValueError, match=r"user must be the URI .* of a user"):
            await alist_availability_schedules.fn(credentials, "")


async def test_a_start_in_the_past_is_refused_in_calendlys_words(
    credentials: CalendlyCredentials, sandbox: Sandbox
) -> None:
    past = sandbox.clock() - timedelta(days=1)
    with pytest.raises(errors.BadRequestError, match="start_time must be in the future"):
        await alist_available_times.fn(credentials, EVENT_TYPE, start_time=past, end_time=past + timedelta(days=2))


@pytest.mark.usefixtures("impatient")
async def test_one_window_that_fails_fails_it_all_but_passing_faults_do_not(
    credentials: CalendlyCredentials, sandbox: Sandbox
) -> None:
    start = sandbox.clock() + timedelta(hours=1)
    span = {"start_time": start, "end_time": start + timedelta(days=28)}
    whole = await alist_busy_times.fn(credentials, ALICE, **span)
    sandbox.fault("external_calendar", route="/user_busy_times", times=2)
    assert await alist_busy_times.fn(credentials, ALICE, **span) == whole
    sandbox.fault("external_calendar", route="/user_busy_times", times=None)
    with pytest.raises(errors.ExternalCalendarError, match="reconnect the calendar"):
        await alist_busy_times.fn(credentials, ALICE, **span)
