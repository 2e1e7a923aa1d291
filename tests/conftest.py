"""A Prefect of the tests' own, and one sandbox gateway that is reset between tests."""

import os
import tempfile
from pathlib import Path

import certifi

from deployments.processes import MARK, start_watchdog

_HOME = tempfile.TemporaryDirectory(prefix="prefect-calendly-tests-")
# One certificate instead of all of them: each client that Prefect or httpx makes reads the file, and tests talk to
# loopback only.
_CERTIFICATES = Path(_HOME.name, "certificates.pem")
_CERTIFICATES.write_text(
    Path(certifi.where()).read_text().partition("-----END CERTIFICATE-----")[0] + "-----END CERTIFICATE-----\n"
)

# Before Prefect is imported: the developer's own Prefect home and server are never touched.
os.environ.update(
    SSL_CERT_FILE=str(_CERTIFICATES),
    PREFECT_API_SSL_CERT_FILE=str(_CERTIFICATES),
    PREFECT_HOME=_HOME.name,
    PREFECT_SERVER_ANALYTICS_ENABLED="false",
    PREFECT_LOGGING_LEVEL="INFO",
    # A test that asks Prefect without the fixture `prefect_server` fails at once, instead of starting a server unseen.
    PREFECT_SERVER_ALLOW_EPHEMERAL_MODE="false",
    PREFECT_SERVER_SERVICES_EVENT_PERSISTER_FLUSH_INTERVAL="0.2",
    DO_NOT_TRACK="1",
)
for name in ("PREFECT_API_URL", "PREFECT_API_KEY", "MATON_API_KEY", "MATON_GATEWAY_URL", "MATON_CONNECTIONS_URL"):
    os.environ.pop(name, None)

# Whatever the tests start ends with them, also if they are killed.
os.environ[MARK] = _HOME.name
_WATCHDOG = start_watchdog(Path(_HOME.name))

import contextlib  # noqa: E402
import functools  # noqa: E402
from collections.abc import Iterator  # noqa: E402
from typing import Any  # noqa: E402

import hypothesis  # noqa: E402
import pytest  # noqa: E402
from prefect.client.orchestration import get_client  # noqa: E402
from prefect.exceptions import PrefectHTTPStatusError  # noqa: E402
from prefect.settings import temporary_settings  # noqa: E402
from xdist.scheduler import LoadScopeScheduling  # noqa: E402

from prefect_calendly import CalendlyCredentials  # noqa: E402
from prefect_calendly.client.pace import PROCESS_LIMITS  # noqa: E402
from prefect_calendly.runs import state  # noqa: E402
from prefect_calendly.sandbox import Sandbox  # noqa: E402
from tests.inline import inline  # noqa: E402, F401  (a fixture)
from tests.notifiers import receiver, recorder  # noqa: E402, F401  (fixtures)
from tests.prefect_server import running_prefect_server  # noqa: E402
from tests.support import impatient, run_logs, stack, virtual_time  # noqa: E402, F401  (fixtures)
from tests.world import world  # noqa: E402, F401  (a fixture)

pytest_plugins = ["pytester"]

# How long an example takes says more about what else the machine does.
hypothesis.settings.register_profile("patient", deadline=None)
hypothesis.settings.load_profile("patient")


_SHARED = ("mark.stack", "prefect_server")
"""What is started once for all: a file whose text has one of these is tested by the worker that has started it."""


@functools.cache
def _part(path: str) -> str:
    """Return what one of several workers runs as a whole: the users of something shared, or one file."""
    text = Path(path).read_text()
    return next((shared for shared in _SHARED if shared in text), path)


def _path(nodeid: str) -> str:
    return nodeid.partition("::")[0]


class _Parts(LoadScopeScheduling):
    def _split_scope(self, nodeid: str) -> str:
        return _part(_path(nodeid))


@pytest.hookimpl(optionalhook=True)  # for -p no:xdist
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> _Parts:
    return _Parts(config, log)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put the longest parts first, so that no worker is left with one of them in the end."""

    def place(item: pytest.Item) -> int:
        part = _part(_path(item.nodeid))
        if part not in _SHARED and "prefect_server" in getattr(item, "fixturenames", ()):
            raise pytest.UsageError(f"{item.nodeid} uses a server: say so in its file, usefixtures('prefect_server')")
        return _SHARED.index(part) if part in _SHARED else len(_SHARED)

    items.sort(key=place)


@pytest.fixture(scope="session")
def prefect_server() -> Iterator[None]:
    """A Prefect server with an empty database, for tests that run flows."""
    with running_prefect_server(Path(_HOME.name) / "server") as settings, temporary_settings(settings):
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
