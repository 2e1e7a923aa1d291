"""Making a subscription as it should be: look, plan, subscribe and delete, until it is so or has failed too often."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Final

from pydantic import SecretStr

from prefect_calendly.client import CalendlyClient, Outcome
from prefect_calendly.client.errors import (
    CalendlyError,
    ConflictError,
    InvalidAnswerError,
    NetworkError,
    NotFoundError,
    PermissionDeniedError,
    RateLimitedError,
    ServerError,
    UnconfirmedWriteError,
)
from prefect_calendly.credentials import CalendlyCredentials
from prefect_calendly.runs.logger import run_logger
from prefect_calendly.subscription.gap import (
    after_change,
    before_change,
    fill_gap,
    load_delivery_state,
    save_delivery_state,
)
from prefect_calendly.subscription.keys import KeyRing, load_keys, prepare_keys, update_keys
from prefect_calendly.subscription.plan import hook_uuid, make_plan
from prefect_calendly.subscription.probe import ping_receiver
from prefect_calendly.subscription.report import SubscriptionRun
from prefect_calendly.subscription.spec import Account, SubscriptionSpec
from prefect_calendly.tasks import client_task
from prefect_calendly.users import aget_current_user
from prefect_calendly.webhook_subscriptions import (
    WebhookScope,
    WebhookSubscription,
    create_webhook_subscription_via,
    delete_webhook_subscription_via,
    list_webhook_subscriptions_via,
)

# Long enough for a restart of the gateway: while the old subscription is gone, events are lost.
PAUSES_SECONDS: Sequence[float] = (1, 3, 10, 30)
_TRANSIENT: Final = (NetworkError, ServerError, RateLimitedError, InvalidAnswerError, UnconfirmedWriteError)


class SubscriptionMissingError(CalendlyError):
    """The old subscription is deleted and the new one could not be made: nothing is delivered now."""

    hint = (
        "Remove the cause and run this flow again, or let its schedule do so: it then simply creates the "
        "subscription. Afterwards read what happened meanwhile from the API; Calendly does not deliver it later."
    )


async def get_account(credentials: CalendlyCredentials) -> Account:
    """Return whose account the credentials belong to."""
    user = await aget_current_user(credentials)
    return Account(credentials.gateway_url, user.current_organization, user.uri)


async def recall_deliveries(run: SubscriptionRun) -> None:
    """Recall what the last run has remembered of the subscription's deliveries.

    Raises:
        ValueError: The state is not as this flow writes it.
    """
    if run.spec.backfill_scope is not None:
        run.delivery = await load_delivery_state(run.state_name)


async def choose_keys(run: SubscriptionRun, *, rotate_now: bool) -> None:
    """Take the keys from the Secret block, with a new one where that is due.

    Args:
        run: The run.
        rotate_now: Make a new key now.

    Raises:
        ValueError: The block cannot be used.
    """
    spec = run.spec
    if spec.signing_key_block is not None:
        run.keys, run.key_change = await prepare_keys(
            spec.signing_key_block, spec.rotate_key_after_days, rotate_now=rotate_now, dry_run=run.dry_run
        )


async def preview(run: SubscriptionRun, credentials: CalendlyCredentials) -> None:
    """Find out what would be done, and change nothing."""
    found = await find_subscriptions(credentials, run.spec, run.account)
    plan = run.adopt(make_plan(found, run.spec, run.account, run.keys), found)
    run.subscription = plan.keep
    run.deleted = [hook_uuid(hook) for hook in plan.delete]


async def apply(run: SubscriptionRun, credentials: CalendlyCredentials) -> None:
    """Make the subscription as it should be.

    Raises:
        SubscriptionMissingError: The old one is deleted, and the new one could not be made.
        ReceiverUnreachableError: The receiver does not answer; nothing was subscribed or deleted.
        CalendlyError: It could not be done; the old one is still there.
    """
    try:
        await _repeat(run, credentials)
    except CalendlyError as error:
        if run.subscription is not None or not (run.deleted or run.perhaps_deleted):
            raise
        spec, cause = run.spec, str(error).rstrip(".")
        run.deleted += run.perhaps_deleted
        raise SubscriptionMissingError(
            f"NOTHING IS DELIVERED to {spec.masked_url}: its webhook subscription {', '.join(run.deleted)} is "
            f"deleted, and the new one for {', '.join(spec.events)} (scope {spec.scope}) could not be made: {cause}"
        ) from error


async def _repeat(run: SubscriptionRun, credentials: CalendlyCredentials) -> None:
    for pause in (*PAUSES_SECONDS, None):
        try:
            if await _attempt(run, credentials):
                return
            problem: CalendlyError = ConflictError(
                f"{run.spec.masked_url} is subscribed already, but in no scope that can be listed here",
                hint="Delete that subscription as its owner (another user, a group), or use another URL.",
            )
        except _TRANSIENT as error:
            problem = error
            run.unconfirmed |= isinstance(error, UnconfirmedWriteError)
        if pause is None:
            raise problem
        run_logger().warning("Not done yet: %s Trying again in %g s.", problem, pause)
        await asyncio.sleep(pause)
        if run.keys is not None:
            # Another run may have used, or replaced, the key. If the block is broken now, the next run says so.
            with contextlib.suppress(ValueError):
                run.keys = await load_keys(run.key_block) or run.keys


async def _attempt(run: SubscriptionRun, credentials: CalendlyCredentials) -> WebhookSubscription | None:
    """Look, plan and act once; return None if the URL is taken although no such subscription can be seen."""
    found = await find_subscriptions(credentials, run.spec, run.account)
    plan = run.adopt(make_plan(found, run.spec, run.account, run.keys), found)
    run_logger().info("%s: %s; %d to delete.", run.spec.masked_url, plan.reason, len(plan.delete))
    if plan.keep is None:
        await _before_subscribing(run, found)
    # Subscribe first, as if nothing were there. If the URL is taken, the answer is 409, and the old subscription is
    # deleted next; if plan, role or authorization do not suffice, that shows while the old one still delivers.
    run.subscription = plan.keep or await _subscribe(run, credentials)
    if plan.delete:
        outcomes = await delete_subscriptions(credentials, [hook_uuid(hook) for hook in plan.delete])
        run.deleted += [outcome.item for outcome in outcomes if outcome.value]
        if error := outcomes[-1].error:
            if isinstance(error, UnconfirmedWriteError):
                run.perhaps_deleted.append(outcomes[-1].item)
            raise error
        run.subscription = run.subscription or await _subscribe(run, credentials)
    return run.subscription


async def _before_subscribing(run: SubscriptionRun, found: Sequence[WebhookSubscription]) -> None:
    """Ping the receiver, and save from when on deliveries are missing, in case that this run is killed."""
    if run.spec.check_receiver and not run.receiver_answers and run.keys is not None:
        await ping_receiver(run.spec.callback_url, run.keys.newest, shown_as=run.spec.masked_url)
        run.receiver_answers = True
    if run.spec.backfill_scope is not None:
        run.delivery = before_change(run.delivery, found, datetime.now(UTC))
        await save_delivery_state(run.state_name, run.delivery)


async def _subscribe(run: SubscriptionRun, credentials: CalendlyCredentials) -> WebhookSubscription | None:
    """Subscribe, and save with which key; if this run is killed in between, the next one replaces the subscription."""
    if run.keys is None:
        return await subscribe(credentials, run.spec, run.account, None)
    key = run.keys.newest
    made = await subscribe(credentials, run.spec, run.account, key)
    if made is not None:
        name, uuid, now, deleted = run.state_name, hook_uuid(made), datetime.now(UTC), tuple(run.deleted)

        def note(keys: KeyRing) -> KeyRing:
            return keys.with_subscription(name, uuid, key, now, deleted=deleted)

        run.keys = await update_keys(run.key_block, run.keys, note)
    return made


async def drop_old_keys(run: SubscriptionRun) -> None:
    """Drop the keys that no delivery can be signed with any longer."""
    if run.keys is not None and run.subscription is not None:
        name, uuid, now = run.state_name, hook_uuid(run.subscription), datetime.now(UTC)

        def drop(keys: KeyRing) -> KeyRing:
            return keys.with_owner(name, uuid).pruned(now)

        if drop(run.keys) != run.keys:
            run.keys = await update_keys(run.key_block, run.keys, drop)


async def backfill_gap(run: SubscriptionRun, credentials: CalendlyCredentials) -> None:
    """Emit events for the bookings that were not delivered, if there is such a gap.

    Raises:
        GapNotFilledError: They could not all be emitted; the next run tries again.
    """
    spec = run.spec
    if spec.backfill_scope is None or run.subscription is None:
        return
    run.delivery = after_change(run.delivery, run.subscription, datetime.now(UTC))
    await save_delivery_state(run.state_name, run.delivery)
    run.gap_since = run.delivery.gap_since
    if run.gap_since is not None:
        run.backfilled = await fill_gap(credentials, spec.backfill_scope, run.gap_since)
        filled = run.delivery.model_copy(update={"gap_since": None})
        await save_delivery_state(run.state_name, filled)


# Tasks


@client_task("Find the subscriptions of a URL")
async def find_subscriptions(
    client: CalendlyClient, spec: SubscriptionSpec, account: Account
) -> list[WebhookSubscription]:
    """Return the subscriptions of a URL in every scope that may be listed: a URL is taken whatever its scope."""
    found: list[WebhookSubscription] = []
    scopes: list[WebhookScope] = ["organization", "user"]
    for scope in [*scopes, "group"] if spec.scope == "group" else scopes:
        listing = list_webhook_subscriptions_via(
            client,
            organization=account.organization,
            scope=scope,
            user=account.user if scope == "user" else None,
            group=spec.group if scope == "group" else None,
        )
        try:
            found += [hook async for hook in listing if hook.callback_url == spec.callback_url]
        except PermissionDeniedError:
            if scope == spec.scope:
                raise
    return found


@client_task("Subscribe a URL, unless it is taken", writes=True)
async def subscribe(
    client: CalendlyClient, spec: SubscriptionSpec, account: Account, signing_key: SecretStr | None
) -> WebhookSubscription | None:
    """Return the new subscription; None if the URL is subscribed already (409)."""
    try:
        return await create_webhook_subscription_via(
            client,
            url=spec.callback_url,
            events=spec.events,
            organization=account.organization,
            scope=spec.scope,
            user=account.user if spec.scope == "user" else None,
            group=spec.group,
            signing_key=signing_key,
        )
    except ConflictError:
        return None


@client_task("Delete subscriptions", writes=True)
async def delete_subscriptions(client: CalendlyClient, uuids: Sequence[str]) -> list[Outcome[str, bool]]:
    """Delete in this order, and stop at the first failure; the value says whether it was there at all."""
    outcomes: list[Outcome[str, bool]] = []
    for uuid in uuids:
        try:
            await delete_webhook_subscription_via(client, uuid)
            outcomes.append(Outcome(uuid, value=True))
        except NotFoundError:
            outcomes.append(Outcome(uuid, value=False))
        except CalendlyError as error:
            return [*outcomes, Outcome(uuid, error=error)]
    return outcomes
