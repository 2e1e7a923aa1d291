"""A person decides about a plan: in a deployment's run, which ends, and goes on in another process."""

import asyncio
import json
import os
import signal
import subprocess
import sys
import time
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import pytest
from prefect.blocks.core import Block
from prefect.client.orchestration import get_client
from prefect.client.schemas.objects import ConcurrencyLimitConfig, ConcurrencyLimitStrategy, FlowRun
from prefect.flows import EntrypointType
from prefect.settings import PREFECT_API_URL
from prefect.states import AwaitingRetry, Crashed, Failed

from flows.cancel_blocked_domains import DECISIONS_KEY, SUMMARY_KEY, CancelReport, cancel_blocked_domains
from flows.record_expired_approval import EXPIRED_MESSAGES, record_expired_approval
from prefect_calendly import CalendlyCredentials
from prefect_calendly.runs.human_input import MOST_PROPOSALS
from prefect_calendly.runs.notifications import FAILED_KEY
from prefect_calendly.sandbox import Sandbox
from tests.conftest import credentials_for
from tests.notifiers import Receiver
from tests.support import artifact, no_request
from tests.world import World, uuid_of

CANCELLATION = "/scheduled_events/{uuid}/cancellation"
DOMAIN = "approval.example"
REASON = "We are closed."


class Deployed:
    """The flow as a deployment that asks a person, and runs of it, each process of which is one of its own."""

    def __init__(self, deployment: UUID, sandbox: Sandbox, block: str) -> None:
        self.deployment, self.sandbox, self.block = deployment, sandbox, block

    def book(self, *emails: str, days: float = 3) -> str:
        """Add a booking; its uuid."""
        start = self.sandbox.clock() + timedelta(days=days)
        return uuid_of(self.sandbox.add_event(start, invitees=[{"email": email} for email in emails]))

    async def start(self, **parameters: Any) -> UUID:
        policy = {"blocked_domains": [DOMAIN], "horizon_days": 5, "notify": self.block, **parameters.pop("policy", {})}
        async with get_client() as client:
            run = await client.create_flow_run_from_deployment(
                self.deployment, parameters={"policy": policy, **parameters}
            )
        return run.id

    def process(self, run: UUID) -> subprocess.Popen[str]:
        command = [sys.executable, "-m", "prefect.engine", str(run)]
        environment = {**os.environ, "PREFECT_API_URL": PREFECT_API_URL.value() or ""}
        return subprocess.Popen(
            command,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )

    async def go_on(self, run: UUID) -> FlowRun:
        """Let a process do what there is to do, as a worker does."""
        process = self.process(run)
        output, _ = await asyncio.to_thread(process.communicate, timeout=120)
        async with get_client() as client:
            ended = await client.read_flow_run(run)
        assert ended.state is not None
        assert not ended.state.is_running(), output
        return ended

    async def answer(self, run: UUID, decision: str = "approve", **members: Any) -> None:
        async with get_client() as client:
            await client.resume_flow_run(run, run_input={"decision": decision, "decided_by": "Ann Lee", **members})

    async def form(self, run: UUID) -> dict[str, Any]:
        async with get_client() as client:
            inputs = await client.filter_flow_run_input(run, "suspended-approval", limit=10, exclude_keys=set())
        found = {item.key.rpartition("-")[2]: json.loads(item.value) for item in inputs}
        return {**found["schema"], "text": found["description"]}


@pytest.fixture
async def deployed(prefect_server: None, sandbox: Sandbox, receiver: Receiver) -> Deployed:
    await credentials_for(sandbox).asave("approval", overwrite=True)
    return Deployed(await deploy("with-approval"), sandbox, receiver.block)


async def deploy(name: str, limit: ConcurrencyLimitConfig | None = None) -> UUID:
    deployment = await cancel_blocked_domains.ato_deployment(
        name,
        concurrency_limit=limit,
        parameters={
            "credentials": {"$ref": {"block_document_slug": "calendly-credentials/approval"}},
            "dry_run": False,
            "require_approval": True,
        },
        entrypoint_type=EntrypointType.MODULE_PATH,  # by a file's path, Prefect copies the whole folder for each run
    )
    return await deployment.aapply()


async def table() -> dict[str, dict[str, str]]:
    return {row["event"]: row for row in json.loads(await artifact(DECISIONS_KEY))}


def canceled(sandbox: Sandbox) -> dict[str, Any]:
    return {uuid_of(event): event["cancellation"] for event in sandbox.state()["canceled_by_api"]}


async def test_a_person_keeps_one_and_what_changed_meanwhile_is_left_alone(
    deployed: Deployed, sandbox: Sandbox, receiver: Receiver, world: World
) -> None:
    wanted, kept, gone, moved = (
        deployed.book(f"{name}@{DOMAIN}", days=days) for days, name in enumerate(("wanda", "kim", "gus", "mo"), start=1)
    )
    run = await deployed.start()
    waiting = await deployed.go_on(run)
    assert waiting.state_name == "Suspended"
    assert not canceled(sandbox)
    rows = await table()
    assert {row["what happened"] for row in rows.values()} == {"waits for approval"}
    assert (await artifact(SUMMARY_KEY)).startswith("# WAITING for approval: 4 events to cancel")
    (message,) = receiver.messages
    assert message["subject"] == "Blocked domains: WAITING for approval: 4 events to cancel, nothing was changed yet"
    assert f"/v2/runs/flow-run/{run}" in message["body"]

    form = await deployed.form(run)
    labels = form["properties"]["leave"]["items"]["enum"]
    assert [label[:3] for label in labels] == ["1. ", "2. ", "3. ", "4. "]
    assert labels[0].endswith(f", w…@approval.example (invitee of {DOMAIN})")
    assert form["required"] == ["decision", "decided_by"]
    assert form["text"].startswith("# Cancel 4 events?\n\n1. ")
    assert "wanda" not in json.dumps(form)

    world.cancel(gone, "I am ill")
    sandbox.reschedule_event(moved, sandbox.clock() + timedelta(days=9))
    sandbox.reset_stats()
    await deployed.answer(run, leave=[labels[1]], reason=f" {REASON}")
    done = await deployed.go_on(run)

    assert done.state_name == "Completed", done.state
    assert canceled(sandbox).keys() == {wanted, gone}
    assert canceled(sandbox)[wanted]["reason"] == REASON
    assert sandbox.stats()["by_route"] == {
        "GET /scheduled_events/{uuid}": 3,
        "GET /scheduled_events/{uuid}/invitees": 2,  # of those found canceled: was it a move?
        f"POST {CANCELLATION}": 1,
    }
    rows = await table()
    assert {uuid: row["what happened"] for uuid, row in rows.items()} == {
        wanted: "canceled",
        kept: "not canceled: not approved",
        gone: "already canceled",
        moved: "left alone: moved meanwhile, to a new event",
    }
    today = f"{datetime.now(UTC):%Y-%m-%d}"
    assert all(row["decided by"].startswith(f"Ann Lee, {today}") for row in rows.values())
    assert f"- 3 of 4 approved by Ann Lee, {today}" in await artifact(SUMMARY_KEY)
    assert [message["subject"] for message in receiver.messages[1:]] == ["Blocked domains: 1 event canceled"]


async def test_a_rejected_plan_changes_nothing_and_asks_calendly_nothing(
    deployed: Deployed, sandbox: Sandbox, receiver: Receiver
) -> None:
    event = deployed.book(f"eve@{DOMAIN}")
    run = await deployed.start()
    await deployed.go_on(run)
    await deployed.answer(run, "reject")
    with no_request(sandbox):
        done = await deployed.go_on(run)
    assert done.state_name == "Completed"
    assert not canceled(sandbox)
    assert (await table())[event]["what happened"] == "not canceled: rejected"
    assert (await table())[event]["decided by"].startswith("Ann Lee, ")
    assert (await artifact(SUMMARY_KEY)).startswith("# REJECTED: 1 event to cancel, nothing was changed")
    assert receiver.messages[-1]["subject"] == "Blocked domains: REJECTED: 1 event to cancel, nothing was changed"


async def test_a_plan_that_nobody_decides_about_in_time_ends_as_failed_and_is_written_down(
    deployed: Deployed, sandbox: Sandbox, receiver: Receiver
) -> None:
    event = deployed.book(f"eve@{DOMAIN}")
    run = await deployed.start()
    await deployed.go_on(run)
    async with get_client() as client:  # as a service of the server does, which this test's server lacks
        await client.set_flow_run_state(run, Failed(message=EXPIRED_MESSAGES[0]), force=True)
    assert await record_expired_approval(run) is True
    assert not canceled(sandbox)
    row = (await table())[event]
    assert row["what happened"] == "not canceled: nobody decided in time"
    assert row["decided by"] == "nobody"
    assert (await artifact(SUMMARY_KEY)).startswith("# NOT APPROVED: nobody decided in time about 1 event")
    assert receiver.messages[-1]["subject"].startswith("Blocked domains: NOT APPROVED")
    assert f"/v2/runs/flow-run/{run}" in receiver.messages[-1]["body"]


async def test_a_run_that_is_killed_after_the_approval_does_what_is_left_and_asks_nobody_again(
    deployed: Deployed, sandbox: Sandbox, receiver: Receiver
) -> None:
    events = {deployed.book(f"eve{number}@{DOMAIN}", days=1 + number / 10) for number in range(4)}
    run = await deployed.start()
    await deployed.go_on(run)
    await deployed.answer(run)
    sandbox.fault("latency", method="POST", route=CANCELLATION, skip=2, times=None, seconds=600)
    process = deployed.process(run)
    deadline = time.monotonic() + 120
    while len(canceled(sandbox)) < 3:
        assert process.poll() is None
        assert time.monotonic() < deadline
        await asyncio.sleep(0.05)
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate()
    sandbox.clear_faults()
    async with get_client() as client:  # as the automation for runs without a heartbeat does
        await client.set_flow_run_state(run, Crashed())
        await client.set_flow_run_state(run, AwaitingRetry())
    done = await deployed.go_on(run)
    assert done.state_name == "Completed"
    assert canceled(sandbox).keys() == events
    assert sandbox.stats()["writes"]["cancellation"] == 4
    assert len(receiver.messages) == 2  # one before, one after
    assert "or by this run before it was interrupted" in await artifact(SUMMARY_KEY)


async def test_a_run_that_starts_again_after_nobody_decided_plans_and_asks_anew(
    deployed: Deployed, sandbox: Sandbox, receiver: Receiver
) -> None:
    deployed.book(f"eve@{DOMAIN}")
    run = await deployed.start(approval_hours=1 / 3600)
    await deployed.go_on(run)
    later = deployed.book(f"eva@{DOMAIN}")
    async with get_client() as client:
        await client.set_flow_run_state(run, Failed(message=EXPIRED_MESSAGES[0]), force=True)
        await client.set_flow_run_state(run, AwaitingRetry())
    assert (await deployed.go_on(run)).state_name == "Suspended"
    assert (await table())[later]["what happened"] == "waits for approval"
    assert len(receiver.messages) == 2


async def test_a_notification_block_that_is_gone_meanwhile_keeps_no_approval_from_being_done(
    deployed: Deployed, sandbox: Sandbox
) -> None:
    event = deployed.book(f"eve@{DOMAIN}")
    run = await deployed.start()
    await deployed.go_on(run)
    await Block.adelete(deployed.block)
    await deployed.answer(run)
    assert (await deployed.go_on(run)).state_name == "Completed"
    assert canceled(sandbox).keys() == {event}
    assert "Blocked domains: 1 event canceled" in await artifact(FAILED_KEY)


async def test_a_deployment_that_would_cancel_the_run_when_it_goes_on_is_refused(
    deployed: Deployed, sandbox: Sandbox
) -> None:
    deployed.book(f"eve@{DOMAIN}")
    limit = ConcurrencyLimitConfig(limit=1, collision_strategy=ConcurrencyLimitStrategy.CANCEL_NEW)
    deployed.deployment = await deploy("hourly", limit)
    run = await deployed.start()
    with no_request(sandbox):
        ended = await deployed.go_on(run)
    assert ended.state is not None
    assert "this deployment cancels a run that starts while another is under way" in str(ended.state.message)


async def test_a_recorder_writes_nothing_about_a_run_that_has_ended_otherwise(deployed: Deployed) -> None:
    run = await deployed.start()
    assert await record_expired_approval(run) is False


async def test_without_a_deployment_nobody_can_be_asked_and_nothing_is_done(
    sandbox: Sandbox, credentials: CalendlyCredentials, prefect_server: None
) -> None:
    with no_request(sandbox), pytest.raises(ValueError, match="only a run of a deployment can wait for a person"):
        await cancel_blocked_domains(
            credentials,
            {"blocked_domains": [DOMAIN]},
            dry_run=False,
            require_approval=True,  # type: ignore[arg-type]
        )


async def test_a_dry_run_asks_nobody(credentials: CalendlyCredentials, prefect_server: None) -> None:
    report: CancelReport = await cancel_blocked_domains(
        credentials,
        {"blocked_domains": [DOMAIN]},
        require_approval=True,  # type: ignore[arg-type]
    )
    assert report.dry_run


async def test_more_than_a_person_can_look_at_is_refused(deployed: Deployed, sandbox: Sandbox) -> None:
    for number in range(MOST_PROPOSALS + 1):
        deployed.book(f"eve{number}@{DOMAIN}")
    run = await deployed.start(policy={"max_cancellations": 500})
    ended = await deployed.go_on(run)
    assert ended.state is not None
    assert ended.state.is_failed()
    assert f"a person can decide about {MOST_PROPOSALS} at once: none was canceled" in str(ended.state.message)
    assert not canceled(sandbox)
