"""A person decides about a plan: in a deployment's run, which ends, and goes on when it is answered."""

import json
import re
from datetime import timedelta
from typing import Any

import pytest
from prefect.client.orchestration import PrefectClient, get_client
from prefect.client.schemas.objects import ConcurrencyLimitConfig, ConcurrencyLimitStrategy
from prefect.states import Cancelled, Cancelling, Failed
from prefect.utilities.schema_tools.validation import validate

from flows.record_expired_approval import record_expired_approval
from prefect_calendly.runs.human_input import check_can_wait
from prefect_calendly.sandbox import Sandbox
from prefect_calendly.screening.approval import EXPIRED_MESSAGES
from prefect_calendly.screening.page import SUMMARY_KEY
from tests.fixtures import credentials_for
from tests.flows.approvals import CANCELLATION, DOMAIN, REASON, Deployed, canceled, deploy, table
from tests.notifiers import Receiver
from tests.support import artifact
from tests.world import World

pytestmark = pytest.mark.usefixtures("prefect_server")


async def test_a_person_keeps_one_and_what_changed_meanwhile_is_left_alone(
    deployed: Deployed, sandbox: Sandbox, receiver: Receiver, world: World
) -> None:
    wanted, kept, gone, moved = (
        deployed.book(f"{name}@{DOMAIN}", days=days) for days, name in enumerate(("wanda", "kim", "gus", "mo"), start=1)
    )
    run = await deployed.start()
    waiting = await deployed.wait(run)
    assert waiting.state_name == "Suspended"
    assert not canceled(sandbox)
    rows = await table()
    assert {row["status"] for row in rows.values()} == {"waits for approval"}
    assert (await artifact(SUMMARY_KEY)).startswith("# WAITING for approval: 4 events to cancel")
    (message,) = receiver.messages
    assert message["subject"] == "Blocked domains: WAITING for approval: 4 events to cancel, nothing was changed yet"
    assert f"/v2/runs/flow-run/{run}" in message["body"]

    form = await deployed.form(run)
    labels = form["properties"]["leave"]["items"]["enum"]
    assert [label[:3] for label in labels] == ["1. ", "2. ", "3. ", "4. "]
    assert labels[0].startswith(f"1. w…@approval.example (invitee of {DOMAIN}): ")
    assert " with Alice" in labels[0]
    assert form["required"] == ["decision", "decided_by"]
    [error] = validate({"decision": "approve", "decided_by": " "}, form)
    assert error.message == "'your name, below the list' was expected"
    assert form["text"].startswith("# Cancel 4 events?\n\nDecide until ")
    assert "wanda" not in json.dumps(form)

    world.cancel(gone, "I am ill")
    sandbox.reschedule_event(moved, sandbox.clock() + timedelta(days=9))
    sandbox.reset_stats()
    await deployed.answer(run, leave=[labels[1]], reason=f" {REASON}")
    await deployed.go_on(run)

    done = await deployed.read(run)
    assert done.state_name == "Completed", done.state
    assert canceled(sandbox).keys() == {wanted, gone}
    assert canceled(sandbox)[wanted]["reason"] == REASON
    assert sandbox.stats()["by_route"] == {
        "GET /scheduled_events/{uuid}": 3,
        "GET /scheduled_events/{uuid}/invitees": 2,  # of those found canceled: was it a move?
        f"POST {CANCELLATION}": 1,
    }
    rows = await table()
    assert {uuid: row["status"] for uuid, row in rows.items()} == {
        wanted: "canceled",
        kept: "not canceled: not approved",
        gone: "already canceled",
        moved: "left alone: moved meanwhile, to a new event",
    }
    assert all(re.match(r"Ann Lee, 20\d\d-", row["decided by"]) for row in rows.values())
    assert "- 3 of 4 approved by Ann Lee, 20" in await artifact(SUMMARY_KEY)
    assert [message["subject"] for message in receiver.messages[1:]] == ["Blocked domains: 1 event canceled"]


async def test_a_plan_that_nobody_decides_about_in_time_ends_as_failed_and_is_written_down(
    deployed: Deployed, sandbox: Sandbox, receiver: Receiver
) -> None:
    event = deployed.book(f"eve@{DOMAIN}")
    run = await deployed.start()
    assert (await deployed.wait(run)).state_name == "Suspended"
    async with get_client() as client:  # as a service of the server does, which this test's server lacks
        await client.set_flow_run_state(run, Failed(message=EXPIRED_MESSAGES[0]), force=True)
    assert await record_expired_approval(run) is True
    assert not canceled(sandbox)
    row = (await table())[event]
    assert row["status"] == "not canceled: nobody decided in time"
    assert row["decided by"] == "nobody"
    assert (await artifact(SUMMARY_KEY)).startswith("# NOT APPROVED: nobody decided in time about 1 event")
    assert receiver.messages[-1]["subject"].startswith("Blocked domains: NOT APPROVED")
    assert f"/v2/runs/flow-run/{run}" in receiver.messages[-1]["body"]


async def test_a_run_that_is_canceled_while_it_waits_does_not_go_on_waiting_on_its_page(
    deployed: Deployed, sandbox: Sandbox, receiver: Receiver
) -> None:
    event = deployed.book(f"eve@{DOMAIN}")
    run = await deployed.start()
    await deployed.wait(run)
    async with get_client() as client:  # as a person does in the UI
        await client.set_flow_run_state(run, Cancelling())
    assert (await deployed.read(run)).state_name == "Cancelled"
    assert await record_expired_approval(run) is True
    assert (await table())[event]["status"] == "not canceled: the run was canceled before"
    summary = await artifact(SUMMARY_KEY)
    assert summary.startswith("# STOPPED: the run was canceled while it waited, with 1 event to cancel; nothing was")
    assert "waits for approval" not in summary
    assert receiver.messages[-1]["subject"].startswith("Blocked domains: STOPPED")
    assert not canceled(sandbox)


async def test_a_run_that_is_canceled_after_it_has_gone_on_keeps_its_page(deployed: Deployed) -> None:
    deployed.book(f"eve@{DOMAIN}")
    run = await deployed.start()
    await deployed.wait(run)
    await deployed.answer(run)
    await deployed.go_on(run)
    async with get_client() as client:
        await client.set_flow_run_state(run, Cancelled(), force=True)
    assert await record_expired_approval(run) is False
    assert (await artifact(SUMMARY_KEY)).startswith("# 1 event canceled")


async def test_a_server_that_answers_too_late_keeps_nobody_from_being_asked_once(
    deployed: Deployed, sandbox: Sandbox, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Prefect's client repeats a request when no answer comes, although it may have taken effect."""
    create = PrefectClient.create_flow_run_input

    async def repeated(self: PrefectClient, *args: Any, **kwargs: Any) -> None:
        await create(self, *args, **kwargs)
        await create(self, *args, **kwargs)

    event = deployed.book(f"eve@{DOMAIN}")
    run = await deployed.start()
    with monkeypatch.context() as slow:
        slow.setattr(PrefectClient, "create_flow_run_input", repeated)
        assert (await deployed.wait(run)).state_name == "Suspended"
    form = await deployed.form(run)
    assert form["text"].startswith("# Cancel 1 event?")
    assert form["required"] == ["decision", "decided_by"]
    await deployed.answer(run)
    await deployed.go_on(run)
    assert canceled(sandbox).keys() == {event}
    assert len(receiver.messages) == 2


async def test_a_deployment_that_would_cancel_the_run_when_it_goes_on_is_refused(
    deployed: Deployed, sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    limit = ConcurrencyLimitConfig(limit=1, collision_strategy=ConcurrencyLimitStrategy.CANCEL_NEW)
    for name, deployment in (
        ("HOURLY", await deploy(credentials_for(sandbox), "hourly", limit)),
        ("APPROVAL", deployed.deployment),
    ):
        monkeypatch.setenv("PREFECT__RUNTIME__DEPLOYMENT__ID", str(deployment))
        if name == "APPROVAL":
            await check_can_wait("do otherwise")
        else:
            with pytest.raises(ValueError, match=r"this deployment cancels a run that starts while .*; do otherwise"):
                await check_can_wait("do otherwise")


async def test_a_recorder_writes_nothing_about_a_run_that_has_ended_otherwise(deployed: Deployed) -> None:
    run = await deployed.start()
    assert await record_expired_approval(run) is False
