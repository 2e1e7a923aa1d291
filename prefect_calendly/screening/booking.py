"""One booking, right after it was made: what is read of it, and what is decided."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Annotated, Final

from pydantic import AfterValidator, Field

from prefect_calendly.client import CalendlyClient, count_requests
from prefect_calendly.client.identifiers import CALENDLY_ORIGIN
from prefect_calendly.credentials import CalendlyCredentials
from prefect_calendly.invitees import Invitee, list_invitees_via
from prefect_calendly.runs.forms import form_pattern
from prefect_calendly.scheduled_events import ScheduledEvent, get_scheduled_event_via
from prefect_calendly.screening.account import read_account
from prefect_calendly.screening.decision import Rules, decide, own_domain_warnings
from prefect_calendly.screening.plan import Plan
from prefect_calendly.screening.policy import CancelPolicy
from prefect_calendly.screening.report import CancellationsFailedError
from prefect_calendly.tasks import client_task

_INVITEE: Final = rf"{re.escape(CALENDLY_ORIGIN)}/scheduled_events/([A-Za-z0-9_-]+)/invitees/[A-Za-z0-9_-]+"


def _invitee_uri(text: str) -> str:
    text = text.strip()
    if not re.fullmatch(_INVITEE, text):
        raise ValueError(f"must be the URI of an invitee: {CALENDLY_ORIGIN}/scheduled_events/…/invitees/…")
    return text


# Prefect's form keeps a description here only as an extra.
InviteeUri = Annotated[
    str,
    AfterValidator(_invitee_uri),
    Field(
        max_length=500,
        json_schema_extra={
            **form_pattern(rf"^\s*{_INVITEE}\s*$", "the URI of an invitee"),
            "description": "URI of the invitee who has booked, as in the payload of calendly.invitee.created.",
        },
    ),
]


@dataclass(frozen=True, slots=True)
class Booking:
    """A scheduled event with its invitees, one of whom has just booked it."""

    event: ScheduledEvent
    invitees: Sequence[Invitee]
    booked_at: datetime | None
    """When the invitee has booked; None: the event has no such invitee."""
    closed: str | None
    """Why there is nothing to decide any more; None: there is."""


@client_task("Read a booking")
async def read_booking(client: CalendlyClient, invitee: str) -> Booking:
    """Return the scheduled event that an invitee has booked, with all its invitees.

    Source: `GET /scheduled_events/{uuid}` and `GET /scheduled_events/{uuid}/invitees`, at the same time.

    Args:
        credentials: Whose Calendly to use.
        invitee: URI of the invitee.

    Returns:
        The booking.

    Raises:
        ValueError: `invitee` is none.
        CalendlyError: See `prefect_calendly.client.errors`.

    Example:
        ```python
        invitee = "https://api.calendly.com/scheduled_events/DDDDDDDDDDDDDDDD/invitees/EEEEEEEEEEEEEEEE"
        booking = await read_booking.fn(credentials, invitee)
        ```
    """
    uri = _invitee_uri(invitee)
    event_uri = uri.partition("/invitees/")[0]

    async def list_invitees() -> list[Invitee]:
        return [each async for each in list_invitees_via(client, event_uri)]

    # Both are waited for: the client closes with this task.
    event, invitees = await asyncio.gather(
        get_scheduled_event_via(client, event_uri), list_invitees(), return_exceptions=True
    )
    if isinstance(event, BaseException):
        raise event
    if isinstance(invitees, BaseException):
        raise invitees
    booked_at = next((each.created_at for each in invitees if each.uri == uri), None)
    return Booking(event, invitees, booked_at, _why_closed(event, invitees, datetime.now(UTC)))


def _why_closed(event: ScheduledEvent, invitees: Sequence[Invitee], now: datetime) -> str | None:
    if event.status == "canceled":
        moved = any(invitee.rescheduled for invitee in invitees)
        return "it was moved" if moved else "it is canceled already"
    return "it has begun" if event.start_time <= now else None


async def plan_for_booking(credentials: CalendlyCredentials, booking: Booking, policy: CancelPolicy) -> Plan:
    """Decide about one booking, as `scan_events` decides about all. It changes nothing.

    Whose the booking is, and whose domains are the own ones, is read only if it matters: a welcome booking costs no
    request.

    Args:
        credentials: Whose Calendly to use; for the whole organization, an owner's or admin's.
        booking: The booking.
        policy: Whose bookings are not wanted; its start and horizon do not matter.

    Returns:
        A plan with one decision, about the whole event.

    Raises:
        CancellationsFailedError: The event has no such invitee.
        CalendlyError: See `prefect_calendly.client.errors`.
    """
    event = booking.event
    plan = Plan(policy, decisions=(), since=event.start_time, until=event.end_time, checked=1, read=1)
    decision = decide(event, booking.invitees, Rules.of(policy))
    if booking.closed is not None:
        return replace(plan, decisions=(replace(decision, action="keep", why=booking.closed),))
    if booking.booked_at is None:
        raise CancellationsFailedError(
            "The invitee is not among those of the event: nothing was decided. Start this run again."
        )
    if decision.action == "keep":
        return replace(plan, decisions=(decision,))
    with count_requests() as meter:
        account = await read_account(credentials, policy.scope)
    decision = decide(event, booking.invitees, Rules.of(policy, account.domains), account.host_zones)
    if policy.scope == "user" and account.user not in [membership.user for membership in event.event_memberships]:
        decision = replace(decision, action="keep", why="it is no event of your own, and the scope is user")
    return replace(
        plan,
        decisions=(decision,),
        own_domains=account.domains,
        account=account.uri,
        timezone=account.timezone,
        warnings=tuple(own_domain_warnings(policy, account.domains)),
        requests=meter.requests,
    )
