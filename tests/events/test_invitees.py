"""An invitee shows everything that has happened to them but a removed no-show."""

import json

from prefect.events import Event

from prefect_calendly.events.invitees import events_of_invitee
from tests.webhooks.examples import API, CHANGED, NEW, OLD, PRIVATE, as_listed, canceled, invitee

THIRD = f"{API}/scheduled_events/THIRD/invitees/THIRD"


def test_events_come_in_the_order_in_which_they_happened() -> None:
    names = [event.event for event in events_of_invitee(*as_listed(canceled()))]
    assert names == ["calendly.invitee.created", "calendly.invitee.canceled"]


def test_an_invitee_who_was_rescheduled_twice_has_two_such_events() -> None:
    events = events_of_invitee(*as_listed(canceled(NEW, old_invitee=OLD, rescheduled=True, new_invitee=THIRD)))
    moves = [event for event in events if event.event == "calendly.invitee.rescheduled"]
    assert [move.payload["new_invitee"] for move in moves] == [NEW, THIRD]
    assert len({event.id for event in events}) == 4


def test_each_event_is_one_that_prefect_takes_and_has_nothing_private_by_default() -> None:
    no_show = {"uri": f"{API}/invitee_no_shows/MARK", "created_at": CHANGED}
    person = as_listed(canceled(NEW, old_invitee=OLD, rescheduled=True, new_invitee=THIRD, no_show=no_show))
    standard, full = events_of_invitee(*person), events_of_invitee(*person, payload="full")
    for event in (*standard, *full):
        assert Event.model_validate(event.as_json()).id == event.id
    assert not [private for private in PRIVATE if private in json.dumps([event.as_json() for event in standard])]
    assert "I have a rash" in json.dumps([event.as_json() for event in full])


def test_an_event_says_what_has_made_it() -> None:
    (event,) = events_of_invitee(*as_listed(invitee()), source="backfill")
    assert event.resource["calendly.source"] == "backfill"
