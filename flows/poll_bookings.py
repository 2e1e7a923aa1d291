"""The polling twin of the webhooks: looks what has happened to bookings, and tells Prefect by the same events."""

from __future__ import annotations

import time
from collections import Counter, deque
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Final, Literal

from prefect import task
from prefect.artifacts import acreate_markdown_artifact
from prefect.cache_policies import NO_CACHE
from prefect.client.orchestration import get_client
from pydantic import AwareDatetime, Field, ValidationError

from prefect_calendly import CalendlyCredentials, CalendlyError
from prefect_calendly.bookings.changes import (
    CLOCKS_DIFFER,
    LEAST_OVERLAP,
    fingerprint,
    fingerprint_of_change,
    is_shared,
    newest_change,
    overlap,
)
from prefect_calendly.client import RequestMeter, count_requests
from prefect_calendly.client.identifiers import uuid_of
from prefect_calendly.events.events import CalendlyEvent, Payload, Source, events_of_invitee
from prefect_calendly.events.prefect_api import emit_missing
from prefect_calendly.invitees import Invitee, alist_invitees_of_events
from prefect_calendly.runs.flow import calendly_flow
from prefect_calendly.runs.forms import Notifier, Parameters, optional_form_field
from prefect_calendly.runs.logger import run_logger
from prefect_calendly.runs.markdown import cost, escape_cell, pluralize, sections, short_error
from prefect_calendly.runs.notifications import check_notifier, notify_on_failure
from prefect_calendly.runs.progress import progress
from prefect_calendly.runs.state import read_state, save_state, state_name
from prefect_calendly.scheduled_events import ScheduledEvent, alist_scheduled_events
from prefect_calendly.users import User, aget_current_user

SUMMARY_KEY: Final = "poll-bookings"
PROGRESS_KEY: Final = "poll-bookings-progress"

Scope = Literal["user", "organization"]

PAYLOAD_HELP: Final = (
    "What the events hold. standard leaves out answers, telephone numbers, reasons and links to join or cancel; full "
    "has all."
)

REMEMBERED: Final = timedelta(days=6)
"""How far back Prefect can be asked what it was told: it keeps events for 7 days, and clocks differ."""
LOOK_BACK: Final = timedelta(days=1)
"""How long before a window an event may have begun whose no-shows are marked in the window."""

_EVENTS_PER_TASK: Final = 1_000
_EVENTS_PER_POST: Final = 500
_MOST_PROBLEMS_IN_SUMMARY: Final = 10
# Together they fit into a variable: 5,000 characters.
_MOST_DONE: Final = 300
_MOST_AGAIN: Final = 100


# Parameters and reports


class BookingsToPoll(Parameters):
    """Whose bookings to look at, and how closely."""

    scope: Scope = Field(
        default="user",
        description="Your own events, or the whole organization's (needs an owner or admin).",
        json_schema_extra={"position": 0},
    )
    look_back_days: int = Field(
        default=1,
        ge=0,
        le=30,
        description="How many days an event that has begun is still looked at: so long its no-shows are seen.",
        json_schema_extra={"position": 1},
    )
    recheck: bool = Field(
        default=False,
        description=(
            "Read the invitees of group events and of events that have begun even if Calendly does not show the event "
            "as changed. Finds no-shows; costs a request for each such event."
        ),
        json_schema_extra={"position": 2},
    )
    payload: Payload = Field(
        default="standard",
        description=PAYLOAD_HELP,
        json_schema_extra={"position": 3},
    )
    notify: Notifier = Field(
        default=None,
        description=(
            "Type and name of a saved notification block, such as slack-webhook/ops: gets a message when it fails."
        ),
        json_schema_extra=optional_form_field(4),
    )


class PollReport(Parameters):
    """How the flow ended; holds no personal data."""

    seeded: bool = Field(description="Whether this was the first run: it only notes how far Calendly is.")
    events_listed: int = Field(description="Scheduled events that were listed.")
    changed: int = Field(description="Of them, those that have changed, or could not be read last time.")
    invitee_lists: int = Field(description="Of them, those whose invitees were listed.")
    found: int = Field(description="Happenings that were found and are not too old to be told.")
    emitted: dict[str, int] = Field(description="Events that Prefect was told of, by name.")
    already_there: int = Field(description="Events that Prefect knew, from a webhook or an earlier run.")
    unreadable: int = Field(description="Events whose invitees could not be listed; the next run tries again.")
    updated_since_before: datetime | None = Field(description="From when on changes were looked for.")
    updated_since: datetime = Field(description="From when on the next run looks for changes.")
    requests: int = Field(description="Requests sent to the gateway.")
    seconds: float = Field(description="How long it took.")


class BackfillReport(Parameters):
    """What a backfill found and told; holds no personal data."""

    found: int = Field(description="Happenings of that time that the API shows.")
    emitted: int = Field(description="Of them, those that Prefect did not know and was told of.")
    already_there: int = Field(description="Of them, those that Prefect knew.")
    unreadable: int = Field(description="Events whose invitees could not be listed: what happened to them is not told.")
    events_listed: int = Field(description="Scheduled events that were listed.")
    invitee_lists: int = Field(description="Scheduled events whose invitees were listed.")
    requests: int = Field(description="Requests sent to the gateway.")
    seconds: float = Field(description="How long it took.")


class BookingsUnreadableError(Exception):
    """The invitees of some events could not be listed; what happened to all others was told."""

    def __init__(self, message: str, report: Parameters | None = None) -> None:
        super().__init__(message)
        self.report = report


# What decides: nothing here asks anything


class Cursor(Parameters):
    """How far polling has come, in Calendly's own time; kept in a Prefect variable."""

    seeded_at: AwareDatetime
    """What happened later is told, what happened before never."""
    updated_since: AwareDatetime
    """All changes before are told."""
    listed_at: AwareDatetime
    """When the last listing began, by the own clock."""
    list_from: AwareDatetime
    """What begins from here on was listed, or has to be listed again; by the own clock."""
    done: tuple[str, ...] = ()
    """Marks of changes since `updated_since` that are told already."""
    again: tuple[str, ...] = ()
    """Marks of events that could not be read; tried again for as long as Prefect remembers."""


def seeded(listed: Iterable[ScheduledEvent], listed_at: datetime, seconds: float) -> Cursor:
    """Return the cursor of a first run, which tells of nothing.

    Args:
        listed: All events that were listed.
        listed_at: When the listing began, by the own clock.
        seconds: How long it took.
    """
    newest = newest_change(listed, listed_at)
    # Of an account where nothing has changed for long, what happened since then cannot all be seen.
    start = max(newest or listed_at - CLOCKS_DIFFER, listed_at - CLOCKS_DIFFER)
    return Cursor(seeded_at=start, updated_since=start - overlap(seconds), listed_at=listed_at, list_from=listed_at)


def to_read(events: Iterable[ScheduledEvent], cursor: Cursor) -> list[ScheduledEvent]:
    """Return the events whose invitees are to be listed, because they have changed or could not be read last time."""
    done, again = frozenset(cursor.done), frozenset(cursor.again)
    return [
        event
        for event in events
        if fingerprint(event.uri) in again
        or (
            event.updated_at >= cursor.updated_since
            and event.updated_at > cursor.seeded_at
            and fingerprint_of_change(event) not in done
        )
    ]


def may_hide_changes(event: ScheduledEvent, until: datetime) -> bool:
    """Say whether something can happen to an event's invitees without the event being shown as changed.

    Calendly does not say whether a no-show, or a change of a group, changes the event's `updated_at`.
    """
    return event.start_time <= until or is_shared(event)


def to_tell(happenings: Iterable[CalendlyEvent], cursor: Cursor, now: datetime) -> list[CalendlyEvent]:
    """Return what is to be told, the oldest first.

    Nothing from before the first run; and nothing of which Prefect may have forgotten that an earlier run has told it.
    """
    since = min(now - REMEMBERED, cursor.listed_at - CLOCKS_DIFFER)
    return sorted(
        (each for each in happenings if each.occurred > cursor.seeded_at and each.occurred >= since),
        key=lambda each: each.occurred,
    )


def advanced(
    cursor: Cursor,
    listed: Sequence[ScheduledEvent],
    unread: Collection[str],
    unsettled: Collection[str],
    listed_at: datetime,
    seconds: float,
) -> Cursor:
    """Return the cursor for the next run, when everything was told.

    Args:
        cursor: The one of this run.
        listed: All events that were listed.
        unread: URIs of those whose invitees could not be listed: the next run tries again.
        unsettled: URIs of those whose invitees do not go with the event: it is looked at again for a while.
        listed_at: When the listing began, by the own clock.
        seconds: How long it took.
    """
    since = cursor.updated_since
    newest = newest_change(listed, listed_at)
    if newest is not None and len(unread) <= _MOST_AGAIN:
        since = max(since, newest - overlap(seconds))
    recent = [event for event in listed if event.updated_at >= since and event.updated_at > cursor.seeded_at]
    recent.sort(key=lambda event: event.updated_at, reverse=True)
    done = [fingerprint_of_change(event) for event in recent if event.uri not in unread and event.uri not in unsettled]
    # What Prefect would have forgotten is given up.
    failed = [event for event in listed if event.uri in unread and event.updated_at >= listed_at - REMEMBERED]
    # First those that nothing else would bring back: their change lies before `updated_since`.
    failed.sort(key=lambda event: (fingerprint(event.uri) not in cursor.again, event.updated_at >= since))
    return Cursor(
        seeded_at=cursor.seeded_at,
        updated_since=since,
        listed_at=listed_at,
        # What could not be read is listed again, even when it has begun.
        list_from=min([listed_at, *(event.start_time for event in failed)]),
        done=tuple(done[:_MOST_DONE]),
        again=tuple(fingerprint(event.uri) for event in failed[:_MOST_AGAIN]),
    )


def is_settled(event: ScheduledEvent, invitees: Sequence[Invitee]) -> bool:
    """Say whether an event and its invitees, which were asked for one after the other, go together."""
    counter, active = event.invitees_counter, sum(invitee.status != "canceled" for invitee in invitees)
    return len(invitees) >= counter.total and active <= counter.active


# Reading and telling


@dataclass
class Bookings:
    """Events that were listed, and what has happened to the invitees of some of them."""

    organization: str
    listed: list[ScheduledEvent]
    listed_at: datetime
    """By the own clock."""
    seconds: float
    """How long the listing took."""
    happenings: list[CalendlyEvent] = field(default_factory=list)
    readable: set[str] = field(default_factory=set)
    """URIs of events whose invitees were listed."""
    unread: dict[str, CalendlyError] = field(default_factory=dict)
    """Events whose invitees could not be listed, by URI."""
    unsettled: set[str] = field(default_factory=set)
    """URIs of those events whose invitees do not go with them."""

    @property
    def problems(self) -> list[str]:
        """What could not be read, in a few lines of markdown."""
        lines = [f"{_uuid(uri)}: {escape_cell(short_error(error))}" for uri, error in self.unread.items()]
        more = len(lines) - _MOST_PROBLEMS_IN_SUMMARY
        return lines[:_MOST_PROBLEMS_IN_SUMMARY] + ([f"and {more} more"] if more > 0 else [])


async def list_bookings(credentials: CalendlyCredentials, user: User, scope: Scope, since: datetime) -> Bookings:
    """List the events, of any status, that begin at some time or later; however far ahead.

    Args:
        credentials: Whose Calendly to use.
        user: Whose it is.
        scope: The user's own events, or the organization's.
        since: From when on (aware).
    """
    listed_at, began = datetime.now(UTC), time.monotonic()
    listed = await alist_scheduled_events(
        credentials,
        user=user.uri if scope == "user" else None,
        organization=user.current_organization if scope == "organization" else None,
        min_start_time=since,
        sort="start_time:asc",
    )
    # A page that shifts while it is read can repeat an event: the later one is the newer one.
    events = list({event.uri: event for event in listed}.values())
    return Bookings(user.current_organization, events, listed_at, time.monotonic() - began)


async def read_invitees(
    credentials: CalendlyCredentials,
    bookings: Bookings,
    events: Sequence[ScheduledEvent],
    payload: Payload,
    source: Source,
    meter: RequestMeter,
) -> None:
    """List the invitees of some of the events, and note what has happened to them."""
    async with progress(PROGRESS_KEY, f"Reading the invitees of {pluralize(len(events), 'event')}", meter, len(events)):
        for first in range(0, len(events), _EVENTS_PER_TASK):
            some = events[first : first + _EVENTS_PER_TASK]
            # uuids, not models: Prefect walks through all arguments of a task.
            found = await alist_invitees_of_events(credentials, [event.uri for event in some])
            for event, its in zip(some, found, strict=True):
                if its.error is not None:
                    bookings.unread[event.uri] = its.error
                    continue
                bookings.readable.add(event.uri)
                if not is_settled(event, its.invitees):
                    bookings.unsettled.add(event.uri)
                for invitee in its.invitees:
                    bookings.happenings += events_of_invitee(
                        invitee, event, payload=payload, organization=bookings.organization, source=source
                    )


@task(name="Tell Prefect", cache_policy=NO_CACHE, persist_result=False)
async def tell_prefect(events: deque[CalendlyEvent]) -> list[CalendlyEvent]:
    """Give Prefect those of some events that it does not know, and wait until it has stored them.

    Args:
        events: The events; in a deque, because Prefect walks through all lists that a task is given.

    Returns:
        Those that it did not know.

    Raises:
        EventsNotStoredError: Prefect took some and does not show them.
        httpx.HTTPError: Prefect was not reached, or refused them.
    """
    waiting, missing = list(events), list[CalendlyEvent]()
    async with get_client() as client:
        for first in range(0, len(waiting), _EVENTS_PER_POST):
            missing += await emit_missing(client, waiting[first : first + _EVENTS_PER_POST])
    return missing


async def tell_prefect_of(happenings: Iterable[CalendlyEvent]) -> tuple[int, list[CalendlyEvent]]:
    """Tell Prefect of what has happened; return how many that were, each once, and those that it did not know."""
    each_once = deque({event.id: event for event in happenings}.values())
    if not each_once:
        return 0, []
    name = f"Tell Prefect of {pluralize(len(each_once), 'event')}"
    return len(each_once), await tell_prefect.with_options(task_run_name=name)(each_once)


def by_name(events: Iterable[CalendlyEvent]) -> dict[str, int]:
    """Count events by name."""
    return dict(sorted(Counter(event.event for event in events).items()))


async def backfill(
    credentials: CalendlyCredentials,
    *,
    scope: Scope,
    since: datetime,
    until: datetime | None = None,
    payload: Payload = "standard",
    source: Source = "backfill",
) -> BackfillReport:
    """Tell Prefect of everything that happened to bookings in some time, and that it does not know; inside a flow.

    For the time in which webhooks were not delivered. Safe to run again, and beside webhooks and polling; the cursor
    of polling stays where it is. That a no-show mark was taken away again cannot be seen.

    Args:
        credentials: Whose Calendly to use; for the whole organization, an owner's or admin's.
        scope: The user's own events, or the whole organization's.
        since: From when on (aware), at most 6 days back.
        until: Until when (aware), exclusive; without end by default.
        payload: What the events hold, as for `events_of_invitee`.
        source: Who tells of it: the label `calendly.source`.

    Returns:
        What was found and told; `unreadable` counts events whose invitees could not be listed.

    Raises:
        ValueError: A time is naive or too long ago, or `until` is not after `since`; nothing was asked.
        CalendlyError: The events could not be listed; nothing was told.
        EventsNotStoredError: Prefect took some events and does not show them.

    Example:
        ```python
        @flow
        async def after_an_outage(credentials: CalendlyCredentials):
            since = datetime.now(UTC) - timedelta(hours=30)
            return await backfill(credentials, scope="organization", since=since)
        ```
    """
    began = time.monotonic()
    check_window(since, until)
    with count_requests() as meter:
        user = await aget_current_user(credentials)
        bookings = await read_window(credentials, user, scope, since, until, payload, source, meter)
        wanted = [each for each in bookings.happenings if in_window(each.occurred, since, until)]
        found, emitted = await tell_prefect_of(sorted(wanted, key=lambda each: each.occurred))
    run_logger().info(
        "Backfill since %s: %s found, %s of them told to Prefect, %s could not be read; %s",
        *(f"{since.astimezone(UTC):%Y-%m-%d %H:%M} UTC", pluralize(found, "happening"), len(emitted)),
        *(pluralize(len(bookings.unread), "event"), pluralize(meter.requests, "request")),
    )
    return BackfillReport(
        found=found,
        emitted=len(emitted),
        already_there=found - len(emitted),
        unreadable=len(bookings.unread),
        events_listed=len(bookings.listed),
        invitee_lists=len(bookings.readable),
        requests=meter.requests,
        seconds=round(time.monotonic() - began, 2),
    )


def check_window(since: datetime, until: datetime | None) -> None:
    """Make sure that what happened in some time can still be told.

    Raises:
        ValueError: A time is naive or too long ago, or the end is not after the beginning.
    """
    for name, each in (("since", since), ("until", until)):
        if each is not None and each.utcoffset() is None:
            raise ValueError(f"{name} must have a time zone, such as datetime.now(UTC)")
    if since < datetime.now(UTC) - REMEMBERED - timedelta(minutes=1):
        raise ValueError(
            f"since must be at most {REMEMBERED.days} days ago: Prefect forgets events after 7 days, and what it has "
            "forgotten would be told a second time. Read older bookings from Calendly itself"
        )
    if until is not None and until <= since:
        raise ValueError("until must be after since")


def in_window(occurred: datetime, since: datetime, until: datetime | None) -> bool:
    return since <= occurred and (until is None or occurred < until)


async def read_window(
    credentials: CalendlyCredentials,
    user: User,
    scope: Scope,
    since: datetime,
    until: datetime | None,
    payload: Payload,
    source: Source,
    meter: RequestMeter,
) -> Bookings:
    """Read all that can have happened in some time, and perhaps more."""
    bookings = await list_bookings(credentials, user, scope, since - LOOK_BACK)
    last = until or datetime.now(UTC) + CLOCKS_DIFFER
    some = [event for event in bookings.listed if event.updated_at >= since or may_hide_changes(event, last)]
    await read_invitees(credentials, bookings, some, payload, source, meter)
    return bookings


# The flow


@calendly_flow(flow_run_name="poll bookings, scope {polling.scope}")
async def poll_bookings(credentials: CalendlyCredentials, polling: BookingsToPoll) -> PollReport:
    """Tell Prefect of what has happened to bookings, by the events that webhooks make: for plans without webhooks.

    Run it on a schedule. The first run only notes how far Calendly is. Later ones list all events from today on and
    the invitees of those that have changed. Events have the same ids as those of webhooks, and Prefect stores an id
    once: a run that is killed half way, a second one, or webhooks beside it lose nothing and double nothing. After an
    outage of more than 6 days, which is beyond Prefect's memory, what happened right before it may be told again.

    Args:
        credentials: Whose Calendly to use; for the whole organization, an owner's or admin's.
        polling: Whose bookings to look at, and how closely.

    Returns:
        What was found and told, and what it cost; no personal data.

    Raises:
        ValueError: There is no such notification block (nothing was asked), or the variable of the cursor is not as
            this flow writes it.
        BookingsUnreadableError: The invitees of some events could not be listed; all else was told, and the next run
            tries these again.
        CalendlyError: The events could not be listed; nothing was told.
        EventsNotStoredError: Prefect took some events and does not show them; the next run tells them again.
    """
    began = time.monotonic()
    await check_notifier(polling.notify)
    async with notify_on_failure(polling.notify, "Polling bookings failed"):
        with count_requests() as meter:
            user = await aget_current_user(credentials)
            name = state_name("poll", user.uri if polling.scope == "user" else user.current_organization, polling.scope)
            before = await _cursor(name)
            now = datetime.now(UTC)
            # What was booked while nobody looked may have begun meanwhile.
            since = min(now, before.list_from if before else now) - timedelta(days=polling.look_back_days)
            bookings = await list_bookings(credentials, user, polling.scope, since - LEAST_OVERLAP)
            changed: list[ScheduledEvent] = []
            found, emitted = 0, list[CalendlyEvent]()
            if before is None:
                after = seeded(bookings.listed, bookings.listed_at, bookings.seconds)
            else:
                changed = to_read(bookings.listed, before)
                known = {event.uri for event in changed}
                hidden = [e for e in bookings.listed if e.uri not in known and may_hide_changes(e, bookings.listed_at)]
                some = changed + (hidden if polling.recheck else [])
                await read_invitees(credentials, bookings, some, polling.payload, "poll", meter)
                found, emitted = await tell_prefect_of(to_tell(bookings.happenings, before, now))
                after = advanced(
                    *(before, bookings.listed, bookings.unread.keys(), bookings.unsettled),
                    *(bookings.listed_at, bookings.seconds),
                )
            # Only now: whatever has failed before this is done again by the next run.
            await save_state(name, after)
        report = PollReport(
            seeded=before is None,
            events_listed=len(bookings.listed),
            changed=len(changed),
            invitee_lists=len(bookings.readable),
            found=found,
            emitted=by_name(emitted),
            already_there=found - len(emitted),
            unreadable=len(bookings.unread),
            updated_since_before=before.updated_since if before else None,
            updated_since=after.updated_since,
            requests=meter.requests,
            seconds=round(time.monotonic() - began, 2),
        )
        run_logger().info("%s; %s", headline(report), pluralize(report.requests, "request"))
        summary = _summary(report, polling, name, bookings, meter)
        await acreate_markdown_artifact(summary, key=SUMMARY_KEY, description=headline(report))
        if bookings.unread:
            raise BookingsUnreadableError(
                f"The invitees of {pluralize(report.unreadable, 'event')} could not be listed: what happened to them "
                f"is not told yet, all else is. The artifact {SUMMARY_KEY} says why; the next run tries again.",
                report,
            )
    return report


async def _cursor(name: str) -> Cursor | None:
    try:
        return await read_state(name, Cursor)
    except ValidationError:
        raise ValueError(
            f"the Prefect variable {name} is not as this flow writes it: delete it, and the next run begins anew "
            "(reconcile_bookings tells of what is missed by that)"
        ) from None


def headline(report: PollReport) -> str:
    """Return one line on how it went."""
    if report.seeded:
        return "FIRST RUN: noted how far Calendly is; what happens from now on is told"
    emitted = sum(report.emitted.values())
    failed = f", {pluralize(report.unreadable, 'event')} UNREADABLE" if report.unreadable else ""
    return f"{pluralize(emitted, 'event')} told to Prefect, {report.changed} changed of {report.events_listed}{failed}"


def _summary(report: PollReport, polling: BookingsToPoll, name: str, bookings: Bookings, meter: RequestMeter) -> str:
    whose = "the organization" if polling.scope == "organization" else "the current user"
    before = "none" if report.updated_since_before is None else f"{report.updated_since_before:%Y-%m-%d %H:%M:%S} UTC"
    return sections(
        headline(report),
        {
            "Looked at": [
                f"{pluralize(report.events_listed, 'event')} of {whose}, {report.changed} of them changed",
                pluralize(report.invitee_lists, "invitee list") + (", rechecked ones too" if polling.recheck else ""),
            ],
            "Told": [
                *(f"{number} {escape_cell(event)}" for event, number in report.emitted.items()),
                f"{report.already_there} known to Prefect already",
            ],
            "Cursor": [
                f"before: changes since {before}",
                f"after: changes since {report.updated_since:%Y-%m-%d %H:%M:%S} UTC",
                f"kept in the variable `{name}`; delete it to begin anew",
            ],
            "Problems": bookings.problems,
            "Cost": cost(meter, report.seconds),
        },
    )


def _uuid(uri: str) -> str:
    return uuid_of(uri, "scheduled_events", "event")
