"""The deployments on a Prefect as it is run for real: PostgreSQL, Redis, API and services apart, two workers.

`make scale-test` starts all of it from Debian's packages and this checkout, in a temporary folder and on free ports,
with the commands of compose.yaml and the settings of server.env; lets the deployments run against the sandbox on both
workers; compares what the runs say with what the sandbox says; changes both keys; and stops all of it.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import os
import pwd
import secrets
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from inspect import isawaitable
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn
from uuid import UUID

import yaml
from cryptography.fernet import Fernet
from dotenv import dotenv_values

from deployments.local import own_environment, sandbox_command
from deployments.processes import MARK, contained, free_port

if TYPE_CHECKING:
    from prefect.client.orchestration import PrefectClient
    from prefect.client.schemas.objects import FlowRun

ROOT = Path(__file__).parent.parent.parent
COMPOSE = yaml.safe_load((ROOT / "deployments" / "compose.yaml").read_text())["services"]
BIN = Path(sys.executable).parent
DEBIAN = Path("/usr/lib/postgresql")
LONGEST_SECONDS = 340
EVENTS = 60
CALLBACK_URL = "https://hooks.example.com/webhooks/calendly"  # as in prefect.yaml
WORKERS = ("worker-1", "worker-2")

CANCEL, DRY_RUN, APPROVAL, DIGEST, WEBHOOK = (
    "cancel-blocked-domains",
    "cancel-blocked-domains-dry-run",
    "cancel-blocked-domains-with-approval",
    "availability-digest",
    "ensure-webhook-subscription",
)
# Started at once, one round after the other.
ROUNDS = ((DRY_RUN, DIGEST) * 3, (CANCEL, WEBHOOK) * 2, (CANCEL, WEBHOOK, DIGEST))
# Of two at once of a deployment with a limit of one, Prefect cancels the second.
EXPECTED = {
    DRY_RUN: "3 Completed",
    DIGEST: "5 Completed",
    CANCEL: "2 Completed, 1 Cancelled",
    WEBHOOK: "2 Completed, 1 Cancelled",
    APPROVAL: "1 Completed",
}

Command = Sequence[str | Path]


class FailedError(Exception):
    """What is told in one line."""


@dataclass
class Stack:
    """All processes of the test, and what they are told."""

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

    def start(
        self,
        name: str,
        command: Command,
        environment: Mapping[str, str],
        *,
        user: str | None = None,
        end_with: signal.Signals = signal.SIGTERM,
    ) -> Callable[[], None]:
        """Start what runs until the end of the test, or until what is returned is called."""
        with self.log(name).open("a") as log:
            process = subprocess.Popen(
                command, cwd=ROOT, env=environment, stdout=log, stderr=log, start_new_session=True, **_as(user)
            )

        def stop() -> None:
            process.send_signal(end_with)
            try:
                process.wait(timeout=20)
            except subprocess.TimeoutExpired:
                process.kill()

        self.exits.callback(stop)
        return stop

    def do(
        self, name: str, command: Command, environment: Mapping[str, str], *, user: str | None = None, answer: str = ""
    ) -> None:
        """Do what ends by itself; `answer` is what it is told on its standard input."""
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
                **_as(user),
            )
        if done.returncode:
            raise FailedError(f"{name} failed, see {name}.log")


def _as(user: str | None) -> dict[str, Any]:
    return {"user": user, "group": user, "extra_groups": []} if user else {}


def main() -> int:
    """Run the test; return 0 if all was as it should be."""
    argparse.ArgumentParser(prog="make scale-test", description=__doc__).parse_args()
    began, logs = time.monotonic(), ""
    try:
        postgres, redis = _postgres(), _redis()
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGALRM):
            signal.signal(number, _stop)
        signal.alarm(LONGEST_SECONDS)
        home = Path(tempfile.mkdtemp(prefix="scale-test-"))
        logs = f"; logs are in {home / 'logs'}"
        asyncio.run(_tested(home, postgres, redis))
    except FailedError as error:
        print(f"scale-test: {error}{logs}", file=sys.stderr)
        return 1
    shutil.rmtree(home)
    print(f"\nDone in {time.monotonic() - began:.0f} s; nothing is left running.")
    return 0


def _stop(number: int, frame: Any) -> NoReturn:
    signal.alarm(0)
    why = f"it took longer than {LONGEST_SECONDS} s" if number == signal.SIGALRM else "it was stopped"
    raise FailedError(f"{why}, and has ended all its processes")


def _postgres() -> Path:
    """Return the folder of the newest PostgreSQL's programs."""
    debian = sorted(DEBIAN.glob("*/bin/initdb"), key=lambda path: int(path.parts[-3]))
    found = str(debian[-1]) if debian else shutil.which("initdb")
    if found is None:
        raise FailedError("PostgreSQL's initdb is missing: apt-get install postgresql, then again")
    return Path(found).parent


def _redis() -> str:
    found = shutil.which("redis-server")
    if found is None:
        raise FailedError("redis-server is missing: apt-get install redis-server, then again")
    return found


# Starting


async def _started(home: Path, postgres: Path, redis: str, exits: contextlib.ExitStack) -> Stack:
    """Start everything but the workers."""
    database, broker, api, sandbox = (free_port() for _ in range(4))
    password, login = secrets.token_hex(24), f"admin:{secrets.token_hex(24)}"
    (home / "tmp").mkdir()
    path = f"{BIN}:{os.environ['PATH']}"
    # Workers of all users of a machine want to write to the same folder of its TMPDIR.
    ours = own_environment(home, PYTHONUNBUFFERED="1", PATH=path, TMPDIR=str(home / "tmp"))
    ours = {name: value for name, value in ours.items() if not name.startswith("MATON_")}
    settings = {name: value for name, value in dotenv_values(ROOT / "deployments" / "server.env").items() if value}
    stack = Stack(
        home,
        server=ours
        | settings
        | {
            "PREFECT_SERVER_DATABASE_CONNECTION_URL": f"postgresql+asyncpg://prefect:{password}@127.0.0.1:{database}/prefect",
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
        await _start_postgres(stack, postgres, database, password)
        stack.start("redis", [redis, "--port", str(broker), "--bind", "127.0.0.1", "--save", "", "--dir", home], ours)
    with stack.step("migrate"):
        stack.do("migrate", COMPOSE["migrate"]["command"], stack.server)
    with stack.step("API, services and sandbox"):
        await _start_server(stack)
        key = secrets.token_urlsafe(24)
        stack.start("sandbox", [sys.executable, *sandbox_command(EVENTS, key, sandbox)], ours)
        await _until(lambda: _get(f"{stack.sandbox}/_sandbox/stats"), "the sandbox did not answer")
    with stack.step("block, work pool and deployments"):
        stack.do("block", ["python", "-c", SAVE_BLOCK, stack.sandbox], stack.client)
        # As a key is changed: all else that stands in the block stays.
        stack.do("block", ["python", "-m", "deployments.keys", "maton"], stack.client, answer=key)
        stack.do("deploy", COMPOSE["deploy"]["command"], stack.client)
    return stack


SAVE_BLOCK = """
import sys
from prefect_calendly import CalendlyCredentials
CalendlyCredentials(
    api_key="an-old-key", gateway_url=f"{sys.argv[1]}/calendly", connections_url=sys.argv[1], max_concurrency=4
).save("main")
"""


async def _start_server(stack: Stack) -> None:
    stack.stop_server = [stack.start(name, COMPOSE[name]["command"], stack.server) for name in ("api", "services")]
    await _until(lambda: _get(f"{stack.api}/ready"), "the API was not ready")
    health = COMPOSE["services"]["healthcheck"]["test"][1:]
    await _until(lambda: _answers(health, stack.server), "the services were not healthy")


async def _start_postgres(stack: Stack, programs: Path, port: int, password: str) -> None:
    """PostgreSQL refuses to run as root: then it is the user of Debian's package."""
    folder = stack.home / "postgres"
    folder.mkdir(mode=0o700)
    user = None
    if os.geteuid() == 0:
        try:
            owner = pwd.getpwnam("postgres")
        except KeyError:
            raise FailedError("there is no user postgres: apt-get install postgresql, or do not run as root") from None
        user = owner.pw_name
        os.chown(folder, owner.pw_uid, owner.pw_gid)
        stack.home.chmod(0o711)
    secret = folder / "password"
    secret.write_text(password)
    data, environment = folder / "data", {name: stack.client[name] for name in (MARK, "PATH")} | {"LC_ALL": "C.UTF-8"}
    initdb: Command = [programs / "initdb", "--username=prefect", "--auth=scram-sha-256", "--pwfile", secret, data]
    stack.do("postgres", initdb, environment, user=user)
    settings = ["-p", str(port), "-c", "listen_addresses=127.0.0.1", "-c", "unix_socket_directories="]
    # To PostgreSQL, SIGINT means: end now, and properly.
    server: Command = [programs / "postgres", "-D", data, *settings]
    stack.start("postgres", server, environment, user=user, end_with=signal.SIGINT)
    there = ["--host=127.0.0.1", f"--port={port}"]
    await _until(lambda: _answers([programs / "pg_isready", *there], environment), "PostgreSQL was not ready")
    createdb: Command = [programs / "createdb", *there, "--username=prefect", "prefect"]
    stack.do("postgres", createdb, environment | {"PGPASSWORD": password})


def _answers(command: Command, environment: Mapping[str, str]) -> bool:
    done = subprocess.run(command, env=environment, capture_output=True, timeout=20, check=False)
    return done.returncode == 0


async def _until(check: Callable[[], Any], otherwise: str, seconds: float = 60) -> None:
    deadline = time.monotonic() + seconds
    while True:
        answer = check()
        if await answer if isawaitable(answer) else answer:
            return
        if time.monotonic() > deadline:
            raise FailedError(f"{otherwise} within {seconds:.0f} s")
        await asyncio.sleep(0.3)


def _get(url: str, body: Any = None) -> Any:
    """Return what an address of this machine answers; None as long as it does not."""
    data = None if body is None else json.dumps(body).encode()
    try:
        with urllib.request.urlopen(url, data, timeout=10) as answer:
            return json.load(answer)
    except (urllib.error.URLError, OSError):
        return None


def _form_of(run: FlowRun) -> str:
    """Return where the form is kept that a run waits with."""
    return str(run.state.state_details.run_input_keyset["schema"])  # type: ignore[union-attr, index]


def _table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    widths = [max(map(len, column)) for column in zip(header, *rows, strict=True)]
    lines = [header, ["-" * width for width in widths], *rows]
    padded = (zip(line, widths, strict=True) for line in lines)
    return "\n".join("  ".join(f"{cell:<{width}}" for cell, width in line).rstrip() for line in padded)


# Running


@dataclass
class Ran:
    """One flow run, and who took it how often."""

    deployment: str
    run: FlowRun
    workers: list[str]


async def _tested(home: Path, postgres: Path, redis: str) -> None:
    """Start everything, let the deployments run, and say what was found to be so."""
    with contextlib.ExitStack() as exits:
        exits.enter_context(contained(home))
        stack = await _started(home, postgres, redis, exits)
        os.environ.clear()
        os.environ.update(stack.client)
        from prefect.client.orchestration import get_client

        async with get_client() as client:
            test = _Test(stack, client, {item.name: item.id for item in await client.read_deployments()})
            with stack.step("schedules"):
                await test.schedule()
            with stack.step("two workers"):
                for name in WORKERS:
                    await test.start_worker(name)
            for number, names in enumerate(ROUNDS, 1):
                with stack.step(f"round {number}: {len(names)} runs at once"):
                    await test.run(*names)
                if number == 1:
                    await test.read_plan()
            test.check_cancellations()
            with stack.step("a run that waits for a person"):
                await test.approve()
            with stack.step("what the services have recorded"):
                await test.check_task_runs()
            with stack.step("another encryption key, and a run"):
                await test.change_encryption_key()
        table = test.table()
        test.check_runs()
    print(f"\n{_table(('step', 'seconds'), [(what, f'{seconds:.1f}') for what, seconds in stack.took])}")
    print(f"\n{table}\n")
    print("\n".join(f"✓ {what}" for what in test.found))


class _Test:
    def __init__(self, stack: Stack, client: PrefectClient, deployments: dict[str, UUID]) -> None:
        self.stack, self.client, self.deployments = stack, client, deployments
        self.ran: list[Ran] = []
        self.planned: list[str] = []
        self.found: list[str] = []

    def check(self, right: bool, what: str) -> None:
        if not right:
            raise FailedError(f"it is not so that {what}")
        self.found.append(what)

    async def schedule(self) -> None:
        """Scheduling is a service: see that it works; then pause it, for it would add runs of its own."""
        from prefect.client.schemas.filters import DeploymentFilter, DeploymentFilterId

        deployments = await self.client.read_deployments()
        scheduled = [item for item in deployments if any(schedule.active for schedule in item.schedules)]

        async def all_have_runs() -> bool:
            filters = [DeploymentFilter(id=DeploymentFilterId(any_=[item.id])) for item in scheduled]
            return all([await self.client.read_flow_runs(deployment_filter=its, limit=1) for its in filters])

        await _until(all_have_runs, "not all deployments with an active schedule got runs")
        for item in scheduled:
            for schedule in item.schedules:
                await self.client.update_deployment_schedule(item.id, schedule.id, active=False)
        self.found.append(f"the services scheduled all {len(scheduled)} deployments that have an active schedule")

    async def start_worker(self, name: str) -> None:
        port, command = free_port(), [*COMPOSE["worker"]["command"], "--name", name]
        health = {"PREFECT_WORKER_WEBSERVER_HOST": "127.0.0.1", "PREFECT_WORKER_WEBSERVER_PORT": str(port)}
        command[command.index("--limit") + 1] = "4"  # at once, so that the first round is more than one worker takes
        self.stack.start(name, command, self.stack.client | health)
        await _until(lambda: _get(f"http://127.0.0.1:{port}/health"), f"{name} is not healthy")

    async def run(self, *names: str) -> list[Ran]:
        """Start runs at once, and wait until each has ended or waits for a person."""
        runs = [await self.client.create_flow_run_from_deployment(self.deployments[name]) for name in names]
        ran = [Ran(name, await self.rest(run.id), []) for name, run in zip(names, runs, strict=True)]
        self.ran += ran
        return ran

    async def rest(self, run: UUID) -> FlowRun:
        """Return a run as soon as nothing more happens in it by itself."""
        found: FlowRun

        async def rests() -> bool:
            nonlocal found
            found = await self.client.read_flow_run(run)
            return found.state is not None and (found.state.is_final() or found.state.is_paused())

        await _until(rests, f"the flow run {run} has not ended", 120)
        return found

    async def read_plan(self) -> None:
        """What would be canceled, as the dry runs say in their tables."""
        from prefect.client.schemas.filters import ArtifactFilter, ArtifactFilterFlowRunId, ArtifactFilterKey

        plans = []
        for ran in (ran for ran in self.ran if ran.deployment == DRY_RUN):
            wanted = ArtifactFilter(
                flow_run_id=ArtifactFilterFlowRunId(any_=[ran.run.id]),
                key=ArtifactFilterKey(any_=["cancel-blocked-domains-decisions"]),
            )
            (table,) = await self.client.read_artifacts(artifact_filter=wanted)
            rows = [row for row in json.loads(str(table.data)) if "would be canceled" in row.values()]
            plans.append(sorted(row["event"] for row in rows))
        self.check(plans[0] == plans[1] == plans[2] != [], "all dry runs propose the same cancellations")
        self.planned = plans[0]

    def check_cancellations(self) -> None:
        canceled, stats = self.canceled(), _get(f"{self.stack.sandbox}/_sandbox/stats")
        self.check(canceled == self.planned, f"exactly the {len(self.planned)} planned cancellations happened")
        self.check(stats["writes"]["cancellation"] == len(self.planned), "none of them was sent twice")
        hooks = _get(f"{self.stack.sandbox}/_sandbox/state")["webhook_subscription_list"]
        ours = [hook["state"] for hook in hooks if hook["callback_url"] == CALLBACK_URL]
        self.check(ours == ["active"], "there is one webhook subscription of ours, and it is active")

    def canceled(self) -> list[str]:
        """The events that were canceled, as the sandbox says."""
        state = _get(f"{self.stack.sandbox}/_sandbox/state")
        return sorted(event["uri"].rpartition("/")[2] for event in state["canceled_by_api"])

    async def approve(self) -> None:
        """Two more bookings; a person lets one of them be canceled."""
        before = self.canceled()
        booked = [self.book(days) for days in (2, 3)]
        (asked,) = await self.run(APPROVAL)
        waits = asked.run.state_name == "Suspended" and self.canceled() == before
        self.check(waits, "a run with approval waits before it cancels anything")
        form = await self.client.read_flow_run_input(asked.run.id, _form_of(asked.run))
        second = json.loads(form)["properties"]["leave"]["items"]["enum"][1]
        answer = {"decision": "approve", "decided_by": "scale test", "leave": [second]}
        await self.client.resume_flow_run(asked.run.id, run_input=answer)
        asked.run = await self.rest(asked.run.id)
        self.check(self.canceled() == sorted([*before, booked[0]]), "of two bookings, the approved one was canceled")

    def book(self, days: int) -> str:
        start = (datetime.now(UTC) + timedelta(days=days)).isoformat()
        event = {"start_time": start, "invitees": [{"email": "someone@blocked.example"}]}
        return str(_get(f"{self.stack.sandbox}/_sandbox/events", event)["uri"]).rpartition("/")[2]

    async def change_encryption_key(self) -> None:
        for stop in self.stack.stop_server:
            stop()
        key = Fernet.generate_key().decode()
        command = ["python", "-m", "deployments.keys", "encryption"]
        self.stack.do("encryption", command, self.stack.server, answer=key)
        self.stack.server["PREFECT_SERVER_ENCRYPTION_KEY"] = key
        await _start_server(self.stack)
        (ran,) = await self.run(DIGEST)
        self.check(ran.run.state_name == "Completed", "after both keys were changed, the block still works")

    async def check_task_runs(self) -> None:
        """Task runs reach the database through Redis and a service: see that none is lost or left half way."""
        from prefect.client.schemas.filters import FlowRunFilter, FlowRunFilterId

        count = 0

        async def all_recorded() -> bool:
            nonlocal count
            ours = FlowRunFilter(id=FlowRunFilterId(any_=[ran.run.id for ran in self.ran]))
            runs = await self.client.read_task_runs(flow_run_filter=ours, limit=200)
            count = len(runs)
            with_tasks = {run.flow_run_id for run in runs}
            completed = {ran.run.id for ran in self.ran if ran.run.state_name == "Completed"}
            return with_tasks == completed and all(run.state_name == "Completed" for run in runs)

        await _until(all_recorded, "not all task runs were recorded")
        self.found.append(f"the services recorded {count} task runs, all of them as completed")

    def check_runs(self) -> None:
        ended = {name: self.ended(name) for name in EXPECTED}
        self.check(ended == EXPECTED, f"{len(self.ran)} runs ended as expected")
        taken = Counter(worker for ran in self.ran for worker in ran.workers)
        self.check(taken.keys() == set(WORKERS), f"both workers took runs: {' and '.join(map(str, taken.values()))}")
        times = {"Completed": 1, "Cancelled": 0}
        wrong = [r for r in self.ran if len(r.workers) != times[str(r.run.state_name)] + (r.deployment == APPROVAL)]
        self.check(not wrong, "no run was run twice, even where both workers reached for it")

    def ended(self, name: str) -> str:
        states = Counter(ran.run.state_name for ran in self.ran if ran.deployment == name)
        return ", ".join(f"{count} {state}" for state, count in states.most_common())

    def table(self) -> str:
        for worker in WORKERS:
            log = self.stack.log(worker).read_text()
            for ran in self.ran:
                # The server refuses a worker a run that another one has, or that is over the deployment's limit.
                tried = log.count(f"submitting flow run '{ran.run.id}'")
                refused = log.count(f"Aborted submission of flow run '{ran.run.id}'")
                ran.workers += [worker] * (tried - refused)
        rows = []
        for name in EXPECTED:
            its = [ran for ran in self.ran if ran.deployment == name]
            taken = Counter(worker for ran in its for worker in ran.workers)
            seconds = [ran.run.total_run_time.total_seconds() for ran in its if ran.run.state_name == "Completed"]
            rows.append((name, self.ended(name), *(str(taken[worker]) for worker in WORKERS), f"{max(seconds):.1f}"))
        return _table(("deployment", "runs ended", *WORKERS, "longest, seconds"), rows)


if __name__ == "__main__":
    sys.exit(main())
