"""The flow against the sandbox, without a Prefect server; Secret blocks are kept in memory."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import pytest

from flows.ensure_webhook_subscription import ensure_webhook_subscription
from prefect_calendly import CalendlyCredentials
from prefect_calendly.sandbox import Sandbox
from prefect_calendly.subscription import apply, keys
from prefect_calendly.subscription.keys import KeyRing
from prefect_calendly.subscription.publish import ARTIFACT_KEY
from prefect_calendly.subscription.report import SubscriptionReport
from prefect_calendly.subscription.spec import SubscriptionSpec
from tests.inline import Inline
from tests.subscription.examples import HOOKS, ORGANIZATION, URL


@dataclass
class Subscriber:
    """A Calendly account in the sandbox, and what Prefect keeps for it."""

    sandbox: Sandbox
    credentials: CalendlyCredentials
    inline: Inline
    secrets: dict[str, Any] = field(default_factory=dict)
    """Values of Secret blocks, by name."""
    url: str = URL
    organization: str = ORGANIZATION

    async def ensure(
        self, *, dry_run: bool = False, rotate: bool = False, backfill: bool = False, **members: Any
    ) -> SubscriptionReport:
        """Run the flow."""
        spec = SubscriptionSpec(**{"callback_url": self.url, "backfill": backfill, **members})
        return await ensure_webhook_subscription(self.credentials, spec, dry_run, rotate)

    async def subscribe(self, **members: Any) -> str:
        """Make a subscription without the flow; return its uuid."""
        body = {"url": self.url, "events": ["invitee.created", "invitee.canceled"], "organization": self.organization}
        async with self.credentials.get_client() as client:
            answer = await client.request("POST", HOOKS, json={**body, "scope": "organization", **members})
        return uuid(answer["resource"])

    def hooks(self, url: str | None = None) -> list[dict[str, Any]]:
        """The subscriptions of a URL that exist, of this organization."""
        listed = self.sandbox.state()["webhook_subscription_list"]
        return [
            item
            for item in listed
            if (item["callback_url"], item["organization"]) == (url or self.url, self.organization)
        ]

    @property
    def uuids(self) -> list[str]:
        """uuids of the subscriptions of the URL that exist."""
        return [uuid(item) for item in self.hooks()]

    def key_of(self, subscription: str | None) -> str | None:
        """The signing key that a subscription was made with."""
        assert subscription is not None
        found: str | None = self.sandbox._server._app._state.world.webhooks[subscription].signing_key
        return found

    async def ring(self, block: str = "calendly-key") -> KeyRing:
        """The keys in a Secret block."""
        found = await keys.load_keys(block)
        assert found is not None
        return found

    @property
    def page(self) -> str:
        """What one reads in the artifact: without breaks, which have no width."""
        return str(self.inline.artifact(ARTIFACT_KEY)).replace("\u200b", "")


def uuid(item: dict[str, Any]) -> str:
    """uuid of a subscription as the sandbox shows it."""
    return str(item["uri"]).rpartition("/")[2]


def secret_blocks(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """Keep Secret blocks of signing keys in memory: their values, by name."""
    values: dict[str, Any] = {}

    async def read(block: str) -> dict[str, Any] | None:
        return {"value": values[block]} if block in values else None

    async def write(block: str, value: dict[str, Any], *, overwrite: bool = True) -> bool:
        if block in values and not overwrite:
            return False
        values[block] = value
        return True

    monkeypatch.setattr(keys, "_read", read)
    monkeypatch.setattr(keys, "_write", write)
    return values


@pytest.fixture
def secrets(inline: Inline, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """Values of Secret blocks, by name."""
    return secret_blocks(monkeypatch)


@pytest.fixture
def account(
    sandbox: Sandbox,
    credentials: CalendlyCredentials,
    inline: Inline,
    secrets: dict[str, Any],
    monkeypatch: pytest.MonkeyPatch,
    impatient: None,
) -> Subscriber:
    """Alice's account, an admin's; attempts follow each other at once."""
    monkeypatch.setattr(apply, "PAUSES_SECONDS", (0, 0, 0, 0))
    return Subscriber(sandbox, credentials, inline, secrets)
