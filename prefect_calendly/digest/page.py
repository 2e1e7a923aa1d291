"""What people read of a digest: a markdown page that fits a phone, its headline, and the text of the notification."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import date, datetime, timedelta
from typing import Any, Final
from zoneinfo import ZoneInfo

from prefect_calendly.client import RequestMeter
from prefect_calendly.digest.changes import Changes
from prefect_calendly.digest.heat_map import DAYS_PER_MAP, SCALE, Row, Tile, heat_map, image
from prefect_calendly.digest.model import BUSY_KINDS, Digest, HalfDay, HostDay, HostDigest, HostedEventType
from prefect_calendly.digest.table import hours
from prefect_calendly.digest.time import day_bounds
from prefect_calendly.runs.markdown import cost, escape, markdown_table, pluralize

# The page is short; the table artifact has everything.
_MAX_HOSTS: Final = 50
_MAX_DAYS: Final = 14
_DAYS_PER_TABLE: Final = 4

_LEGEND: Final = (
    "Each day has two tiles: the morning above, the afternoon below. The color is the share of the working hours that "
    "is still free; the number is how many open slots start then. A – means no working hours, a dashed border or a ? "
    "that something could not be read. Hosts without open slots come first, then those with the fewest."
)


# One line


def headline(digest: Digest) -> str:
    """Return the digest in one line."""
    return (
        f"{pluralize(len(digest.hosts), 'host')}, {pluralize(len(digest.days), 'day')} from {_day(digest.days[0])} "
        f"{digest.days[0].year} ({digest.timezone}): {pluralize(digest.open_slots, 'open slot')}, "
        f"{pluralize(len(digest.hosts_without_slots), 'host')} without open slots"
    )


def describe_changes(changes: Changes | None) -> str:
    """Return the changes in one line; `changes` is None for the first digest."""
    if changes is None:
        return "This is the first digest, so there is nothing to compare it with."
    if not (changes.no_longer_bookable or changes.bookable_again or changes.slot_changes):
        return "No changes."
    return (
        f"{pluralize(len(changes.no_longer_bookable), 'host')} no longer bookable, "
        f"{len(changes.bookable_again)} bookable again, "
        f"{pluralize(len(changes.slot_changes), 'host')} with more or fewer open slots."
    )


def notification(digest: Digest, changes: Changes | None) -> str:
    """Return the body of the notification."""
    text = f"{headline(digest)}. {describe_changes(changes)}"
    return f"{text} {_could_not_be_read(digest)}." if digest.problems else text


# The page


def digest_markdown(
    digest: Digest, changes: Changes | None, table_key: str, meter: RequestMeter, seconds: float
) -> str:
    """Return the page: short lines and narrow tables. Names are escaped.

    Args:
        digest: The digest.
        changes: What changed; None for the first digest.
        table_key: Key of the table artifact, which has everything.
        meter: The requests that it took.
        seconds: How long it took.

    Returns:
        Markdown.
    """
    # The hosts that need attention come first.
    hosts = sorted(digest.hosts, key=lambda entry: (not entry.has_no_slots, entry.open_slots, entry.host.name))
    shown = hosts[:_MAX_HOSTS]
    lines = [
        *_introduction(digest, table_key),
        *_capacity(digest, shown),
        *_without_slots(hosts),
        *_changes(changes, ZoneInfo(digest.timezone)),
        *_next_slots(shown, ZoneInfo(digest.timezone)),
        *_slots_per_day(digest, shown, table_key),
        *_hours(shown),
        *_problems(digest),
    ]
    return "\n".join([*lines, "", f"Cost: {'; '.join(cost(meter, seconds))}.", ""])


def _introduction(digest: Digest, table_key: str) -> list[str]:
    zone = ZoneInfo(digest.timezone)
    lines = ["# Availability digest", "", f"{headline(digest)}.", "", f"Made on {_moment(digest.made_at, zone)}."]
    if _begins_today(digest):
        lines[-1] += " Of today, only the time after that counts."
    bounds = day_bounds(digest.days[0], len(digest.days), zone)
    for day, begins, ends in zip(digest.days, bounds, bounds[1:], strict=False):
        if ends - begins != timedelta(days=1):
            lines += ["", f"The clocks change: {_day(day)} has {hours(ends - begins):g} hours."]
    if digest.problems:
        lines += ["", f"{_could_not_be_read(digest)}; see the end of the page."]
    if len(digest.hosts) > _MAX_HOSTS:
        lines += [
            "",
            f"This page shows the {_MAX_HOSTS} hosts with the fewest open slots; the table artifact `{table_key}` has "
            f"all {len(digest.hosts)}.",
        ]
    return lines


def _capacity(digest: Digest, hosts: Sequence[HostDigest]) -> list[str]:
    """Return a heat map for each week."""
    if not hosts:
        return []
    this_week = _begins_today(digest) and len(digest.days) <= DAYS_PER_MAP
    lines = ["", "## Capacity this week" if this_week else "## Capacity by week", "", _LEGEND]
    for first in range(0, min(len(digest.days), _MAX_DAYS), DAYS_PER_MAP):
        week = slice(first, min(first + DAYS_PER_MAP, _MAX_DAYS))
        days = digest.days[week]
        title = f"Heat map of {pluralize(len(hosts), 'host')}, {_day(days[0])} to {_day(days[-1])}"
        heads = [
            (f"{day:%a}", f"{day.day} {day:%b}" if day in (days[0], day.replace(day=1)) else f"{day.day}")
            for day in days
        ]
        rows = [
            Row(entry.host.name, [(tile(entry, day.halves[0]), tile(entry, day.halves[1])) for day in entry.days[week]])
            for entry in hosts
        ]
        lines += ["", image(heat_map(title, heads, rows), f"{title}; the tables below have the numbers")]
    return lines


def tile(entry: HostDigest, half: HalfDay) -> Tile:
    """Return the tile of a half-day of a host, as the legend explains it."""
    slots = _slots(entry, half)
    if half.is_past:
        return Tile("past", "")
    if half.working == timedelta():
        return Tile("closed", "–" if slots == "0" else slots)
    if half.free_share is None:
        return Tile("unknown", slots)
    return Tile(SCALE[min(int(half.free_share * len(SCALE)), len(SCALE) - 1)], slots)


def _without_slots(hosts: Sequence[HostDigest]) -> list[str]:
    names = _bullets(entry.host.name for entry in hosts if entry.has_no_slots)
    none = "None." if all(entry.is_complete for entry in hosts) else "None of those that could be read completely."
    return ["", "## Hosts without open slots", "", *(names or [none])]


def _changes(changes: Changes | None, zone: ZoneInfo) -> list[str]:
    lines = ["", "## Changes", "", describe_changes(changes)]
    if changes is not None:
        lines[-1] += f" Compared with the digest of {_moment(changes.since, zone)}."
        lines += ["", *_bullets((host.name for host in changes.no_longer_bookable), ": no longer bookable")]
        lines += _bullets((host.name for host in changes.bookable_again), ": bookable again")
        lines += _bullets(f"{host.name}: {difference:+d}" for host, difference in changes.slot_changes)
    return lines


def _next_slots(hosts: Sequence[HostDigest], zone: ZoneInfo) -> list[str]:
    rows = [
        (entry.host.name, _moment(entry.next_slot, zone) if entry.next_slot else "–", _slots(entry)) for entry in hosts
    ]
    return ["", "## Next open slot", "", _table(["Host", "Next slot", "Open slots"], rows)]


def _slots_per_day(digest: Digest, hosts: Sequence[HostDigest], table_key: str) -> list[str]:
    lines = ["", "## Open slots per day", "", "<details><summary>By host and by event type</summary>"]
    event_types = sorted(digest.slots_per_event_type.items(), key=lambda item: (-sum(item[1]), item[0]))[:_MAX_HOSTS]
    for first in range(0, min(len(digest.days), _MAX_DAYS), _DAYS_PER_TABLE):
        days = range(first, min(first + _DAYS_PER_TABLE, len(digest.days), _MAX_DAYS))
        heads = [_day(digest.days[day]) for day in days]
        per_host = [(entry.host.name, *(_slots(entry, entry.days[day]) for day in days)) for entry in hosts]
        per_event_type = [
            (_title(digest.event_types[uuid], len(digest.hosts)), *(counts[day] for day in days))
            for uuid, counts in event_types
        ]
        lines += ["", _table(["Host", *heads], per_host), "", _table(["Event type", *heads], per_event_type)]
    lines += ["", "</details>"]
    if len(digest.days) > _MAX_DAYS:
        lines += ["", f"The table artifact `{table_key}` has the later days."]
    return lines


def _hours(hosts: Sequence[HostDigest]) -> list[str]:
    explanation = (
        "Working hours, and busy hours: booked through Calendly, reserved in Calendly, and taken by events of "
        "connected calendars."
    )
    heads = ["Host", "Working", "Booked", "Reserved", "External"]
    return ["", "## Hours", "", explanation, "", _table(heads, map(_hours_row, hosts))]


def _hours_row(entry: HostDigest) -> tuple[str, ...]:
    working = [day.working for day in entry.days if day.working is not None]
    cells = [f"{hours(sum(working, timedelta())):.1f}" if working else "–"]
    for kind in BUSY_KINDS:
        lengths = [day.busy[kind] for day in entry.days if day.busy is not None]
        cells.append(f"{hours(sum(lengths, timedelta())):.1f}" if lengths else "?")
    return entry.host.name, *cells


def _problems(digest: Digest) -> list[str]:
    if not digest.problems:
        return []
    return ["", "## Problems", "", *_bullets(f"{problem.subject}: {problem.reason}" for problem in digest.problems)]


# Formatting


def _begins_today(digest: Digest) -> bool:
    return digest.days[0] == digest.made_at.astimezone(ZoneInfo(digest.timezone)).date()


def _could_not_be_read(digest: Digest) -> str:
    return f"{pluralize(len(digest.problems), 'item')} could not be read"


def _title(event_type: HostedEventType, hosts: int) -> str:
    return f"{event_type.name} ({event_type.owner})" if hosts > 1 and event_type.owner else event_type.name


def _slots(entry: HostDigest, part: HostDay | HalfDay | None = None) -> str:
    """Return the open slots of a host or a part: `5`; `5+` if some event types could not be read; `?` if none could."""
    if not entry.is_complete and not entry.days[0].slots:
        return "?"
    return f"{(entry if part is None else part).open_slots}{'' if entry.is_complete else '+'}"


def _table(header: Iterable[str], rows: Iterable[Iterable[Any]]) -> str:
    return markdown_table(header, rows, longest_word=10)


def _bullets(texts: Iterable[str], ending: str = "") -> list[str]:
    every = list(texts)
    lines = [f"- {escape(text, longest_word=22)}{ending}" for text in every[:_MAX_HOSTS]]
    return lines if len(every) <= _MAX_HOSTS else [*lines, f"- and {len(every) - _MAX_HOSTS} more{ending}"]


def _day(day: date) -> str:
    return f"{day:%a} {day.day} {day:%b}"


def _moment(moment: datetime, zone: ZoneInfo) -> str:
    local = moment.astimezone(zone)
    return f"{_day(local.date())} {local:%H:%M}"
