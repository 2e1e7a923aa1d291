"""Polling and reconciling as runs of a Prefect server: its events, its artifacts, its state between runs."""

from __future__ import annotations

import asyncio
import json
import secrets
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from prefect.client.orchestration import get_client

from flows.poll_bookings import poll_bookings
from flows.reconcile_bookings import reconcile_bookings
from prefect_calendly import CalendlyCredentials
from prefect_calendly.bookings.polling import BookingsToPoll
from prefect_calendly.bookings.polling_page import SUMMARY_KEY
from prefect_calendly.bookings.reconciliation import BookingsToReconcile
from prefect_calendly.bookings.reconciliation_page import PROBLEMS_KEY
from prefect_calendly.runs.state import TYPE_SLUG
from prefect_calendly.sandbox import Sandbox
from tests.support import artifact
from tests.world import uuid_of

pytestmark = pytest.mark.usefixtures("prefect_server")

WHOLE = BookingsToPoll(scope="organization")


@pytest.fixture
def calendly(sandbox: Sandbox) -> Sandbox:
    """A sandbox with events of its own: Prefect has the others' from other tests."""
    sandbox.reset(seed=secrets.randbelow(10**9))
    return sandbox


async def events_about(*uris: str) -> list[tuple[str, str]]:
    """Name and source of Prefect's events about some scheduled events, the oldest first."""
    related = {"id": [f"calendly.scheduled-event.{uuid_of(uri)}" for uri in uris]}
    # Without `until`, Prefect takes now, and Calendly's clock is another one.
    occurred = {"until": (datetime.now(UTC) + timedelta(days=1)).isoformat()}
    body = {"filter": {"related": related, "order": "ASC", "occurred": occurred}, "limit": 50}
    async with get_client() as client:
        found = (await client.request("POST", "/events/filter", json=body)).json()["events"]
    return [(each["event"], each["resource"]["calendly.source"]) for each in found]


async def cursors() -> list[dict[str, Any]]:
    async with get_client() as client:
        return [document.data for document in await client.read_block_documents_by_type(TYPE_SLUG)]


async def test_a_booking_and_its_cancellation_become_events_and_the_cursor_a_block(
    calendly: Sandbox, credentials: CalendlyCredentials, run_logs: list[str]
) -> None:
    assert (await poll_bookings(credentials, WHOLE)).seeded
    booked = calendly.add_event(invitees=[{"email": "jane.secret@shop.example", "name": "Jane Secret"}])
    calendly.cancel_event(uuid_of(booked))
    report = await poll_bookings(credentials, WHOLE)
    assert report.emitted == {"calendly.invitee.canceled": 1, "calendly.invitee.created": 1}
    assert await events_about(booked) == [("calendly.invitee.created", "poll"), ("calendly.invitee.canceled", "poll")]
    assert (await poll_bookings(credentials, WHOLE)).found == 0
    (cursor,) = await cursors()
    assert datetime.fromisoformat(cursor["value"]["updated_since"]) == report.updated_since
    for text in (await artifact(SUMMARY_KEY), json.dumps(cursor), "\n".join(run_logs)):
        assert "secret" not in text.lower()


async def test_two_runs_at_once_emit_everything_once(calendly: Sandbox, credentials: CalendlyCredentials) -> None:
    first = await asyncio.gather(*(poll_bookings(credentials, WHOLE) for _ in range(2)))
    assert any(report.seeded for report in first)  # the second one may have come when the first was done
    assert [report.emitted for report in first] == [{}, {}]
    uris = [calendly.add_event() for _ in range(5)]
    await asyncio.gather(*(poll_bookings(credentials, WHOLE) for _ in range(2)))
    assert await events_about(*uris) == [("calendly.invitee.created", "poll")] * 5
    assert (await poll_bookings(credentials, WHOLE)).emitted == {}
    assert len(await cursors()) == 1


async def test_what_no_webhook_has_brought_is_emitted_and_known_the_next_time(
    calendly: Sandbox, credentials: CalendlyCredentials
) -> None:
    calendly.set_clock(datetime.now(UTC) - timedelta(minutes=10))  # so that no delivery is still on its way
    window = BookingsToReconcile(scope="organization", hours=2)
    event = calendly.add_event()
    report = await reconcile_bookings(credentials, window)
    assert report.missed == report.emitted >= 1
    assert await events_about(event) == [("calendly.invitee.created", "backfill")]
    assert uuid_of(event) in str(await artifact(PROBLEMS_KEY))
    after = await reconcile_bookings(credentials, window)
    assert (after.found, after.missed, after.not_by_webhook) == (report.found, 0, report.found)
