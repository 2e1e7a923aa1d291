"""The cancel flow as a deployment that asks a person, and what is seen of its runs."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from datetime import timedelta
from typing import Any
from uuid import UUID

import pytest
from prefect.client.orchestration import get_client
from prefect.client.schemas.objects import ConcurrencyLimitConfig, FlowRun
from prefect.exceptions import Pause
from prefect.flow_engine import run_flow
from prefect.flows import EntrypointType
from prefect.settings import PREFECT_API_URL

from flows.cancel_blocked_domains import cancel_blocked_domains
from prefect_calendly import CalendlyCredentials
from prefect_calendly.sandbox import Sandbox
from prefect_calendly.screening.page import DECISIONS_KEY
from tests.support import artifact
from tests.world import uuid_of

CANCELLATION = "/scheduled_events/{uuid}/cancellation"
DOMAIN = "approval.example"
REASON = "We are closed."


class Deployed:
    """The flow as a deployment that asks a person, and runs of it."""

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
        """Run it in a process of its own, as a worker does."""
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

    async def go_on(self, run: UUID) -> None:
        """Run it in this process, to its end."""
        await run_flow(cancel_blocked_domains, flow_run=await self.read(run))  # type: ignore[misc]

    async def wait(self, run: UUID) -> FlowRun:
        """Run it in this process, until it waits for a person."""
        with pytest.raises(Pause):
            await self.go_on(run)
        return await self.read(run)

    async def read(self, run: UUID) -> FlowRun:
        async with get_client() as client:
            return await client.read_flow_run(run)

    async def answer(self, run: UUID, decision: str = "approve", **members: Any) -> None:
        async with get_client() as client:
            await client.resume_flow_run(run, run_input={"decision": decision, "decided_by": "Ann Lee", **members})

    async def form(self, run: UUID) -> dict[str, Any]:
        async with get_client() as client:
            inputs = await client.filter_flow_run_input(run, "suspended-approval", limit=10, exclude_keys=set())
        found = {item.key.rpartition("-")[2]: json.loads(item.value) for item in inputs}
        return {**found["schema"], "text": found["description"]}


async def deploy(credentials: CalendlyCredentials, name: str, limit: ConcurrencyLimitConfig | None = None) -> UUID:
    """Save the credentials under the deployment's name, and deploy the flow with them; the deployment's id."""
    await credentials.asave(name, overwrite=True)
    deployment = await cancel_blocked_domains.ato_deployment(
        name,
        concurrency_limit=limit,
        parameters={
            "credentials": {"$ref": {"block_document_slug": f"calendly-credentials/{name}"}},
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
