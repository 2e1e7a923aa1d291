"""The page says all that matters, fits a phone, and takes no markup from names."""

import base64
import re
from collections import Counter
from datetime import datetime, timedelta
from xml.etree import ElementTree

import pytest

from prefect_calendly.client import RequestMeter
from prefect_calendly.digest.changes import Changes
from prefect_calendly.digest.heat_map import DAYS_PER_MAP, Tile
from prefect_calendly.digest.model import BusySpan, Digest, Host, HostedEventType, Problem
from prefect_calendly.digest.page import describe_changes, digest_markdown, notification, tile
from prefect_calendly.digest.table import table_rows
from prefect_calendly.runs.markdown import escape
from tests.digest.examples import MONDAY, NOW, SPRING, digest_of, every_day, minutes, schedule, utc

ADA, BO = Host("A", "Ada"), Host("B", "Bo")
CALL = HostedEventType("T", "T", 30)


def page_of(digest: Digest, changes: Changes | None = None, meter: RequestMeter | None = None) -> str:
    return digest_markdown(digest, changes, "the-key-table", meter or RequestMeter(), 4)


def without_pictures(markdown: str) -> str:
    return re.sub(r"!\[.*?\]\(.*?\)", "", markdown)


def pictures(markdown: str) -> list[ElementTree.Element]:
    """The pictures that a page holds."""
    found = re.findall(r"!\[[^\[\]]+\]\(data:image/svg\+xml;base64,([A-Za-z0-9+/=]+)\)", markdown)
    assert len(found) == markdown.count("](data:")
    return [ElementTree.fromstring(base64.b64decode(code)) for code in found]


def texts_of(picture: ElementTree.Element) -> list[str]:
    return [str(element.text) for element in picture.iter("{http://www.w3.org/2000/svg}text")]


# Sections


def test_the_sections_are_named_for_what_they_contain() -> None:
    digest = digest_of({"T": [utc(3, 9)]}, problems=(Problem("hosts[1]", "NotFoundError."),))
    headings = re.findall(r"^#+ .*", page_of(digest), re.MULTILINE)
    assert headings == [
        "# Availability digest",
        "## Capacity this week",
        "## Hosts without open slots",
        "## Changes",
        "## Next open slot",
        "## Open slots per day",
        "## Hours",
        "## Problems",
    ]


@pytest.mark.parametrize(
    ("first_day", "days", "heading"),
    [(MONDAY, 7, "this week"), (MONDAY, 8, "by week"), (MONDAY + timedelta(days=1), 7, "by week")],
)
def test_only_a_digest_of_this_week_says_so(first_day: datetime, days: int, heading: str) -> None:
    assert f"## Capacity {heading}\n" in page_of(digest_of({"T": []}, first_day=first_day, days=days))


def test_the_page_says_when_the_clocks_change_and_leaves_late_days_to_the_table() -> None:
    slots = [utc(28, 12) + timedelta(days=number) for number in range(20)]
    digest = digest_of({"T": slots}, first_day=SPRING - timedelta(days=1), days=20, timezone="Europe/Berlin")
    shown = page_of(digest, meter=RequestMeter(3, 1, 0.25, limit=500, least_left=497))
    assert "The clocks change: Sun 29 Mar has 23 hours." in shown
    assert shown.count("The clocks change") == 1
    assert "Fri 10 Apr" in shown
    assert "Sat 11 Apr" not in shown
    assert "The table artifact `the-key-table` has the later days." in shown
    assert "| Ada | Sat 28 Mar 13:00 | 20 |" in shown
    assert "This is the first digest, so there is nothing to compare it with." in shown
    cost = "3 requests, 1 of them repeats; 4.0 s, 0.2 s of it waiting for limits"
    assert f"Cost: {cost}; at least 497 of Calendly's 500 requests a minute were left." in shown
    assert "Of today" not in shown
    assert "## Hosts without open slots\n\nNone.\n" in shown


def test_a_digest_that_begins_today_says_from_when_on_it_counts() -> None:
    assert "Made on Mon 2 Mar 08:00. Of today, only the time after that counts." in page_of(digest_of({}))


def test_what_could_not_be_read_is_not_shown_as_a_full_calendar() -> None:
    hosts = tuple(Host(name, name) for name in "ABC")
    digest = digest_of(
        {"T": []}, hosts=hosts, event_types={"A": [CALL, HostedEventType("U", "U", 30)], "B": []}, days=3
    )
    shown = page_of(digest)
    assert "| A | – | 0+ |" in shown
    assert "| C | – | ? |" in shown
    assert "| C | – | ? | ? | ? |" in shown
    assert "## Hosts without open slots\n\n- B\n" in shown
    unread = page_of(digest_of({}, hosts=hosts[2:], event_types={}))
    assert "None of those that could be read completely." in unread


def test_problems_are_announced_above_and_listed_at_the_end() -> None:
    digest = digest_of({}, hosts=(), event_types={}, problems=(Problem("hosts[0]", "NotFoundError."),))
    shown = page_of(digest)
    assert "1 item could not be read; see the end of the page." in shown
    assert "## Problems\n\n- hosts[0]\u200b: NotFoundError.\n" in shown


def test_changes_are_counted_and_listed() -> None:
    changes = Changes(NOW, no_longer_bookable=(ADA,), bookable_again=(BO,), slot_changes=((ADA, -1), (BO, 2)))
    digest = digest_of({}, timezone="Europe/Berlin")
    assert "no longer bookable, 1 bookable again, 2 hosts with more or fewer open slots." in describe_changes(changes)
    shown = page_of(digest, changes)
    assert f"{describe_changes(changes)} Compared with the digest of Mon 2 Mar 09:00.\n" in shown
    assert "- Ada: no longer bookable\n- Bo: bookable again\n- Ada: -1\n- Bo: +2\n" in shown
    assert "No changes. Compared with the digest of" in page_of(digest, Changes(NOW, (), (), ()))


def test_the_notification_is_one_line_that_says_what_is_incomplete() -> None:
    digest = digest_of({"T": [utc(3, 9)]}, problems=(Problem("hosts[1]", "NotFoundError."),) * 2)
    assert notification(digest, Changes(NOW, (), (), ())) == (
        "1 host, 3 days from Mon 2 Mar 2026 (UTC): 1 open slot, 0 hosts without open slots. No changes. "
        "2 items could not be read."
    )
    assert notification(digest_of({"T": []}), None) == (
        "1 host, 3 days from Mon 2 Mar 2026 (UTC): 0 open slots, 1 host without open slots. "
        "This is the first digest, so there is nothing to compare it with."
    )


# Heat maps


def tiles_of(digest: Digest, host: int = 0, day: int = 0) -> list[Tile]:
    entry = digest.hosts[host]
    return [tile(entry, half) for half in entry.days[day].halves]


@pytest.mark.parametrize(
    ("busy_minutes", "look"),
    [(0, "free"), (48, "free"), (49, "mostly-free"), (97, "half"), (145, "mostly-full"), (193, "full"), (240, "full")],
)
def test_the_color_of_a_tile_is_the_free_share_of_the_working_hours(busy_minutes: int, look: str) -> None:
    digest = digest_of(
        {"T": [utc(3, 11, 45), utc(3, 12)]},
        schedules={"A": [every_day("08:00", "12:00", "UTC")]},
        busy={"A": [BusySpan("external", utc(3, 8), utc(3, 8) + minutes(busy_minutes))]},
    )
    assert tiles_of(digest, day=1) == [Tile(look, "1"), Tile("closed", "1")]  # type: ignore[arg-type]


def test_tiles_tell_apart_what_is_past_closed_and_unreadable() -> None:
    hosts = tuple(Host(name, name) for name in "ABCDE")
    work = [every_day("13:00", "17:00", "UTC")]
    digest = digest_of(
        {"T": [utc(2, 14)], "U": [utc(2, 14)]},
        hosts=hosts,
        event_types={name: [CALL] for name in "ABC"}
        | {"D": [HostedEventType("U", "U", 30), HostedEventType("X", "X", 30)]},
        busy={name: [] for name in "ABDE"},
        schedules={"A": work, "C": work, "D": work, "E": [schedule()]},
        now=utc(2, 12),
    )
    assert [tiles_of(digest, number) for number in range(5)] == [
        [Tile("past", ""), Tile("free", "1")],
        [Tile("past", ""), Tile("unknown", "1")],  # no hours
        [Tile("past", ""), Tile("unknown", "1")],  # no busy times
        [Tile("past", ""), Tile("free", "1+")],  # not all slots
        [Tile("past", ""), Tile("closed", "?")],  # no slots at all
    ]
    assert tiles_of(digest, day=1) == [Tile("closed", "–"), Tile("free", "0")]


@pytest.mark.parametrize(("days", "weeks"), [(1, [1]), (7, [7]), (9, [7, 2]), (14, [7, 7]), (62, [7, 7])])
def test_the_page_shows_a_heat_map_for_each_of_the_first_two_weeks(days: int, weeks: list[int]) -> None:
    hosts = (ADA, BO)
    digest = digest_of(
        {"T": [utc(2, 9) + timedelta(days=number) for number in range(days) for _ in range(2)]},
        hosts=hosts,
        event_types={"A": [CALL], "B": []},
        busy={"A": [], "B": []},
        schedules={host.uuid: [every_day("09:00", "17:00", "UTC")] for host in hosts},
        days=days,
    )
    shown = pictures(page_of(digest))
    assert len(shown) == len(weeks)
    for first, (picture, length) in zip(range(0, 14, DAYS_PER_MAP), zip(shown, weeks, strict=True), strict=False):
        texts = texts_of(picture)
        assert [text for text in texts if text.isalpha() and text not in ("full", "free")] == ["Bo", "Ada"] + [
            f"{digest.days[first + number]:%a}" for number in range(length)
        ]
        # In the morning Ada has one slot a day; in the afternoon, and for Bo, there are none.
        tiles = Counter(text for text in texts if text in ("0", "1"))
        assert tiles["1"] - ("1" in [f"{day.day}" for day in digest.days[first + 1 : first + length]]) == length
        assert tiles["0"] == 3 * length


def test_without_hosts_there_is_no_heat_map() -> None:
    assert pictures(page_of(digest_of({}, hosts=(), event_types={}))) == []


# Whatever the names are, and however many


def test_no_word_of_the_page_is_wider_than_a_phone() -> None:
    hosts = (Host("A", "W" * 300), Host("B", "Anne-Marie " + r"\_" * 50))
    digest = digest_of(
        {"T": [utc(3, 9)]}, hosts=hosts, event_types={"A": [HostedEventType("T", "x" * 90, 30)], "B": []}
    )
    shown = page_of(digest, Changes(NOW, hosts, (), ((hosts[0], 1),)))
    for line in without_pictures(shown).splitlines():
        longest = max(re.split(r"[\s\u200b]", line), key=len)
        assert len(longest) <= (10 if line.startswith("|") else 22 + len(":")), line
    assert shown.replace("\u200b", "").count("W" * 300) == 5


def test_names_can_put_no_markup_into_the_artifacts() -> None:
    evil = Host("A", "[x](http://evil) | <b>*A*\n# B")
    digest = digest_of(
        {"T": []},
        hosts=(evil, BO),
        event_types={"A": [HostedEventType("T", "`T` | _U_", 30, owner="~O~")], "B": []},
        problems=(Problem(evil.name, "no|pe"),),
    )
    shown = page_of(digest, Changes(NOW, (evil,), (evil,), ((evil, -2),)))
    safe = escape(evil.name)
    assert shown.count(evil.name.split("\n")[0]) == 0
    assert f"- {safe}: no longer bookable" in shown
    assert f"- {safe}: bookable again" in shown
    assert f"- {safe}: -2" in shown
    assert f"- {safe}: {escape('no|pe')}" in shown
    assert f"| {escape('`T` | _U_ (~O~)')} | 0 |" in shown
    assert table_rows(digest)[0]["host"] == safe
    assert "://" not in shown
    [picture] = pictures(shown)
    assert "[x](http://ev" in texts_of(picture)
    tags = {element.tag.rpartition("}")[2] for element in picture.iter()}
    assert tags == {"svg", "title", "style", "g", "path", "text"}


def test_a_page_of_a_thousand_hosts_shows_the_fifty_with_the_fewest_open_slots() -> None:
    hosts = tuple(Host(f"H{number}", f"Host {number:04}") for number in range(1000))
    slots = {f"T{number}": [utc(2 + day, 9) for day in range(number % 7)] for number in range(1000)}
    event_types = {host.uuid: [HostedEventType(f"T{number}", "Call", 30)] for number, host in enumerate(hosts)}
    shown = page_of(digest_of(slots, hosts=hosts, event_types=event_types, days=2))
    assert "This page shows the 50 hosts with the fewest open slots; the table artifact `the-key-table`" in shown
    assert "has all 1000." in shown
    assert "- Host 0000\n" in shown
    assert "- and 93 more\n" in shown
    assert "| Host 0000 | – | 0 |" in shown
    assert "| Host 0001 |" not in shown


def test_a_page_of_many_hosts_and_a_week_stays_small() -> None:
    hosts = tuple(Host(f"H{number}", f"Host {number:04}") for number in range(60))
    shown = page_of(digest_of({}, hosts=hosts, event_types={host.uuid: [] for host in hosts}, days=7))
    assert len(without_pictures(shown)) < 30_000
    assert len(shown) < 75_000
