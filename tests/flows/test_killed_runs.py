"""What is left of a cancel run whose process was killed, and what the next one does."""

import asyncio
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator

import pytest
from prefect.client.orchestration import get_client
from prefect.settings import PREFECT_API_URL
from prefect.states import AwaitingRetry, Crashed

from flows.cancel_blocked_domains import cancel_blocked_domains
from prefect_calendly import CalendlyCredentials
from prefect_calendly.sandbox import Sandbox
from prefect_calendly.screening.page import DECISIONS_KEY, SUMMARY_KEY
from tests.flows.approvals import DOMAIN, Deployed, canceled
from tests.notifiers import Receiver
from tests.screening.conftest import CANCELLATION, canceled_by_api, everything, is_wanted, posts, upcoming
from tests.support import artifact
from tests.world import ORGANIZATION, World

pytestmark = [pytest.mark.stack, pytest.mark.usefixtures("prefect_server")]


@pytest.fixture
def killed_run(prefect_server: None, sandbox: Sandbox) -> Iterator[int]:
    """A run in a process of its own that is killed while its third cancellation is under way; the events to cancel."""
    sandbox.fault("latency", route=CANCELLATION, skip=2, times=None, seconds=600)
    code = (
        "import asyncio, sys; from prefect_calendly import CalendlyCredentials; "
        "from flows.cancel_blocked_domains import cancel_blocked_domains; "
        "from prefect_calendly.screening import CancelPolicy; "
        "asyncio.run(cancel_blocked_domains(CalendlyCredentials(connections_url=sys.argv[1], gateway_url=sys.argv[2],"
        " max_concurrency=1), CancelPolicy.model_validate_json(sys.argv[3]), dry_run=False))"
    )
    command = [sys.executable, "-c", code, sandbox.connections_url, sandbox.gateway_url, everything().model_dump_json()]
    api_url = PREFECT_API_URL.value()
    assert api_url
    environment = {**os.environ, "MATON_API_KEY": sandbox.api_key, "PREFECT_API_URL": api_url}
    process = subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    try:
        while posts(sandbox) < 3:
            assert process.poll() is None, process.stdout and process.stdout.read().decode()
            time.sleep(0.05)
        process.send_signal(signal.SIGKILL)
        process.communicate(timeout=30)
        yield posts(sandbox)
    finally:
        process.kill()
        process.wait()


async def test_a_run_that_is_killed_half_way_leaves_its_plan_and_the_next_one_does_what_is_left(
    killed_run: int, sandbox: Sandbox, credentials: CalendlyCredentials, world: World
) -> None:
    done = set(canceled_by_api(sandbox))
    assert killed_run == len(done) == 3  # the third took effect, and nobody was there to hear it
    summary = await artifact(SUMMARY_KEY)
    assert summary.startswith("# About to cancel ")
    assert "If it stays the last version of this page, the run was interrupted" in summary
    planned = {
        row["event"] for row in json.loads(await artifact(DECISIONS_KEY)) if row["status"] == "about to be canceled"
    }
    assert done < planned

    sandbox.clear_faults()
    report = await cancel_blocked_domains(credentials, everything(), dry_run=False)

    assert set(report.canceled_events) == planned - done
    assert canceled_by_api(sandbox).keys() == planned
    assert posts(sandbox) == len(planned)
    left = upcoming(world, organization=ORGANIZATION)
    assert not [event for event in left if is_wanted(event)]


async def test_a_run_that_is_killed_after_the_approval_does_what_is_left_and_asks_nobody_again(
    deployed: Deployed, sandbox: Sandbox, receiver: Receiver
) -> None:
    events = {deployed.book(f"eve{number}@{DOMAIN}", days=1 + number / 10) for number in range(4)}
    run = await deployed.start()
    await deployed.wait(run)
    await deployed.answer(run)
    sandbox.fault("latency", method="POST", route=CANCELLATION, skip=2, times=None, seconds=600)
    process = deployed.process(run)
    deadline = time.monotonic() + 300
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
    process = deployed.process(run)
    output, _ = await asyncio.to_thread(process.communicate, timeout=300)
    assert (await deployed.read(run)).state_name == "Completed", output
    assert canceled(sandbox).keys() == events
    assert sandbox.stats()["writes"]["cancellation"] == 4
    assert len(receiver.messages) == 2  # one before, one after
    assert "or by this run before it was interrupted" in await artifact(SUMMARY_KEY)
