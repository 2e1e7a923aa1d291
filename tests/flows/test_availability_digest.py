"""The digest flow as a whole, without a Prefect server: what it publishes, compares, announces and refuses."""

from datetime import UTC, date, datetime, time
from typing import Any

import pytest
from pydantic import SecretStr

from flows.availability_digest import availability_digest
from prefect_calendly import CalendlyCredentials
from prefect_calendly.client.errors import CalendlyTokenError, GatewayKeyError, NotFoundError
from prefect_calendly.digest.artifacts import DigestUnreadableError, artifact_key, table_key
from prefect_calendly.digest.request import DigestRequest
from prefect_calendly.digest.table import open_slots_of_table
from prefect_calendly.invitees import create_invitee_via
from prefect_calendly.runs.notifications import FAILED_KEY
from prefect_calendly.sandbox import Sandbox
from prefect_calendly.scheduled_events import cancel_scheduled_event_via
from tests.digest.calendar import ALICE, soon, uuid_of
from tests.digest.examples import API
from tests.fixtures import credentials_for
from tests.inline import Inline
from tests.notifiers import Receiver


def key_of(request: DigestRequest) -> str:
    return artifact_key(f"{API}/users/{ALICE}", request)


# What it publishes


async def test_it_publishes_a_page_and_a_table_and_reports_on_them(
    sandbox: Sandbox, credentials: CalendlyCredentials, inline: Inline
) -> None:
    request = DigestRequest(scope="organization", first_day=soon(), days=5)
    report = await availability_digest(credentials, request)
    assert (report.markdown_artifact, report.table_artifact) == (key_of(request), table_key(key_of(request)))
    open_slots = open_slots_of_table(inline.artifact(report.table_artifact))
    assert (report.hosts, report.days, report.unreadable, report.hosts_without_slots) == (4, 5, 0, 0)
    assert (len(open_slots), len(open_slots[ALICE])) == (4, 5)
    assert 0 < report.open_slots < sum(sum(days.values()) for days in open_slots.values())  # some are shared
    assert (report.first_digest, report.changed_hosts, report.notified) == (True, 0, False)
    assert report.next_slot is not None
    assert report.requests == sandbox.stats()["requests"]
    page = inline.artifact(report.markdown_artifact)
    headline = f"4 hosts, 5 days from {soon():%a} {soon().day} {soon():%b %Y} (UTC): {report.open_slots} open slots"
    assert f"{headline}, 0 hosts without open slots.\n" in page
    assert "This is the first digest" in page
    assert f"Cost: {report.requests} requests, " in page
    for published in inline.artifacts:
        assert "@" not in str(published.data)
        assert published.description


async def test_the_next_digest_says_what_was_booked_and_canceled_in_between(
    sandbox: Sandbox, credentials: CalendlyCredentials, inline: Inline
) -> None:
    rare = [{"type": "wday", "wday": "wednesday", "intervals": [{"from": "09:00", "to": "09:30"}]}]
    eve, bob = sandbox.add_user("Eve Example", timezone="UTC", rules=rare), sandbox.add_user("Bob Builder")
    request = DigestRequest(hosts=(eve["uri"], bob["uri"]), first_day=soon())

    first = await availability_digest(credentials, request)
    assert first.first_digest
    same = await availability_digest(credentials, request)
    assert (same.first_digest, same.changed_hosts, same.markdown_artifact) == (False, 0, first.markdown_artifact)
    assert "No changes. Compared with the digest of" in inline.artifact(same.markdown_artifact)

    days = open_slots_of_table(inline.artifact(first.table_artifact))[uuid_of(eve)]
    [day] = [date.fromisoformat(day) for day, count in days.items() if count]
    async with credentials.get_client() as client:
        invitee = await create_invitee_via(
            client,
            eve["event_type"],
            start_time=datetime.combine(day, time(9), UTC),
            email="ivy@example.com",
            name="Ivy",
            timezone="UTC",
            location={"kind": "zoom_conference"},
        )
    booked = await availability_digest(credentials, request)
    assert (booked.open_slots, booked.hosts_without_slots) == (first.open_slots - 1, 1)
    assert booked.changed_hosts == 1
    page = inline.artifact(booked.markdown_artifact)
    assert "1 host no longer bookable, 0 bookable again, 1 host with more or fewer open slots." in page
    assert "- Eve Example: no longer bookable\n- Eve Example: -1\n" in page
    assert "## Hosts without open slots\n\n- Eve Example\n" in page

    async with credentials.get_client() as client:
        await cancel_scheduled_event_via(client, invitee.event)
    reopened = await availability_digest(credentials, request)
    assert reopened.open_slots == first.open_slots
    page = inline.artifact(reopened.markdown_artifact)
    assert "- Eve Example: bookable again\n- Eve Example: +1\n" in page
    other = await availability_digest(credentials, DigestRequest(hosts=(eve["uri"],), first_day=soon()))
    assert other.first_digest


# What fails it


@pytest.mark.usefixtures("impatient")
@pytest.mark.parametrize("unreadable", ["host", "/event_types", "/event_type_available_times"])
async def test_a_digest_of_which_nothing_could_be_read_fails_and_its_page_says_why(
    sandbox: Sandbox, credentials: CalendlyCredentials, inline: Inline, unreadable: str
) -> None:
    request = DigestRequest(hosts=("NOSUCHUSER" if unreadable == "host" else ALICE,), first_day=soon(), days=3)
    if unreadable != "host":
        sandbox.fault("not_found", route=unreadable, times=None)
    with pytest.raises(DigestUnreadableError, match="NotFoundError") as caught:
        await availability_digest(credentials, request)
    assert key_of(request) in str(caught.value)
    assert "NotFoundError" in inline.artifact(key_of(request))
    # The next digest is compared with one that could be read.
    assert inline.versions(table_key(key_of(request))) == []


async def test_a_refused_key_ends_it_and_leaves_no_digest(
    sandbox: Sandbox, credentials: CalendlyCredentials, inline: Inline
) -> None:
    with pytest.raises(GatewayKeyError):
        await availability_digest(credentials_for(sandbox, api_key="wrong"), DigestRequest())
    sandbox.fault("unauthorized_calendly", route="/event_type_available_times", times=None)
    with pytest.raises(CalendlyTokenError):
        await availability_digest(credentials, DigestRequest(days=9))
    assert inline.artifacts == []


async def test_a_bad_request_is_refused_before_anything_is_asked(
    sandbox: Sandbox, credentials: CalendlyCredentials, inline: Inline
) -> None:
    form: Any = {"timezone": "Mars/Base"}
    with pytest.raises(Exception, match="timezone"):
        await availability_digest(credentials, form)
    assert sandbox.stats()["requests"] == 0
    assert isinstance(credentials.api_key, SecretStr)


# Notifications


async def test_a_notification_that_fails_is_logged_and_does_not_fail_the_digest(
    credentials: CalendlyCredentials, inline: Inline, receiver: Receiver, run_logs: list[str]
) -> None:
    receiver.status = 500
    request = DigestRequest(first_day=soon(), days=3, notify=receiver.block)
    report = await availability_digest(credentials, request)
    assert not report.notified
    assert len(receiver.messages) == 1
    assert report.open_slots > 0
    assert inline.artifact(report.markdown_artifact)
    assert inline.artifact(report.table_artifact)
    [warning] = [line for line in run_logs if "notification" in line]
    assert "HTTPStatusError" in warning
    failed = inline.artifact(FAILED_KEY)
    assert "The notification through custom-webhook/ops failed (HTTPStatusError)." in failed.replace("\\", "")
    assert "1 host, 3 days" in failed
    for secret in (receiver.url, receiver.secret):
        assert secret not in f"{run_logs} {failed}"


async def test_a_notification_service_that_is_gone_does_not_fail_the_digest(
    credentials: CalendlyCredentials, inline: Inline, receiver: Receiver, run_logs: list[str]
) -> None:
    receiver.stop()
    request = DigestRequest(first_day=soon(), days=3, notify=receiver.block)
    report = await availability_digest(credentials, request)
    assert not report.notified
    assert report.open_slots > 0
    [warning] = [line for line in run_logs if "notification" in line]
    assert "ConnectError" in warning
    assert "(ConnectError)" in inline.artifact(FAILED_KEY).replace("\\", "")


@pytest.mark.parametrize(
    ("route", "error"),
    [("/users/me", NotFoundError), ("/event_type_available_times", DigestUnreadableError)],
    ids=["the first request", "all slots"],
)
@pytest.mark.usefixtures("impatient")
async def test_a_digest_that_fails_sends_exactly_one_message(
    sandbox: Sandbox, credentials: CalendlyCredentials, receiver: Receiver, route: str, error: type[Exception]
) -> None:
    sandbox.fault("not_found", route=route, times=None)
    with pytest.raises(error):
        await availability_digest(credentials, DigestRequest(first_day=soon(), notify=receiver.block))
    [message] = receiver.messages
    assert message["subject"] == "Availability digest failed"
    assert "NotFoundError" in message["body"]
    assert sandbox.api_key not in message["body"]
