"""The digest is read completely and with the fewest requests; what cannot be read does not stop the rest."""

from datetime import UTC, date, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from prefect_calendly import CalendlyCredentials
from prefect_calendly.client import count_requests
from prefect_calendly.client.errors import BadRequestError, RoleRequiredError
from prefect_calendly.digest.model import Digest
from prefect_calendly.digest.page import digest_markdown
from prefect_calendly.digest.reading import from_now_on, read_digest
from prefect_calendly.digest.request import DigestRequest
from prefect_calendly.digest.table import table_rows
from prefect_calendly.digest.time import day_bounds
from prefect_calendly.runs.progress import Steps
from prefect_calendly.sandbox import Sandbox
from prefect_calendly.users import aget_current_user
from tests.digest.calendar import ALICE, Calendar, soon, uuid_of
from tests.digest.examples import BERLIN, WEEKDAYS, minutes
from tests.fixtures import credentials_for

pytestmark = pytest.mark.usefixtures("inline")


async def read(credentials: CalendlyCredentials, **request: Any) -> Digest:
    return await read_digest(credentials, DigestRequest(**request), await aget_current_user(credentials))


def table(digest: Digest) -> dict[str, dict[str, dict[str, Any]]]:
    """The rows of the table by host and date."""
    rows: dict[str, dict[str, dict[str, Any]]] = {}
    for row in table_rows(digest):
        rows.setdefault(row["host_uuid"], {})[row["date"]] = row
    return rows


def counted(digest: Digest, host: str) -> dict[str, dict[str, float]]:
    """A host's days, as `Calendar.days` counts them."""
    columns = ("open_slots", "working_hours", "busy_calendly")
    return {day: {name: row[name] for name in columns} for day, row in table(digest)[host].items()}


# What is read


async def test_a_digest_of_one_s_own_user_counts_what_the_sandbox_has(
    sandbox: Sandbox, credentials: CalendlyCredentials
) -> None:
    digest = await read(credentials, first_day=soon(), days=33, timezone="Europe/Berlin")
    stats = sandbox.stats()
    assert counted(digest, ALICE) == Calendar(sandbox).days(ALICE, soon(), 33, "Europe/Berlin")
    assert [entry.host.uuid for entry in digest.hosts] == [ALICE]
    assert digest.open_slots > 0
    assert digest.problems == ()
    assert stats["unknown_parameters"] == []
    # Eight active event types in two windows of 31 days each; five windows of 7 days.
    assert stats["by_route"] == {
        "GET /users/me": 1,
        "GET /event_types": 1,
        "GET /event_type_available_times": 16,
        "GET /user_busy_times": 5,
        "GET /user_availability_schedules": 1,
    }


async def test_a_digest_of_the_organization_asks_once_for_event_types_that_hosts_share(
    sandbox: Sandbox, credentials: CalendlyCredentials
) -> None:
    digest = await read(credentials, scope="organization", first_day=soon(), timezone="Asia/Kolkata", days=5)
    by_route, calendar = sandbox.stats()["by_route"], Calendar(sandbox)
    members = calendar.members()
    assert {entry.host.uuid for entry in digest.hosts} == set(map(uuid_of, members))
    assert len(digest.hosts) == 4
    for entry in digest.hosts:
        assert entry.open_slots > 0
        assert counted(digest, entry.host.uuid) == calendar.days(entry.host.uuid, soon(), 5, "Asia/Kolkata")
    assert by_route["GET /event_type_available_times"] == len(calendar.event_types())
    assert by_route["GET /organization_memberships"] == 1
    with count_requests() as meter:
        shown = digest_markdown(digest, None, "key", meter, 1)
    assert all(f"| {member['name']} |" in shown for member in members)
    assert "Product Demo (Sales)" in shown


async def test_the_progress_knows_in_the_end_how_many_requests_it_takes(credentials: CalendlyCredentials) -> None:
    user = await aget_current_user(credentials)
    request = DigestRequest(scope="organization", first_day=soon(), days=32)
    with count_requests() as meter:
        steps = Steps(meter)
        await read_digest(credentials, request, user, steps)
    assert steps.done == steps.total == meter.requests


async def test_hosts_are_found_by_uri_uuid_and_address_each_once_with_only_the_requested_event_types(
    sandbox: Sandbox, credentials: CalendlyCredentials
) -> None:
    eve = sandbox.add_user("Eve Example", email="eve.example@acme.example")
    bob = sandbox.add_user("Bob Builder")
    digest = await read(
        credentials,
        hosts=("Eve.Example@ACME.example", bob["uri"], uuid_of(bob), uuid_of(eve), "alice.johnson@acme.com"),
        event_types=(eve["event_type"], "NOSUCHTYPE"),
        first_day=soon(),
    )
    assert {entry.host.uuid: entry.open_slots for entry in digest.hosts} == {
        uuid_of(eve): 16 * 5,
        uuid_of(bob): 0,
        ALICE: 0,
    }
    assert [entry.host.uuid for entry in digest.hosts_without_slots] == [uuid_of(bob), ALICE]
    assert [tuple(problem) for problem in digest.problems] == [
        ("event type NOSUCHTYPE", "not an active event type of these hosts")
    ]
    assert sandbox.stats()["by_route"]["GET /event_type_available_times"] == 1


async def test_of_today_only_the_future_counts(sandbox: Sandbox, credentials: CalendlyCredentials) -> None:
    sandbox.add_busy_time(datetime.now(UTC) - timedelta(hours=3), datetime.now(UTC) + timedelta(hours=30))
    digest = await read(credentials, days=7)
    assert digest.next_slot is not None
    assert digest.next_slot > datetime.now(UTC)
    hours = [row["busy_external"] for row in table(digest)[ALICE].values()]
    assert sum(hours) == pytest.approx(30, abs=0.2)
    assert sandbox.stats()["by_status"].keys() == {"200"}


def next_clock_change(zone: ZoneInfo, hours: int) -> date:
    day = soon(10)
    while True:
        start, end = day_bounds(day, 1, zone)
        if end - start == timedelta(hours=hours):
            return day
        day += timedelta(days=1)


@pytest.mark.parametrize("hours", [23, 25])
async def test_the_week_in_which_the_clocks_change_is_right(
    sandbox: Sandbox, credentials: CalendlyCredentials, hours: int
) -> None:
    intervals = [{"from": "00:00", "to": "05:00"}, {"from": "22:00", "to": "24:00"}]
    rules = [{"type": "wday", "wday": day, "intervals": intervals} for day in WEEKDAYS]
    owl = uuid_of(sandbox.add_user("Nina Night", timezone="Europe/Berlin", rules=rules))
    first_day = next_clock_change(BERLIN, hours) - timedelta(days=2)
    digest = await read(credentials, hosts=(owl,), first_day=first_day, days=5, timezone="Europe/Berlin")
    rows = table(digest)[owl].values()
    assert [row["working_hours"] for row in rows] == [7, 7, hours - 17, 7, 7]
    assert [row["open_slots"] for row in rows] == [14, 14, 2 * (hours - 17), 14, 14]
    elsewhere = await read(credentials, hosts=(owl,), first_day=first_day, days=7, timezone="America/New_York")
    assert counted(elsewhere, owl) == Calendar(sandbox).days(owl, first_day, 7, "America/New_York")


# What cannot be read


@pytest.mark.usefixtures("impatient")
async def test_what_cannot_be_read_becomes_a_problem_and_does_not_hide_the_rest(sandbox: Sandbox) -> None:
    one_by_one = credentials_for(sandbox, max_concurrency=1)
    bob, eve, ben = (uuid_of(sandbox.add_user(name)) for name in ("Bob Builder", "Eve Example", "Ben Broken"))
    sandbox.fault("external_calendar", route="/user_busy_times", skip=1, times=4)  # Bob's answer comes, Eve's does not
    sandbox.fault("permission_denied", route="/event_types", skip=2)  # Ben's
    sandbox.fault("not_found", route="/event_type_available_times", skip=1)  # Eve's only one
    sandbox.fault("server_error", route="/user_availability_schedules", times=4)  # Bob's
    with count_requests() as meter:
        digest = await read(one_by_one, hosts=(bob, eve, ben, "NOSUCHUSER"), first_day=soon(), days=7)
    found = {problem.subject: problem.reason for problem in digest.problems}
    assert found.keys() == {
        "hosts[3]",
        "busy times of Eve Example",
        "event types of Ben Broken",
        "open slots of 30 Minute Meeting",
        "working hours of Bob Builder",
    }
    assert found["hosts[3]"].startswith("NotFoundError. Check the identifier")
    assert found["busy times of Eve Example"].startswith("ExternalCalendarError. The user should reconnect")
    assert found["event types of Ben Broken"].startswith("RoleRequiredError. ")
    assert found["open slots of 30 Minute Meeting"].startswith("NotFoundError. ")
    assert found["working hours of Bob Builder"].startswith("ServerError. ")
    rows, day = table(digest), soon().isoformat()
    assert {uuid: rows[uuid][day]["complete"] for uuid in rows} == {bob: True, eve: False, ben: False}
    assert rows[eve][day]["open_slots"] is None
    assert rows[eve][day]["busy_external"] is None
    assert rows[bob][day]["busy_external"] == 0
    assert rows[bob][day]["working_hours"] is None
    assert digest.open_slots == sum(row["open_slots"] for row in rows[bob].values()) == 16 * 5
    assert digest.hosts_without_slots == ()
    assert meter.repeats == 6


async def test_an_address_of_nobody_is_named_by_its_position_not_by_itself(credentials: CalendlyCredentials) -> None:
    wanted = r"hosts\[1\]: no member of the organization has this email address"
    with pytest.raises(ValueError, match=wanted) as failed:
        await read(credentials, hosts=(ALICE, "who.is.this@acme.example"))
    assert "who.is.this" not in repr(failed.value)


async def test_the_organization_requires_the_role_for_it(sandbox: Sandbox) -> None:
    plain_user = credentials_for(sandbox, connection_id="5f0d4c1e-8a53-4b6e-9f0e-2d6a7f3c9b11")
    with pytest.raises(RoleRequiredError):
        await read(plain_user, scope="organization")
    digest = await read(plain_user, first_day=soon())
    assert (len(digest.hosts), digest.problems) == (1, ())


# Asking from now on


async def test_a_span_is_asked_for_from_shortly_after_now_and_not_at_all_when_it_is_past() -> None:
    asked: list[datetime] = []

    async def ask(begin: datetime) -> list[int]:
        asked.append(begin)
        return [1]

    now = datetime.now(UTC)
    assert await from_now_on(ask, now - timedelta(hours=9), now + timedelta(hours=1)) == [1]
    assert now + minutes(1) <= asked[0] < now + minutes(2)
    assert await from_now_on(ask, now + timedelta(hours=2), now + timedelta(hours=3)) == [1]
    assert asked[1] == now + timedelta(hours=2)
    assert await from_now_on(ask, now - timedelta(hours=9), now) == []
    assert await from_now_on(ask, now - timedelta(hours=9), now + timedelta(seconds=30)) == []
    assert len(asked) == 2


async def test_a_request_that_waited_until_its_start_was_past_is_sent_again() -> None:
    asked: list[datetime] = []

    async def ask(begin: datetime) -> list[int]:
        asked.append(begin)
        if len(asked) < answered_at:
            raise BadRequestError("start_time must be in the future")
        return [1]

    answered_at = 3
    start, end = datetime.now(UTC), datetime.now(UTC) + timedelta(hours=1)
    assert await from_now_on(ask, start, end, margin=timedelta()) == [1]
    assert asked == sorted(set(asked))
    asked, answered_at = [], 99
    with pytest.raises(BadRequestError):
        await from_now_on(ask, start, end, margin=timedelta())
    assert len(asked) == 3
    asked = []
    with pytest.raises(BadRequestError):  # refused for another reason
        await from_now_on(ask, end, end + timedelta(hours=1))
    assert len(asked) == 1
