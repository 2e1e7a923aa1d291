"""Prefect events of what Calendly tells: one id per happening, whoever tells of it, and nothing private by default."""

import json
from datetime import datetime
from typing import Any, get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prefect.events import Event

from prefect_calendly.events.events import CalendlyEvent, event_id, events_of_delivery, events_of_invitee, resource_id
from prefect_calendly.invitees import Invitee
from prefect_calendly.scheduled_events import ScheduledEvent
from prefect_calendly.webhook_subscriptions import WebhookEvent
from prefect_calendly.webhooks.deliveries import parse_delivery
from tests.webhooks.examples import API, CHANGED, CREATED, NEW, OLD, PRIVATE, TOLD, canceled, delivered, invitee

ORGANIZATION = f"{API}/organizations/ORG"


def told(event: str, content: dict[str, Any] | None = None, /, **options: Any) -> list[CalendlyEvent]:
    """What a webhook makes of a delivery."""
    created_at = {"created_at": options.pop("created_at")} if "created_at" in options else {}
    return events_of_delivery(parse_delivery(json.dumps(delivered(event, content, **created_at)).encode()), **options)


def polled(payload: dict[str, Any], **options: Any) -> list[CalendlyEvent]:
    """What polling makes of the same invitee."""
    event = ScheduledEvent.model_validate(payload["scheduled_event"])
    person = Invitee.model_validate({name: value for name, value in payload.items() if name != "scheduled_event"})
    return events_of_invitee(person, event, **options)


def names(events: list[CalendlyEvent]) -> list[str]:
    return [event.event for event in events]


def time(text: str) -> datetime:
    return datetime.fromisoformat(text)


@pytest.mark.parametrize("payload", ["standard", "full"])
@pytest.mark.parametrize("event", get_args(WebhookEvent))
def test_each_delivery_is_an_event_that_prefect_takes(event: str, payload: Any) -> None:
    (made,) = told(event, payload=payload, organization=ORGANIZATION)
    taken = Event.model_validate_json(json.dumps(made.as_json()))
    assert taken.event == f"calendly.{event}"
    assert taken.id == made.id
    assert taken.resource.id.startswith("calendly.")
    assert taken.resource["calendly.source"] == "webhook"
    assert "calendly.organization.ORG" in [related.id for related in taken.related]


def test_a_booking_names_what_it_is_about() -> None:
    (made,) = told("invitee.created", organization=ORGANIZATION)
    assert made.resource == {
        "prefect.resource.id": "calendly.invitee.NEWINVITEE",
        "calendly.uri": NEW,
        "calendly.move": "false",
        "calendly.email-domain": "shop.example",
        "calendly.source": "webhook",
    }
    assert [(each["prefect.resource.role"], each["prefect.resource.id"]) for each in made.related] == [
        ("scheduled-event", "calendly.scheduled-event.NEWEVENT"),
        ("event-type", "calendly.event-type.TYPE"),
        ("host", "calendly.user.HOST"),
        ("host", "calendly.user.COHOST"),
        ("organization", "calendly.organization.ORG"),
    ]
    assert made.payload["uri"] == NEW
    assert made.payload["scheduled_event"]["start_time"] == "2026-12-01T10:00:00Z"
    assert made.payload["scheduled_event"]["event_guests"] == 1


def test_it_occurred_when_it_happened_and_not_when_it_was_delivered() -> None:
    assert told("invitee.created")[0].occurred == time(CREATED)
    assert told("invitee.canceled")[0].occurred == time(CHANGED)
    assert told("invitee_no_show.created")[0].occurred == time(CHANGED)
    assert told("invitee_no_show.deleted")[0].occurred == time(TOLD)


@pytest.mark.parametrize("event", get_args(WebhookEvent))
def test_the_standard_payload_has_nothing_private_and_the_full_one_has_all(event: str) -> None:
    whole = json.dumps(delivered(event)["payload"])
    (standard,), (full,) = told(event), told(event, payload="full")
    for private in PRIVATE:
        assert private not in json.dumps(standard.as_json())
        assert (private in whole) == (private in json.dumps(full.as_json()))


def test_the_payload_is_not_in_a_repr() -> None:
    assert "Jane" not in repr(told("invitee.created"))


def test_an_event_that_calendly_adds_gets_through_and_shows_no_more_than_its_times() -> None:
    body = {"uri": f"{API}/comets/C", "name": "Jane", "created_at": CREATED}
    (made,) = told("comet.seen", body, organization=ORGANIZATION)
    assert (made.event, made.resource["prefect.resource.id"]) == ("calendly.comet.seen", "calendly.comet.C")
    assert made.payload == {"uri": f"{API}/comets/C", "created_at": CREATED}
    assert told("comet.seen", body, payload="full")[0].payload == body
    assert told("comet.seen", body)[0].id == made.id
    assert told("comet.seen", body, created_at=CHANGED)[0].id != made.id
    (without,) = told("comet.seen", {"tail": 1})
    assert without.resource["prefect.resource.id"] == f"calendly.delivery.{without.id}"
    assert told("comet.seen", {"tail": 2})[0].id != without.id


# One id per happening


@pytest.mark.parametrize("event", get_args(WebhookEvent))
def test_a_redelivery_makes_the_same_event(event: str) -> None:
    assert told(event) == told(event)


@pytest.mark.parametrize("event", [name for name in get_args(WebhookEvent) if not name.endswith(".updated")])
def test_what_happens_once_has_one_id_even_if_calendly_makes_a_second_delivery(event: str) -> None:
    if event != "invitee_no_show.deleted":  # it has no mark of its own any more
        assert told(event)[0].id == told(event, created_at="2026-11-25T00:00:00Z")[0].id


@pytest.mark.parametrize("event", ["contact.updated", "meeting_recap.updated", "event_type.updated"])
def test_two_changes_are_two_events(event: str) -> None:
    payload = delivered(event)["payload"]
    first = told(event, payload)
    about = payload.get("contact") or payload.get("recap") or payload
    about["updated_at"] = "2026-11-21T00:00:00.000000Z"
    assert told(event, payload)[0].id != first[0].id


def test_all_events_have_ids_of_their_own() -> None:
    ids = {told(event)[0].id for event in get_args(WebhookEvent)}
    assert len(ids) == 14
    assert told("invitee.created", invitee(OLD))[0].id not in ids


def test_ids_are_for_ever() -> None:
    assert str(event_id("invitee.created", NEW)) == "af7d8024-d94f-571b-9465-3fb46c647625"


def test_polling_makes_the_events_that_webhooks_make() -> None:
    person = canceled(no_show={"uri": f"{API}/invitee_no_shows/MARK", "created_at": CHANGED})
    webhooks = [
        *told("invitee.created", person, source="poll"),
        *told("invitee.canceled", person, source="poll"),
        *told("invitee_no_show.created", person, source="poll"),
    ]
    assert polled(person) == webhooks
    assert [each.resource["calendly.source"] for each in polled(person, source="backfill")] == ["backfill"] * 3


@given(st.sampled_from(["active", "canceled"]), st.booleans(), st.booleans(), st.booleans())
def test_polling_and_webhooks_agree_on_ids_and_times_whatever_happened(
    status: str, came_by_move: bool, went_by_move: bool, no_show: bool
) -> None:
    person = (canceled if status == "canceled" else invitee)(NEW)
    if came_by_move:
        person["old_invitee"] = OLD
    if went_by_move and status == "canceled":
        person |= {"rescheduled": True, "new_invitee": f"{API}/scheduled_events/THIRD/invitees/THIRD"}
    if no_show:
        person["no_show"] = {"uri": f"{API}/invitee_no_shows/MARK", "created_at": CHANGED}
    deliveries = ["invitee.created"]
    deliveries += ["invitee.canceled"] if status == "canceled" else []
    deliveries += ["invitee_no_show.created"] if no_show else []
    by_webhook = {made.id: (made.event, made.occurred) for event in deliveries for made in told(event, person)}
    assert {made.id: (made.event, made.occurred) for made in polled(person)} == by_webhook


def test_polled_events_come_in_the_order_in_which_they_happened() -> None:
    assert names(polled(canceled())) == ["calendly.invitee.created", "calendly.invitee.canceled"]


# Moves


def halves() -> tuple[list[CalendlyEvent], list[CalendlyEvent]]:
    """What the two deliveries of a reschedule make."""
    return (
        told("invitee.canceled", canceled(OLD, rescheduled=True, new_invitee=NEW)),
        told("invitee.created", invitee(NEW, created_at=CHANGED, old_invitee=OLD)),
    )


def test_either_half_of_a_move_makes_the_event_of_the_move_with_the_same_id_and_content() -> None:
    left, right = halves()
    assert names(left) == ["calendly.invitee.canceled", "calendly.invitee.rescheduled"]
    assert names(right) == ["calendly.invitee.created", "calendly.invitee.rescheduled"]
    assert left[1].id == right[1].id
    assert left[1].as_json() == right[1].as_json()
    assert left[1].payload["old_invitee"] == OLD
    assert left[1].payload["new_event"] == f"{API}/scheduled_events/NEWEVENT"
    assert left[1].resource["prefect.resource.id"] == "calendly.invitee.NEWINVITEE"


def test_the_halves_of_a_move_are_marked_and_others_are_not() -> None:
    left, right = halves()
    assert {event.resource["calendly.move"] for event in (*left, *right)} == {"true"}
    for event in ("invitee.created", "invitee.canceled", "invitee_no_show.created"):
        assert [each.resource["calendly.move"] for each in told(event)] == ["false"]


def test_a_half_that_does_not_name_the_other_is_marked_all_the_same() -> None:
    (made,) = told("invitee.canceled", canceled(OLD, rescheduled=True))
    assert made.resource["calendly.move"] == "true"


def test_an_invitee_moved_twice_has_two_moves() -> None:
    third = f"{API}/scheduled_events/THIRD/invitees/THIRD"
    events = polled(canceled(NEW, old_invitee=OLD, rescheduled=True, new_invitee=third))
    moves = [event for event in events if event.event == "calendly.invitee.rescheduled"]
    assert [move.payload["new_invitee"] for move in moves] == [NEW, third]
    assert len({event.id for event in events}) == 4


# Robustness


def test_no_show_marks_of_the_same_invitee_are_told_apart() -> None:
    first, second = (
        told(
            "invitee_no_show.created", invitee(no_show={"uri": f"{API}/invitee_no_shows/{mark}", "created_at": CHANGED})
        )
        for mark in ("M1", "M2")
    )
    assert first[0].id != second[0].id


def test_a_character_that_postgresql_cannot_store_is_left_out() -> None:
    person = invitee(name="Ja\x00ne", email="x@sp\x00am.example")
    for payload in ("standard", "full"):
        (made,) = told("invitee.created", person, payload=payload)
        assert "\\u0000" not in json.dumps(made.as_json())
        assert made.payload["name"] == "Jane"


def test_many_hosts_do_not_make_an_event_that_prefect_refuses() -> None:
    hosts = [{"user": f"{API}/users/HOST{number}"} for number in range(300)]
    (made,) = told("invitee.created", invitee(scheduled_event={"event_memberships": hosts}), organization=ORGANIZATION)
    Event.model_validate(made.as_json())
    assert len(made.related) <= 100


@pytest.mark.parametrize("uri", ["", "x", "https://api.calendly.com/", "///", "https://api.calendly.com/users/A/"])
def test_a_resource_always_has_an_id(uri: str) -> None:
    assert resource_id(uri).startswith("calendly.")
