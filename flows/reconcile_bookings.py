"""Compare what Calendly shows to have happened with what Prefect was told: missed, late and doubled deliveries."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Final, Literal
from uuid import UUID

from prefect import task
from prefect.artifacts import acreate_markdown_artifact, acreate_table_artifact
from prefect.cache_policies import NO_CACHE
from prefect.client.orchestration import get_client
from pydantic import Field

from flows.poll_bookings import PAYLOAD_HELP, BookingsUnreadableError, Scope, in_window, read_window, tell_prefect_of
from prefect_calendly import CalendlyCredentials
from prefect_calendly.client import RequestMeter, count_requests
from prefect_calendly.client.errors import printable
from prefect_calendly.events.events import PREFIX, SOURCE_LABEL, URI_LABEL, CalendlyEvent, Payload
from prefect_calendly.events.prefect_api import known_events, stored_events
from prefect_calendly.runs.flow import calendly_flow
from prefect_calendly.runs.forms import Notifier, Parameters, optional_form_field
from prefect_calendly.runs.logger import run_logger
from prefect_calendly.runs.markdown import cost, escape_cell, pluralize, sections
from prefect_calendly.runs.notifications import check_notifier, notify, notify_on_failure
from prefect_calendly.users import aget_current_user

SUMMARY_KEY: Final = "reconcile-bookings"
PROBLEMS_KEY: Final = "reconcile-bookings-problems"

SETTLING: Final = timedelta(minutes=5)
"""So new a happening may still be on its way."""

_NO_SHOW: Final = f"{PREFIX}invitee_no_show.created"
_NO_SHOW_DELETED: Final = f"{PREFIX}invitee_no_show.deleted"
# What the API shows, too.
_COMPARED: Final = (*(f"{PREFIX}invitee.{what}" for what in ("created", "canceled", "rescheduled")), _NO_SHOW)
_RECEIVER_SUMMARY: Final = f"{PREFIX}receiver.summary"
_MOST_IN_SUMMARY: Final = 50
_MOST_IN_TABLE: Final = 1_000


# Parameters and report


class BookingsToReconcile(Parameters):
    """Whose bookings to compare, and over which time."""

    scope: Scope = Field(
        default="user",
        description="Your own events, or the whole organization's (needs an owner or admin).",
        json_schema_extra={"position": 0},
    )
    hours: int = Field(
        default=24,
        ge=1,
        le=144,
        description="How many hours, back from five minutes ago. Prefect remembers events for seven days.",
        json_schema_extra={"position": 1},
    )
    emit_missing: bool = Field(
        default=True,
        description="Tell Prefect of what it was not told. Off: only say what that is.",
        json_schema_extra={"position": 2},
    )
    late_after_seconds: int = Field(
        default=60,
        ge=1,
        le=86_400,
        description="A delivery that takes longer than this many seconds counts as late.",
        json_schema_extra={"position": 3},
    )
    payload: Payload = Field(
        default="standard",
        description=PAYLOAD_HELP,
        json_schema_extra={"position": 4},
    )
    notify: Notifier = Field(
        default=None,
        description=(
            "Type and name of a saved notification block, such as slack-webhook/ops: gets a message when something was "
            "missed, was late or is not to be explained, or the run has failed."
        ),
        json_schema_extra=optional_form_field(5),
    )


class ReconcileReport(Parameters):
    """How the flow ended; holds no personal data."""

    since: datetime = Field(description="Beginning of the time that was compared.")
    until: datetime = Field(description="End of the time that was compared.")
    found: int = Field(description="Happenings of that time that the API shows.")
    by_webhook: int = Field(description="Of them, those that a webhook told in time or late.")
    late: int = Field(description="Of them, those that a webhook told late.")
    slowest_seconds: float | None = Field(description="How long the slowest webhook took; None if there was none.")
    not_by_webhook: int = Field(description="Those that only polling or a backfill told.")
    missed: int = Field(description="Those that Prefect did not know.")
    emitted: int = Field(description="Of these, those that it was told of now.")
    unexpected: int = Field(description="Events that Prefect has of that time and that the API does not show.")
    accepted: int = Field(description="Deliveries that receivers say to have accepted.")
    duplicates: int = Field(description="Deliveries that receivers say to have known already.")
    rejected: int = Field(description="Deliveries that receivers say to have refused.")
    unreadable: int = Field(description="Events whose invitees could not be listed.")
    requests: int = Field(description="Requests sent to the gateway.")
    seconds: float = Field(description="How long it took.")


# What decides: nothing here asks anything


@dataclass(frozen=True, slots=True)
class Finding:
    """Something that is not as it would be if all webhooks came in time."""

    problem: Literal["missed", "unexpected", "late", "not by webhook"]
    event: str
    """Name of the Prefect event."""
    uri: str
    """Of the invitee."""
    occurred: datetime
    received: datetime | None = None
    source: str = ""

    @property
    def seconds(self) -> float | None:
        """From when it happened until Prefect was told."""
        return None if self.received is None else (self.received - self.occurred).total_seconds()


@dataclass(frozen=True)
class Comparison:
    """What Calendly shows beside what Prefect knows."""

    found: int
    findings: tuple[Finding, ...]
    """The worst first, then the oldest."""
    missing: tuple[CalendlyEvent, ...]
    slowest_seconds: float | None

    def of(self, problem: str) -> int:
        return sum(finding.problem == problem for finding in self.findings)


_ORDER: Final = ("missed", "unexpected", "late", "not by webhook")


def compared(
    shown: Iterable[CalendlyEvent],
    known: Mapping[UUID, Mapping[str, Any]],
    unexplained: Iterable[Mapping[str, Any]],
    late_after_seconds: float,
) -> Comparison:
    """Compare.

    Args:
        shown: What happened in a time, as the API shows it.
        known: Those of them that Prefect has, by id, as it returns them.
        unexplained: Events that Prefect has of that time and that the API does not show.
        late_after_seconds: From when on a webhook is late.

    Returns:
        What is not as it should be.
    """
    each_once = {event.id: event for event in shown}
    findings, delays = [], []
    for ident, event in each_once.items():
        if ident not in known:
            findings.append(Finding("missed", event.event, event.resource[URI_LABEL], event.occurred))
            continue
        finding = _finding("late", known[ident])
        if finding.source != "webhook":
            findings.append(_finding("not by webhook", known[ident]))
            continue
        delays.append(finding.seconds or 0.0)
        if delays[-1] > late_after_seconds:
            findings.append(finding)
    missing = (event for ident, event in each_once.items() if ident not in known)
    findings += [_finding("unexpected", event) for event in unexplained]
    findings.sort(key=lambda finding: (_ORDER.index(finding.problem), finding.occurred))
    return Comparison(
        found=len(each_once),
        findings=tuple(findings),
        missing=tuple(sorted(missing, key=lambda event: event.occurred)),
        slowest_seconds=max(delays, default=None),
    )


def _finding(problem: Literal["late", "not by webhook", "unexpected"], stored: Mapping[str, Any]) -> Finding:
    labels = stored["resource"]
    return Finding(
        problem,
        stored["event"],
        labels.get(URI_LABEL, ""),
        datetime.fromisoformat(stored["occurred"]),
        datetime.fromisoformat(stored["received"]),
        labels.get(SOURCE_LABEL, "unknown"),
    )


def unexplained(
    stored: Iterable[Mapping[str, Any]],
    shown: Collection[UUID],
    readable: Collection[str],
    unreadable: Collection[str],
    organization: str,
    user: str | None,
) -> list[Mapping[str, Any]]:
    """Return those events of Prefect that the API should show and does not.

    Args:
        stored: Events that Prefect has of a time; those of `invitee_no_show.deleted` too.
        shown: Ids of all that the API shows, of any time.
        readable: URIs of the scheduled events whose invitees were listed.
        unreadable: URIs of those whose invitees could not be listed.
        organization: URI of the organization.
        user: URI of the host, if only their events were listed.
    """
    events = list(stored)
    taken_away = {_resource(event) for event in events if event["event"] == _NO_SHOW_DELETED}
    found = []
    for event in events:
        if event["event"] not in _COMPARED or UUID(event["id"]) in shown:
            continue
        meeting = next(iter(_related(event, "scheduled-event")), "")
        hosts, organizations = _related(event, "host"), _related(event, "organization")
        if meeting in unreadable or (organizations and organization not in organizations):
            continue
        if user is not None and user not in hosts:
            continue
        # Of an older event, which was not listed, no-shows can still be marked; and a mark can be taken away again.
        if event["event"] == _NO_SHOW and (meeting not in readable or _resource(event) in taken_away):
            continue
        found.append(event)
    return found


def _resource(event: Mapping[str, Any]) -> str:
    return str(event["resource"]["prefect.resource.id"])


def _related(event: Mapping[str, Any], role: str) -> list[str]:
    return [each.get(URI_LABEL, "") for each in event["related"] if each.get("prefect.resource.role") == role]


def deliveries(summaries: Iterable[Mapping[str, Any]]) -> Counter[str]:
    """Add up what receivers say of their deliveries: `accepted`, `duplicates`, `rejected`."""
    total: Counter[str] = Counter()
    for summary in summaries:
        for name in ("accepted", "duplicates", "rejected"):
            number = summary["payload"].get(name, 0)
            total[name] += sum(number.values()) if isinstance(number, Mapping) else int(number)
    return total


# Tasks


@dataclass(frozen=True)
class Memory:
    """What Prefect knows of a time."""

    known: Mapping[UUID, Mapping[str, Any]]
    stored: tuple[Mapping[str, Any], ...]
    summaries: tuple[Mapping[str, Any], ...]


@task(name="Ask Prefect what it was told", cache_policy=NO_CACHE, persist_result=False)
async def ask_prefect(ids: Collection[UUID], since: datetime, until: datetime) -> Memory:
    """Return the events of some ids, those of a time, and what receivers said of that time."""
    async with get_client() as client:
        known = await known_events(client, ids)
        names = (*_COMPARED, _NO_SHOW_DELETED, _RECEIVER_SUMMARY)
        stored = [event async for event in stored_events(client, names, since, until)]
    summaries = tuple(event for event in stored if event["event"] == _RECEIVER_SUMMARY)
    # The end is exclusive for us, and not for Prefect.
    within = (e for e in stored if e["event"] != _RECEIVER_SUMMARY and datetime.fromisoformat(e["occurred"]) < until)
    return Memory(known, tuple(within), summaries)


# The flow


@calendly_flow(flow_run_name="reconcile bookings, scope {window.scope}, {window.hours} hours")
async def reconcile_bookings(credentials: CalendlyCredentials, window: BookingsToReconcile) -> ReconcileReport:
    """Say what webhooks have missed, told late or told twice; and tell Prefect of what was missed.

    Reads what the API shows to have happened in the last hours, and compares it with the events that Prefect has. An
    event that polling or a backfill told first counts as one that no webhook told: Prefect keeps the first.

    Args:
        credentials: Whose Calendly to use; for the whole organization, an owner's or admin's.
        window: Whose bookings to compare, and over which time.

    Returns:
        What was found, and what it cost; no personal data.

    Raises:
        ValueError: There is no such notification block; nothing was asked.
        BookingsUnreadableError: The invitees of some events could not be listed; all others are compared.
        CalendlyError: The events could not be listed; nothing was told.
        EventsNotStoredError: Prefect took some events and does not show them.
    """
    began = time.monotonic()
    await check_notifier(window.notify)
    async with notify_on_failure(window.notify, "Reconciling bookings failed"):
        until = datetime.now(UTC) - SETTLING
        since = until - timedelta(hours=window.hours)
        with count_requests() as meter:
            user = await aget_current_user(credentials)
            bookings = await read_window(
                credentials, user, window.scope, since, until, window.payload, "backfill", meter
            )
        every = {event.id: event for event in bookings.happenings}
        shown = {ident: event for ident, event in every.items() if in_window(event.occurred, since, until)}
        memory = await ask_prefect(list(shown), since, until)
        comparison = compared(
            shown.values(),
            memory.known,
            unexplained(
                *(memory.stored, every.keys(), bookings.readable, bookings.unread.keys()),
                *(user.current_organization, user.uri if window.scope == "user" else None),
            ),
            window.late_after_seconds,
        )
        _, emitted = await tell_prefect_of(comparison.missing if window.emit_missing else ())
        told = deliveries(memory.summaries)
        report = ReconcileReport(
            since=since,
            until=until,
            found=comparison.found,
            by_webhook=comparison.found - comparison.of("missed") - comparison.of("not by webhook"),
            late=comparison.of("late"),
            slowest_seconds=comparison.slowest_seconds,
            not_by_webhook=comparison.of("not by webhook"),
            missed=comparison.of("missed"),
            emitted=len(emitted),
            unexpected=comparison.of("unexpected"),
            accepted=told["accepted"],
            duplicates=told["duplicates"],
            rejected=told["rejected"],
            unreadable=len(bookings.unread),
            requests=meter.requests,
            seconds=round(time.monotonic() - began, 2),
        )
        run_logger().info("%s; %s", headline(report), pluralize(report.requests, "request"))
        rows = [_row(finding) for finding in comparison.findings[:_MOST_IN_TABLE]]
        await acreate_table_artifact(rows, key=PROBLEMS_KEY, description=headline(report))
        summary = _summary(report, window, comparison, bookings.problems, meter)
        await acreate_markdown_artifact(summary, key=SUMMARY_KEY, description=headline(report))
        if bookings.unread:
            raise BookingsUnreadableError(
                f"The invitees of {pluralize(report.unreadable, 'event')} could not be listed; all others are "
                f"compared. The artifact {SUMMARY_KEY} says why. Start a new run.",
                report,
            )
    if report.missed or report.late or report.unexpected:
        await notify(
            window.notify, f"Bookings: {headline(report)}", f"See the artifact {SUMMARY_KEY} of this flow run."
        )
    return report


def headline(report: ReconcileReport) -> str:
    """Return one line on how it went."""
    parts = {
        "missed": report.missed,
        "late": report.late,
        "unexpected": report.unexpected,
        "not by webhook": report.not_by_webhook,
    }
    said = ", ".join(f"{number} {what}" for what, number in parts.items() if number) or "all told by webhooks in time"
    told = f"; {report.emitted} told now" if report.emitted else ""
    return f"{pluralize(report.found, 'happening')} in {_hours(report)}: {said}{told}"


def _hours(report: ReconcileReport) -> str:
    return pluralize(round((report.until - report.since).total_seconds() / 3600), "hour")


def _row(finding: Finding) -> dict[str, str]:
    *_, meeting, _, invitee = ["", "", *finding.uri.split("/")]
    row = {
        "problem": finding.problem,
        "event": finding.event,
        "occurred (UTC)": _time(finding.occurred),
        "received (UTC)": _time(finding.received) if finding.received else "",
        "seconds": "" if finding.seconds is None else f"{finding.seconds:.0f}",
        "told by": finding.source,
        "invitee": invitee,
        "scheduled event": meeting,
    }
    return {name: printable(text) for name, text in row.items()}


def _time(moment: datetime) -> str:
    return f"{moment.astimezone(UTC):%Y-%m-%d %H:%M:%S}"


def _summary(
    report: ReconcileReport,
    window: BookingsToReconcile,
    comparison: Comparison,
    problems: Iterable[str],
    meter: RequestMeter,
) -> str:
    whose = "the organization" if window.scope == "organization" else "the current user"
    slowest = "" if report.slowest_seconds is None else f", the slowest after {report.slowest_seconds:.0f} s"
    page = sections(
        headline(report),
        {
            "Compared": [
                f"bookings of {whose}, from {_time(report.since)} to {_time(report.until)} UTC",
                f"{pluralize(report.found, 'happening')} that Calendly shows",
            ],
            "Told": [
                f"{report.by_webhook} by a webhook{slowest}",
                f"{report.late} of them late: after more than {window.late_after_seconds} s",
                f"{report.not_by_webhook} only by polling or a backfill",
                f"{report.missed} not at all"
                + ("" if not report.missed or window.emit_missing else ", and not now either: emit_missing is off"),
                f"{report.emitted} told now",
                f"{report.unexpected} that Calendly does not show",
            ],
            "Receivers": [
                f"{report.accepted} deliveries accepted",
                f"{report.duplicates} known already",
                f"{report.rejected} refused",
            ],
            "Problems": problems,
            "Cost": cost(meter, report.seconds),
        },
    )
    shown = comparison.findings[:_MOST_IN_SUMMARY]
    if not shown:
        return page
    lines = ["\n## What is not as it should be\n", "| What | Event | Occurred (UTC) | Seconds | Told by | Invitee |"]
    lines.append("| --- | --- | --- | --- | --- | --- |")
    for finding in shown:
        row = _row(finding)
        cells = [escape_cell(row[name]) for name in ("problem", "event", "occurred (UTC)", "seconds", "told by")]
        lines.append(f"| {' | '.join(cells)} | [{escape_cell(row['invitee'][:6])}…]({finding.uri}) |")
    more = len(comparison.findings) - len(shown)
    end = f"\n{f'And {more} more. ' if more else ''}All are in the table `{PROBLEMS_KEY}`"
    end += "." if len(comparison.findings) <= _MOST_IN_TABLE else f", the first {_MOST_IN_TABLE:,}."
    return "\n".join([page, *lines, end])
