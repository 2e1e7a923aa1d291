"""Any other endpoint, with the same safety."""

from datetime import datetime, timedelta
from typing import Any

import pytest

from prefect_calendly import CalendlyCredentials
from prefect_calendly.api import acall_endpoint
from prefect_calendly.client import errors
from prefect_calendly.sandbox import Sandbox
from prefect_calendly.sandbox.seed import ALICE, EVENT, INVITEE, ORGANIZATION
from prefect_calendly.users import aget_current_user
from tests.support import no_request, nothing_unknown, uri


async def test_reading_and_writing_and_deleting(credentials: CalendlyCredentials, sandbox: Sandbox) -> None:
    user = await aget_current_user.fn(credentials)
    with nothing_unknown(sandbox):
        locations = await acall_endpoint.fn(credentials, "GET", "/locations", params={"user": user, "x": None})
        assert {item["kind"] for item in locations["collection"]} >= {"physical"}
        invitee = f"{uri('scheduled_events', EVENT)}/invitees/{INVITEE}"
        mark = await acall_endpoint.fn(credentials, "POST", "/invitee_no_shows", json={"invitee": invitee})
        path = mark["resource"]["uri"].removeprefix("https://api.calendly.com")
        assert await acall_endpoint.fn(credentials, "DELETE", path) is None
    with pytest.raises(errors.NotFoundError):
        await acall_endpoint.fn(credentials, "GET", path)


async def test_times_must_be_aware_here_too(credentials: CalendlyCredentials, sandbox: Sandbox) -> None:
    params: dict[str, Any] = {"organization": uri("organizations", ORGANIZATION), "min_start_time": sandbox.clock()}
    with nothing_unknown(sandbox):
        assert await acall_endpoint.fn(credentials, "GET", "/scheduled_events", params=params)
    params["min_start_time"] = datetime(2026, 1, 1)  # noqa: DTZ001
    with no_request(sandbox), pytest.raises(ValueError, match="min_start_time must be an aware datetime"):
        await acall_endpoint.fn(credentials, "GET", "/scheduled_events", params=params)


@pytest.mark.parametrize(
    ("method", "path", "words"),
    [
        ("get", "/users/me", "method must be one of GET, POST"),
        ("HEAD", "/users/me", "method must be one of"),
        ("GET", "users/me", "path must begin with '/'"),
        ("GET", "https://evil.example/users/me", "path must begin with '/'"),
        ("GET", "//evil.example/users/me", "path may hold"),
        ("GET", "/calendly/users/me", "without the gateway's /calendly"),
        ("GET", "/users/../connections", "path may hold"),
        ("GET", f"/locations?user={ALICE}", "give query parameters as `params`"),
    ],
)
async def test_what_is_no_call_costs_no_request(
    method: Any, path: str, words: str, credentials: CalendlyCredentials, sandbox: Sandbox
) -> None:
    with no_request(sandbox), pytest.raises(ValueError, match=words):
        await acall_endpoint.fn(credentials, method, path)


@pytest.mark.usefixtures("impatient")
async def test_a_read_is_repeated_a_write_is_not(credentials: CalendlyCredentials, sandbox: Sandbox) -> None:
    sandbox.fault("server_error", path="/users/me", times=2)
    assert await acall_endpoint.fn(credentials, "GET", "/users/me")
    path = sandbox.add_event(sandbox.clock() + timedelta(days=3)).removeprefix("https://api.calendly.com")
    sandbox.reset_stats()
    sandbox.fault("drop_after", method="POST", times=None)
    with pytest.raises(errors.NetworkError) as caught:
        await acall_endpoint.fn(credentials, "POST", f"{path}/cancellation", json={})
    assert caught.value.maybe_sent
    assert sandbox.stats()["requests"] == 1
