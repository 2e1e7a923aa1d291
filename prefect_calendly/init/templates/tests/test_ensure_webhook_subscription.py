"""ensure_webhook_subscription on the sandbox."""

import asyncio

from flows.ensure_webhook_subscription import ensure_webhook_subscription
from prefect_calendly import CalendlyCredentials
from prefect_calendly.sandbox import Sandbox
from prefect_calendly.subscription.spec import SubscriptionSpec

SPEC = SubscriptionSpec(callback_url="https://hooks.example.com/webhooks/calendly", backfill=False)


def test_the_first_run_subscribes_and_the_second_changes_nothing(
    credentials: CalendlyCredentials, calendly_sandbox: Sandbox
) -> None:
    first = asyncio.run(ensure_webhook_subscription(credentials, SPEC))
    second = asyncio.run(ensure_webhook_subscription(credentials, SPEC))
    assert (first.outcome, second.outcome) == ("created", "unchanged")
    hooks = calendly_sandbox.state()["webhook_subscription_list"]
    assert [hook["callback_url"] for hook in hooks].count(SPEC.callback_url) == 1
