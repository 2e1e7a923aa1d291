"""Whatever fails, the old subscription stays as long as it can, and nobody believes in one that is not there."""

from __future__ import annotations

import asyncio

import pytest

from prefect_calendly import CalendlyCredentials
from prefect_calendly.client.errors import InsufficientScopeError, PlanRequiredError, ServerError
from prefect_calendly.sandbox import Sandbox
from prefect_calendly.subscription import apply
from prefect_calendly.subscription.apply import SubscriptionMissingError
from tests.notifiers import RECORDER
from tests.subscription.conftest import Subscriber, uuid
from tests.subscription.examples import HIDDEN, HOOKS


@pytest.mark.parametrize("times", [1, 10])
async def test_a_failure_between_delete_and_create_is_overcome(
    sandbox: Sandbox, account: Subscriber, times: int
) -> None:
    old = await account.subscribe(events=["invitee.created"])
    sandbox.fault("server_error", method="POST", route=HOOKS, skip=1, times=times)
    report = await account.ensure()
    assert (report.outcome, report.deleted) == ("replaced", (old,))
    assert account.uuids == [report.subscription]
    assert "it lacked invitee.canceled" in report.reason


@pytest.mark.parametrize("kind", ["server_error", "plan", "drop_before"])
async def test_a_failure_between_delete_and_create_that_stays_is_raised_loudly(
    sandbox: Sandbox,
    account: Subscriber,
    kind: str,
    run_logs: list[str],
    recorder: list[tuple[str | None, str]],
) -> None:
    old = await account.subscribe(events=["invitee.created"])
    sandbox.fault(kind, method="POST", route=HOOKS, skip=1, times=None)
    with pytest.raises(SubscriptionMissingError) as caught:
        await account.ensure(notify=RECORDER)
    assert account.hooks() == []
    ((subject, message),) = recorder
    assert subject == "Calendly webhook subscription failed"
    for text in (str(caught.value), account.page, message, "\n".join(run_logs)):
        plain = text.replace("\u200b", "")
        assert "NOTHING IS DELIVERED to https://hooks.example.com/…" in plain
        assert old in plain
        assert "invitee.created, invitee.canceled (scope organization)" in plain
        assert "run this flow again" in plain
        assert HIDDEN not in plain

    sandbox.clear_faults()
    assert (await account.ensure()).outcome == "created"
    assert len(account.hooks()) == 1


async def test_a_refusal_that_can_be_foreseen_comes_before_anything_is_deleted(
    sandbox: Sandbox, account: Subscriber
) -> None:
    old = await account.subscribe(events=["invitee.created"])
    sandbox.fault("insufficient_scope", method="POST", route=HOOKS, required_scopes=["contacts:read"], times=None)
    with pytest.raises(InsufficientScopeError, match="contacts:read"):
        await account.ensure(events=["contact.created"])
    assert account.uuids == [old]


async def test_a_plan_without_webhooks_is_an_error_that_says_so(sandbox: Sandbox, account: Subscriber) -> None:
    sandbox.reset(plan="free")
    with pytest.raises(PlanRequiredError, match="upgrade your Calendly account"):
        await account.ensure()
    assert "Upgrade the Calendly plan" in account.page


async def test_the_next_run_completes_one_that_was_killed_between_delete_and_create(
    sandbox: Sandbox, account: Subscriber, monkeypatch: pytest.MonkeyPatch
) -> None:
    old = await account.subscribe(events=["invitee.created"])
    sandbox.fault("server_error", method="POST", route=HOOKS, skip=1, times=None)
    monkeypatch.setattr(apply, "PAUSES_SECONDS", (3600, 0))
    running = asyncio.create_task(account.ensure())
    while sandbox.stats()["faults"].get("server_error", 0) < 3:
        assert not running.done()
        await asyncio.sleep(0.02)
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    assert account.hooks() == []

    sandbox.clear_faults()
    report = await account.ensure()
    (made,) = account.hooks()
    assert (report.outcome, report.subscription) == ("created", uuid(made))
    assert uuid(made) != old


async def test_a_lost_answer_after_creating_makes_one(sandbox: Sandbox, account: Subscriber) -> None:
    sandbox.fault("drop_after", method="POST", route=HOOKS)
    report = await account.ensure()
    assert (report.outcome, report.subscription) == ("created", uuid(account.hooks()[0]))
    assert sandbox.stats()["writes"] == {"webhook_subscription": 1}


async def test_a_lost_answer_after_creating_makes_one_even_if_it_cannot_be_looked_up_at_once(
    sandbox: Sandbox, account: Subscriber
) -> None:
    sandbox.fault("drop_after", method="POST", route=HOOKS)
    sandbox.fault("server_error", method="GET", route=HOOKS, skip=2, times=4)
    report = await account.ensure()
    assert (report.outcome, report.subscription) == ("created", uuid(account.hooks()[0]))
    assert sandbox.stats()["writes"] == {"webhook_subscription": 1}


@pytest.mark.parametrize("lookups_that_fail", [0, 4])
async def test_a_lost_answer_after_deleting_deletes_and_makes_one(
    sandbox: Sandbox, account: Subscriber, lookups_that_fail: int
) -> None:
    old = await account.subscribe(events=["invitee.created"])
    sandbox.reset_stats()
    sandbox.fault("drop_after", method="DELETE")
    if lookups_that_fail:
        sandbox.fault("server_error", method="GET", route=f"{HOOKS}/{{uuid}}", times=lookups_that_fail)
    report = await account.ensure()
    assert (report.outcome, report.deleted) == ("replaced", (old,))
    assert account.uuids == [report.subscription]
    assert sandbox.stats()["writes"] == {"webhook_subscription_deleted": 1, "webhook_subscription": 1}


async def test_an_unconfirmed_deletion_is_reported_when_nothing_more_can_be_done(
    sandbox: Sandbox, account: Subscriber, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(apply, "PAUSES_SECONDS", ())
    old = await account.subscribe(events=["invitee.created"])
    sandbox.fault("drop_after", method="DELETE", times=None)
    sandbox.fault("server_error", method="GET", route=f"{HOOKS}/{{uuid}}", times=None)
    with pytest.raises(SubscriptionMissingError, match=f"{old}.*The answer to a write was lost"):
        await account.ensure()


async def test_a_deletion_that_fails_leaves_the_old_one_and_is_raised_as_it_is(
    sandbox: Sandbox, account: Subscriber
) -> None:
    old = await account.subscribe(events=["invitee.created"])
    sandbox.fault("server_error", method="DELETE", times=None)
    with pytest.raises(ServerError):
        await account.ensure()
    assert account.uuids == [old]
    assert "failed" in account.page


@pytest.mark.parametrize("dry_run", [True, False])
async def test_a_placeholder_is_refused_before_any_request(account: Subscriber, dry_run: bool) -> None:
    # Nothing answers there: a request would be another error.
    account.credentials = CalendlyCredentials(api_key="a-key", gateway_url="https://127.0.0.1:9/calendly")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"hooks\.example\.com is a placeholder, and nothing was subscribed"):
        await account.ensure(dry_run=dry_run)
    assert "is a placeholder" in account.page
    assert HIDDEN not in account.page
