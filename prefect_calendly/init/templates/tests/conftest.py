"""What the tests share: a Prefect server of their own, and credentials of a sandbox of Calendly."""

from collections.abc import Iterator

import pytest
from prefect.testing.utilities import prefect_test_harness

from prefect_calendly import CalendlyCredentials
from prefect_calendly.sandbox import Sandbox

pytest_plugins = ["prefect_calendly.sandbox.pytest"]  # the fixture `calendly_sandbox`


@pytest.fixture(scope="session", autouse=True)
def prefect_server() -> Iterator[None]:
    """A Prefect server with an empty database, for as long as the tests run."""
    with prefect_test_harness(server_startup_timeout=300):
        yield


@pytest.fixture
def credentials(calendly_sandbox: Sandbox) -> CalendlyCredentials:
    """Credentials of the sandbox's Alice Johnson, an admin; at full speed."""
    return CalendlyCredentials(
        api_key=calendly_sandbox.api_key,
        gateway_url=calendly_sandbox.gateway_url,
        connections_url=calendly_sandbox.connections_url,
        requests_per_second=1000,
    )
