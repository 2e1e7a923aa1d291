"""A run waits for a person in vain: Prefect ends it, and a triggered deployment writes that down."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import pytest

from prefect_calendly.screening.approval import EXPIRED_MESSAGES
from prefect_calendly.screening.page import DECISIONS_KEY
from tests.support import Stack, until

pytestmark = pytest.mark.stack

DEPLOYMENT = "cancel-blocked-domains/cancel-blocked-domains-with-approval"


class WaitingRun:
    """A run of the deployment that asks a person about one booking."""

    def __init__(self, api: httpx.Client, sandbox: httpx.Client, domain: str, hours: float) -> None:
        self._api, self._sandbox = api, sandbox
        start = (datetime.now(UTC) + timedelta(days=2)).isoformat()
        booking = {"start_time": start, "invitees": [{"email": f"eve@{domain}"}]}
        self.event: str = sandbox.post("/_sandbox/events", json=booking).raise_for_status().json()["uri"]
        deployment = api.get(f"/deployments/name/{DEPLOYMENT}").raise_for_status().json()["id"]
        parameters = {"policy": {"blocked_domains": [domain], "horizon_days": 3}, "approval_hours": hours}
        answer = api.post(f"/deployments/{deployment}/create_flow_run", json={"parameters": parameters})
        self.id: str = answer.raise_for_status().json()["id"]

    def state(self) -> dict[str, Any]:
        state: dict[str, Any] = self._api.get(f"/flow_runs/{self.id}").raise_for_status().json()["state"]
        return state

    def row(self) -> dict[str, str] | None:
        """The booking in the newest table, once that says more than that it waits."""
        table = json.loads(self._api.get(f"/artifacts/{DECISIONS_KEY}/latest").raise_for_status().json()["data"])
        found = (row for row in table if self.event.endswith(row["event"]))
        return next((row for row in found if row["status"] != "waits for approval"), None)

    def is_canceled_in_calendly(self) -> bool:
        canceled = self._sandbox.get("/_sandbox/state").raise_for_status().json()["canceled_by_api"]
        return self.event in [item["uri"] for item in canceled]


@contextmanager
def waiting_run(stack: Stack, domain: str, *, hours: float) -> Iterator[tuple[httpx.Client, WaitingRun]]:
    with stack.prefect() as api, httpx.Client(base_url=stack.sandbox_url, trust_env=False) as sandbox:
        yield api, WaitingRun(api, sandbox, domain, hours)


def test_an_approval_that_nobody_gives_ends_by_itself_and_is_in_the_audit_table(stack: Stack) -> None:
    with waiting_run(stack, "expired.example", hours=0.002) as (_, run):
        state = until(lambda: (found := run.state())["type"] == "FAILED" and found)
        assert state["message"] == EXPIRED_MESSAGES[0]
        row = until(run.row)
        assert row["status"] == "not canceled: nobody decided in time"
        assert row["decided by"] == "nobody"
        assert not run.is_canceled_in_calendly()


def test_a_run_that_is_canceled_while_it_waits_is_in_the_audit_table(stack: Stack) -> None:
    with waiting_run(stack, "stopped.example", hours=24) as (api, run):
        until(lambda: run.state()["name"] == "Suspended")
        canceling = {"state": {"type": "CANCELLING", "name": "Cancelling"}}  # as the button of the UI does
        api.post(f"/flow_runs/{run.id}/set_state", json=canceling).raise_for_status()
        assert run.state()["name"] == "Cancelled"
        assert until(run.row)["status"] == "not canceled: the run was canceled before"
        assert not run.is_canceled_in_calendly()
