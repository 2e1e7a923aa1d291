"""Availability: windows, schedules, busy calendars, and the days on which clocks change."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from prefect_calendly.sandbox.slots import instant

EVERY_DAY = ("monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday")


def every_day(*intervals):
    spans = [{"from": opens, "to": closes} for opens, closes in intervals]
    return [{"type": "wday", "wday": day, "intervals": spans} for day in EVERY_DAY]


@pytest.fixture
def starts(api):
    """The open starts of an event type from a local midnight to another, as local clock times."""

    def read(event_type, day, zone, days=1):
        midnight = datetime.fromisoformat(day).replace(tzinfo=ZoneInfo(zone))
        end = (midnight.replace(tzinfo=None) + timedelta(days=days)).replace(tzinfo=ZoneInfo(zone))
        answer = api.get(
            "/event_type_available_times",
            event_type=event_type,
            start_time=midnight.astimezone(UTC).isoformat(),
            end_time=end.astimezone(UTC).isoformat(),
        )
        assert answer.status_code == 200, answer.text
        assert answer.json().keys() == {"collection"}
        moments = [datetime.fromisoformat(item["start_time"]) for item in answer.json()["collection"]]
        assert moments == sorted(moments)
        return [moment.astimezone(ZoneInfo(zone)).strftime("%d %H:%M%z") for moment in moments]

    return read


@pytest.mark.parametrize(
    ("path", "extra", "days"),
    [("/event_type_available_times", "event_type", 31), ("/user_busy_times", "user", 7)],
)
def test_windows_are_in_the_future_forward_and_not_too_long(api, details, path, extra, days):
    subject = {extra: api.event_type if extra == "event_type" else api.alice}
    start = datetime(2025, 3, 20, tzinfo=UTC)

    def ask(start_time, end_time):
        return api.get(path, start_time=start_time.isoformat(), end_time=end_time.isoformat(), **subject)

    assert ask(start, start + timedelta(days=days)).status_code == 200
    ((name, message),) = details(ask(start, start + timedelta(days=days, seconds=1)))
    assert name == "end_time"
    assert str(days) in message
    past = datetime(2025, 3, 13, tzinfo=UTC)
    assert details(ask(past, start)) == [("start_time", "start_time must be in the future")]
    assert details(ask(start, start)) == [("start_time", "start_time must be before end_time")]
    assert details(ask(start + timedelta(hours=1), start))[0][0] == "start_time"


def test_slots_step_by_the_duration_within_the_hours(api, starts):
    user = api.sandbox.add_user("Una", timezone="Asia/Kolkata", rules=every_day(("09:15", "10:45")))
    assert starts(user["event_type"], "2025-04-01", "Asia/Kolkata") == [
        "01 09:15+0530",
        "01 09:45+0530",
        "01 10:15+0530",
    ]


def test_bookings_and_other_calendars_take_slots_away(api, starts):
    user = api.sandbox.add_user("Una", timezone="UTC", rules=every_day(("09:00", "12:00")))
    host = user["uri"]
    api.sandbox.add_event("2025-04-01T09:30:00Z", host=host)
    api.sandbox.add_event("2025-04-01T10:00:00Z", host=host, status="canceled")
    api.sandbox.add_busy_time("2025-04-01T10:45:00Z", "2025-04-01T11:00:00Z", user=host)
    assert starts(user["event_type"], "2025-04-01", "UTC") == [
        "01 09:00+0000",
        "01 10:00+0000",
        "01 11:00+0000",
        "01 11:30+0000",
    ]


def test_date_rules_override_weekdays_and_may_close_a_day(api, starts):
    rules = [
        *every_day(("09:00", "10:00")),
        {"type": "date", "date": "2025-04-01", "intervals": []},
        {"type": "date", "date": "2025-04-02", "intervals": [{"from": "20:00", "to": "21:00"}]},
    ]
    user = api.sandbox.add_user("Una", timezone="UTC", rules=rules)
    assert starts(user["event_type"], "2025-04-01", "UTC", days=3) == [
        "02 20:00+0000",
        "02 20:30+0000",
        "03 09:00+0000",
        "03 09:30+0000",
    ]


def test_slots_that_have_begun_are_gone(api, starts):
    user = api.sandbox.add_user("Una", timezone="UTC", rules=every_day(("09:00", "10:30")))
    api.sandbox.set_clock("2025-04-01T09:10:00Z", frozen=True)
    answer = api.get(
        "/event_type_available_times",
        event_type=user["event_type"],
        start_time="2025-04-01T09:10:01Z",
        end_time="2025-04-01T12:00:00Z",
    )
    found = [item["start_time"] for item in answer.json()["collection"]]
    assert found == ["2025-04-01T09:30:00.000000Z", "2025-04-01T10:00:00.000000Z"]


def test_local_times_that_the_clocks_jump_over_are_no_slots(api, starts):
    # Berlin, 2025-03-30: 02:00 becomes 03:00.
    user = api.sandbox.add_user("Una", timezone="Europe/Berlin", rules=every_day(("01:00", "04:00")))
    assert starts(user["event_type"], "2025-03-30", "Europe/Berlin") == [
        "30 01:00+0100",
        "30 01:30+0100",
        "30 03:00+0200",
        "30 03:30+0200",
    ]


def test_an_opening_inside_the_jump_is_no_opening(api, starts):
    user = api.sandbox.add_user("Una", timezone="Europe/Berlin", rules=every_day(("02:00", "03:00")))
    assert starts(user["event_type"], "2025-03-30", "Europe/Berlin") == []
    late = api.sandbox.add_user("Ulf", timezone="Europe/Berlin", rules=every_day(("02:30", "04:00")))
    assert starts(late["event_type"], "2025-03-30", "Europe/Berlin") == ["30 03:00+0200", "30 03:30+0200"]


def test_an_hour_that_comes_twice_counts_twice_inside_an_opening(api, starts):
    # New York, 2025-11-02: 02:00 becomes 01:00.
    user = api.sandbox.add_user("Una", timezone="America/New_York", rules=every_day(("00:30", "02:30")))
    assert starts(user["event_type"], "2025-11-02", "America/New_York") == [
        "02 00:30-0400",
        "02 01:00-0400",
        "02 01:30-0400",
        "02 01:00-0500",
        "02 01:30-0500",
        "02 02:00-0500",
    ]


def test_half_an_hour_of_change_in_lord_howe(api, starts):
    # Lord Howe, 2025-10-05: 02:00 becomes 02:30.
    user = api.sandbox.add_user("Una", timezone="Australia/Lord_Howe", rules=every_day(("01:30", "03:30")))
    assert starts(user["event_type"], "2025-10-05", "Australia/Lord_Howe") == [
        "05 01:30+1030",
        "05 02:30+1100",
        "05 03:00+1100",
    ]


@given(
    zone=st.sampled_from(
        ["Europe/Berlin", "America/New_York", "Australia/Lord_Howe", "America/Sao_Paulo", "Asia/Kolkata"]
    ),
    day=st.dates(date(2015, 1, 1), date(2030, 12, 31)),
    minute=st.integers(0, 24 * 60 - 1),
)
def test_an_instant_is_the_first_moment_at_which_the_clock_shows_at_least_that_time(zone, day, minute):
    clock = f"{minute // 60:02}:{minute % 60:02}"
    moment = instant(day, clock, ZoneInfo(zone))
    local = datetime.combine(day, datetime.strptime(clock, "%H:%M").time())  # noqa: DTZ007
    shown = moment.astimezone(ZoneInfo(zone)).replace(tzinfo=None)
    a_moment_before = (moment - timedelta(seconds=1)).astimezone(ZoneInfo(zone)).replace(tzinfo=None)
    assert shown >= local > a_moment_before
    assert (
        shown == local
        or moment.astimezone(ZoneInfo(zone)).utcoffset()
        > (moment - timedelta(seconds=1)).astimezone(ZoneInfo(zone)).utcoffset()
    )


def test_round_robin_is_the_union_and_collective_the_intersection(api, starts):
    early = api.sandbox.add_user("Ed", timezone="UTC", rules=every_day(("09:00", "10:30")))["uri"]
    late = api.sandbox.add_user("Lea", timezone="UTC", rules=every_day(("10:00", "11:00")))["uri"]
    both = {"hosts": [early, late]}
    demo = api.sandbox.add_event_type("Demo", pooling="round_robin", locations=[], **both)
    panel = api.sandbox.add_event_type("Panel", pooling="collective", **both)
    assert starts(demo, "2025-04-01", "UTC") == [
        "01 09:00+0000",
        "01 09:30+0000",
        "01 10:00+0000",
        "01 10:30+0000",
    ]
    assert starts(panel, "2025-04-01", "UTC") == ["01 10:00+0000"]
    api.sandbox.add_event("2025-04-01T10:00:00Z", host=late)
    assert starts(panel, "2025-04-01", "UTC") == []
    assert "01 10:00+0000" in starts(demo, "2025-04-01", "UTC")


def test_busy_times_are_those_of_active_events_and_calendars_that_touch_the_window(api):
    host = api.sandbox.add_user("Una")["uri"]
    api.sandbox.add_event("2025-04-01T09:30:00Z", host=host)
    api.sandbox.add_event("2025-04-01T10:30:00Z", host=host, status="canceled")
    api.sandbox.add_event("2025-04-01T12:00:00Z", host=host)
    api.sandbox.add_busy_time("2025-04-01T11:00:00Z", "2025-04-01T11:15:00Z", user=host, type="reserved")
    window = {"start_time": "2025-04-01T09:45:00Z", "end_time": "2025-04-01T12:00:00Z"}
    busy = api.get("/user_busy_times", user=host, **window).json()["collection"]
    assert [(item["type"], item["start_time"][11:16]) for item in busy] == [
        ("calendly", "09:30"),
        ("reserved", "11:00"),
    ]
    assert busy[0].keys() - busy[1].keys() == {"buffered_start_time", "buffered_end_time", "event"}
