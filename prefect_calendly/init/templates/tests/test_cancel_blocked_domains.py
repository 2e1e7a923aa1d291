"""cancel_blocked_domains on the sandbox."""

import asyncio

from flows.cancel_blocked_domains import cancel_blocked_domains
from prefect_calendly import CalendlyCredentials
from prefect_calendly.sandbox import Sandbox
from prefect_calendly.screening.policy import CancelPolicy

POLICY = CancelPolicy(blocked_domains=["spam.example"], scope="organization", full_scan_hours=0)


def test_a_dry_run_finds_a_booking_of_a_blocked_domain_and_changes_nothing(
    credentials: CalendlyCredentials, calendly_sandbox: Sandbox
) -> None:
    calendly_sandbox.burst(1, domains=["spam.example"])
    report = asyncio.run(cancel_blocked_domains(credentials, POLICY, dry_run=True))
    assert report.to_cancel == 1
    assert calendly_sandbox.stats()["writes"] == {}


def test_a_real_run_cancels_that_booking_and_no_other(
    credentials: CalendlyCredentials, calendly_sandbox: Sandbox
) -> None:
    (invitee,) = calendly_sandbox.burst(1, domains=["spam.example"])
    before = calendly_sandbox.state(full=True)["events"]
    report = asyncio.run(cancel_blocked_domains(credentials, POLICY, dry_run=False))
    assert report.canceled == 1
    after = calendly_sandbox.state(full=True)["events"]
    assert [event for event in after if after[event] != before[event]] == [invitee.split("/")[4]]
