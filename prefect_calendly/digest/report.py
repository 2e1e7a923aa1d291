"""How a digest flow ended: counts for other flows and for automations, without personal data."""

from __future__ import annotations

from datetime import datetime

from pydantic import Field

from prefect_calendly.client import RequestMeter
from prefect_calendly.digest.artifacts import table_key
from prefect_calendly.digest.changes import Changes
from prefect_calendly.digest.model import Digest
from prefect_calendly.runs.forms import Parameters


class DigestReport(Parameters):
    """How the flow ended."""

    hosts: int = Field(ge=0, description="Hosts in the digest.")
    days: int = Field(ge=1, description="Days in the digest.")
    open_slots: int = Field(ge=0, description="Open slots; those of a shared event type count once.")
    hosts_without_slots: int = Field(ge=0, description="Hosts that nobody can book in these days.")
    unreadable: int = Field(ge=0, description="Items that could not be read; the markdown artifact lists them.")
    next_slot: datetime | None = Field(description="Start of the first open slot of all hosts.")
    first_digest: bool = Field(description="Whether there was no earlier digest to compare with.")
    changed_hosts: int = Field(ge=0, description="Hosts with more or fewer open slots on the days of both digests.")
    markdown_artifact: str = Field(description="Key of the markdown artifact.")
    table_artifact: str = Field(description="Key of the table artifact.")
    notified: bool = Field(description="Whether a notification was sent.")
    requests: int = Field(ge=0, description="Requests sent to the gateway.")
    seconds: float = Field(ge=0, description="Duration.")


def report_on(
    digest: Digest, changes: Changes | None, key: str, meter: RequestMeter, seconds: float, *, notified: bool
) -> DigestReport:
    """Return the report on a digest.

    Args:
        digest: The digest.
        changes: What changed; None for the first digest.
        key: Key of its page.
        meter: The requests that it took.
        seconds: How long it took.
        notified: Whether a notification was sent.

    Returns:
        The report.
    """
    return DigestReport(
        hosts=len(digest.hosts),
        days=len(digest.days),
        open_slots=digest.open_slots,
        hosts_without_slots=len(digest.hosts_without_slots),
        unreadable=len(digest.problems),
        next_slot=digest.next_slot,
        first_digest=changes is None,
        changed_hosts=len(changes.slot_changes) if changes is not None else 0,
        markdown_artifact=key,
        table_artifact=table_key(key),
        notified=notified,
        requests=meter.requests,
        seconds=round(seconds, 2),
    )
