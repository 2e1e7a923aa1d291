"""A digest is compared with the previous one: the days of both, without what passing time takes away."""

from datetime import date

from prefect_calendly.digest.changes import Changes, compare
from prefect_calendly.digest.model import Digest, Host, HostedEventType
from prefect_calendly.digest.page import describe_changes
from prefect_calendly.digest.table import open_slots_of_table, table_rows
from tests.digest.examples import NOW, digest_of, utc


def previous_of(digest: Digest) -> dict[str, dict[str, int]]:
    return open_slots_of_table(table_rows(digest))


def test_changes_are_those_of_days_in_both_digests_without_today() -> None:
    hosts = tuple(Host(name, name) for name in "ABCDEF")
    own = {name: [HostedEventType(name, name, 30)] for name in "ABCDEF"}
    unreadable = [HostedEventType("X", "X", 30)]
    before = digest_of(
        {"A": [utc(3, 9)], "B": [], "C": [utc(2, 9), utc(3, 9), utc(3, 10)], "D": [utc(3, 9)], "E": []},
        hosts=hosts[:5],
        event_types={**own, "E": own["E"] + unreadable},
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
        event_types={**own, "D": own["D"] + unreadable},
        first_day=date(2026, 3, 3),
        now=utc(2, 20),
    )
    assert compare(after, previous_of(before), NOW) == Changes(
        NOW,
        no_longer_bookable=(hosts[0],),
        bookable_again=(hosts[1],),
        slot_changes=((hosts[0], -1), (hosts[2], 1)),
    )


def test_equal_digests_have_no_changes() -> None:
    digest = digest_of({"T": [utc(3, 9)]})
    changes = compare(digest, previous_of(digest), NOW)
    assert changes == Changes(NOW, (), (), ())
    assert describe_changes(changes) == "No changes."


def test_hours_of_today_that_have_passed_are_not_a_change() -> None:
    slots = {"T": [utc(2, 9), utc(2, 15), utc(3, 9)]}
    before, after = digest_of(slots), digest_of(slots, now=utc(2, 12))
    assert (before.open_slots, after.open_slots) == (3, 2)
    assert compare(after, previous_of(before), NOW).slot_changes == ()
