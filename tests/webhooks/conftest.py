"""A Prefect and a receiver per test; and one of each for tests that leave nothing behind."""

from __future__ import annotations

import os
import pwd
import secrets
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.webhooks.fake_prefect import FakePrefect
from tests.webhooks.running import Receiver, postgres_programs, running, settings


@pytest.fixture
def prefect() -> Iterator[FakePrefect]:
    """A Prefect that misbehaves on demand."""
    prefect = FakePrefect()
    yield prefect
    prefect.answers.set()
    prefect.stop()


@pytest.fixture
def receiver(prefect: FakePrefect, tmp_path: Path) -> Iterator[Receiver]:
    """A receiver that gives `prefect` what is delivered."""
    with running(settings(tmp_path / "receiver.db"), prefect.url) as receiver:
        yield receiver


@pytest.fixture
def hasty(prefect: FakePrefect, tmp_path: Path) -> Iterator[Receiver]:
    """A receiver that soon gives up when Prefect does not answer."""
    with running(settings(tmp_path / "receiver.db", handover_seconds=0.3), prefect.url) as receiver:
        yield receiver


@pytest.fixture(scope="module")
def shared_prefect() -> Iterator[FakePrefect]:
    """A Prefect for a whole module."""
    prefect = FakePrefect()
    yield prefect
    prefect.stop()


@pytest.fixture(scope="module")
def shared(shared_prefect: FakePrefect, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Receiver]:
    """A receiver for a whole module."""
    store = tmp_path_factory.mktemp("shared") / "receiver.db"
    with running(settings(store), shared_prefect.url) as receiver:
        yield receiver


@pytest.fixture(scope="session")
def _postgres_server() -> Iterator[str]:
    programs = postgres_programs()
    if programs is None:
        if os.environ.get("CI"):
            pytest.fail("PostgreSQL is missing: apt-get install postgresql")
        pytest.skip("there is no PostgreSQL here")
    home = Path(tempfile.mkdtemp(prefix="receiver-postgres-"))
    user: dict[str, Any] = {}
    if os.geteuid() == 0:  # PostgreSQL refuses to run as root
        owner = pwd.getpwnam("postgres")
        os.chown(home, owner.pw_uid, owner.pw_gid)
        user = {"user": owner.pw_uid, "group": owner.pw_gid, "extra_groups": []}
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL, "cwd": home, **user}
    data = home / "data"
    initdb = [programs / "initdb", "--username=receiver", "--auth=trust", "--no-sync", "--no-instructions", data]
    subprocess.run(initdb, check=True, **quiet)
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    options = ["-p", str(port), "-c", "listen_addresses=127.0.0.1", "-c", "unix_socket_directories=", "-c", "fsync=off"]
    server = subprocess.Popen([programs / "postgres", "-D", data, *options], **quiet)
    try:
        there = [programs / "pg_isready", "--host=127.0.0.1", f"--port={port}"]
        while subprocess.run(there, check=False, **quiet).returncode:
            assert server.poll() is None, "PostgreSQL did not start"
            time.sleep(0.1)
        yield f"postgresql://receiver@127.0.0.1:{port}"
    finally:
        server.send_signal(signal.SIGINT)
        server.wait()
        shutil.rmtree(home)


@pytest.fixture
def postgres(_postgres_server: str) -> str:
    """The URL of an empty PostgreSQL database."""
    programs, name = postgres_programs(), f"test_{secrets.token_hex(6)}"
    assert programs is not None
    subprocess.run([programs / "createdb", f"--maintenance-db={_postgres_server}/postgres", name], check=True)
    return f"{_postgres_server}/{name}"


@pytest.fixture(params=["sqlite", "postgresql"])
def store_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """The URL of an empty store, of either kind."""
    if request.param == "postgresql":
        return str(request.getfixturevalue("postgres"))
    return f"sqlite:///{tmp_path / 'receiver.db'}"
