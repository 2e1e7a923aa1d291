"""Keep one webhook subscription as it should be: there, active, with the right events, scope and signing key."""

from __future__ import annotations

from prefect_calendly.credentials import CalendlyCredentials
from prefect_calendly.runs.flow import calendly_flow
from prefect_calendly.runs.notifications import check_notifier
from prefect_calendly.subscription.apply import (
    apply,
    backfill_gap,
    choose_keys,
    drop_old_keys,
    get_account,
    preview,
    recall_deliveries,
)
from prefect_calendly.subscription.keys import check_keys
from prefect_calendly.subscription.publish import published_run
from prefect_calendly.subscription.report import SubscriptionReport
from prefect_calendly.subscription.spec import SubscriptionSpec


@calendly_flow(flow_run_name="webhook of {subscription.host}, scope {subscription.scope}")
async def ensure_webhook_subscription(
    credentials: CalendlyCredentials,
    subscription: SubscriptionSpec,
    dry_run: bool = False,
    rotate_key_now: bool = False,
) -> SubscriptionReport:
    """Make sure that a webhook subscription is there, active, and as it should be; and that no booking is missed.

    Calendly cannot change a subscription, so one with other events, another scope or another signing key, or one that
    Calendly has disabled, is deleted and made anew. The new one is asked for before anything is deleted: that shows at
    no cost whether plan, role and authorization suffice. Afterwards events are emitted for the bookings of the time in
    which nothing was delivered. Run it on a schedule: the next run completes what a killed run has begun.

    Args:
        credentials: Whose Calendly to use; needs a plan with webhooks.
        subscription: The subscription that there should be.
        dry_run: Only say what would be done.
        rotate_key_now: Make a new signing key, unless that was done within the last hour. The receiver accepts the old
            one for two more days.

    Returns:
        What was done and what it cost.

    Raises:
        SubscriptionMissingError: The old one is deleted, and the new one could not be made.
        ReceiverUnreachableError: The receiver does not answer (`check_receiver`); nothing was subscribed or deleted.
        GapNotFilledError: The subscription is as it should be, but the bookings that were not delivered before could
            not all be emitted; the next run tries again.
        ValueError: The callback URL is a placeholder, the Secret block of the signing key or the notification block
            cannot be used, or there is a key to rotate and no block; nothing was changed.
        CalendlyError: It could not be done; see `prefect_calendly.client.errors`.
    """
    await check_notifier(subscription.notify)
    async with published_run(subscription, dry_run=dry_run) as run:
        subscription.check_callback(credentials.gateway_url)
        await check_keys(subscription.signing_key_block, rotate_now=rotate_key_now)
        run.account = await get_account(credentials)
        await recall_deliveries(run)
        await choose_keys(run, rotate_now=rotate_key_now)
        if dry_run:
            await preview(run, credentials)
        else:
            await apply(run, credentials)
            await drop_old_keys(run)
            await backfill_gap(run, credentials)
    return run.report()
