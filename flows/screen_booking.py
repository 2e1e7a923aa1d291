"""Screen one booking, right after it was made: cancel it if somebody of a blocked domain has booked."""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Annotated, ClassVar, Final, Literal

import httpx
from prefect import runtime
from prefect.client.orchestration import get_client
from pydantic import AfterValidator, Field

from flows.cancel_blocked_domains import (
    CancellationsFailedError,
    CancelOutcome,
    CancelPolicy,
    Decision,
    Plan,
    Run,
    TooManyCancellationsError,
    cancel_events,
    decide,
    own_domain_warnings,
    own_domains_and_zones,
)
from prefect_calendly import CalendlyClient, CalendlyCredentials
from prefect_calendly.client import RequestMeter, count_requests
from prefect_calendly.client.identifiers import CALENDLY_ORIGIN
from prefect_calendly.events.event import PREFIX, URI_LABEL, CalendlyEvent, event_id, resource_id
from prefect_calendly.events.prefect_api import count_events, post_events
from prefect_calendly.invitees import Invitee, list_invitees_via
from prefect_calendly.runs.flow import calendly_flow
from prefect_calendly.runs.forms import Parameters
from prefect_calendly.runs.logger import run_logger
from prefect_calendly.runs.markdown import cost, escape_cell, pluralize
from prefect_calendly.runs.notifications import check_notifier, notify, notify_on_failure
from prefect_calendly.scheduled_events import ScheduledEvent, get_scheduled_event_via
from prefect_calendly.tasks import client_task
from prefect_calendly.users import aget_current_user

SUMMARY_KEY: Final = "screen-booking"
DECISIONS_KEY: Final = "screen-booking-decisions"

CANCELED: Final = "screening.canceled"
REFUSED: Final = "screening.refused"
_FAILED: Final = "Screening: failed"
_CAP_PERIOD: Final = timedelta(hours=1)

_INVITEE: Final = rf"{re.escape(CALENDLY_ORIGIN)}/scheduled_events/([A-Za-z0-9_-]+)/invitees/[A-Za-z0-9_-]+"


def _invitee_uri(text: str) -> str:
    text = text.strip()
    if not re.fullmatch(_INVITEE, text):
        raise ValueError(f"must be the URI of an invitee: {CALENDLY_ORIGIN}/scheduled_events/…/invitees/…")
    return text


# Prefect's form keeps a description here only as an extra, and shows the pattern: its comment says what is wanted.
InviteeUri = Annotated[
    str,
    AfterValidator(_invitee_uri),
    Field(
        max_length=500,
        json_schema_extra={
            "pattern": rf"(?#use the URI of an invitee)^\s*{_INVITEE}\s*$",
            "description": "URI of the invitee who has booked, as the event calendly.invitee.created tells it.",
        },
    ),
]


Action = Literal[
    "kept", "nothing to do", "only reported", "would be canceled", "canceled", "already canceled", "left alone"
]


class ScreenReport(Parameters):
    """How the flow ended; holds no personal data."""

    action: Action = Field(description="What was done about the event.")
    why: str = Field(description="Why.")
    event: str = Field(description="uuid of the scheduled event.")
    dry_run: bool = Field(description="Whether nothing was to be changed.")
    seconds_after_booking: float | None = Field(description="How old the booking was when it was canceled.")
    requests: int = Field(description="Requests sent to the gateway.")
    seconds: float = Field(description="How long it took.")


# What decides


@dataclass(frozen=True)
class Booking:
    """A scheduled event with its invitees."""

    event: ScheduledEvent
    invitees: Sequence[Invitee]

    def past_help(self, now: datetime) -> str | None:
        """Say why there is nothing to decide any more; None if there is."""
        if self.event.status == "canceled":
            moved = any(invitee.rescheduled for invitee in self.invitees)
            return "it was moved" if moved else "it is canceled already"
        return "it has begun" if self.event.start_time <= now else None


# Tasks


@client_task("Read a booking")
async def read_booking(client: CalendlyClient, event: str) -> Booking:
    """Return a scheduled event and its invitees, asked for at the same time.

    Source: `GET /scheduled_events/{uuid}` and `GET /scheduled_events/{uuid}/invitees`.

    Args:
        credentials: Whose Calendly to use.
        event: uuid of the event.
    """

    async def invitees() -> list[Invitee]:
        return [invitee async for invitee in list_invitees_via(client, event)]

    # Both are waited for: the client closes with this task.
    found, its = await asyncio.gather(get_scheduled_event_via(client, event), invitees(), return_exceptions=True)
    if isinstance(found, BaseException):
        raise found
    if isinstance(its, BaseException):
        raise its
    return Booking(found, its)


# The cap


async def _of_last_hour(happened: str) -> int:
    now = datetime.now(UTC)
    async with get_client() as client:
        # Another worker's clock may be ahead.
        return await count_events(client, f"{PREFIX}{happened}", now - _CAP_PERIOD, now + _CAP_PERIOD)


async def _note(happened: str, decision: Decision) -> None:
    """Emit a Prefect event about a decision: the cap counts them."""
    event = CalendlyEvent(
        event_id(happened, decision.event),
        f"{PREFIX}{happened}",
        datetime.now(UTC),
        {"prefect.resource.id": resource_id(decision.event), URI_LABEL: decision.event},
        ({"prefect.resource.id": f"prefect.flow-run.{runtime.flow_run.id}", "prefect.resource.role": "flow-run"},),
        {"domains": sorted({match.domain for match in decision.matches})},
    )
    try:
        async with get_client() as client:
            await post_events(client, [event])
    except httpx.HTTPError as error:  # what is done is done
        run_logger().warning("The event %s could not be emitted: %s", event.event, type(error).__name__)


# What is shown


@dataclass
class _Screening(Run):
    """What one run has come to, as its artifacts tell it."""

    too_many: bool = False

    summary_key: ClassVar[str] = SUMMARY_KEY
    decisions_key: ClassVar[str] = DECISIONS_KEY

    @property
    def decision(self) -> Decision:
        return self.plan.decisions[0]

    @property
    def outcome(self) -> CancelOutcome | None:
        return (self.outcomes or {}).get(self.decision.event)

    @property
    def over_cap(self) -> bool:
        return self.too_many

    def headline(self) -> str:
        if self.decision.action == "report":
            return "1 group event is only reported: others have booked it too"
        if self.outcome is not None and self.outcome.result in ("already canceled", "left alone"):
            return f"0 events canceled: {self.outcome}"
        return super().headline()

    def summary(self) -> str:
        report = self.report()
        details = [f"why: {escape_cell(self.decision.why)}"]
        if self.over_cap:
            details.append(f"`max_cancellations`: {pluralize(self.cap, 'event')} within an hour at most")
        elif self.decision.action == "cancel" and self.outcomes is None and not self.dry_run:
            details.append("this is the plan: if it stays the last version of this page, the run was interrupted")
        if self.outcome is not None and self.outcome.detail:
            details.append(escape_cell(self.outcome.detail))
        details += [escape_cell(warning) for warning in self.plan.warnings]
        details += cost(self.meter, report.seconds, report.requests)
        return "\n".join([f"# {self.headline()}", *self._events(), "", *(f"- {each}" for each in details)])


# The flow


def _flow_run_name() -> str:
    dry_run = runtime.flow_run.parameters.get("dry_run", True)
    return "screen booking" + (" (dry run)" if dry_run else "")


@calendly_flow(flow_run_name=_flow_run_name)
async def screen_booking(
    credentials: CalendlyCredentials, invitee: InviteeUri, policy: CancelPolicy, dry_run: bool = True
) -> ScreenReport:
    """Cancel a booking if somebody of a blocked domain has made it: for a trigger on `calendly.invitee.created`.

    Decides as `cancel_blocked_domains` does, about the whole event; start and horizon of the policy do not matter. A
    harmless booking costs two requests and leaves a line in the log. A second run, or one after a run that was killed,
    cancels nothing twice. A wrong policy is stopped: all runs together cancel no more than `max_cancellations` within
    an hour; a few more if many run at the same time.

    Args:
        credentials: Whose Calendly to use; for the whole organization, an owner's or admin's.
        invitee: URI of the invitee who has booked.
        policy: Whose bookings are not wanted, and how far canceling may go.
        dry_run: Only say what would be done.

    Returns:
        What was done and what it cost; no personal data.

    Raises:
        ValueError: There is no such notification block; nothing was asked.
        TooManyCancellationsError: As many as the policy allows were canceled within the last hour; this one was not.
        CancellationsFailedError: The event could not be canceled, or the invitee is not to be found in it.
        CalendlyError: The booking could not be read; nothing was canceled.
    """
    began = time.monotonic()
    uuid = invitee.removeprefix(f"{CALENDLY_ORIGIN}/scheduled_events/").partition("/")[0]
    await check_notifier(policy.notify)
    with count_requests() as meter:

        def report(action: Action, why: str, after_seconds: float | None = None) -> ScreenReport:
            run_logger().info("Event %s %s: %s; %s", uuid, action, why, pluralize(meter.requests, "request"))
            return ScreenReport(
                action=action,
                why=why,
                event=uuid,
                dry_run=dry_run,
                seconds_after_booking=None if after_seconds is None else round(after_seconds, 2),
                requests=meter.requests,
                seconds=round(time.monotonic() - began, 2),
            )

        async with notify_on_failure(policy.notify, _FAILED, "Nothing was canceled."):
            booking = await read_booking(credentials, uuid)
            if (why := booking.past_help(datetime.now(UTC))) is not None:
                return report("nothing to do", why)
            booked_at = next((each.created_at for each in booking.invitees if each.uri == invitee), None)
            if booked_at is None:
                raise CancellationsFailedError(
                    "The invitee is not among those of the event: nothing was decided. Start this run again."
                )
            run = _Screening(policy, dry_run, await _planned(credentials, booking, policy, meter), meter, began)
            run.before = meter.requests
            decision = run.decision
            if decision.action == "keep":
                return report("kept", decision.why or "nobody of a blocked domain")
            if decision.action == "cancel" and not dry_run:
                run.too_many = await _of_last_hour(CANCELED) >= policy.max_cancellations
        if run.too_many:
            raise await _too_many(run)
        after_seconds = None
        if decision.action == "cancel" and not dry_run:
            async with notify_on_failure(policy.notify, _FAILED, "See the log for what was canceled."):
                await run.write()  # for a run that does not come to its end
                (outcome,) = await cancel_events(credentials, [decision], policy, run.plan.own_domains)
                run.outcomes = {decision.event: outcome}
                if outcome.result == "canceled":
                    after_seconds = (datetime.now(UTC) - booked_at).total_seconds()
                    await _note(CANCELED, decision)
        await run.write()
        if decision.action == "report":
            return report("only reported", decision.why)
        if run.outcome is None or run.outcome.result in ("canceled", "failed"):
            body = f"See the artifact {SUMMARY_KEY} of this flow run."
            await notify(policy.notify, f"Screening: {run.headline()}", body)
        if run.outcome is None:
            return report("would be canceled", decision.why)
        if run.outcome.result == "failed":
            raise CancellationsFailedError(
                f"Event {uuid} could not be canceled: {run.outcome.detail}. Start a new run.", run.report()
            )
        return report(run.outcome.result, run.outcome.detail or decision.why, after_seconds)


async def _planned(
    credentials: CalendlyCredentials, booking: Booking, policy: CancelPolicy, meter: RequestMeter
) -> Plan:
    """Decide; read whose the domains are only if that can matter."""
    event, whole = booking.event, policy.scope == "organization"
    decision = decide(event, booking.invitees, policy)
    timezone, own_domains, warnings = None, frozenset[str](), list[str]()
    if decision.action != "keep" and (policy.protect_own_domains or not whole):
        user = await aget_current_user(credentials)
        own_domains, zones = await own_domains_and_zones(credentials, user, policy.scope)
        timezone, warnings = user.timezone, own_domain_warnings(policy, own_domains)
        decision = decide(event, booking.invitees, policy, own_domains, zones)
        if not whole and user.uri not in [membership.user for membership in event.event_memberships]:
            decision = replace(decision, action="keep", why="it is no event of your own, and the scope is user")
    return Plan(
        timezone=timezone,
        since=event.start_time,
        until=event.end_time,
        own_domains=own_domains,
        checked=1,
        read=1,
        warnings=tuple(warnings),
        decisions=(decision,),
        requests=meter.requests,
        planned_at=datetime.now(UTC),
    )


async def _too_many(run: _Screening) -> TooManyCancellationsError:
    """Tell of a booking that is left alone because of the cap; a message goes out once an hour."""
    limit = run.policy.max_cancellations
    await run.write()
    if not await _of_last_hour(REFUSED):
        body = "It and those after it are left alone: see whether blocked_domains is right."
        await notify(run.policy.notify, f"Screening: {run.headline()}", body)
    await _note(REFUSED, run.decision)
    return TooManyCancellationsError(
        f"{pluralize(limit, 'event')} canceled within the last hour, as many as max_cancellations allows: this one was "
        "not. See whether blocked_domains is right; then raise max_cancellations, or let cancel_blocked_domains look "
        "at all upcoming events.",
        run.report(),
    )
