"""The processes of the scale test: PostgreSQL, Redis, API, services and workers, as `compose.yaml` runs them."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import secrets
import shutil
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from inspect import isawaitable
from pathlib import Path
from typing import Any

import yaml
from cryptography.fernet import Fernet
from dotenv import dotenv_values

from deployments.local import own_environment, sandbox_command
from deployments.processes import free_port
from tests.endurance.running import ROOT, FailedError
from tests.postgres import running_postgres

COMPOSE = yaml.safe_load((ROOT / "deployments" / "compose.yaml").read_text())["services"]
BIN = Path(sys.executable).parent
EVENTS = 60

Command = Sequence[str | Path]


@dataclass
class Stack:
    """All processes of the test, and their environments."""

    home: Path
    server: dict[str, str]
    client: dict[str, str]
    sandbox: str
    exits: contextlib.ExitStack
    stop_server: list[Callable[[], None]] = field(default_factory=list)
    took: list[tuple[str, float]] = field(default_factory=list)

    @property
    def api(self) -> str:
        return self.client["PREFECT_API_URL"]

    def log(self, name: str) -> Path:
        return self.home / "logs" / f"{name}.log"

    @contextlib.contextmanager
    def step(self, what: str) -> Iterator[None]:
        print(f"▸ {what} …", flush=True)
        began = time.monotonic()
        yield
        self.took.append((what, time.monotonic() - began))

    def start(self, name: str, command: Command, environment: Mapping[str, str]) -> Callable[[], None]:
        """Start a process that runs until the end of the test, or until the returned function is called."""
        with self.log(name).open("a") as log:
            process = subprocess.Popen(
                command, cwd=ROOT, env=environment, stdout=log, stderr=log, start_new_session=True
            )

        def stop() -> None:
            process.terminate()
            try:
                process.wait(timeout=20)
            except subprocess.TimeoutExpired:
                process.kill()

        self.exits.callback(stop)
        return stop

    def run(self, name: str, command: Command, environment: Mapping[str, str], *, answer: str = "") -> None:
        """Run a command until it ends; `answer` is its standard input."""
        with self.log(name).open("a") as log:
            done = subprocess.run(
                command,
                cwd=ROOT,
                env=environment,
                stdout=log,
                stderr=log,
                input=answer,
                text=True,
                check=False,
            )
        if done.returncode:
            raise FailedError(f"{name} failed, see {name}.log")


def find_redis() -> str:
    found = shutil.which("redis-server")
    if found is None:
        raise FailedError("redis-server is missing: apt-get install redis-server, then again")
    return found


async def start_stack(home: Path, postgres: Path, redis: str, exits: contextlib.ExitStack) -> Stack:
    """Start everything but the workers."""
    broker, api, sandbox = (free_port() for _ in range(3))
    login = f"admin:{secrets.token_hex(24)}"
    (home / "tmp").mkdir()
    path = f"{BIN}:{os.environ['PATH']}"
    # All workers of a machine would write to the same folder of its TMPDIR.
    ours = own_environment(home, PYTHONUNBUFFERED="1", PATH=path, TMPDIR=str(home / "tmp"))
    ours = {name: value for name, value in ours.items() if not name.startswith("MATON_")}
    settings = {name: value for name, value in dotenv_values(ROOT / "deployments" / "server.env").items() if value}
    stack = Stack(
        home,
        server=ours
        | settings
        | {
            "PREFECT_REDIS_MESSAGING_URL": f"redis://127.0.0.1:{broker}/0",
            "PREFECT_SERVER_DOCKET_URL": f"redis://127.0.0.1:{broker}/1",
            "PREFECT_SERVER_ENCRYPTION_KEY": Fernet.generate_key().decode(),
            "PREFECT_SERVER_API_AUTH_STRING": login,
            "PREFECT_SERVER_API_HOST": "127.0.0.1",
            "PREFECT_SERVER_API_PORT": str(api),
            "PREFECT_SERVER_UI_API_URL": f"http://127.0.0.1:{api}/api",
        },
        client=ours
        | {
            "PREFECT_API_URL": f"http://127.0.0.1:{api}/api",
            "PREFECT_API_AUTH_STRING": login,
            "PREFECT_UI_URL": f"http://127.0.0.1:{api}",
            "PREFECT_WORKER_QUERY_SECONDS": "1",
        },
        sandbox=f"http://127.0.0.1:{sandbox}",
        exits=exits,
    )
    (home / "logs").mkdir()
    with stack.step("PostgreSQL and Redis"):
        database = exits.enter_context(running_postgres(postgres, stack.log("postgres"), environment=ours))
        address = f"postgresql+asyncpg://{database.create('prefect')}"
        stack.server["PREFECT_SERVER_DATABASE_CONNECTION_URL"] = address
        stack.start("redis", [redis, "--port", str(broker), "--bind", "127.0.0.1", "--save", "", "--dir", home], ours)
    with stack.step("migrate"):
        stack.run("migrate", COMPOSE["migrate"]["command"], stack.server)
    with stack.step("API, services and sandbox"):
        await start_server(stack)
        key = secrets.token_urlsafe(24)
        stack.start("sandbox", [sys.executable, *sandbox_command(EVENTS, key, sandbox)], ours)
        await until(lambda: get(f"{stack.sandbox}/_sandbox/stats"), "the sandbox did not answer")
    with stack.step("block, work pool and deployments"):
        stack.run("block", ["python", "-c", SAVE_BLOCK, stack.sandbox], stack.client)
        # This keeps everything else in the block, as replacing a key does.
        stack.run("block", ["python", "-m", "deployments.keys", "maton"], stack.client, answer=key)
        stack.run("deploy", COMPOSE["deploy"]["command"], stack.client)
    return stack


SAVE_BLOCK = """
import sys
from prefect_calendly import CalendlyCredentials
CalendlyCredentials(
    api_key="an-old-key", gateway_url=f"{sys.argv[1]}/calendly", connections_url=sys.argv[1], max_concurrency=4
).save("main")
"""


async def start_server(stack: Stack) -> None:
    stack.stop_server = [stack.start(name, COMPOSE[name]["command"], stack.server) for name in ("api", "services")]
    await until(lambda: get(f"{stack.api}/ready"), "the API was not ready")
    health = COMPOSE["services"]["healthcheck"]["test"][1:]
    await until(lambda: _answers(health, stack.server), "the services were not healthy")


def _answers(command: Command, environment: Mapping[str, str]) -> bool:
    done = subprocess.run(command, env=environment, capture_output=True, timeout=20, check=False)
    return done.returncode == 0


async def until(check: Callable[[], Any], otherwise: str, seconds: float = 60) -> None:
    deadline = time.monotonic() + seconds
    while True:
        answer = check()
        if await answer if isawaitable(answer) else answer:
            return
        if time.monotonic() > deadline:
            raise FailedError(f"{otherwise} within {seconds:.0f} s")
        await asyncio.sleep(0.3)


def get(url: str, body: Any = None) -> Any:
    """Return the JSON that an address of this machine answers; None while it does not answer."""
    data = None if body is None else json.dumps(body).encode()
    try:
        with urllib.request.urlopen(url, data, timeout=10) as answer:
            return json.load(answer)
    except (urllib.error.URLError, OSError):
        return None
