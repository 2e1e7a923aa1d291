"""The fixtures that most tests use: a Prefect server, and one sandbox gateway that is reset between tests."""

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

import hypothesis
import pytest
from prefect.client.orchestration import get_client
from prefect.exceptions import PrefectHTTPStatusError
from prefect.settings import temporary_settings

from prefect_calendly import CalendlyCredentials
from prefect_calendly.client.pace import PROCESS_LIMITS
from prefect_calendly.runs import state
from prefect_calendly.sandbox import Sandbox
from tests.inline import inline  # noqa: F401  (a fixture)
from tests.notifiers import receiver, recorder  # noqa: F401  (fixtures)
from tests.prefect_server import running_prefect_server
from tests.support import impatient, postgres, run_logs, stack, virtual_time  # noqa: F401  (fixtures)
from tests.world import world  # noqa: F401  (a fixture)

# How long an example takes says more about what else the machine does.
hypothesis.settings.register_profile("patient", deadline=None)
hypothesis.settings.load_profile("patient")


@pytest.fixture(scope="session")
def prefect_server() -> Iterator[None]:
    """A Prefect server with an empty database, for tests that run flows."""
    with running_prefect_server(Path(os.environ["PREFECT_HOME"]) / "server") as settings, temporary_settings(settings):
        yield


@pytest.fixture(autouse=True)
def _no_state(request: pytest.FixtureRequest) -> None:
    """The sandbox starts anew with each test: what earlier tests have saved about it is of another world."""
    if "prefect_server" not in request.fixturenames:
        return
    request.getfixturevalue("prefect_server")
    with get_client(sync_client=True) as client, contextlib.suppress(PrefectHTTPStatusError):  # no state was ever saved
        for document in client.read_block_documents_by_type(state.TYPE_SLUG):
            client.delete_block_document(document.id)


@pytest.fixture(scope="session")
def _shared_sandbox() -> Iterator[Sandbox]:
    with Sandbox(events=60, invitees=90, hosts=3, seed=7, gateway_rps=0) as sandbox:
        yield sandbox


@pytest.fixture
def sandbox(_shared_sandbox: Sandbox) -> Sandbox:
    """The sandbox gateway, as it was at its start; without the limit of 10 requests a second."""
    _shared_sandbox.reset()
    # What earlier tests have used up of its limit a minute is there again; a client would wait for that.
    PROCESS_LIMITS.clear()
    return _shared_sandbox


@pytest.fixture
def credentials(sandbox: Sandbox) -> CalendlyCredentials:
    """Credentials of the sandbox's default account (Alice Johnson, an admin)."""
    return credentials_for(sandbox)


def credentials_for(sandbox: Sandbox, **overrides: object) -> CalendlyCredentials:
    """Credentials of a sandbox, at full speed."""
    values: dict[str, object] = {
        "api_key": sandbox.api_key,
        "gateway_url": sandbox.gateway_url,
        "connections_url": sandbox.connections_url,
        "requests_per_second": 10_000,
    }
    return CalendlyCredentials(**{**values, **overrides})  # type: ignore[arg-type]
