"""Bookings of blocked domains are canceled: those and no others, once, and whatever goes wrong on the way."""

import json
import re

import pytest

from flows.cancel_blocked_domains import cancel_blocked_domains
from prefect_calendly import CalendlyCredentials
from prefect_calendly.client.errors import GatewayKeyError
from prefect_calendly.runs.markdown import escape
from prefect_calendly.sandbox import Sandbox
from prefect_calendly.screening.page import DECISIONS_KEY, SUMMARY_KEY
from prefect_calendly.screening.report import CancellationsFailedError, TooManyCancellationsError
from tests.fixtures import credentials_for
from tests.inline import Inline
from tests.notifiers import RECORDER
from tests.screening.conftest import (
    CANCELLATION,
    canceled_by_api,
    everything,
    is_mixed,
    is_wanted,
    policy_of,
    posts,
    upcoming,
)
from tests.support import no_request
from tests.world import ORGANIZATION, World, uuid_of

pytestmark = pytest.mark.usefixtures("inline")


async def test_a_dry_run_says_what_would_be_canceled_and_changes_nothing(
    sandbox: Sandbox, credentials: CalendlyCredentials, world: World, inline: Inline
) -> None:
    events = upcoming(world, organization=ORGANIZATION)
    wanted, mixed = [e for e in events if is_wanted(e)], [e for e in events if is_mixed(e)]
    assert len(wanted) >= 3  # how many are upcoming depends on the time of day
    assert mixed
    before = sandbox.state(full=True)["events"]
    sandbox.reset_stats()

    report = await cancel_blocked_domains(credentials, everything())

    assert report.dry_run
    assert (report.events_checked, report.to_cancel, report.reported) == (len(events), len(wanted), len(mixed))
    assert report.events_matched == len(wanted) + len(mixed)
    assert report.canceled_events == ()
    stats = sandbox.stats()
    assert not any(route.startswith("POST") for route in stats["by_route"])
    assert stats["unknown_parameters"] == []
    assert report.requests == stats["requests"]
    assert sandbox.state(full=True)["events"] == before
    summary = inline.artifact(SUMMARY_KEY)
    assert summary.startswith(f"# DRY RUN: {len(wanted)} events would be canceled, nothing was changed")
    rows = {row["event"]: row for row in json.loads(inline.artifact(DECISIONS_KEY))}
    assert rows.keys() == {uuid_of(event) for event in wanted + mixed}
    assert all(rows[uuid_of(event)]["status"] == "would be canceled" for event in wanted)
    assert all(rows[uuid_of(event)]["status"] == "only reported" for event in mixed)


async def test_start_is_in_the_hosts_zone_across_the_clock_change_and_addresses_show_on_demand(
    sandbox: Sandbox, credentials: CalendlyCredentials, inline: Inline
) -> None:
    sandbox.set_clock("2027-03-26T00:00:00Z")
    host = sandbox.add_user("Anna | Sommer", timezone="Europe/Berlin", email="anna@acme.example")["uri"]
    starts = {"2027-03-27T09:00:00Z": "Sat 2027-03-27 10:00", "2027-03-28T09:00:00Z": "Sun 2027-03-28 11:00"}
    made = {
        uuid_of(sandbox.add_event(start, host=host, invitees=[{"email": "e|v*e@blocked.example"}])): shown
        for start, shown in starts.items()
    }
    policy = everything(mask_emails=False, starting_at=sandbox.clock(), horizon_days=4)
    await cancel_blocked_domains(credentials, policy)
    rows = {row["event"]: row for row in json.loads(inline.artifact(DECISIONS_KEY))}
    for uuid, shown in made.items():
        assert (rows[uuid]["start"], rows[uuid]["zone"]) == (shown, "Europe/Berlin")
        assert (rows[uuid]["who"], rows[uuid]["host"]) == (escape("e|v*e@blocked.example"), escape("Anna | Sommer"))
        assert rows[uuid]["why"] == "invitee of blocked.example"
    assert f"| {escape('e|v*e@blocked.example', 12)} |" in inline.artifact(SUMMARY_KEY)
    assert f" with {escape('Anna | Sommer')}, Sat 27 Mar 10:00 |" in inline.artifact(SUMMARY_KEY)


async def test_mixed_group_events_are_canceled_where_the_policy_says_so(
    sandbox: Sandbox, credentials: CalendlyCredentials, world: World
) -> None:
    events = upcoming(world, organization=ORGANIZATION)
    expected = {uuid_of(event) for event in events if is_wanted(event) or is_mixed(event)}
    report = await cancel_blocked_domains(credentials, everything(group_events="cancel"), dry_run=False)
    assert report.reported == 0
    assert canceled_by_api(sandbox).keys() == set(report.canceled_events) == expected


async def test_over_the_cap_nothing_is_canceled_and_the_error_says_what_to_do(
    sandbox: Sandbox, credentials: CalendlyCredentials, world: World, inline: Inline
) -> None:
    wanted = [event for event in upcoming(world, organization=ORGANIZATION) if is_wanted(event)]
    cap = len(wanted) - 1
    policy = everything(max_cancellations=cap)

    with pytest.raises(TooManyCancellationsError) as caught:
        await cancel_blocked_domains(credentials, policy, dry_run=False)

    assert posts(sandbox) == 0
    assert f"{len(wanted)} events to cancel, but max_cancellations is {cap}" in str(caught.value)
    assert "raise max_cancellations" in str(caught.value)
    assert caught.value.report is not None
    assert caught.value.report.to_cancel == len(wanted)
    assert (inline.artifact(SUMMARY_KEY)).startswith("# REFUSED")
    rows = json.loads(inline.artifact(DECISIONS_KEY))
    assert sum(row["status"] == "not canceled: over the cap" for row in rows) == len(wanted)

    report = await cancel_blocked_domains(credentials, policy)  # a dry run only warns of it
    assert report.to_cancel == len(wanted)
    assert "A real run would cancel nothing" in inline.artifact(SUMMARY_KEY)
    assert (await cancel_blocked_domains(credentials, everything(max_cancellations=cap + 1), dry_run=False)).canceled


@pytest.mark.parametrize(
    ("kind", "error"), [("permission_denied", "RoleRequiredError"), ("server_error", "ServerError")]
)
async def test_one_failure_does_not_stop_the_others_and_fails_the_run(
    sandbox: Sandbox,
    credentials: CalendlyCredentials,
    world: World,
    impatient: None,
    kind: str,
    error: str,
    inline: Inline,
) -> None:
    wanted = [uuid_of(event) for event in upcoming(world, organization=ORGANIZATION) if is_wanted(event)]
    unlucky = wanted[1]
    sandbox.fault(kind, path=f"/scheduled_events/{unlucky}/cancellation", times=None)

    with pytest.raises(CancellationsFailedError) as caught:
        await cancel_blocked_domains(credentials, everything(), dry_run=False)

    assert canceled_by_api(sandbox).keys() == set(wanted) - {unlucky}
    report = caught.value.report
    assert report is not None
    assert (report.canceled, report.failed) == (len(wanted) - 1, 1)
    assert f"1 of {len(wanted)} events could not be canceled" in str(caught.value)
    assert "@" not in str(caught.value)
    assert f"- {unlucky}: {error}" in inline.artifact(SUMMARY_KEY)
    (row,) = [row for row in json.loads(inline.artifact(DECISIONS_KEY)) if row["event"] == unlucky]
    assert row["status"].startswith(f"failed: {error}")

    sandbox.clear_faults()
    again = await cancel_blocked_domains(credentials, everything(), dry_run=False)
    assert again.canceled_events == (unlucky,)


async def test_an_event_that_cannot_be_checked_is_left_alone_and_fails_the_run_at_its_end(
    sandbox: Sandbox, credentials: CalendlyCredentials, world: World, inline: Inline
) -> None:
    wanted = {uuid_of(event) for event in upcoming(world, organization=ORGANIZATION) if is_wanted(event)}
    unreadable = sorted(wanted)[0]
    sandbox.fault("permission_denied", path=f"/scheduled_events/{unreadable}/invitees", times=None)

    with pytest.raises(CancellationsFailedError, match=r"1 could not be checked; \d+ canceled"):
        await cancel_blocked_domains(credentials, everything(), dry_run=False)

    assert canceled_by_api(sandbox).keys() == wanted - {unreadable}
    (row,) = [row for row in json.loads(inline.artifact(DECISIONS_KEY)) if row["event"] == unreadable]
    assert row["status"] == "could not be checked"
    assert row["why"].startswith("RoleRequiredError")
    assert row["who"] == ""
    with pytest.raises(CancellationsFailedError, match="1 could not be checked"):
        await cancel_blocked_domains(credentials, everything())


async def test_a_summary_with_many_problems_stays_short(
    sandbox: Sandbox, credentials: CalendlyCredentials, inline: Inline
) -> None:
    sandbox.fault("permission_denied", route="/scheduled_events/{uuid}/invitees", times=None)
    with pytest.raises(CancellationsFailedError):
        await cancel_blocked_domains(credentials, everything())
    summary = inline.artifact(SUMMARY_KEY)
    assert summary.count("could not be checked:") == 10
    assert re.search(r"- and \d+ more", summary)


async def test_a_refused_key_stops_at_once_and_what_was_done_is_told(sandbox: Sandbox, inline: Inline) -> None:
    credentials = credentials_for(sandbox, max_concurrency=1)
    sandbox.fault("unauthorized_gateway", route=CANCELLATION, skip=2, times=None)

    with pytest.raises(CancellationsFailedError) as caught:
        await cancel_blocked_domains(credentials, everything(), dry_run=False)

    assert posts(sandbox) == 3
    report = caught.value.report
    assert report is not None
    assert set(report.canceled_events) == canceled_by_api(sandbox).keys()
    assert (report.canceled, report.failed) == (2, report.to_cancel - 2)
    summary = inline.artifact(SUMMARY_KEY)
    assert summary.count("GatewayKeyError: ") == 1
    assert "not tried after GatewayKeyError" in summary


async def test_an_account_that_refuses_reasons_cancels_without_one(
    sandbox: Sandbox, credentials: CalendlyCredentials, inline: Inline
) -> None:
    sandbox.fault("cancellation_reason_quirk", times=None)
    report = await cancel_blocked_domains(credentials, everything(), dry_run=False)
    canceled = canceled_by_api(sandbox)
    assert report.canceled == report.to_cancel == len(canceled) > 0
    assert {event["cancellation"]["reason"] for event in canceled.values()} == {None}
    rows = json.loads(inline.artifact(DECISIONS_KEY))
    assert any(row["status"] == "canceled: without the reason, which was refused" for row in rows)


async def test_without_a_reason_none_is_sent(
    sandbox: Sandbox, credentials: CalendlyCredentials, inline: Inline
) -> None:
    report = await cancel_blocked_domains(credentials, everything(reason="  "), dry_run=False)
    assert {event["cancellation"]["reason"] for event in canceled_by_api(sandbox).values()} == {None}
    assert {row["status"] for row in json.loads(inline.artifact(DECISIONS_KEY))} == {"canceled", "only reported"}
    assert report.canceled == report.to_cancel


async def test_a_message_goes_out_when_something_is_to_be_canceled_or_fails_and_only_then(
    sandbox: Sandbox, credentials: CalendlyCredentials, recorder: list[tuple[str | None, str]]
) -> None:
    policy = everything(notify=RECORDER)
    await cancel_blocked_domains(credentials, policy)
    ((subject, body),) = recorder
    assert re.fullmatch(r"Blocked domains: DRY RUN: \d+ events would be canceled, nothing was changed", subject or "")
    assert SUMMARY_KEY in body

    await cancel_blocked_domains(credentials, policy.model_copy(update={"blocked_domains": ["nobody.example"]}))
    await cancel_blocked_domains(
        credentials, policy.model_copy(update={"blocked_domains": ["nobody.example"]}), dry_run=False
    )
    assert len(recorder) == 1

    with pytest.raises(GatewayKeyError):
        await cancel_blocked_domains(credentials_for(sandbox, api_key="wrong"), policy)
    assert recorder[-1][0] == "Blocked domains: failed"
    assert recorder[-1][1].startswith("Nothing was canceled.")


@pytest.mark.parametrize(
    ("reference", "words"),
    [("slack-webhook/nowhere", "there is no saved block"), ("calendly-credentials/main", "not for notifications")],
)
async def test_a_notifier_that_is_none_is_refused_before_any_request(
    sandbox: Sandbox, credentials: CalendlyCredentials, inline: Inline, reference: str, words: str
) -> None:
    inline.blocks["calendly-credentials/main"] = credentials
    with no_request(sandbox), pytest.raises(ValueError, match=words):
        await cancel_blocked_domains(credentials, policy_of(notify=reference))
