"""screen_booking on the sandbox."""

import asyncio

import pytest

from flows.screen_booking import screen_booking
from prefect_calendly import CalendlyCredentials
from prefect_calendly.sandbox import Sandbox
from prefect_calendly.screening.policy import CancelPolicy

POLICY = CancelPolicy(blocked_domains=["spam.example"], scope="organization")


@pytest.mark.parametrize(("domain", "status"), [("spam.example", "canceled"), ("shop.example", "active")])
def test_a_booking_is_canceled_if_its_domain_is_blocked(
    domain: str, status: str, credentials: CalendlyCredentials, calendly_sandbox: Sandbox
) -> None:
    (invitee,) = calendly_sandbox.burst(1, domains=[domain])
    asyncio.run(screen_booking(credentials, invitee, POLICY, dry_run=False))
    assert calendly_sandbox.state(full=True)["events"][invitee.split("/")[4]] == status
