"""Whatever happens between two runs, and whatever fails, each change after the first run is emitted exactly once."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from prefect_calendly.bookings.cursor import REMEMBERED, Cursor, events_to_emit, first_cursor, next_cursor
from prefect_calendly.bookings.reading import is_consistent
from prefect_calendly.events.event import CalendlyEvent
from prefect_calendly.events.invitees import events_of_invitee
from prefect_calendly.invitees import Invitee
from prefect_calendly.scheduled_events import ScheduledEvent

API = "https://api.calendly.com"
START = datetime(2026, 3, 2, 12, tzinfo=UTC)


@dataclass
class Person:
    uri: str
    created: datetime
    canceled: datetime | None = None
    old: str | None = None
    new: str | None = None


@dataclass
class Meeting:
    uri: str
    start: datetime
    created: datetime
    updated: datetime
    limit: int = 1
    people: list[Person] = field(default_factory=list)


class Calendly:
    """Bookings, and a clock that goes on with every change."""

    def __init__(self) -> None:
        self.now = START
        self.meetings: list[Meeting] = []

    def book(self, hours: int, limit: int = 1) -> Meeting:
        self.now += timedelta(milliseconds=1)
        uri = f"{API}/scheduled_events/E{len(self.meetings)}"
        meeting = Meeting(uri, self.now + timedelta(hours=hours), self.now, self.now, limit)
        self.meetings.append(meeting)
        self._join(meeting)
        return meeting

    def _join(self, meeting: Meeting, old: Person | None = None) -> None:
        person = Person(f"{meeting.uri}/invitees/I{len(meeting.people)}", self.now, old=old.uri if old else None)
        meeting.people.append(person)
        meeting.updated = self.now
        if old is not None:
            old.new = person.uri

    def change(self, which: int, how: str) -> None:
        """Somebody joins, leaves or moves a meeting that has not begun; or its host cancels it."""
        self.now += timedelta(milliseconds=1)
        upcoming = [each for each in self.meetings if each.start > self.now and self._active(each)]
        if not upcoming:
            return
        meeting = upcoming[which % len(upcoming)]
        people = self._active(meeting)
        if how == "join" and meeting.limit > 1:
            self._join(meeting)
        elif how == "leave":
            people[0].canceled = meeting.updated = self.now
        elif how == "cancel":
            for person in people:
                person.canceled = self.now
            meeting.updated = self.now
        elif how == "move":
            new = Meeting(
                f"{API}/scheduled_events/E{len(self.meetings)}", meeting.start + timedelta(hours=5), self.now, self.now
            )
            self.meetings.append(new)
            for person in people:
                self._join(new, person)
                person.canceled = self.now
            meeting.updated = self.now

    def _active(self, meeting: Meeting) -> list[Person]:
        return [person for person in meeting.people if person.canceled is None]

    def event(self, meeting: Meeting) -> ScheduledEvent:
        active = len(self._active(meeting))
        return ScheduledEvent.model_validate(
            {
                "uri": meeting.uri,
                "status": "active" if active else "canceled",
                "start_time": meeting.start,
                "end_time": meeting.start,
                "created_at": meeting.created,
                "updated_at": meeting.updated,
                "invitees_counter": {"total": len(meeting.people), "active": active, "limit": meeting.limit},
                "event_memberships": [],
            }
        )

    def invitees(self, uri: str) -> list[Invitee]:
        (meeting,) = [each for each in self.meetings if each.uri == uri]
        found = []
        for person in meeting.people:
            values: dict[str, Any] = {"uri": person.uri, "email": "j@x.example", "name": "J", "event": uri}
            values |= {"created_at": person.created, "updated_at": person.canceled or person.created}
            values |= {"old_invitee": person.old, "new_invitee": person.new, "rescheduled": person.new is not None}
            values["status"] = "active" if person.canceled is None else "canceled"
            if person.canceled is not None:
                values["cancellation"] = {"created_at": person.canceled}
            found.append(Invitee.model_validate(values))
        return found

    def events(self) -> list[CalendlyEvent]:
        """The Prefect events of everything that has happened, whenever."""
        return [
            event
            for meeting in self.meetings
            for invitee in self.invitees(meeting.uri)
            for event in events_of_invitee(invitee, self.event(meeting))
        ]


class Prefect:
    """It stores an id once, and deletes what occurred more than seven days ago."""

    def __init__(self) -> None:
        self.stored: dict[UUID, datetime] = {}
        self.accepted: Counter[UUID] = Counter()
        """How often it has stored each id."""

    def emit(self, events: list[CalendlyEvent], now: datetime) -> None:
        self.stored = {ident: at for ident, at in self.stored.items() if at > now - timedelta(days=7)}
        for event in events:
            if event.id not in self.stored:
                self.stored[event.id] = event.occurred
                self.accepted[event.id] += 1


@dataclass
class Poll:
    """One run of the flow over those two, as far as it comes."""

    calendly: Calendly
    prefect: Prefect
    cursor: Cursor | None
    unreadable: frozenset[int] = frozenset()
    skew: timedelta = timedelta(0)
    """How far our clock is ahead of Calendly's."""
    listed: list[ScheduledEvent] = field(default_factory=list)
    listed_at: datetime = START
    seconds: float = 0.0

    def list(self, order: Callable[[list[Meeting]], list[Meeting]], meanwhile: list[tuple[int, str]]) -> None:
        """Page by page, while things go on happening."""
        began = self.calendly.now
        self.listed_at = began + self.skew
        since = min(self.listed_at, self.cursor.list_from if self.cursor else self.listed_at) - timedelta(days=1)
        waiting = order(list(self.calendly.meetings))
        for number, meeting in enumerate(waiting):
            if meeting.start >= since:
                self.listed.append(self.calendly.event(meeting))
            if number < len(meanwhile):
                self.calendly.now += timedelta(minutes=4)
                self.calendly.change(*meanwhile[number])
        self.seconds = (self.calendly.now - began).total_seconds()

    def emit(self, part: float) -> Cursor | None:
        """Emit a part of the events; the new cursor, if all were emitted."""
        if self.cursor is None:
            return first_cursor(self.listed, self.listed_at, self.seconds)
        unread, inconsistent, found = set(), set(), []
        for number, event in enumerate(changed(self.listed, self.cursor)):
            if number in self.unreadable:
                unread.add(event.uri)
                continue
            its = self.calendly.invitees(event.uri)
            if not is_consistent(event, its):
                inconsistent.add(event.uri)
            found += [each for invitee in its for each in events_of_invitee(invitee, event)]
        emitting = events_to_emit(found, self.cursor, self.calendly.now + self.skew)
        assert emitting == sorted(emitting, key=lambda each: each.occurred)
        self.prefect.emit(emitting[: round(part * len(emitting))], self.calendly.now)
        if part < 1:
            return self.cursor
        return next_cursor(self.cursor, self.listed, unread, inconsistent, self.listed_at, self.seconds)


def changed(events: list[ScheduledEvent], cursor: Cursor) -> list[ScheduledEvent]:
    return [event for event in events if cursor.has_changed(event)]


changes = st.tuples(st.integers(0, 9), st.sampled_from(["join", "leave", "cancel", "move"]))
actions = st.one_of(
    st.tuples(st.just("book"), st.integers(1, 900), st.sampled_from([1, 5])),
    st.tuples(st.just("change"), changes),
    st.tuples(st.just("wait"), st.sampled_from([1, 200, 400, 4_000, 90_000, 400_000])),
    st.tuples(
        st.just("poll"),
        st.permutations(range(6)),
        st.lists(changes, max_size=3),
        st.sampled_from([0.0, 0.5, 1.0, 1.0, 1.0]),
        st.frozensets(st.integers(0, 3), max_size=2),
        st.sampled_from(["alone", "alone", "first is slow", "second is slow"]),
    ),
)


POLL_WITHOUT_THE_FIRST: Any = ("poll", range(6), [], 1.0, frozenset({0}), "alone")


def ordered(permutation: list[int]) -> Callable[[list[Meeting]], list[Meeting]]:
    return lambda meetings: sorted(
        meetings, key=lambda meeting: (permutation[hash(meeting.uri) % len(permutation)], meeting.uri)
    )


@settings(max_examples=150)
@example(before=[], history=[("book", 1, 1), ("wait", 90_000), POLL_WITHOUT_THE_FIRST], skew=0)
@example(before=[], history=[("book", 223, 1), ("wait", 400_000), ("wait", 400_000), ("change", (0, "leave"))], skew=0)
@given(
    before=st.lists(st.integers(1, 900), max_size=3),
    history=st.lists(actions, max_size=14),
    skew=st.sampled_from([0, -30, 30]),
)
def test_each_change_after_the_first_run_is_emitted_exactly_once_whatever_happens(
    before: list[int], history: list[Any], skew: int
) -> None:
    calendly, prefect = Calendly(), Prefect()

    def poll(cursor: Cursor | None, *unreadable: int) -> Poll:
        return Poll(calendly, prefect, cursor, frozenset(unreadable), timedelta(minutes=skew))

    def undisturbed(cursor: Cursor | None) -> Cursor:
        calendly.now += timedelta(minutes=20)
        run = poll(cursor)
        run.list(list, [])
        after = run.emit(1)
        assert after is not None
        return after

    for hours in before:
        calendly.book(hours)
    cursor = undisturbed(None)
    start, complete = cursor.seeded_at, calendly.now

    for action in history:
        calendly.now += timedelta(seconds=1)
        if action[0] == "book":
            calendly.book(action[1], action[2])
        elif action[0] == "change":
            calendly.change(*action[1])
        elif action[0] == "wait":
            if calendly.now + timedelta(seconds=action[1]) > complete + timedelta(days=5):
                cursor, complete = undisturbed(cursor), calendly.now
            calendly.now += timedelta(seconds=action[1])
        else:
            _, permutation, meanwhile, part, unreadable, others = action
            runs = [poll(cursor, *unreadable)] + ([] if others == "alone" else [poll(cursor)])
            for run in runs:
                run.list(ordered(permutation), meanwhile)
            after = [run.emit(part) or cursor for run in runs]
            cursor = after[0] if others == "first is slow" else after[-1]  # the slower one writes last
    cursor = undisturbed(cursor)

    wanted = {each.id for each in calendly.events() if each.occurred > start}
    assert prefect.accepted == Counter(wanted)
    # Then there is nothing left to read.
    quiet = poll(cursor)
    quiet.list(list, [])
    assert changed(quiet.listed, cursor) == []


def event_of(
    uuid: str, updated: datetime, *, start: datetime | None = None, total: int = 1, active: int = 1
) -> ScheduledEvent:
    return ScheduledEvent.model_validate(
        {
            "uri": f"{API}/scheduled_events/{uuid}",
            "status": "active",
            "start_time": start or START + timedelta(days=9),
            "end_time": start or START + timedelta(days=9),
            "created_at": START,
            "updated_at": updated,
            "invitees_counter": {"total": total, "active": active, "limit": 1},
            "event_memberships": [],
        }
    )


def invitees_of(*statuses: str) -> list[Invitee]:
    uri, times = f"{API}/scheduled_events/E", {"created_at": START, "updated_at": START}
    people = enumerate(statuses)
    return [
        Invitee.model_validate(
            {"uri": f"{uri}/invitees/{n}", "email": "", "name": "", "event": uri, "status": s, **times}
        )
        for n, s in people
    ]


@pytest.mark.parametrize(
    ("total", "active", "statuses", "consistent"),
    [
        (1, 1, ["active"], True),
        (1, 1, [], False),
        (1, 0, ["canceled"], True),
        (1, 0, ["active"], False),
        (3, 2, ["active", "active", "canceled"], True),
        (3, 2, ["active", "canceled"], False),
    ],
)
def test_invitees_that_lag_behind_their_event_are_inconsistent(
    total: int, active: int, statuses: list[str], consistent: bool
) -> None:
    assert is_consistent(event_of("E", START, total=total, active=active), invitees_of(*statuses)) is consistent


CURSOR = Cursor(seeded_at=START, updated_since=START, listed_at=START, list_from=START)
LATER = START + timedelta(hours=1)


def test_an_event_whose_invitees_lag_behind_is_read_again_and_others_are_not() -> None:
    events = [event_of("A", LATER), event_of("B", LATER)]
    after = next_cursor(CURSOR, events, [], [events[0].uri], LATER, 1)
    assert changed(events, after) == [events[0]]
    assert changed([event_of("B", LATER + timedelta(seconds=1))], after) != []


@pytest.mark.parametrize("readable", [True, False])
def test_very_many_changes_at_once_are_all_remembered(readable: bool) -> None:
    events = [event_of(f"E{number:05}", LATER + timedelta(milliseconds=number)) for number in range(5_000)]
    unread = set() if readable else {event.uri for event in events}
    after = next_cursor(CURSOR, events, unread, set(), LATER, 1)
    assert changed(events, after) == ([] if readable else events)


def test_an_event_that_cannot_be_read_is_read_again_although_later_ones_have_changed() -> None:
    old = event_of("OLD", START + timedelta(minutes=1))
    waiting = next_cursor(CURSOR, [old, event_of("NEW", LATER)], [old.uri], [], LATER, 1)
    assert waiting.updated_since > old.updated_at
    events = [old, *(event_of(f"E{number:04}", LATER + timedelta(minutes=9)) for number in range(200))]
    uris = [event.uri for event in events]
    later = next_cursor(waiting, events, uris, [], LATER + timedelta(minutes=10), 1)
    assert changed(events, later) == events


def test_what_cannot_be_read_is_given_up_when_its_events_are_too_old() -> None:
    unread = event_of("E", START + timedelta(minutes=1), start=START + timedelta(days=1))
    newer = event_of("N", START + REMEMBERED - timedelta(minutes=1))
    for days, kept in ((REMEMBERED, True), (REMEMBERED + timedelta(minutes=2), False)):
        after = next_cursor(CURSOR, [unread, newer], [unread.uri], [], START + days, 1)
        assert (changed([unread], after) == [unread]) is kept
        assert (after.list_from == unread.start_time) is kept


def test_a_time_that_is_far_ahead_does_not_hide_what_comes_later() -> None:
    wrong, right = event_of("W", START + timedelta(days=365)), event_of("R", LATER)
    after = next_cursor(CURSOR, [wrong, right], [], [], LATER, 1)
    assert after.updated_since < LATER
    assert first_cursor([wrong, right], LATER, 1).seeded_at == LATER
    assert changed([event_of("X", LATER + timedelta(minutes=1))], after) != []


def test_after_a_long_pause_nothing_is_lost_and_what_was_emitted_long_before_is_not_emitted_again() -> None:
    now = LATER + timedelta(days=20)
    cursor = CURSOR.model_copy(update={"seeded_at": START - timedelta(days=99), "listed_at": LATER})
    person = invitees_of("canceled")[0].model_dump() | {"cancellation": {"created_at": LATER + timedelta(days=1)}}
    booked_before = Invitee.model_validate(person | {"created_at": START - timedelta(days=30)})
    emitted = events_to_emit(events_of_invitee(booked_before, event_of("E", LATER)), cursor, now)
    assert [each.event for each in emitted] == ["calendly.invitee.canceled"]
