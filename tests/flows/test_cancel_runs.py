"""What Prefect keeps of a run that cancels: its artifacts, names and logs, and what is left of one that was killed."""

import json
import re

import pytest
from prefect.artifacts import Artifact
from prefect.client.orchestration import get_client
from prefect.exceptions import ParameterTypeError

from flows.cancel_blocked_domains import cancel_blocked_domains
from prefect_calendly import CalendlyCredentials
from prefect_calendly.runs.notifications import FAILED_KEY
from prefect_calendly.sandbox import Sandbox
from prefect_calendly.screening.page import DECISIONS_KEY, SUMMARY_KEY
from tests.notifiers import Receiver
from tests.screening.conftest import (
    NOON,
    add_booking,
    canceled_by_api,
    everything,
    is_wanted,
    policy_of,
    posts,
    upcoming,
)
from tests.support import artifact
from tests.world import ORGANIZATION, World, uuid_of

pytestmark = pytest.mark.usefixtures("prefect_server")


async def test_prefect_does_not_log_the_parameters_when_one_is_wrong(
    credentials: CalendlyCredentials, run_logs: list[str]
) -> None:
    policy = {"blocked_domains": ["spam.example"], "allowed_emails": ["jane.secret@example.com"], "typo": 1}
    with pytest.raises(ParameterTypeError, match="typo"):
        await cancel_blocked_domains(credentials, policy)  # type: ignore[arg-type]
    assert any("the error says which parameter" in line for line in run_logs)
    assert "jane.secret" not in "".join(run_logs)


async def test_a_run_cancels_exactly_what_is_wanted_and_a_second_one_nothing(
    sandbox: Sandbox, credentials: CalendlyCredentials, world: World, run_logs: list[str]
) -> None:
    events = upcoming(world, organization=ORGANIZATION)
    wanted = {uuid_of(event) for event in events if is_wanted(event)}
    addresses = {item["email"] for event in events for item in event["invitees"] + event["event_guests"]}
    names = {item["name"] for event in events for item in event["invitees"]}

    report = await cancel_blocked_domains(credentials, everything(reason="No, thank you"), dry_run=False)

    canceled = canceled_by_api(sandbox)
    assert canceled.keys() == set(report.canceled_events) == wanted
    assert {event["cancellation"]["reason"] for event in canceled.values()} == {"No, thank you"}
    assert (report.canceled, report.to_cancel, report.failed) == (len(wanted), len(wanted), 0)
    assert posts(sandbox) == len(wanted)
    for uuid in wanted:
        assert f"Canceled scheduled event {uuid}" in run_logs
    shown = report.model_dump_json() + "\n".join(run_logs)
    shown += await artifact(SUMMARY_KEY) + await artifact(DECISIONS_KEY)
    assert not [text for text in addresses | names | {sandbox.api_key} if text in shown]
    assert "@" not in "\n".join(run_logs)
    rows = json.loads(await artifact(DECISIONS_KEY))
    assert {row["event"] for row in rows if row["status"] == "canceled"} == wanted
    # Every run that changes something leaves its plan as the version before the last.
    async with get_client() as client:
        versions = [item for item in await client.read_artifacts() if item.key == SUMMARY_KEY]
    newest, plan = sorted(versions, key=lambda item: item.created or NOON, reverse=True)[:2]
    assert str(newest.data).startswith(f"# {len(wanted)} events canceled\n")
    assert str(plan.data).startswith(f"# About to cancel {len(wanted)} events\n")
    assert newest.flow_run_id == plan.flow_run_id

    sandbox.reset_stats()
    again = await cancel_blocked_domains(credentials, everything(), dry_run=False)
    assert (again.to_cancel, again.canceled, again.reported) == (0, 0, report.reported)
    assert again.events_checked == report.events_checked - len(wanted)
    assert posts(sandbox) == 0


async def test_a_message_arrives_at_a_real_receiver_and_one_that_fails_stops_nothing_and_is_seen(
    sandbox: Sandbox, credentials: CalendlyCredentials, receiver: Receiver, run_logs: list[str]
) -> None:
    policy = policy_of("receiver.example", notify=receiver.block)
    first = add_booking(sandbox, "eve@receiver.example")
    await cancel_blocked_domains(credentials, policy, dry_run=False)
    (message,) = receiver.messages
    assert message["subject"] == "Blocked domains: 1 event canceled"
    assert re.fullmatch(r"\d+ events checked. See .*\nhttp://127.*/v2/runs/flow-run/[0-9a-f-]{36}", message["body"])
    receiver.status = 500
    second = add_booking(sandbox, "eve@receiver.example")
    report = await cancel_blocked_domains(credentials, policy, dry_run=False)
    assert report.canceled_events == (uuid_of(second),)
    assert canceled_by_api(sandbox).keys() == {uuid_of(first), uuid_of(second)}
    assert "Blocked domains: 1 event canceled" in await artifact(FAILED_KEY)
    assert [line for line in run_logs if f"through {receiver.block} failed" in line]
    assert not [line for line in run_logs if receiver.secret in line or receiver.url in line]


async def test_runs_are_named_so_that_a_dry_run_is_seen_in_a_list(credentials: CalendlyCredentials) -> None:
    await cancel_blocked_domains(credentials, policy_of("nobody.example", scope="user"))
    await cancel_blocked_domains(credentials, policy_of("nobody.example", scope="user"), dry_run=False)
    found = await Artifact.aget(SUMMARY_KEY)
    assert found is not None
    assert str(found.data).startswith("# 0 events canceled")
    async with get_client() as client:
        assert found.flow_run_id is not None
        run = await client.read_flow_run(found.flow_run_id)
        names = {run.name for run in await client.read_flow_runs(limit=200)}
    assert run.name == "cancel blocked domains"
    assert "cancel blocked domains (dry run)" in names
