"""The deployments on a Prefect as it runs in production: PostgreSQL, Redis, API and services apart, two workers.

`make scale-test` starts all of it from Debian's packages and this checkout, in a temporary folder and on free ports,
with the commands of compose.yaml and the settings of server.env. It runs the deployments against the sandbox on both
workers, compares what the runs say with what the sandbox says, changes both keys, and stops everything.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import os
import shutil
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn
from uuid import UUID

from cryptography.fernet import Fernet

from deployments.processes import contained, free_port
from tests.endurance.running import FailedError
from tests.endurance.scale_stack import COMPOSE, Stack, find_redis, get, start_server, start_stack, until
from tests.postgres import find_postgres

if TYPE_CHECKING:
    from prefect.client.orchestration import PrefectClient
    from prefect.client.schemas.objects import FlowRun

LONGEST_SECONDS = 900
CALLBACK_URL = "https://hooks.example.com/webhooks/calendly"  # as in values.example.yaml
WORKERS = ("worker-1", "worker-2")

CANCEL, DRY_RUN, APPROVAL, DIGEST, WEBHOOK = (
    "cancel-blocked-domains",
    "cancel-blocked-domains-dry-run",
    "cancel-blocked-domains-with-approval",
    "availability-digest",
    "ensure-webhook-subscription",
)
# The runs of a round start at the same time.
ROUNDS = ((DRY_RUN, DIGEST) * 3, (CANCEL, WEBHOOK) * 2, (CANCEL, WEBHOOK, DIGEST))
# Of two runs at the same time of a deployment with a limit of one, Prefect cancels the second.
EXPECTED = {
    DRY_RUN: "3 Completed",
    DIGEST: "5 Completed",
    CANCEL: "2 Completed, 1 Cancelled",
    WEBHOOK: "2 Completed, 1 Cancelled",
    APPROVAL: "1 Completed",
}


def main() -> int:
    """Run the test; return 0 if all is well, else 1."""
    argparse.ArgumentParser(prog="make scale-test", description=__doc__).parse_args()
    began, logs = time.monotonic(), ""
    try:
        postgres, redis = find_postgres(), find_redis()
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


@dataclass
class Ran:
    """A flow run, and the workers that took it."""

    deployment: str
    run: FlowRun
    workers: list[str]


async def _tested(home: Path, postgres: Path, redis: str) -> None:
    """Start everything, run the deployments, and print what was found."""
    with contextlib.ExitStack() as exits:
        exits.enter_context(contained(home))
        stack = await start_stack(home, postgres, redis, exits)
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
            raise FailedError(f"this is not true: {what}")
        self.found.append(what)

    async def schedule(self) -> None:
        """See that the scheduler makes runs, then pause all schedules, so that no other runs are added."""
        from prefect.client.schemas.filters import DeploymentFilter, DeploymentFilterId

        deployments = await self.client.read_deployments()
        scheduled = [item for item in deployments if any(schedule.active for schedule in item.schedules)]

        async def all_have_runs() -> bool:
            filters = [DeploymentFilter(id=DeploymentFilterId(any_=[item.id])) for item in scheduled]
            return all([await self.client.read_flow_runs(deployment_filter=its, limit=1) for its in filters])

        await until(all_have_runs, "not all deployments with an active schedule got runs")
        for item in scheduled:
            for schedule in item.schedules:
                await self.client.update_deployment_schedule(item.id, schedule.id, active=False)
        self.found.append(f"the services scheduled all {len(scheduled)} deployments that have an active schedule")

    async def start_worker(self, name: str) -> None:
        port, command = free_port(), [*COMPOSE["worker"]["command"], "--name", name]
        health = {"PREFECT_WORKER_WEBSERVER_HOST": "127.0.0.1", "PREFECT_WORKER_WEBSERVER_PORT": str(port)}
        command[command.index("--limit") + 1] = "4"  # fewer than the runs of the first round
        self.stack.start(name, command, self.stack.client | health)
        await until(lambda: get(f"http://127.0.0.1:{port}/health"), f"{name} is not healthy")

    async def run(self, *names: str) -> list[Ran]:
        """Start runs at the same time, and wait until each has ended or waits for a person."""
        runs = [await self.client.create_flow_run_from_deployment(self.deployments[name]) for name in names]
        ran = [Ran(name, await self.rest(run.id), []) for name, run in zip(names, runs, strict=True)]
        self.ran += ran
        return ran

    async def rest(self, run: UUID) -> FlowRun:
        """Wait until a run has ended or waits for a person; return it."""
        found: FlowRun

        async def rests() -> bool:
            nonlocal found
            found = await self.client.read_flow_run(run)
            return found.state is not None and (found.state.is_final() or found.state.is_paused())

        await until(rests, f"the flow run {run} has not ended", 120)
        return found

    async def read_plan(self) -> None:
        """Read from the tables of the dry runs what would be canceled."""
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
        canceled, stats = self.canceled(), get(f"{self.stack.sandbox}/_sandbox/stats")
        self.check(canceled == self.planned, f"exactly the {len(self.planned)} planned cancellations happened")
        self.check(stats["writes"]["cancellation"] == len(self.planned), "none of them was sent twice")
        hooks = get(f"{self.stack.sandbox}/_sandbox/state")["webhook_subscription_list"]
        ours = [hook["state"] for hook in hooks if hook["callback_url"] == CALLBACK_URL]
        self.check(ours == ["active"], "there is one webhook subscription of ours, and it is active")

    def canceled(self) -> list[str]:
        """Return the events that were canceled, as the sandbox says."""
        state = get(f"{self.stack.sandbox}/_sandbox/state")
        return sorted(event["uri"].rpartition("/")[2] for event in state["canceled_by_api"])

    async def approve(self) -> None:
        """Book twice more; a person approves that one of them is canceled."""
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
        return str(get(f"{self.stack.sandbox}/_sandbox/events", event)["uri"]).rpartition("/")[2]

    async def change_encryption_key(self) -> None:
        for stop in self.stack.stop_server:
            stop()
        key = Fernet.generate_key().decode()
        command = ["python", "-m", "deployments.keys", "encryption"]
        self.stack.run("encryption", command, self.stack.server, answer=key)
        self.stack.server["PREFECT_SERVER_ENCRYPTION_KEY"] = key
        await start_server(self.stack)
        (ran,) = await self.run(DIGEST)
        self.check(ran.run.state_name == "Completed", "after both keys were changed, the block still works")

    async def check_task_runs(self) -> None:
        """See that all task runs, which a service records through Redis, are recorded, and as completed."""
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

        await until(all_recorded, "not all task runs were recorded")
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


def _form_of(run: FlowRun) -> str:
    """Return where the form is kept that a run waits with."""
    return str(run.state.state_details.run_input_keyset["schema"])  # type: ignore[union-attr, index]


def _table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    widths = [max(map(len, column)) for column in zip(header, *rows, strict=True)]
    lines = [header, ["-" * width for width in widths], *rows]
    padded = (zip(line, widths, strict=True) for line in lines)
    return "\n".join("  ".join(f"{cell:<{width}}" for cell, width in line).rstrip() for line in padded)


if __name__ == "__main__":
    sys.exit(main())
