"""Nobody answers a run that waits for approval: Prefect ends it, and a triggered deployment writes that down."""

import json
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import pytest

from prefect_calendly.screening.approval import EXPIRED_MESSAGES
from prefect_calendly.screening.page import DECISIONS_KEY
from tests.support import Stack, until

pytestmark = pytest.mark.stack

DEPLOYMENT = "cancel-blocked-domains/cancel-blocked-domains-with-approval"


def test_an_approval_that_nobody_gives_ends_by_itself_and_is_in_the_audit_table(stack: Stack) -> None:
    with stack.prefect() as api, httpx.Client(trust_env=False) as sandbox:
        start = (datetime.now(UTC) + timedelta(days=2)).isoformat()
        booking = {"start_time": start, "invitees": [{"email": "eve@expired.example"}]}
        event = sandbox.post(f"{stack.sandbox_url}/_sandbox/events", json=booking).raise_for_status().json()["uri"]
        deployment = api.get(f"/deployments/name/{DEPLOYMENT}").raise_for_status().json()["id"]
        parameters = {"policy": {"blocked_domains": ["expired.example"], "horizon_days": 3}, "approval_hours": 0.002}
        answer = api.post(f"/deployments/{deployment}/create_flow_run", json={"parameters": parameters})
        run = answer.raise_for_status().json()["id"]

        state = until(lambda: ended(api.get(f"/flow_runs/{run}").json()["state"]))
        assert (state["type"], state["message"]) == ("FAILED", EXPIRED_MESSAGES[0])

        def row() -> Any:
            table = json.loads(api.get(f"/artifacts/{DECISIONS_KEY}/latest").raise_for_status().json()["data"])
            return next((row for row in table if event.endswith(row["event"]) and row["decided by"] != ""), None)

        found = until(lambda: (item := row()) and item["status"] != "waits for approval" and item)
        assert found["status"] == "not canceled: nobody decided in time"
        assert found["decided by"] == "nobody"
        assert event not in [item["uri"] for item in canceled(sandbox, stack)]


def ended(state: dict[str, Any]) -> dict[str, Any] | None:
    return state if state["type"] in ("COMPLETED", "FAILED", "CRASHED", "CANCELLED") else None


def canceled(sandbox: httpx.Client, stack: Stack) -> list[dict[str, Any]]:
    return list(sandbox.get(f"{stack.sandbox_url}/_sandbox/state").raise_for_status().json()["canceled_by_api"])
