"""Since when deliveries are missing, as far as runs have seen."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from prefect_calendly.subscription.gap import DeliveryState, after_change, before_change
from prefect_calendly.webhook_subscriptions import WebhookSubscription
from tests.subscription.examples import hook

NOW = datetime(2026, 6, 1, 12, tzinfo=UTC)


def test_the_very_first_subscription_has_nothing_to_make_up_for() -> None:
    first = before_change(None, [], NOW)
    assert first.gap_since is None
    after = after_change(first, hook(1), NOW)
    assert (after.subscription, after.working_until, after.gap_since) == ("HOOK1", NOW, None)


@pytest.mark.parametrize(
    ("memory", "found", "since"),
    [
        (DeliveryState(working_until=NOW - timedelta(hours=5)), [], NOW - timedelta(hours=5)),
        (DeliveryState(working_until=NOW, gap_since=NOW - timedelta(hours=9)), [], NOW - timedelta(hours=9)),
        (None, [hook(1, retry_started_at=NOW - timedelta(hours=3))], NOW - timedelta(hours=3)),
        (None, [hook(1, state="disabled", updated_at=NOW)], NOW - timedelta(days=1)),
        (None, [hook(1)], NOW),
    ],
)
def test_a_gap_begins_when_deliveries_were_last_known_to_come(
    memory: DeliveryState | None, found: list[WebhookSubscription], since: datetime
) -> None:
    assert before_change(memory, found, NOW).gap_since == since


def test_while_calendly_repeats_deliveries_it_is_not_good_and_one_that_somebody_else_made_leaves_a_gap() -> None:
    memory = DeliveryState(subscription="HOOK1", working_until=NOW - timedelta(hours=1))
    failing = hook(1, retry_started_at=NOW)
    assert after_change(memory, failing, NOW) == memory
    other = after_change(memory, hook(2), NOW)
    assert (other.subscription, other.working_until, other.gap_since) == ("HOOK2", NOW, NOW - timedelta(hours=1))
