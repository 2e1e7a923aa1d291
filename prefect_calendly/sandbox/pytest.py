"""A pytest fixture for flows' own tests: `pytest_plugins = ["prefect_calendly.sandbox.pytest"]`."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from .server import Sandbox


@pytest.fixture(scope="session")
def calendly_sandbox_server() -> Iterator[Sandbox]:
    """The one server of the test run; tests take `calendly_sandbox`."""
    with Sandbox(gateway_rps=0, rate_limit_per_minute=0) as sandbox:
        yield sandbox


@pytest.fixture
def calendly_sandbox(calendly_sandbox_server: Sandbox) -> Sandbox:
    """A sandbox gateway in its seeded state, without rate limits."""
    calendly_sandbox_server.reset()
    return calendly_sandbox_server
