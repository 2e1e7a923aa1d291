"""Reading the events of a user or an organization, and deciding about each of them."""

from __future__ import annotations

import time
from collections.abc import Iterable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Final

from pydantic import ValidationError

from prefect_calendly.client import count_requests
from prefect_calendly.credentials import CalendlyCredentials
from prefect_calendly.invitees import alist_invitees_of_events
from prefect_calendly.runs.logger import run_logger
from prefect_calendly.runs.markdown import pluralize, short_error
from prefect_calendly.runs.progress import progress
from prefect_calendly.runs.state import read_state, save_state, state_name
from prefect_calendly.scheduled_events import ScheduledEvent
from prefect_calendly.screening.account import Account, read_account
from prefect_calendly.screening.decision import Decision, Rules, decide, own_domain_warnings
from prefect_calendly.screening.listing import list_active_events
from prefect_calendly.screening.plan import Plan
from prefect_calendly.screening.policy import CancelPolicy
from prefect_calendly.screening.unchanged import Unchanged, events_to_scan, next_cursor, with_rescan

PROGRESS_KEY: Final = "cancel-blocked-domains-progress"

# More task runs than this cannot be looked through by a person.
_MOST_TASKS: Final = 50


async def scan_events(credentials: CalendlyCredentials, policy: CancelPolicy, *, events_per_task: int = 1_000) -> Plan:
    """Read the upcoming events that a policy is about, and decide about each of them. It changes nothing.

    Events that an earlier scan has read and kept, and that have not changed since, are not read again; see
    `save_cursor`, and the policy's `full_scan_hours`.

    Args:
        credentials: Whose Calendly to use; for the whole organization, an owner's or admin's.
        policy: Whose bookings are not wanted.
        events_per_task: How many events' invitees are in memory at once; more where there are very many events.

    Returns:
        The plan: what to cancel, what only to report, what a person must look at, and what could not be read.

    Raises:
        ValueError: `policy.starting_at` plus `horizon_days` lies in the past.
        CalendlyError: The events could not be listed.

    Example:
        ```python
        from prefect import flow

        @flow
        async def cancel_spam(credentials: CalendlyCredentials) -> None:
            plan = await scan_events(credentials, CancelPolicy(blocked_domains=["spam.example"]))
            await cancel_events(credentials, plan)
        ```
    """
    now = datetime.now(UTC)
    start = policy.starting_at or now
    until = start + timedelta(days=policy.horizon_days)
    if until <= now:
        raise ValueError("policy.starting_at plus horizon_days lies in the past: leave starting_at empty for now")
    # What has begun cannot be canceled, and must not count against the cap when a fixed start grows old.
    since = max(start, now)
    with count_requests() as meter:
        account = await read_account(credentials, policy.scope)
        began = time.monotonic()
        owner = {policy.scope: account.uri}
        events = await list_active_events(credentials, since=since, until=until, **owner)
        listed_seconds = time.monotonic() - began
        what_decides = policy.what_decides(), sorted(account.domains)
        cursor_name = state_name("unchanged", credentials.gateway_url, account.uri, *what_decides)
        known = await _read_cursor(cursor_name)
        to_read = events_to_scan(events, known, now, timedelta(hours=policy.full_scan_hours))
        what = f"Reading the invitees of {pluralize(len(to_read), 'event')}"
        async with progress(PROGRESS_KEY, what, meter, len(to_read)):
            decisions = await _decide_about(credentials, to_read, policy, account, events_per_task)
    plan = Plan(
        policy=policy,
        decisions=tuple(decisions),
        own_domains=account.domains,
        account=account.uri,
        timezone=account.timezone,
        since=since,
        until=until,
        checked=len(events),
        read=len(to_read),
        warnings=tuple(own_domain_warnings(policy, account.domains)),
        requests=meter.requests,
        cursor=next_cursor(
            *(events, to_read, {decision.event for decision in decisions}, known),
            window=(since, until),
            listed_at=now,
            seconds=listed_seconds,
        ),
        cursor_name=cursor_name,
    )
    _log(plan)
    return plan


async def _decide_about(
    credentials: CalendlyCredentials,
    events: list[ScheduledEvent],
    policy: CancelPolicy,
    account: Account,
    events_per_task: int,
) -> list[Decision]:
    """Return all decisions but those to keep an event."""
    rules = Rules.of(policy, account.domains)
    per_task = max(events_per_task, -(-len(events) // _MOST_TASKS))
    decisions = []
    for first in range(0, len(events), per_task):
        some = events[first : first + per_task]
        # URIs, not models: Prefect walks through all arguments of a task.
        found = await alist_invitees_of_events(credentials, [event.uri for event in some], status="active")
        for event, its in zip(some, found, strict=True):
            decision = decide(event, its.invitees, rules, account.host_zones)
            if its.error is not None:
                decision = replace(decision, action="unknown", why=short_error(its.error), matches=())
            if decision.action != "keep":
                decisions.append(decision)
    return decisions


def _log(plan: Plan) -> None:
    logger = run_logger()
    to_cancel, most = len(plan.of("cancel")), plan.policy.max_cancellations
    logger.info(
        "%s checked, %s of them new or changed: %s to cancel, %s only to report, %s could not be checked",
        *(pluralize(plan.checked, "event"), plan.read, to_cancel, len(plan.of("report")), len(plan.of("unknown"))),
    )
    if undecided := plan.of("undecided"):
        logger.warning("%s undecided: an address cannot be read", pluralize(len(undecided), "event"))
    for warning in plan.warnings:
        logger.warning("%s", warning)
    if to_cancel > most:
        logger.warning("More than max_cancellations (%s): none of them can be canceled", most)


async def _read_cursor(name: str) -> Unchanged | None:
    try:
        return await read_state(name, Unchanged)
    except ValidationError:
        run_logger().warning("The state %s is not as this flow writes it: every event is read", name)
        return None


async def save_cursor(plan: Plan, rescan: Iterable[str] = ()) -> None:
    """Note what the next scan with the same policy need not read: call it when a plan was carried out.

    Nothing is noted of a plan with events that could not be read: the next scan reads what this one has read. What was
    noted is removed when every event is due to be read again, after the policy's `full_scan_hours`.

    Args:
        plan: The plan.
        rescan: URIs of events that were not canceled, although the plan says so.
    """
    keep_for = timedelta(hours=plan.policy.full_scan_hours)
    if plan.cursor is not None and keep_for and not plan.of("unknown"):
        # Nobody is to think that it was kept: what is undecided is in the table of every run.
        rescan = [*rescan, *(decision.event for decision in plan.of("undecided"))]
        await save_state(plan.cursor_name, with_rescan(plan.cursor, rescan), keep_for=keep_for)
