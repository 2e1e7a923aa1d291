"""The digest says who can be booked when: counted right, in any zone, across clock changes, whatever cannot be read."""

import base64
import contextlib
import json
import re
from collections import Counter
from collections.abc import AsyncIterator
from datetime import UTC, date, datetime, time, timedelta
from itertools import pairwise
from typing import Any
from xml.etree import ElementTree
from zoneinfo import ZoneInfo

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from prefect import get_client
from prefect.artifacts import Artifact
from prefect.blocks.system import Secret
from pydantic import SecretStr, ValidationError

import flows.availability_digest as module
from flows.availability_digest import (
    DigestReport,
    DigestRequest,
    DigestUnreadableError,
    artifact_key,
    availability_digest,
    from_now_on,
)
from prefect_calendly import CalendlyCredentials
from prefect_calendly.availability import AvailabilitySchedule
from prefect_calendly.client import RequestMeter
from prefect_calendly.client.errors import (
    BadRequestError,
    CalendlyTokenError,
    GatewayKeyError,
    NotFoundError,
    RoleRequiredError,
)
from prefect_calendly.digest.heat_map import DAYS, Tile
from prefect_calendly.digest.model import Busy, Changes, Digest, Host, Offer, Problem, build_digest, compare
from prefect_calendly.digest.page import digest_markdown, open_slots_of_table, table_rows, tile
from prefect_calendly.digest.time import (
    day_bounds,
    free_per_part,
    half_day_bounds,
    instant,
    merged,
    openings,
    slots_per_part,
    time_per_part,
)
from prefect_calendly.invitees import create_invitee_via
from prefect_calendly.runs.notifications import FAILED_KEY
from prefect_calendly.runs.progress import Steps, progress
from prefect_calendly.sandbox import Sandbox
from prefect_calendly.scheduled_events import cancel_scheduled_event_via
from tests.conftest import credentials_for
from tests.flows.conftest import Receiver, artifact, form_errors

ALICE = "AAAAAAAAAAAAAAAA"
API = "https://api.calendly.com"
ZONES = [
    "UTC",
    "Europe/Berlin",
    "America/New_York",
    "Australia/Lord_Howe",  # its clocks change by half an hour
    "Asia/Kolkata",
    "Africa/Cairo",  # its clocks change at midnight
    "Pacific/Kiritimati",
]
zones = st.sampled_from(ZONES)
WEEKDAYS = ("monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday")
days_of_2026 = st.dates(date(2026, 1, 1), date(2026, 12, 1))
spring = date(2026, 3, 29)  # 23 hours in Berlin
autumn = date(2026, 10, 25)  # 25 hours in Berlin
BERLIN = ZoneInfo("Europe/Berlin")
NOW = datetime(2026, 3, 2, 8, 0, tzinfo=UTC)  # a Monday
MONDAY = NOW.date()


def utc(day: int, hour: int, minute: int = 0, month: int = 3) -> datetime:
    return datetime(2026, month, day, hour, minute, tzinfo=UTC)


def minutes(count: float) -> timedelta:
    return timedelta(minutes=count)


def schedule(timezone: str = "UTC", default: bool = True, **rules: list[tuple[str, str]]) -> AvailabilitySchedule:
    """`schedule(monday=[("09:00", "17:00")], d2026_03_02=[])`."""
    parsed = []
    for name, intervals in rules.items():
        kind = {"type": "wday", "wday": name}
        if name.startswith("d2"):
            kind = {"type": "date", "date": name[1:].replace("_", "-")}
        parsed.append({**kind, "intervals": [{"from": opens, "to": closes} for opens, closes in intervals]})
    return AvailabilitySchedule.model_validate(
        {"uri": f"{API}/s/1", "default": default, "user": f"{API}/users/A", "timezone": timezone, "rules": parsed}
    )


def every_day(opens: str, closes: str, timezone: str) -> AvailabilitySchedule:
    return schedule(timezone, **{day: [(opens, closes)] for day in WEEKDAYS})


# Time


@pytest.mark.parametrize(
    ("day", "clock", "zone", "expected"),
    [
        (date(2026, 1, 1), 9 * 60, "Europe/Berlin", utc(1, 8, month=1)),
        (spring, 0, "Europe/Berlin", utc(28, 23)),
        (spring, 150, "Europe/Berlin", utc(29, 1)),  # 02:30 does not exist: the jump from 02:00 to 03:00
        (spring, 180, "Europe/Berlin", utc(29, 1)),
        (autumn, 150, "Europe/Berlin", utc(25, 0, 30, month=10)),  # 02:30 comes twice: the first
        (autumn, 1440, "Europe/Berlin", utc(25, 23, month=10)),
        (date(2026, 10, 4), 130, "Australia/Lord_Howe", utc(3, 15, 30, month=10)),  # 02:10 is jumped over
        (date(2026, 4, 24), 0, "Africa/Cairo", utc(23, 22, month=4)),  # there is no midnight
    ],
)
def test_a_clock_time_becomes_the_instant_at_which_the_clock_shows_it(
    day: date, clock: int, zone: str, expected: datetime
) -> None:
    assert instant(day, clock, ZoneInfo(zone)) == expected


@given(days_of_2026, st.integers(1, 31), zones)
def test_days_follow_each_other_and_last_as_long_as_the_clocks_say(first: date, days: int, zone: str) -> None:
    bounds = day_bounds(first, days, ZoneInfo(zone))
    assert len(bounds) == days + 1
    lengths = {(later - earlier) / timedelta(hours=1) for earlier, later in pairwise(bounds)}
    assert lengths <= {23, 23.5, 24, 24.5, 25}
    for number, bound in enumerate(bounds):
        assert bound.astimezone(ZoneInfo(zone)).date() == first + timedelta(days=number)
        assert (bound - timedelta(seconds=1)).astimezone(ZoneInfo(zone)).date() < first + timedelta(days=number)


moments = st.integers(0, 40 * 24 * 12).map(lambda steps: utc(15, 0) + minutes(5 * steps))
spans = st.lists(st.tuples(moments, moments), max_size=12)


@given(spans)
def test_merged_spans_are_apart_and_hold_the_same_time(some: list[tuple[datetime, datetime]]) -> None:
    result = merged(some)
    assert all(earlier[1] < later[0] for earlier, later in pairwise(result))

    def steps(of: list[tuple[datetime, datetime]]) -> set[datetime]:
        return {start + minutes(5 * n) for start, end in of for n in range(max(0, (end - start) // minutes(5)))}

    assert steps(result) == steps(some)
    assert sum((end - start for start, end in result), timedelta()) == minutes(5) * len(steps(some))


@given(spans, st.dates(date(2026, 3, 20), date(2026, 4, 10)), st.integers(1, 20), zones)
def test_time_per_day_never_exceeds_the_day_and_adds_up_to_that_of_the_span(
    some: list[tuple[datetime, datetime]], first: date, days: int, zone: str
) -> None:
    bounds = day_bounds(first, days, ZoneInfo(zone))
    per_day = time_per_part(some, bounds)
    lengths = [later - earlier for earlier, later in pairwise(bounds)]
    assert all(timedelta() <= covered <= length for covered, length in zip(per_day, lengths, strict=True))
    assert [sum(per_day, timedelta())] == time_per_part(some, [bounds[0], bounds[-1]])
    assert time_per_part([(bounds[0], bounds[-1])], bounds) == lengths


@given(days_of_2026, st.integers(1, 10), zones)
def test_half_days_part_each_day_at_the_noon_of_its_clocks(first: date, days: int, zone: str) -> None:
    bounds = half_day_bounds(first, days, ZoneInfo(zone))
    assert bounds[::2] == day_bounds(first, days, ZoneInfo(zone))
    for number, noon in enumerate(bounds[1::2]):
        clock = noon.astimezone(ZoneInfo(zone))
        assert (clock.date(), clock.time()) == (first + timedelta(days=number), time(12))
    assert bounds == sorted(set(bounds))
    assert {later - earlier for earlier, later in pairwise(bounds)} <= {minutes(30 * half) for half in range(22, 27)}


@given(spans, spans, st.dates(date(2026, 3, 20), date(2026, 4, 10)), st.integers(1, 20), zones)
def test_what_is_free_is_what_of_the_hours_is_not_busy_and_is_counted_once(
    hours: list[tuple[datetime, datetime]], busy: list[tuple[datetime, datetime]], first: date, days: int, zone: str
) -> None:
    def steps(of: list[tuple[datetime, datetime]]) -> set[datetime]:
        return {start + minutes(5 * n) for start, end in of for n in range(max(0, (end - start) // minutes(5)))}

    bounds = half_day_bounds(first, days, ZoneInfo(zone))
    free = steps(hours) - steps(busy)
    expected = [minutes(5) * sum(earlier <= step < later for step in free) for earlier, later in pairwise(bounds)]
    assert free_per_part(hours, busy, bounds) == expected


@given(st.lists(moments, max_size=50), st.dates(date(2026, 3, 20), date(2026, 4, 10)), st.integers(1, 20), zones)
def test_slots_add_up_and_lie_on_the_day_that_the_zone_says(
    slots: list[datetime], first: date, days: int, zone: str
) -> None:
    expected = Counter(slot.astimezone(ZoneInfo(zone)).date() for slot in slots)
    counts = slots_per_part(slots, day_bounds(first, days, ZoneInfo(zone)))
    assert counts == [expected[first + timedelta(days=number)] for number in range(days)]


@given(st.lists(moments, max_size=50, unique=True), zones, zones)
def test_another_zone_of_the_digest_never_loses_a_slot(slots: list[datetime], one: str, other: str) -> None:
    digests = [digest_of({"T": slots}, timezone=zone, first_day=date(2026, 3, 13), days=50) for zone in (one, other)]
    assert [digest.open_slots for digest in digests] == [len(slots)] * 2
    assert digests[0].next_free == digests[1].next_free == min(slots, default=None)


@given(days_of_2026, st.integers(0, 23), st.integers(1, 24), zones, zones)
def test_working_hours_of_another_zone_are_the_hours_in_which_its_clocks_show_them(
    first: date, opens: int, closes: int, own_zone: str, zone: str
) -> None:
    own = ZoneInfo(own_zone)
    bounds = day_bounds(first, 3, ZoneInfo(zone))
    found = openings(every_day(f"{opens:02}:00", f"{closes:02}:00", own_zone), bounds[0], bounds[-1])
    at = bounds[0]
    while at < bounds[-1]:
        local = at.astimezone(own)
        # An hour that the clock shows twice is open from its first time on: leave those days to the examples.
        if day_bounds(local.date(), 1, own)[1] - day_bounds(local.date(), 1, own)[0] <= timedelta(days=1):
            assert any(start <= at < end for start, end in found) == (opens <= local.hour < closes), local
        at += minutes(30)


@pytest.mark.parametrize(
    ("hours", "day", "expected"),
    [
        (("00:00", "24:00"), spring, 23),
        (("00:00", "00:00"), spring, 23),
        (("00:00", "24:00"), autumn, 25),
        (("02:30", "05:00"), spring, 2),  # begins within the hour that is left out
        (("01:00", "02:30"), spring, 1),
        (("02:10", "02:50"), spring, 0),
        (("01:00", "05:00"), autumn, 5),
        (("9:00", "17:00:00"), spring, 8),
        (("17:00", "09:00"), spring, 0),
    ],
)
def test_working_hours_are_right_when_the_clocks_change(hours: tuple[str, str], day: date, expected: float) -> None:
    bounds = day_bounds(day, 1, BERLIN)
    [length] = time_per_part(openings(every_day(*hours, "Europe/Berlin"), *bounds), bounds)
    assert length == timedelta(hours=expected)


def test_a_date_overrides_its_weekday_and_intervals_of_one_day_add_up() -> None:
    rules = schedule(
        monday=[("09:00", "12:00"), ("11:00", "13:00"), ("15:00", "16:00")],
        d2026_03_09=[],
        d2026_03_10=[("08:00", "09:00")],
    )
    bounds = day_bounds(MONDAY, 15, ZoneInfo("UTC"))
    worked = time_per_part(openings(rules, bounds[0], bounds[-1]), bounds)
    assert {day: length for day, length in enumerate(worked) if length} == {
        0: timedelta(hours=5),
        8: timedelta(hours=1),
        14: timedelta(hours=5),
    }


def test_rules_of_a_type_that_calendly_may_add_are_left_alone() -> None:
    rules = schedule(monday=[("09:00", "10:00")])
    unknown = rules.rules[0].model_copy(update={"type": "lunar", "wday": None})
    changed = rules.model_copy(update={"rules": (*rules.rules, unknown)})
    assert openings(changed, NOW, NOW + timedelta(days=1)) == [(utc(2, 9), utc(2, 10))]


# The digest, of plain data


def digest_of(
    slots: dict[str, list[datetime]],
    *,
    offers: dict[str, list[Offer]] | None = None,
    hosts: tuple[Host, ...] = (Host("A", "Ada"),),
    busy: dict[str, list[Busy]] | None = None,
    schedules: dict[str, list[AvailabilitySchedule]] | None = None,
    first_day: date = MONDAY,
    days: int = 3,
    timezone: str = "UTC",
    now: datetime = NOW,
    problems: tuple[Problem, ...] = (),
) -> Digest:
    return build_digest(
        hosts,
        {"A": [Offer(uuid, f"Type {uuid}", 30) for uuid in slots]} if offers is None else offers,
        slots,
        busy or {},
        schedules or {},
        first_day=first_day,
        days=days,
        timezone=timezone,
        now=now,
        problems=problems,
    )


def test_slots_are_counted_by_day_and_event_type_from_now_on() -> None:
    first = [utc(2, 7, 59), utc(2, 9), utc(2, 9), utc(4, 23, 30), utc(5, 0)]
    digest = digest_of({"T": first, "U": [utc(2, 8), utc(3, 12)]})
    [ada] = digest.hosts
    assert [dict(day.slots) for day in ada.days] == [{"T": 1, "U": 1}, {"T": 0, "U": 1}, {"T": 1, "U": 0}]
    assert digest.open_slots == ada.open_slots == 4
    assert ada.next_free == digest.next_free == utc(2, 8)
    assert ada.complete
    assert not ada.nothing_open


def test_busy_time_is_told_by_kind_without_overlaps_and_cut_at_midnight_of_the_zone() -> None:
    stretches = [
        Busy("calendly", utc(2, 10), utc(2, 11)),
        Busy("calendly", utc(2, 10, 30), utc(2, 11, 30)),
        Busy("external", utc(2, 22), utc(3, 1)),  # Berlin's midnight is 23:00
        Busy("reserved", utc(2, 7), utc(2, 9)),  # from now on
        Busy("focus", utc(4, 10), utc(4, 11)),
    ]
    digest = digest_of({}, busy={"A": stretches}, timezone="Europe/Berlin")
    busy = [day.busy or {} for day in digest.hosts[0].days]
    assert [day["calendly"] for day in busy] == [minutes(90), minutes(0), minutes(0)]
    assert [day["external"] for day in busy] == [minutes(60), minutes(120), minutes(0)]
    assert [day["reserved"] for day in busy] == [minutes(60), minutes(0), minutes(0)]
    assert [day["focus"] for day in busy] == [minutes(0), minutes(0), minutes(60)]
    assert [row["busy_other"] for row in table_rows(digest)] == [0, 0, 1]


def test_working_hours_are_those_of_the_default_schedule_cut_into_the_days_of_the_digest() -> None:
    other = schedule(default=False, tuesday=[("00:00", "24:00")])
    own = schedule("Asia/Kolkata", tuesday=[("00:00", "10:00")])  # Monday 18:30 to Tuesday 04:30 UTC
    digest = digest_of({}, schedules={"A": [other, own]})
    assert [day.working for day in digest.hosts[0].days] == [minutes(330), minutes(270), minutes(0)]


@pytest.mark.parametrize(
    ("broken", "why"),
    [
        (schedule("Mars/Base", monday=[("09:00", "17:00")]), "its time zone is unknown here"),
        (schedule("../etc", monday=[("09:00", "17:00")]), "its time zone is unknown here"),
        (schedule(monday=[("nine", "17:00")]), "its hours are no times of the form hh:mm"),
        (schedule(monday=[("09:00", "25:00")]), "its hours are no times of the form hh:mm"),
    ],
)
def test_a_schedule_that_makes_no_sense_is_said_and_hides_nothing_else(broken: AvailabilitySchedule, why: str) -> None:
    digest = digest_of({"T": [utc(2, 9)]}, schedules={"A": [broken]})
    assert digest.problems == (Problem("working hours of Ada", why),)
    assert digest.hosts[0].days[0].working is None
    assert digest.open_slots == 1


def test_a_round_robin_slot_counts_for_the_hosts_who_can_take_it_and_once_in_all() -> None:
    slots = {"R": [utc(2, 9), utc(2, 10), utc(2, 11), utc(2, 12)]}
    round_robin = [Offer("R", "Demo", 30, any_of_the_hosts=True)]
    hosts = tuple(Host(name, name) for name in "ABCD")
    digest = digest_of(
        slots,
        hosts=hosts,
        offers={host.uuid: round_robin for host in hosts},
        busy={
            "A": [Busy("external", utc(2, 8), utc(2, 9, 15)), Busy("calendly", utc(2, 11, 29), utc(2, 11, 31))],
            "B": [Busy("external", utc(1, 0), utc(9, 0))],
            "C": [Busy("external", utc(2, 9, 30), utc(2, 10))],
        },
        schedules={"C": [schedule(monday=[("09:00", "11:15")]), schedule(default=False, monday=[("12:00", "12:29")])]},
    )
    assert [host.open_slots for host in digest.hosts] == [2, 0, 2, 4]
    assert [host.next_free for host in digest.hosts] == [utc(2, 10), None, utc(2, 9), utc(2, 9)]
    assert digest.open_slots == 4
    assert [host.host.uuid for host in digest.nothing_open] == ["B"]


def test_what_could_not_be_read_is_never_told_as_nothing_open() -> None:
    hosts = tuple(Host(name, name) for name in "ABC")
    offers = {"A": [Offer("T", "T", 30), Offer("U", "U", 30)], "B": []}
    digest = digest_of({"T": []}, hosts=hosts, offers=offers)
    assert [host.complete for host in digest.hosts] == [False, True, False]
    assert [host.host.uuid for host in digest.nothing_open] == ["B"]
    rows = table_rows(digest)
    assert [row["open_slots"] for row in rows[::3]] == [0, 0, None]
    assert [row["complete"] for row in rows[::3]] == [False, True, False]
    shown = digest_markdown(digest, None, "key", RequestMeter(), 1)
    assert "| A | – | 0+ |" in shown
    assert "| C | – | ? |" in shown
    assert "| C | – | ? | ? | ? |" in shown
    assert "Nobody." not in shown
    lost = digest_of({}, hosts=hosts[2:], offers={})
    assert "Nobody whose slots could all be read." in digest_markdown(lost, None, "key", RequestMeter(), 1)


# Half-days, and the heat map of them


@given(
    st.lists(moments, max_size=40, unique=True),
    spans,
    st.dates(date(2026, 3, 24), date(2026, 4, 2)),
    moments,
    zones,
    zones,
)
def test_a_half_day_has_its_slots_and_its_free_share_in_any_zone_from_now_on(
    slots: list[datetime],
    busy: list[tuple[datetime, datetime]],
    first: date,
    now: datetime,
    zone: str,
    own_zone: str,
) -> None:
    local = ZoneInfo(zone)
    digest = digest_of(
        {"T": slots},
        busy={"A": [Busy("external", *span) for span in busy]},
        schedules={"A": [every_day("09:00", "17:00", own_zone)]},
        first_day=first,
        days=8,
        timezone=zone,
        now=now,
    )
    expected = Counter((at.astimezone(local).date(), at.astimezone(local).hour >= 12) for at in slots if at >= now)
    for day in digest.hosts[0].days:
        for after_noon, half in enumerate(day.halves):
            assert half.open_slots == expected[day.date, bool(after_noon)]
            end = instant(day.date, 24 * 60 if after_noon else 12 * 60, local)
            assert half.is_over == (end <= now)
            assert half.working is not None
            assert half.free is not None
            assert timedelta() <= half.free <= half.working <= minutes(12.5 * 60)
            if half.free_share is None:
                assert half.working == timedelta()
            else:
                assert 0 <= half.free_share <= 1
        assert sum((half.working or timedelta() for half in day.halves), timedelta()) == day.working


@pytest.mark.parametrize(("day", "before_noon"), [(spring, 11), (autumn, 13), (MONDAY, 12)])
def test_the_half_day_in_which_the_clocks_change_is_as_long_as_they_say(day: date, before_noon: int) -> None:
    digest = digest_of(
        {},
        schedules={"A": [every_day("00:00", "24:00", "Europe/Berlin")]},
        busy={"A": [Busy("external", instant(day, 180, BERLIN), instant(day, 12 * 60, BERLIN))]},
        first_day=day,
        days=1,
        timezone="Europe/Berlin",
        now=utc(1, 0, month=1),
    )
    before, after = digest.hosts[0].days[0].halves
    assert (before.working, after.working) == (timedelta(hours=before_noon), timedelta(hours=12))
    assert (before.free, after.free) == (timedelta(hours=before_noon - 9), timedelta(hours=12))


def test_time_in_which_two_things_make_a_host_busy_is_lost_once_and_busy_time_off_work_not_at_all() -> None:
    digest = digest_of(
        {},
        schedules={"A": [every_day("08:00", "12:00", "UTC")]},
        busy={
            "A": [
                Busy("calendly", utc(3, 9), utc(3, 11)),
                Busy("external", utc(3, 10), utc(3, 11, 30)),
                Busy("external", utc(3, 14), utc(3, 20)),
                Busy("reserved", utc(3, 6), utc(3, 8)),
            ]
        },
    )
    before, after = digest.hosts[0].days[1].halves
    assert (before.working, before.free, before.free_share) == (minutes(240), minutes(90), 0.375)
    assert (after.working, after.free, after.free_share) == (minutes(0), minutes(0), None)


def tiles_of(digest: Digest, host: int = 0, day: int = 0) -> list[Tile]:
    entry = digest.hosts[host]
    return [tile(entry, half) for half in entry.days[day].halves]


@pytest.mark.parametrize(
    ("busy_minutes", "look"),
    [(0, "free"), (48, "free"), (49, "airy"), (97, "half"), (145, "busy"), (193, "full"), (240, "full")],
)
def test_a_tile_is_coloured_by_what_is_free_of_the_working_hours(busy_minutes: int, look: str) -> None:
    digest = digest_of(
        {"T": [utc(3, 11, 45), utc(3, 12)]},
        schedules={"A": [every_day("08:00", "12:00", "UTC")]},
        busy={"A": [Busy("external", utc(3, 8), utc(3, 8) + minutes(busy_minutes))]},
    )
    assert tiles_of(digest, day=1) == [Tile(look, "1"), Tile("closed", "1")]  # type: ignore[arg-type]


def test_tiles_tell_apart_what_is_over_closed_and_unreadable() -> None:
    hosts = tuple(Host(name, name) for name in "ABCDE")
    work = [every_day("13:00", "17:00", "UTC")]
    digest = digest_of(
        {"T": [utc(2, 14)], "U": [utc(2, 14)]},
        hosts=hosts,
        offers={name: [Offer("T", "T", 30)] for name in "ABC"} | {"D": [Offer("U", "U", 30), Offer("X", "X", 30)]},
        busy={name: [] for name in "ABDE"},
        schedules={"A": work, "C": work, "D": work, "E": [schedule()]},
        now=utc(2, 12),
    )
    assert [tiles_of(digest, number) for number in range(5)] == [
        [Tile("nothing", ""), Tile("free", "1")],
        [Tile("nothing", ""), Tile("unknown", "1")],  # no hours
        [Tile("nothing", ""), Tile("unknown", "1")],  # no busy times
        [Tile("nothing", ""), Tile("free", "1+")],  # not all slots
        [Tile("nothing", ""), Tile("closed", "?")],  # no slots at all
    ]
    assert tiles_of(digest, day=1) == [Tile("closed", "–"), Tile("free", "0")]


def pictures(markdown: str) -> list[ElementTree.Element]:
    """The pictures that a page holds."""
    found = re.findall(r"!\[[^\[\]]+\]\(data:image/svg\+xml;base64,([A-Za-z0-9+/=]+)\)", markdown)
    assert len(found) == markdown.count("](data:")
    return [ElementTree.fromstring(base64.b64decode(code)) for code in found]


def texts_of(picture: ElementTree.Element) -> list[str]:
    return [str(element.text) for element in picture.iter("{http://www.w3.org/2000/svg}text")]


@pytest.mark.parametrize(("days", "weeks"), [(1, [1]), (7, [7]), (9, [7, 2]), (14, [7, 7]), (62, [7, 7])])
def test_the_page_shows_a_heat_map_for_each_of_the_first_two_weeks(days: int, weeks: list[int]) -> None:
    hosts = (Host("A", "Ada"), Host("B", "Bo"))
    digest = digest_of(
        {"T": [utc(2, 9) + timedelta(days=number) for number in range(days) for _ in range(2)]},
        hosts=hosts,
        offers={"A": [Offer("T", "T", 30)], "B": []},
        busy={"A": [], "B": []},
        schedules={host.uuid: [every_day("09:00", "17:00", "UTC")] for host in hosts},
        days=days,
    )
    shown = pictures(digest_markdown(digest, None, "key", RequestMeter(), 1))
    assert len(shown) == len(weeks)
    for first, (picture, length) in zip(range(0, 14, DAYS), zip(shown, weeks, strict=True), strict=False):
        texts = texts_of(picture)
        assert [text for text in texts if text.isalpha() and text not in ("full", "free")] == ["Bo", "Ada"] + [
            f"{digest.days[first + number]:%a}" for number in range(length)
        ]
        # Before noon Ada has one slot a day; after noon, and for Bo, there are none.
        tiles = Counter(text for text in texts if text in ("0", "1"))
        assert tiles["1"] - ("1" in [f"{day.day}" for day in digest.days[first + 1 : first + length]]) == length
        assert tiles["0"] == 3 * length


def test_without_hosts_there_is_no_heat_map() -> None:
    digest = digest_of({}, hosts=(), offers={}, problems=(Problem("hosts[0]", "NotFoundError."),))
    shown = digest_markdown(digest, None, "key", RequestMeter(), 1)
    assert pictures(shown) == []
    assert "1 thing could not be read; see the end." in shown


def test_no_word_of_the_page_is_wider_than_a_phone() -> None:
    hosts = (Host("A", "W" * 300), Host("B", "Anne-Marie " + r"\_" * 50))
    digest = digest_of({"T": [utc(3, 9)]}, hosts=hosts, offers={"A": [Offer("T", "x" * 90, 30)], "B": []})
    changes = Changes(NOW, hosts, (), ((hosts[0], 1),))
    shown = digest_markdown(digest, changes, "key", RequestMeter(), 1)
    for line in re.sub(r"!\[.*?\]\(.*?\)", "", shown).splitlines():
        longest = max((re.sub(r"\\(.)", r"\1", word) for word in re.split(r"[\s\u200b]", line)), key=len)
        assert len(longest) <= (10 if line.startswith("|") else 22 + len(":")), line
    assert shown.replace("\u200b", "").count("W" * 300) == 5


# Changes


def previous_of(digest: Digest) -> dict[str, dict[str, int]]:
    return open_slots_of_table(json.dumps(table_rows(digest)))


def test_changes_are_those_of_days_in_both_digests_without_today() -> None:
    hosts = tuple(Host(name, name) for name in "ABCDEF")
    own = {name: [Offer(name, name, 30)] for name in "ABCDEF"}
    unreadable = [Offer("X", "X", 30)]
    before = digest_of(
        {"A": [utc(3, 9)], "B": [], "C": [utc(2, 9), utc(3, 9), utc(3, 10)], "D": [utc(3, 9)], "E": []},
        hosts=hosts[:5],
        offers={**own, "E": own["E"] + unreadable},
    )
    after = digest_of(
        {
            "A": [],
            "B": [utc(5, 9)],
            "C": [utc(3, 9), utc(3, 10), utc(4, 9), utc(5, 9)],
            "D": [],
            "E": [utc(3, 9)],
            "F": [],
        },
        hosts=hosts,
        offers={**own, "D": own["D"] + unreadable},
        first_day=date(2026, 3, 3),
        now=utc(2, 20),
    )
    changes = compare(after, previous_of(before), NOW)
    assert changes == Changes(NOW, closed=(hosts[0],), reopened=(hosts[1],), moved=((hosts[0], -1), (hosts[2], 1)))
    same = compare(before, previous_of(before), NOW)
    assert same == Changes(NOW, (), (), ())
    assert "No changes. Compared with the digest of Mon 2 Mar 09:00." in digest_markdown(
        digest_of({}, timezone="Europe/Berlin"), same, "key", RequestMeter(), 1
    )


def test_hours_that_have_passed_today_are_no_change() -> None:
    slots = {"T": [utc(2, 9), utc(2, 15), utc(3, 9)]}
    before, after = digest_of(slots), digest_of(slots, now=utc(2, 12))
    assert (before.open_slots, after.open_slots) == (3, 2)
    assert compare(after, previous_of(before), NOW).moved == ()


@pytest.mark.parametrize("data", [None, "", "{", "{}", "[1]", [{"host_uuid": "A"}], '[{"complete": true}]', 3])
def test_a_table_of_something_else_is_read_as_nothing(data: Any) -> None:
    assert open_slots_of_table(data) == {}


def test_the_key_is_that_of_the_request_not_of_today_or_its_spelling() -> None:
    base = DigestRequest(hosts=("B", "A"))
    key = artifact_key("u", base)
    assert key.startswith("availability-digest-")
    assert set(key) <= set("abcdefghijklmnopqrstuvwxyz0123456789-")
    tomorrow = datetime.now(UTC).date() + timedelta(days=1)
    assert artifact_key("u", DigestRequest(hosts=(f"{API}/users/A", "B"), notify="a/b")) == key
    others = [
        artifact_key("v", base),
        artifact_key("u", DigestRequest(hosts=("A",))),
        artifact_key("u", DigestRequest(scope="organization")),
        artifact_key("u", DigestRequest(hosts=("B", "A"), first_day=tomorrow)),
        artifact_key("u", DigestRequest(hosts=("B", "A"), days=6)),
        artifact_key("u", DigestRequest(hosts=("B", "A"), timezone="Europe/Berlin")),
        artifact_key("u", DigestRequest(hosts=("B", "A"), event_types=("T",))),
    ]
    assert len({key, *others}) == 8


# What is shown


def test_markdown_tells_when_the_clocks_change_and_leaves_late_days_to_the_table() -> None:
    slots = [utc(28, 12) + timedelta(days=number) for number in range(20)]
    digest = digest_of({"T": slots}, first_day=spring - timedelta(days=1), days=20, timezone="Europe/Berlin")
    shown = digest_markdown(digest, None, "the-key", RequestMeter(3, 1, 0.25, limit=500, least_left=497), 4)
    assert "The clocks change: Sun 29 Mar has 23 hours." in shown
    assert shown.count("The clocks change") == 1
    assert "Fri 10 Apr" in shown
    assert "Sat 11 Apr" not in shown
    assert "The later days are in the table artifact `the-key`." in shown
    assert "| Ada | Sat 28 Mar 13:00 | 20 |" in shown
    assert "First digest: nothing to compare with yet." in shown
    cost = "3 requests, 1 of them repeats; 4.0 s, 0.2 s of it waiting for limits"
    assert f"Cost: {cost}; at the least, 497 of Calendly's 500 requests a minute were left." in shown
    assert "Today counts" not in shown
    assert "## Nothing open\n\nNobody.\n" in shown


def test_names_can_put_no_markup_into_the_artifacts() -> None:
    evil = Host("A", "[x](http://evil) | <b>*A*\n# B")
    offer = Offer("T", "`T` | _U_", 30, owner="~O~")
    digest = digest_of(
        {"T": []}, hosts=(evil, Host("B", "B")), offers={"A": [offer], "B": []}, problems=(Problem(evil.name, "no|pe"),)
    )
    changes = Changes(NOW, (evil,), (evil,), ((evil, -2),))
    shown = digest_markdown(digest, changes, "key", RequestMeter(), 1)
    safe = r"\[x\](http://evil) \| \<b\>\*A\* \# B"
    safe = safe.replace("://", ":\u200b//")  # no link is made of it either
    assert shown.count(evil.name.split("\n")[0]) == 0
    assert f"- {safe}: nothing open any more" in shown
    assert f"- {safe}: open again" in shown
    assert f"- {safe}: -2" in shown
    assert rf"- {safe}: no\|pe" in shown
    assert r"| \`T\` \| \_U\_ (\~O\~) | 0 |" in shown
    assert table_rows(digest)[0]["host"] == "[x](http://evil) | <b>*A* # B"  # shown as it is
    assert "://" not in shown
    [picture] = pictures(shown)
    assert "[x](http://ev" in texts_of(picture)
    assert {element.tag.rpartition("}")[2] for element in picture.iter()} == {
        "svg",
        "title",
        "style",
        "g",
        "path",
        "text",
    }


def test_a_thousand_hosts_are_all_in_the_table_and_fifty_in_the_markdown() -> None:
    hosts = tuple(Host(f"H{number}", f"Host {number:04}") for number in range(1000))
    slots = {f"T{number}": [utc(2 + day, 9) for day in range(number % 7)] for number in range(1000)}
    offers = {host.uuid: [Offer(f"T{number}", "Call", 30)] for number, host in enumerate(hosts)}
    digest = digest_of(slots, hosts=hosts, offers=offers, days=7)
    assert len(table_rows(digest)) == 7000
    assert sum(row["open_slots"] for row in table_rows(digest)) == digest.open_slots
    shown = digest_markdown(digest, None, "key", RequestMeter(), 1)
    assert (
        "Only 50 of the 1000 hosts are shown here, fewest open slots first; the table artifact `key` has all." in shown
    )
    assert "- Host 0000\n" in shown
    assert "- and 93 more\n" in shown
    assert "| Host 0000 | – | 0 |" in shown
    assert "| Host 0001 |" not in shown
    text = re.sub(r"!\[.*?\]\(.*?\)", "", shown)
    assert len(text) < 30_000
    assert len(shown) < 75_000  # a picture of 50 hosts and a week


# Asking from now on


async def test_a_span_is_asked_for_from_shortly_after_now_and_not_at_all_when_it_is_past() -> None:
    asked: list[datetime] = []

    async def ask(begin: datetime) -> list[int]:
        asked.append(begin)
        return [1]

    now = datetime.now(UTC)
    assert await from_now_on(ask, now - timedelta(hours=9), now + timedelta(hours=1)) == [1]
    assert now + minutes(1) <= asked[0] < now + minutes(2)
    assert await from_now_on(ask, now + timedelta(hours=2), now + timedelta(hours=3)) == [1]
    assert asked[1] == now + timedelta(hours=2)
    assert await from_now_on(ask, now - timedelta(hours=9), now) == []
    assert await from_now_on(ask, now - timedelta(hours=9), now + timedelta(seconds=30)) == []
    assert len(asked) == 2


async def test_a_request_that_waited_until_its_start_had_passed_is_made_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_MARGIN", timedelta())
    asked: list[datetime] = []

    async def ask(begin: datetime) -> list[int]:
        asked.append(begin)
        if len(asked) < refusals:
            raise BadRequestError("start_time must be in the future")
        return [1]

    refusals = 3
    start, end = datetime.now(UTC), datetime.now(UTC) + timedelta(hours=1)
    assert await from_now_on(ask, start, end) == [1]
    assert asked == sorted(set(asked))
    asked, refusals = [], 99
    with pytest.raises(BadRequestError):
        await from_now_on(ask, start, end)
    assert len(asked) == 3
    asked = []
    with pytest.raises(BadRequestError):  # refused for another reason
        await from_now_on(ask, end, end + timedelta(hours=1))
    assert len(asked) == 1


# What is asked for


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("timezone", "Mars/Base"),
        ("days", 0),
        ("days", 63),
        ("hosts", ["a", "../x"]),
        ("hosts", [""]),
        ("hosts", [f"{API}/event_types/AAAA"]),
        ("hosts", ["someone@nowhere"]),
        ("hosts", ["a@b.example, c@d.example"]),
        ("scope", "everybody"),
        ("event_types", [f"{API}/users/AAAA"]),
        ("first_day", "2020-01-01"),
        ("first_day", "9999-12-31"),
        ("notify", "no block"),
        ("time_zone", "UTC"),
    ],
)
def test_a_bad_field_is_refused_by_its_name_and_not_shown(field: str, value: Any) -> None:
    with pytest.raises(ValidationError) as refused:
        DigestRequest.model_validate({field: value})
    assert refused.value.errors()[0]["loc"][0] == field
    assert "nowhere" not in str(refused.value)


@pytest.mark.parametrize(
    ("field", "value", "said"),
    [
        ("timezone", "Mars/Base", "is not one of ['Africa/Abidjan', "),
        ("days", 63, "63 is greater than the maximum of 62"),
        ("hosts", ["a", "../x"], "use a user's URI, uuid or e-mail address"),
        ("hosts", [""], "use a user's URI, uuid or e-mail address"),
        ("hosts", [f"{API}/event_types/AAAA"], "use a user's URI, uuid or e-mail address"),
        ("hosts", ["someone@nowhere"], "use a user's URI, uuid or e-mail address"),
        ("hosts", ["a@b.example, c@d.example"], "use a user's URI, uuid or e-mail address"),
        ("scope", "everybody", "is not one of ['hosts', 'organization']"),
        ("event_types", [f"{API}/users/AAAA"], "use an event type's URI or uuid"),
        ("notify", "no block", "use type/name, such as slack-webhook/ops"),
    ],
)
def test_the_form_refuses_a_bad_entry_and_says_what_is_wanted(field: str, value: Any, said: str) -> None:
    [message] = form_errors(DigestRequest, **{field: value})
    assert said in message


@pytest.mark.parametrize(
    "entered",
    [
        {},
        {"hosts": [" Eve@Acme.example ", f"{API}/users/AAAA", "AAAA-b_1"], "timezone": "Europe/Berlin", "days": 62},
        {"event_types": [f" {API}/event_types/AAAA", "BBBB"], "notify": "slack-webhook/ops"},
        {"notify": "", "first_day": f"{datetime.now(UTC).date() + timedelta(days=1)}"},
    ],
)
def test_the_form_lets_through_what_the_flow_takes(entered: dict[str, Any]) -> None:
    assert form_errors(DigestRequest, **entered) == []
    assert DigestRequest.model_validate(entered).notify in (None, "slack-webhook/ops")


def test_an_unknown_zone_is_the_only_complaint_about_a_first_day_in_it() -> None:
    with pytest.raises(ValidationError) as refused:
        DigestRequest.model_validate({"timezone": "Mars/Base", "first_day": "2020-01-01"})
    assert [error["loc"] for error in refused.value.errors()] == [("timezone",)]


def test_hosts_and_the_whole_organization_exclude_each_other() -> None:
    with pytest.raises(ValidationError, match="must be empty with scope organization"):
        DigestRequest(scope="organization", hosts=("AAAA",))


def test_a_day_is_today_by_the_clock_of_the_zone() -> None:
    for zone in ("Pacific/Kiritimati", "Pacific/Pago_Pago"):  # 25 hours apart: never the same date
        before = datetime.now(ZoneInfo(zone)).date()
        request = DigestRequest(timezone=zone, first_day=before)
        assert request.first_day == before
        assert before <= DigestRequest(timezone=zone).start_day <= before + timedelta(days=1)


def test_every_field_of_the_form_has_its_help_and_its_place() -> None:
    fields = DigestRequest.model_json_schema()["properties"]
    assert all(field["description"].endswith(".") for field in fields.values())
    assert [field["position"] for field in fields.values()] == list(range(len(fields)))
    assert fields["hosts"]["type"] == "array"
    assert fields["scope"]["enum"] == ["hosts", "organization"]
    assert not any("anyOf" in field or field.get("default", "") is None for field in fields.values())
    assert "Whose Calendly" in availability_digest.parameters.properties["credentials"]["description"]
    assert "Whose availability" in availability_digest.parameters.properties["request"]["description"]


# Over HTTP: what the sandbox says by plain httpx, counted in another way


class Calendar:
    """Asks the sandbox without our client, and counts slots by comparing local clock times."""

    def __init__(self, sandbox: Sandbox) -> None:
        self._http = httpx.Client(
            base_url=sandbox.gateway_url, headers={"Authorization": f"Bearer {sandbox.api_key}"}, trust_env=False
        )

    def get(self, path: str, **params: Any) -> Any:
        return self._http.get(path, params=params).raise_for_status().json()["collection"]

    def members(self) -> list[dict[str, Any]]:
        return [item["user"] for item in self.get("/organization_memberships", organization=ORGANIZATION, count=100)]

    def host(self, uuid: str, first: date, days: int, timezone: str) -> dict[str, dict[str, Any]]:
        """By date: open slots by event type, and hours."""
        zone, user = ZoneInfo(timezone), f"{API}/users/{uuid}"
        dates = [(first + timedelta(days=number)).isoformat() for number in range(days)]
        start = datetime.combine(first, time(), zone).astimezone(UTC)
        end = datetime.combine(first + timedelta(days=days), time(), zone).astimezone(UTC)
        busy = []
        for number in range(-(-days // 6)):
            span = start + timedelta(days=6 * number), min(end, start + timedelta(days=6 * number + 6))
            busy += self.get("/user_busy_times", user=user, start_time=wire(span[0]), end_time=wire(span[1]))
        schedules = self.get("/user_availability_schedules", user=user)
        result: dict[str, dict[str, Any]] = {
            day: {"slots": Counter(), "calendly": set(), "working": 0} for day in dates
        }
        for kind in self.get("/event_types", user=user, active="true", count=100):
            slots = []
            for half in (start, start + (end - start) / 2):
                until = half + (end - start) / 2
                window = {"start_time": wire(half), "end_time": wire(until)}
                slots += self.get("/event_type_available_times", event_type=kind["uri"], **window)
            for slot in slots:
                at = read(slot["start_time"])
                if kind["pooling_type"] == "round_robin":
                    until = at + minutes(kind["duration"])
                    if any(read(b["start_time"]) < until and read(b["end_time"]) > at for b in busy):
                        continue
                    if not any(works(item, at) and works(item, until - minutes(1)) for item in schedules):
                        continue
                result[at.astimezone(zone).date().isoformat()]["slots"][kind["uri"]] += 1
        minute = start
        default = next(item for item in schedules if item["default"])
        while minute < end:
            result[minute.astimezone(zone).date().isoformat()]["working"] += works(default, minute)
            minute += minutes(15)
        for item in busy:
            minute = read(item["start_time"])
            while minute < read(item["end_time"]):
                day = minute.astimezone(zone).date().isoformat()
                if item["type"] == "calendly" and day in result:
                    result[day]["calendly"].add(minute)
                minute += minutes(15)
        return result


ORGANIZATION = f"{API}/organizations/BBBBBBBBBBBBBBBB"


def wire(moment: datetime) -> str:
    return moment.strftime("%Y-%m-%dT%H:%M:%SZ")


def read(text: str) -> datetime:
    return datetime.fromisoformat(text)


def works(rules: dict[str, Any], at: datetime) -> bool:
    local = at.astimezone(ZoneInfo(rules["timezone"]))
    dated = [rule for rule in rules["rules"] if rule.get("date") == local.date().isoformat()]
    weekly = [rule for rule in rules["rules"] if rule.get("wday") == f"{local:%A}".lower()]
    return any(part["from"] <= f"{local:%H:%M}" < part["to"] for rule in dated or weekly for part in rule["intervals"])


def soon(days: int = 2) -> date:
    return datetime.now(UTC).date() + timedelta(days=days)


async def table(report: DigestReport) -> dict[str, dict[str, dict[str, Any]]]:
    """The table artifact, by host and date."""
    found = await Artifact.aget(report.table_artifact)
    assert found is not None
    assert "@" not in str(found.data)
    rows: dict[str, dict[str, dict[str, Any]]] = {}
    for row in json.loads(str(found.data)):
        rows.setdefault(row["host_uuid"], {})[row["date"]] = row
    return rows


async def markdown(report: DigestReport) -> str:
    found = await Artifact.aget(report.markdown_artifact)
    assert found is not None
    assert "@" not in str(found.data)
    return str(found.data)


def agrees(rows: dict[str, dict[str, Any]], expected: dict[str, dict[str, Any]]) -> bool:
    assert list(rows) == list(expected)
    for day, row in rows.items():
        assert row["open_slots"] == sum(expected[day]["slots"].values()), day
        assert row["working_hours"] == expected[day]["working"] / 4, day
        assert row["busy_calendly"] == len(expected[day]["calendly"]) / 4, day
    return any(row["open_slots"] for row in rows.values())


@pytest.mark.usefixtures("prefect_server")
async def test_the_digest_of_one_s_own_user_counts_what_the_sandbox_has(
    sandbox: Sandbox, credentials: CalendlyCredentials
) -> None:
    request = DigestRequest(first_day=soon(), days=40, timezone="Europe/Berlin")
    report = await availability_digest(credentials, request)
    stats = sandbox.stats()
    rows = await table(report)
    assert list(rows) == [ALICE]
    assert agrees(rows[ALICE], Calendar(sandbox).host(ALICE, soon(), 40, "Europe/Berlin"))
    assert (report.hosts, report.days, report.unreadable, report.first_digest) == (1, 40, 0, True)
    assert report.next_free is not None
    assert report.requests == stats["requests"]
    assert stats["unknown_parameters"] == []
    # Eight active event types in two windows of 31 days each; six windows of 7 days.
    assert stats["by_route"] == {
        "GET /users/me": 1,
        "GET /event_types": 1,
        "GET /event_type_available_times": 16,
        "GET /user_busy_times": 6,
        "GET /user_availability_schedules": 1,
    }
    shown = await markdown(report)
    assert f"1 host, 40 days from {soon():%a} {soon().day} {soon():%b}" in shown
    assert "First digest" in shown


@pytest.mark.usefixtures("prefect_server")
async def test_how_far_the_reading_is_is_shown_and_estimated_right(
    sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch, run_logs: list[str]
) -> None:
    seen: list[Steps] = []

    @contextlib.asynccontextmanager
    async def watched(*args: Any) -> AsyncIterator[Steps]:
        async with progress(*args) as steps:
            seen.append(steps)
            yield steps

    monkeypatch.setattr(module, "progress", watched)
    monkeypatch.setattr("prefect_calendly.runs.progress._PATIENCE_SECONDS", 0.1)
    monkeypatch.setattr("prefect_calendly.runs.progress._BETWEEN_UPDATES_SECONDS", 0.1)
    slow = credentials_for(sandbox, requests_per_second=40)
    report = await availability_digest(slow, DigestRequest(scope="organization", first_day=soon(), days=32))
    [steps] = seen
    assert steps.done == steps.total == report.requests
    assert await artifact(module.PROGRESS_KEY) == 100
    lines = [line for line in run_logs if line.startswith("Reading the availability: ")]
    assert 1 <= len(lines) <= 1 + report.seconds / 10
    shown = r"Reading the availability: (\d+ %, \d+ of about \d+ requests|\d+ requests? so far), \d s"
    assert re.fullmatch(shown, lines[0])


@pytest.mark.usefixtures("prefect_server")
async def test_the_whole_organization_is_told_and_shared_event_types_are_asked_for_once(
    sandbox: Sandbox, credentials: CalendlyCredentials
) -> None:
    report = await availability_digest(
        credentials, DigestRequest(scope="organization", first_day=soon(), timezone="Asia/Kolkata", days=5)
    )
    calendar = Calendar(sandbox)
    kinds = {kind["uri"] for kind in calendar.get("/event_types", organization=ORGANIZATION, active="true", count=100)}
    by_route = sandbox.stats()["by_route"]
    rows = await table(report)
    assert set(rows) == {member["uri"].rpartition("/")[2] for member in calendar.members()}
    assert len(rows) == report.hosts == 4
    expected = {uuid: calendar.host(uuid, soon(), 5, "Asia/Kolkata") for uuid in rows}
    assert all(agrees(rows[uuid], expected[uuid]) for uuid in rows)
    assert by_route["GET /event_type_available_times"] == len(kinds)
    assert by_route["GET /organization_memberships"] == 1
    shown = await markdown(report)
    assert all(f"| {member['name']} |" in shown for member in calendar.members())
    assert "Product Demo (Sales)" in shown


@pytest.mark.usefixtures("prefect_server")
async def test_hosts_are_found_by_uri_uuid_and_address_each_once_with_only_the_event_types_asked_for(
    sandbox: Sandbox, credentials: CalendlyCredentials, run_logs: list[str]
) -> None:
    eve = sandbox.add_user("Eve Example", email="eve.example@acme.example")
    bob = sandbox.add_user("Bob Builder")
    uuids = {name: user["uri"].rpartition("/")[2] for name, user in (("eve", eve), ("bob", bob))}
    request = DigestRequest(
        hosts=("Eve.Example@ACME.example", bob["uri"], uuids["bob"], uuids["eve"], "alice.johnson@acme.com"),
        event_types=(eve["event_type"], "NOSUCHTYPE"),
        first_day=soon(),
    )
    report = await availability_digest(credentials, request)
    rows = await table(report)
    assert set(rows) == {uuids["eve"], uuids["bob"], ALICE}
    assert report.hosts_with_nothing_open == 2
    assert report.open_slots == sum(row["open_slots"] for row in rows[uuids["eve"]].values()) == 16 * 5
    assert report.unreadable == 1
    assert "event type NOSUCHTYPE: it is no active event type of these hosts" in await markdown(report)
    assert sandbox.stats()["by_route"]["GET /event_type_available_times"] == 1
    told = f"{run_logs} {report!r}"
    assert run_logs
    assert not any(secret in told for secret in ("@", "Eve", "Builder", "Alice", sandbox.api_key))


@pytest.mark.usefixtures("prefect_server")
async def test_today_is_told_from_now_on(sandbox: Sandbox, credentials: CalendlyCredentials) -> None:
    sandbox.add_busy_time(datetime.now(UTC) - timedelta(hours=3), datetime.now(UTC) + timedelta(hours=30))
    report = await availability_digest(credentials, DigestRequest(days=7))
    assert report.next_free is not None
    assert report.next_free > datetime.now(UTC)
    hours = [row["busy_external"] for row in (await table(report))[ALICE].values()]
    assert sum(hours) == pytest.approx(30, abs=0.2)
    assert "Today counts from then on." in await markdown(report)
    assert sandbox.stats()["by_status"] == {"200": report.requests}


def next_change_of_the_clocks(zone: ZoneInfo, hours: int) -> date:
    day = soon(10)
    while True:
        start, end = day_bounds(day, 1, zone)
        if end - start == timedelta(hours=hours):
            return day
        day += timedelta(days=1)


@pytest.mark.parametrize("hours", [23, 25])
@pytest.mark.usefixtures("prefect_server")
async def test_the_week_in_which_the_clocks_change_is_right(
    sandbox: Sandbox, credentials: CalendlyCredentials, hours: int
) -> None:
    intervals = [{"from": "00:00", "to": "05:00"}, {"from": "22:00", "to": "24:00"}]
    rules = [{"type": "wday", "wday": day, "intervals": intervals} for day in WEEKDAYS]
    owl = sandbox.add_user("Nina Night", timezone="Europe/Berlin", rules=rules)
    uuid = owl["uri"].rpartition("/")[2]
    sunday = next_change_of_the_clocks(BERLIN, hours)
    request = DigestRequest(hosts=(uuid,), first_day=sunday - timedelta(days=2), days=5, timezone="Europe/Berlin")
    report = await availability_digest(credentials, request)
    rows = (await table(report))[uuid]
    assert [row["working_hours"] for row in rows.values()] == [7, 7, hours - 17, 7, 7]
    assert [row["open_slots"] for row in rows.values()] == [14, 14, 2 * (hours - 17), 14, 14]
    shown = await markdown(report)
    assert f"The clocks change: Sun {sunday.day} {sunday:%b} has {hours} hours." in shown
    other = await availability_digest(
        credentials, request.model_copy(update={"timezone": "America/New_York", "days": 7})
    )
    moved = (await table(other))[uuid]
    assert agrees(moved, Calendar(sandbox).host(uuid, request.start_day, 7, "America/New_York"))


# Over HTTP: what cannot be read


@pytest.mark.usefixtures("prefect_server", "impatient")
@pytest.mark.parametrize("unreadable", ["host", "/event_types", "/event_type_available_times"])
async def test_a_digest_of_which_nothing_could_be_read_fails_and_says_where_it_is_explained(
    sandbox: Sandbox, credentials: CalendlyCredentials, unreadable: str
) -> None:
    host = "NOSUCHUSER" if unreadable == "host" else sandbox.add_user("Ben Broken")["uri"]
    request = DigestRequest(hosts=(host,), first_day=soon(), days=3)  # a key of its own
    if unreadable != "host":
        sandbox.fault("not_found", route=unreadable, times=None)
    with pytest.raises(DigestUnreadableError, match="NotFoundError") as caught:
        await availability_digest(credentials, request)
    key = artifact_key(f"{API}/users/{ALICE}", request)
    assert key in str(caught.value)
    shown = await Artifact.aget(key)
    assert shown is not None
    assert "NotFoundError" in str(shown.data)


@pytest.mark.usefixtures("prefect_server", "impatient")
async def test_what_cannot_be_read_is_said_and_does_not_hide_the_rest(sandbox: Sandbox) -> None:
    one_by_one = credentials_for(sandbox, max_concurrency=1)
    bob, eve = sandbox.add_user("Bob Builder"), sandbox.add_user("Eve Example")
    ben = sandbox.add_user("Ben Broken")
    uuids = [user["uri"].rpartition("/")[2] for user in (bob, eve, ben)]
    sandbox.fault("external_calendar", route="/user_busy_times", skip=1, times=4)  # Bob's answer comes, Eve's does not
    sandbox.fault("permission_denied", route="/event_types", skip=2)  # Ben's
    sandbox.fault("not_found", route="/event_type_available_times", skip=1)  # Eve's only one
    sandbox.fault("server_error", route="/user_availability_schedules", times=4)  # Bob's
    report = await availability_digest(
        one_by_one, DigestRequest(hosts=(*uuids, "NOSUCHUSER"), first_day=soon(), days=7)
    )
    shown = await markdown(report)
    rows = await table(report)
    assert (report.hosts, report.unreadable, report.hosts_with_nothing_open) == (3, 5, 0)
    assert "- hosts\\[3\\]: NotFoundError. Check the identifier" in shown
    assert "- busy times of Eve Example: ExternalCalendarError. The user should reconnect the calendar" in shown
    assert "- event types of Ben Broken: RoleRequiredError. " in shown
    assert "- open slots of 30 Minute Meeting: NotFoundError. " in shown
    assert "- working hours of Bob Builder: ServerError. " in shown
    day = soon().isoformat()
    assert {uuid: rows[uuid][day]["complete"] for uuid in uuids} == dict(zip(uuids, [True, False, False], strict=True))
    assert rows[uuids[1]][day]["open_slots"] is None
    assert rows[uuids[1]][day]["busy_external"] is None
    assert rows[uuids[0]][day]["busy_external"] == 0
    assert rows[uuids[0]][day]["working_hours"] is None
    assert report.open_slots == sum(row["open_slots"] for row in rows[uuids[0]].values()) == 16 * 5
    assert f"{report.requests} requests, 6 of them repeats" in shown


@pytest.mark.usefixtures("prefect_server")
async def test_a_refused_key_ends_it_and_leaves_no_digest(sandbox: Sandbox, credentials: CalendlyCredentials) -> None:
    with pytest.raises(GatewayKeyError):
        await availability_digest(credentials_for(sandbox, api_key="wrong"), DigestRequest())
    sandbox.fault("unauthorized_calendly", route="/event_type_available_times", times=None)
    request = DigestRequest(days=9)
    with pytest.raises(CalendlyTokenError):
        await availability_digest(credentials, request)
    assert await Artifact.aget(artifact_key(f"{API}/users/{ALICE}", request)) is None


@pytest.mark.usefixtures("prefect_server")
async def test_an_address_of_nobody_is_told_by_its_position_not_by_itself(
    sandbox: Sandbox, credentials: CalendlyCredentials, run_logs: list[str]
) -> None:
    request = DigestRequest(hosts=(ALICE, "who.is.this@acme.example"))
    with pytest.raises(
        ValueError, match=r"hosts\[1\]: no member of the organization has this e-mail address"
    ) as failed:
        await availability_digest(credentials, request)
    assert "who.is.this" not in f"{failed.value!r} {run_logs}"


@pytest.mark.usefixtures("prefect_server")
async def test_the_organization_needs_the_role_for_it(sandbox: Sandbox) -> None:
    plain_user = credentials_for(sandbox, connection_id="5f0d4c1e-8a53-4b6e-9f0e-2d6a7f3c9b11")
    with pytest.raises(RoleRequiredError):
        await availability_digest(plain_user, DigestRequest(scope="organization"))
    report = await availability_digest(plain_user, DigestRequest(first_day=soon()))
    assert (report.hosts, report.unreadable) == (1, 0)


# Over HTTP: changes, notification


@pytest.mark.usefixtures("prefect_server")
async def test_the_next_digest_tells_what_was_booked_and_cancelled_in_between(
    sandbox: Sandbox, credentials: CalendlyCredentials
) -> None:
    rare = [{"type": "wday", "wday": "wednesday", "intervals": [{"from": "09:00", "to": "09:30"}]}]
    eve, bob = sandbox.add_user("Eve Example", timezone="UTC", rules=rare), sandbox.add_user("Bob Builder")
    request = DigestRequest(hosts=(eve["uri"], bob["uri"]), first_day=soon())

    first = await availability_digest(credentials, request)
    assert first.first_digest
    same = await availability_digest(credentials, request)
    assert (same.first_digest, same.changed_hosts, same.markdown_artifact) == (False, 0, first.markdown_artifact)
    assert "No changes. Compared with the digest of" in await markdown(same)

    assert first.next_free is not None
    rows = (await table(first))[eve["uri"].rpartition("/")[2]]
    [day] = [date.fromisoformat(day) for day, row in rows.items() if row["open_slots"]]
    async with credentials.get_client() as client:
        invitee = await create_invitee_via(
            client,
            eve["event_type"],
            start_time=datetime.combine(day, time(9), UTC),
            email="ivy@example.com",
            name="Ivy",
            timezone="UTC",
            location={"kind": "zoom_conference"},
        )
    booked = await availability_digest(credentials, request)
    assert (booked.open_slots, booked.hosts_with_nothing_open) == (first.open_slots - 1, 1)
    assert booked.changed_hosts == 1
    shown = await markdown(booked)
    assert "1 host with nothing open any more, 0 open again, 1 host with other numbers of open slots." in shown
    assert "- Eve Example: nothing open any more\n- Eve Example: -1\n" in shown
    assert "## Nothing open\n\n- Eve Example\n" in shown

    async with credentials.get_client() as client:
        await cancel_scheduled_event_via(client, invitee.event)
    reopened = await availability_digest(credentials, request)
    assert reopened.open_slots == first.open_slots
    assert "- Eve Example: open again\n- Eve Example: +1\n" in await markdown(reopened)
    other = await availability_digest(credentials, DigestRequest(hosts=(eve["uri"],), first_day=soon()))
    assert other.first_digest


async def test_one_short_message_goes_through_the_saved_notification_block(
    credentials: CalendlyCredentials, receiver: Receiver
) -> None:
    request = DigestRequest(first_day=soon(), days=2, event_types=("NOSUCHTYPE",), notify=receiver.block)
    report = await availability_digest(credentials, request)
    assert report.notified
    [message] = receiver.messages
    assert message["subject"] == "Availability digest"
    said, _, page = message["body"].partition("\n")
    assert said == (
        f"1 host, 2 days from {soon():%a} {soon().day} {soon():%b %Y} (UTC): 0 open slots, 1 host with nothing open. "
        "First digest: nothing to compare with yet. 1 thing could not be read."
    )
    assert re.fullmatch(r"http://127\.0\.0\.1:\d+/v2/runs/flow-run/[0-9a-f-]{36}", page)
    assert message["key"] == receiver.secret


async def test_a_notification_that_fails_is_logged_and_does_not_fail_the_digest(
    credentials: CalendlyCredentials, receiver: Receiver, run_logs: list[str]
) -> None:
    receiver.status = 500
    report = await availability_digest(credentials, DigestRequest(first_day=soon(), days=3, notify=receiver.block))
    assert not report.notified
    assert len(receiver.messages) == 1
    assert report.open_slots > 0
    assert await markdown(report)
    [warning] = [line for line in run_logs if "notification" in line]
    assert "HTTPStatusError" in warning
    failed = await artifact(FAILED_KEY)
    assert "The notification through custom-webhook/ops failed (HTTPStatusError)." in failed.replace("\\", "")
    assert "1 host, 3 days" in failed
    for secret in (receiver.url, receiver.secret):
        assert secret not in f"{run_logs} {failed}"


async def test_a_notifier_that_is_not_there_any_more_does_not_fail_the_digest(
    credentials: CalendlyCredentials, receiver: Receiver, run_logs: list[str]
) -> None:
    receiver.stop()
    report = await availability_digest(credentials, DigestRequest(first_day=soon(), days=3, notify=receiver.block))
    assert not report.notified
    assert report.open_slots > 0
    [warning] = [line for line in run_logs if "notification" in line]
    assert "ConnectError" in warning
    assert "(ConnectError)" in (await artifact(FAILED_KEY)).replace("\\", "")


@pytest.mark.parametrize("failing", ["the first request", "all slots"])
@pytest.mark.usefixtures("impatient")
async def test_a_digest_that_fails_is_told_in_exactly_one_message(
    sandbox: Sandbox, credentials: CalendlyCredentials, receiver: Receiver, failing: str
) -> None:
    route = {"the first request": "/users/me", "all slots": "/event_type_available_times"}[failing]
    sandbox.fault("not_found", route=route, times=None)
    with pytest.raises((NotFoundError, DigestUnreadableError)):
        await availability_digest(credentials, DigestRequest(first_day=soon(), days=4, notify=receiver.block))
    [message] = receiver.messages
    assert message["subject"] == "Availability digest failed"
    assert "NotFoundError" in message["body"]
    assert "/v2/runs/flow-run/" in message["body"]
    assert sandbox.api_key not in message["body"]


@pytest.mark.parametrize(
    ("reference", "complaint"),
    [
        ("slack-webhook/nowhere", "there is no saved block 'slack-webhook/nowhere'"),
        ("no-such-type/ops", "there is no saved block 'no-such-type/ops'"),
        ("secret/no-notifier", "the block 'secret/no-notifier' is not for notifications"),
    ],
)
@pytest.mark.usefixtures("prefect_server")
async def test_a_notifier_that_cannot_be_used_is_refused_before_anything_is_asked(
    sandbox: Sandbox, credentials: CalendlyCredentials, reference: str, complaint: str
) -> None:
    await Secret(value=SecretStr("hush")).asave("no-notifier", overwrite=True)
    with pytest.raises(ValueError, match=complaint) as refused:
        await availability_digest(credentials, DigestRequest(notify=reference))
    assert len(str(refused.value).splitlines()) == 1
    assert sandbox.stats()["requests"] == 0


@pytest.mark.usefixtures("prefect_server")
async def test_the_run_is_named_after_its_first_day_and_length_even_with_parameters_of_a_form(
    credentials: CalendlyCredentials,
) -> None:
    first = soon(5)
    form: Any = {"first_day": first.isoformat(), "days": 2}
    await availability_digest(credentials, form)
    async with get_client() as client:
        runs = await client.read_flow_runs(limit=1, sort="START_TIME_DESC")  # type: ignore[arg-type]
    assert runs[0].name == f"availability digest {first} +2 days"


@pytest.mark.usefixtures("prefect_server")
async def test_a_bad_request_is_refused_before_anything_is_asked(
    sandbox: Sandbox, credentials: CalendlyCredentials
) -> None:
    form: Any = {"timezone": "Mars/Base"}
    with pytest.raises(Exception, match="timezone"):
        await availability_digest(credentials, form)
    assert sandbox.stats()["requests"] == 0
    assert isinstance(credentials.api_key, SecretStr)
