"""What people see of the availability digest: a page to read, also on a phone, and a table of everything."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from datetime import date, datetime, timedelta
from typing import Any, Final
from zoneinfo import ZoneInfo

from prefect_calendly.client import RequestMeter
from prefect_calendly.client.errors import printable
from prefect_calendly.digest.heat_map import DAYS, SCALE, Row, Tile, heat_map, image
from prefect_calendly.digest.model import BUSY_KINDS, Changes, Digest, HalfDay, HostDay, HostDigest, Offer
from prefect_calendly.digest.time import day_bounds
from prefect_calendly.runs.markdown import cost, escape_cell, markdown_table, pluralize, soft_wrap

# The page is read on a phone; the table artifact has everything.
_SHOWN_HOSTS: Final = 50
_SHOWN_DAYS: Final = 14
_DAYS_PER_TABLE: Final = 4


_LEGEND: Final = (
    "Of each day, the upper tile is before noon, the lower one after noon. Colour: how much of the working hours is "
    "still free. Number: open slots that start then. – is closed; dashed or ? could not be read. Hosts with nothing "
    "open come first, then those with the fewest open slots."
)


# The table


def table_rows(digest: Digest) -> list[dict[str, Any]]:
    """Return the table artifact: one row per host and day, which the next digest is compared with."""
    # Prefect shows the cells of a table as they are: nothing is escaped.
    offers = {uuid: printable(offer.name) for uuid, offer in digest.offers.items()}
    rows = []
    for entry in digest.hosts:
        for day in entry.days:
            other = [length for kind, length in (day.busy or {}).items() if kind not in BUSY_KINDS]
            rows.append(
                {
                    "host": printable(entry.host.name),
                    "date": day.date.isoformat(),
                    "open_slots": day.open_slots if entry.complete or day.slots else None,
                    "working_hours": None if day.working is None else _hours(day.working),
                    **{f"busy_{kind}": None if day.busy is None else _hours(day.busy[kind]) for kind in BUSY_KINDS},
                    "busy_other": None if day.busy is None else _hours(sum(other, timedelta())),
                    "by_event_type": ", ".join(
                        f"{offers[uuid]}: {count}" for uuid, count in day.slots.items() if count
                    ),
                    "complete": entry.complete,
                    "host_uuid": entry.host.uuid,
                }
            )
    return rows


def open_slots_of_table(data: Any) -> dict[str, dict[str, int]]:
    """Read open slots by host (uuid) and date back from a table artifact; rows that say too little are left out."""
    try:
        rows = json.loads(data) if isinstance(data, str) else data
    except ValueError:
        rows = []
    result: dict[str, dict[str, int]] = {}
    for row in rows if isinstance(rows, list) else ():
        if isinstance(row, dict) and row.get("complete") is True and isinstance(row.get("open_slots"), int):
            result.setdefault(str(row.get("host_uuid")), {})[str(row.get("date"))] = row["open_slots"]
    return result


# The page


def headline(digest: Digest) -> str:
    """Return the digest in one line."""
    return (
        f"{pluralize(len(digest.hosts), 'host')}, {pluralize(len(digest.days), 'day')} from {_day(digest.days[0])} "
        f"{digest.days[0].year} ({digest.timezone}): {pluralize(digest.open_slots, 'open slot')}, "
        f"{pluralize(len(digest.nothing_open), 'host')} with nothing open"
    )


def changes_in_words(changes: Changes | None) -> str:
    """Return the changes in one line."""
    if changes is None:
        return "First digest: nothing to compare with yet."
    if not (changes.closed or changes.reopened or changes.moved):
        return "No changes."
    return (
        f"{pluralize(len(changes.closed), 'host')} with nothing open any more, {len(changes.reopened)} open again, "
        f"{pluralize(len(changes.moved), 'host')} with other numbers of open slots."
    )


def digest_markdown(
    digest: Digest, changes: Changes | None, table_key: str, meter: RequestMeter, seconds: float
) -> str:
    """Return the markdown artifact: short lines and narrow tables, for a phone; names are made safe.

    Args:
        digest: The digest.
        changes: What changed; None for the first digest.
        table_key: Key of the table artifact, which holds everything.
        meter: What it cost.
        seconds: How long it took.

    Returns:
        Markdown.
    """
    zone = ZoneInfo(digest.timezone)
    # Those who need attention first: whoever cannot be booked.
    hosts = sorted(digest.hosts, key=lambda entry: (not entry.nothing_open, entry.open_slots, entry.host.name))
    shown = hosts[:_SHOWN_HOSTS]
    lines = ["# Availability digest", "", f"{headline(digest)}.", "", f"Made {_moment(digest.made_at, zone)}."]
    if digest.days[0] == digest.made_at.astimezone(zone).date():
        lines[-1] += " Today counts from then on."
    bounds = day_bounds(digest.days[0], len(digest.days), zone)
    for day, begins, ends in zip(digest.days, bounds, bounds[1:], strict=False):
        if ends - begins != timedelta(days=1):
            lines += ["", f"The clocks change: {_day(day)} has {_hours(ends - begins):g} hours."]
    if digest.problems:
        lines += ["", f"{pluralize(len(digest.problems), 'thing')} could not be read; see the end."]
    if len(hosts) > len(shown):
        more = f"Only {len(shown)} of the {len(hosts)} hosts are shown here"
        lines += ["", f"{more}, fewest open slots first; the table artifact `{table_key}` has all."]

    lines += _weeks(digest, shown)

    nobody = "Nobody." if all(entry.complete for entry in hosts) else "Nobody whose slots could all be read."
    lines += ["", "## Nothing open", "", *(_some(entry.host.name for entry in hosts if entry.nothing_open) or [nobody])]

    lines += ["", "## Changes", "", changes_in_words(changes)]
    if changes is not None:
        lines[-1] += f" Compared with the digest of {_moment(changes.since, zone)}."
        lines += ["", *_some((host.name for host in changes.closed), ": nothing open any more")]
        lines += _some((host.name for host in changes.reopened), ": open again")
        lines += _some(f"{host.name}: {by:+d}" for host, by in changes.moved)

    next_free = [_moment(entry.next_free, zone) if entry.next_free else "–" for entry in shown]
    rows = [(entry.host.name, first, _open(entry)) for entry, first in zip(shown, next_free, strict=True)]
    lines += ["", "## Next free slot", "", _table(["Host", "Next free", "Open"], rows)]

    lines += ["", "## Open slots per day", "", "<details><summary>By host and by event type</summary>"]
    offers = sorted(digest.slots_per_offer.items(), key=lambda item: (-sum(item[1]), item[0]))[:_SHOWN_HOSTS]
    for first in range(0, min(len(digest.days), _SHOWN_DAYS), _DAYS_PER_TABLE):
        numbers = range(first, min(first + _DAYS_PER_TABLE, len(digest.days), _SHOWN_DAYS))
        heads = [_day(digest.days[number]) for number in numbers]
        per_host = [(entry.host.name, *(_open(entry, entry.days[number]) for number in numbers)) for entry in shown]
        per_offer = [
            (_whose(digest.offers[uuid], len(hosts)), *(counts[number] for number in numbers))
            for uuid, counts in offers
        ]
        lines += ["", _table(["Host", *heads], per_host), "", _table(["Event type", *heads], per_offer)]
    lines += ["", "</details>"]
    if len(digest.days) > _SHOWN_DAYS:
        lines += ["", f"The later days are in the table artifact `{table_key}`."]

    heads = ["Host", "Work", "Booked", "Held", "Other"]
    lines += ["", "## Hours", "", "Hours of work, and busy ones: booked, held (reserved), in other calendars."]
    lines += ["", _table(heads, map(_hours_row, shown))]

    if digest.problems:
        lines += ["", "## Could not be read", ""]
        lines += _some(f"{problem.what}: {problem.why}" for problem in digest.problems)
    return "\n".join([*lines, "", f"Cost: {'; '.join(cost(meter, seconds))}.", ""])


def _weeks(digest: Digest, hosts: Sequence[HostDigest]) -> list[str]:
    """Return a heat map for each week, and what it means."""
    if not hosts:
        return []
    lines = ["", "## Free and full", "", _LEGEND]
    for first in range(0, min(len(digest.days), _SHOWN_DAYS), DAYS):
        shown = slice(first, min(first + DAYS, _SHOWN_DAYS))
        days = digest.days[shown]
        what = f"Heat map of {pluralize(len(hosts), 'host')}, {_day(days[0])} to {_day(days[-1])}"
        heads = [
            (f"{day:%a}", f"{day.day} {day:%b}" if day in (days[0], day.replace(day=1)) else f"{day.day}")
            for day in days
        ]
        rows = [Row(entry.host.name, [_tiles(entry, day) for day in entry.days[shown]]) for entry in hosts]
        lines += ["", image(heat_map(what, heads, rows), f"{what}; the numbers are in the tables below")]
    return lines


def _tiles(entry: HostDigest, day: HostDay) -> tuple[Tile, Tile]:
    before, after = day.halves
    return tile(entry, before), tile(entry, after)


def tile(entry: HostDigest, half: HalfDay) -> Tile:
    """Return how a half-day of a host looks: the legend above the heat map explains it."""
    slots = _open(entry, half)
    if half.is_over:
        return Tile("nothing", "")
    if half.working == timedelta():
        return Tile("closed", "–" if slots == "0" else slots)
    if half.free_share is None:
        return Tile("unknown", slots)
    return Tile(SCALE[min(int(half.free_share * len(SCALE)), len(SCALE) - 1)], slots)


def _whose(offer: Offer, hosts: int) -> str:
    return f"{offer.name} ({offer.owner})" if hosts > 1 and offer.owner else offer.name


def _hours_row(entry: HostDigest) -> tuple[str, ...]:
    working = [day.working for day in entry.days if day.working is not None]
    cells = [f"{_hours(sum(working, timedelta())):.1f}" if working else "–"]
    for kind in BUSY_KINDS:
        lengths = [day.busy[kind] for day in entry.days if day.busy is not None]
        cells.append(f"{_hours(sum(lengths, timedelta())):.1f}" if lengths else "?")
    return entry.host.name, *cells


def _open(entry: HostDigest, part: HostDay | HalfDay | None = None) -> str:
    """Return open slots, in all or of a part: `5`; `5+` where some event types could not be read; `?` for all."""
    if not entry.complete and not entry.days[0].slots:
        return "?"
    return f"{(entry if part is None else part).open_slots}{'' if entry.complete else '+'}"


def _table(header: Iterable[str], rows: Iterable[Iterable[Any]]) -> str:
    return soft_wrap(markdown_table(header, rows), 10)


def _some(texts: Iterable[str], ending: str = "") -> list[str]:
    every = list(texts)
    lines = [f"- {soft_wrap(escape_cell(text), 22)}{ending}" for text in every[:_SHOWN_HOSTS]]
    return lines if len(every) <= _SHOWN_HOSTS else [*lines, f"- and {len(every) - _SHOWN_HOSTS} more{ending}"]


def _hours(length: timedelta) -> float:
    return round(length / timedelta(hours=1), 2)


def _day(day: date) -> str:
    return f"{day:%a} {day.day} {day:%b}"


def _moment(moment: datetime, zone: ZoneInfo) -> str:
    local = moment.astimezone(zone)
    return f"{_day(local.date())} {local:%H:%M}"
