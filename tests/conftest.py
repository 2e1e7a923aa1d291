"""The environment of the tests, and which of several workers runs what."""

import os
import signal
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

# What runs in the background of a script ignores SIGINT, and so does all that it starts; tests send it.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

# Whatever the tests start ends with them, also if they are killed.
os.environ[MARK] = _HOME.name
_WATCHDOG = start_watchdog(Path(_HOME.name))

import functools  # noqa: E402
import importlib  # noqa: E402
from typing import Any  # noqa: E402

import pytest  # noqa: E402
from xdist.scheduler import LoadScopeScheduling  # noqa: E402

pytest_plugins = ["pytester"]


@pytest.hookimpl(trylast=True)  # coverage measures from here on
def pytest_sessionstart(session: pytest.Session) -> None:
    """Load the fixtures, and Prefect with them, which takes seconds; who only hands out the tests needs none."""
    config = session.config
    if not (config.getoption("numprocesses", None) and not hasattr(config, "workerinput")):
        config.pluginmanager.register(importlib.import_module("tests.fixtures"))


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
        of_stack = item.get_closest_marker("stack") is not None
        if part != "prefect_server" and not of_stack and "prefect_server" in getattr(item, "fixturenames", ()):
            raise pytest.UsageError(f"{item.nodeid} uses a server: say so in its file, usefixtures('prefect_server')")
        return _SHARED.index(part) if part in _SHARED else len(_SHARED)

    items.sort(key=place)
