"""Subscriptions, accounts and URLs that the tests of this folder share."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

from prefect_calendly.subscription.spec import Account
from prefect_calendly.webhook_subscriptions import WebhookSubscription

API = "https://api.calendly.com"
USER, ORGANIZATION = f"{API}/users/AAAAAAAAAAAAAAAA", f"{API}/organizations/BBBBBBBBBBBBBBBB"
ACCOUNT = Account("https://gateway.maton.ai/calendly", ORGANIZATION, USER)
HIDDEN = "t0ken-of-the-url"
URL = f"https://hooks.example.com/calendly?token={HIDDEN}"
SEEDED_URL = "https://example.com/webhook"
HOOKS = "/webhook_subscriptions"


def hook(number: int = 1, **members: Any) -> WebhookSubscription:
    """A subscription as there should be, but for some members; later numbers are made later."""
    made = datetime(2026, 1, 1, tzinfo=UTC) + timedelta(days=number)
    values: dict[str, Any] = {
        "uri": f"{API}{HOOKS}/HOOK{number}",
        "callback_url": URL,
        "created_at": made,
        "updated_at": made,
        "state": "active",
        "events": ("invitee.created", "invitee.canceled"),
        "scope": "organization",
        "organization": ORGANIZATION,
    }
    return WebhookSubscription.model_validate({**values, **members})
