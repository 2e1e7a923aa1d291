"""What webhooks have missed, delivered late or without a reason is found; and what was missed is emitted."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flows.reconcile_bookings import reconcile_bookings
from prefect_calendly import CalendlyCredentials
from prefect_calendly.bookings.reading import BookingsUnreadableError, Reading
from prefect_calendly.bookings.reconciliation import (
    BookingsToReconcile,
    compare,
    count_deliveries,
    unexpected_events,
)
from prefect_calendly.bookings.reconciliation_page import PROBLEMS_KEY, SUMMARY_KEY
from prefect_calendly.client.errors import PermissionDeniedError
from prefect_calendly.events.emit import emit_events
from prefect_calendly.events.event import CalendlyEvent, event_id
from prefect_calendly.sandbox import Sandbox
from prefect_calendly.webhooks.deliveries import parse_delivery
from prefect_calendly.webhooks.delivery_events import events_of_delivery
from tests.bookings.conftest import Webhook
from tests.inline import Inline
from tests.notifiers import RECORDER
from tests.support import no_request
from tests.webhooks.examples import delivered, invitee

NOW = datetime(2026, 6, 1, 12, tzinfo=UTC)
WHOLE = BookingsToReconcile(scope="organization", hours=2)


# What is compared


def booking(number: int) -> CalendlyEvent:
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


@settings(max_examples=50)
@given(st.lists(st.sampled_from(["missed", "in time", "late", "polled"]), max_size=20))
def test_each_event_is_counted_once_by_how_it_came(kinds: Sequence[str]) -> None:
    shown = [booking(number) for number in range(len(kinds))]
    stored: dict[UUID, dict[str, Any]] = {}
    for event, kind in zip(shown, kinds, strict=True):
        if kind != "missed":
            stored[event.id] = known(event, 61 if kind == "late" else 60, "poll" if kind == "polled" else "webhook")
    found = compare(shown, stored, [], 60, Counter())
    assert found.found == len(kinds)
    assert {event.id for event in found.missing} == {
        event.id for event, kind in zip(shown, kinds, strict=True) if kind == "missed"
    }
    for problem, kind in (("missed", "missed"), ("late", "late"), ("not by webhook", "polled")):
        assert found.count(problem) == kinds.count(kind)
    assert found.count("unexpected") == 0


def test_what_prefect_has_and_calendly_does_not_show_is_unexpected_only_where_calendly_would_show_it() -> None:
    events = [known(booking(number), 1) for number in range(3)]
    for number, event in enumerate(events):
        event["related"] = [
            {"prefect.resource.role": "scheduled-event", "calendly.uri": f"event {number}", "prefect.resource.id": "x"}
        ]
    reading = Reading(read={"event 1"}, unread={"event 2": PermissionDeniedError("no", status=403)})
    found = unexpected_events(events, {booking(0).id}, reading, organization="organization", host=None)
    assert found == [events[1]]


def test_what_receivers_report_is_added_up() -> None:
    one = {"payload": {"accepted": 2, "duplicates": 1, "rejected": {"signature_wrong": 3, "slow": 1}}}
    assert count_deliveries([one, one]) == {"accepted": 4, "duplicates": 2, "rejected": 8}


# The flow


@pytest.fixture
def calendly(sandbox: Sandbox, inline: Inline) -> Sandbox:
    """A sandbox in which things happen so long ago that no delivery is still on its way."""
    sandbox.set_clock(datetime.now(UTC) - timedelta(minutes=10))
    return sandbox


async def test_what_was_missed_is_found_emitted_and_known_the_next_time(
    calendly: Sandbox, credentials: CalendlyCredentials, recorder: list[tuple[str | None, str]], inline: Inline
) -> None:
    event = calendly.add_event(invitees=[{"email": "jane@shop.example", "name": "Jane Secret"}])
    calendly.cancel_event(event.rpartition("/")[2])
    only_reported = await reconcile_bookings(
        credentials, WHOLE.model_copy(update={"emit_missing": False, "notify": RECORDER})
    )
    assert only_reported.missed >= 2
    assert only_reported.emitted == 0
    assert inline.events.about(event) == []
    assert "of these emitted now (emit_missing is off)" in inline.artifact(SUMMARY_KEY)

    report = await reconcile_bookings(credentials, WHOLE)
    assert (report.missed, report.emitted) == (only_reported.missed, only_reported.missed)
    assert [name for name, _ in inline.events.about(event)] == ["calendly.invitee.created", "calendly.invitee.canceled"]
    assert event.rpartition("/")[2] in str(inline.artifact(PROBLEMS_KEY))
    for shown in (str(inline.artifact(PROBLEMS_KEY)), inline.artifact(SUMMARY_KEY), report.model_dump_json()):
        assert "Secret" not in shown
        assert "jane@" not in shown

    after = await reconcile_bookings(credentials, WHOLE)
    assert (after.missed, after.emitted) == (0, 0)
    assert after.not_by_webhook >= 2
    ((subject, body),) = recorder
    assert "missed" in str(subject)
    assert "jane@" not in body


async def test_what_came_by_webhook_in_time_is_no_finding_and_no_message(
    calendly: Sandbox,
    credentials: CalendlyCredentials,
    webhook: Webhook,
    recorder: list[tuple[str | None, str]],
    inline: Inline,
) -> None:
    await emit_events(webhook(calendly.add_event()))
    window = WHOLE.model_copy(update={"late_after_seconds": 3600, "notify": RECORDER, "hours": 1})
    report = await reconcile_bookings(credentials, window)
    assert (report.found, report.by_webhook, report.missed, report.late) == (1, 1, 0, 0)
    assert inline.artifact(SUMMARY_KEY).startswith("# 1 event in 1 hour: all came by webhook in time")
    assert json.loads(inline.artifact(PROBLEMS_KEY)) == []
    assert recorder == []


async def test_late_unexpected_and_duplicate_deliveries_are_reported(
    calendly: Sandbox, credentials: CalendlyCredentials, webhook: Webhook, inline: Inline
) -> None:
    await emit_events(webhook(calendly.add_event()))
    # An event that Calendly knows nothing of, and what a receiver reports of its deliveries.
    occurred = datetime.now(UTC) - timedelta(minutes=10)
    body = json.dumps(delivered("invitee.created", invitee())).encode()
    (of_nothing,) = events_of_delivery(parse_delivery(body))
    unknown = CalendlyEvent(event_id("test"), of_nothing.event, occurred, of_nothing.resource)
    summary = CalendlyEvent(
        event_id("summary"),
        "calendly.receiver.summary",
        occurred,
        {"prefect.resource.id": "calendly.receiver.test"},
        payload={"accepted": 5, "duplicates": 2, "rejected": {"signature_wrong": 1}},
    )
    await emit_events([unknown, summary])
    report = await reconcile_bookings(credentials, WHOLE)
    assert (report.late, report.unexpected) == (1, 1)
    assert report.slowest_seconds is not None
    assert report.slowest_seconds > 500
    assert (report.accepted, report.duplicates, report.rejected) == (5, 2, 1)
    assert "2 duplicates" in inline.artifact(SUMMARY_KEY)
    problems = [row["problem"] for row in json.loads(inline.artifact(PROBLEMS_KEY))]
    assert problems[-2:] == ["unexpected", "late"]


async def test_bookings_that_cannot_be_read_fail_the_run_after_all_others(
    calendly: Sandbox, credentials: CalendlyCredentials, impatient: None, inline: Inline
) -> None:
    calendly.add_event(invitees=[{"email": "jane@shop.example"}])
    calendly.fault("server_error", method="GET", route="/scheduled_events/{uuid}/invitees", times=None)
    with pytest.raises(BookingsUnreadableError, match="could not be listed"):
        await reconcile_bookings(credentials, WHOLE)
    assert "Problems" in inline.artifact(SUMMARY_KEY)


async def test_a_notifier_that_does_not_exist_is_refused_before_any_request(
    calendly: Sandbox, credentials: CalendlyCredentials
) -> None:
    with no_request(calendly), pytest.raises(ValueError, match="there is no saved block"):
        await reconcile_bookings(credentials, BookingsToReconcile(notify="slack-webhook/nowhere"))
