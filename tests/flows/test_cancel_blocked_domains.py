"""Bookings of blocked domains are canceled: those and no others, once, and whatever goes wrong on the way."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prefect.artifacts import Artifact
from prefect.client.orchestration import get_client
from prefect.exceptions import ParameterTypeError
from prefect.logging import disable_run_logger
from prefect.settings import PREFECT_API_URL
from pydantic import ValidationError

import flows.cancel_blocked_domains as module
from flows.cancel_blocked_domains import (
    DECISIONS_KEY,
    SUMMARY_KEY,
    CancellationsFailedError,
    CancelOutcome,
    CancelPolicy,
    Decision,
    TooManyCancellationsError,
    cancel_blocked_domains,
    cancel_events,
    decide,
    in_brief,
    own_domain_warnings,
)
from prefect_calendly import CalendlyClient, CalendlyCredentials
from prefect_calendly.bookings.changes import fingerprint_of_change, is_shared
from prefect_calendly.client.errors import GatewayKeyError, RoleRequiredError, ServerError
from prefect_calendly.invitees import EventInvitees, Invitee, list_invitees_of_events_via
from prefect_calendly.runs.notifications import FAILED_KEY
from prefect_calendly.sandbox import Sandbox
from prefect_calendly.scheduled_events import ScheduledEvent, list_scheduled_events_via
from prefect_calendly.tasks import client_task
from tests.conftest import credentials_for
from tests.notifiers import RECORDER, Receiver
from tests.support import artifact, no_request
from tests.world import ALICE, ORGANIZATION, World, uuid_of

API = "https://api.calendly.com"
CONNECTION = "21fd90f9-5935-43cd-b6c8-bde9d915ca80"
BLOCKED = ["blocked.example", "spam-corp.example", "Bücher.Example"]
CANCELLATION = "/scheduled_events/{uuid}/cancellation"
POST = f"POST {CANCELLATION}"
NOON = datetime(2026, 3, 2, 12, tzinfo=UTC)


# The pure part: what is decided


def policy_of(*domains: str, **members: Any) -> CancelPolicy:
    return CancelPolicy(**{"blocked_domains": list(domains) or ["blocked.example"], **members})


def event_of(*, guests: list[str] | None = None, limit: int = 1, status: str = "active") -> ScheduledEvent:
    return ScheduledEvent.model_validate(
        {
            "uri": f"{API}/scheduled_events/EVENT",
            "status": status,
            "start_time": NOON,
            "end_time": NOON,
            "created_at": NOON,
            "updated_at": NOON,
            "invitees_counter": {"total": 1, "active": 1, "limit": limit},
            "event_memberships": [{"user": f"{API}/users/NOBODY"}, {"user": ALICE}],
            "event_guests": [{"email": email} for email in guests or ()],
        }
    )


def invitee_of(email: str, status: str = "active") -> Invitee:
    uri = f"{API}/scheduled_events/EVENT"
    values = {"uri": f"{uri}/invitees/I", "email": email, "name": "N", "status": status, "event": uri}
    return Invitee.model_validate({**values, "created_at": NOON, "updated_at": NOON})


def action_for(email: str, *domains: str, own: tuple[str, ...] = (), **members: Any) -> str:
    return decide(event_of(), [invitee_of(email)], policy_of(*domains, **members), own).action


@pytest.mark.parametrize(
    ("email", "domain"),
    [
        ("eve@blocked.example", "blocked.example"),
        ("Eve@BLOCKED.Example", "blocked.example"),
        ("eve@blocked.example", "Blocked.EXAMPLE."),
        ("eve@mail.eu.blocked.example", "blocked.example"),
        ("eve@bücher.example", "xn--bcher-kva.example"),
        ("eve@xn--bcher-kva.example", "bücher.example"),
        ("eve@SHOP.BÜCHER.EXAMPLE", "bücher.example"),
        ("eve@under_score.blocked.example", "blocked.example"),
        ("eve@under_score.bücher.example", "xn--bcher-kva.example"),
        ("eve@-x.ｂlocked.example。", "blocked.example"),
        ("eve@\N{CROSS MARK}.Blocked.example", "blocked.example"),
        ("odd@name@blocked.example", "blocked.example"),
    ],
)
def test_an_address_of_a_blocked_domain_is_found_however_it_is_written(email: str, domain: str) -> None:
    assert action_for(email, domain) == "cancel"


@pytest.mark.parametrize(
    "email",
    [
        "eve@notblocked.example",
        "eve@blocked.example.org",
        "eve@example",
        "blocked.example@good.example",
        "eve@xblocked.example",
        "eve@",
        "",
    ],
)
def test_a_look_alike_is_kept(email: str) -> None:
    assert action_for(email) == "keep"


def test_subdomains_are_kept_where_they_are_not_included() -> None:
    assert action_for("eve@mail.blocked.example", include_subdomains=False) == "keep"
    assert action_for("eve@blocked.example", include_subdomains=False) == "cancel"


@pytest.mark.parametrize(
    ("allowed", "action"),
    [
        ({"allowed_emails": ["EVE@Blocked.Example"]}, "keep"),
        ({"allowed_emails": ["eva@blocked.example"]}, "cancel"),
        ({"allowed_domains": ["blocked.example"]}, "keep"),
        ({"allowed_domains": ["other.example"]}, "cancel"),
    ],
)
def test_the_allow_list_beats_the_block_list(allowed: dict[str, Any], action: str) -> None:
    assert action_for("Eve@blocked.example", **allowed) == action


def test_an_allowed_part_of_a_blocked_domain_is_kept() -> None:
    assert action_for("eve@partner.blocked.example", allowed_domains=["partner.blocked.example"]) == "keep"
    assert action_for("eve@sub.partner.blocked.example", allowed_domains=["partner.blocked.example"]) == "keep"
    assert action_for("eve@blocked.example", allowed_domains=["partner.blocked.example"]) == "cancel"


def test_own_domains_are_never_blocked_unless_the_policy_says_so_and_a_warning_names_them() -> None:
    own = ("blocked.example",)
    assert action_for("eve@blocked.example", own=own) == "keep"
    assert action_for("eve@blocked.example", own=own, protect_own_domains=False) == "cancel"
    assert action_for("eve@blocked.example", own=("mail.blocked.example",)) == "cancel"
    (warning,) = own_domain_warnings(policy_of("spam.example", "blocked.example"), own)
    assert "blocked.example" in warning
    (warning,) = own_domain_warnings(policy_of(), ["mail.blocked.example"])
    assert "blocked.example is blocked, but mail.blocked.example is one of your own" in warning
    assert own_domain_warnings(policy_of(), ["good.example"]) == []
    assert own_domain_warnings(policy_of(protect_own_domains=False), own) == []


GOOD, BAD, WORSE = "good@fine.example", "eve@blocked.example", "bob@mail.blocked.example"


@pytest.mark.parametrize(
    ("emails", "guests", "limit", "group_events", "action"),
    [
        ([BAD], [], 1, "report", "cancel"),
        ([GOOD], [BAD], 1, "report", "cancel"),
        ([GOOD], [], 1, "cancel", "keep"),
        ([BAD, GOOD], [], 10, "report", "report"),
        ([BAD, GOOD], [], 10, "cancel", "cancel"),
        ([BAD, WORSE], [], 10, "report", "cancel"),
        ([BAD], [], 10, "report", "cancel"),
        ([GOOD], [BAD], 10, "report", "report"),
        ([GOOD], [BAD], 10, "cancel", "cancel"),
        ([BAD, GOOD], [], 1, "report", "report"),  # whatever the limit says: there are others
        ([], [BAD], 1, "report", "cancel"),
        ([], [], 10, "cancel", "keep"),
    ],
)
def test_a_group_event_that_others_have_booked_is_cancelled_only_if_the_policy_says_so(
    emails: list[str], guests: list[str], limit: int, group_events: str, action: str
) -> None:
    event = event_of(guests=guests, limit=limit)
    decision = decide(event, map(invitee_of, emails), policy_of(group_events=group_events))
    assert decision.action == action
    assert [match.email for match in decision.matches] == [email for email in emails + guests if email != GOOD]


def test_canceled_invitees_and_canceled_events_do_not_count() -> None:
    left = [invitee_of(BAD, "canceled"), invitee_of(GOOD)]
    assert decide(event_of(limit=10), left, policy_of()).action == "keep"
    good_left = [invitee_of(BAD), invitee_of(GOOD, "canceled")]
    assert decide(event_of(limit=10), good_left, policy_of()).action == "cancel"
    assert decide(event_of(status="canceled"), [invitee_of(BAD)], policy_of()).action == "keep"


def test_guests_are_looked_at_only_where_the_policy_says_so() -> None:
    assert decide(event_of(guests=[BAD]), [invitee_of(GOOD)], policy_of(check_guests=False)).action == "keep"


def test_a_decision_says_why_and_when_it_is_for_the_host_and_hides_addresses() -> None:
    zones = {ALICE: "America/New_York"}
    decision = decide(event_of(guests=[WORSE], limit=9), map(invitee_of, [BAD, GOOD]), policy_of(), host_zones=zones)
    assert decision.why == "invitee of blocked.example, guest of blocked.example; 1 other invitee"
    assert decision.host_zone == "America/New_York"
    assert decision.shared
    assert BAD not in repr(decision)
    assert decide(event_of(), [], policy_of()).host_zone is None


labels = st.from_regex(r"[a-z]([a-z0-9]{0,8}[a-z0-9])?", fullmatch=True)
domains = st.lists(labels, min_size=2, max_size=4).map(".".join)
emails = st.tuples(labels, domains).map("@".join)


def shuffled_case(text: str, upper: list[bool]) -> str:
    return "".join(letter.upper() if up else letter for letter, up in zip(text, upper + [False] * 99, strict=False))


@given(
    domain=domains, sub=st.lists(labels, max_size=3), case=st.lists(st.booleans(), max_size=60), within=st.booleans()
)
def test_exactly_a_domain_and_what_is_below_it_is_blocked(
    domain: str, sub: list[str], case: list[bool], within: bool
) -> None:
    email = shuffled_case("eve@" + ".".join([*sub, domain]), case)
    expected = "cancel" if within or not sub else "keep"
    assert action_for(email, shuffled_case(domain, case), include_subdomains=within) == expected
    assert action_for(f"eve@x{domain}", domain, include_subdomains=within) == "keep"
    assert action_for(f"eve@{domain}.other", domain, include_subdomains=within) == "keep"


def below(email: str, listed: list[str]) -> bool:
    """Said once more, in other words: a domain is below another if its labels end with the other's."""
    mine = email.rpartition("@")[2].split(".")
    return any(mine[-len(theirs) :] == theirs for theirs in (domain.split(".") for domain in listed))


few = st.sampled_from(["a.example", "b.example", "x.a.example", "y.x.a.example", "xa.example", "c.test"])


@given(
    people=st.lists(st.tuples(few, st.sampled_from(["active", "canceled"])), max_size=5),
    guests=st.lists(few, max_size=3),
    limit=st.sampled_from([1, 10]),
    blocked=st.lists(few, min_size=1, max_size=3),
    allowed=st.lists(few, max_size=2),
    own=st.lists(few, max_size=2),
    group_events=st.sampled_from(["report", "cancel"]),
)
def test_whatever_comes_together_nobody_welcome_loses_a_group_booking_and_nobody_blocked_stays_unseen(
    people: list[tuple[str, str]],
    guests: list[str],
    limit: int,
    blocked: list[str],
    allowed: list[str],
    own: list[str],
    group_events: str,
) -> None:
    policy = policy_of(*blocked, allowed_domains=allowed, group_events=group_events)
    invitees = [invitee_of(f"p@{domain}", status) for domain, status in people]
    event = event_of(guests=[f"g@{domain}" for domain in guests], limit=limit)

    decision = decide(event, invitees, policy, frozenset(own))

    def bad(domain: str) -> bool:
        return below(domain, blocked) and not below(domain, allowed) and not below(domain, own)

    active = [domain for domain, status in people if status == "active"]
    welcome = [domain for domain in active if not bad(domain)]
    unwanted = [domain for domain in [*active, *guests] if bad(domain)]
    assert (decision.action == "keep") == (not unwanted)
    assert len(decision.matches) == len(unwanted)
    if decision.action == "cancel" and group_events == "report":
        assert not welcome or (limit == 1 and len(active) == 1)
    if decision.action == "report":
        assert group_events == "report"
        assert welcome
    assert decide(event, [i for i in invitees if i.status == "active"], policy, frozenset(own)) == decision


# Parameters


@pytest.mark.parametrize(
    ("policy", "field", "words"),
    [
        ({"blocked_domains": ["foo@bar.example"]}, "blocked_domains.0", "must be a domain such as"),
        ({"blocked_domains": ["*.secret.example"]}, "blocked_domains.0", "must be a domain such as"),
        ({"blocked_domains": []}, "blocked_domains", "at least 1"),
        ({"blocked_domains": "secret.example"}, "blocked_domains", "list"),
        ({}, "blocked_domains", "required"),
        ({"allowed_domains": ["a@secret.example"]}, "allowed_domains.0", "must be a domain"),
        ({"allowed_emails": ["secret.example"]}, "allowed_emails.0", "must be an e-mail address"),
        ({"allowed_emails": ["a b@secret.example"]}, "allowed_emails.0", "must be an e-mail address"),
        ({"allowed_emails": ["a@secret@x.example"]}, "allowed_emails.0", "must be an e-mail address"),
        ({"alowed_domains": ["secret.example"]}, "alowed_domains", "not permitted"),
        ({"starting_at": "2026-03-02T12:00:00"}, "starting_at", "timezone"),
        ({"horizon_days": 0}, "horizon_days", "greater than or equal to 1"),
        ({"horizon_days": 366}, "horizon_days", "less than or equal to 365"),
        ({"max_cancellations": 0}, "max_cancellations", "greater than or equal to 1"),
        ({"max_cancellations": 1_001}, "max_cancellations", "less than or equal to 1000"),
        ({"reason": "secret " * 1_500}, "reason", "at most 10000"),
        ({"scope": "secret"}, "scope", "'user' or 'organization'"),
        ({"group_events": "secret"}, "group_events", "'report' or 'cancel'"),
        ({"notify": "secret"}, "notify", "slack-webhook/ops"),
    ],
)
def test_a_wrong_policy_is_refused_by_the_name_of_its_field_without_its_value(
    policy: dict[str, Any], field: str, words: str
) -> None:
    if policy and "blocked_domains" not in policy:
        policy = {"blocked_domains": ["blocked.example"], **policy}
    with pytest.raises(ValidationError) as direct:
        CancelPolicy.model_validate(policy)
    with pytest.raises(ParameterTypeError) as through_prefect:
        cancel_blocked_domains.validate_parameters({"credentials": None, "policy": policy})
    for text in (str(direct.value), str(through_prefect.value)):
        assert field in text
        assert words in text
        assert "secret" not in text
        assert "foo@bar" not in text
        assert "2026-03-02" not in text


def test_a_list_holds_each_domain_and_address_once_in_one_form() -> None:
    policy = policy_of("Bücher.example", "xn--bcher-kva.EXAMPLE", "b.example", allowed_emails=["A@B.c", "a@b.C"])
    assert policy.blocked_domains == ["xn--bcher-kva.example", "b.example"]
    assert policy.allowed_emails == ["a@b.c"]


def test_the_form_explains_and_orders_every_field() -> None:
    schema = cancel_blocked_domains.parameters.model_dump()
    asked = ["credentials", "policy", "dry_run", "require_approval", "approval_hours"]
    assert list(schema["properties"]) == asked
    assert all(schema["properties"][name].get("description") for name in asked if name != "policy")
    assert schema["properties"]["credentials"]["description"].startswith("Whose Calendly")
    assert schema["definitions"]["CancelPolicy"]["description"].startswith("Whose bookings")
    assert schema["properties"]["dry_run"]["description"].startswith("Only say")
    assert schema["properties"]["dry_run"]["default"] is True
    fields = schema["definitions"]["CancelPolicy"]["properties"]
    assert list(fields) == list(CancelPolicy.model_fields)
    assert [field["position"] for field in fields.values()] == list(range(len(fields)))
    assert all(field["description"].endswith(".") for field in fields.values())
    domain = fields["blocked_domains"]["items"]
    assert (domain["type"], domain["maxLength"]) == ("string", 253)
    assert re.search(domain["pattern"], "Bücher.example")
    assert not re.search(domain["pattern"], "eve@blocked.example")
    # An empty field, and not a choice between a type and nothing; nothing is sent for it.
    assert (fields["starting_at"]["type"], fields["notify"]["type"]) == ("string", "string")
    assert "default" not in fields["starting_at"]
    assert CancelPolicy(blocked_domains=["a.example"], notify="").notify is None
    assert fields["group_events"]["enum"] == ["report", "cancel"]


# Over HTTP: what is canceled, on the task alone

IDN = ("bücher.example", "xn--bcher-kva.example")


def is_bad(email: str) -> bool:
    return email.lower().endswith(("@blocked.example", "@mail.spam-corp.example", *(f"@{name}" for name in IDN)))


def is_wanted(event: dict[str, Any]) -> bool:
    """Whether an event of the sandbox's own world is to be canceled, other invitees permitting."""
    active = [item["email"] for item in event["invitees"] if item["status"] == "active"]
    guests = [guest["email"] for guest in event["event_guests"]]
    if not any(map(is_bad, active + guests)):
        return False
    return all(map(is_bad, active)) or event["invitees_counter"]["limit"] == 1


def is_mixed(event: dict[str, Any]) -> bool:
    people = [item["email"] for item in event["invitees"] if item["status"] == "active"]
    people += [guest["email"] for guest in event["event_guests"]]
    return any(map(is_bad, people)) and not is_wanted(event)


def upcoming(world: World, **owner: str) -> list[dict[str, Any]]:
    return world.events(status="active", min_start_time=datetime.now(UTC).isoformat(), **owner)


def canceled_by_api(sandbox: Sandbox) -> dict[str, dict[str, Any]]:
    return {uuid_of(event): event for event in sandbox.state()["canceled_by_api"]}


def everything(**members: Any) -> CancelPolicy:
    """The policy that goes with `is_wanted`: the whole organization, as far ahead as the sandbox has events."""
    return policy_of(*BLOCKED, **{"scope": "organization", "horizon_days": 90, **members})


def posts(sandbox: Sandbox) -> int:
    return int(sandbox.stats()["by_route"].get(POST, 0))


def add_booking(sandbox: Sandbox, *emails: str, **members: Any) -> str:
    start = sandbox.clock() + timedelta(days=3)
    return sandbox.add_event(start, invitees=[{"email": email} for email in emails], **members)


async def outcome_of(credentials: CalendlyCredentials, uri: str, *, shared: bool = False) -> CancelOutcome:
    decision = Decision(uri, NOON, None, "cancel", "", shared=shared)
    with disable_run_logger():
        (outcome,) = await cancel_events.fn(credentials, [decision], everything(), frozenset())
    assert outcome.event == uri
    return outcome


async def test_an_event_that_has_begun_meanwhile_is_left_alone(
    sandbox: Sandbox, credentials: CalendlyCredentials
) -> None:
    uri = add_booking(sandbox, BAD)
    sandbox.set_clock(advance_seconds=4 * 86_400)
    assert str(await outcome_of(credentials, uri)) == "left alone: it has begun"


async def test_an_event_that_is_gone_meanwhile_is_left_alone(credentials: CalendlyCredentials) -> None:
    assert str(await outcome_of(credentials, f"{API}/scheduled_events/NOSUCHEVENT")) == "left alone: it is gone"


@pytest.mark.parametrize("shared", [True, False])
async def test_an_event_that_somebody_else_has_cancelled_meanwhile_is_not_claimed(
    sandbox: Sandbox, credentials: CalendlyCredentials, world: World, shared: bool
) -> None:
    uri = add_booking(sandbox, BAD)
    world.cancel(uuid_of(uri), "I am ill")
    assert str(await outcome_of(credentials, uri, shared=shared)) == "already canceled"
    assert canceled_by_api(sandbox)[uuid_of(uri)]["cancellation"]["reason"] == "I am ill"


async def test_a_cancellation_that_is_there_already_and_cannot_be_read_is_not_claimed(
    sandbox: Sandbox, credentials: CalendlyCredentials, world: World, impatient: None
) -> None:
    uri = add_booking(sandbox, BAD)
    world.cancel(uuid_of(uri))
    sandbox.fault("server_error", method="GET", route="/scheduled_events/{uuid}", times=None)
    assert str(await outcome_of(credentials, uri)) == "already canceled"


async def test_a_group_event_that_somebody_welcome_has_booked_meanwhile_is_left_alone(
    sandbox: Sandbox, credentials: CalendlyCredentials
) -> None:
    uri = add_booking(sandbox, BAD, GOOD)
    assert str(await outcome_of(credentials, uri, shared=True)) == "left alone: others have booked it meanwhile"
    assert posts(sandbox) == 0


async def test_an_answer_lost_after_the_cancellation_counts_once(
    sandbox: Sandbox, credentials: CalendlyCredentials, impatient: None
) -> None:
    uri = add_booking(sandbox, BAD)
    sandbox.fault("drop_after", method="POST", route=CANCELLATION)
    assert str(await outcome_of(credentials, uri)) == "canceled"
    assert posts(sandbox) == sandbox.stats()["writes"]["cancellation"] == 1


# Over HTTP and through Prefect: the flow

through_prefect = pytest.mark.usefixtures("prefect_server")


@through_prefect
async def test_a_listing_that_repeats_an_event_counts_and_cancels_it_once(
    sandbox: Sandbox, credentials: CalendlyCredentials, monkeypatch: pytest.MonkeyPatch
) -> None:
    add_booking(sandbox, BAD)

    async def twice(client: CalendlyClient, **filters: Any) -> AsyncIterator[ScheduledEvent]:
        for _ in range(2):
            async for event in list_scheduled_events_via(client, **filters):
                yield event

    monkeypatch.setattr(module, "list_scheduled_events_via", twice)
    report = await cancel_blocked_domains(credentials, everything(max_cancellations=1_000), dry_run=False)
    assert report.to_cancel == report.canceled == len(set(report.canceled_events)) == posts(sandbox) > 0


@through_prefect
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


@through_prefect
async def test_prefect_does_not_log_the_parameters_when_one_is_wrong(
    credentials: CalendlyCredentials, run_logs: list[str]
) -> None:
    policy = {"blocked_domains": ["spam.example"], "allowed_emails": ["jane.secret@example.com"], "typo": 1}
    with pytest.raises(ParameterTypeError, match="typo"):
        await cancel_blocked_domains(credentials, policy)  # type: ignore[arg-type]
    assert any("the error says which parameter" in line for line in run_logs)
    assert "jane.secret" not in "".join(run_logs)


@through_prefect
async def test_a_dry_run_says_what_would_be_cancelled_and_changes_nothing(
    sandbox: Sandbox, credentials: CalendlyCredentials, world: World
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
    summary = await artifact(SUMMARY_KEY)
    assert summary.startswith(f"# DRY RUN: {len(wanted)} events would be canceled, nothing was changed")
    rows = {row["event"]: row for row in json.loads(await artifact(DECISIONS_KEY))}
    assert rows.keys() == {uuid_of(event) for event in wanted + mixed}
    assert all(rows[uuid_of(event)]["what happened"] == "would be canceled" for event in wanted)
    assert all(rows[uuid_of(event)]["what happened"] == "only reported" for event in mixed)


@through_prefect
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
    assert {row["event"] for row in rows if row["what happened"] == "canceled"} == wanted
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


@through_prefect
async def test_start_is_in_the_hosts_zone_across_the_clock_change_and_addresses_show_on_demand(
    sandbox: Sandbox, credentials: CalendlyCredentials
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
    rows = {row["event"]: row for row in json.loads(await artifact(DECISIONS_KEY))}
    for uuid, shown in made.items():
        assert (rows[uuid]["start"], rows[uuid]["zone"]) == (shown, "Europe/Berlin")
        assert rows[uuid]["who"] == "e|v*e@blocked.example"  # a table shows its cells as they are, a page does not
        assert f"| [{uuid[:6]}…]({API}/scheduled_events/{uuid}) |" in await artifact(SUMMARY_KEY)
        assert rows[uuid]["why"] == "invitee of blocked.example"
    assert r"| e\|v\*e\u200b@" in (await artifact(SUMMARY_KEY)).encode("ascii", "backslashreplace").decode()


@through_prefect
async def test_scope_user_looks_at_ones_own_events_and_needs_no_role(sandbox: Sandbox) -> None:
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
    assert "uma.example is blocked, but it is one of your own domains" in await artifact(SUMMARY_KEY)
    (row,) = json.loads(await artifact(DECISIONS_KEY))
    assert row["zone"] == "Asia/Tokyo"


@through_prefect
async def test_domains_of_all_members_are_protected_for_the_whole_organization(
    sandbox: Sandbox, credentials: CalendlyCredentials
) -> None:
    sandbox.add_user("Zora Neu", email="zora@Neu.Acme.Example")
    uri = add_booking(sandbox, "colleague@neu.acme.example")
    policy = everything(blocked_domains=["neu.acme.example"])
    report = await cancel_blocked_domains(credentials, policy, dry_run=False)
    assert report.to_cancel == posts(sandbox) == 0
    assert "neu.acme.example is blocked, but" in await artifact(SUMMARY_KEY)

    unprotected = policy.model_copy(update={"protect_own_domains": False})
    report = await cancel_blocked_domains(credentials, unprotected, dry_run=False)
    assert report.canceled_events == (uuid_of(uri),)


@through_prefect
async def test_the_horizon_ends_where_it_says(sandbox: Sandbox, credentials: CalendlyCredentials) -> None:
    begins = datetime(2028, 1, 1, tzinfo=UTC)
    inside = sandbox.add_event(begins + timedelta(days=1, hours=23), invitees=[{"email": BAD}])
    sandbox.add_event(begins + timedelta(days=2, hours=1), invitees=[{"email": BAD}])
    sandbox.add_event(begins - timedelta(hours=1), invitees=[{"email": BAD}])
    policy = everything(starting_at=begins, horizon_days=2)
    report = await cancel_blocked_domains(credentials, policy, dry_run=False)
    assert report.canceled_events == (uuid_of(inside),)
    assert report.events_checked == 1


@through_prefect
async def test_mixed_group_events_are_cancelled_where_the_policy_says_so(
    sandbox: Sandbox, credentials: CalendlyCredentials, world: World
) -> None:
    events = upcoming(world, organization=ORGANIZATION)
    expected = {uuid_of(event) for event in events if is_wanted(event) or is_mixed(event)}
    report = await cancel_blocked_domains(credentials, everything(group_events="cancel"), dry_run=False)
    assert report.reported == 0
    assert canceled_by_api(sandbox).keys() == set(report.canceled_events) == expected


@through_prefect
async def test_over_the_cap_nothing_is_cancelled_and_the_error_says_what_to_do(
    sandbox: Sandbox, credentials: CalendlyCredentials, world: World
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
    assert (await artifact(SUMMARY_KEY)).startswith("# REFUSED")
    rows = json.loads(await artifact(DECISIONS_KEY))
    assert sum(row["what happened"] == "not canceled: over the cap" for row in rows) == len(wanted)

    report = await cancel_blocked_domains(credentials, policy)  # a dry run only warns of it
    assert report.to_cancel == len(wanted)
    assert "A real run would cancel nothing" in await artifact(SUMMARY_KEY)
    assert (await cancel_blocked_domains(credentials, everything(max_cancellations=cap + 1), dry_run=False)).canceled


@through_prefect
@pytest.mark.parametrize(
    ("kind", "error"), [("permission_denied", "RoleRequiredError"), ("server_error", "ServerError")]
)
async def test_one_failure_does_not_stop_the_others_and_fails_the_run(
    sandbox: Sandbox, credentials: CalendlyCredentials, world: World, impatient: None, kind: str, error: str
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
    assert f"- {unlucky}: {error}" in await artifact(SUMMARY_KEY)
    (row,) = [row for row in json.loads(await artifact(DECISIONS_KEY)) if row["event"] == unlucky]
    assert row["what happened"].startswith(f"failed: {error}")

    sandbox.clear_faults()
    again = await cancel_blocked_domains(credentials, everything(), dry_run=False)
    assert again.canceled_events == (unlucky,)


@through_prefect
async def test_an_event_that_cannot_be_checked_is_left_alone_and_fails_the_run_at_its_end(
    sandbox: Sandbox, credentials: CalendlyCredentials, world: World
) -> None:
    wanted = {uuid_of(event) for event in upcoming(world, organization=ORGANIZATION) if is_wanted(event)}
    unreadable = sorted(wanted)[0]
    sandbox.fault("permission_denied", path=f"/scheduled_events/{unreadable}/invitees", times=None)

    with pytest.raises(CancellationsFailedError, match=r"1 could not be checked; \d+ canceled"):
        await cancel_blocked_domains(credentials, everything(), dry_run=False)

    assert canceled_by_api(sandbox).keys() == wanted - {unreadable}
    (row,) = [row for row in json.loads(await artifact(DECISIONS_KEY)) if row["event"] == unreadable]
    assert row["what happened"] == "could not be checked"
    assert row["why"].startswith("RoleRequiredError")
    assert row["who"] == ""
    with pytest.raises(CancellationsFailedError, match="1 could not be checked"):
        await cancel_blocked_domains(credentials, everything())


@through_prefect
async def test_a_summary_with_many_problems_stays_short(sandbox: Sandbox, credentials: CalendlyCredentials) -> None:
    sandbox.fault("permission_denied", route="/scheduled_events/{uuid}/invitees", times=None)
    with pytest.raises(CancellationsFailedError):
        await cancel_blocked_domains(credentials, everything())
    summary = await artifact(SUMMARY_KEY)
    assert summary.count("could not be checked:") == 10
    assert re.search(r"- and \d+ more", summary)


@through_prefect
async def test_a_refused_key_stops_at_once_and_what_was_done_is_told(sandbox: Sandbox) -> None:
    credentials = credentials_for(sandbox, max_concurrency=1)
    sandbox.fault("unauthorized_gateway", route=CANCELLATION, skip=2, times=None)

    with pytest.raises(CancellationsFailedError) as caught:
        await cancel_blocked_domains(credentials, everything(), dry_run=False)

    assert posts(sandbox) == 3
    report = caught.value.report
    assert report is not None
    assert set(report.canceled_events) == canceled_by_api(sandbox).keys()
    assert (report.canceled, report.failed) == (2, report.to_cancel - 2)
    summary = await artifact(SUMMARY_KEY)
    assert summary.count("GatewayKeyError: ") == 1
    assert "not tried after GatewayKeyError" in summary


@through_prefect
async def test_an_account_that_refuses_reasons_cancels_without_one(
    sandbox: Sandbox, credentials: CalendlyCredentials
) -> None:
    sandbox.fault("cancellation_reason_quirk", times=None)
    report = await cancel_blocked_domains(credentials, everything(), dry_run=False)
    canceled = canceled_by_api(sandbox)
    assert report.canceled == report.to_cancel == len(canceled) > 0
    assert {event["cancellation"]["reason"] for event in canceled.values()} == {None}
    rows = json.loads(await artifact(DECISIONS_KEY))
    assert any(row["what happened"] == "canceled: without the reason, which was refused" for row in rows)


@through_prefect
async def test_without_a_reason_none_is_sent(sandbox: Sandbox, credentials: CalendlyCredentials) -> None:
    report = await cancel_blocked_domains(credentials, everything(reason="  "), dry_run=False)
    assert {event["cancellation"]["reason"] for event in canceled_by_api(sandbox).values()} == {None}
    assert {row["what happened"] for row in json.loads(await artifact(DECISIONS_KEY))} == {"canceled", "only reported"}
    assert report.canceled == report.to_cancel


@through_prefect
async def test_many_events_are_read_part_by_part(
    sandbox: Sandbox, credentials: CalendlyCredentials, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = await cancel_blocked_domains(credentials, everything())
    monkeypatch.setattr(module, "_EVENTS_PER_TASK", 7)
    parts = await cancel_blocked_domains(credentials, everything())
    counts = ("events_checked", "events_matched", "to_cancel", "reported", "requests")
    assert [getattr(parts, name) for name in counts] == [getattr(whole, name) for name in counts]


@through_prefect
async def test_a_run_has_no_more_tasks_than_a_person_can_look_through(
    credentials: CalendlyCredentials, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_EVENTS_PER_TASK", 1)
    monkeypatch.setattr(module, "_MOST_TASKS", 3)
    parts: list[int] = []

    @client_task("List the invitees of events")
    async def counted(client: CalendlyClient, events: list[str], *, status: Any) -> list[EventInvitees]:
        parts.append(len(events))
        return await list_invitees_of_events_via(client, events, status=status)

    monkeypatch.setattr(module, "alist_invitees_of_events", counted)
    report = await cancel_blocked_domains(credentials, everything())
    assert len(parts) == 3
    assert sum(parts) == report.events_checked


async def test_an_event_in_brief_decides_and_compares_as_the_whole_one(
    sandbox: Sandbox, credentials: CalendlyCredentials
) -> None:
    shared: dict[Any, Any] = {}
    async with credentials.get_client() as client:
        listing = list_scheduled_events_via(client, organization=ORGANIZATION, status="active")
        pairs = [(event, in_brief(event, shared)) async for event in listing]
    policy, zones = policy_of("blocked.example"), {ALICE: "Europe/Berlin"}
    assert len({event.event_guests for event, _ in pairs}) > 1
    for whole, brief in pairs:
        assert decide(brief, [], policy, (), zones) == decide(whole, [], policy, (), zones)
        assert fingerprint_of_change(brief) == fingerprint_of_change(whole)
        assert is_shared(brief) == is_shared(whole)
        assert (brief.created_at, brief.end_time) == (whole.created_at, whole.end_time)
    counters = {event.invitees_counter for event, _ in pairs}
    assert len({id(brief.invitees_counter) for _, brief in pairs}) == len(counters) < len(pairs)


async def test_a_message_goes_out_when_something_is_to_be_cancelled_or_fails_and_only_then(
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


@through_prefect
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


@through_prefect
@pytest.mark.parametrize(
    ("reference", "words"),
    [("slack-webhook/nowhere", "there is no saved block"), ("calendly-credentials/main", "not for notifications")],
)
async def test_a_notifier_that_is_none_is_refused_before_any_request(
    sandbox: Sandbox, credentials: CalendlyCredentials, reference: str, words: str
) -> None:
    await credentials.asave("main", overwrite=True)
    with no_request(sandbox), pytest.raises(ValueError, match=words):
        await cancel_blocked_domains(credentials, policy_of(notify=reference))


@through_prefect
async def test_whoever_may_not_see_the_organization_is_told_so_and_nothing_happens(sandbox: Sandbox) -> None:
    user = sandbox.add_user("Uma Plain", role="user")["uri"]
    sandbox.set_connection(CONNECTION, user=user)
    with pytest.raises(RoleRequiredError):
        await cancel_blocked_domains(credentials_for(sandbox), everything(), dry_run=False)
    assert posts(sandbox) == 0


@through_prefect
async def test_a_listing_that_fails_cancels_nothing(
    sandbox: Sandbox, credentials: CalendlyCredentials, impatient: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "list_active_events", module.list_active_events.with_options(retries=0))
    sandbox.fault("server_error", route="/scheduled_events", times=None)
    with pytest.raises(ServerError):
        await cancel_blocked_domains(credentials, everything(), dry_run=False)
    assert posts(sandbox) == 0


@pytest.fixture
def killed_run(prefect_server: None, sandbox: Sandbox) -> Iterator[int]:
    """A run in a process of its own that is killed while its third cancellation is under way; the events to cancel."""
    sandbox.fault("latency", route=CANCELLATION, skip=2, times=None, seconds=600)
    code = (
        "import asyncio, sys; from prefect_calendly import CalendlyCredentials; "
        "from flows.cancel_blocked_domains import *; "
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
        row["event"]
        for row in json.loads(await artifact(DECISIONS_KEY))
        if row["what happened"] == "about to be canceled"
    }
    assert done < planned

    sandbox.clear_faults()
    report = await cancel_blocked_domains(credentials, everything(), dry_run=False)

    assert set(report.canceled_events) == planned - done
    assert canceled_by_api(sandbox).keys() == planned
    assert posts(sandbox) == len(planned)
    left = upcoming(world, organization=ORGANIZATION)
    assert not [event for event in left if is_wanted(event)]


def test_an_outcome_reads_as_a_sentence() -> None:
    outcome = CancelOutcome("E", "failed", "ServerError: broken")
    assert str(outcome) == "failed: ServerError: broken"
    assert str(replace(outcome, result="canceled", detail="")) == "canceled"


@through_prefect
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
