"""What webhooks have not delivered: remembered from run to run, until it was told to Prefect by a backfill."""

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
from prefect_calendly.runs.state import read_state
from prefect_calendly.webhook_subscriptions import WebhookSubscription

# What was on its way when all was still well may have failed.
_OVERLAP: Final = timedelta(minutes=10)


class GapNotFilledError(CalendlyError):
    """The subscription is as it should be; what was not delivered before could not be told to Prefect."""

    hint = "Remove the cause and run this flow again, or let its schedule do so: it tries again."


class Memory(Parameters):
    """What a run leaves for the next one, in a Prefect variable."""

    subscription: str | None = None
    """uuid of the subscription that was there."""
    good_until: AwareDatetime | None = None
    """When it was last seen to deliver."""
    gap_since: AwareDatetime | None = None
    """From when on deliveries are missing; None if none are."""


def before_change(memory: Memory | None, found: Collection[WebhookSubscription], now: datetime) -> Memory:
    """Return what to remember before a subscription is made.

    Args:
        memory: What the last run has left; None for the very first one.
        found: Subscriptions of the URL that are there: none of them can be kept.
        now: The time.
    """
    if memory is None and not found:
        return Memory(good_until=now)  # the very first one: nothing was to be delivered before
    memory = memory or Memory()
    starts = [memory.gap_since, memory.good_until or _good_until(found, now)]
    return memory.model_copy(update={"gap_since": min(each for each in starts if each is not None)})


def _good_until(found: Collection[WebhookSubscription], now: datetime) -> datetime:
    """Return until when subscriptions have delivered that no earlier run has seen."""
    failing = [hook.retry_started_at for hook in found if hook.retry_started_at is not None]
    if failing:
        return min(failing)
    # Calendly disables after 24 hours of failures.
    return min([now, *(hook.updated_at - timedelta(days=1) for hook in found if hook.state == "disabled")])


def after_change(memory: Memory | None, there: WebhookSubscription, now: datetime) -> Memory:
    """Return what to remember of the subscription that is there now.

    Args:
        memory: What was remembered before.
        there: The subscription.
        now: When it was looked at.
    """
    memory, uuid = memory or Memory(good_until=now), there.uri.rpartition("/")[2]
    gap = memory.gap_since
    if memory.subscription not in (None, uuid):  # somebody else has made this one
        gap = gap or memory.good_until
    # While deliveries fail, it is not known which ones: Calendly repeats them for 24 hours.
    good = memory.good_until if there.retry_started_at is not None else now
    return Memory(subscription=uuid, good_until=good or now, gap_since=gap)


async def recall(name: str) -> Memory | None:
    """Return what the last run has left; None if there was none.

    Raises:
        ValueError: The variable is not as this flow writes it.
    """
    try:
        return await read_state(name, Memory)
    except ValidationError:
        raise ValueError(f"the Prefect variable {name} is not as this flow writes it: delete it") from None


async def fill(credentials: CalendlyCredentials, scope: Scope, gap_since: datetime) -> tuple[datetime, BackfillReport]:
    """Tell Prefect of what was not delivered.

    Returns:
        From when on, at most 6 days back, and what was found.

    Raises:
        GapNotFilledError: It could not be told, or not all of it.
    """
    since = max(gap_since - _OVERLAP, datetime.now(UTC) - REMEMBERED)
    told = f"What has happened since {since.astimezone(UTC):%Y-%m-%d %H:%M} UTC"
    try:
        report = await backfill(credentials, scope=scope, since=since)
    except Exception as error:
        why = str(error).rstrip(".") if isinstance(error, CalendlyError) else type(error).__name__
        raise GapNotFilledError(f"{told} could not be told to Prefect: {why}") from error
    if report.unreadable:
        raise GapNotFilledError(f"{told} is told to Prefect but for {report.unreadable} events, which cannot be read")
    return since, report
