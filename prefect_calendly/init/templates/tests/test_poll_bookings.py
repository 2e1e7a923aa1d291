"""poll_bookings on the sandbox."""

import asyncio

from flows.poll_bookings import poll_bookings
from prefect_calendly import CalendlyCredentials
from prefect_calendly.bookings.polling import BookingsToPoll
from prefect_calendly.sandbox import Sandbox

POLLING = BookingsToPoll(scope="organization")


def test_a_booking_made_since_the_run_before_becomes_an_event(
    credentials: CalendlyCredentials, calendly_sandbox: Sandbox
) -> None:
    asyncio.run(poll_bookings(credentials, POLLING))  # sets the cursor
    calendly_sandbox.burst(1, domains=["shop.example"])
    report = asyncio.run(poll_bookings(credentials, POLLING))
    assert report.emitted == {"calendly.invitee.created": 1}
