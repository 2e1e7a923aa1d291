"""What `make up` does once its processes run: block, work pool, deployments, and a few runs to look at."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any
from uuid import UUID

from prefect.client.orchestration import PrefectClient, get_client
from prefect.client.schemas.actions import DeploymentUpdate, WorkPoolCreate
from prefect.client.schemas.filters import FlowRunFilter, FlowRunFilterState, FlowRunFilterStateType
from prefect.client.schemas.objects import FlowRun, StateType
from prefect.deployments import arun_deployment
from prefect.exceptions import ObjectAlreadyExists
from prefect.states import AwaitingRetry, Cancelled, Crashed
from prefect.workers.process import ProcessWorker

from deployments.check import automations, prefect_yaml
from deployments.files import EXAMPLE_VALUES, FILE, ROOT, VALUES
from deployments.own_server import add_sign_in_page, server_settings, ui_link
from prefect_calendly import CalendlyCredentials

SUBSCRIPTION = "ensure-webhook-subscription/ensure-webhook-subscription"
_LONGEST_RUN_SECONDS = 300


class SetupError(Exception):
    """Something went wrong; the message says what, in one line."""


def main() -> int:
    """Set everything up, then wait to be stopped; return 1 if it fails, which ends `make up`."""
    parser = argparse.ArgumentParser(prog="python -m deployments.setup", description=__doc__)
    parser.add_argument("home", type=Path)
    parser.add_argument("api")
    parser.add_argument("sandbox")
    parser.add_argument("receiver")
    parser.add_argument("--no-runs", action="store_true")
    options = parser.parse_args()
    try:
        asyncio.run(set_up(options.home, options.api, options.sandbox, options.receiver, runs=not options.no_runs))
    except Exception as error:  # a traceback would hide the reason
        print(f"make up: {error if isinstance(error, SetupError) else repr(error)}", flush=True)
        return 1
    threading.Event().wait()
    return 0


async def set_up(home: Path, api: str, sandbox: str, receiver: str, *, runs: bool) -> None:
    """Set everything up, and print the progress.

    Raises:
        SetupError: Something did not work.
    """
    if found := prefect_yaml.problems() + automations.problems():
        raise SetupError("the deployments have mistakes:\n  " + "\n  ".join(found))
    state = json.loads((home / "state.json").read_text())
    key, link = state["sandbox_key"], partial(ui_link, state["port"], state["password"])
    await _wait_for(f"{sandbox}/_sandbox/stats", "the sandbox", 60)
    say(f"Sandbox gateway: {sandbox}/calendly")
    await _wait_for(f"{api}/api/health", "the Prefect server", 180)
    add_sign_in_page(home / "ui")
    say(f"Prefect server: {link('/dashboard')}")
    credentials = CalendlyCredentials(api_key=key, gateway_url=f"{sandbox}/calendly", connections_url=sandbox)
    await credentials.asave("main", overwrite=True)
    template = ProcessWorker.get_default_base_job_template()
    async with get_client() as client:
        with contextlib.suppress(ObjectAlreadyExists):
            await client.create_work_pool(WorkPoolCreate(name="calendly", type="process", base_job_template=template))
        nothing_yet = not await client.read_flow_runs(limit=1)
        await _reschedule_interrupted(client)
    (home / "worker-may-start").touch()
    say("Block calendly-credentials/main and work pool calendly exist; the worker starts")
    await _deploy(home)
    await _deliver_to(receiver)
    if nothing_yet:
        await _switch_on(SUBSCRIPTION, "cancel-blocked-domains/cancel-blocked-domains")
    say("Deployments exist")
    if runs and nothing_yet:
        await _first_runs(link, sandbox)
    elif runs:
        await _run(SUBSCRIPTION)  # the sandbox has forgotten the last one
    part = home / "up.json.part"
    part.touch(mode=0o600)
    ready = {"api_url": f"{api}/api", "ui_url": api, "receiver_url": receiver, "sandbox_url": sandbox}
    ready["sandbox_key"] = key
    ready["auth_string"] = server_settings(state["port"], state["password"])["PREFECT_API_AUTH_STRING"]
    part.write_text(json.dumps(ready, indent=2) + "\n")
    part.rename(home / "up.json")  # atomic, for whoever waits for it
    if runs:
        say("Book a meeting, and watch the deployment screen-booking cancel it:")
        print(f"    {sys.executable} -m prefect_calendly.sandbox book jane@blocked.example --url {sandbox}", flush=True)
    say(f"Ready. Open {link('/deployments')} (Ctrl-C stops everything).")


def say(text: str) -> None:
    print(f"▸ {text}", flush=True)


async def _deploy(home: Path) -> None:
    """Deploy with the example's values: the sandbox has bookings from its domains."""
    file, log = home / "prefect.yaml", home / "logs" / "deploy.log"
    file.write_text(FILE.read_text(encoding="utf-8").replace(VALUES, EXAMPLE_VALUES), encoding="utf-8")
    command = [sys.executable, "-m", "prefect", "--no-prompt", "deploy", "--prefect-file", str(file), "--all"]
    with log.open("w") as output:
        process = await asyncio.create_subprocess_exec(*command, cwd=ROOT, stdout=output, stderr=subprocess.STDOUT)
        if await process.wait():
            raise SetupError(f"the deployments could not be made; see {log}")


async def _deliver_to(receiver: str) -> None:
    """Subscribe the receiver on this machine, without a backfill: what the sandbox forgets was not missed."""
    async with get_client() as client:
        deployment = await client.read_deployment_by_name(SUBSCRIPTION)
        here = {"callback_url": f"{receiver}/webhooks/calendly", "backfill": False}
        subscription = {**deployment.parameters["subscription"], **here}
        update = DeploymentUpdate(parameters={**deployment.parameters, "subscription": subscription})
        await client.update_deployment(deployment.id, update)


async def _switch_on(*names: str) -> None:
    """Switch on schedules that are off until a person has looked: nothing here reaches a real calendar."""
    async with get_client() as client:
        for name in names:
            deployment = await client.read_deployment_by_name(name)
            for schedule in deployment.schedules:
                await client.update_deployment_schedule(deployment.id, schedule.id, active=True)


async def _reschedule_interrupted(client: PrefectClient) -> None:
    """Reschedule the runs that were under way when `make up` was stopped: no worker runs yet, so none is alive.

    On a server with PostgreSQL, deployments/automations.yaml does this.
    """
    under_way = [StateType.PENDING, StateType.RUNNING, StateType.CANCELLING]
    states = FlowRunFilterState(type=FlowRunFilterStateType(any_=under_way))
    for flow_run in await client.read_flow_runs(flow_run_filter=FlowRunFilter(state=states)):
        if flow_run.state_type == StateType.CANCELLING:
            await client.set_flow_run_state(flow_run.id, Cancelled())
            continue
        await client.set_flow_run_state(flow_run.id, Crashed(message="It was interrupted."))
        await client.set_flow_run_state(flow_run.id, AwaitingRetry(message="Rescheduled, because it was interrupted."))
        say(f"The run {flow_run.name!r} was interrupted; it is rescheduled")


async def _first_runs(link: Callable[[str], str], sandbox: str) -> None:
    """Run a dry run, a subscription, a digest, one more that shows changes, and a plan that waits for approval."""
    say("Running some of them, so that there is something to look at …")
    await asyncio.gather(
        _run("cancel-blocked-domains/cancel-blocked-domains-dry-run"),
        _run("availability-digest/availability-digest"),
        _run(SUBSCRIPTION),
    )
    tomorrow = datetime.now(UTC) + timedelta(days=1)
    busy = {"user": "AAAAAAAAAAAAAAAA", "start_time": tomorrow.isoformat()}
    busy["end_time"] = (tomorrow + timedelta(days=4)).isoformat()
    await asyncio.to_thread(_post, f"{sandbox}/_sandbox/busy_times", busy)
    waiting, _ = await asyncio.gather(
        _run("cancel-blocked-domains/cancel-blocked-domains-with-approval"),
        _run("availability-digest/availability-digest"),
    )
    say(f"A run waits for your approval (Resume): {link(f'/runs/flow-run/{waiting}')}")


async def _run(deployment: str) -> UUID:
    flow_run: FlowRun = await arun_deployment(deployment, timeout=0, as_subflow=False)
    deadline = time.monotonic() + _LONGEST_RUN_SECONDS
    async with get_client() as client:
        while time.monotonic() < deadline:
            flow_run = await client.read_flow_run(flow_run.id)
            if flow_run.state is not None and (flow_run.state.is_final() or flow_run.state.is_paused()):
                break
            await asyncio.sleep(1)
        else:
            raise SetupError(f"the run {flow_run.name!r} of {deployment} did not end; see worker.log beside this log")
    if not (flow_run.state.is_completed() or flow_run.state.is_paused()):
        say(f"The run {flow_run.name!r} of {deployment} ended as {flow_run.state.name}: {flow_run.state.message}")
    return flow_run.id


async def _wait_for(url: str, what: str, seconds: float) -> None:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        try:
            await asyncio.to_thread(lambda: urllib.request.urlopen(url, timeout=5).close())  # noqa: S310  (loopback)
        except OSError:
            await asyncio.sleep(0.3)
        else:
            return
    raise SetupError(f"{what} did not answer in {seconds:.0f} s; see its log in the folder of logs")


def _post(url: str, body: dict[str, Any]) -> None:
    request = urllib.request.Request(url, json.dumps(body).encode(), {"Content-Type": "application/json"})  # noqa: S310
    urllib.request.urlopen(request, timeout=10).close()  # noqa: S310  (loopback)


if __name__ == "__main__":
    sys.exit(main())
