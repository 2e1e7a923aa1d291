"""The sandbox's world as seen by somebody who knows nothing of our client."""

from __future__ import annotations

from typing import Any

import httpx
import pytest

from prefect_calendly.sandbox import Sandbox

ORGANIZATION = "https://api.calendly.com/organizations/BBBBBBBBBBBBBBBB"
ALICE = "https://api.calendly.com/users/AAAAAAAAAAAAAAAA"


class World:
    """The sandbox's Calendly by plain httpx, page by page."""

    def __init__(self, sandbox: Sandbox) -> None:
        self._http = httpx.Client(
            base_url=sandbox.gateway_url, headers={"Authorization": f"Bearer {sandbox.api_key}"}, trust_env=False
        )

    def listing(self, path: str, **params: Any) -> list[dict[str, Any]]:
        items: list[dict[str, Any]] = []
        while True:
            answer = self._http.get(path, params={"count": 100, **params}).raise_for_status().json()
            items += answer["collection"]
            if not (token := answer["pagination"]["next_page_token"]):
                return items
            params["page_token"] = token

    def events(self, **params: Any) -> list[dict[str, Any]]:
        """Scheduled events, each with all its `invitees`."""
        events = self.listing("/scheduled_events", **params)
        for event in events:
            event["invitees"] = self.listing(f"/scheduled_events/{uuid_of(event)}/invitees")
        return events

    def cancel(self, uuid: str, reason: str | None = None) -> None:
        body = {} if reason is None else {"reason": reason}
        self._http.post(f"/scheduled_events/{uuid}/cancellation", json=body).raise_for_status()


def uuid_of(resource: dict[str, Any] | str) -> str:
    uri = resource if isinstance(resource, str) else resource["uri"]
    return str(uri).rpartition("/")[2]


@pytest.fixture
def world(sandbox: Sandbox) -> World:
    return World(sandbox)
