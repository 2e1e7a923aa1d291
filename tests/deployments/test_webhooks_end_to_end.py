"""A booking in Calendly starts a flow: sandbox → signed webhook → receiver → Prefect event → deployment → canceled."""

from __future__ import annotations

import asyncio
import re
import secrets
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml
from prefect.blocks.notifications import CustomWebhookNotificationBlock
from prefect.settings import temporary_settings

from deployments import automations
from deployments.files import EVENT_AUTOMATIONS
from tests.notifiers import Receiver
from tests.support import Stack, until

pytestmark = pytest.mark.stack

PREFIX = "end to end"


class Calendly:
    """The sandbox of a stack, as people use it."""

    def __init__(self, stack: Stack) -> None:
        self.control = httpx.Client(base_url=f"{stack.sandbox_url}/_sandbox", trust_env=False, timeout=30)
        key = {"Authorization": f"Bearer {stack.sandbox_key}"}
        self.api = httpx.Client(base_url=f"{stack.sandbox_url}/calendly", headers=key, trust_env=False, timeout=30)

    def book(self, domain: str, **more: Any) -> dict[str, Any]:
        body = {"invitees": [{"email": f"jane@{domain}", "name": "Jane"}], **more}
        return dict(self.control.post("/events", json=body).raise_for_status().json())

    def change(self, uri: str, how: str) -> dict[str, Any]:
        answer = self.control.post(f"/events/{uri.rpartition('/')[2]}/{how}", json={})
        return dict(answer.raise_for_status().json())

    def event(self, uri: str) -> dict[str, Any]:
        answer = self.api.get(f"/scheduled_events/{uri.rpartition('/')[2]}").raise_for_status()
        return dict(answer.json()["resource"])


@pytest.fixture
def calendly(stack: Stack) -> Iterator[Calendly]:
    there = Calendly(stack)
    yield there
    there.control.close()
    there.api.close()


@pytest.fixture
def domain() -> str:
    return f"d{secrets.token_hex(4)}.example"


def events_of(stack: Stack, invitee: str) -> dict[str, dict[str, Any]]:
    """The events that Prefect has of an invitee, by name."""
    labels = {"resource": {"labels": {"calendly.uri": invitee}}}
    with stack.prefect() as http:
        answer = http.post("/events/filter", json={"filter": labels, "limit": 50}).raise_for_status()
    found = answer.json()["events"]
    assert len({event["event"] for event in found}) == len(found)  # each is told once
    return {event["event"]: event for event in found}


def runs_of(stack: Stack, deployment: str, invitee: str) -> list[dict[str, Any]]:
    with stack.prefect() as http:
        body = {"deployments": {"name": {"any_": [deployment]}}, "limit": 100}
        found = http.post("/flow_runs/filter", json=body).raise_for_status().json()
    return [run for run in found if run["parameters"].get("invitee") == invitee]


def test_a_booking_of_a_blocked_domain_is_cancelled_by_the_flow_that_it_starts(
    stack: Stack, calendly: Calendly
) -> None:
    booked = calendly.book("blocked.example")
    (invitee,) = booked["invitees"]
    until(lambda: calendly.event(booked["uri"])["status"] == "canceled")
    (run,) = until(lambda: runs_of(stack, "screen-booking", invitee))
    until(lambda: runs_of(stack, "screen-booking", invitee)[0]["state"]["name"] == "Completed")
    assert run["created_by"]["type"] == "AUTOMATION"
    assert stack.sandbox_key not in str(run)
    canceled = until(lambda: events_of(stack, invitee).get("calendly.invitee.canceled"))
    assert events_of(stack, invitee).keys() == {"calendly.invitee.created", "calendly.invitee.canceled"}
    assert canceled["resource"]["calendly.source"] == "webhook"
    assert canceled["resource"]["calendly.email-domain"] == "blocked.example"
    assert canceled["payload"]["cancellation"].keys() == {"canceler_type", "created_at"}  # the text is the host's


def test_a_booking_of_anybody_else_stays(stack: Stack, calendly: Calendly, domain: str) -> None:
    booked = calendly.book(domain)
    (invitee,) = booked["invitees"]
    until(lambda: [run for run in runs_of(stack, "screen-booking", invitee) if run["state"]["name"] == "Completed"])
    assert calendly.event(booked["uri"])["status"] == "active"


@pytest.fixture
def told(stack: Stack, tmp_path: Path) -> Iterator[Receiver]:
    """The shipped examples of automations, with messages to a receiver of this test; nothing is left of them."""
    receiver, name = Receiver(), f"e2e-{secrets.token_hex(4)}"
    written = yaml.safe_load(EVENT_AUTOMATIONS.read_text())
    for automation in written["automations"]:
        automation["name"] = automation["name"].replace("calendly - ", f"{PREFIX} - ")
        for action in automation["actions"]:
            action["block_document_id"] = f"custom-webhook/{name}"
    (tmp_path / "automations.yaml").write_text(yaml.safe_dump(written))
    block = CustomWebhookNotificationBlock(
        name=name, url=receiver.url, method="POST", json_data={"subject": "{{subject}}", "body": "{{body}}"}
    )
    with temporary_settings(stack.settings), stack.prefect() as http:
        block.save(name)
        asyncio.run(automations.apply(tmp_path / "automations.yaml"))
        yield receiver
        for each in http.post("/automations/filter", json={}).raise_for_status().json():
            if each["name"].startswith(PREFIX):
                http.delete(f"/automations/{each['id']}").raise_for_status()
    receiver.stop()


def test_messages_tell_of_moves_cancellations_and_no_shows_each_once(
    stack: Stack, calendly: Calendly, domain: str, told: Receiver
) -> None:
    begun = datetime.now(UTC).replace(minute=0, second=0, microsecond=0) - timedelta(days=1)
    missed = calendly.book(domain, start_time=begun.isoformat())["uri"]
    first = calendly.book(domain)["uri"]
    moved = calendly.change(first, "reschedule")["uri"]
    calendly.change(moved, "cancel")
    calendly.change(missed, "no_show")
    until(lambda: len(told.messages) >= 3)
    # What would be sent wrongly is sent before this.
    calendly.change(calendly.book(domain)["uri"], "cancel")
    until(lambda: len(told.messages) >= 4)
    subjects = sorted(each["subject"] for each in told.messages)
    assert subjects == [
        "Calendly booking canceled",
        "Calendly booking canceled",
        "Calendly booking rescheduled",
        "Calendly no-show",
    ]
    (move,) = [each["body"] for each in told.messages if each["subject"] == "Calendly booking rescheduled"]
    assert move == f"{first} is now {moved}."
    assert domain not in str(told.messages)


def test_one_who_forges_deliveries_starts_nothing(stack: Stack) -> None:
    with httpx.Client(base_url=stack.receiver_url, trust_env=False, timeout=30) as outside:
        body = b'{"event": "invitee.created"}'
        wrong = {
            "Calendly-Webhook-Signature": f"t={int(time.time())},v1={'0' * 64}",
            "Content-Type": "application/json",
        }
        assert outside.post("/webhooks/calendly", content=body, headers=wrong).status_code == 401
        assert outside.get("/readyz").status_code == 200
        metrics = outside.get("/metrics").text
    assert re.search(
        r'^calendly_webhook_deliveries_rejected_total\{reason="signature_wrong"\} \d', metrics, re.MULTILINE
    )
