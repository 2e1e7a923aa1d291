"""The Prefect events of a delivery: the same as polling makes, with one id for each thing that happens, and nothing
private by default."""

import json
from datetime import datetime
from typing import Any, get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prefect.events import Event

from prefect_calendly.events.event import CalendlyEvent
from prefect_calendly.events.invitees import events_of_invitee
from prefect_calendly.webhook_subscriptions import WebhookEvent
from prefect_calendly.webhooks.deliveries import DeliveryError, parse_delivery
from prefect_calendly.webhooks.delivery_events import events_of_delivery
from tests.webhooks.examples import (
    API,
    CHANGED,
    CREATED,
    NEW,
    OLD,
    PRIVATE,
    TOLD,
    as_listed,
    canceled,
    delivered,
    invitee,
)

ORGANIZATION = f"{API}/organizations/ORG"


def made_of(event: str, content: dict[str, Any] | None = None, /, **options: Any) -> list[CalendlyEvent]:
    """The events of a delivery."""
    created_at = {"created_at": options.pop("created_at")} if "created_at" in options else {}
    return events_of_delivery(parse_delivery(json.dumps(delivered(event, content, **created_at)).encode()), **options)


def polled(payload: dict[str, Any], **options: Any) -> list[CalendlyEvent]:
    """The events that polling makes of the same invitee."""
    return events_of_invitee(*as_listed(payload), **options)


def names(events: list[CalendlyEvent]) -> list[str]:
    return [event.event for event in events]


def time(text: str) -> datetime:
    return datetime.fromisoformat(text)


@pytest.mark.parametrize("payload", ["standard", "full"])
@pytest.mark.parametrize("event", get_args(WebhookEvent))
def test_each_delivery_is_an_event_that_prefect_takes(event: str, payload: Any) -> None:
    (made,) = made_of(event, payload=payload, organization=ORGANIZATION)
    taken = Event.model_validate_json(json.dumps(made.as_json()))
    assert taken.event == f"calendly.{event}"
    assert taken.id == made.id
    assert taken.resource.id.startswith("calendly.")
    assert taken.resource["calendly.source"] == "webhook"
    assert "calendly.organization.ORG" in [related.id for related in taken.related]


def test_a_booking_names_what_it_is_about() -> None:
    (made,) = made_of("invitee.created", organization=ORGANIZATION)
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
    assert made_of("invitee.created")[0].occurred == time(CREATED)
    assert made_of("invitee.canceled")[0].occurred == time(CHANGED)
    assert made_of("invitee_no_show.created")[0].occurred == time(CHANGED)
    assert made_of("invitee_no_show.deleted")[0].occurred == time(TOLD)


@pytest.mark.parametrize("event", get_args(WebhookEvent))
def test_the_standard_payload_has_nothing_private_and_the_full_one_has_all(event: str) -> None:
    whole = json.dumps(delivered(event)["payload"])
    (standard,), (full,) = made_of(event), made_of(event, payload="full")
    for private in PRIVATE:
        assert private not in json.dumps(standard.as_json())
        assert (private in whole) == (private in json.dumps(full.as_json()))


def test_the_payload_is_not_in_a_repr() -> None:
    assert "Jane" not in repr(made_of("invitee.created"))


def test_an_event_that_calendly_adds_gets_through_and_shows_no_more_than_its_times() -> None:
    body = {"uri": f"{API}/comets/C", "name": "Jane", "created_at": CREATED}
    (made,) = made_of("comet.seen", body, organization=ORGANIZATION)
    assert (made.event, made.resource["prefect.resource.id"]) == ("calendly.comet.seen", "calendly.comet.C")
    assert made.payload == {"uri": f"{API}/comets/C", "created_at": CREATED}
    assert made_of("comet.seen", body, payload="full")[0].payload == body
    assert made_of("comet.seen", body)[0].id == made.id
    assert made_of("comet.seen", body, created_at=CHANGED)[0].id != made.id
    (without,) = made_of("comet.seen", {"tail": 1})
    assert without.resource["prefect.resource.id"] == f"calendly.delivery.{without.id}"
    assert made_of("comet.seen", {"tail": 2})[0].id != without.id


# One id for each thing that happens


@pytest.mark.parametrize("event", get_args(WebhookEvent))
def test_a_redelivery_makes_the_same_event(event: str) -> None:
    assert made_of(event) == made_of(event)


@pytest.mark.parametrize("event", [name for name in get_args(WebhookEvent) if not name.endswith(".updated")])
def test_what_happens_once_has_one_id_even_if_calendly_makes_a_second_delivery(event: str) -> None:
    if event != "invitee_no_show.deleted":  # it has no mark of its own any more
        assert made_of(event)[0].id == made_of(event, created_at="2026-11-25T00:00:00Z")[0].id


@pytest.mark.parametrize("event", ["contact.updated", "meeting_recap.updated", "event_type.updated"])
def test_two_changes_are_two_events(event: str) -> None:
    payload = delivered(event)["payload"]
    first = made_of(event, payload)
    about = payload.get("contact") or payload.get("recap") or payload
    about["updated_at"] = "2026-11-21T00:00:00.000000Z"
    assert made_of(event, payload)[0].id != first[0].id


def test_all_events_have_ids_of_their_own() -> None:
    ids = {made_of(event)[0].id for event in get_args(WebhookEvent)}
    assert len(ids) == 14
    assert made_of("invitee.created", invitee(OLD))[0].id not in ids


def test_polling_makes_the_events_that_webhooks_make() -> None:
    person = canceled(no_show={"uri": f"{API}/invitee_no_shows/MARK", "created_at": CHANGED})
    webhooks = [
        *made_of("invitee.created", person, source="poll"),
        *made_of("invitee.canceled", person, source="poll"),
        *made_of("invitee_no_show.created", person, source="poll"),
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
    by_webhook = {made.id: (made.event, made.occurred) for event in deliveries for made in made_of(event, person)}
    assert {made.id: (made.event, made.occurred) for made in polled(person)} == by_webhook


# Reschedules


def halves() -> tuple[list[CalendlyEvent], list[CalendlyEvent]]:
    """The events of the two deliveries of a reschedule."""
    return (
        made_of("invitee.canceled", canceled(OLD, rescheduled=True, new_invitee=NEW)),
        made_of("invitee.created", invitee(NEW, created_at=CHANGED, old_invitee=OLD)),
    )


def test_either_half_of_a_reschedule_makes_its_event_with_the_same_id_and_content() -> None:
    left, right = halves()
    assert names(left) == ["calendly.invitee.canceled", "calendly.invitee.rescheduled"]
    assert names(right) == ["calendly.invitee.created", "calendly.invitee.rescheduled"]
    assert left[1].id == right[1].id
    assert left[1].as_json() == right[1].as_json()
    assert left[1].payload["old_invitee"] == OLD
    assert left[1].payload["new_event"] == f"{API}/scheduled_events/NEWEVENT"
    assert left[1].resource["prefect.resource.id"] == "calendly.invitee.NEWINVITEE"


def test_the_halves_of_a_reschedule_are_labeled_and_others_are_not() -> None:
    left, right = halves()
    assert {event.resource["calendly.move"] for event in (*left, *right)} == {"true"}
    for event in ("invitee.created", "invitee.canceled", "invitee_no_show.created"):
        assert [each.resource["calendly.move"] for each in made_of(event)] == ["false"]


def test_a_half_that_does_not_name_the_other_is_labeled_all_the_same() -> None:
    (made,) = made_of("invitee.canceled", canceled(OLD, rescheduled=True))
    assert made.resource["calendly.move"] == "true"


# Robustness


def test_two_no_show_marks_of_the_same_invitee_are_two_events() -> None:
    first, second = (
        made_of(
            "invitee_no_show.created", invitee(no_show={"uri": f"{API}/invitee_no_shows/{mark}", "created_at": CHANGED})
        )
        for mark in ("M1", "M2")
    )
    assert first[0].id != second[0].id


def test_a_character_that_postgresql_cannot_store_is_left_out() -> None:
    person = invitee(name="Ja\x00ne", email="x@sp\x00am.example")
    for payload in ("standard", "full"):
        (made,) = made_of("invitee.created", person, payload=payload)
        assert "\\u0000" not in json.dumps(made.as_json())
        assert made.payload["name"] == "Jane"


@pytest.mark.parametrize("name", ["screening.canceled", "receiver.summary", "invitee.rescheduled"])
def test_names_that_only_this_package_gives_are_refused(name: str) -> None:
    with pytest.raises(DeliveryError, match="only this package"):
        made_of(name, {"uri": f"{API}/comets/C"})


def test_a_delivery_whose_event_prefect_could_not_store_is_unreadable_and_shows_no_value() -> None:
    with pytest.raises(DeliveryError, match="can store: its time") as refused:
        made_of("invitee.created", invitee(created_at="0001-01-01T00:00:00+14:00"))
    assert "0001" not in str(refused.value)


def test_many_hosts_do_not_make_an_event_that_prefect_refuses() -> None:
    hosts = [{"user": f"{API}/users/HOST{number}"} for number in range(300)]
    (made,) = made_of(
        "invitee.created", invitee(scheduled_event={"event_memberships": hosts}), organization=ORGANIZATION
    )
    Event.model_validate(made.as_json())
    assert len(made.related) <= 100
