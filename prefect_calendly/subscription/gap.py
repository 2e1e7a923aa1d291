"""Bookings that webhooks have missed: since when, remembered from run to run, until a backfill has emitted them."""

from __future__ import annotations

from collections.abc import Collection
from datetime import UTC, datetime, timedelta
from typing import Final

from pydantic import AwareDatetime, ValidationError

from prefect_calendly import CalendlyCredentials, CalendlyError
from prefect_calendly.bookings.backfill import BackfillReport, backfill
from prefect_calendly.bookings.cursor import REMEMBERED
from prefect_calendly.bookings.listing import Scope
from prefect_calendly.runs.forms import Parameters
from prefect_calendly.runs.state import read_state, save_state
from prefect_calendly.subscription.plan import hook_uuid
from prefect_calendly.webhook_subscriptions import WebhookSubscription

# Deliveries that were under way when the subscription was last seen to work may have failed.
_OVERLAP: Final = timedelta(minutes=10)
_KEEP_FOR: Final = timedelta(days=90)


class GapNotFilledError(CalendlyError):
    """The subscription is as it should be, but bookings that it has missed could not all be emitted."""

    hint = "Remove the cause and run this flow again, or let its schedule do so: it tries again."


class DeliveryState(Parameters):
    """What a run remembers of a subscription's deliveries for the next run."""

    subscription: str | None = None
    """uuid of the subscription that was there."""
    working_until: AwareDatetime | None = None
    """When it was last seen to deliver."""
    gap_since: AwareDatetime | None = None
    """From when on deliveries are missing; None if none are."""


def before_change(state: DeliveryState | None, found: Collection[WebhookSubscription], now: datetime) -> DeliveryState:
    """Return what to remember before a subscription is made.

    Args:
        state: What the last run has remembered; None for the very first one.
        found: Subscriptions of the URL that exist; none of them can be kept.
        now: The time.
    """
    if state is None and not found:
        return DeliveryState(working_until=now)  # before the very first one, nothing was to be delivered
    state = state or DeliveryState()
    starts = [state.gap_since, state.working_until or _working_until(found, now)]
    return state.model_copy(update={"gap_since": min(each for each in starts if each is not None)})


def _working_until(found: Collection[WebhookSubscription], now: datetime) -> datetime:
    """Return until when subscriptions have delivered that no earlier run has seen."""
    failing = [hook.retry_started_at for hook in found if hook.retry_started_at is not None]
    if failing:
        return min(failing)
    # Calendly disables a subscription after 24 hours of failures.
    return min([now, *(hook.updated_at - timedelta(days=1) for hook in found if hook.state == "disabled")])


def after_change(state: DeliveryState | None, hook: WebhookSubscription, now: datetime) -> DeliveryState:
    """Return what to remember of the subscription that is there now.

    Args:
        state: What was remembered before.
        hook: The subscription.
        now: When it was looked at.
    """
    state, uuid = state or DeliveryState(working_until=now), hook_uuid(hook)
    gap = state.gap_since
    if state.subscription not in (None, uuid):  # somebody else has made this one
        gap = gap or state.working_until
    # While deliveries fail, nobody knows which ones: Calendly repeats them for 24 hours.
    working = state.working_until if hook.retry_started_at is not None else now
    return DeliveryState(subscription=uuid, working_until=working or now, gap_since=gap)


async def load_delivery_state(name: str) -> DeliveryState | None:
    """Return what the last run has remembered; None if there was none.

    Raises:
        ValueError: The state is not as this flow writes it.
    """
    try:
        return await read_state(name, DeliveryState)
    except ValidationError:
        raise ValueError(
            f"the block calendly-state/{name} is not as this flow writes it: delete it, and the flow starts over"
        ) from None


async def save_delivery_state(name: str, state: DeliveryState) -> None:
    """Save what the next run has to know; removed if there is no run for three months."""
    await save_state(name, state, keep_for=_KEEP_FOR)


async def fill_gap(
    credentials: CalendlyCredentials, scope: Scope, gap_since: datetime
) -> tuple[datetime, BackfillReport]:
    """Emit events for the bookings that were not delivered.

    Args:
        credentials: Whose Calendly to use.
        scope: The user's own bookings, or the whole organization's.
        gap_since: From when on deliveries are missing.

    Returns:
        From when on bookings were looked at, at most 6 days back, and what was found.

    Raises:
        GapNotFilledError: The bookings could not be read, or not all of them.
    """
    since = max(gap_since - _OVERLAP, datetime.now(UTC) - REMEMBERED)
    what = f"Bookings since {since.astimezone(UTC):%Y-%m-%d %H:%M} UTC"
    try:
        report = await backfill(credentials, scope=scope, since=since)
    except Exception as error:
        why = str(error).rstrip(".") if isinstance(error, CalendlyError) else type(error).__name__
        raise GapNotFilledError(f"{what} could not be backfilled: {why}") from error
    if report.unreadable:
        raise GapNotFilledError(f"{what} were backfilled, except {report.unreadable} events that cannot be read")
    return since, report
