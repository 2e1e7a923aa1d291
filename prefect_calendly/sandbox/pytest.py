"""A fixture for your own tests: `pytest_plugins = ["prefect_calendly.sandbox.pytest"]` in `conftest.py`.

Example:
    ```python
    def test_my_flow_survives_a_bad_gateway(calendly_sandbox):
        calendly_sandbox.fault("html_502", path="/users/me", times=2)
        my_flow(api_key=calendly_sandbox.api_key, gateway_url=calendly_sandbox.gateway_url)
    ```
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from prefect_calendly.sandbox.sandbox import Sandbox


@pytest.fixture(scope="session")
def calendly_sandbox_server() -> Iterator[Sandbox]:
    """The server of the whole test run, which `calendly_sandbox` resets before each test."""
    with Sandbox(gateway_rps=0, rate_limit_per_minute=0) as sandbox:
        yield sandbox


@pytest.fixture
def calendly_sandbox(calendly_sandbox_server: Sandbox) -> Sandbox:
    """A running `Sandbox` in its seeded state, without rate limits."""
    calendly_sandbox_server.reset()
    return calendly_sandbox_server
