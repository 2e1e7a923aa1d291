"""What is not read again has been read before, and has not changed since."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Any

from hypothesis import example, given, settings
from hypothesis import strategies as st

from prefect_calendly.scheduled_events import ScheduledEvent
from prefect_calendly.screening.unchanged import Unchanged, events_to_scan, next_cursor, with_rescan
from tests.screening.conftest import API

START = datetime(2026, 3, 2, 12, tzinfo=UTC)
DAY = timedelta(days=1)

# Against a Calendly that is a list


@dataclass(frozen=True)
class Meeting:
    number: int
    start: datetime
    updated: datetime
    people: tuple[str, ...] = ("p0",)
    gone: int = 0
    limit: int = 1

    @property
    def event(self) -> ScheduledEvent:
        counter = {"total": len(self.people), "active": len(self.people) - self.gone, "limit": self.limit}
        return ScheduledEvent.model_validate(
            {
                "uri": f"{API}/scheduled_events/E{self.number}",
                "status": "active",
                "start_time": self.start,
                "end_time": self.start + timedelta(minutes=30),
                "created_at": self.updated,
                "updated_at": self.updated,
                "invitees_counter": counter,
                "event_memberships": [],
                "event_guests": [],
            }
        )


@dataclass
class Calendly:
    """Meetings that change, and a job that looks for them now and then."""

    now: datetime = START
    ahead: timedelta = timedelta()
    """Of Calendly's clock."""
    meetings: dict[int, Meeting] = field(default_factory=dict)
    known: Unchanged | None = None
    read: dict[int, Meeting] = field(default_factory=dict)
    """As they were when their invitees were last listed."""

    def book(self, days: int, limit: int) -> None:
        number = len(self.meetings)
        self.meetings[number] = Meeting(number, self.now + days * DAY, self.now + self.ahead, limit=limit)

    def change(self, number: int, join: bool, silent: bool) -> None:
        """Somebody joins or leaves a group; Calendly may not show that as a change of the event."""
        if not (old := self.meetings.get(number)) or (old.limit == 1 and (join or silent)):
            return
        if join:
            new = replace(old, people=(*old.people, f"p{len(old.people)}"))
        elif old.gone == len(old.people) - (old.limit == 1):
            return
        else:
            new = replace(old, gone=old.gone + 1)
        self.meetings[number] = new if silent else replace(new, updated=self.now + self.ahead)

    def run(self, days: int, left_to_next: bool, all_after: timedelta) -> None:
        window = self.now, self.now + days * DAY
        listed = {n: each for n, each in self.meetings.items() if window[0] <= each.start < window[1]}
        events = [each.event for each in listed.values()]
        reading = {event.uri for event in events_to_scan(events, self.known, self.now, all_after)}
        for number, meeting in listed.items():
            if f"{API}/scheduled_events/E{number}" in reading:
                self.read[number] = meeting
            else:
                assert self.read.get(number) == meeting
        reported = [event for event in events if event.uri in reading and event.uri.endswith("3")]
        after = next_cursor(
            *(events, [event for event in events if event.uri in reading], {event.uri for event in reported}),
            self.known,
            window=window,
            listed_at=self.now,
            seconds=1,
        )
        known = with_rescan(after, [event.uri for event in reported if left_to_next])
        self.known = Unchanged.model_validate_json(known.model_dump_json())
        for event in reported:
            if left_to_next:
                assert event in events_to_scan(events, self.known, self.now, all_after)


ACTIONS = st.one_of(
    st.tuples(st.just("book"), st.integers(0, 9), st.sampled_from([1, 1, 5])),
    st.tuples(st.just("change"), st.integers(0, 9), st.booleans(), st.booleans()),
    st.tuples(st.just("run"), st.integers(1, 9), st.booleans(), st.sampled_from([timedelta(), DAY, 7 * DAY])),
    st.tuples(st.just("wait"), st.sampled_from([timedelta(seconds=1), timedelta(minutes=4), timedelta(hours=5), DAY])),
)


@settings(max_examples=60)
@given(st.lists(ACTIONS, max_size=30), st.sampled_from([-40, -2, 0, 2, 40]))
@example([("run", 1, False, DAY), ("book", 0, 1), ("run", 1, False, DAY)], -40)  # nothing tells Calendly's time yet
def test_whatever_happens_what_is_not_read_was_read_as_it_is_now(actions: list[Any], minutes: int) -> None:
    calendly = Calendly(ahead=timedelta(minutes=minutes))
    for what, *how in actions:
        if what == "wait":
            calendly.now += how[0]
        else:
            getattr(calendly, what)(*how)


def events_of(count: int, **members: Any) -> list[ScheduledEvent]:
    return [Meeting(n, START + DAY, START - DAY, **members).event for n in range(count)]


def read_once(events: list[ScheduledEvent], at: datetime = START) -> Unchanged:
    window = START, START + 7 * DAY
    return next_cursor(events, events, set(), None, window=window, listed_at=at, seconds=1)


def test_what_has_not_changed_is_read_again_after_so_many_hours_and_when_the_clock_was_set_back() -> None:
    events = events_of(5)
    known = read_once(events)
    assert events_to_scan(events, known, START + DAY / 2, DAY) == []
    assert events_to_scan(events, known, START + DAY, DAY) == events
    assert events_to_scan(events, known, START, timedelta()) == events
    assert events_to_scan(events, known, START - timedelta(seconds=1), DAY) == events


def test_a_run_that_reads_only_what_has_changed_does_not_put_off_reading_all() -> None:
    events = events_of(3)
    known = next_cursor(events, events[:1], set(), read_once(events), window=(START, START + DAY),
                          listed_at=START + DAY / 2, seconds=1)  # fmt: skip
    assert known.all_read_at == START


def test_all_group_events_and_all_recent_ones_are_remembered_however_many_they_are() -> None:
    groups, recent = events_of(2_000, limit=9), [replace_time(event, START) for event in events_of(4_000)[2_000:]]
    known = Unchanged.model_validate_json(read_once(groups + recent).model_dump_json())
    assert events_to_scan(groups + recent, known, START, DAY) == []
    known = with_rescan(known, [event.uri for event in groups[:500]])
    assert events_to_scan(groups + recent, known, START, DAY) == groups[:500]


def replace_time(event: ScheduledEvent, updated_at: datetime) -> ScheduledEvent:
    return event.model_copy(update={"updated_at": updated_at})
