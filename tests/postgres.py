"""A PostgreSQL of one's own, from the programs that are installed: for the tests, and for the scale test.

It is started for a while, with its data in a temporary folder. Its processes have the mark of those who start it (see
`deployments.processes`), also where they run as another user, so nothing of it outlives a program that is killed.
"""

from __future__ import annotations

import os
import pwd
import secrets
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from deployments.processes import MARK, free_port
from tests.endurance.running import FailedError, tail

DEBIAN = Path("/usr/lib/postgresql")
USER = "prefect"
_START_SECONDS = 60
_STOP_SECONDS = 20


def find_postgres() -> Path:
    """Return the folder of the newest PostgreSQL's programs.

    Raises:
        FailedError: There is none.
    """
    debian = sorted(DEBIAN.glob("*/bin/initdb"), key=lambda path: int(path.parts[-3]))
    found = str(debian[-1]) if debian else shutil.which("initdb")
    if found is None:
        raise FailedError("PostgreSQL's initdb is missing: apt-get install postgresql, then again")
    return Path(found).parent


@dataclass(frozen=True)
class Postgres:
    """A PostgreSQL that runs on this machine."""

    programs: Path
    port: int
    password: str

    def create(self, purpose: str) -> str:
        """Create an empty database, named after what it is for; return its address.

        It follows `postgresql://` or `postgresql+asyncpg://`.
        """
        name = f"{purpose}_{secrets.token_hex(6)}"
        command = [self.programs / "createdb", "--host=127.0.0.1", f"--port={self.port}", f"--username={USER}", name]
        environment = os.environ | {"PGPASSWORD": self.password}
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
        if done.returncode:
            raise FailedError(f"the database {name} could not be created: {done.stderr.strip()}")
        return f"{USER}:{self.password}@127.0.0.1:{self.port}/{name}"


@contextmanager
def running_postgres(
    programs: Path, log: Path, *settings: str, environment: Mapping[str, str] = os.environ
) -> Iterator[Postgres]:
    """Run PostgreSQL until the block ends.

    Args:
        programs: The folder of its programs.
        log: What it says is appended there.
        settings: Such as `fsync=off`.
        environment: Its processes get the mark from there, and where to find programs.

    Raises:
        FailedError: It did not start.
    """
    with tempfile.TemporaryDirectory(prefix="prefect-calendly-postgres-") as folder, log.open("a") as output:
        home, postgres = Path(folder), Postgres(programs, free_port(), secrets.token_hex(24))
        options: dict[str, Any] = {"cwd": home, "stdout": output, "stderr": output, **_user(home)}
        options["env"] = {name: environment[name] for name in (MARK, "PATH") if name in environment}
        options["env"] |= {"LC_ALL": "C.UTF-8"}
        (home / "password").write_text(postgres.password)
        (home / "password").chmod(0o644)  # the folder is for its owner only
        initdb = [programs / "initdb", f"--username={USER}", "--auth=scram-sha-256", "--pwfile=password"]
        if subprocess.run([*initdb, "--no-sync", "data"], check=False, **options).returncode:
            raise FailedError(f"PostgreSQL's initdb failed; its log ends with:\n{tail(log)}")
        every = [f"port={postgres.port}", "listen_addresses=127.0.0.1", "unix_socket_directories=", *settings]
        command = [programs / "postgres", "-D", "data", *(word for setting in every for word in ("-c", setting))]
        server = subprocess.Popen(command, start_new_session=True, **options)
        try:
            ready = [programs / "pg_isready", "--host=127.0.0.1", f"--port={postgres.port}"]
            deadline = time.monotonic() + _START_SECONDS
            while subprocess.run(ready, check=False, **options).returncode:
                if server.poll() is not None or time.monotonic() > deadline:
                    raise FailedError(f"PostgreSQL did not start; its log ends with:\n{tail(log)}")
                time.sleep(0.1)
            yield postgres
        finally:
            server.send_signal(signal.SIGINT)  # it disconnects everybody, and shuts down cleanly
            try:
                server.wait(timeout=_STOP_SECONDS)
            except subprocess.TimeoutExpired:
                server.kill()  # its own processes notice
                server.wait()


def _user(home: Path) -> dict[str, Any]:
    """Return who runs PostgreSQL, and give him the folder: it refuses to run as root."""
    if os.geteuid() != 0:
        return {}
    try:
        owner = pwd.getpwnam("postgres")
    except KeyError:
        raise FailedError("there is no user postgres: apt-get install postgresql, or do not run as root") from None
    os.chown(home, owner.pw_uid, owner.pw_gid)
    return {"user": owner.pw_uid, "group": owner.pw_gid, "extra_groups": []}
