"""What is to be done about the events of a user or an organization, as one scan has decided it."""

from __future__ import annotations

import json
from collections.abc import Collection
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime

from pydantic import TypeAdapter, ValidationError

from prefect_calendly.screening.decision import Decision
from prefect_calendly.screening.domains import mask_email
from prefect_calendly.screening.policy import CancelPolicy
from prefect_calendly.screening.unchanged import Unchanged


@dataclass(frozen=True)
class Plan:
    """Decisions about events, and what they were based on.

    Policy and decisions are all that `cancel_events` needs, so decisions of your own make a plan, too.

    Example:
        >>> plan = Plan(CancelPolicy(blocked_domains=["spam.example"]), decisions=())
        >>> plan.of("cancel")
        []
    """

    policy: CancelPolicy
    decisions: tuple[Decision, ...]
    """All but those to keep an event."""
    own_domains: frozenset[str] = frozenset()
    account: str = ""
    """URI of the user or the organization."""
    timezone: str | None = None
    """The current user's."""
    since: datetime | None = None
    """Events that begin from here on …"""
    until: datetime | None = None
    """… and before this were listed."""
    checked: int = 0
    """How many events."""
    read: int = 0
    """Of them, those whose invitees were listed: the others have not changed since the last scan."""
    warnings: tuple[str, ...] = ()
    requests: int = 0
    """What the scan took."""
    planned_at: datetime = field(default_factory=lambda: datetime.now(UTC))
    cursor: Unchanged | None = None
    """What the next scan need not read, if this plan is carried out."""
    cursor_name: str = ""

    def of(self, action: str) -> list[Decision]:
        """Return the decisions of one kind, such as `cancel`."""
        return [decision for decision in self.decisions if decision.action == action]

    def limited_to(self, events: Collection[str], reason: str) -> Plan:
        """Return a plan that cancels only some of the events.

        Args:
            events: URIs of these events.
            reason: What their invitees are told.
        """
        decisions = tuple(each for each in self.decisions if each.action != "cancel" or each.event in events)
        return replace(self, decisions=decisions, policy=self.policy.model_copy(update={"reason": reason}))

    def masked(self) -> Plan:
        """Return the plan with its addresses as the policy lets them be shown."""
        if not self.policy.mask_emails:
            return self
        masked = (
            replace(each, matches=tuple(replace(match, email=mask_email(match.email)) for match in each.matches))
            for each in self.decisions
        )
        return replace(self, decisions=tuple(masked))

    def to_json(self) -> str:
        """Return what a run keeps of a plan while it waits: not the policy, which is among its parameters anyway."""
        return _PLAN.dump_json(self, exclude={"policy", "cursor", "cursor_name"}).decode()

    @classmethod
    def from_json(cls, text: str, policy: CancelPolicy) -> Plan:
        """Return the plan that `to_json` has kept.

        Raises:
            ValueError: It is not of this release.
        """
        try:
            return _PLAN.validate_python({**json.loads(text), "policy": policy})
        except ValidationError:  # its message would quote the plan
            raise ValueError("the plan that this run has kept is of another release; start a new run") from None


_PLAN = TypeAdapter(Plan)
