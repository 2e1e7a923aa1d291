"""availability_digest on the sandbox."""

import asyncio

from flows.availability_digest import availability_digest
from prefect_calendly import CalendlyCredentials
from prefect_calendly.digest.request import DigestRequest
from prefect_calendly.sandbox import Sandbox


def test_the_digest_covers_every_host_of_the_organization_and_changes_nothing(
    credentials: CalendlyCredentials, calendly_sandbox: Sandbox
) -> None:
    report = asyncio.run(availability_digest(credentials, DigestRequest(scope="organization", days=7)))
    assert report.hosts > 1
    assert report.open_slots > 0
    assert report.unreadable == 0
    assert calendly_sandbox.stats()["writes"] == {}
