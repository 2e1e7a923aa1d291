"""Reconciliation: compare what Calendly shows with the events that Prefect has, and find what webhooks have missed."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final, Literal
from uuid import UUID

from prefect import task
from prefect.cache_policies import NO_CACHE
from pydantic import Field

from prefect_calendly.bookings.listing import SCOPE_HELP, Scope
from prefect_calendly.bookings.reading import PAYLOAD_HELP, Reading, in_window
from prefect_calendly.client import RequestMeter
from prefect_calendly.events.event import PREFIX, SOURCE_LABEL, URI_LABEL, CalendlyEvent, Payload
from prefect_calendly.events.prefect_api import events_client, known_events, stored_events
from prefect_calendly.runs.forms import Notifier, Parameters, optional_form_field
from prefect_calendly.users import User

SETTLING: Final = timedelta(minutes=5)
"""Deliveries of newer changes may still be on their way."""

_NO_SHOW: Final = f"{PREFIX}invitee_no_show.created"
_NO_SHOW_DELETED: Final = f"{PREFIX}invitee_no_show.deleted"
# Calendly's API shows these, too.
_COMPARED: Final = (*(f"{PREFIX}invitee.{what}" for what in ("created", "canceled", "rescheduled")), _NO_SHOW)
_RECEIVER_SUMMARY: Final = f"{PREFIX}receiver.summary"

Problem = Literal["missed", "unexpected", "late", "not by webhook"]
_WORST_FIRST: Final[tuple[Problem, ...]] = ("missed", "unexpected", "late", "not by webhook")


class BookingsToReconcile(Parameters):
    """Whose bookings to compare, and over which time."""

    scope: Scope = Field(default="user", description=SCOPE_HELP, json_schema_extra={"position": 0})
    hours: int = Field(
        default=24,
        ge=1,
        le=144,
        description="How many hours to compare, until five minutes ago. Prefect keeps events for seven days.",
        json_schema_extra={"position": 1},
    )
    emit_missing: bool = Field(
        default=True,
        description="Emit the events that Prefect does not have. Off: only report them.",
        json_schema_extra={"position": 2},
    )
    late_after_seconds: int = Field(
        default=60,
        ge=1,
        le=86_400,
        description="A delivery that takes longer than this many seconds counts as late.",
        json_schema_extra={"position": 3},
    )
    payload: Payload = Field(default="standard", description=PAYLOAD_HELP, json_schema_extra={"position": 4})
    notify: Notifier = Field(
        default=None,
        description=(
            "Type and name of a saved notification block, such as slack-webhook/ops. It gets a message when something "
            "was missed, late or unexpected, or the run has failed."
        ),
        json_schema_extra=optional_form_field(5),
    )

    def span(self, now: datetime) -> tuple[datetime, datetime]:
        """Return start and end of the time to compare."""
        until = now - SETTLING
        return until - timedelta(hours=self.hours), until


class ReconcileReport(Parameters):
    """How a reconciliation ended; holds no personal data."""

    since: datetime = Field(description="Start of the time that was compared.")
    until: datetime = Field(description="End of the time that was compared.")
    found: int = Field(description="Events of that time that follow from what Calendly shows.")
    by_webhook: int = Field(description="Of them, those that came by a webhook, in time or late.")
    late: int = Field(description="Of them, those that came late.")
    slowest_seconds: float | None = Field(description="How long the slowest webhook took; None if there was none.")
    not_by_webhook: int = Field(description="Events that came only by polling or a backfill.")
    missed: int = Field(description="Events that Prefect did not have.")
    emitted: int = Field(description="Of them, those that were emitted now.")
    unexpected: int = Field(description="Events that Prefect has of that time, and that Calendly does not show.")
    accepted: int = Field(description="Deliveries that the receivers have accepted, by their own count.")
    duplicates: int = Field(description="Deliveries that the receivers had before.")
    rejected: int = Field(description="Deliveries that the receivers have refused.")
    unreadable: int = Field(description="Scheduled events whose invitees could not be listed.")
    requests: int = Field(description="Requests sent to the gateway.")
    seconds: float = Field(description="How long the run took.")


@dataclass(frozen=True, slots=True)
class Finding:
    """An event that did not come by a webhook in time, or should not have come."""

    problem: Problem
    event: str
    """Name of the Prefect event."""
    uri: str
    """URI of the invitee."""
    occurred: datetime
    received: datetime | None = None
    """When Prefect got it; None if it did not."""
    source: str = ""

    @property
    def seconds(self) -> float | None:
        """How long after the change Prefect got the event."""
        return None if self.received is None else (self.received - self.occurred).total_seconds()


@dataclass(frozen=True)
class Comparison:
    """What Calendly shows beside what Prefect has."""

    found: int
    """Events that follow from what Calendly shows."""
    findings: tuple[Finding, ...]
    """The worst first, then the oldest."""
    missing: tuple[CalendlyEvent, ...]
    """The events that Prefect does not have, the oldest first."""
    slowest_seconds: float | None
    deliveries: Counter[str]
    """How many the receivers have accepted, had before (`duplicates`), and rejected."""

    def count(self, problem: str) -> int:
        """Return how many findings there are of a problem."""
        return sum(finding.problem == problem for finding in self.findings)

    def report(
        self,
        since: datetime,
        until: datetime,
        *,
        emitted: Collection[CalendlyEvent],
        unreadable: int,
        meter: RequestMeter,
        seconds: float,
    ) -> ReconcileReport:
        """Return how the run ended.

        Args:
            since: Start of the time that was compared.
            until: Its end.
            emitted: The missing events that were emitted.
            unreadable: How many scheduled events could not be read.
            meter: Has counted the requests of the run.
            seconds: How long it took.
        """
        return ReconcileReport(
            since=since,
            until=until,
            found=self.found,
            by_webhook=self.found - self.count("missed") - self.count("not by webhook"),
            late=self.count("late"),
            slowest_seconds=self.slowest_seconds,
            not_by_webhook=self.count("not by webhook"),
            missed=self.count("missed"),
            emitted=len(emitted),
            unexpected=self.count("unexpected"),
            accepted=self.deliveries["accepted"],
            duplicates=self.deliveries["duplicates"],
            rejected=self.deliveries["rejected"],
            unreadable=unreadable,
            requests=meter.requests,
            seconds=round(seconds, 2),
        )


@dataclass(frozen=True)
class PrefectEvents:
    """The events that Prefect has, as it returns them."""

    known: Mapping[UUID, Mapping[str, Any]]
    """Those of the ids that were asked for, of any time."""
    stored: tuple[Mapping[str, Any], ...]
    """Those about invitees that occurred in the window."""
    summaries: tuple[Mapping[str, Any], ...]
    """What the receivers have reported of their deliveries in the window."""


async def compare_with_prefect(
    reading: Reading, user: User, window: BookingsToReconcile, since: datetime, until: datetime
) -> Comparison:
    """Compare what Calendly shows with the events that Prefect has; inside a flow.

    An event that polling or a backfill has emitted first counts as one that came by no webhook: Prefect keeps the
    first.

    Args:
        reading: What Calendly shows.
        user: The user of the credentials.
        window: Whose bookings are compared.
        since: Start of the time to compare (aware).
        until: End of the time to compare (aware), exclusive.

    Raises:
        httpx.HTTPError: Prefect was not reached, or gave no answer.
    """
    every = {event.id: event for event in reading.events}
    shown = {ident: event for ident, event in every.items() if in_window(event.occurred, since, until)}
    prefect = await read_prefect_events(list(shown), since, until)
    unexpected = unexpected_events(
        prefect.stored,
        every.keys(),
        reading,
        organization=user.current_organization,
        host=user.uri if window.scope == "user" else None,
    )
    return compare(
        shown.values(), prefect.known, unexpected, window.late_after_seconds, count_deliveries(prefect.summaries)
    )


@task(name="Read the events that Prefect has", cache_policy=NO_CACHE, persist_result=False)
async def read_prefect_events(ids: Collection[UUID], since: datetime, until: datetime) -> PrefectEvents:
    """Return the events of some ids, and those of a window, whose end is exclusive."""
    async with events_client() as client:
        known = await known_events(client, ids)
        names = (*_COMPARED, _NO_SHOW_DELETED, _RECEIVER_SUMMARY)
        stored = [event async for event in stored_events(client, names, since, until)]
    # For Prefect the end is inclusive.
    within = [event for event in stored if datetime.fromisoformat(event["occurred"]) < until]
    return PrefectEvents(
        known,
        tuple(event for event in within if event["event"] != _RECEIVER_SUMMARY),
        tuple(event for event in stored if event["event"] == _RECEIVER_SUMMARY),
    )


def compare(
    shown: Iterable[CalendlyEvent],
    known: Mapping[UUID, Mapping[str, Any]],
    unexpected: Iterable[Mapping[str, Any]],
    late_after_seconds: float,
    deliveries: Counter[str],
) -> Comparison:
    """Compare the events that Calendly shows with those that Prefect has.

    Args:
        shown: Events that follow from what Calendly shows.
        known: Those of them that Prefect has, by id, as it returns them.
        unexpected: Events that Prefect has and Calendly does not show.
        late_after_seconds: A webhook that took longer is late.
        deliveries: What the receivers have counted.
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
    findings += [_finding("unexpected", event) for event in unexpected]
    findings.sort(key=lambda finding: (_WORST_FIRST.index(finding.problem), finding.occurred))
    return Comparison(
        found=len(each_once),
        findings=tuple(findings),
        missing=tuple(sorted(missing, key=lambda event: event.occurred)),
        slowest_seconds=max(delays, default=None),
        deliveries=deliveries,
    )


def _finding(problem: Problem, stored: Mapping[str, Any]) -> Finding:
    labels = stored["resource"]
    return Finding(
        problem,
        stored["event"],
        labels.get(URI_LABEL, ""),
        datetime.fromisoformat(stored["occurred"]),
        datetime.fromisoformat(stored["received"]),
        labels.get(SOURCE_LABEL, "unknown"),
    )


def unexpected_events(
    stored: Collection[Mapping[str, Any]],
    shown: Collection[UUID],
    reading: Reading,
    *,
    organization: str,
    host: str | None,
) -> list[Mapping[str, Any]]:
    """Return those events of Prefect that Calendly should show and does not.

    Args:
        stored: Events that Prefect has of a window; those of `invitee_no_show.deleted` too.
        shown: Ids of all events that follow from what Calendly shows, of any time.
        reading: Which scheduled events could be read, and which could not.
        organization: URI of the organization.
        host: URI of the host, if only their scheduled events were listed.
    """
    unmarked = {_resource_id(event) for event in stored if event["event"] == _NO_SHOW_DELETED}
    found = []
    for event in stored:
        if event["event"] not in _COMPARED or UUID(event["id"]) in shown:
            continue
        scheduled = next(iter(_related(event, "scheduled-event")), "")
        hosts, organizations = _related(event, "host"), _related(event, "organization")
        if scheduled in reading.unread or (organizations and organization not in organizations):
            continue
        if host is not None and host not in hosts:
            continue
        # A no-show of an older event, which was not listed, is not shown, nor one whose mark was removed.
        if event["event"] == _NO_SHOW and (scheduled not in reading.read or _resource_id(event) in unmarked):
            continue
        found.append(event)
    return found


def _resource_id(event: Mapping[str, Any]) -> str:
    return str(event["resource"]["prefect.resource.id"])


def _related(event: Mapping[str, Any], role: str) -> list[str]:
    return [each.get(URI_LABEL, "") for each in event["related"] if each.get("prefect.resource.role") == role]


def count_deliveries(summaries: Iterable[Mapping[str, Any]]) -> Counter[str]:
    """Add up what receivers report of their deliveries: `accepted`, `duplicates` and `rejected`."""
    total: Counter[str] = Counter()
    for summary in summaries:
        for name in ("accepted", "duplicates", "rejected"):
            number = summary["payload"].get(name, 0)
            total[name] += sum(number.values()) if isinstance(number, Mapping) else int(number)
    return total
