"""Plain data for the tests of the digest: schedules, digests, and what hypothesis may choose from."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from zoneinfo import ZoneInfo

from hypothesis import settings
from hypothesis import strategies as st

from prefect_calendly.availability import AvailabilitySchedule
from prefect_calendly.digest.build import build_digest
from prefect_calendly.digest.model import BusySpan, Digest, Host, HostedEventType, Problem

API = "https://api.calendly.com"
WEEKDAYS = ("monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday")
BERLIN = ZoneInfo("Europe/Berlin")
SPRING = date(2026, 3, 29)  # 23 hours in Berlin
AUTUMN = date(2026, 10, 25)  # 25 hours in Berlin
NOW = datetime(2026, 3, 2, 8, 0, tzinfo=UTC)
MONDAY = NOW.date()

Spans = list[tuple[datetime, datetime]]


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


def digest_of(
    slots: dict[str, list[datetime]],
    *,
    event_types: dict[str, list[HostedEventType]] | None = None,
    hosts: tuple[Host, ...] = (Host("A", "Ada"),),
    busy: dict[str, list[BusySpan]] | None = None,
    schedules: dict[str, list[AvailabilitySchedule]] | None = None,
    first_day: date = MONDAY,
    days: int = 3,
    timezone: str = "UTC",
    now: datetime = NOW,
    problems: tuple[Problem, ...] = (),
) -> Digest:
    """A digest of slots by event type; unless told otherwise, Ada hosts all of them."""
    if event_types is None:
        event_types = {"A": [HostedEventType(uuid, f"Type {uuid}", 30) for uuid in slots]}
    return build_digest(
        hosts,
        event_types,
        slots,
        busy or {},
        schedules or {},
        first_day=first_day,
        days=days,
        timezone=timezone,
        now=now,
        problems=problems,
    )


# What hypothesis chooses from: two weeks around the day on which the clocks of Europe change.

few = settings(max_examples=50)
zones = st.sampled_from(
    [
        "UTC",
        "Europe/Berlin",
        "America/New_York",
        "Australia/Lord_Howe",  # its clocks change by half an hour
        "Asia/Kolkata",
        "Africa/Cairo",  # its clocks change at midnight
        "Pacific/Kiritimati",
    ]
)
days_of_2026 = st.dates(date(2026, 1, 1), date(2026, 12, 1))
STEP = minutes(15)
moments = st.integers(0, timedelta(days=14) // STEP).map(lambda number: utc(22, 0) + number * STEP)
spans = st.lists(st.tuples(moments, moments), max_size=10)
first_days = st.dates(date(2026, 3, 20), date(2026, 4, 4))


def steps(some: Spans) -> set[datetime]:
    """The steps that some spans cover."""
    return {start + number * STEP for start, end in some for number in range(max(0, (end - start) // STEP))}
