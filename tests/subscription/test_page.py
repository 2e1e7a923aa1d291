"""The artifact and the messages: what was done and why, and nothing secret."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from typing import Any
from uuid import uuid4

import pytest

from prefect_calendly.client.errors import PlanRequiredError
from prefect_calendly.events.emit import emit_events
from prefect_calendly.events.event import CalendlyEvent
from prefect_calendly.runs.notifications import FAILED_KEY
from prefect_calendly.sandbox import Sandbox
from prefect_calendly.subscription import apply
from prefect_calendly.subscription.publish import ARTIFACT_KEY
from tests.notifiers import RECORDER, Receiver
from tests.subscription.conftest import Subscriber, uuid
from tests.subscription.examples import HIDDEN, HOOKS

Messages = list[tuple[str | None, str]]


async def test_the_artifact_says_what_was_done_why_and_at_what_cost(account: Subscriber) -> None:
    old = await account.subscribe(events=["invitee.created"])
    report = await account.ensure()
    assert "Webhook subscription: replaced" in account.page
    for part in (old, report.subscription, "active", "organization", "It lacked invitee.canceled."):
        assert str(part) in account.page
    assert f"{report.requests} requests" in account.page
    assert HIDDEN not in account.page


async def test_failing_deliveries_are_shown(account: Subscriber) -> None:
    old = await account.subscribe()
    account.sandbox.set_webhook(old, retry_started_at="2026-11-20T10:00:00Z")
    assert (await account.ensure()).outcome == "unchanged"
    assert "2026-11-20 10:00 UTC; Calendly disables it after 24 hours" in account.page


async def test_the_last_delivery_is_shown(account: Subscriber) -> None:
    await account.ensure()
    assert "| Last delivery, of any subscription | none that Prefect remembers |" in account.page
    resource = {"prefect.resource.id": "calendly.invitee.I", "calendly.source": "webhook"}
    await emit_events([CalendlyEvent(uuid4(), "calendly.invitee.created", datetime.now(UTC), resource)])
    await account.ensure()
    (stored,) = account.inline.events.stored.values()
    assert f"| Last delivery, of any subscription | {stored['received'][:16].replace('T', ' ')} UTC |" in account.page


async def test_the_page_makes_no_link_of_a_url_and_no_word_wider_than_a_phone(account: Subscriber) -> None:
    host = ".".join(["a" * 60] * 4)
    await account.ensure(callback_url=f"https://{host}/x")
    text = str(account.inline.artifact(ARTIFACT_KEY))
    assert "://" not in text
    assert max(map(len, re.split(r"[\s\u200b]", text))) <= 33
    assert f"https://{host}/…" in account.page


# Messages


async def test_a_message_is_sent_for_changes_and_failures_only(
    sandbox: Sandbox, account: Subscriber, recorder: Messages
) -> None:
    await account.ensure(notify=RECORDER, dry_run=True)
    await account.ensure(notify=RECORDER)
    await account.ensure(notify=RECORDER)
    await account.ensure(notify=RECORDER, scope="user")
    sandbox.set_webhook(uuid(account.hooks()[0]), state="disabled")
    await account.ensure(notify=RECORDER, scope="user")
    sandbox.fault("plan", method="POST", route=HOOKS)
    with pytest.raises(PlanRequiredError):
        await account.ensure(notify=RECORDER)
    outcomes = ("created", "replaced", "revived", "failed")
    assert [subject for subject, _ in recorder] == [f"Calendly webhook subscription {each}" for each in outcomes]
    assert all(HIDDEN not in body for _, body in recorder)


async def test_a_dry_run_that_fails_sends_a_message_too(
    sandbox: Sandbox, account: Subscriber, recorder: Messages
) -> None:
    sandbox.fault("plan", method="GET", route=HOOKS, times=None)
    with pytest.raises(PlanRequiredError):
        await account.ensure(notify=RECORDER, dry_run=True)
    ((subject, message),) = recorder
    assert subject == "Calendly webhook subscription failed"
    assert message.startswith("Dry run failed: ")


async def test_revived_and_failed_reach_a_webhook_in_one_short_message_each(
    sandbox: Sandbox, account: Subscriber, receiver: Receiver
) -> None:
    old = await account.subscribe()
    sandbox.set_webhook(old, state="disabled")
    await account.ensure(notify=receiver.block)
    sandbox.fault("plan", method="POST", route=HOOKS)
    with pytest.raises(PlanRequiredError):
        await account.ensure(notify=receiver.block, scope="user")
    revived, failed = receiver.messages
    assert revived["subject"] == "Calendly webhook subscription revived"
    body = revived["body"].replace("\u200b", "")
    assert body.startswith("Revived: the webhook subscription of https://hooks.example.com/… (sha256 ")
    assert "Calendly disabled it, because deliveries had failed for 24 hours." in revived["body"]
    assert failed["subject"] == "Calendly webhook subscription failed"
    assert "Upgrade the Calendly plan" in failed["body"]
    for message in (revived, failed):
        assert len(message["body"]) < 500
        assert HIDDEN not in message["body"]


@pytest.mark.parametrize(("status", "error"), [(500, "HTTPStatusError"), (None, "ConnectError")])
async def test_a_message_that_cannot_be_sent_fails_nothing_and_can_be_seen(
    account: Subscriber, receiver: Receiver, run_logs: list[str], status: int | None, error: str
) -> None:
    if status is None:
        receiver.stop()
    else:
        receiver.status = status
    report = await account.ensure(notify=receiver.block)
    assert (report.outcome, len(account.hooks())) == ("created", 1)
    logged = "\n".join(run_logs)
    assert f"The notification through custom-webhook/ops failed ({error})." in logged
    shown = str(account.inline.artifact(FAILED_KEY)).replace("\u200b", "")
    assert f"({error})" in shown
    assert "Calendly webhook subscription created" in shown
    for secret in (receiver.url, receiver.secret, HIDDEN):
        assert secret not in shown + logged


async def test_a_notifier_that_is_not_there_is_named_before_any_request(sandbox: Sandbox, account: Subscriber) -> None:
    with pytest.raises(ValueError, match="notify: there is no saved block 'slack-webhook/nowhere'"):
        await account.ensure(notify="slack-webhook/nowhere")
    assert sandbox.stats()["requests"] == 0


async def test_of_an_unforeseen_error_only_the_type_is_shown(
    account: Subscriber, recorder: Messages, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def broken(*_: Any) -> None:
        raise LookupError(f"nothing at {HIDDEN}")

    monkeypatch.setattr(apply, "find_subscriptions", broken)
    with pytest.raises(LookupError):
        await account.ensure(notify=RECORDER)
    ((subject, message),) = recorder
    assert subject == "Calendly webhook subscription failed"
    for text in (message, account.page):
        assert "LookupError; see the run's log." in text
        assert HIDDEN not in text
