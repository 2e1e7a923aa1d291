"""One run's progress: what its plan says, what a person has answered, what was done. The artifacts show it."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Literal

from prefect_calendly.client import RequestMeter
from prefect_calendly.runs.human_input import MOST_PROPOSALS, Answer
from prefect_calendly.runs.markdown import pluralize
from prefect_calendly.screening.booking import Booking
from prefect_calendly.screening.cancellation import CancelOutcome
from prefect_calendly.screening.decision import Decision
from prefect_calendly.screening.plan import Plan
from prefect_calendly.screening.policy import CancelPolicy
from prefect_calendly.screening.report import (
    Action,
    CancellationsFailedError,
    CancelReport,
    ScreenReport,
    TooManyCancellationsError,
)


@dataclass
class CancelRun:
    """A run that cancels the unwanted ones of many events."""

    plan: Plan
    dry_run: bool
    meter: RequestMeter = field(default_factory=RequestMeter)
    """Counts the run's requests."""
    resumed: bool = False
    """Whether an earlier process has made the plan; the meter does not know of its requests."""
    waits_until: datetime | None = None
    """When it is too late to approve; None: nobody is asked."""
    abandoned: Literal["expired", "canceled"] | None = None
    """How the run has ended while it waited for a person: nobody has decided in time, or somebody has canceled it."""
    answer: Answer | None = None
    outcomes: Mapping[str, CancelOutcome] | None = None
    """By URI of the event; None as long as nothing was sent."""
    began: float = field(default_factory=time.monotonic)

    @property
    def policy(self) -> CancelPolicy:
        """The plan's policy."""
        return self.plan.policy

    @property
    def approved(self) -> Plan:
        """What is to be done: all of the plan, or what a person has approved of it."""
        return self.plan if self.answer is None else self.plan.limited_to(self.answer.approved, self.answer.reason)

    @property
    def cap(self) -> int:
        """How many events may be canceled at most."""
        most = self.policy.max_cancellations
        return most if self.waits_until is None else min(most, MOST_PROPOSALS)

    @property
    def over_cap(self) -> bool:
        """Whether more events are to be canceled than may be."""
        return len(self.plan.of("cancel")) > self.cap

    @property
    def waiting(self) -> bool:
        """Whether a person has yet to decide."""
        asks = self.waits_until is not None and not self.over_cap and bool(self.plan.of("cancel"))
        return asks and self.answer is None

    @property
    def requests(self) -> int:
        """Requests sent so far, by earlier processes too."""
        return self.meter.requests + (self.plan.requests if self.resumed else 0)

    @property
    def seconds(self) -> float:
        """How long this process has taken so far."""
        return round(time.monotonic() - self.began, 2)

    def status_of(self, decision: Decision) -> str:
        """Return what was done about an event, or will be, in a few words."""
        if decision.action == "unknown":
            return "could not be checked"
        if decision.action == "report":
            return "only reported"
        if decision.action == "undecided":
            return "undecided"
        if self.dry_run:
            return "would be canceled"
        if self.over_cap:
            return "not canceled: over the cap"
        if self.abandoned == "expired":
            return "not canceled: nobody decided in time"
        if self.abandoned == "canceled":
            return "not canceled: the run was canceled before"
        if self.waiting:
            return "waits for approval"
        if self.answer is not None and decision.event not in self.answer.approved:
            return "not canceled: rejected" if self.answer.rejected else "not canceled: not approved"
        return "about to be canceled" if self.outcomes is None else str(self.outcomes[decision.event])

    def report(self) -> CancelReport:
        """Return what was done so far, in numbers."""
        planned, outcomes = self.plan.of("cancel"), self.outcomes or {}
        results = [outcome.result for outcome in outcomes.values()]
        canceled = [d for d in planned if d.event in outcomes and outcomes[d.event].result == "canceled"]
        return CancelReport(
            dry_run=self.dry_run,
            events_checked=self.plan.checked,
            events_read=self.plan.read,
            events_matched=len(planned) + len(self.plan.of("report")),
            to_cancel=len(planned),
            reported=len(self.plan.of("report")),
            undecided=len(self.plan.of("undecided")),
            canceled=len(canceled),
            already_canceled=results.count("already canceled"),
            left_alone=results.count("left alone"),
            failed=results.count("failed"),
            not_approved=len(planned) - len(self.approved.of("cancel")),
            unreadable=len(self.plan.of("unknown")),
            canceled_events=tuple(decision.uuid for decision in canceled),
            requests=self.requests,
            seconds=self.seconds,
        )

    @property
    def done(self) -> bool:
        """Whether all that was to be done was done."""
        failed = any(outcome.result == "failed" for outcome in (self.outcomes or {}).values())
        return not (self.dry_run or self.over_cap or self.abandoned or self.waiting or failed)

    def raise_for_failures(self) -> None:
        """Raise if the plan was over the cap, or an event could not be checked or canceled.

        Raises:
            TooManyCancellationsError: More events than may be canceled; none was.
            CancellationsFailedError: Some events could not be checked or canceled; all others were.
        """
        report = self.report()
        if self.over_cap and not self.dry_run:
            limit, remedy = f"max_cancellations is {self.policy.max_cancellations}", "raise max_cancellations, or "
            if self.cap < self.policy.max_cancellations:
                limit, remedy = f"a person can decide about {self.cap} at once", ""
            raise TooManyCancellationsError(
                f"{pluralize(report.to_cancel, 'event')} to cancel, but {limit}: none was canceled. See the "
                f"decisions among this run's artifacts; then {remedy}lower horizon_days, or correct blocked_domains.",
                report,
            )
        if report.failed or report.unreadable:
            raise CancellationsFailedError(
                f"{report.failed} of {pluralize(report.to_cancel, 'event')} could not be canceled, {report.unreadable} "
                f"could not be checked; {report.canceled} canceled. The summary among this run's artifacts says "
                "why. Start a new run: it does only what is left.",
                report,
            )


@dataclass
class ScreenRun(CancelRun):
    """A run that screens one booking, right after it was made."""

    booking: Booking = field(kw_only=True)
    cap_reached: bool = False
    """Whether as many events as allowed were canceled within the last hour."""

    @property
    def decision(self) -> Decision:
        """The only one of the plan."""
        return self.plan.decisions[0]

    @property
    def outcome(self) -> CancelOutcome | None:
        """What became of the event; None as long as nothing was sent."""
        return (self.outcomes or {}).get(self.decision.event)

    @property
    def over_cap(self) -> bool:
        return self.cap_reached

    @property
    def action(self) -> Action:
        """What was done about the event."""
        if self.booking.closed is not None:
            return "nothing to do"
        if self.decision.action == "report":
            return "only reported"
        if self.decision.action == "undecided":
            return "undecided"
        if self.decision.action != "cancel":
            return "kept"
        return "would be canceled" if self.outcome is None else self.outcome.result

    def screen_report(self) -> ScreenReport:
        """Return what was done."""
        why, age = self.decision.why or "nobody of a blocked domain", None
        if self.outcome is not None:
            why = self.outcome.detail or why
            if self.outcome.result == "canceled" and self.booking.booked_at is not None:
                age = round((datetime.now(UTC) - self.booking.booked_at).total_seconds(), 2)
        return ScreenReport(
            action=self.action,
            why=why,
            event=self.decision.uuid,
            dry_run=self.dry_run,
            seconds_after_booking=age,
            requests=self.requests,
            seconds=self.seconds,
        )

    def raise_for_failures(self) -> None:
        """Raise if the event could not be canceled, or was not because of the cap.

        Raises:
            TooManyCancellationsError: As many events as the policy allows were canceled within the last hour.
            CancellationsFailedError: The event could not be canceled.
        """
        if self.cap_reached:
            raise TooManyCancellationsError(
                f"{pluralize(self.cap, 'event')} canceled within the last hour, as many as max_cancellations allows: "
                "this one was not. See whether blocked_domains is right; then raise max_cancellations, or let "
                "cancel_blocked_domains check all upcoming events.",
                self.report(),
            )
        if self.outcome is not None and self.outcome.result == "failed":
            raise CancellationsFailedError(
                f"Event {self.decision.uuid} could not be canceled: {self.outcome.detail}. Start a new run.",
                self.report(),
            )
