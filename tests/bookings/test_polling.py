"""What has happened to bookings since the last run is emitted once, at the cost of what has changed."""

from __future__ import annotations

import json
from collections import Counter
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from flows.poll_bookings import poll_bookings
from prefect_calendly import CalendlyCredentials
from prefect_calendly.bookings.polling import BookingsToPoll, PollReport
from prefect_calendly.bookings.polling_page import SUMMARY_KEY
from prefect_calendly.bookings.reading import BookingsUnreadableError
from prefect_calendly.client.errors import GatewayKeyError
from prefect_calendly.events.emit import emit_events
from prefect_calendly.events.prefect_api import EventsNotStoredError
from prefect_calendly.sandbox import Sandbox
from tests.bookings.conftest import Webhook
from tests.fixtures import credentials_for
from tests.inline import Inline
from tests.notifiers import RECORDER
from tests.support import no_request, nothing_unknown
from tests.world import ORGANIZATION, World, uuid_of

pytestmark = pytest.mark.usefixtures("inline")

CONNECTION = "21fd90f9-5935-43cd-b6c8-bde9d915ca80"
INVITEES = "GET /scheduled_events/{uuid}/invitees"
WHOLE = BookingsToPoll(scope="organization")
QUIET = {"GET /users/me": 1}


def cursor_of(inline: Inline) -> tuple[str, dict[str, Any]]:
    ((name, cursor),) = inline.states.items()
    assert name.startswith("poll-")
    return name, cursor


def pages(world: World) -> int:
    start = (datetime.now(UTC) - timedelta(days=1)).isoformat()
    return max(1, -(-len(world.listing("/scheduled_events", min_start_time=start, organization=ORGANIZATION)) // 100))


def requests(sandbox: Sandbox) -> dict[str, int]:
    return dict(sandbox.stats()["by_route"])


async def test_the_first_run_emits_nothing_and_the_next_ones_list_pages_only_while_nothing_happens(
    sandbox: Sandbox, credentials: CalendlyCredentials, world: World, inline: Inline
) -> None:
    just_before = sandbox.add_event(invitees=[{"email": "jane@shop.example"}])
    number = pages(world)
    sandbox.reset_stats()

    first = await poll_bookings(credentials, WHOLE)

    assert first.seeded
    assert (first.emitted, first.changed, first.invitee_lists) == ({}, 0, 0)
    assert first.requests == 1 + number
    assert requests(sandbox) == {**QUIET, "GET /scheduled_events": number}
    assert inline.artifact(SUMMARY_KEY).startswith("# FIRST RUN")

    for _ in range(2):
        sandbox.reset_stats()
        with nothing_unknown(sandbox):
            quiet = await poll_bookings(credentials, WHOLE)
        assert not quiet.seeded
        assert (quiet.emitted, quiet.changed, quiet.found) == ({}, 0, 0)
        assert requests(sandbox) == {**QUIET, "GET /scheduled_events": number}
    assert inline.events.about(just_before) == []
    assert quiet.updated_since_before == first.updated_since


async def test_what_happens_between_two_runs_is_emitted_once_at_the_cost_of_what_has_changed(
    sandbox: Sandbox, credentials: CalendlyCredentials, world: World, inline: Inline, run_logs: list[str]
) -> None:
    canceled, moved = (sandbox.add_event(invitees=[{"email": "joe.secret@shop.example"}]) for _ in range(2))
    await poll_bookings(credentials, WHOLE)
    booked = sandbox.add_event(invitees=[{"email": "jane.secret@shop.example", "name": "Jane Secret"}])
    world.cancel(uuid_of(canceled))
    new = sandbox.reschedule_event(uuid_of(moved))
    number = pages(world)
    sandbox.reset_stats()

    report = await poll_bookings(credentials, WHOLE)

    assert report.emitted == {
        "calendly.invitee.canceled": 2,
        "calendly.invitee.created": 2,
        "calendly.invitee.rescheduled": 1,
    }
    assert (report.changed, report.invitee_lists, report.found, report.already_there) == (4, 4, 5, 0)
    assert requests(sandbox) == {**QUIET, "GET /scheduled_events": number, INVITEES: 4}
    assert report.requests == 1 + number + 4
    assert inline.events.about(booked) == [("calendly.invitee.created", "poll")]
    assert inline.events.about(canceled) == [("calendly.invitee.canceled", "poll")]
    assert Counter(name for name, _ in inline.events.about(moved, new)) == {
        "calendly.invitee.canceled": 1,
        "calendly.invitee.created": 1,
        "calendly.invitee.rescheduled": 1,
    }
    shown, (name, cursor) = inline.artifact(SUMMARY_KEY), cursor_of(inline)
    assert shown.startswith(f"# Emitted 5 events; 4 of {report.events_listed} bookings changed")
    assert f"kept in the block `calendly-state/{name}`" in shown
    for text in (shown, report.model_dump_json(), json.dumps(cursor), "\n".join(run_logs)):
        assert "secret" not in text.lower()

    sandbox.reset_stats()
    again = await poll_bookings(credentials, WHOLE)
    assert (again.emitted, again.changed) == ({}, 0)
    assert requests(sandbox) == {**QUIET, "GET /scheduled_events": number}


async def test_a_second_change_of_the_same_booking_is_emitted_and_the_first_one_not_again(
    sandbox: Sandbox, credentials: CalendlyCredentials, world: World, inline: Inline
) -> None:
    await poll_bookings(credentials, WHOLE)
    uri = sandbox.add_event()
    await poll_bookings(credentials, WHOLE)
    world.cancel(uuid_of(uri))
    report = await poll_bookings(credentials, WHOLE)
    assert (report.emitted, report.already_there) == ({"calendly.invitee.canceled": 1}, 1)
    assert [name for name, _ in inline.events.about(uri)] == ["calendly.invitee.created", "calendly.invitee.canceled"]


async def test_no_shows_are_found_where_begun_events_are_rechecked(
    sandbox: Sandbox, credentials: CalendlyCredentials, inline: Inline
) -> None:
    begun = sandbox.add_event(datetime.now(UTC) - timedelta(hours=2))
    await poll_bookings(credentials, WHOLE)
    sandbox.mark_no_show(uuid_of(begun))
    assert (await poll_bookings(credentials, WHOLE)).emitted == {}

    sandbox.reset_stats()
    report = await poll_bookings(credentials, WHOLE.model_copy(update={"recheck": True}))

    assert report.emitted == {"calendly.invitee_no_show.created": 1}
    assert report.changed == 0
    assert 1 <= report.invitee_lists == requests(sandbox)[INVITEES] < report.events_listed
    assert inline.events.about(begun) == [("calendly.invitee_no_show.created", "poll")]
    assert (await poll_bookings(credentials, WHOLE.model_copy(update={"recheck": True}))).emitted == {}


async def test_what_a_webhook_has_emitted_is_not_emitted_again(
    sandbox: Sandbox, credentials: CalendlyCredentials, webhook: Webhook, inline: Inline
) -> None:
    await poll_bookings(credentials, WHOLE)
    uri = sandbox.add_event()
    await emit_events(webhook(uri))
    report = await poll_bookings(credentials, WHOLE)
    assert (report.found, report.emitted, report.already_there) == (1, {}, 1)
    assert inline.events.about(uri) == [("calendly.invitee.created", "webhook")]


async def test_a_booking_that_cannot_be_read_hides_no_other_and_is_emitted_later(
    sandbox: Sandbox, credentials: CalendlyCredentials, inline: Inline
) -> None:
    await poll_bookings(credentials, WHOLE)
    good, bad = sandbox.add_event(), sandbox.add_event()
    sandbox.fault("permission_denied", path=f"/scheduled_events/{uuid_of(bad)}/invitees", times=2)

    for _ in range(2):
        with pytest.raises(BookingsUnreadableError, match="invitees of 1 booking could not be listed") as caught:
            await poll_bookings(credentials, WHOLE)
    assert isinstance(caught.value.report, PollReport)
    assert (caught.value.report.unreadable, caught.value.report.emitted) == (1, {})
    assert inline.events.about(good, bad) == [("calendly.invitee.created", "poll")]
    summary = inline.artifact(SUMMARY_KEY)
    assert "1 event UNREADABLE" in summary
    assert f"- {uuid_of(bad)}: RoleRequiredError" in summary

    sandbox.reset_stats()
    report = await poll_bookings(credentials, WHOLE)
    assert report.emitted == {"calendly.invitee.created": 1}
    assert requests(sandbox)[INVITEES] == 1
    assert len(inline.events.about(good, bad)) == 2


@pytest.mark.parametrize("where", ["emit_events", "save_state"])
async def test_a_run_that_is_killed_before_it_saves_its_cursor_loses_and_doubles_nothing(
    where: str,
    sandbox: Sandbox,
    credentials: CalendlyCredentials,
    inline: Inline,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    await poll_bookings(credentials, WHOLE)
    before = cursor_of(inline)
    uris = [sandbox.add_event() for _ in range(3)]

    class Killed(BaseException):
        pass

    async def killed(*arguments: Any) -> None:
        if where == "emit_events":
            await emit_events(arguments[0][:2])
        raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(f"flows.poll_bookings.{where}", killed)
        with pytest.raises(Killed):
            await poll_bookings(credentials, WHOLE)
    assert cursor_of(inline) == before
    report = await poll_bookings(credentials, WHOLE)
    assert (sum(report.emitted.values()), report.already_there) == ((1, 2) if where == "emit_events" else (0, 3))
    assert inline.events.about(*uris) == [("calendly.invitee.created", "poll")] * 3


async def test_a_prefect_that_does_not_store_keeps_the_cursor_back_and_a_message_goes_out(
    sandbox: Sandbox,
    credentials: CalendlyCredentials,
    inline: Inline,
    recorder: list[tuple[str | None, str]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    polling = WHOLE.model_copy(update={"notify": RECORDER})
    await poll_bookings(credentials, polling)
    assert recorder == []
    before = cursor_of(inline)
    uri = sandbox.add_event()

    async def stores_nothing(*arguments: Any) -> None:
        raise EventsNotStoredError("Prefect accepted 1 of 1 events and does not show them")

    with monkeypatch.context() as patch:
        patch.setattr("prefect_calendly.events.emit.emit_missing", stores_nothing)
        with pytest.raises(EventsNotStoredError):
            await poll_bookings(credentials, polling)
    assert cursor_of(inline) == before
    ((subject, body),) = recorder
    assert (subject, body.splitlines()[0][:20]) == ("Polling bookings failed", "EventsNotStoredError")
    assert (await poll_bookings(credentials, polling)).emitted == {"calendly.invitee.created": 1}
    assert len(inline.events.about(uri)) == 1


async def test_an_invitee_whose_event_prefect_could_not_store_is_named_and_the_others_are_emitted(
    sandbox: Sandbox, credentials: CalendlyCredentials, inline: Inline
) -> None:
    await poll_bookings(credentials, WHOLE)
    odd = sandbox.add_event(invitees=[{"email": f"jane@{'x' * 1_000}.example"}])
    good = sandbox.add_event()
    with pytest.raises(BookingsUnreadableError):
        await poll_bookings(credentials, WHOLE)
    assert (inline.events.about(odd), len(inline.events.about(good))) == ([], 1)
    assert "An invitee makes no event: a label has" in inline.artifact(SUMMARY_KEY)
    assert "xxx" not in inline.artifact(SUMMARY_KEY)


async def test_what_was_booked_and_has_begun_since_the_last_run_is_emitted(
    sandbox: Sandbox, credentials: CalendlyCredentials, inline: Inline
) -> None:
    await poll_bookings(credentials, WHOLE)
    name, cursor = cursor_of(inline)
    stopped = datetime.now(UTC) - timedelta(days=4)
    times = dict.fromkeys(("seeded_at", "updated_since", "listed_at", "list_from"), stopped.isoformat())
    inline.states[name] = {**cursor, **times}
    uri = sandbox.add_event(stopped + timedelta(days=1), created_at=(stopped + timedelta(hours=1)).isoformat())
    await poll_bookings(credentials, WHOLE)
    assert inline.events.about(uri) == [("calendly.invitee.created", "poll")]


@pytest.mark.parametrize("wrong", ["yesterday", {"updated_since": "secret"}, {}])
async def test_a_cursor_that_somebody_has_changed_is_refused_with_what_to_do(
    wrong: Any, sandbox: Sandbox, credentials: CalendlyCredentials, inline: Inline
) -> None:
    await poll_bookings(credentials, WHOLE)
    name, cursor = cursor_of(inline)
    inline.states[name] = {**cursor, **wrong} if wrong and isinstance(wrong, dict) else wrong
    with pytest.raises(ValueError, match=f"the block calendly-state/{name} .* delete the block") as caught:
        await poll_bookings(credentials, WHOLE)
    assert "secret" not in str(caught.value)


async def test_scope_user_sees_ones_own_bookings_needs_no_role_and_has_a_cursor_of_its_own(
    sandbox: Sandbox, credentials: CalendlyCredentials, inline: Inline
) -> None:
    await poll_bookings(credentials, WHOLE)
    uma = sandbox.add_user("Uma Plain", role="user")["uri"]
    sandbox.set_connection(CONNECTION, user=uma)
    own = credentials_for(sandbox)
    assert (await poll_bookings(own, BookingsToPoll())).seeded
    others, mine = sandbox.add_event(), sandbox.add_event(host=uma)
    report = await poll_bookings(own, BookingsToPoll())
    assert (report.events_listed, report.emitted) == (1, {"calendly.invitee.created": 1})
    assert (inline.events.about(others), len(inline.events.about(mine))) == ([], 1)
    assert len(inline.states) == 2


async def test_two_gateways_have_a_cursor_each(
    sandbox: Sandbox, credentials: CalendlyCredentials, inline: Inline
) -> None:
    assert (await poll_bookings(credentials, WHOLE)).seeded
    other = credentials_for(sandbox, gateway_url=sandbox.gateway_url.replace("127.0.0.1", "localhost"))
    assert (await poll_bookings(other, WHOLE)).seeded
    assert len(inline.states) == 2


async def test_the_full_payload_is_emitted_on_demand_and_by_default_nothing_private(
    sandbox: Sandbox, credentials: CalendlyCredentials, inline: Inline
) -> None:
    await poll_bookings(credentials, WHOLE)
    answer = {"question": "What about?", "answer": "A rash"}
    people = [{"email": "jane@shop.example", "questions_and_answers": [answer]}]
    for payload, private in (("standard", False), ("full", True)):
        inline.events.stored.clear()
        sandbox.add_event(invitees=people)
        await poll_bookings(credentials, WHOLE.model_copy(update={"payload": payload}))
        (event,) = [event for event in inline.events.stored.values() if event["event"] == "calendly.invitee.created"]
        assert ("A rash" in json.dumps(event)) is private
        assert event["payload"]["email"] == "jane@shop.example"
        assert event["payload"]["scheduled_event"]["name"]
        assert event["payload"]["scheduled_event"]["event_memberships"][0]["user_name"]


async def test_a_key_that_is_refused_emits_nothing_and_leaves_no_cursor(sandbox: Sandbox, inline: Inline) -> None:
    with pytest.raises(GatewayKeyError):
        await poll_bookings(credentials_for(sandbox, api_key="wrong"), WHOLE)
    assert (inline.states, inline.events.stored) == ({}, {})


async def test_a_notifier_that_does_not_exist_is_refused_before_any_request(
    sandbox: Sandbox, credentials: CalendlyCredentials
) -> None:
    with no_request(sandbox), pytest.raises(ValueError, match="there is no saved block"):
        await poll_bookings(credentials, BookingsToPoll(notify="slack-webhook/nowhere"))


def test_the_form_explains_and_orders_every_field() -> None:
    schema = poll_bookings.parameters.model_dump()
    assert list(schema["properties"]) == ["credentials", "polling"]
    fields = schema["definitions"]["BookingsToPoll"]["properties"]
    assert [each["position"] for each in fields.values()] == list(range(len(BookingsToPoll.model_fields)))
    assert all(each["description"].endswith(".") for each in fields.values())
