"""Canceling what a plan says: each event once, and none that has become another case meanwhile."""

from __future__ import annotations

from dataclasses import dataclass

from prefect_calendly.client import CalendlyClient, count_requests
from prefect_calendly.client.errors import (
    AlreadyCanceledError,
    AuthenticationError,
    CalendlyError,
    EventInPastError,
    NoConnectionError,
    NotFoundError,
)
from prefect_calendly.credentials import CalendlyCredentials
from prefect_calendly.invitees import list_invitees_via
from prefect_calendly.runs.logger import run_logger
from prefect_calendly.runs.markdown import pluralize, short_error
from prefect_calendly.runs.progress import progress
from prefect_calendly.scheduled_events import cancel_scheduled_event_via, get_scheduled_event_via
from prefect_calendly.screening.decision import Decision, Rules, decide
from prefect_calendly.screening.plan import Plan
from prefect_calendly.screening.report import Result, TooManyCancellationsError
from prefect_calendly.screening.scan import PROGRESS_KEY
from prefect_calendly.tasks import client_task


@dataclass(frozen=True, slots=True)
class CancelOutcome:
    """What became of one event that was to be canceled."""

    result: Result
    detail: str = ""

    def __str__(self) -> str:
        return f"{self.result}: {self.detail}" if self.detail else self.result


async def cancel_events(
    credentials: CalendlyCredentials, plan: Plan, *, look_again: bool = False
) -> dict[str, CancelOutcome]:
    """Cancel the events that a plan is to cancel, for **all** their invitees; Calendly tells them.

    One failure does not stop the others, a refused key does. A group event is read again right before it is canceled:
    somebody else may have booked it since. Called a second time, it cancels nothing twice.

    Source: `POST /scheduled_events/{uuid}/cancellation`, for each event.

    Args:
        credentials: Whose Calendly to use; for the whole organization, an owner's or admin's.
        plan: What to cancel. Its policy gives the reason and the cap, and decides again about group events.
        look_again: Read every event again before it is canceled, because the plan is old.

    Returns:
        What became of each event, by URI.

    Raises:
        TooManyCancellationsError: The plan cancels more events than its policy's `max_cancellations`; none was.

    Example:
        ```python
        from prefect import flow

        @flow
        async def cancel_spam(credentials: CalendlyCredentials) -> None:
            plan = await scan_events(credentials, CancelPolicy(blocked_domains=["spam.example"]))
            await cancel_events(credentials, plan)
        ```
    """
    decisions, most = plan.of("cancel"), plan.policy.max_cancellations
    if len(decisions) > most:
        raise TooManyCancellationsError(
            f"{pluralize(len(decisions), 'event')} to cancel, but max_cancellations is {most}: none was canceled"
        )
    if not decisions:
        return {}
    count = pluralize(len(decisions), "scheduled event")
    task = _cancel_events.with_options(task_run_name=f"Cancel {count}")
    rules = Rules.of(plan.policy, plan.own_domains)
    with count_requests() as meter:
        async with progress(PROGRESS_KEY, f"Canceling {count}", meter, len(decisions) * (2 if look_again else 1)):
            return await task(credentials, decisions, rules, plan.policy.reason, look_again=look_again)


async def cancel_events_via(
    client: CalendlyClient, decisions: list[Decision], rules: Rules, reason: str, *, look_again: bool = False
) -> dict[str, CancelOutcome]:
    """Cancel the events of some decisions, as `cancel_events` does; without Prefect, and without a cap.

    Source: `POST /scheduled_events/{uuid}/cancellation`, for each event.

    Args:
        credentials: Whose Calendly to use.
        decisions: Which events, and whether others can book them.
        rules: Decide again about group events.
        reason: Text for the invitees, at most 10,000 characters; may be empty.
        look_again: Read every event again before it is canceled, because the decisions are old.

    Returns:
        What became of each event, by URI.

    Example:
        ```python
        uri = "https://api.calendly.com/scheduled_events/DDDDDDDDDDDDDDDD"
        rules = Rules.of(CancelPolicy(blocked_domains=["spam.example"]))
        async with credentials.get_client() as client:
            event = await get_scheduled_event_via(client, uri)
            invitees = [invitee async for invitee in list_invitees_via(client, uri)]
            decision = decide(event, invitees, rules)
            if decision.action == "cancel":
                await cancel_events_via(client, [decision], rules, "No, thank you.")
        ```
    """
    logger = run_logger()
    refused: CalendlyError | None = None

    async def cancel(decision: Decision) -> CancelOutcome:
        nonlocal refused
        if refused is not None:
            return CancelOutcome("failed", f"not tried after {type(refused).__name__}")
        try:
            if decision.shared or look_again:
                changed = await _changed_meanwhile(client, decision, rules, look_again=look_again)
                if changed is not None:
                    return changed
            cancellation = await cancel_scheduled_event_via(
                client, decision.event, reason=reason or None, drop_refused_reason=True, already_canceled_ok=False
            )
        except AlreadyCanceledError:
            return CancelOutcome("already canceled")
        except EventInPastError:
            return CancelOutcome("left alone", "it has begun")
        except NotFoundError:
            return CancelOutcome("left alone", "it is gone")
        except CalendlyError as error:
            if isinstance(error, AuthenticationError | NoConnectionError):
                refused = error
            logger.error("Scheduled event %s could not be canceled: %s", decision.uuid, type(error).__name__)
            return CancelOutcome("failed", short_error(error))
        # At once, for a run that is killed later: with the plan, this is its audit.
        logger.info("Canceled scheduled event %s", decision.uuid)
        refused_reason = bool(reason) and not cancellation.reason
        return CancelOutcome("canceled", "without the reason, which was refused" if refused_reason else "")

    outcomes = await client.each(decisions, cancel)
    return {outcome.item.event: outcome.value for outcome in outcomes if outcome.value is not None}


_cancel_events = client_task("Cancel scheduled events", writes=True)(cancel_events_via)


async def _changed_meanwhile(
    client: CalendlyClient, decision: Decision, rules: Rules, *, look_again: bool
) -> CancelOutcome | None:
    """Read an event again; say why it is not to be canceled any more, None if it is."""
    event = await get_scheduled_event_via(client, decision.event)
    if event.status == "canceled":
        if look_again and await _was_moved(client, decision.event):
            return CancelOutcome("left alone", "moved meanwhile, to a new event")
        return CancelOutcome("already canceled")
    if look_again and event.start_time != decision.start:
        return CancelOutcome("left alone", "moved meanwhile")
    if decision.shared:
        invitees = [invitee async for invitee in list_invitees_via(client, decision.event, status="active")]
        now = decide(event, invitees, rules)
        if now.action != "cancel":
            return CancelOutcome("left alone", "others have booked it meanwhile")
        if look_again and now.why != decision.why:
            return CancelOutcome("left alone", "its invitees have changed meanwhile")
    return None


async def _was_moved(client: CalendlyClient, event: str) -> bool:
    """Say whether an event was canceled because an invitee has moved it: Calendly makes a new one then."""
    try:
        return any([invitee.rescheduled async for invitee in list_invitees_via(client, event)])
    except CalendlyError:  # it is canceled, whoever did it
        return False
