"""Cancel upcoming events that somebody of a blocked domain has booked."""

from __future__ import annotations

import time
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from types import MappingProxyType
from typing import Annotated, Any, ClassVar, Final, Literal

from prefect import runtime
from prefect.artifacts import acreate_markdown_artifact, acreate_table_artifact
from pydantic import AfterValidator, AwareDatetime, Field, StringConstraints, TypeAdapter, ValidationError

from flows.harmless import Harmless, after_reading, left_over, to_read
from prefect_calendly import CalendlyClient, CalendlyCredentials, CalendlyError
from prefect_calendly.client import RequestMeter, count_requests
from prefect_calendly.client.errors import (
    AlreadyCanceledError,
    AuthenticationError,
    EventInPastError,
    NoConnectionError,
    NotFoundError,
    printable,
)
from prefect_calendly.client.identifiers import uuid_of
from prefect_calendly.invitees import Invitee, alist_invitees_of_events, list_invitees_via
from prefect_calendly.organizations import alist_memberships
from prefect_calendly.runs.flow import calendly_flow
from prefect_calendly.runs.forms import Notifier, Parameters, optional_form_field, zone_or_utc
from prefect_calendly.runs.human_input import (
    LONGEST_WAIT_HOURS,
    MOST_PROPOSALS,
    Answer,
    Proposal,
    ask,
    check_can_wait,
    forget,
    is_answered,
    recall,
    remember,
)
from prefect_calendly.runs.logger import run_logger
from prefect_calendly.runs.markdown import cost, escape_cell, pluralize, short_error, soft_wrap
from prefect_calendly.runs.notifications import check_notifier, notify, notify_on_failure
from prefect_calendly.runs.progress import progress
from prefect_calendly.runs.state import read_state, save_state, state_name
from prefect_calendly.scheduled_events import (
    LONGEST_REASON,
    EventMembership,
    ScheduledEvent,
    cancel_scheduled_event_via,
    get_scheduled_event_via,
    list_scheduled_events_via,
)
from prefect_calendly.screening.domains import Domain, comparable_domain, mask_email, normal_domain
from prefect_calendly.tasks import client_task
from prefect_calendly.users import User, aget_current_user

SUMMARY_KEY: Final = "cancel-blocked-domains"
DECISIONS_KEY: Final = "cancel-blocked-domains-decisions"
PROGRESS_KEY: Final = "cancel-blocked-domains-progress"
PLAN_KEY: Final = "plan"
"""Of the plan that a run remembers while it waits for a person."""
_ASKED_KEY: Final = "asked"

# So many events' invitees are in memory at once; a run with fewer has one such task. A run with very many has no more
# tasks than a person can look through, each of them larger.
_EVENTS_PER_TASK: Final = 1_000
_MOST_TASKS: Final = 50
# A summary is read on a phone; the table has all of them.
_MOST_PROBLEMS_IN_SUMMARY: Final = 10
_MOST_EVENTS_IN_SUMMARY: Final = 50


def _normal_email(text: str) -> str:
    """Return an address in the one form that can be compared."""
    local, _, domain = text.strip().rpartition("@")
    if not local or "@" in local or any(letter.isspace() for letter in local):
        raise ValueError("must be an e-mail address such as jane@example.com")
    return f"{local.casefold()}@{normal_domain(domain)}"


def _each_once(values: list[str]) -> list[str]:
    return list(dict.fromkeys(values))


Email = Annotated[
    str,
    StringConstraints(max_length=320),
    AfterValidator(_normal_email),
    Field(json_schema_extra={"pattern": r"(?#use an address such as jane@example.com)^\s*[^@\s]+@[^@\s]+\s*$"}),
]
Domains = Annotated[list[Annotated[Domain, Field(max_length=253)]], AfterValidator(_each_once)]
Emails = Annotated[list[Email], AfterValidator(_each_once)]


APPROVAL_HOURS: Final = 24

# Prefect's form keeps limits only in an annotation, and a description there only as an extra.
ApprovalHours = Annotated[
    float,
    Field(
        gt=0,
        le=LONGEST_WAIT_HOURS,
        json_schema_extra={
            "description": "How many hours to wait for that person. After that the run fails, and nothing is canceled."
        },
    ),
]


class CancelPolicy(Parameters):
    """Whose bookings are not wanted, and how far canceling may go."""

    blocked_domains: Domains = Field(
        min_length=1,
        max_length=10_000,
        description="Domains whose bookings are canceled, such as spam.example; upper case and IDN are fine.",
        json_schema_extra={"position": 0},
    )
    include_subdomains: bool = Field(
        default=True,
        description="Whether a domain, blocked or allowed, stands for its subdomains too.",
        json_schema_extra={"position": 1},
    )
    allowed_domains: Domains = Field(
        default=[],
        max_length=10_000,
        description="Domains that are welcome, even where a blocked domain fits.",
        json_schema_extra={"position": 2},
    )
    allowed_emails: Emails = Field(
        default=[],
        max_length=10_000,
        description=("Addresses that are welcome, even where a blocked domain fits. Prefect stores them with the run."),
        json_schema_extra={"position": 3},
    )
    protect_own_domains: bool = Field(
        default=True,
        description=(
            "Never treat the e-mail domains of the organization's members as blocked (with scope user: your own "
            "domain). The summary warns when a blocked domain is one of them."
        ),
        json_schema_extra={"position": 4},
    )
    scope: Literal["user", "organization"] = Field(
        default="user",
        description="Your own events, or the whole organization's (needs an owner or admin).",
        json_schema_extra={"position": 5},
    )
    horizon_days: int = Field(
        default=30,
        ge=1,
        le=365,
        description="How many days ahead to look.",
        json_schema_extra={"position": 6},
    )
    starting_at: AwareDatetime | None = Field(
        default=None,
        description="Where the days begin, with a time zone; empty is now. What has begun cannot be canceled.",
        json_schema_extra=optional_form_field(7),
    )
    check_guests: bool = Field(
        default=True,
        description="Whether to look at the guests that invitees bring along, too.",
        json_schema_extra={"position": 8},
    )
    group_events: Literal["report", "cancel"] = Field(
        default="report",
        description=(
            "A group event that invitees who are not blocked have booked too: only report it, or cancel it. An event "
            "is always canceled for all its invitees. One that only blocked invitees have booked is canceled anyway."
        ),
        json_schema_extra={"position": 9},
    )
    max_cancellations: int = Field(
        default=25,
        ge=1,
        le=1_000,
        description="If more events than this would be canceled, none is, and the run fails.",
        json_schema_extra={"position": 10},
    )
    reason: Annotated[str, StringConstraints(strip_whitespace=True)] = Field(
        default=(
            "We do not take bookings from this e-mail domain. If you think that this is a mistake, please contact us."
        ),
        max_length=LONGEST_REASON,
        description="What the invitees are told; may be empty. An account that refuses reasons cancels without one.",
        json_schema_extra={"position": 11},
    )
    mask_emails: bool = Field(
        default=True,
        description="Show addresses as j…@example.com in the artifacts. Logs never show any.",
        json_schema_extra={"position": 12},
    )
    full_scan_hours: int = Field(
        default=24,
        ge=0,
        le=168,
        description=(
            "After how many hours every event is looked at again. In between, only what is new or has changed since "
            "the last successful run with the same policy. 0: every event, each time."
        ),
        json_schema_extra={"position": 13},
    )
    notify: Notifier = Field(
        default=None,
        description=(
            "Type and name of a saved notification block, such as slack-webhook/ops: gets a message when something "
            "was or would be canceled, or has failed."
        ),
        json_schema_extra=optional_form_field(14),
    )


class CancelReport(Parameters):
    """How the flow ended; holds no personal data."""

    dry_run: bool = Field(description="Whether nothing was to be changed.")
    events_checked: int = Field(description="Upcoming active events that were looked at.")
    events_read: int = Field(description="Of them, those that were not known to be harmless.")
    events_matched: int = Field(description="Events with somebody of a blocked domain.")
    to_cancel: int = Field(description="Events that were to be canceled; in a dry run, would be.")
    reported: int = Field(description="Group events that are only reported, for the sake of the others who booked.")
    canceled: int = Field(description="Events that this run has canceled.")
    already_canceled: int = Field(description="Events that somebody else canceled meanwhile.")
    left_alone: int = Field(description="Events that have begun, disappeared or become another case meanwhile.")
    failed: int = Field(description="Events that could not be canceled.")
    not_approved: int = Field(description="Events that a person kept from being canceled.")
    unreadable: int = Field(description="Events whose invitees could not be listed; nothing was done about them.")
    canceled_events: tuple[str, ...] = Field(description="uuids of the events that this run has canceled.")
    requests: int = Field(description="Requests sent to the gateway.")
    seconds: float = Field(description="How long it took.")


class TooManyCancellationsError(Exception):
    """More events would be canceled than the policy allows; none was."""

    def __init__(self, message: str, report: CancelReport | None = None) -> None:
        super().__init__(message)
        self.report = report


class CancellationsFailedError(Exception):
    """Some events could not be checked or canceled; `report` counts what was done about the others."""

    def __init__(self, message: str, report: CancelReport | None = None) -> None:
        super().__init__(message)
        self.report = report


# What decides


@dataclass(frozen=True, slots=True)
class Match:
    """Somebody of a blocked domain."""

    email: str = field(repr=False)
    role: Literal["invitee", "guest"]
    domain: str
    """The blocked domain, as in the policy."""


@dataclass(frozen=True, slots=True)
class Decision:
    """What to do about one event, and why."""

    event: str
    """URI of the event."""
    start: datetime
    host_zone: str | None
    action: Literal["keep", "report", "cancel", "unknown"]
    why: str
    matches: tuple[Match, ...] = ()
    shared: bool = False
    """Whether others can book the same event."""


def decide(
    event: ScheduledEvent,
    invitees: Iterable[Invitee],
    policy: CancelPolicy,
    own_domains: Collection[str] = frozenset(),
    host_zones: Mapping[str, str | None] = MappingProxyType({}),
) -> Decision:
    """Decide about one event.

    Args:
        event: The event.
        invitees: Its invitees; canceled ones do not count.
        policy: Whose bookings are not wanted.
        own_domains: Normal forms of the organization's own domains.
        host_zones: IANA time zones of hosts, by URI of the user; only for the decision's `host_zone`.

    Returns:
        The decision: `cancel`, `report` (others have booked this group event too) or `keep`.

    Example:
        ```python
        decision = decide(event, invitees, CancelPolicy(blocked_domains=["spam.example"]))
        ```
    """
    active = [invitee for invitee in invitees if invitee.status != "canceled"]
    people: list[tuple[Literal["invitee", "guest"], str]] = [("invitee", invitee.email) for invitee in active]
    if policy.check_guests:
        people += [("guest", guest.email) for guest in event.event_guests]
    matches = tuple(
        Match(email, role, domain)
        for role, email in people
        if (domain := _blocked_domain(email, policy, own_domains)) is not None
    )
    shared = event.invitees_counter.limit > 1 or len(active) > 1
    others = len(active) - sum(match.role == "invitee" for match in matches)
    why = ", ".join(dict.fromkeys(f"{match.role} of {match.domain}" for match in matches))
    action: Literal["keep", "report", "cancel"] = "cancel"
    if shared and others:
        why += f"; {pluralize(others, 'other invitee')}"
    if event.status == "canceled" or not matches:
        action = "keep"
    elif shared and others and policy.group_events == "report":
        action = "report"
    hosts = (membership.user for membership in event.event_memberships)
    host_zone = next((host_zones[host] for host in hosts if host in host_zones), None)
    return Decision(event.uri, event.start_time, host_zone, action, why, matches, shared)


def own_domain_warnings(policy: CancelPolicy, own_domains: Iterable[str]) -> list[str]:
    """Return a warning for each blocked domain that is the organization's own, or a part or parent of it."""
    return [
        f"{blocked} is blocked, but {own} is one of your own domains: its addresses stay welcome."
        if blocked != own
        else f"{own} is blocked, but it is one of your own domains: its addresses stay welcome."
        for own in sorted(own_domains)
        for blocked in policy.blocked_domains
        if policy.protect_own_domains and (_listed(own, [blocked], policy) or _listed(blocked, [own], policy))
    ]


def _blocked_domain(email: str, policy: CancelPolicy, own_domains: Collection[str]) -> str | None:
    """Return the blocked domain that an address falls under; None if it is welcome."""
    local, _, text = email.rpartition("@")
    domain = comparable_domain(text)
    found = _listed(domain, policy.blocked_domains, policy)
    if found is None or _listed(domain, policy.allowed_domains, policy):
        return None
    if f"{local.strip().casefold()}@{domain}" in policy.allowed_emails:
        return None
    return None if policy.protect_own_domains and _listed(domain, own_domains, policy) else found


def _listed(domain: str, domains: Collection[str], policy: CancelPolicy) -> str | None:
    """Return the one of some domains that a domain is, or is a subdomain of."""
    while domain:
        if domain in domains:
            return domain
        domain = domain.partition(".")[2] if policy.include_subdomains else ""
    return None


# Tasks


@dataclass(frozen=True, slots=True)
class CancelOutcome:
    """What became of one event that was to be canceled."""

    event: str
    """URI of the event."""
    result: Literal["canceled", "already canceled", "left alone", "failed"]
    detail: str = ""

    def __str__(self) -> str:
        return f"{self.result}: {self.detail}" if self.detail else self.result


@client_task("List scheduled events")
async def list_active_events(
    client: CalendlyClient, owner: Mapping[str, str], since: datetime, until: datetime
) -> list[ScheduledEvent]:
    """Return the active events of an owner, such as `{"user": uri}`, that begin within some time; in brief.

    Source: `GET /scheduled_events`.
    """
    listed = list_scheduled_events_via(
        client,
        user=owner.get("user"),
        organization=owner.get("organization"),
        status="active",
        min_start_time=since,
        max_start_time=until,
        sort="start_time:asc",
    )
    shared: dict[Any, Any] = {}
    # A page that shifts while it is read can repeat an event.
    return list({event.uri: in_brief(event, shared) async for event in listed}.values())


_KEPT: Final = {
    *("uri", "status", "start_time", "end_time", "created_at", "updated_at"),
    *("invitees_counter", "event_memberships", "event_guests"),
}


def in_brief(event: ScheduledEvent, shared: dict[Any, Any]) -> ScheduledEvent:
    """Return an event with what decisions need: all of an organization's are in memory at once.

    Args:
        event: The event; of its hosts, only who they are is kept.
        shared: What many events have in common, and need not hold each.
    """
    hosts = tuple(membership.user for membership in event.event_memberships)
    if hosts not in shared:
        shared[hosts] = tuple(EventMembership(user=host) for host in hosts)
    return ScheduledEvent.model_construct(
        _KEPT,  # one set for all: a set of its own would be most of an event
        uri=event.uri,
        status=shared.setdefault(event.status, event.status),
        start_time=event.start_time,
        end_time=event.end_time,
        created_at=event.created_at,
        updated_at=event.updated_at,
        invitees_counter=shared.setdefault(event.invitees_counter, event.invitees_counter),
        event_memberships=shared[hosts],
        event_guests=event.event_guests,
    )


@client_task("Cancel scheduled events", writes=True)
async def cancel_events(
    client: CalendlyClient,
    decisions: Sequence[Decision],
    policy: CancelPolicy,
    own_domains: Collection[str],
    look_again: bool = False,
) -> list[CancelOutcome]:
    """Cancel the events of some decisions; one failure does not stop the others, a refused key does.

    A group event is looked at again right before: somebody may have booked it since.

    Source: `POST /scheduled_events/{uuid}/cancellation`, for each event.

    Args:
        credentials: Whose Calendly to use.
        decisions: Which events, and whether others can book them.
        policy: Gives the reason, and decides again about group events.
        own_domains: The organization's own domains.
        look_again: Look again at every event, because the decisions are old.

    Returns:
        For each decision, in the same order, what happened.
    """
    logger = run_logger()
    refused: CalendlyError | None = None

    async def cancel(decision: Decision) -> CancelOutcome:
        nonlocal refused
        if refused is not None:
            return CancelOutcome(decision.event, "failed", f"not tried after {type(refused).__name__}")
        uuid = _uuid(decision)
        try:
            if decision.shared or look_again:
                event = await get_scheduled_event_via(client, uuid)
                if event.status == "canceled":
                    if look_again and await _was_moved(client, uuid):
                        return CancelOutcome(decision.event, "left alone", "moved meanwhile, to a new event")
                    return CancelOutcome(decision.event, "already canceled")
                if look_again and event.start_time != decision.start:
                    return CancelOutcome(decision.event, "left alone", "moved meanwhile")
            if decision.shared:
                invitees = [invitee async for invitee in list_invitees_via(client, uuid, status="active")]
                now = decide(event, invitees, policy, own_domains)
                if now.action != "cancel":
                    return CancelOutcome(decision.event, "left alone", "others have booked it meanwhile")
                if look_again and now.why != decision.why:
                    return CancelOutcome(decision.event, "left alone", "its invitees have changed meanwhile")
            cancellation = await cancel_scheduled_event_via(
                client,
                uuid,
                reason=policy.reason or None,
                drop_refused_reason=True,
                already_canceled_ok=False,
            )
        except AlreadyCanceledError:
            return CancelOutcome(decision.event, "already canceled")
        except (EventInPastError, NotFoundError) as error:
            why = "it has begun" if isinstance(error, EventInPastError) else "it is gone"
            return CancelOutcome(decision.event, "left alone", why)
        except CalendlyError as error:
            if isinstance(error, AuthenticationError | NoConnectionError):
                refused = error
            logger.error("Scheduled event %s could not be canceled: %s", uuid, type(error).__name__)
            return CancelOutcome(decision.event, "failed", short_error(error))
        # At once, for a run that is killed later: with the plan, this is its audit.
        logger.info("Canceled scheduled event %s", uuid)
        without = bool(policy.reason) and not cancellation.reason
        return CancelOutcome(decision.event, "canceled", "without the reason, which was refused" if without else "")

    outcomes = await client.each(decisions, cancel)
    return [outcome.value for outcome in outcomes if outcome.value is not None]


async def _was_moved(client: CalendlyClient, uuid: str) -> bool:
    """Say whether an event was canceled because an invitee has moved it: Calendly makes a new one then."""
    try:
        return any([invitee.rescheduled async for invitee in list_invitees_via(client, uuid)])
    except CalendlyError:  # it is canceled, whoever did it
        return False


def _uuid(decision: Decision) -> str:
    return uuid_of(decision.event, "scheduled_events", "event")


# What is shown


@dataclass(frozen=True)
class Plan:
    """What was read and decided; with `require_approval` it is kept until a person has decided."""

    timezone: str | None
    """The current user's."""
    since: datetime
    until: datetime
    own_domains: frozenset[str]
    checked: int
    read: int
    """Of them, those whose invitees were listed: the others were known as harmless."""
    warnings: tuple[str, ...]
    decisions: tuple[Decision, ...]
    """Those that are to be seen: all but `keep`."""
    requests: int
    """What it took."""
    planned_at: datetime
    harmless: Harmless | None = None
    """For the next run, if this one does what it has decided."""
    cursor: str = ""
    """Where that is kept."""

    @property
    def key(self) -> str:
        """Tells the question about this plan from that about another one of the same run."""
        return f"approval-{self.planned_at.astimezone(UTC):%Y%m%d-%H%M%S}"


PLAN = TypeAdapter(Plan)


@dataclass
class Run:
    """One run's progress, as its artifacts and its report tell it."""

    policy: CancelPolicy
    dry_run: bool
    plan: Plan
    meter: RequestMeter = field(default_factory=RequestMeter)
    began: float = field(default_factory=time.monotonic)
    before: int = 0
    """What the meter had counted when the plan was there: a part of the plan's own count, or nothing."""
    waits_until: datetime | None = None
    """When it is too late to approve; None: nobody is asked."""
    expired: bool = False
    """Whether it is too late."""
    answer: Answer | None = None
    outcomes: dict[str, CancelOutcome] | None = None
    """By event; None as long as nothing was sent."""

    summary_key: ClassVar[str] = SUMMARY_KEY
    decisions_key: ClassVar[str] = DECISIONS_KEY

    def of(self, action: str) -> list[Decision]:
        return [decision for decision in self.plan.decisions if decision.action == action]

    @property
    def to_cancel(self) -> list[Decision]:
        """What is really to be canceled: what was approved, where somebody was asked."""
        planned = self.of("cancel")
        return planned if self.answer is None else [d for d in planned if d.event in self.answer.approved]

    @property
    def cap(self) -> int:
        most = self.policy.max_cancellations
        return most if self.waits_until is None else min(most, MOST_PROPOSALS)

    @property
    def over_cap(self) -> bool:
        return len(self.of("cancel")) > self.cap

    @property
    def waiting(self) -> bool:
        return self.waits_until is not None and self.answer is None and not self.over_cap and bool(self.of("cancel"))

    def report(self) -> CancelReport:
        results = [outcome.result for outcome in (self.outcomes or {}).values()]
        return CancelReport(
            dry_run=self.dry_run,
            events_checked=self.plan.checked,
            events_read=self.plan.read,
            events_matched=len(self.of("cancel")) + len(self.of("report")),
            to_cancel=len(self.of("cancel")),
            reported=len(self.of("report")),
            canceled=results.count("canceled"),
            already_canceled=results.count("already canceled"),
            left_alone=results.count("left alone"),
            failed=results.count("failed"),
            not_approved=len(self.of("cancel")) - len(self.to_cancel),
            unreadable=len(self.of("unknown")),
            canceled_events=tuple(
                _uuid(decision) for decision in self.of("cancel") if self.happened(decision).startswith("canceled")
            ),
            requests=self.plan.requests + self.meter.requests - self.before,
            seconds=round(time.monotonic() - self.began, 2),
        )

    def happened(self, decision: Decision) -> str:
        if decision.action == "unknown":
            return "could not be checked"
        if decision.action == "report":
            return "only reported"
        if self.dry_run:
            return "would be canceled"
        if self.over_cap:
            return "not canceled: over the cap"
        if self.expired:
            return "not canceled: nobody decided in time"
        if self.waiting:
            return "waits for approval"
        if decision not in self.to_cancel:
            return "not canceled: rejected" if self.answer and self.answer.rejected else "not canceled: not approved"
        return str(self.outcomes[decision.event]) if self.outcomes is not None else "about to be canceled"

    def who(self, decision: Decision) -> str:
        shown = mask_email if self.policy.mask_emails else str
        return ", ".join(dict.fromkeys(shown(match.email) for match in decision.matches))

    def row(self, decision: Decision) -> dict[str, str]:
        """Return the decision as the table tells it: plain texts, and what is looked for first comes first."""
        host_zone = zone_or_utc(decision.host_zone)
        asked = self.waits_until is not None and decision.action == "cancel" and not self.over_cap
        row = {
            "what happened": self.happened(decision),
            "start": f"{decision.start.astimezone(host_zone):%a %Y-%m-%d %H:%M}",
            "who": self.who(decision),
            "why": decision.why,
            "decided by": (str(self.answer) if self.answer else "nobody") if asked else "",
            "event": _uuid(decision),
            "zone": host_zone.key,
        }
        return {name: printable(text) for name, text in row.items() if text or name != "decided by"}

    def headline(self) -> str:
        count = pluralize(len(self.of("cancel")), "event")
        if self.dry_run:
            return f"DRY RUN: {count} would be canceled, nothing was changed"
        if self.over_cap:
            return f"REFUSED: {count} to cancel, over the cap of {self.cap}; nothing was changed"
        if self.expired:
            return f"NOT APPROVED: nobody decided in time about {count} to cancel; nothing was changed"
        if self.waiting:
            return f"WAITING for approval: {count} to cancel, nothing was changed yet"
        if self.answer is not None and self.answer.rejected:
            return f"REJECTED: {count} to cancel, nothing was changed"
        if self.outcomes is None:
            return f"About to cancel {pluralize(len(self.to_cancel), 'event')}"
        report = self.report()
        problems = report.failed + report.unreadable
        return f"{pluralize(report.canceled, 'event')} canceled" + (f", {problems} FAILED" if problems else "")

    def summary(self) -> str:
        policy, plan, report = self.policy, self.plan, self.report()
        own = zone_or_utc(plan.timezone)
        whose = "the organization" if policy.scope == "organization" else "the current user"
        sections = {
            "Looked at": [
                f"{pluralize(plan.checked, 'event')} of {whose}"
                + (f", {plan.read} of them new or changed since the last run" if plan.read < plan.checked else ""),
                f"from {plan.since.astimezone(own):%Y-%m-%d %H:%M} to {plan.until.astimezone(own):%Y-%m-%d %H:%M} "
                f"({own.key})",
                f"{pluralize(len(policy.blocked_domains), 'blocked domain')}: {_some(policy.blocked_domains)}"
                + (", with subdomains" if policy.include_subdomains else ""),
            ],
            "Decided": [
                f"{pluralize(report.events_matched, 'event')} with somebody of a blocked domain",
                f"{report.to_cancel} to cancel (cap {self.cap})",
                f"{report.reported} only to report: others have booked them too",
            ],
            "Approval": self._approval(),
            "Happened": self._what_happened(report),
            "Warnings": [escape_cell(warning) for warning in plan.warnings],
            "Problems": self._problems(),
            "Cost": cost(self.meter, report.seconds, report.requests),
        }
        lines = [f"# {self.headline()}"]
        for title, items in sections.items():
            lines += [f"\n## {title}\n", *(f"- {item}" for item in items)] if items else []
        return "\n".join([*lines, *self._events(), f"\nEvery decision is in the table `{DECISIONS_KEY}`."])

    def _events(self) -> list[str]:
        """Return the decisions as a narrow table, for a phone; each event is a link to what Calendly calls it."""
        shown = self.plan.decisions[:_MOST_EVENTS_IN_SUMMARY]
        if not shown:
            return []
        lines = ["\n## Events\n", "| What happened | When | Who | Event |", "| --- | --- | --- | --- |"]
        for decision in shown:
            what, who = (soft_wrap(escape_cell(text), 12) for text in (self.happened(decision), self.who(decision)))
            when = f"{decision.start.astimezone(zone_or_utc(decision.host_zone)):%a %d %b %H:%M}"
            lines.append(f"| {what} | {when} | {who} | [{_uuid(decision)[:6]}…]({decision.event}) |")
        more = len(self.plan.decisions) - len(shown)
        return [*lines, f"\nTimes are the hosts'.{f' And {more} more.' if more else ''}"]

    def _approval(self) -> list[str]:
        if self.waits_until is None or self.over_cap or not self.of("cancel"):
            return []
        until = f"{self.waits_until.astimezone(UTC):%Y-%m-%d %H:%M} UTC"
        if self.answer is None:
            waits = "nobody had decided by then" if self.expired else "a person decides on the page of this flow run"
            return [f"until {until}: {waits}; without a decision nothing is canceled"]
        word = "rejected" if self.answer.rejected else f"{len(self.to_cancel)} of {len(self.of('cancel'))} approved"
        return [f"{word} by {escape_cell(self.answer)}"]

    def _what_happened(self, report: CancelReport) -> list[str]:
        if self.dry_run or self.over_cap or self.expired or self.waiting or (self.answer and self.answer.rejected):
            return ["**Nothing: no event was changed.**"]
        if self.outcomes is None:
            return [
                "**This is the plan.** If it stays the last version of this page, the run was interrupted: its log "
                "names the events that were canceled until then. Run the flow again for the rest."
            ]
        lines = [
            f"{report.canceled} canceled",
            f"{report.already_canceled} already canceled by somebody else",
            f"{report.left_alone} left alone: begun, gone, moved or booked by others meanwhile",
            f"{report.failed} failed",
        ]
        if (runtime.flow_run.run_count or 0) > 1:
            lines[1] += ", or by this run before it was interrupted: see its log"
        return lines + ([f"{report.not_approved} not approved"] if report.not_approved else [])

    def _problems(self) -> list[str]:
        problems = [f"{_uuid(d)}: could not be checked: {escape_cell(d.why)}" for d in self.of("unknown")]
        problems += [
            f"{_uuid(decision)}: {escape_cell(outcome.detail)}"
            for decision in self.of("cancel")
            if (outcome := (self.outcomes or {}).get(decision.event)) and outcome.result == "failed"
        ]
        more = len(problems) - _MOST_PROBLEMS_IN_SUMMARY
        return problems[:_MOST_PROBLEMS_IN_SUMMARY] + ([f"and {more} more"] if more > 0 else [])

    async def write(self) -> None:
        """Write both artifacts; the same keys again are the next versions."""
        rows: list[dict[str, Any]] = [self.row(decision) for decision in self.plan.decisions]
        await acreate_table_artifact(key=self.decisions_key, table=rows, description=self.headline())
        await acreate_markdown_artifact(key=self.summary_key, markdown=self.summary(), description=self.headline())


def _start(decision: Decision) -> str:
    host_zone = zone_or_utc(decision.host_zone)
    return f"{decision.start.astimezone(host_zone):%a %Y-%m-%d %H:%M} {host_zone.key}"


def _some(names: Sequence[str], most: int = 5) -> str:
    return ", ".join(map(escape_cell, names[:most])) + (f" and {len(names) - most} more" if len(names) > most else "")


# The flow


def _flow_run_name() -> str:
    dry_run = runtime.flow_run.parameters.get("dry_run", True)
    return "cancel blocked domains" + (" (dry run)" if dry_run else "")


@calendly_flow(flow_run_name=_flow_run_name)
async def cancel_blocked_domains(
    credentials: CalendlyCredentials,
    policy: CancelPolicy,
    dry_run: bool = True,
    require_approval: bool = False,
    approval_hours: ApprovalHours = APPROVAL_HOURS,
) -> CancelReport:
    """Cancel upcoming events that somebody of a blocked domain has booked.

    An event is canceled for all its invitees, and Calendly tells them. Only active events are looked at, so a second
    run, or one after a run that was killed half way, cancels nothing twice and does what is left.

    Args:
        credentials: Whose Calendly to use; for the whole organization, an owner's or admin's.
        policy: Whose bookings are not wanted, and how far canceling may go.
        dry_run: Only say what would be canceled.
        require_approval: Show the plan and wait until a person has decided about each event, on the page of the flow
            run. Only for runs of a deployment; a dry run asks nobody.
        approval_hours: How many hours to wait for that person. After that the run fails, and nothing is canceled.

    Returns:
        What was done and what it cost; no personal data.

    Raises:
        ValueError: There is no such notification block, or this run cannot wait for a person; nothing was asked.
        TooManyCancellationsError: More events than the policy allows; none was canceled.
        CancellationsFailedError: Some events could not be checked or canceled; all others were.
        CalendlyError: The events could not be listed; none was canceled.
    """
    asks = require_approval and not dry_run
    if asks:
        await check_can_wait("start the deployment cancel-blocked-domains-with-approval, or leave require_approval off")
    began = time.monotonic()
    with count_requests() as meter:
        async with notify_on_failure(policy.notify, "Blocked domains: failed", "Nothing was canceled."):
            plan = await _plan_to_go_on_with(approval_hours) if asks else None
        if plan is None:
            # Not for a run that goes on: what a person has approved is not lost because of a message.
            await check_notifier(policy.notify)
            async with notify_on_failure(policy.notify, "Blocked domains: failed", "Nothing was canceled."):
                plan = await _planned(credentials, policy, dry_run, meter)
        run = Run(policy, dry_run, _as_shown(plan, policy) if asks else plan, meter, began, before=meter.requests)
        if asks:
            run.waits_until = plan.planned_at + timedelta(hours=approval_hours)
        if run.waiting:
            async with notify_on_failure(policy.notify, "Blocked domains: failed", "Nothing was canceled."):
                await _wait(run)
        if not dry_run and not run.over_cap:
            async with notify_on_failure(
                policy.notify, "Blocked domains: failed", "See the log for what was canceled."
            ):
                await _cancel(run, credentials)
        await run.write()
        await _keep_harmless(run)
    return await _ended(run)


async def _planned(credentials: CalendlyCredentials, policy: CancelPolicy, dry_run: bool, meter: RequestMeter) -> Plan:
    """Read all that is needed, and decide."""
    logger, now = run_logger(), datetime.now(UTC)
    start = policy.starting_at or now
    end = start + timedelta(days=policy.horizon_days)
    if end <= now:
        raise ValueError("policy.starting_at plus horizon_days lies in the past: leave starting_at empty for now")
    user = await aget_current_user(credentials)
    # What has begun cannot be canceled, and must not count against the cap when a fixed start grows old.
    since = max(start, now)
    whole = policy.scope == "organization"
    own_domains, zones = await own_domains_and_zones(credentials, user, policy.scope)
    warnings = own_domain_warnings(policy, own_domains)
    began = time.monotonic()
    whose = user.current_organization if whole else user.uri
    owner = {"organization" if whole else "user": whose}
    events = await list_active_events(credentials, owner, since, end)
    listed_seconds = time.monotonic() - began
    cursor = state_name("harmless", credentials.gateway_url, whose, *_what_decides(policy, own_domains))
    known = await _known(cursor)
    unknown = to_read(events, known, now, timedelta(hours=policy.full_scan_hours))
    decisions: list[Decision] = []
    reading = f"Reading the invitees of {pluralize(len(unknown), 'event')}"
    per_task = max(_EVENTS_PER_TASK, -(-len(unknown) // _MOST_TASKS))
    async with progress(PROGRESS_KEY, reading, meter, len(unknown)):
        for first in range(0, len(unknown), per_task):
            some = unknown[first : first + per_task]
            # uuids, not models: Prefect walks through all arguments of a task.
            found = await alist_invitees_of_events(credentials, [event.uri for event in some], status="active")
            for event, its in zip(some, found, strict=True):
                decision = decide(event, its.invitees, policy, own_domains, zones)
                if its.error is not None:
                    decision = Decision(
                        event.uri, event.start_time, decision.host_zone, "unknown", short_error(its.error)
                    )
                if decision.action != "keep":
                    decisions.append(decision)
    count = {action: sum(d.action == action for d in decisions) for action in ("cancel", "report", "unknown")}
    if dry_run and count["cancel"] > policy.max_cancellations:
        warnings.append(
            f"A real run would cancel nothing: {pluralize(count['cancel'], 'event')} to cancel, and "
            f"max_cancellations is {policy.max_cancellations}."
        )
    logger.info(
        "%s checked, %s of them new or changed: %s to cancel, %s only to report, %s could not be checked",
        *(pluralize(len(events), "event"), len(unknown), *count.values()),
    )
    for warning in warnings:
        logger.warning("%s", warning)
    return Plan(
        timezone=user.timezone,
        since=since,
        until=end,
        own_domains=own_domains,
        checked=len(events),
        read=len(unknown),
        harmless=after_reading(
            *(events, unknown, {decision.event for decision in decisions}, known),
            window=(since, end),
            listed_at=now,
            seconds=listed_seconds,
        ),
        cursor=cursor,
        warnings=tuple(warnings),
        decisions=tuple(decisions),
        requests=meter.requests,
        planned_at=datetime.now(UTC),
    )


def _what_decides(policy: CancelPolicy, own_domains: Collection[str]) -> tuple[Any, ...]:
    """Return all that a decision depends on, besides the event and its invitees."""
    listed = (policy.blocked_domains, policy.allowed_domains, policy.allowed_emails, own_domains)
    switches = (policy.include_subdomains, policy.protect_own_domains, policy.check_guests, policy.group_events)
    return policy.scope, *map(sorted, listed), *switches


async def _known(cursor: str) -> Harmless | None:
    try:
        return await read_state(cursor, Harmless)
    except ValidationError:
        run_logger().warning("The variable %s is not as this flow writes it: every event is read", cursor)
        return None


async def _keep_harmless(run: Run) -> None:
    """Note what the next run need not look at; only of a run that has done all that it was to do."""
    report = run.report()
    if run.dry_run or run.over_cap or run.expired or report.failed or report.unreadable or run.plan.harmless is None:
        return
    left = [decision.event for decision in run.of("cancel") if decision not in run.to_cancel]
    if (harmless := left_over(run.plan.harmless, left)) is not None:
        await save_state(run.plan.cursor, harmless)


async def own_domains_and_zones(
    credentials: CalendlyCredentials, user: User, scope: Literal["user", "organization"]
) -> tuple[frozenset[str], dict[str, str | None]]:
    """Return the e-mail domains of the user or of all members, and their time zones by URI."""
    if scope == "user":
        return _domains([user.email]), {user.uri: user.timezone}
    members = [each.user for each in await alist_memberships(credentials, organization=user.current_organization)]
    return _domains(member.email for member in members), {member.uri: member.timezone for member in members}


def _domains(emails: Iterable[str]) -> frozenset[str]:
    return frozenset(comparable_domain(email.rpartition("@")[2]) for email in emails) - {""}


async def _plan_to_go_on_with(approval_hours: float) -> Plan | None:
    """Return the plan that this run has made in an earlier process; None if there is none, or it is too old."""
    kept = await recall(PLAN_KEY)
    if kept is None:
        return None
    try:
        plan = PLAN.validate_json(kept)
    except ValidationError:  # whose words quote the plan
        raise ValueError("the plan that this run remembers is of another release; start a new run") from None
    if plan.planned_at + timedelta(hours=approval_hours) > datetime.now(UTC) or await is_answered(plan.key):
        return plan
    # Somebody has let a run start again that nobody had decided about in time.
    await forget(_ASKED_KEY, PLAN_KEY)
    return None


async def _wait(run: Run) -> None:
    """Show the plan and ask; until a person has decided, that ends this process and the flow starts again later."""
    assert run.waits_until is not None  # noqa: S101  (otherwise nobody is asked)
    planned = run.of("cancel")
    until = f"{run.waits_until.astimezone(UTC):%Y-%m-%d %H:%M} UTC"
    if await recall(PLAN_KEY) is None:
        await remember(PLAN_KEY, PLAN.dump_json(run.plan).decode())
    if await recall(_ASKED_KEY) is None:
        await run.write()
        run_logger().info("%s; a person may decide until %s", run.headline(), until)
        body = f"Decide until {until}: on the page of the flow run, menu ⋮, Resume. Otherwise nothing is canceled."
        await notify(run.policy.notify, f"Blocked domains: {run.headline()}", body)
        await remember(_ASKED_KEY, until)
    proposals = [Proposal(d.event, printable(f"{_start(d)}, {run.who(d)} ({d.why})")) for d in planned]
    shown = [
        f"{number}. {escape_cell(_start(d))}, {soft_wrap(escape_cell(run.who(d)), 24)}: {escape_cell(d.why)}"
        for number, d in enumerate(planned, 1)
    ]
    introduction = "\n".join([f"# Cancel {pluralize(len(planned), 'event')}?\n", *shown, f"\nDecide until {until}."])
    run.answer = await ask(run.plan.key, proposals, introduction, run.policy.reason, run.waits_until)
    run.policy = run.policy.model_copy(update={"reason": run.answer.reason})
    run_logger().info("Decided: %s of %s approved", len(run.to_cancel), pluralize(len(planned), "event"))


def _as_shown(plan: Plan, policy: CancelPolicy) -> Plan:
    """Hide in a plan that is to be kept what is hidden on the page, too."""
    if not policy.mask_emails:
        return plan
    masked = (
        replace(d, matches=tuple(replace(match, email=mask_email(match.email)) for match in d.matches))
        for d in plan.decisions
    )
    return replace(plan, decisions=tuple(masked))


async def _cancel(run: Run, credentials: CalendlyCredentials) -> None:
    """Cancel what the plan says; the plan is written down first, for a run that does not come to its end."""
    planned = run.to_cancel
    if planned:
        await run.write()
        task = cancel_events.with_options(task_run_name=f"Cancel {pluralize(len(planned), 'scheduled event')}")
        look_again = run.answer is not None
        expected = len(planned) * (2 if look_again else 1)
        async with progress(PROGRESS_KEY, f"Canceling {pluralize(len(planned), 'event')}", run.meter, expected):
            outcomes = await task(credentials, planned, run.policy, run.plan.own_domains, look_again=look_again)
        run.outcomes = {outcome.event: outcome for outcome in outcomes}
    else:
        run.outcomes = {}


async def _ended(run: Run) -> CancelReport:
    """Tell how it went: log, notification, result or exception."""
    report, policy = run.report(), run.policy
    run_logger().info("%s; %s requests", run.headline(), report.requests)
    problems = report.failed + report.unreadable
    if report.to_cancel or problems:
        body = f"{pluralize(report.events_checked, 'event')} checked. See the artifact {SUMMARY_KEY} of this flow run."
        await notify(policy.notify, f"Blocked domains: {run.headline()}", body)
    if run.over_cap and not run.dry_run:
        limit, remedy = f"max_cancellations is {policy.max_cancellations}", "raise max_cancellations, or "
        if run.cap < policy.max_cancellations:
            limit, remedy = f"a person can decide about {run.cap} at once", ""
        raise TooManyCancellationsError(
            f"{pluralize(report.to_cancel, 'event')} to cancel, but {limit}: none was canceled. Read the artifact "
            f"{DECISIONS_KEY}; then {remedy}lower horizon_days, or correct blocked_domains.",
            report,
        )
    if problems:
        raise CancellationsFailedError(
            f"{report.failed} of {pluralize(report.to_cancel, 'event')} could not be canceled, {report.unreadable} "
            f"could not be checked; {report.canceled} canceled. The artifact {SUMMARY_KEY} says why. Start a new run: "
            "it does only what is left.",
            report,
        )
    return report
