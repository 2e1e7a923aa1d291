"""What a run has done about a subscription, and its report."""

from __future__ import annotations

import time
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime
from typing import Literal

from pydantic import Field

from prefect_calendly.bookings.backfill import BackfillReport
from prefect_calendly.client import RequestMeter
from prefect_calendly.runs.forms import Parameters
from prefect_calendly.subscription.gap import DeliveryState
from prefect_calendly.subscription.keys import KeyChange, KeyRing
from prefect_calendly.subscription.plan import Change, Plan, hook_uuid
from prefect_calendly.subscription.spec import Account, SubscriptionSpec
from prefect_calendly.webhook_subscriptions import WebhookSubscription

Result = Change | Literal["failed"]


class SubscriptionReport(Parameters):
    """How the flow ended."""

    outcome: Result = Field(
        description="What was done; in a dry run, what would be. `failed` is only in artifacts and messages."
    )
    subscription: str | None = Field(description="uuid of the subscription that is there now; None if there is none.")
    deleted: tuple[str, ...] = Field(description="uuids of those that were deleted; in a dry run, would be.")
    reason: str = Field(description="Why this was done, or what has failed.")
    signing_key: KeyChange | None = Field(description="What was done about the signing key; None: nothing.")
    gap_since: datetime | None = Field(description="From when on deliveries were missed; None if none were.")
    gap_found: int | None = Field(description="Bookings, cancellations and so on since then; None: not looked for.")
    gap_emitted: int | None = Field(description="Of them, those that Prefect had no event of and got one for.")
    dry_run: bool = Field(description="Whether nothing was to be changed.")
    requests: int = Field(ge=0, description="Requests sent to the gateway.")
    seconds: float = Field(ge=0, description="How long it took.")


@dataclass
class SubscriptionRun:
    """What one run has done so far; its report and its artifact show it, whether the run ends well or not."""

    spec: SubscriptionSpec
    dry_run: bool
    meter: RequestMeter
    began: float = field(default_factory=time.monotonic)
    account: Account = field(init=False, repr=False)
    plan: Plan | None = None
    """The plan under which the run began to change something, or the last one."""
    subscription: WebhookSubscription | None = None
    deleted: list[str] = field(default_factory=list)
    perhaps_deleted: list[str] = field(default_factory=list)
    """Those whose deletion was not confirmed."""
    unconfirmed: bool = False
    """Whether the answer to any write was lost."""
    keys: KeyRing | None = None
    key_change: KeyChange | None = None
    receiver_answers: bool = False
    delivery: DeliveryState | None = None
    gap_since: datetime | None = None
    backfilled: tuple[datetime, BackfillReport] | None = None
    """From when on bookings were looked at, and what was found."""

    @property
    def state_name(self) -> str:
        """Name of the state that is kept from run to run."""
        return self.spec.state_name(self.account)

    @property
    def key_block(self) -> str:
        """Name of the Secret block with the signing keys."""
        if self.spec.signing_key_block is None:
            raise ValueError("there is no signing_key_block")
        return self.spec.signing_key_block

    def adopt(self, plan: Plan, found: Iterable[WebhookSubscription]) -> Plan:
        """Take up a new plan; changes that were begun before it keep their outcome and reason."""
        existing = {hook_uuid(hook) for hook in found}
        self.deleted += [uuid for uuid in self.perhaps_deleted if uuid not in existing]
        self.perhaps_deleted.clear()
        if not (self.deleted or self.subscription or self.unconfirmed):
            self.plan = plan
        return plan

    def report(self, failure: str | None = None) -> SubscriptionReport:
        """Return the report of what was done so far.

        Args:
            failure: What has failed; None if nothing has.
        """
        outcome: Result = "failed"
        if failure is None and self.plan is not None:
            outcome = self.plan.outcome
        return SubscriptionReport(
            outcome=outcome,
            subscription=hook_uuid(self.subscription) if self.subscription else None,
            deleted=tuple(self.deleted),
            reason=failure or (self.plan.reason if self.plan else "nothing was planned"),
            signing_key=self.key_change,
            gap_since=self.gap_since,
            gap_found=self.backfilled[1].found if self.backfilled else None,
            gap_emitted=self.backfilled[1].emitted if self.backfilled else None,
            dry_run=self.dry_run,
            requests=self.meter.requests,
            seconds=round(time.monotonic() - self.began, 2),
        )
