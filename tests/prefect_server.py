"""A Prefect server of the tests' own."""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

from prefect.events.worker import EventsWorker
from prefect.logging.handlers import APILogHandler
from prefect.settings import PREFECT_API_URL, PREFECT_SERVER_DATABASE_CONNECTION_URL

from deployments.local import prepare_database
from deployments.processes import free_port
from tests.endurance.running import Processes

_SERVICES: Final = (
    "CANCELLATION_CLEANUP",
    "CLEANUP_RECONCILER",
    "FOREMAN",
    "LATE_RUNS",
    "PAUSE_EXPIRATIONS",
    "REPOSSESSOR",
    "SCHEDULER",
    "TRIGGERS",
)
"""What only matters to deployments and automations, which have a stack of their own (`tests.support.stack`)."""


@contextlib.contextmanager
def running_prefect_server(home: Path) -> Iterator[dict[Any, str]]:
    """Run a server with an empty database in a new folder; the settings of those who use it.

    Raises:
        FailedError: It did not start; the message has what it printed.
    """
    with server_process(home, free_port()) as settings:
        yield settings
        # What this process still has to say it would try to say at its end, for a minute.
        APILogHandler().flush()
        EventsWorker.drain_all()


@contextlib.contextmanager
def server_process(home: Path, port: int, **more: str) -> Iterator[dict[Any, str]]:
    """As `running_prefect_server`, for tests that do not use Prefect in their own process.

    Args:
        home: The folder.
        port: Where it listens.
        more: Environment variables of its own; they win.

    Raises:
        FailedError: It did not start; the message has what it printed.
    """
    # Prefect takes a database of this name for one in memory, and opens one connection only. With more of them SQLite
    # refuses a write now and then ("database is locked"), and the client sleeps for two seconds.
    database = prepare_database(home / ":memory:")
    settings = {
        PREFECT_API_URL: f"http://127.0.0.1:{port}/api",
        PREFECT_SERVER_DATABASE_CONNECTION_URL: f"sqlite+aiosqlite:///{database}",
    }
    environment = {
        **os.environ,
        **{setting.name: value for setting, value in settings.items()},
        "PREFECT_SERVER_API_HOST": "127.0.0.1",
        "PREFECT_SERVER_API_PORT": str(port),
        "PREFECT_SERVER_UI_ENABLED": "false",
        "PREFECT_API_BLOCKS_REGISTER_ON_START": "false",
        **{f"PREFECT_SERVER_SERVICES_{service}_ENABLED": "false" for service in _SERVICES},
        **more,
    }
    processes = Processes(home)
    processes.start("server", ["-m", "prefect", "server", "start"], environment, f"{settings[PREFECT_API_URL]}/health")
    try:
        yield settings
    finally:
        processes.end("server", signal.SIGTERM)
