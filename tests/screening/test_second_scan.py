"""A second scan reads what is new or has changed, and nothing else; whatever was left undone is read again."""

import json
from datetime import timedelta

import pytest

from flows.cancel_blocked_domains import cancel_blocked_domains
from prefect_calendly import CalendlyCredentials
from prefect_calendly.sandbox import Sandbox
from prefect_calendly.screening import scan
from prefect_calendly.screening.page import DECISIONS_KEY, SUMMARY_KEY
from prefect_calendly.screening.policy import CancelPolicy
from prefect_calendly.screening.report import CancellationsFailedError, CancelReport, TooManyCancellationsError
from prefect_calendly.screening.unchanged import Unchanged
from tests.inline import Inline
from tests.screening.conftest import LONG_AGO, join
from tests.world import uuid_of

pytestmark = pytest.mark.usefixtures("inline")
POLICY = CancelPolicy(blocked_domains=["unwanted.example"], scope="organization", horizon_days=60)


async def run(
    credentials: CalendlyCredentials, policy: CancelPolicy = POLICY, *, dry_run: bool = False
) -> CancelReport:
    return await cancel_blocked_domains(credentials, policy, dry_run=dry_run)


async def test_a_day_with_33_changes_among_100_events_takes_37_requests(
    sandbox: Sandbox, credentials: CalendlyCredentials, inline: Inline
) -> None:
    sandbox.reset(events=0, invitees=0)
    there = (await run(credentials, dry_run=True)).events_checked  # those that Calendly's documentation shows
    groups, g = [], [{"email": "g@good.example"}]
    for number in range(3):
        its_type = sandbox.add_event_type(f"Workshop {number}", limit=10, kind="group")
        groups.append(uuid_of(sandbox.add_event(event_type=its_type, invitees=g, created_at=LONG_AGO)))
    for number in range(97 - there):
        sandbox.add_event(sandbox.clock() + timedelta(hours=4 * number + 200), invitees=g, created_at=LONG_AGO)
    sandbox.reset_stats()
    first = await run(credentials)
    assert (first.events_checked, first.events_read, first.requests) == (100, 100, 2 + 1 + 100)
    assert first.requests == sandbox.stats()["requests"]

    bad = [uuid_of(sandbox.add_event(invitees=[{"email": f"x{n}@unwanted.example"}])) for n in range(10)]
    for number in range(20):
        sandbox.add_event(invitees=[{"email": f"y{number}@good.example"}])
    for group in groups:
        await join(credentials, group, "late@unwanted.example")
    sandbox.reset_stats()
    plan = await run(credentials, dry_run=True)
    assert (plan.events_read, plan.to_cancel, plan.reported) == (33, 10, 3)
    assert plan.requests == sandbox.stats()["requests"] == 2 + 2 + 33
    assert "130 events of the organization, 33 of them new or changed" in inline.artifact(SUMMARY_KEY)

    second = await run(credentials)
    assert set(second.canceled_events) == set(bad)
    assert second.requests == 2 + 2 + 33 + 10
    third = await run(credentials)
    assert (third.events_read, third.to_cancel, third.reported) == (3, 0, 3)  # those groups are read each time


async def test_an_address_that_cannot_be_read_is_named_in_every_run_and_its_event_stays(
    sandbox: Sandbox, credentials: CalendlyCredentials, inline: Inline, run_logs: list[str]
) -> None:
    sandbox.reset(events=0, invitees=0)
    odd = [{"email": "j@[unwanted.example]"}]
    uuid = uuid_of(sandbox.add_event(sandbox.clock() + timedelta(days=3), invitees=odd, created_at=LONG_AGO))
    for dry_run in (True, False, False):
        report = await run(credentials, dry_run=dry_run)
        assert (report.undecided, report.to_cancel, report.reported, report.events_matched) == (1, 0, 0, 0)
        (row,) = json.loads(inline.artifact(DECISIONS_KEY))
        assert (row["event"], row["status"], row["why"]) == (
            uuid,
            "undecided",
            "invitee whose address cannot be read",
        )
        assert "unwanted.example]" not in row["who"]
        summary = inline.artifact(SUMMARY_KEY)
        assert "- 1 undecided: an address cannot be read" in summary
        assert f"- {uuid}: undecided: invitee whose address cannot be read" in summary
    assert report.events_read == 1  # of all that were kept, none is read again
    assert run_logs.count("1 event undecided: an address cannot be read") == 3
    assert sandbox.state(full=True)["events"][uuid] == "active"


async def test_another_policy_another_scope_and_a_dry_run_read_everything(
    sandbox: Sandbox, credentials: CalendlyCredentials
) -> None:
    sandbox.reset(events=5, invitees=8)
    everything = (await run(credentials, dry_run=True)).events_checked
    assert (await run(credentials, dry_run=True)).events_read == everything > 3
    assert (await run(credentials)).events_read == everything
    known = (await run(credentials)).events_read
    assert known < everything
    for change in (
        {"blocked_domains": ["other.example"]},
        {"allowed_emails": ["jane@unwanted.example"]},
        {"check_guests": False},
        {"group_events": "cancel"},
        {"protect_own_domains": False},
        {"full_scan_hours": 0},
    ):
        report = await run(credentials, POLICY.model_copy(update=change), dry_run=True)
        assert report.events_read == report.events_checked, change
    reworded = POLICY.model_copy(update={"reason": "No.", "max_cancellations": 3, "mask_emails": False})
    assert (await run(credentials, reworded)).events_read == known
    other = await run(credentials, POLICY.model_copy(update={"scope": "user"}), dry_run=True)
    assert other.events_read == other.events_checked


async def test_where_nothing_has_changed_a_second_scan_costs_the_listing_and_the_members_only(
    sandbox: Sandbox, credentials: CalendlyCredentials, inline: Inline
) -> None:
    """In small what holds for 1,000 hosts and 100,000 events: 1,060 requests instead of 5,938."""
    sandbox.reset(events=0, invitees=0)
    group = sandbox.add_event_type("Workshop", limit=10, kind="group")
    for number in range(120):
        kind = {"event_type": group} if number % 10 else {}
        start = sandbox.clock() + timedelta(hours=4 + 4 * number)
        sandbox.add_event(start, invitees=[{"email": f"g{number}@good.example"}], created_at=LONG_AGO, **kind)
    first = await run(credentials)
    assert first.requests == 2 + 2 + first.events_checked
    sandbox.reset_stats()
    second = await run(credentials)
    assert (second.events_read, second.requests) == (0, 4)
    assert sandbox.stats()["by_route"] == {
        "GET /users/me": 1,
        "GET /organization_memberships": 1,
        "GET /scheduled_events": 2,
    }
    (kept,) = inline.states.values()
    assert "@" not in str(kept)
    assert len(kept["seen"]) >= 108


async def test_a_cursor_is_kept_as_long_as_it_is_of_use(
    sandbox: Sandbox, credentials: CalendlyCredentials, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept: list[timedelta | None] = []

    async def save(name: str, cursor: Unchanged, *, keep_for: timedelta | None = None) -> None:
        kept.append(keep_for)

    monkeypatch.setattr(scan, "save_state", save)
    sandbox.reset(events=0, invitees=0)
    await run(credentials, POLICY.model_copy(update={"full_scan_hours": 36}))
    assert kept == [timedelta(hours=36)]
    await run(credentials, POLICY.model_copy(update={"full_scan_hours": 0}))
    assert kept == [timedelta(hours=36)]


async def test_a_wider_horizon_reads_what_lies_beyond_the_last_one(
    sandbox: Sandbox, credentials: CalendlyCredentials
) -> None:
    sandbox.reset(events=0, invitees=0)
    for days in (3, 30):
        sandbox.add_event(sandbox.clock() + timedelta(days=days), invitees=[{"email": "x@good.example"}])
    week = await run(credentials, POLICY.model_copy(update={"horizon_days": 7}))
    month = await run(credentials)
    assert week.events_read == week.events_checked < month.events_checked
    assert month.events_read == month.events_checked - week.events_checked
    assert (await run(credentials)).events_read == 0


async def test_a_run_that_fails_or_is_over_the_cap_leaves_all_to_the_next(
    sandbox: Sandbox, credentials: CalendlyCredentials
) -> None:
    sandbox.reset(events=0, invitees=0)
    for number in range(5):
        sandbox.add_event(invitees=[{"email": f"x{number}@good.example"}])
    sandbox.fault("permission_denied", route="/scheduled_events/{uuid}/invitees", times=1)
    with pytest.raises(CancellationsFailedError):
        await run(credentials)
    sandbox.clear_faults()
    for number in range(2):
        sandbox.add_event(invitees=[{"email": f"x{number}@unwanted.example"}])
    with pytest.raises(TooManyCancellationsError):
        await run(credentials, POLICY.model_copy(update={"max_cancellations": 1}))
    report = await run(credentials)
    assert (report.events_read, report.canceled) == (report.events_checked, 2)


async def test_a_state_that_holds_something_else_is_as_good_as_none(
    sandbox: Sandbox, credentials: CalendlyCredentials, inline: Inline
) -> None:
    everything = (await run(credentials)).events_checked
    ((name, kept),) = inline.states.items()
    assert name.startswith("unchanged-")
    assert "@" not in str(kept)
    inline.states[name] = {"since": "yesterday"}
    assert (await run(credentials)).events_read == everything
    assert (await run(credentials)).events_read < everything
