"""reconcile_bookings on the sandbox."""

import asyncio
from datetime import UTC, datetime, timedelta

from flows.reconcile_bookings import reconcile_bookings
from prefect_calendly import CalendlyCredentials
from prefect_calendly.bookings.reconciliation import BookingsToReconcile
from prefect_calendly.sandbox import Sandbox


def test_a_booking_that_no_webhook_delivered_is_found_and_emitted(
    credentials: CalendlyCredentials, calendly_sandbox: Sandbox
) -> None:
    an_hour_ago = datetime.now(UTC) - timedelta(hours=1)
    calendly_sandbox.add_event(created_at=an_hour_ago.isoformat(), invitees=[{"email": "jane@shop.example"}])
    report = asyncio.run(reconcile_bookings(credentials, BookingsToReconcile(scope="organization", hours=2)))
    assert report.missed >= 1
    assert report.emitted == report.missed
