"""A Prefect server of the tests' own."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

from prefect.events.worker import EventsWorker
from prefect.logging.handlers import APILogHandler
from prefect.settings import PREFECT_API_URL, PREFECT_SERVER_DATABASE_CONNECTION_URL

from deployments.local import EMPTY_DATABASE
from deployments.processes import free_port

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
_LONGEST_START_SECONDS: Final = 300


@contextlib.contextmanager
def running_prefect_server(home: Path) -> Iterator[dict[Any, str]]:
    """Run a server with an empty database in a new folder; the settings of those who use it.

    Raises:
        RuntimeError: It did not start; the message has what it printed.
    """
    # Prefect takes a database of this name for one in memory, and opens one connection only. With more of them SQLite
    # refuses a write now and then ("database is locked"), and the client sleeps for two seconds.
    database = home / ":memory:" / "prefect.db"
    database.parent.mkdir(parents=True)
    if EMPTY_DATABASE.exists():
        shutil.copy(EMPTY_DATABASE, database)
    port = free_port()
    settings = {
        PREFECT_API_URL: f"http://127.0.0.1:{port}/api",
        PREFECT_SERVER_DATABASE_CONNECTION_URL: f"sqlite+aiosqlite:///{database}",
    }
    environment = {
        **os.environ,
        **{setting.name: value for setting, value in settings.items()},
        "PREFECT_SERVER_UI_ENABLED": "false",
        "PREFECT_API_BLOCKS_REGISTER_ON_START": "false",
        **{f"PREFECT_SERVER_SERVICES_{service}_ENABLED": "false" for service in _SERVICES},
    }
    command = [sys.executable, "-m", "prefect", "server", "start", "--host", "127.0.0.1", "--port", str(port)]
    log = home / "server.log"
    with log.open("w") as output:
        process = subprocess.Popen(command, env=environment, stdout=output, stderr=output)
    try:
        _wait_for(f"{settings[PREFECT_API_URL]}/health", process, log)
        yield settings
        # What this process still has to say it would try to say at its end, for a minute.
        APILogHandler().flush()
        EventsWorker.drain_all()
    finally:
        process.terminate()
        try:
            process.wait(timeout=10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _wait_for(url: str, process: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + _LONGEST_START_SECONDS
    while process.poll() is None and time.monotonic() < deadline:
        try:
            urllib.request.urlopen(url, timeout=5).close()
        except OSError:
            time.sleep(0.1)
        else:
            return
    raise RuntimeError(f"the Prefect server of the tests did not start:\n{log.read_text()[-2000:]}")
