"""All events that a policy is about are read, each once, and no others."""

import json
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from flows.cancel_blocked_domains import cancel_blocked_domains
from prefect_calendly import CalendlyClient, CalendlyCredentials
from prefect_calendly.bookings.changes import fingerprint_of_change, is_shared
from prefect_calendly.bookings.listing import in_brief
from prefect_calendly.client.errors import RoleRequiredError, ServerError
from prefect_calendly.invitees import EventInvitees, list_invitees_of_events_via
from prefect_calendly.sandbox import Sandbox
from prefect_calendly.scheduled_events import ScheduledEvent, list_scheduled_events_via
from prefect_calendly.screening import listing, scan
from prefect_calendly.screening.decision import Rules, decide
from prefect_calendly.screening.page import DECISIONS_KEY, SUMMARY_KEY
from prefect_calendly.tasks import client_task
from tests.fixtures import credentials_for
from tests.inline import Inline
from tests.screening.conftest import BAD, GOOD, add_booking, everything, policy_of, posts
from tests.world import ALICE, ORGANIZATION, uuid_of

CONNECTION = "21fd90f9-5935-43cd-b6c8-bde9d915ca80"
pytestmark = pytest.mark.usefixtures("inline")


async def test_a_listing_that_repeats_an_event_counts_and_cancels_it_once(
    sandbox: Sandbox, credentials: CalendlyCredentials, monkeypatch: pytest.MonkeyPatch
) -> None:
    add_booking(sandbox, BAD)

    async def twice(client: CalendlyClient, **filters: Any) -> AsyncIterator[ScheduledEvent]:
        for _ in range(2):
            async for event in list_scheduled_events_via(client, **filters):
                yield event

    monkeypatch.setattr(listing, "list_scheduled_events_via", twice)
    report = await cancel_blocked_domains(credentials, everything(max_cancellations=1_000), dry_run=False)
    assert report.to_cancel == report.canceled == len(set(report.canceled_events)) == posts(sandbox) > 0


async def test_a_start_that_has_grown_old_does_not_count_what_has_begun(
    sandbox: Sandbox, credentials: CalendlyCredentials
) -> None:
    old = sandbox.clock() - timedelta(days=20)
    report = await cancel_blocked_domains(credentials, everything(starting_at=old, horizon_days=80))
    assert (report.to_cancel, report.events_checked) == await _of_now(credentials, 60)
    with pytest.raises(ValueError, match="lies in the past"):
        await cancel_blocked_domains(credentials, everything(starting_at=old, horizon_days=5))


async def _of_now(credentials: CalendlyCredentials, days: int) -> tuple[int, int]:
    report = await cancel_blocked_domains(credentials, everything(horizon_days=days))
    return report.to_cancel, report.events_checked


async def test_the_horizon_ends_where_it_says(sandbox: Sandbox, credentials: CalendlyCredentials) -> None:
    begins = datetime(2028, 1, 1, tzinfo=UTC)
    inside = sandbox.add_event(begins + timedelta(days=1, hours=23), invitees=[{"email": BAD}])
    sandbox.add_event(begins + timedelta(days=2, hours=1), invitees=[{"email": BAD}])
    sandbox.add_event(begins - timedelta(hours=1), invitees=[{"email": BAD}])
    policy = everything(starting_at=begins, horizon_days=2)
    report = await cancel_blocked_domains(credentials, policy, dry_run=False)
    assert report.canceled_events == (uuid_of(inside),)
    assert report.events_checked == 1


async def test_scope_user_reads_ones_own_events_and_needs_no_role(sandbox: Sandbox, inline: Inline) -> None:
    uma = sandbox.add_user("Uma Plain", email="uma@uma.example", role="user", timezone="Asia/Tokyo")["uri"]
    sandbox.set_connection(CONNECTION, user=uma)
    add_booking(sandbox, BAD)  # Alice's
    add_booking(sandbox, "mum@uma.example", host=uma)
    mine = add_booking(sandbox, BAD, host=uma)

    policy = policy_of("blocked.example", "uma.example")
    report = await cancel_blocked_domains(credentials_for(sandbox), policy, dry_run=False)

    assert report.events_checked == 2
    assert report.canceled_events == (uuid_of(mine),)
    assert "GET /organization_memberships" not in sandbox.stats()["by_route"]
    assert "uma.example is blocked, but it is one of your own domains" in inline.artifact(SUMMARY_KEY)
    (row,) = json.loads(inline.artifact(DECISIONS_KEY))
    assert row["zone"] == "Asia/Tokyo"


async def test_domains_of_all_members_are_protected_for_the_whole_organization(
    sandbox: Sandbox, credentials: CalendlyCredentials, inline: Inline
) -> None:
    sandbox.add_user("Zora Neu", email="zora@Neu.Acme.Example")
    uri = add_booking(sandbox, "colleague@neu.acme.example")
    policy = everything(blocked_domains=["neu.acme.example"])
    report = await cancel_blocked_domains(credentials, policy, dry_run=False)
    assert report.to_cancel == posts(sandbox) == 0
    assert "neu.acme.example is blocked, but" in inline.artifact(SUMMARY_KEY)

    unprotected = policy.model_copy(update={"protect_own_domains": False})
    report = await cancel_blocked_domains(credentials, unprotected, dry_run=False)
    assert report.canceled_events == (uuid_of(uri),)


async def test_many_events_are_read_part_by_part_in_no_more_tasks_than_a_person_can_look_through(
    sandbox: Sandbox, credentials: CalendlyCredentials, monkeypatch: pytest.MonkeyPatch
) -> None:
    for _ in range(60):
        add_booking(sandbox, GOOD)
    parts: list[int] = []

    @client_task("List the invitees of events")
    async def counted(client: CalendlyClient, events: list[str], *, status: Any) -> list[EventInvitees]:
        parts.append(len(events))
        return await list_invitees_of_events_via(client, events, status=status)

    monkeypatch.setattr(scan, "alist_invitees_of_events", counted)
    whole = await scan.scan_events(credentials, everything())
    assert parts == [whole.checked]
    for per_task, most in ((20, 20), (1, -(-whole.checked // 50))):
        parts.clear()
        plan = await scan.scan_events(credentials, everything(), events_per_task=per_task)
        assert plan.decisions == whole.decisions
        assert (plan.checked, plan.read, plan.requests) == (whole.checked, whole.read, whole.requests)
        assert sum(parts) == whole.checked
        assert max(parts) == most
        assert len(parts) <= 50


async def test_an_event_in_brief_decides_and_compares_as_the_whole_one(
    sandbox: Sandbox, credentials: CalendlyCredentials
) -> None:
    shared: dict[Any, Any] = {}
    async with credentials.get_client() as client:
        listed = list_scheduled_events_via(client, organization=ORGANIZATION, status="active")
        pairs = [(event, in_brief(event, shared)) async for event in listed]
    rules, zones = Rules.of(policy_of("blocked.example")), {ALICE: "Europe/Berlin"}
    assert len({event.event_guests for event, _ in pairs}) > 1
    for whole, brief in pairs:
        assert decide(brief, [], rules, zones) == decide(whole, [], rules, zones)
        assert fingerprint_of_change(brief) == fingerprint_of_change(whole)
        assert is_shared(brief) == is_shared(whole)
        assert (brief.created_at, brief.end_time) == (whole.created_at, whole.end_time)
    counters = {event.invitees_counter for event, _ in pairs}
    assert len({id(brief.invitees_counter) for _, brief in pairs}) == len(counters) < len(pairs)


async def test_whoever_may_not_see_the_organization_is_told_so_and_nothing_happens(sandbox: Sandbox) -> None:
    user = sandbox.add_user("Uma Plain", role="user")["uri"]
    sandbox.set_connection(CONNECTION, user=user)
    with pytest.raises(RoleRequiredError):
        await cancel_blocked_domains(credentials_for(sandbox), everything(), dry_run=False)
    assert posts(sandbox) == 0


async def test_a_listing_that_fails_cancels_nothing(
    sandbox: Sandbox, credentials: CalendlyCredentials, impatient: None
) -> None:
    sandbox.fault("server_error", route="/scheduled_events", times=None)
    with pytest.raises(ServerError):
        await cancel_blocked_domains(credentials, everything(), dry_run=False)
    assert posts(sandbox) == 0
