"""Whether credentials work, whose they are, and which of the ready flows they can run."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Collection
from dataclasses import dataclass
from typing import Any, Final

from pydantic import BaseModel, Field

from prefect_calendly.client import CalendlyClient, RequestMeter, count_requests
from prefect_calendly.client.errors import CalendlyError, PlanRequiredError, RoleRequiredError
from prefect_calendly.client.identifiers import uuid_of
from prefect_calendly.connections import connection_in_use
from prefect_calendly.credentials import CalendlyCredentials
from prefect_calendly.saved_credentials import BlockUnusableError, aload_credentials
from prefect_calendly.tasks import run_sync
from prefect_calendly.users import User, get_current_user_via


class CredentialsCheck(BaseModel):
    """Whether credentials work, and whose they are."""

    ok: bool = Field(description="Whether calls with these credentials work.")
    connection_id: str | None = Field(None, description="The gateway connection in use, as far as known.")
    user_uri: str | None = Field(None, description="URI of the Calendly user behind it.")
    user_name: str | None = Field(None, description="Name of that user.")
    organization_uri: str | None = Field(None, description="URI of that user's organization.")
    problem: str | None = Field(None, description="What is wrong; with `ok`, why the connection is not known.")
    hint: str | None = Field(None, description="What to do about it.")


class FlowCheck(BaseModel):
    """Whether credentials can run one of the ready flows."""

    flow: str = Field(description="Name of the flow's file and function.")
    user_scope: bool | None = Field(description="Whether it can run for this user alone; None: not known.")
    organization_scope: bool | None = Field(description="Whether it can run for the organization; None: not known.")
    lacks: list[str] = Field(description="What is missing, each with what to do; empty if nothing is.")


class AccountCheck(CredentialsCheck):
    """What credentials can do: `CredentialsCheck`, the account's role and plan, and the flows."""

    role: str | None = Field(None, description="Role in the organization: owner, admin or user; None: not known.")
    organization_name: str | None = Field(None, description="Name of the organization.")
    plan: str | None = Field(None, description="Calendly plan, such as basic, teams or enterprise; None: not known.")
    stage: str | None = Field(None, description="Whether that plan is a trial, free or paid.")
    webhooks: bool | None = Field(None, description="Whether the plan includes webhooks; None: not known.")
    flows: list[FlowCheck] = Field(default_factory=list, description="The flows, in alphabetical order.")
    request_limit: int | None = Field(None, description="Requests a minute that Calendly allows this user.")
    requests_left: int | None = Field(None, description="How many of them were left after this check.")
    gateway_url: str | None = Field(None, description="Base URL of the gateway.")

    @property
    def complete(self) -> bool:
        """Whether the credentials work, and no flow lacks anything."""
        return self.ok and not any(flow.lacks for flow in self.flows)


class CredentialsUnusableError(Exception):
    """Calls with credentials do not work; the message says why, and what to do."""

    def __init__(self, check: CredentialsCheck) -> None:
        said = [each.rstrip(".") + "." for each in (check.problem, check.hint) if each]
        super().__init__(" ".join(dict.fromkeys(said)))


async def acheck_credentials(credentials: CalendlyCredentials) -> CredentialsCheck:
    """Say whether credentials work, whose they are, and what is wrong if they do not.

    Changes nothing, and does not raise for what Calendly or the gateway answers.

    Source: `GET /users/me` and, on the gateway, `GET /connections`.

    Args:
        credentials: The credentials to check.

    Returns:
        One answer with everything found out.

    Example:
        ```python
        check = await acheck_credentials(credentials)
        if not check.ok:
            print(check.problem, check.hint)
        ```
    """
    async with credentials.get_client() as client:
        check, _ = await _identify(client, credentials.connection_id)
    return check


def check_credentials(credentials: CalendlyCredentials) -> CredentialsCheck:
    """Say whether credentials work: `acheck_credentials` for code that is not async.

    Args:
        credentials: The credentials to check.

    Returns:
        One answer with everything found out.

    Raises:
        RuntimeError: Called where an event loop is running; use `await acheck_credentials(credentials)` there.

    Example:
        ```python
        print(check_credentials(CalendlyCredentials.load("BLOCK_NAME")).problem)
        ```
    """
    return run_sync(lambda: acheck_credentials(credentials), "check_credentials", "acheck_credentials")


async def acheck_account(credentials: CalendlyCredentials, flows: Collection[str] | None = None) -> AccountCheck:
    """Say what credentials can do: user, role, plan, and which of the ready flows they can run.

    Reads one item of each listing that the flows read, about ten requests in all. It changes nothing, and does not
    raise for what Calendly or the gateway answers. Permissions to write show only when something is written: a
    connection that may read events but not cancel them passes this check.

    Args:
        credentials: The credentials to check.
        flows: Names of the flows to check; all by default.

    Returns:
        One answer with everything found out. If the credentials do not work, no flow is listed.

    Raises:
        ValueError: There is no flow of such a name.

    Example:
        ```python
        account = await acheck_account(credentials)
        for flow in account.flows:
            print(flow.flow, flow.organization_scope, flow.lacks)
        ```
    """
    if unknown := sorted(set(flows or ()) - set(FLOWS)):
        raise ValueError(f"no flow {', '.join(unknown)}: there are {', '.join(FLOWS)}")
    chosen = [name for name in FLOWS if flows is None or name in flows]
    with count_requests() as meter:
        async with credentials.get_client() as client:
            check, user = await _identify(client, credentials.connection_id)
            account = AccountCheck(**check.model_dump(), gateway_url=client.gateway_url)
            if user is not None:
                await _look_around(client, user, account, chosen)
    return account.model_copy(update=_limit_of(meter))


def check_account(credentials: CalendlyCredentials, flows: Collection[str] | None = None) -> AccountCheck:
    """Say what credentials can do: `acheck_account` for code that is not async.

    Args:
        credentials: The credentials to check.
        flows: Names of the flows to check; all by default.

    Returns:
        One answer with everything found out.

    Raises:
        ValueError: There is no flow of such a name.
        RuntimeError: Called where an event loop is running; use `await acheck_account(credentials)` there.

    Example:
        ```python
        print(check_account(CalendlyCredentials.load("BLOCK_NAME")).role)
        ```
    """
    return run_sync(lambda: acheck_account(credentials, flows), "check_account", "acheck_account")


async def acheck_block(name: str, flows: Collection[str] | None = None) -> AccountCheck:
    """Say what the credentials of a saved block can do, or why it cannot be used: `acheck_account` for a block.

    Args:
        name: Name of the Calendly Credentials block.
        flows: Names of the flows to check; all by default.

    Returns:
        One answer with everything found out. If the block cannot be used, `ok` is false and `problem` says why.

    Raises:
        ValueError: There is no flow of such a name.

    Example:
        ```python
        check = await acheck_block("main")
        print(check.problem or "works")
        ```
    """
    try:
        credentials = await aload_credentials(name)
    except BlockUnusableError as error:
        return AccountCheck(ok=False, problem=error.problem, hint=error.hint)
    return await acheck_account(credentials, flows)


# Who it is


async def _identify(client: CalendlyClient, connection_id: str | None) -> tuple[CredentialsCheck, User | None]:
    found: dict[str, str | None] = {"connection_id": None if client.direct else connection_id}
    try:
        if not client.direct and (connection := await connection_in_use(client, connection_id)):
            found["connection_id"] = connection.connection_id
    except CalendlyError as error:  # calls may work all the same: another host answers them
        found |= {"problem": error.reason, "hint": error.hint or None}
    try:
        user = await get_current_user_via(client)
    except CalendlyError as error:
        return CredentialsCheck(ok=False, **{**found, "problem": str(error), "hint": error.hint or None}), None
    found |= {"user_uri": user.uri, "user_name": user.name, "organization_uri": user.current_organization}
    return CredentialsCheck(ok=True, **found), user


# What the flows read


@dataclass(frozen=True, slots=True)
class _Probe:
    """One item of a listing that flows read; `{user}` and `{organization}` stand for the account's URIs."""

    what: str
    path: str
    params: tuple[tuple[str, str], ...]

    async def error(self, client: CalendlyClient, user: User) -> CalendlyError | None:
        """Read the item; return what kept us from it."""
        uris = {"user": user.uri, "organization": user.current_organization}
        try:
            await client.request("GET", self.path, params={name: text.format(**uris) for name, text in self.params})
        except CalendlyError as error:
            return error
        return None


_ONE: Final = ("count", "1")
_OF_USER: Final = ("user", "{user}")
_OF_ORGANIZATION: Final = ("organization", "{organization}")

_EVENTS: Final = _Probe("read your scheduled events", "/scheduled_events", (_OF_USER, _ONE))
_ALL_EVENTS: Final = _Probe("read the organization's scheduled events", "/scheduled_events", (_OF_ORGANIZATION, _ONE))
_MEMBERS: Final = _Probe("list the organization's members", "/organization_memberships", (_OF_ORGANIZATION, _ONE))
_EVENT_TYPES: Final = _Probe("read your event types", "/event_types", (_OF_USER, _ONE))
_AVAILABILITY: Final = _Probe("read your availability", "/user_availability_schedules", (_OF_USER,))
_WEBHOOKS: Final = _Probe(
    "list your webhook subscriptions",
    "/webhook_subscriptions",
    (_OF_ORGANIZATION, ("scope", "user"), _OF_USER, _ONE),
)
_ALL_WEBHOOKS: Final = _Probe(
    "list the organization's webhook subscriptions",
    "/webhook_subscriptions",
    (_OF_ORGANIZATION, ("scope", "organization"), _ONE),
)


@dataclass(frozen=True, slots=True)
class _Needs:
    """What a flow reads for this user, and what besides for the organization."""

    user: tuple[_Probe, ...]
    organization: tuple[_Probe, ...]
    webhooks: bool = False


FLOWS: Final = {
    "availability_digest": _Needs((_EVENT_TYPES, _AVAILABILITY), (_MEMBERS,)),
    "cancel_blocked_domains": _Needs((_EVENTS,), (_ALL_EVENTS, _MEMBERS)),
    "ensure_webhook_subscription": _Needs((_WEBHOOKS, _EVENTS), (_ALL_WEBHOOKS, _ALL_EVENTS), webhooks=True),
    "poll_bookings": _Needs((_EVENTS,), (_ALL_EVENTS,)),
    "reconcile_bookings": _Needs((_EVENTS,), (_ALL_EVENTS,)),
    "screen_booking": _Needs((_EVENTS,), (_ALL_EVENTS, _MEMBERS)),
}
"""What each flow that takes credentials needs of Calendly."""


async def _look_around(client: CalendlyClient, user: User, account: AccountCheck, flows: Collection[str]) -> None:
    """Read role and plan, and one item of each listing that these flows need, all at the same time."""
    needs = [FLOWS[name] for name in flows]
    probes = list(dict.fromkeys(probe for need in needs for probe in (*need.user, *need.organization)))
    if _WEBHOOKS not in probes:
        probes.append(_WEBHOOKS)  # for `webhooks`
    _, _, *errors = await asyncio.gather(
        _read_role(client, user, account),
        _read_plan(client, user, account),
        *(probe.error(client, user) for probe in probes),
    )
    failed = {probe: error for probe, error in zip(probes, errors, strict=True) if error is not None}
    account.webhooks = _webhooks_included(account, failed.get(_WEBHOOKS))
    account.flows = [_flow_check(name, FLOWS[name], failed, account) for name in flows]


async def _read_role(client: CalendlyClient, user: User, account: AccountCheck) -> None:
    """Note the role; it stays unknown where the answer does not tell, for it decides nothing."""
    with contextlib.suppress(CalendlyError):
        body = await client.request("GET", "/organization_memberships", params={"user": user.uri, "count": 1})
        account.role = _text(body, "collection", 0, "role")


async def _read_plan(client: CalendlyClient, user: User, account: AccountCheck) -> None:
    with contextlib.suppress(CalendlyError, ValueError):
        uuid = uuid_of(user.current_organization, "organizations", "organization")
        body = await client.request("GET", f"/organizations/{uuid}")
        account.organization_name = _text(body, "resource", "name")
        account.plan = _text(body, "resource", "plan")
        account.stage = _text(body, "resource", "stage")


def _text(body: Any, *path: str | int) -> str | None:
    """Return the text at a place in an answer; None if there is none."""
    for step in path:
        try:
            body = body[step]
        except (LookupError, TypeError):
            return None
    return body if isinstance(body, str) else None


def _webhooks_included(account: AccountCheck, error: CalendlyError | None) -> bool | None:
    """Say whether the plan includes webhooks.

    On the free plan only subscribing tells: Calendly opened webhooks to it in November 2026, but not for all accounts.
    """
    if error is not None:
        return False if isinstance(error, PlanRequiredError) else None
    return None if account.plan in (None, "basic") else True


def _flow_check(name: str, needs: _Needs, failed: dict[_Probe, CalendlyError], account: AccountCheck) -> FlowCheck:
    for_user = [_lack(probe, failed[probe], account) for probe in needs.user if probe in failed]
    for_organization = [_lack(probe, failed[probe], account) for probe in needs.organization if probe in failed]
    check = FlowCheck(
        flow=name,
        user_scope=not for_user,
        organization_scope=not for_user and not for_organization,
        lacks=for_user + for_organization,
    )
    if needs.webhooks and not for_user and account.webhooks is None:
        check.user_scope, check.organization_scope = None, None if not for_organization else False
        check.lacks.append(
            "may not be able to subscribe to webhooks: "
            + ("Calendly refuses some accounts on its free plan" if account.plan else "the plan could not be read")
            + ". Run the flow to see, or use poll_bookings instead."
        )
    return check


def _lack(probe: _Probe, error: CalendlyError, account: AccountCheck) -> str:
    if isinstance(error, RoleRequiredError) and account.role:
        return f"cannot {probe.what}: that takes an owner or admin, and this user's role is {account.role}"
    return f"cannot {probe.what}: {error}"


def _limit_of(meter: RequestMeter) -> dict[str, int | None]:
    return {"request_limit": meter.limit, "requests_left": meter.least_left}
