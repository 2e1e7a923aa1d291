"""All events are kept in brief, and those that are to be read in full."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from prefect_calendly import CalendlyCredentials
from prefect_calendly.bookings.listing import in_brief, list_bookings
from prefect_calendly.sandbox import Sandbox
from prefect_calendly.scheduled_events import ScheduledEvent
from tests.inline import Inline
from tests.webhooks.examples import invitee
from tests.world import ALICE, ORGANIZATION, World

NOW = datetime.now(UTC)
EVENT = ScheduledEvent.model_validate(invitee()["scheduled_event"])


def test_an_event_in_brief_decides_as_the_whole_one_and_shares_what_many_have_in_common() -> None:
    shared: dict[Any, Any] = {}
    one, other = (in_brief(EVENT.model_copy(update={"uri": uri}), shared) for uri in ("A", "B"))
    for name in ("status", "start_time", "end_time", "created_at", "updated_at", "invitees_counter", "event_guests"):
        assert getattr(one, name) == getattr(EVENT, name)
    assert [host.user for host in one.event_memberships] == [host.user for host in EVENT.event_memberships]
    assert one.event_memberships is other.event_memberships
    assert one.event_memberships[0].user_name == EVENT.event_memberships[0].user_name
    assert one.event_memberships[0].user_email is None
    assert one.name is other.name is not None
    assert one.location is None


async def test_every_event_from_then_on_is_listed_and_those_that_are_chosen_are_whole(
    sandbox: Sandbox, credentials: CalendlyCredentials, world: World, inline: Inline
) -> None:
    since = NOW - timedelta(days=1)
    sandbox.add_event()
    wanted = {each["uri"] for each in world.listing("/scheduled_events", organization=ORGANIZATION)}
    listed = await list_bookings(
        credentials, "organization", ORGANIZATION, since, lambda event: event.status == "canceled"
    )
    assert {event.uri for event in listed.events} == {
        each["uri"]
        for each in world.listing("/scheduled_events", organization=ORGANIZATION, min_start_time=since.isoformat())
    }
    assert {event.uri for event in listed.events} < wanted
    assert {event.uri for event in listed.chosen} == {event.uri for event in listed.events if event.status != "active"}
    assert all(event.location for event in listed.chosen)
    assert not any(event.location for event in listed.events)


async def test_of_an_event_that_comes_twice_the_later_one_counts(
    credentials: CalendlyCredentials, inline: Inline, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def shifting_pages(*arguments: Any, **filters: Any) -> AsyncIterator[ScheduledEvent]:
        for uri, status in (("A", "active"), ("B", "active"), ("A", "canceled")):
            yield EVENT.model_copy(update={"uri": uri, "status": status})

    monkeypatch.setattr("prefect_calendly.bookings.listing.list_scheduled_events_via", shifting_pages)
    listed = await list_bookings(credentials, "user", ALICE, NOW, lambda event: event.status == "active")
    assert [(each.uri, each.status) for each in listed.events] == [("A", "canceled"), ("B", "active")]
    assert [each.uri for each in listed.chosen] == ["B"]
