"""What `make demo` and `make up` share: an environment in which nothing of the user's own Prefect is seen."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Final

from deployments.files import ROOT
from deployments.processes import MARK

_EMPTY_DATABASE: Final = ROOT / ".venv" / "prefect" / "prefect.db"
"""Prefect's tables without a row, which the Makefile has made for the tests: a server needs 13 s to make its own."""


def own_environment(home: Path, **settings: str) -> dict[str, str]:
    """Return this process's environment, with a Prefect home of its own and without the user's Prefect settings.

    Args:
        home: The folder of the demo or of `make up`: processes are marked with it, Prefect's home is made inside.
        settings: More variables; they win.

    Returns:
        Variables for a process that has not imported Prefect yet.
    """
    prepare_database(home / "prefect")
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PREFECT_")}
    environment |= {
        MARK: str(home),
        "PREFECT_HOME": str(home / "prefect"),
        "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
        "PREFECT_LOGGING_LEVEL": "INFO",
        "DO_NOT_TRACK": "1",
    }
    for name in ("NO_PROXY", "no_proxy"):  # Prefect's server and the sandbox are on this machine
        environment[name] = ",".join(filter(None, [environment.get(name), "127.0.0.1", "localhost"]))
    return environment | settings


def prepare_database(folder: Path) -> Path:
    """Make a folder for Prefect's database, and put an empty one there if there is none and one was made before.

    Returns:
        Where the database is, or where a Prefect server will make it.
    """
    folder.mkdir(parents=True, exist_ok=True)
    database = folder / "prefect.db"
    if _EMPTY_DATABASE.exists() and not database.exists():
        shutil.copy(_EMPTY_DATABASE, database)
    return database


def sandbox_command(events: int, key: str, port: int = 0) -> list[str]:
    """Return the arguments for Python that run the sandbox gateway: `events` events of five hosts.

    Example:
        >>> sandbox_command(40, "key")[:2]
        ['-m', 'prefect_calendly.sandbox']
    """
    command = ["-m", "prefect_calendly.sandbox", "--events", str(events), "--invitees", str(events * 2)]
    # In one word: a key may begin with a dash.
    return [*command, "--hosts", "5", f"--api-key={key}", "--port", str(port)]
