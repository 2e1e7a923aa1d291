"""A backfill emits what is missing of a window, and nothing else."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from flows.poll_bookings import poll_bookings
from prefect_calendly import CalendlyCredentials
from prefect_calendly.bookings.backfill import BackfillReport, backfill
from prefect_calendly.bookings.polling import BookingsToPoll
from prefect_calendly.events.emit import emit_events
from prefect_calendly.sandbox import Sandbox
from tests.bookings.conftest import Webhook
from tests.inline import Inline
from tests.support import no_request
from tests.world import uuid_of

pytestmark = pytest.mark.usefixtures("inline")


async def after_an_outage(credentials: CalendlyCredentials, **window: Any) -> BackfillReport:
    return await backfill(credentials, scope="organization", **window)


async def test_a_backfill_emits_what_is_missing_of_a_window_and_leaves_the_cursor_alone(
    sandbox: Sandbox, credentials: CalendlyCredentials, webhook: Webhook, inline: Inline
) -> None:
    await poll_bookings(credentials, BookingsToPoll(scope="organization"))
    states = dict(inline.states)
    now = datetime.now(UTC)
    ago = {hours: (now - timedelta(hours=hours)).isoformat() for hours in (1, 20, 30, 50)}
    last, inside, known, before = (sandbox.add_event(created_at=at) for at in ago.values())
    await emit_events(webhook(known))
    window = {"since": now - timedelta(hours=40), "until": now - timedelta(hours=2)}

    sandbox.reset_stats()
    report = await after_an_outage(credentials, **window)

    assert report.requests == sandbox.stats()["requests"]
    assert (report.found - report.emitted, report.already_there, report.unreadable) == (1, 1, 0)
    assert inline.events.about(inside) == [("calendly.invitee.created", "backfill")]
    assert inline.events.about(known) == [("calendly.invitee.created", "webhook")]
    assert inline.events.about(last, before) == []
    assert inline.states == states
    again = await after_an_outage(credentials, **window)
    assert (again.found, again.emitted, again.already_there) == (report.found, 0, report.found)
    await after_an_outage(credentials, since=now - timedelta(hours=2))
    assert len(inline.events.about(last)) == 1


async def test_a_backfill_finds_no_shows_and_says_what_it_could_not_read(
    sandbox: Sandbox, credentials: CalendlyCredentials, inline: Inline
) -> None:
    begun, unreadable = (sandbox.add_event(datetime.now(UTC) - timedelta(hours=hours)) for hours in (2, 3))
    sandbox.mark_no_show(uuid_of(begun))
    sandbox.fault("permission_denied", path=f"/scheduled_events/{uuid_of(unreadable)}/invitees")
    report = await after_an_outage(credentials, since=datetime.now(UTC) - timedelta(minutes=5))
    assert report.unreadable == 1
    assert inline.events.about(begun) == [("calendly.invitee_no_show.created", "backfill")]


@pytest.mark.parametrize(
    ("window", "words"),
    [
        ({"since": timedelta(days=6, minutes=2)}, "at most 6 days ago: Prefect deletes"),
        ({"since": timedelta(hours=1), "until": timedelta(hours=1)}, "until must be after since"),
        ({"since": None}, "since must have a time zone"),
    ],
)
async def test_a_window_whose_events_cannot_be_emitted_once_is_refused_before_any_request(
    sandbox: Sandbox, credentials: CalendlyCredentials, window: dict[str, timedelta | None], words: str
) -> None:
    now = datetime.now(UTC)
    times = {name: now.replace(tzinfo=None) if ago is None else now - ago for name, ago in window.items()}
    with no_request(sandbox), pytest.raises(ValueError, match=words):
        await after_an_outage(credentials, **times)
