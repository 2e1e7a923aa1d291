"""One booking is screened: canceled if somebody unwanted has made it, left alone otherwise, and never twice."""

import json
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import pytest
from prefect.exceptions import ParameterTypeError

import flows.screen_booking as module
from flows.screen_booking import screen_booking
from prefect_calendly import CalendlyCredentials
from prefect_calendly.events.emit import emit_events
from prefect_calendly.events.event import CalendlyEvent, related_resource
from prefect_calendly.sandbox import Sandbox
from prefect_calendly.screening.page import SCREEN_DECISIONS_KEY, SCREEN_SUMMARY_KEY
from prefect_calendly.screening.policy import CancelPolicy
from prefect_calendly.screening.report import CancellationsFailedError, ScreenReport, TooManyCancellationsError
from tests.inline import Inline
from tests.notifiers import RECORDER
from tests.world import ORGANIZATION, uuid_of

pytestmark = pytest.mark.usefixtures("inline")


def booked(sandbox: Sandbox, *emails: str, **members: Any) -> str:
    """Make a booking; the URI of the first invitee."""
    body = {
        "start_time": None,
        "invitees": [{"email": email} for email in emails or ("eve@blocked.example",)],
        **members,
    }
    return str(sandbox.control("POST", "/events", body)["invitees"][0])


def status(sandbox: Sandbox, invitee: str) -> str:
    return str(sandbox.state(full=True)["events"][invitee.split("/")[4]])


def writes(sandbox: Sandbox) -> int:
    return sum(sandbox.stats()["writes"].values())


async def screened(
    credentials: CalendlyCredentials, invitee: str, *, dry_run: bool = False, **members: Any
) -> ScreenReport:
    policy = CancelPolicy(**{"blocked_domains": ["blocked.example"], "scope": "organization", **members})
    return await screen_booking(credentials, invitee, policy, dry_run)


async def test_a_booking_of_a_blocked_domain_is_canceled_and_a_second_run_does_nothing(
    sandbox: Sandbox, credentials: CalendlyCredentials, recorder: list[tuple[str | None, str]], inline: Inline
) -> None:
    invitee = booked(sandbox)
    report = await screened(credentials, invitee, notify=RECORDER)
    assert (report.action, report.event, status(sandbox, invitee)) == ("canceled", invitee.split("/")[4], "canceled")
    assert report.seconds_after_booking is not None
    assert inline.artifact(SCREEN_SUMMARY_KEY).startswith("# 1 ")
    assert (
        "eve@"
        not in inline.artifact(SCREEN_DECISIONS_KEY) + inline.artifact(SCREEN_SUMMARY_KEY) + report.model_dump_json()
    )
    assert [subject for subject, _ in recorder] == [
        f"Screening: {inline.artifact(SCREEN_SUMMARY_KEY).splitlines()[0][2:]}"
    ]

    sandbox.reset_stats()
    again = await screened(credentials, invitee, notify=RECORDER)
    assert (again.action, again.why, again.requests) == ("nothing to do", "it is canceled already", 2)
    assert writes(sandbox) == 0
    assert len(recorder) == 1


async def test_a_welcome_booking_costs_two_requests(sandbox: Sandbox, credentials: CalendlyCredentials) -> None:
    invitee = booked(sandbox, "jane@shop.example")
    report = await screened(credentials, invitee)
    assert (report.action, report.requests, status(sandbox, invitee)) == ("kept", 2, "active")
    assert sandbox.stats()["unknown_parameters"] == []


async def test_a_dry_run_only_says_what_it_would_do(sandbox: Sandbox, credentials: CalendlyCredentials) -> None:
    invitee = booked(sandbox)
    report = await screened(credentials, invitee, dry_run=True)
    assert (report.action, report.dry_run, status(sandbox, invitee)) == ("would be canceled", True, "active")
    assert writes(sandbox) == 0


@pytest.mark.parametrize(
    ("members", "action"),
    [
        ({"allowed_emails": ["eve@blocked.example"]}, "kept"),
        ({"allowed_domains": ["blocked.example"]}, "kept"),
        ({"blocked_domains": ["spam.example"]}, "kept"),
    ],
)
async def test_it_decides_as_the_flow_that_looks_at_all_events_does(
    sandbox: Sandbox, credentials: CalendlyCredentials, members: dict[str, Any], action: str
) -> None:
    assert (await screened(credentials, booked(sandbox), **members)).action == action


async def test_the_organizations_own_domains_are_never_blocked(
    sandbox: Sandbox, credentials: CalendlyCredentials
) -> None:
    invitee = booked(sandbox, "somebody@acme.com")
    report = await screened(credentials, invitee, blocked_domains=["acme.com"])
    assert (report.action, status(sandbox, invitee)) == ("kept", "active")


async def test_a_group_event_that_others_have_booked_is_only_reported(
    sandbox: Sandbox, credentials: CalendlyCredentials
) -> None:
    invitee = booked(sandbox, "eve@blocked.example", "jane@shop.example")
    report = await screened(credentials, invitee)
    assert (report.action, status(sandbox, invitee)) == ("only reported", "active")


async def test_an_address_that_cannot_be_read_is_for_a_person_to_look_at(
    sandbox: Sandbox, credentials: CalendlyCredentials, recorder: list[tuple[str | None, str]], inline: Inline
) -> None:
    invitee = booked(sandbox, "friends: eve@blocked.example;")
    report = await screened(credentials, invitee, notify=RECORDER)
    assert (report.action, status(sandbox, invitee)) == ("undecided", "active")
    assert report.why == "invitee whose address cannot be read"
    assert inline.artifact(SCREEN_SUMMARY_KEY).startswith("# 1 event is undecided: an address cannot be read")
    assert len(recorder) == 1


async def test_what_is_past_help_is_left_alone(sandbox: Sandbox, credentials: CalendlyCredentials) -> None:
    begun = booked(sandbox, start_time=datetime.now(UTC) - timedelta(minutes=5))
    assert (await screened(credentials, begun)).why == "it has begun"
    moved = booked(sandbox)
    sandbox.reschedule_event(moved.split("/")[4])
    assert (await screened(credentials, moved)).why == "it was moved"
    assert writes(sandbox) == 0


async def test_with_the_scope_user_events_of_others_stay(sandbox: Sandbox, credentials: CalendlyCredentials) -> None:
    other = sandbox.add_user("Olga Other", email="olga@elsewhere.example")["uri"]
    sandbox.add_event_type("Talk", hosts=[uuid_of(other)])
    invitee = booked(sandbox, host=uuid_of(other))
    report = await screened(credentials, invitee, scope="user")
    assert (report.action, status(sandbox, invitee)) == ("kept", "active")


async def test_beyond_the_cap_nothing_is_canceled_and_one_message_an_hour_tells_of_it(
    sandbox: Sandbox, credentials: CalendlyCredentials, recorder: list[tuple[str | None, str]], inline: Inline
) -> None:
    invitees = [booked(sandbox) for _ in range(3)]
    await screened(credentials, invitees[0], max_cancellations=1)
    for invitee in invitees[1:]:
        with pytest.raises(TooManyCancellationsError, match="within the last hour"):
            await screened(credentials, invitee, max_cancellations=1, notify=RECORDER)
        assert status(sandbox, invitee) == "active"
        (row,) = json.loads(inline.artifact(SCREEN_DECISIONS_KEY))
        assert row["status"] == "not canceled: over the cap"
    assert [subject for subject, _ in recorder] == [
        "Screening: REFUSED: 1 event to cancel, over the cap of 1; nothing was changed"
    ]
    names = [event["event"] for event in inline.events.stored.values()]
    assert sorted(names) == ["calendly.screening.canceled", *["calendly.screening.refused"] * 2]
    for event in inline.events.stored.values():
        event["occurred"] = (datetime.now(UTC) - timedelta(minutes=61)).isoformat()
    assert (await screened(credentials, invitees[1], max_cancellations=1)).action == "canceled"


@pytest.mark.parametrize("members", [{}, {"protect_own_domains": False}])
async def test_the_cap_counts_what_was_canceled_for_the_same_account_only(
    sandbox: Sandbox, credentials: CalendlyCredentials, inline: Inline, members: dict[str, Any]
) -> None:
    await screened(credentials, booked(sandbox), max_cancellations=1, scope="organization", **members)
    # Another organization on the same Prefect server, and one's own events only.
    other = inline.events.stored.popitem()[1]
    other["related"][0]["prefect.resource.id"] = "calendly.organization.OTHER"
    inline.events.stored[UUID(other["id"])] = other
    assert (await screened(credentials, booked(sandbox), max_cancellations=1, **members)).action == "canceled"
    own = await screened(credentials, booked(sandbox), max_cancellations=1, scope="user", **members)
    assert own.action == "canceled"
    for scope in ("organization", "user"):
        with pytest.raises(TooManyCancellationsError):
            await screened(credentials, booked(sandbox), max_cancellations=1, scope=scope, **members)
    accounts = [event["related"][0]["prefect.resource.id"] for event in inline.events.stored.values()]
    assert set(accounts) == {
        "calendly.organization.OTHER",
        "calendly.organization.BBBBBBBBBBBBBBBB",
        "calendly.user.AAAAAAAAAAAAAAAA",
    }


async def test_the_cap_does_not_count_what_others_have_put_into_prefect(
    sandbox: Sandbox, credentials: CalendlyCredentials, inline: Inline
) -> None:
    organization = related_resource(ORGANIZATION, "organization")
    labels = {"prefect.resource.id": "calendly.scheduled-event.X", "calendly.source": "webhook"}
    forged = [
        CalendlyEvent(uuid4(), "calendly.screening.canceled", datetime.now(UTC), labels, (organization,))
        for _ in range(25)
    ]
    await emit_events(forged)
    assert (await screened(credentials, booked(sandbox), max_cancellations=1)).action == "canceled"


async def test_a_run_that_was_killed_before_the_cancellation_is_done_by_the_next(
    sandbox: Sandbox, credentials: CalendlyCredentials, inline: Inline, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Killed(BaseException):
        pass

    async def killed(*args: Any) -> Any:
        raise Killed

    invitee = booked(sandbox)
    with monkeypatch.context() as patched:
        patched.setattr(module, "cancel_events", killed)
        with pytest.raises(Killed):
            await screened(credentials, invitee)
    assert "the run was interrupted" in inline.artifact(SCREEN_SUMMARY_KEY)
    assert (await screened(credentials, invitee)).action == "canceled"
    assert sandbox.stats()["by_route"]["POST /scheduled_events/{uuid}/cancellation"] == 1


async def test_a_cancellation_that_fails_is_told(
    sandbox: Sandbox, credentials: CalendlyCredentials, impatient: None, recorder: list[tuple[str | None, str]]
) -> None:
    invitee = booked(sandbox)
    sandbox.fault("permission_denied", method="POST", route="/scheduled_events/{uuid}/cancellation", times=None)
    with pytest.raises(CancellationsFailedError, match="could not be canceled"):
        await screened(credentials, invitee, notify=RECORDER)
    assert len(recorder) >= 1
    assert all("eve@" not in body for _, body in recorder)


async def test_an_invitee_who_is_not_in_the_event_stops_it(sandbox: Sandbox, credentials: CalendlyCredentials) -> None:
    invitee = booked(sandbox).rpartition("/")[0] + "/NOBODY"
    with pytest.raises(CancellationsFailedError, match="not among those of the event"):
        await screened(credentials, invitee)


@pytest.mark.parametrize("wrong", ["", "EEEE", "https://elsewhere.example/scheduled_events/E/invitees/I", "{{ x }}"])
async def test_what_is_no_invitee_is_refused_before_any_request(
    sandbox: Sandbox, credentials: CalendlyCredentials, wrong: str
) -> None:
    with pytest.raises(ParameterTypeError, match="must be the URI of an invitee"):
        await screened(credentials, wrong)
    assert sandbox.stats()["requests"] == 0
