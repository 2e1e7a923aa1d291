"""What is not read again has been read before, and has not changed since."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from prefect.client.orchestration import get_client
from prefect.logging import disable_run_logger
from prefect.variables import Variable

from flows.cancel_blocked_domains import (
    SUMMARY_KEY,
    CancellationsFailedError,
    CancelPolicy,
    CancelReport,
    TooManyCancellationsError,
    cancel_blocked_domains,
)
from flows.harmless import Harmless, after_reading, left_over, to_read
from prefect_calendly import CalendlyCredentials
from prefect_calendly.invitees import acreate_invitee
from prefect_calendly.sandbox import Sandbox
from prefect_calendly.scheduled_events import ScheduledEvent, aget_scheduled_event
from tests.support import artifact
from tests.world import uuid_of

API = "https://api.calendly.com"
START = datetime(2026, 3, 2, 12, tzinfo=UTC)
DAY = timedelta(days=1)
ONLINE = {"kind": "zoom_conference"}
LONG_AGO = "2026-01-01T00:00:00Z"

# The pure part, against a Calendly that is a list


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
    known: Harmless | None = None
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
        reading = {event.uri for event in to_read(events, self.known, self.now, all_after)}
        for number, meeting in listed.items():
            if f"{API}/scheduled_events/E{number}" in reading:
                self.read[number] = meeting
            else:
                assert self.read.get(number) == meeting
        reported = [event for event in events if event.uri in reading and event.uri.endswith("3")]
        after = after_reading(
            *(events, [event for event in events if event.uri in reading], {event.uri for event in reported}),
            self.known,
            window=window,
            listed_at=self.now,
            seconds=1,
        )
        known = left_over(after, [event.uri for event in reported if left_to_next])
        assert known is not None
        self.known = Harmless.model_validate_json(known.model_dump_json())
        for event in reported:
            if left_to_next:
                assert event in to_read(events, self.known, self.now, all_after)


ACTIONS = st.one_of(
    st.tuples(st.just("book"), st.integers(0, 9), st.sampled_from([1, 1, 5])),
    st.tuples(st.just("change"), st.integers(0, 9), st.booleans(), st.booleans()),
    st.tuples(st.just("run"), st.integers(1, 9), st.booleans(), st.sampled_from([timedelta(), DAY, 7 * DAY])),
    st.tuples(st.just("wait"), st.sampled_from([timedelta(seconds=1), timedelta(minutes=4), timedelta(hours=5), DAY])),
)


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


def read_once(events: list[ScheduledEvent], at: datetime = START) -> Harmless:
    window = START, START + 7 * DAY
    return after_reading(events, events, set(), None, window=window, listed_at=at, seconds=1)


def test_what_has_not_changed_is_read_again_after_so_many_hours_and_when_the_clock_was_set_back() -> None:
    events = events_of(5)
    known = read_once(events)
    assert to_read(events, known, START + DAY / 2, DAY) == []
    assert to_read(events, known, START + DAY, DAY) == events
    assert to_read(events, known, START, timedelta()) == events
    assert to_read(events, known, START - timedelta(seconds=1), DAY) == events


def test_a_run_that_reads_only_what_has_changed_does_not_put_off_reading_all() -> None:
    events = events_of(3)
    known = after_reading(events, events[:1], set(), read_once(events), window=(START, START + DAY),
                          listed_at=START + DAY / 2, seconds=1)  # fmt: skip
    assert known.all_read_at == START


async def test_what_is_kept_fits_into_a_variable_however_many_events_there_are(prefect_server: None) -> None:
    events = events_of(2_000, limit=9)
    known = left_over(read_once(events), [event.uri for event in events[:80]])
    assert known is not None
    await Variable.aset("calendly_harmless_test", known.model_dump(mode="json"), overwrite=True)
    assert len(to_read(events, known, START, DAY)) == 1_700 + 80


def test_too_many_to_be_noted_are_not_forgotten() -> None:
    events = events_of(81)
    assert left_over(read_once(events), [event.uri for event in events]) is None


# Through Prefect


through_prefect = pytest.mark.usefixtures("prefect_server")
POLICY = CancelPolicy(blocked_domains=["unwanted.example"], scope="organization", horizon_days=60)


async def run(
    credentials: CalendlyCredentials, policy: CancelPolicy = POLICY, *, dry_run: bool = False
) -> CancelReport:
    return await cancel_blocked_domains(credentials, policy, dry_run=dry_run)


async def join(credentials: CalendlyCredentials, uuid: str, email: str) -> None:
    """Book a group event that others have booked."""
    event = await aget_scheduled_event(credentials, uuid)
    assert event.event_type
    joined = await acreate_invitee(
        credentials,
        event.event_type,
        start_time=event.start_time,
        name="Late",
        email=email,
        timezone="UTC",
        location=ONLINE,
    )
    assert joined.event == event.uri


@through_prefect
async def test_a_day_with_33_changes_among_300_events_takes_at_most_42_requests(
    sandbox: Sandbox, credentials: CalendlyCredentials
) -> None:
    sandbox.reset(events=0, invitees=0)
    there = (await run(credentials, dry_run=True)).events_checked  # those that Calendly's documentation shows
    groups, g = [], [{"email": "g@good.example"}]
    for number in range(3):
        its_type = sandbox.add_event_type(f"Workshop {number}", limit=10, kind="group")
        groups.append(uuid_of(sandbox.add_event(event_type=its_type, invitees=g, created_at=LONG_AGO)))
    for number in range(297 - there):
        sandbox.add_event(sandbox.clock() + timedelta(hours=4 * number + 200), invitees=g, created_at=LONG_AGO)
    sandbox.reset_stats()
    first = await run(credentials)
    assert (first.events_checked, first.events_read, first.requests) == (300, 300, 2 + 3 + 300)
    assert first.requests == sandbox.stats()["requests"]

    bad = [uuid_of(sandbox.add_event(invitees=[{"email": f"x{n}@unwanted.example"}])) for n in range(10)]
    for number in range(20):
        sandbox.add_event(invitees=[{"email": f"y{number}@good.example"}])
    with disable_run_logger():
        for group in groups:
            await join(credentials, group, "late@unwanted.example")
    sandbox.reset_stats()
    plan = await run(credentials, dry_run=True)
    assert (plan.events_read, plan.to_cancel, plan.reported) == (33, 10, 3)
    assert plan.requests == sandbox.stats()["requests"] == 2 + 4 + 33 <= 42
    assert "330 events of the organization, 33 of them new or changed since the last run" in await artifact(SUMMARY_KEY)

    second = await run(credentials)
    assert set(second.canceled_events) == set(bad)
    assert second.requests == 2 + 4 + 33 + 10
    third = await run(credentials)
    assert (third.events_read, third.to_cancel, third.reported) == (3, 0, 3)  # those groups are looked at each time


@through_prefect
async def test_another_policy_another_scope_and_a_dry_run_look_at_everything(
    sandbox: Sandbox, credentials: CalendlyCredentials
) -> None:
    everything = (await run(credentials, dry_run=True)).events_checked
    assert (await run(credentials, dry_run=True)).events_read == everything > 3
    assert (await run(credentials)).events_read == everything
    known = (await run(credentials)).events_read
    assert known < everything
    for change in (
        {"blocked_domains": ["other.example"]},
        {"allowed_emails": ["jane@unwanted.example"]},
        {"check_guests": False},
        {"group_events": "cancel"},
        {"protect_own_domains": False},
        {"full_scan_hours": 0},
    ):
        report = await run(credentials, POLICY.model_copy(update=change), dry_run=True)
        assert report.events_read == report.events_checked, change
    reworded = POLICY.model_copy(update={"reason": "No.", "max_cancellations": 3, "mask_emails": False})
    assert (await run(credentials, reworded)).events_read == known
    other = await run(credentials, POLICY.model_copy(update={"scope": "user"}), dry_run=True)
    assert other.events_read == other.events_checked


@through_prefect
async def test_a_wider_horizon_reads_what_lies_beyond_the_last_one(
    sandbox: Sandbox, credentials: CalendlyCredentials
) -> None:
    sandbox.reset(events=0, invitees=0)
    for days in (3, 30):
        sandbox.add_event(sandbox.clock() + timedelta(days=days), invitees=[{"email": "x@good.example"}])
    week = await run(credentials, POLICY.model_copy(update={"horizon_days": 7}))
    month = await run(credentials)
    assert week.events_read == week.events_checked < month.events_checked
    assert month.events_read == month.events_checked - week.events_checked
    assert (await run(credentials)).events_read == 0


@through_prefect
async def test_a_run_that_fails_or_is_over_the_cap_leaves_all_to_the_next(
    sandbox: Sandbox, credentials: CalendlyCredentials
) -> None:
    sandbox.reset(events=0, invitees=0)
    for number in range(5):
        sandbox.add_event(invitees=[{"email": f"x{number}@good.example"}])
    sandbox.fault("permission_denied", route="/scheduled_events/{uuid}/invitees", times=1)
    with pytest.raises(CancellationsFailedError):
        await run(credentials)
    sandbox.clear_faults()
    for number in range(2):
        sandbox.add_event(invitees=[{"email": f"x{number}@unwanted.example"}])
    with pytest.raises(TooManyCancellationsError):
        await run(credentials, POLICY.model_copy(update={"max_cancellations": 1}))
    report = await run(credentials)
    assert (report.events_read, report.canceled) == (report.events_checked, 2)


@through_prefect
async def test_a_variable_that_holds_something_else_is_as_good_as_none(
    sandbox: Sandbox, credentials: CalendlyCredentials
) -> None:
    everything = (await run(credentials)).events_checked
    async with get_client() as client:
        (kept,) = await client.read_variables()
    assert kept.name.startswith("calendly_harmless_")
    assert "@" not in str(kept.value)
    await Variable.aset(kept.name, {"since": "yesterday"}, overwrite=True)
    assert (await run(credentials)).events_read == everything
    assert (await run(credentials)).events_read < everything
