"""What webhooks have missed, told late or told twice is found; and what was missed is told."""

import json
import secrets
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prefect.client.orchestration import get_client

import flows.reconcile_bookings as module
from flows.poll_bookings import BookingsUnreadableError
from flows.reconcile_bookings import (
    PROBLEMS_KEY,
    SUMMARY_KEY,
    BookingsToReconcile,
    compared,
    deliveries,
    reconcile_bookings,
    unexplained,
)
from prefect_calendly import CalendlyCredentials
from prefect_calendly.events.events import CalendlyEvent, event_id, events_of_delivery
from prefect_calendly.events.prefect_api import emit_missing, post_events, stored_events
from prefect_calendly.sandbox import Sandbox
from prefect_calendly.webhooks.deliveries import parse_delivery
from tests.flows.conftest import RECORDER, artifact
from tests.webhooks.examples import delivered, invitee

NOW = datetime(2026, 6, 1, 12, tzinfo=UTC)
WHOLE = BookingsToReconcile(scope="organization", hours=2)


# The pure part


def happening(number: int) -> CalendlyEvent:
    uri = f"https://api.calendly.com/scheduled_events/E{number}/invitees/I{number}"
    return CalendlyEvent(
        event_id("invitee.created", uri),
        "calendly.invitee.created",
        NOW,
        {"prefect.resource.id": f"calendly.invitee.I{number}", "calendly.uri": uri, "calendly.source": "backfill"},
    )


def known(event: CalendlyEvent, after_seconds: float, source: str = "webhook") -> dict[str, Any]:
    received = event.occurred + timedelta(seconds=after_seconds)
    resource = {**event.resource, "calendly.source": source}
    return {**event.as_json(), "received": received.isoformat(), "resource": resource}


@given(st.lists(st.sampled_from(["missed", "in time", "late", "polled"]), max_size=20))
def test_each_happening_is_counted_once_by_how_it_was_told(kinds: Sequence[str]) -> None:
    shown = [happening(number) for number in range(len(kinds))]
    told: dict[UUID, dict[str, Any]] = {}
    for event, kind in zip(shown, kinds, strict=True):
        if kind != "missed":
            told[event.id] = known(event, 61 if kind == "late" else 60, "poll" if kind == "polled" else "webhook")
    found = compared(shown, told, [], 60)
    assert found.found == len(kinds)
    assert {event.id for event in found.missing} == {
        event.id for event, kind in zip(shown, kinds, strict=True) if kind == "missed"
    }
    for problem, kind in (("missed", "missed"), ("late", "late"), ("not by webhook", "polled")):
        assert found.of(problem) == kinds.count(kind)
    assert found.of("unexpected") == 0


def test_what_prefect_has_and_calendly_does_not_show_is_found_only_where_it_would_show() -> None:
    events = [known(happening(number), 1) for number in range(3)]
    for number, event in enumerate(events):
        event["related"] = [
            {"prefect.resource.role": "scheduled-event", "calendly.uri": f"event {number}", "prefect.resource.id": "x"}
        ]
    arguments = ({happening(0).id}, {"event 1"}, {"event 2"}, "organization", None)
    assert unexplained(events, *arguments) == [events[1]]


def test_what_receivers_say_is_added_up() -> None:
    one = {"payload": {"accepted": 2, "duplicates": 1, "rejected": {"signature_wrong": 3, "slow": 1}}}
    assert deliveries([one, one]) == {"accepted": 4, "duplicates": 2, "rejected": 8}


# Over HTTP, and into a Prefect


@pytest.fixture
def calendly(sandbox: Sandbox, prefect_server: None, monkeypatch: pytest.MonkeyPatch) -> Sandbox:
    """A sandbox with events of its own, in a time in which nothing is still on its way."""
    sandbox.reset(seed=secrets.randbelow(10**9))
    monkeypatch.setattr(module, "SETTLING", timedelta(seconds=-5))
    return sandbox


async def names_of(uri: str) -> list[str]:
    now = datetime.now(UTC)
    names = ["calendly.invitee.created", "calendly.invitee.canceled"]
    async with get_client() as client:
        found = stored_events(client, names, now - timedelta(hours=2), now + timedelta(hours=1))
        return [each["event"] async for each in found if each["resource"]["calendly.uri"].startswith(uri)]


async def test_what_was_missed_is_found_told_and_known_the_next_time(
    calendly: Sandbox, credentials: CalendlyCredentials, recorder: list[tuple[str | None, str]]
) -> None:
    event = calendly.add_event(invitees=[{"email": "jane@shop.example", "name": "Jane Secret"}])
    calendly.cancel_event(event.rpartition("/")[2])
    only_said = await reconcile_bookings(
        credentials, WHOLE.model_copy(update={"emit_missing": False, "notify": RECORDER})
    )
    assert only_said.missed >= 2
    assert only_said.emitted == 0
    assert await names_of(event) == []

    report = await reconcile_bookings(credentials, WHOLE)
    assert (report.missed, report.emitted) == (only_said.missed, only_said.missed)
    assert sorted(await names_of(event)) == ["calendly.invitee.canceled", "calendly.invitee.created"]
    assert event.rpartition("/")[2] in str(await artifact(PROBLEMS_KEY))
    for shown in (str(await artifact(PROBLEMS_KEY)), await artifact(SUMMARY_KEY), report.model_dump_json()):
        assert "Secret" not in shown
        assert "jane@" not in shown

    after = await reconcile_bookings(credentials, WHOLE)
    assert (after.missed, after.emitted) == (0, 0)
    assert after.not_by_webhook >= 2
    ((subject, body),) = recorder
    assert "missed" in subject
    assert "jane@" not in body


async def test_late_and_double_deliveries_and_those_of_nothing_are_reported(
    calendly: Sandbox, credentials: CalendlyCredentials
) -> None:
    await reconcile_bookings(credentials, WHOLE)
    # A booking of which the API knows nothing, told by a webhook; and what a receiver says of its deliveries.
    started = datetime.now(UTC)
    body = json.dumps(delivered("invitee.created", invitee())).encode()
    (of_nothing,) = events_of_delivery(parse_delivery(body))[:1]
    told = CalendlyEvent(
        event_id("test", secrets.token_hex(8)), of_nothing.event, started, of_nothing.resource, (), of_nothing.payload
    )
    payload = {"accepted": 5, "duplicates": 2, "rejected": {"signature_wrong": 1}}
    summary = CalendlyEvent(
        event_id("summary", secrets.token_hex(8)),
        "calendly.receiver.summary",
        started,
        {"prefect.resource.id": "calendly.receiver.test"},
        (),
        payload,
    )
    async with get_client() as client:
        await emit_missing(client, [told, summary])
        await post_events(client, [told])
    report = await reconcile_bookings(credentials, WHOLE)
    assert report.unexpected >= 1
    assert (report.accepted, report.duplicates, report.rejected) >= (5, 2, 1)
    assert "2 known already" in await artifact(SUMMARY_KEY)


async def test_events_that_cannot_be_read_fail_it_after_all_others(
    calendly: Sandbox, credentials: CalendlyCredentials, impatient: None
) -> None:
    calendly.add_event(invitees=[{"email": "jane@shop.example"}])
    calendly.fault("server_error", method="GET", route="/scheduled_events/{uuid}/invitees", times=None)
    with pytest.raises(BookingsUnreadableError, match="could not be listed"):
        await reconcile_bookings(credentials, WHOLE)
    assert "Problems" in await artifact(SUMMARY_KEY)
