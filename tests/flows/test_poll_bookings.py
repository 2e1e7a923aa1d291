"""What has happened to bookings is told to Prefect once, whatever happens while it is looked for."""

from __future__ import annotations

import asyncio
import json
import secrets
from collections import Counter
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from prefect import flow
from prefect.client.orchestration import PrefectClient, get_client
from prefect.variables import Variable

import flows.poll_bookings as module
from flows.poll_bookings import (
    REMEMBERED,
    SUMMARY_KEY,
    BackfillReport,
    BookingsToPoll,
    BookingsUnreadableError,
    Cursor,
    PollReport,
    advanced,
    backfill,
    is_settled,
    poll_bookings,
    seeded,
    to_read,
    to_tell,
)
from prefect_calendly import CalendlyCredentials
from prefect_calendly.client.errors import GatewayKeyError
from prefect_calendly.events.events import CalendlyEvent, events_of_delivery, events_of_invitee
from prefect_calendly.events.prefect_api import EventsNotStoredError, emit_missing
from prefect_calendly.invitees import Invitee
from prefect_calendly.sandbox import Sandbox
from prefect_calendly.scheduled_events import ScheduledEvent
from prefect_calendly.webhooks.deliveries import parse_delivery
from tests.conftest import credentials_for
from tests.flows.conftest import RECORDER, World, artifact, uuid_of
from tests.support import no_request, nothing_unknown

API = "https://api.calendly.com"
CONNECTION = "21fd90f9-5935-43cd-b6c8-bde9d915ca80"
INVITEES = "/scheduled_events/{uuid}/invitees"

# The pure part, against a Calendly and a Prefect that are a few dictionaries

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

    def happenings(self) -> list[CalendlyEvent]:
        """All that has happened, whenever."""
        return [
            happening
            for meeting in self.meetings
            for invitee in self.invitees(meeting.uri)
            for happening in events_of_invitee(invitee, self.event(meeting))
        ]


class Memory:
    """A Prefect: it stores an id once, and forgets what occurred more than seven days ago."""

    def __init__(self) -> None:
        self.stored: dict[UUID, datetime] = {}
        self.told: Counter[UUID] = Counter()

    def tell(self, events: list[CalendlyEvent], now: datetime) -> None:
        self.stored = {ident: at for ident, at in self.stored.items() if at > now - timedelta(days=7)}
        for event in events:
            if event.id not in self.stored:
                self.stored[event.id] = event.occurred
                self.told[event.id] += 1


@dataclass
class Poll:
    """One run of the flow over those two, as far as it comes."""

    calendly: Calendly
    prefect: Memory
    cursor: Cursor | None
    unreadable: frozenset[int] = frozenset()
    skew: timedelta = timedelta(0)
    """How far the own clock is ahead of Calendly's."""
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

    def tell(self, part: float) -> Cursor | None:
        """Tell a part of what is to be told; the new cursor, if all was told."""
        if self.cursor is None:
            return seeded(self.listed, self.listed_at, self.seconds)
        unread, unsettled, found = set(), set(), []
        for number, event in enumerate(to_read(self.listed, self.cursor)):
            if number in self.unreadable:
                unread.add(event.uri)
                continue
            its = self.calendly.invitees(event.uri)
            if not is_settled(event, its):
                unsettled.add(event.uri)
            found += [each for invitee in its for each in events_of_invitee(invitee, event)]
        telling = to_tell(found, self.cursor, self.calendly.now + self.skew)
        assert telling == sorted(telling, key=lambda each: each.occurred)
        self.prefect.tell(telling[: round(part * len(telling))], self.calendly.now)
        if part < 1:
            return self.cursor
        return advanced(self.cursor, self.listed, unread, unsettled, self.listed_at, self.seconds)


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


POLL_WITHOUT_THE_FIRST = ("poll", range(6), [], 1.0, frozenset({0}), "alone")


def ordered(permutation: list[int]) -> Callable[[list[Meeting]], list[Meeting]]:
    return lambda meetings: sorted(
        meetings, key=lambda meeting: (permutation[hash(meeting.uri) % len(permutation)], meeting.uri)
    )


@settings(max_examples=400)
@example(before=[], history=[("book", 1, 1), ("wait", 90_000), POLL_WITHOUT_THE_FIRST], skew=0)
@example(before=[], history=[("book", 223, 1), ("wait", 400_000), ("wait", 400_000), ("change", (0, "leave"))], skew=0)
@given(
    before=st.lists(st.integers(1, 900), max_size=3),
    history=st.lists(actions, max_size=14),
    skew=st.sampled_from([0, -30, 30]),
)
def test_whatever_comes_together_what_happens_after_the_first_run_is_told_exactly_once(
    before: list[int], history: list[Any], skew: int
) -> None:
    calendly, prefect = Calendly(), Memory()

    def poll(cursor: Cursor | None, *unreadable: int) -> Poll:
        return Poll(calendly, prefect, cursor, frozenset(unreadable), timedelta(minutes=skew))

    def undisturbed(cursor: Cursor | None) -> Cursor:
        calendly.now += timedelta(minutes=20)
        run = poll(cursor)
        run.list(list, [])
        after = run.tell(1)
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
            after = [run.tell(part) or cursor for run in runs]
            cursor = after[0] if others == "first is slow" else after[-1]  # the slower one writes last
    cursor = undisturbed(cursor)

    wanted = {each.id for each in calendly.happenings() if each.occurred > start}
    assert prefect.told == Counter(wanted)
    # And then there is nothing to read any more.
    quiet = poll(cursor)
    quiet.list(list, [])
    assert to_read(quiet.listed, cursor) == []


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
    ("total", "active", "statuses", "settled"),
    [
        (1, 1, ["active"], True),
        (1, 1, [], False),
        (1, 0, ["canceled"], True),
        (1, 0, ["active"], False),
        (3, 2, ["active", "active", "canceled"], True),
        (3, 2, ["active", "canceled"], False),
    ],
)
def test_invitees_that_lag_behind_their_event_are_not_the_last_word(
    total: int, active: int, statuses: list[str], settled: bool
) -> None:
    assert is_settled(event_of("E", START, total=total, active=active), invitees_of(*statuses)) is settled


CURSOR = Cursor(seeded_at=START, updated_since=START, listed_at=START, list_from=START)
LATER = START + timedelta(hours=1)


def test_an_event_whose_invitees_lag_behind_is_looked_at_again_and_others_are_not() -> None:
    events = [event_of("A", LATER), event_of("B", LATER)]
    after = advanced(CURSOR, events, [], [events[0].uri], LATER, 1)
    assert to_read(events, after) == [events[0]]
    assert to_read([event_of("B", LATER + timedelta(seconds=1))], after) != []


def test_of_very_many_changes_at_once_each_is_read_and_the_cursor_still_fits_into_a_variable() -> None:
    events = [event_of(f"E{number:04}", LATER + timedelta(milliseconds=number)) for number in range(2_000)]
    after = advanced(CURSOR, events, [], [], LATER, 1)
    assert len(json.dumps(after.model_dump(mode="json"))) < 4_800
    # Too many to note: some are read a second time, and none is forgotten.
    assert to_read(events, after) == events[:1_700]
    failed = advanced(CURSOR, events, [event.uri for event in events], [], LATER, 1)
    assert len(json.dumps(failed.model_dump(mode="json"))) < 4_800
    assert failed.updated_since == CURSOR.updated_since
    assert to_read(events, failed) == events


def test_where_many_events_cannot_be_read_those_are_kept_that_nothing_else_would_bring_back() -> None:
    old = event_of("OLD", START + timedelta(minutes=1))
    waiting = advanced(CURSOR, [old, event_of("NEW", LATER)], [old.uri], [], LATER, 1)
    assert waiting.updated_since > old.updated_at
    events = [old, *(event_of(f"E{number:04}", LATER + timedelta(minutes=9)) for number in range(200))]
    later = advanced(waiting, events, [event.uri for event in events], [], LATER + timedelta(minutes=10), 1)
    assert to_read(events, later) == events


def test_what_cannot_be_read_is_given_up_when_prefect_would_have_forgotten_it() -> None:
    unread = event_of("E", START + timedelta(minutes=1), start=START + timedelta(days=1))
    newer = event_of("N", START + REMEMBERED - timedelta(minutes=1))
    for days, kept in ((REMEMBERED, True), (REMEMBERED + timedelta(minutes=2), False)):
        after = advanced(CURSOR, [unread, newer], [unread.uri], [], START + days, 1)
        assert (to_read([unread], after) == [unread]) is kept
        assert (after.list_from == unread.start_time) is kept


def test_a_time_that_is_far_ahead_does_not_hide_what_comes_later() -> None:
    wrong, right = event_of("W", START + timedelta(days=365)), event_of("R", LATER)
    after = advanced(CURSOR, [wrong, right], [], [], LATER, 1)
    assert after.updated_since < LATER
    assert seeded([wrong, right], LATER, 1).seeded_at == LATER
    assert to_read([event_of("X", LATER + timedelta(minutes=1))], after) != []


def test_after_a_long_outage_nothing_is_lost_and_what_was_told_long_before_it_is_not_told_again() -> None:
    now = LATER + timedelta(days=20)
    cursor = CURSOR.model_copy(update={"seeded_at": START - timedelta(days=99), "listed_at": LATER})
    person = invitees_of("canceled")[0].model_dump() | {"cancellation": {"created_at": LATER + timedelta(days=1)}}
    booked_before = Invitee.model_validate(person | {"created_at": START - timedelta(days=30)})
    told = to_tell(events_of_invitee(booked_before, event_of("E", LATER)), cursor, now)
    assert [each.event for each in told] == ["calendly.invitee.canceled"]


# Over HTTP, and into a Prefect

through_prefect = pytest.mark.usefixtures("prefect")
WHOLE = BookingsToPoll(scope="organization")


@pytest.fixture
async def prefect(prefect_server: None) -> AsyncIterator[PrefectClient]:
    """A client of a Prefect that no poll has left a cursor in."""
    async with get_client() as client:
        for variable in await client.read_variables():
            if variable.name.startswith("calendly_poll_"):
                await client.delete_variable_by_name(variable.name)
        yield client


@pytest.fixture
def calendly(sandbox: Sandbox) -> Sandbox:
    """A sandbox with events of its own: Prefect knows the others' from other tests."""
    sandbox.reset(seed=secrets.randbelow(10**9))
    return sandbox


async def cursor_of(prefect: PrefectClient) -> tuple[str, dict[str, Any]]:
    (found,) = [each for each in await prefect.read_variables() if each.name.startswith("calendly_poll_")]
    assert isinstance(found.value, dict)
    return found.name, found.value


async def told_of(prefect: PrefectClient, *uris: str) -> list[tuple[str, str]]:
    """What Prefect has of some scheduled events, the oldest first: name and source."""
    found: list[dict[str, Any]] = []
    for uri in uris:
        related = {"id": [f"calendly.scheduled-event.{uuid_of(uri)}"]}
        # Left out, `until` would be now, and Calendly's clock is another one.
        until = (datetime.now(UTC) + timedelta(days=1)).isoformat()
        body = {"filter": {"related": related, "order": "ASC", "occurred": {"until": until}}, "limit": 50}
        found += (await prefect.request("POST", "/events/filter", json=body)).json()["events"]
    each_once = {each["id"]: each for each in found}
    return [(each["event"], each["resource"]["calendly.source"]) for each in each_once.values()]


def pages(world: World, **owner: str) -> int:
    start = (datetime.now(UTC) - timedelta(days=1)).isoformat()
    return max(1, -(-len(world.listing("/scheduled_events", min_start_time=start, **owner)) // 100))


def requests(sandbox: Sandbox) -> dict[str, int]:
    return dict(sandbox.stats()["by_route"])


ORGANIZATION = f"{API}/organizations/BBBBBBBBBBBBBBBB"
QUIET = {"GET /users/me": 1}


@through_prefect
async def test_the_first_run_tells_nothing_and_the_next_one_reads_pages_only_while_nothing_happens(
    calendly: Sandbox, credentials: CalendlyCredentials, world: World, prefect: PrefectClient
) -> None:
    just_before = calendly.add_event(invitees=[{"email": "jane@shop.example"}])
    number = pages(world, organization=ORGANIZATION)
    calendly.reset_stats()

    first = await poll_bookings(credentials, WHOLE)

    assert first.seeded
    assert (first.emitted, first.changed, first.invitee_lists) == ({}, 0, 0)
    assert first.requests == 1 + number
    assert requests(calendly) == {**QUIET, "GET /scheduled_events": number}
    assert (await artifact(SUMMARY_KEY)).startswith("# FIRST RUN")

    for _ in range(2):
        calendly.reset_stats()
        with nothing_unknown(calendly):
            quiet = await poll_bookings(credentials, WHOLE)
        assert not quiet.seeded
        assert (quiet.emitted, quiet.changed, quiet.found) == ({}, 0, 0)
        assert requests(calendly) == {**QUIET, "GET /scheduled_events": number}
    assert await told_of(prefect, just_before) == []
    assert quiet.updated_since_before == first.updated_since


@through_prefect
async def test_what_happens_between_two_runs_is_told_once_at_the_cost_of_what_has_changed(
    calendly: Sandbox, credentials: CalendlyCredentials, world: World, prefect: PrefectClient, run_logs: list[str]
) -> None:
    canceled, moved = (calendly.add_event(invitees=[{"email": "joe.secret@shop.example"}]) for _ in range(2))
    await poll_bookings(credentials, WHOLE)
    booked = calendly.add_event(invitees=[{"email": "jane.secret@shop.example", "name": "Jane Secret"}])
    world.cancel(uuid_of(canceled))
    new = calendly.reschedule_event(uuid_of(moved))
    number = pages(world, organization=ORGANIZATION)
    calendly.reset_stats()

    report = await poll_bookings(credentials, WHOLE)

    assert report.emitted == {
        "calendly.invitee.canceled": 2,
        "calendly.invitee.created": 2,
        "calendly.invitee.rescheduled": 1,
    }
    assert (report.changed, report.invitee_lists, report.found, report.already_there) == (4, 4, 5, 0)
    assert requests(calendly) == {**QUIET, "GET /scheduled_events": number, f"GET {INVITEES}": 4}
    assert report.requests == 1 + number + 4
    assert await told_of(prefect, booked) == [("calendly.invitee.created", "poll")]
    assert await told_of(prefect, canceled) == [("calendly.invitee.canceled", "poll")]
    assert Counter(name for name, _ in await told_of(prefect, moved, new)) == {
        "calendly.invitee.canceled": 1,
        "calendly.invitee.created": 1,
        "calendly.invitee.rescheduled": 1,
    }
    shown = await artifact(SUMMARY_KEY)
    assert shown.startswith(f"# 5 events told to Prefect, 4 changed of {report.events_listed}")
    for text in (shown, report.model_dump_json(), json.dumps((await cursor_of(prefect))[1]), "\n".join(run_logs)):
        assert "secret" not in text.lower()

    calendly.reset_stats()
    again = await poll_bookings(credentials, WHOLE)
    assert (again.emitted, again.changed) == ({}, 0)
    assert requests(calendly) == {**QUIET, "GET /scheduled_events": number}


@through_prefect
async def test_a_second_change_of_the_same_event_is_told_and_the_first_one_not_again(
    calendly: Sandbox, credentials: CalendlyCredentials, world: World, prefect: PrefectClient
) -> None:
    await poll_bookings(credentials, WHOLE)
    uri = calendly.add_event()
    await poll_bookings(credentials, WHOLE)
    world.cancel(uuid_of(uri))
    report = await poll_bookings(credentials, WHOLE)
    assert (report.emitted, report.already_there) == ({"calendly.invitee.canceled": 1}, 1)
    assert [name for name, _ in await told_of(prefect, uri)] == [
        "calendly.invitee.created",
        "calendly.invitee.canceled",
    ]


@through_prefect
async def test_no_shows_are_found_where_events_that_have_begun_are_read_again(
    calendly: Sandbox, credentials: CalendlyCredentials, prefect: PrefectClient
) -> None:
    begun = calendly.add_event(datetime.now(UTC) - timedelta(hours=2))
    await poll_bookings(credentials, WHOLE)
    calendly.mark_no_show(uuid_of(begun))
    assert (await poll_bookings(credentials, WHOLE)).emitted == {}

    calendly.reset_stats()
    report = await poll_bookings(credentials, WHOLE.model_copy(update={"recheck": True}))

    assert report.emitted == {"calendly.invitee_no_show.created": 1}
    assert report.changed == 0
    assert 1 <= report.invitee_lists == requests(calendly)[f"GET {INVITEES}"] < report.events_listed
    assert await told_of(prefect, begun) == [("calendly.invitee_no_show.created", "poll")]
    assert (await poll_bookings(credentials, WHOLE.model_copy(update={"recheck": True}))).emitted == {}


@through_prefect
async def test_what_a_webhook_has_told_is_not_told_again(
    calendly: Sandbox, credentials: CalendlyCredentials, world: World, prefect: PrefectClient
) -> None:
    await poll_bookings(credentials, WHOLE)
    uri = calendly.add_event()
    await emit_missing(prefect, webhook_of(world, uri))
    report = await poll_bookings(credentials, WHOLE)
    assert (report.found, report.emitted, report.already_there) == (1, {}, 1)
    assert await told_of(prefect, uri) == [("calendly.invitee.created", "webhook")]


def webhook_of(world: World, uri: str, event: str = "invitee.created") -> list[CalendlyEvent]:
    """What the receiver makes of the webhook about the one invitee of an event."""
    (invitee,) = world.listing(f"/scheduled_events/{uuid_of(uri)}/invitees")
    (meeting,) = [each for each in world.listing("/scheduled_events", organization=ORGANIZATION) if each["uri"] == uri]
    payload = {**invitee, "scheduled_event": meeting}
    body = {"event": event, "created_at": invitee["updated_at"], "payload": payload}
    return events_of_delivery(parse_delivery(json.dumps(body).encode()), organization=ORGANIZATION)


@through_prefect
async def test_an_event_that_cannot_be_read_hides_no_other_and_is_told_later(
    calendly: Sandbox, credentials: CalendlyCredentials, prefect: PrefectClient
) -> None:
    await poll_bookings(credentials, WHOLE)
    good, bad = calendly.add_event(), calendly.add_event()
    calendly.fault("permission_denied", path=f"/scheduled_events/{uuid_of(bad)}/invitees", times=2)

    for _ in range(2):
        with pytest.raises(BookingsUnreadableError, match="invitees of 1 event could not be listed") as caught:
            await poll_bookings(credentials, WHOLE)
    assert isinstance(caught.value.report, PollReport)
    assert (caught.value.report.unreadable, caught.value.report.emitted) == (1, {})
    assert await told_of(prefect, good, bad) == [("calendly.invitee.created", "poll")]
    summary = await artifact(SUMMARY_KEY)
    assert "1 event UNREADABLE" in summary
    assert f"- {uuid_of(bad)}: RoleRequiredError" in summary

    calendly.reset_stats()
    report = await poll_bookings(credentials, WHOLE)
    assert report.emitted == {"calendly.invitee.created": 1}
    assert requests(calendly)[f"GET {INVITEES}"] == 1
    assert len(await told_of(prefect, good, bad)) == 2


@through_prefect
async def test_a_run_that_dies_before_it_notes_how_far_it_came_loses_and_doubles_nothing(
    calendly: Sandbox, credentials: CalendlyCredentials, prefect: PrefectClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    await poll_bookings(credentials, WHOLE)
    before = await cursor_of(prefect)
    uris = [calendly.add_event() for _ in range(3)]

    class Killed(BaseException):
        pass

    async def half(client: PrefectClient, events: list[CalendlyEvent]) -> list[CalendlyEvent]:
        await emit_missing(client, events[:2])
        raise Killed

    for where, how in (("emit_missing", half), ("keep_cursor", lambda *arguments: (_ for _ in ()).throw(Killed))):
        with monkeypatch.context() as patch:
            patch.setattr(module, where, how)
            with pytest.raises(Killed):
                await poll_bookings(credentials, WHOLE)
        assert await cursor_of(prefect) == before
    report = await poll_bookings(credentials, WHOLE)
    assert (report.emitted, report.already_there) == ({}, 3)
    assert await told_of(prefect, *uris) == [("calendly.invitee.created", "poll")] * 3


@through_prefect
async def test_two_runs_at_once_tell_everything_once(
    calendly: Sandbox, credentials: CalendlyCredentials, prefect: PrefectClient
) -> None:
    first = await asyncio.gather(*(poll_bookings(credentials, WHOLE) for _ in range(2)))
    assert any(report.seeded for report in first)  # the second one may have come when the first was done
    assert [report.emitted for report in first] == [{}, {}]
    uris = [calendly.add_event() for _ in range(5)]
    await asyncio.gather(*(poll_bookings(credentials, WHOLE) for _ in range(2)))
    assert await told_of(prefect, *uris) == [("calendly.invitee.created", "poll")] * 5
    assert (await poll_bookings(credentials, WHOLE)).emitted == {}


async def test_a_prefect_that_does_not_store_keeps_the_cursor_back_and_a_message_goes_out(
    calendly: Sandbox,
    credentials: CalendlyCredentials,
    prefect: PrefectClient,
    recorder: list[tuple[str | None, str]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    polling = WHOLE.model_copy(update={"notify": RECORDER})
    await poll_bookings(credentials, polling)
    assert recorder == []
    before = await cursor_of(prefect)
    uri = calendly.add_event()

    async def stores_nothing(*arguments: Any) -> None:
        raise EventsNotStoredError("Prefect took 1 of 1 events and does not show them")

    with monkeypatch.context() as patch:
        patch.setattr(module, "emit_missing", stores_nothing)
        with pytest.raises(EventsNotStoredError):
            await poll_bookings(credentials, polling)
    assert await cursor_of(prefect) == before
    ((subject, body),) = recorder
    assert (subject, body.splitlines()[0][:20]) == ("Polling bookings failed", "EventsNotStoredError")
    assert (await poll_bookings(credentials, polling)).emitted == {"calendly.invitee.created": 1}
    assert len(await told_of(prefect, uri)) == 1


@through_prefect
async def test_what_was_booked_and_has_begun_while_nobody_looked_is_told(
    calendly: Sandbox, credentials: CalendlyCredentials, prefect: PrefectClient
) -> None:
    await poll_bookings(credentials, WHOLE)
    name, cursor = await cursor_of(prefect)
    stopped = datetime.now(UTC) - timedelta(days=4)
    times = dict.fromkeys(("seeded_at", "updated_since", "listed_at", "list_from"), stopped.isoformat())
    await Variable.aset(name, {**cursor, **times}, overwrite=True)
    uri = calendly.add_event(stopped + timedelta(days=1), created_at=(stopped + timedelta(hours=1)).isoformat())
    await poll_bookings(credentials, WHOLE)
    assert await told_of(prefect, uri) == [("calendly.invitee.created", "poll")]


@through_prefect
async def test_a_cursor_that_somebody_has_changed_is_refused_with_what_to_do(
    calendly: Sandbox, credentials: CalendlyCredentials, prefect: PrefectClient
) -> None:
    await poll_bookings(credentials, WHOLE)
    name, cursor = await cursor_of(prefect)
    for wrong in ("yesterday", {**cursor, "updated_since": "secret"}, {}):
        await Variable.aset(name, wrong, overwrite=True)
        with pytest.raises(ValueError, match=f"the Prefect variable {name} .* delete it") as caught:
            await poll_bookings(credentials, WHOLE)
        assert "secret" not in str(caught.value)


@through_prefect
async def test_scope_user_sees_ones_own_events_needs_no_role_and_has_a_cursor_of_its_own(
    calendly: Sandbox, credentials: CalendlyCredentials, prefect: PrefectClient
) -> None:
    await poll_bookings(credentials, WHOLE)
    uma = calendly.add_user("Uma Plain", role="user")["uri"]
    calendly.set_connection(CONNECTION, user=uma)
    own = credentials_for(calendly)
    assert (await poll_bookings(own, BookingsToPoll())).seeded
    others, mine = calendly.add_event(), calendly.add_event(host=uma)
    report = await poll_bookings(own, BookingsToPoll())
    assert (report.events_listed, report.emitted) == (1, {"calendly.invitee.created": 1})
    assert (await told_of(prefect, others), len(await told_of(prefect, mine))) == ([], 1)
    assert len([v for v in await prefect.read_variables() if v.name.startswith("calendly_poll_")]) == 2


@through_prefect
async def test_the_full_payload_is_told_on_demand_and_by_default_nothing_private(
    calendly: Sandbox, credentials: CalendlyCredentials, prefect: PrefectClient
) -> None:
    await poll_bookings(credentials, WHOLE)
    answer = {"question": "What about?", "answer": "A rash"}
    people = [{"email": "jane@shop.example", "questions_and_answers": [answer]}]
    for payload, private in (("standard", False), ("full", True)):
        uri = calendly.add_event(invitees=people)
        await poll_bookings(credentials, WHOLE.model_copy(update={"payload": payload}))
        body = {"filter": {"related": {"id": [f"calendly.scheduled-event.{uuid_of(uri)}"]}}, "limit": 1}
        (event,) = (await prefect.request("POST", "/events/filter", json=body)).json()["events"]
        assert ("A rash" in json.dumps(event)) is private
        assert event["payload"]["email"] == "jane@shop.example"


@through_prefect
async def test_a_key_that_is_refused_tells_nothing_and_leaves_no_cursor(
    calendly: Sandbox, prefect: PrefectClient
) -> None:
    with pytest.raises(GatewayKeyError):
        await poll_bookings(credentials_for(calendly, api_key="wrong"), WHOLE)
    assert not [each for each in await prefect.read_variables() if each.name.startswith("calendly_poll_")]


@through_prefect
async def test_a_notifier_that_is_none_is_refused_before_any_request(
    calendly: Sandbox, credentials: CalendlyCredentials
) -> None:
    with no_request(calendly), pytest.raises(ValueError, match="there is no saved block"):
        await poll_bookings(credentials, BookingsToPoll(notify="slack-webhook/nowhere"))


def test_the_form_explains_and_orders_every_field() -> None:
    schema = poll_bookings.parameters.model_dump()
    assert list(schema["properties"]) == ["credentials", "polling"]
    fields = schema["definitions"]["BookingsToPoll"]["properties"]
    assert [each["position"] for each in fields.values()] == list(range(len(BookingsToPoll.model_fields)))
    assert all(each["description"].endswith(".") for each in fields.values())


# Backfill


@flow
async def after_an_outage(credentials: CalendlyCredentials, **window: Any) -> BackfillReport:
    return await backfill(credentials, scope="organization", **window)


@through_prefect
async def test_a_backfill_tells_what_is_missing_of_a_time_and_leaves_the_cursor_alone(
    calendly: Sandbox, credentials: CalendlyCredentials, world: World, prefect: PrefectClient
) -> None:
    await poll_bookings(credentials, WHOLE)
    cursor = await cursor_of(prefect)
    now = datetime.now(UTC)
    ago = {hours: (now - timedelta(hours=hours)).isoformat() for hours in (1, 20, 30, 50)}
    last, inside, known, before = (calendly.add_event(created_at=at) for at in ago.values())
    await emit_missing(prefect, webhook_of(world, known))
    window = {"since": now - timedelta(hours=40), "until": now - timedelta(hours=2)}

    calendly.reset_stats()
    report = await after_an_outage(credentials, **window)

    assert report.requests == calendly.stats()["requests"]
    assert (report.found - report.emitted, report.already_there, report.unreadable) == (1, 1, 0)
    assert await told_of(prefect, inside) == [("calendly.invitee.created", "backfill")]
    assert await told_of(prefect, known) == [("calendly.invitee.created", "webhook")]
    assert await told_of(prefect, last, before) == []
    assert await cursor_of(prefect) == cursor
    again = await after_an_outage(credentials, **window)
    assert (again.found, again.emitted, again.already_there) == (report.found, 0, report.found)
    await after_an_outage(credentials, since=now - timedelta(hours=2))
    assert len(await told_of(prefect, last)) == 1


@through_prefect
async def test_a_backfill_finds_no_shows_and_says_what_it_could_not_read(
    calendly: Sandbox, credentials: CalendlyCredentials, prefect: PrefectClient
) -> None:
    begun, unreadable = (calendly.add_event(datetime.now(UTC) - timedelta(hours=hours)) for hours in (2, 3))
    calendly.mark_no_show(uuid_of(begun))
    calendly.fault("permission_denied", path=f"/scheduled_events/{uuid_of(unreadable)}/invitees")
    report = await after_an_outage(credentials, since=datetime.now(UTC) - timedelta(minutes=5))
    assert report.unreadable == 1
    assert await told_of(prefect, begun) == [("calendly.invitee_no_show.created", "backfill")]


@through_prefect
@pytest.mark.parametrize(
    ("window", "words"),
    [
        ({"since": timedelta(days=6, minutes=2)}, "at most 6 days ago: Prefect forgets"),
        ({"since": timedelta(hours=1), "until": timedelta(hours=1)}, "until must be after since"),
        ({"since": None}, "since must have a time zone"),
    ],
)
async def test_a_window_that_cannot_be_told_is_refused_before_any_request(
    calendly: Sandbox, credentials: CalendlyCredentials, window: dict[str, timedelta | None], words: str
) -> None:
    now = datetime.now(UTC)
    times = {name: now.replace(tzinfo=None) if ago is None else now - ago for name, ago in window.items()}
    with no_request(calendly), pytest.raises(ValueError, match=words):
        await after_an_outage(credentials, **times)
