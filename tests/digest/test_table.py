"""The table has everything, says what could not be read, and can be read back."""

import json
from typing import Any

import pytest

from prefect_calendly.digest.model import BusySpan, Host, HostedEventType
from prefect_calendly.digest.table import open_slots_of_table, table_rows
from tests.digest.examples import MONDAY, digest_of, every_day, utc


def test_a_row_says_all_about_a_host_and_a_day() -> None:
    digest = digest_of(
        {"T": [utc(2, 9), utc(2, 15)], "U": [utc(2, 10)], "V": []},
        busy={"A": [BusySpan("external", utc(2, 12), utc(2, 13, 20)), BusySpan("focus", utc(2, 14), utc(2, 15))]},
        schedules={"A": [every_day("09:00", "17:30", "UTC")]},
    )
    assert table_rows(digest)[0] == {
        "host": "Ada",
        "date": MONDAY.isoformat(),
        "open_slots": 3,
        "working_hours": 8.5,
        "busy_calendly": 0,
        "busy_reserved": 0,
        "busy_external": 1.33,
        "busy_other": 1,
        "by_event_type": "Type T: 2, Type U: 1",
        "complete": True,
        "host_uuid": "A",
    }


def test_what_could_not_be_read_is_empty() -> None:
    hosts = tuple(Host(name, name) for name in "ABC")
    event_types = {"A": [HostedEventType("T", "T", 30), HostedEventType("U", "U", 30)], "B": []}
    rows = table_rows(digest_of({"T": []}, hosts=hosts, event_types=event_types, days=1))
    assert [row["open_slots"] for row in rows] == [0, 0, None]
    assert [row["complete"] for row in rows] == [False, True, False]
    assert {row["working_hours"] for row in rows} == {row["busy_other"] for row in rows} == {None}
    assert open_slots_of_table(rows) == {"B": {"2026-03-02": 0}}


def test_a_thousand_hosts_are_all_in_the_table() -> None:
    hosts = tuple(Host(f"H{number}", f"Host {number:04}") for number in range(1000))
    slots = {f"T{number}": [utc(2 + day, 9) for day in range(number % 7)] for number in range(1000)}
    event_types = {host.uuid: [HostedEventType(f"T{number}", "Call", 30)] for number, host in enumerate(hosts)}
    digest = digest_of(slots, hosts=hosts, event_types=event_types, days=7)
    rows = table_rows(digest)
    assert len(rows) == 7000
    assert sum(row["open_slots"] for row in rows) == digest.open_slots
    read_back = open_slots_of_table(json.dumps(rows))
    assert {uuid: sum(days.values()) for uuid, days in read_back.items()} == {
        entry.host.uuid: entry.open_slots for entry in digest.hosts
    }


@pytest.mark.parametrize("data", [None, "", "{", "{}", "[1]", [{"host_uuid": "A"}], '[{"complete": true}]', 3])
def test_a_table_of_something_else_is_read_as_empty(data: Any) -> None:
    assert open_slots_of_table(data) == {}
