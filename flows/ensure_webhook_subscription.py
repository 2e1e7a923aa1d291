"""Keep one webhook subscription as it should be: there, active, with the right events, scope and signing key."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from logging import ERROR, INFO
from typing import Annotated, Final, Literal
from urllib.parse import urlsplit

import httpx
from prefect.artifacts import acreate_markdown_artifact
from prefect.client.orchestration import get_client
from pydantic import BeforeValidator, Field, SecretStr, StringConstraints, ValidationInfo, field_validator

from flows import signing_keys, webhook_gap
from flows.signing_keys import KeyRing
from flows.webhook_gap import Memory
from flows.webhook_receiver import prove
from prefect_calendly import CalendlyClient, CalendlyCredentials, CalendlyError
from prefect_calendly.bookings.backfill import BackfillReport
from prefect_calendly.client import Outcome, RequestMeter, count_requests
from prefect_calendly.client.errors import (
    ConflictError,
    InvalidAnswerError,
    NetworkError,
    NotFoundError,
    PermissionDeniedError,
    RateLimitedError,
    ServerError,
    UnconfirmedWriteError,
)
from prefect_calendly.client.identifiers import uri_of
from prefect_calendly.events.prefect_api import last_delivery
from prefect_calendly.runs.flow import calendly_flow
from prefect_calendly.runs.forms import Notifier, Parameters, empty_is_none, optional_form_field
from prefect_calendly.runs.logger import run_logger
from prefect_calendly.runs.markdown import cost, escape_cell, markdown_table, pluralize, soft_wrap
from prefect_calendly.runs.notifications import check_notifier, notify
from prefect_calendly.runs.state import save_state, state_name
from prefect_calendly.tasks import client_task
from prefect_calendly.users import User, aget_current_user
from prefect_calendly.webhook_subscriptions import (
    WebhookEvent,
    WebhookScope,
    WebhookSubscription,
    checked_callback_url,
    checked_events,
    create_webhook_subscription_via,
    delete_webhook_subscription_via,
    list_webhook_subscriptions_via,
)

ARTIFACT_KEY: Final = "ensure-webhook-subscription"

# Between attempts. Long enough for a restart of the gateway: while the old subscription is gone, events are lost.
_PAUSES_SECONDS: Sequence[float] = (1, 3, 10, 30)
_PASSING = (NetworkError, ServerError, RateLimitedError, InvalidAnswerError, UnconfirmedWriteError)

Change = Literal["created", "unchanged", "replaced", "revived"]


# Prefect's form shows the pattern to the person: its comment says what is wanted.
BlockName = Annotated[
    str,
    StringConstraints(max_length=100, pattern=r"^[a-z0-9-]+$"),
    Field(json_schema_extra={"pattern": r"(?#use the name of a Secret block, such as calendly-key)^[a-z0-9-]*$"}),
]


class SubscriptionSpec(Parameters):
    """The webhook subscription that there should be."""

    callback_url: str = Field(
        max_length=2000,
        description=(
            "Where Calendly delivers: an https URL that can be reached from outside. Logs and artifacts show only its "
            "host, but Prefect stores it with the run's parameters."
        ),
        json_schema_extra={
            "position": 0,
            "pattern": (
                r"(?#use a URL that begins with https)"
                r"^\s*(https://|http://(127\.0\.0\.1|localhost|\[::1\])(?![^:/?\s]))[^\s#]+\s*$"
            ),
        },
    )
    scope: WebhookScope = Field(
        default="organization",
        description="Whose events: the whole organization's (needs an owner or admin), your own, or a group's.",
        json_schema_extra={"position": 2},
    )
    group: Annotated[str | None, BeforeValidator(empty_is_none)] = Field(
        default=None,
        validate_default=True,
        max_length=200,
        description="With scope group, and only then: the group's Calendly URI or uuid.",
        json_schema_extra=optional_form_field(3),
    )
    events: tuple[WebhookEvent, ...] = Field(
        default=("invitee.created", "invitee.canceled"),
        validate_default=True,
        max_length=50,
        description=(
            "What to deliver. routing_form_submission.created needs scope organization, meeting_recap events need "
            "scope user."
        ),
        # Not `min_length`: together with a misspelled name it would say a second, misleading thing.
        json_schema_extra={"position": 1, "minItems": 1},
    )
    signing_key_block: Annotated[BlockName | None, BeforeValidator(empty_is_none)] = Field(
        default=None,
        description=(
            "Name of the saved Secret block that holds the signing key; never the key itself. If there is no such "
            "block, a key is made and saved there."
        ),
        json_schema_extra=optional_form_field(4),
    )
    rotate_key_after_days: Annotated[int | None, Field(ge=1, le=3650)] = Field(
        default=None,
        validate_default=True,
        description=(
            "How old the signing key may become, in days, before a new one is made. The old one is accepted for two "
            "more days. Empty: any age."
        ),
        json_schema_extra=optional_form_field(5),
    )
    check_receiver: bool = Field(
        default=False,
        validate_default=True,
        description=(
            "Before something is subscribed, prove by a signed ping that the receiver answers at the URL; it must be "
            "the receiver of this package. Proves that it can be reached from where this runs."
        ),
        json_schema_extra={"position": 6},
    )
    backfill: bool = Field(
        default=True,
        description=(
            "Tell Prefect of bookings that were not delivered while there was no working subscription, up to 6 days "
            "back. With scope organization or user."
        ),
        json_schema_extra={"position": 7},
    )
    notify: Notifier = Field(
        default=None,
        description=(
            "Type and name of a saved notification block, such as slack-webhook/ops: gets a message when something "
            "was changed or has failed."
        ),
        json_schema_extra=optional_form_field(8),
    )

    @field_validator("callback_url")
    @classmethod
    def _is_https(cls, url: str) -> str:
        return checked_callback_url(url.strip())

    @field_validator("group")
    @classmethod
    def _goes_with_the_scope(cls, group: str | None, info: ValidationInfo) -> str | None:
        if "scope" in info.data and (group is not None) != (info.data["scope"] == "group"):
            raise ValueError("is needed with scope group, and only then")
        return None if group is None else uri_of(group, "groups", "group")

    @field_validator("events")
    @classmethod
    def _are_to_be_had(cls, events: tuple[WebhookEvent, ...], info: ValidationInfo) -> tuple[str, ...]:
        return tuple(checked_events(events, info.data["scope"])) if "scope" in info.data else events

    @field_validator("rotate_key_after_days", "check_receiver")
    @classmethod
    def _needs_a_key(cls, value: int | bool | None, info: ValidationInfo) -> int | bool | None:
        if value and info.data.get("signing_key_block") is None:
            raise ValueError("needs signing_key_block: name a Secret block, which is made if there is none")
        return value

    @property
    def host(self) -> str:
        """The host that is delivered to."""
        return urlsplit(self.callback_url).netloc

    @property
    def shown_url(self) -> str:
        """What may be shown of the URL: path and query often hold a secret; the hash tells two of them apart."""
        digest = hashlib.sha256(self.callback_url.encode()).hexdigest()
        return f"{urlsplit(self.callback_url).scheme}://{self.host}/… (sha256 {digest[:8]})"

    @property
    def gap_scope(self) -> Literal["user", "organization"] | None:
        """Whose bookings are told when deliveries were missed; None if none are to be told."""
        about_bookings = any(name.startswith(("invitee.", "invitee_no_show.")) for name in self.events)
        return self.scope if self.backfill and about_bookings and self.scope != "group" else None


class SubscriptionReport(Parameters):
    """How the flow ended."""

    outcome: Change | Literal["failed"] = Field(
        description="What was done; in a dry run, what would be. Failed: only in artifact and message."
    )
    subscription: str | None = Field(description="uuid of the subscription that is there now; None if there is none.")
    deleted: tuple[str, ...] = Field(description="uuids of those that were deleted; in a dry run, would be.")
    why: str = Field(description="Why.")
    signing_key: signing_keys.Change | None = Field(description="What was done about the signing key; None: nothing.")
    gap_since: datetime | None = Field(description="From when on deliveries were missed; None if none were.")
    gap_found: int | None = Field(description="What has happened since then; None if that was not looked for.")
    gap_told: int | None = Field(description="Of it, what Prefect did not know and was told of.")
    dry_run: bool = Field(description="Whether nothing was to be changed.")
    requests: int = Field(ge=0, description="Requests sent to the gateway.")
    seconds: float = Field(ge=0, description="How long it took.")


class SubscriptionMissingError(CalendlyError):
    """The old subscription is deleted and the new one could not be made: nothing is delivered now."""

    hint = (
        "Remove the cause and run this flow again, or let its schedule do so: it then simply creates the "
        "subscription. Afterwards read what happened meanwhile from the API; Calendly does not deliver it later."
    )


# What decides


@dataclass(frozen=True, slots=True)
class Plan:
    """What to do about the subscriptions of one URL: keep one or make one, and which to delete."""

    outcome: Change
    keep: WebhookSubscription | None
    delete: tuple[WebhookSubscription, ...]
    why: str


def plan(
    found: Iterable[WebhookSubscription],
    spec: SubscriptionSpec,
    user: str,
    organization: str,
    ring: KeyRing | None = None,
) -> Plan:
    """Decide what to do.

    Args:
        found: Subscriptions that exist, of any URL.
        spec: The subscription that there should be.
        user: URI of the current user.
        organization: URI of the user's organization.
        ring: The signing keys; None without.

    Returns:
        The plan; its `delete` ends with those that deliver.
    """
    # Oldest first: runs that plan at the same time keep the same one.
    same_url = sorted(
        (hook for hook in found if hook.callback_url == spec.callback_url), key=lambda hook: (hook.created_at, hook.uri)
    )
    faults = {hook.uri: _differences(hook, spec, user, organization, ring) for hook in same_url}
    fitting = [hook for hook in same_url if not faults[hook.uri]]
    # A state that Calendly may add is left alone: only `disabled` is known to be the end.
    alive = sorted((hook for hook in fitting if hook.state != "disabled"), key=lambda hook: hook.state != "active")
    keep = alive[0] if alive else None
    delete = tuple(sorted((hook for hook in same_url if hook is not keep), key=lambda hook: hook.state != "disabled"))
    if keep is not None:
        extra = f", and {len(delete)} more of the same URL to delete" if delete else ""
        return Plan("unchanged", keep, delete, f"it is as it should be{extra}")
    if not same_url:
        return Plan("created", None, (), "there is none of this URL")
    if fitting:
        return Plan("revived", None, delete, "Calendly disabled it, because deliveries had failed for 24 hours")
    return Plan("replaced", None, delete, "; ".join(dict.fromkeys(faults[hook.uri] for hook in same_url)))


def _differences(
    hook: WebhookSubscription, spec: SubscriptionSpec, user: str, organization: str, ring: KeyRing | None
) -> str:
    """Say in which way a subscription is not as it should be; an empty text if it is."""
    differences = []
    if hook.scope != spec.scope:
        differences.append(f"its scope is {hook.scope}, not {spec.scope}")
    elif hook.organization != organization:
        differences.append("it belongs to another organization")
    elif (spec.scope == "user" and hook.user != user) or (spec.scope == "group" and hook.group != spec.group):
        differences.append(f"it belongs to another {spec.scope}")
    if missing := [name for name in spec.events if name not in hook.events]:
        differences.append(f"it lacks {', '.join(missing)}")
    if unwanted := [name for name in hook.events if name not in spec.events]:
        differences.append(f"it has {', '.join(unwanted)} too")
    if ring is not None and not ring.fits(_uuid(hook)):
        differences.append("it was not made with the signing key that is in use")
    return ", ".join(differences)


# Tasks


@client_task("Find the subscriptions of a URL")
async def find_subscriptions(client: CalendlyClient, spec: SubscriptionSpec, user: User) -> list[WebhookSubscription]:
    """Return the subscriptions of a URL, of every scope that may be listed: a URL is taken whatever its scope."""
    found: list[WebhookSubscription] = []
    scopes: list[WebhookScope] = ["organization", "user"]
    for scope in [*scopes, "group"] if spec.scope == "group" else scopes:
        listing = list_webhook_subscriptions_via(
            client,
            organization=user.current_organization,
            scope=scope,
            user=user if scope == "user" else None,
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
    client: CalendlyClient, spec: SubscriptionSpec, user: User, signing_key: SecretStr | None
) -> WebhookSubscription | None:
    """Return the new subscription; None if the URL is subscribed already (409)."""
    try:
        return await create_webhook_subscription_via(
            client,
            url=spec.callback_url,
            events=spec.events,
            organization=user.current_organization,
            scope=spec.scope,
            user=user if spec.scope == "user" else None,
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


# The flow


@dataclass
class _Run:
    """What one run has come to so far: its artifact tells it, whether the run ends well or not."""

    spec: SubscriptionSpec
    meter: RequestMeter
    plan: Plan | None = None  # the one under which the run began to change something, or the last
    subscription: WebhookSubscription | None = None
    deleted: list[str] = field(default_factory=list)
    doubtful: list[str] = field(default_factory=list)  # deleted perhaps: the answer was lost
    unsure: bool = False  # whether the answer to any write was lost
    ring: KeyRing | None = None
    key_change: signing_keys.Change | None = None
    proven: bool = False  # whether the receiver has answered
    memory: Memory | None = None
    gap_since: datetime | None = None
    filled: tuple[datetime, BackfillReport] | None = None
    last_delivery: datetime | None = None

    @property
    def variable(self) -> str:
        return state_name("webhook", self.spec.callback_url, self.spec.scope)

    def follow(self, new: Plan, found: Iterable[WebhookSubscription]) -> Plan:
        """Take up a new plan; what the run began to change before keeps its name and reason."""
        there = {_uuid(hook) for hook in found}
        self.deleted += [uuid for uuid in self.doubtful if uuid not in there]
        self.doubtful.clear()
        if not (self.deleted or self.subscription or self.unsure):
            self.plan = new
        return new


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
    no cost whether plan, role and authorization suffice. Afterwards Prefect is told of the bookings of the time in
    which nothing was delivered. Run it on a schedule: what a killed run has left is put right by the next one.

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
        GapNotFilledError: The subscription is as it should be, but Prefect could not be told of all that was not
            delivered before; the next run tries again.
        ValueError: The Secret block of the signing key or the notification block cannot be used, or there is a key to
            rotate and no block; nothing was asked or changed.
        CalendlyError: It could not be done; see `prefect_calendly.client.errors`.
    """
    began = time.monotonic()
    await check_notifier(subscription.notify)
    scope = subscription.gap_scope
    with count_requests() as meter:
        run = _Run(subscription, meter)

        def report(outcome: Change | Literal["failed"], why: str) -> SubscriptionReport:
            return SubscriptionReport(
                outcome=outcome,
                subscription=_uuid(run.subscription) if run.subscription else None,
                deleted=tuple(run.deleted),
                why=why,
                signing_key=run.key_change,
                gap_since=run.gap_since,
                gap_found=run.filled[1].found if run.filled else None,
                gap_told=run.filled[1].emitted if run.filled else None,
                dry_run=dry_run,
                requests=meter.requests,
                seconds=round(time.monotonic() - began, 2),
            )

        try:
            run.memory = None if scope is None else await webhook_gap.recall(run.variable)
            block = subscription.signing_key_block
            if block is not None:
                await signing_keys.load(block)  # of no use? Before anything is asked.
            elif rotate_key_now:
                raise ValueError("rotate_key_now needs signing_key_block: name the Secret block of the key")
            user = await aget_current_user(credentials)
            if block is not None:
                days = subscription.rotate_key_after_days
                run.ring, run.key_change = await signing_keys.prepared(
                    block, days, at_once=rotate_key_now, dry_run=dry_run
                )
            if dry_run:
                await _foresee(run, credentials, user)
            else:
                await _ensure(run, credentials, user)
                await _settle(run, credentials)
            assert run.plan is not None  # noqa: S101  (otherwise there was an error)
        except Exception as error:
            told = isinstance(error, CalendlyError | ValueError)
            await _tell(run, report("failed", str(error) if told else f"{type(error).__name__}; see the run's log"))
            raise
        done = report(run.plan.outcome, run.plan.why)
        await _tell(run, done)
        return done


async def _foresee(run: _Run, credentials: CalendlyCredentials, user: User) -> None:
    """Say what would be done."""
    found = await find_subscriptions(credentials, run.spec, user)
    todo = run.follow(plan(found, run.spec, user.uri, user.current_organization, run.ring), found)
    run.subscription = todo.keep
    run.deleted = [_uuid(hook) for hook in todo.delete]


async def _ensure(run: _Run, credentials: CalendlyCredentials, user: User) -> None:
    """Look, plan and act, until the world is as it should be or has failed to be so too often."""
    spec = run.spec
    try:
        for pause in (*_PAUSES_SECONDS, None):
            try:
                if await _attempt(run, credentials, user):
                    return
                problem: CalendlyError = ConflictError(
                    f"{spec.shown_url} is subscribed already, but in no scope that can be listed here",
                    hint="Delete that subscription as its owner (another user, a group), or use another URL.",
                )
            except _PASSING as error:
                problem = error
                run.unsure |= isinstance(error, UnconfirmedWriteError)
            if pause is None:
                raise problem
            run_logger().warning("Not yet: %s Looking again in %g s.", problem, pause)
            await asyncio.sleep(pause)
    except CalendlyError as error:
        if (run.deleted or run.doubtful) and run.subscription is None:
            run.deleted += run.doubtful
            cause = str(error).rstrip(".")
            raise SubscriptionMissingError(
                f"NOTHING IS DELIVERED to {spec.shown_url}: its webhook subscription {', '.join(run.deleted)} is "
                f"deleted, and the new one for {', '.join(spec.events)} (scope {spec.scope}) could not be made: {cause}"
            ) from error
        raise


async def _attempt(run: _Run, credentials: CalendlyCredentials, user: User) -> WebhookSubscription | None:
    """Look, plan and act once; None if the URL is taken all the same, because somebody else acts as well."""
    spec = run.spec
    found = await find_subscriptions(credentials, spec, user)
    todo = run.follow(plan(found, spec, user.uri, user.current_organization, run.ring), found)
    run_logger().info("%s: %s; %d to delete.", spec.shown_url, todo.why, len(todo.delete))
    if todo.keep is None:
        await _before_subscribing(run, found)
    # As if nothing were there: where something is, the answer is 409 and the old one goes next; where plan, role or
    # authorization do not suffice, that shows while the old one still delivers.
    run.subscription = todo.keep or await _subscribed(run, credentials, user)
    if todo.delete:
        outcomes = await delete_subscriptions(credentials, [_uuid(hook) for hook in todo.delete])
        run.deleted += [outcome.item for outcome in outcomes if outcome.value]
        if error := outcomes[-1].error:
            if isinstance(error, UnconfirmedWriteError):
                run.doubtful.append(outcomes[-1].item)
            raise error
        run.subscription = run.subscription or await _subscribed(run, credentials, user)
    return run.subscription


async def _before_subscribing(run: _Run, found: Sequence[WebhookSubscription]) -> None:
    """Prove what is to be proven, and note from when on deliveries are missing: whoever is killed next has told it."""
    if run.spec.check_receiver and not run.proven and run.ring is not None:
        await prove(run.spec.callback_url, run.spec.shown_url, run.ring.newest)
        run.proven = True
    if run.spec.gap_scope is not None:
        run.memory = webhook_gap.before_change(run.memory, found, datetime.now(UTC))
        await save_state(run.variable, run.memory)


async def _subscribed(run: _Run, credentials: CalendlyCredentials, user: User) -> WebhookSubscription | None:
    """Subscribe, and note with which key. A run that is killed in between leaves one that the next run replaces."""
    made = await subscribe(credentials, run.spec, user, run.ring.newest if run.ring else None)
    if made is not None and run.ring is not None and run.ring.ours:
        run.ring = run.ring.used_by(_uuid(made), datetime.now(UTC))
        await signing_keys.save(str(run.spec.signing_key_block), run.ring)
    return made


async def _settle(run: _Run, credentials: CalendlyCredentials) -> None:
    """Drop keys that are no longer needed, and tell Prefect of what was not delivered."""
    now, spec = datetime.now(UTC), run.spec
    assert run.subscription is not None  # noqa: S101  (otherwise there was an error)
    if run.ring is not None and (pruned := run.ring.pruned(now)) is not run.ring:
        run.ring = pruned
        await signing_keys.save(str(spec.signing_key_block), pruned)
    if spec.gap_scope is None:
        return
    run.memory = webhook_gap.after_change(run.memory, run.subscription, now)
    await save_state(run.variable, run.memory)
    run.gap_since = run.memory.gap_since
    if run.gap_since is not None:
        run.filled = await webhook_gap.fill(credentials, spec.gap_scope, run.gap_since)
        await save_state(run.variable, run.memory.model_copy(update={"gap_since": None}))


# What is told about it


async def _tell(run: _Run, report: SubscriptionReport) -> None:
    """Leave the artifact, and send a message if there is something to tell."""
    headline = _headline(report, run.spec)
    with contextlib.suppress(httpx.HTTPError):
        async with get_client() as client:
            run.last_delivery = await last_delivery(client)
    logger = run_logger()
    logger.log(ERROR if report.outcome == "failed" else INFO, "%s", headline)
    await acreate_markdown_artifact(
        _markdown(run, report, headline), key=ARTIFACT_KEY, description=f"Webhook subscription of {run.spec.host}"
    )
    changed = not report.dry_run and (report.outcome != "unchanged" or report.deleted or report.gap_told)
    if changed or report.outcome == "failed":
        await notify(run.spec.notify, f"Calendly webhook subscription {report.outcome}", headline)


def _headline(report: SubscriptionReport, spec: SubscriptionSpec) -> str:
    what = f"the webhook subscription of {spec.shown_url}, scope {spec.scope}"
    why = report.why.rstrip(".")
    if report.outcome == "failed":
        return f"{'Dry run failed' if report.dry_run else 'Failed'}: {what}. {why}."
    done = f"Dry run, nothing was changed. Would be {report.outcome}" if report.dry_run else report.outcome.capitalize()
    told = ""
    if report.gap_since is not None and report.gap_told is not None:
        told = f" Since {_time(report.gap_since)} {pluralize(report.gap_told, 'happening')} had not been delivered."
    return f"{done}: {what}. {why[:1].upper()}{why[1:]}.{told}"


def _markdown(run: _Run, report: SubscriptionReport, headline: str) -> str:
    spec, hook, now = run.spec, run.subscription, datetime.now(UTC)
    rows = [("Delivers to", spec.shown_url), ("Events", ", ".join(spec.events)), ("Scope", spec.scope)]
    if hook is not None:
        made = f"{_time(hook.created_at)} ({_age(hook.created_at, now)})"
        rows += [("Subscription", _uuid(hook)), ("State", hook.state), ("Made", made)]
        if hook.retry_started_at is not None:
            failing = f"{_time(hook.retry_started_at)}; Calendly disables it after 24 hours"
            rows.append(("Deliveries fail since", failing))
    if run.ring is not None:
        rows.append(("Signing key", _about_keys(run, report, now)))
    if run.proven:
        rows.append(("Receiver", "answers to a signed ping, as seen from here"))
    last = "none that Prefect remembers" if run.last_delivery is None else _time(run.last_delivery)
    rows += [("Last delivery, of any subscription", last), ("Missed deliveries", _about_gap(run))]
    deleted = ", ".join(report.deleted) or "none"
    rows += [
        ("To be deleted" if report.dry_run else "Deleted", deleted),
        ("Cost", "; ".join(cost(run.meter, report.seconds))),
    ]
    page = f"# Webhook subscription: {report.outcome}\n\n{escape_cell(headline)}\n\n{markdown_table(('', ''), rows)}\n"
    return soft_wrap(page, 30)


def _about_keys(run: _Run, report: SubscriptionReport, now: datetime) -> str:
    assert run.ring is not None  # noqa: S101
    made = run.ring.made_at
    words = "of unknown age" if made is None else f"made {_time(made)} ({_age(made, now)})"
    if report.signing_key is not None:
        words += (
            ", would be made" if report.dry_run else f", {'a new one' if report.signing_key == 'made' else 'replaced'}"
        )
    old = len(run.ring.keys) - 1
    return f"{words}; {pluralize(old, 'old one')} accepted too" if old else words


def _about_gap(run: _Run) -> str:
    if run.spec.gap_scope is None:
        return "not looked for"
    if run.gap_since is None:
        return "none known"
    if run.filled is None:
        return f"since {_time(run.gap_since)}; not told yet"
    since, found = run.filled
    cut = "; older ones cannot be told" if since > run.gap_since else ""
    return f"since {_time(since)}: {pluralize(found.found, 'happening')}, {found.emitted} told to Prefect now{cut}"


def _time(moment: datetime) -> str:
    return f"{moment.astimezone(UTC):%Y-%m-%d %H:%M} UTC"


def _age(since: datetime, now: datetime) -> str:
    days = max(0, (now - since).days)
    return "today" if days == 0 else f"{days} day{'s' * (days != 1)} ago"


def _uuid(hook: WebhookSubscription) -> str:
    return hook.uri.rpartition("/")[2]
