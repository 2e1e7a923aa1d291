"""How screening ended: what a flow returns or raises. It holds no personal data."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from prefect_calendly.runs.forms import Parameters


class CancelReport(Parameters):
    """How a run over many events ended."""

    dry_run: bool = Field(description="Whether nothing was to be changed.")
    events_checked: int = Field(description="Upcoming active events that were listed.")
    events_read: int = Field(description="Of them, those whose invitees were listed: all but the unchanged ones.")
    events_matched: int = Field(description="Events with somebody of a blocked domain.")
    to_cancel: int = Field(description="Events that were to be canceled; in a dry run, would be.")
    reported: int = Field(description="Group events that are only reported, for the sake of the others who booked.")
    undecided: int = Field(description="Events with an address that cannot be read: look at them yourself.")
    canceled: int = Field(description="Events that this run has canceled.")
    already_canceled: int = Field(description="Events that somebody else canceled meanwhile.")
    left_alone: int = Field(description="Events that have begun, disappeared or become another case meanwhile.")
    failed: int = Field(description="Events that could not be canceled.")
    not_approved: int = Field(description="Events that a person kept from being canceled.")
    unreadable: int = Field(description="Events whose invitees could not be listed; nothing was done about them.")
    canceled_events: tuple[str, ...] = Field(description="uuids of the events that this run has canceled.")
    requests: int = Field(description="Requests sent to the gateway.")
    seconds: float = Field(description="How long it took.")


Result = Literal["canceled", "already canceled", "left alone", "failed"]
"""What became of an event that was to be canceled."""
Action = Literal["kept", "nothing to do", "only reported", "undecided", "would be canceled"] | Result
"""What was done about a booking."""


class ScreenReport(Parameters):
    """How a run over one booking ended."""

    action: Action = Field(description="What was done about the event.")
    why: str = Field(description="Why.")
    event: str = Field(description="uuid of the scheduled event.")
    dry_run: bool = Field(description="Whether nothing was to be changed.")
    seconds_after_booking: float | None = Field(description="How old the booking was when it was canceled.")
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
