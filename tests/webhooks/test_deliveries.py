"""Deliveries: all events are typed, no member is dropped, and anything else is refused."""

import contextlib
import json
from typing import Any, get_args

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from prefect_calendly.webhook_subscriptions import WebhookEvent
from prefect_calendly.webhooks.deliveries import (
    ContactDelivery,
    Delivery,
    DeliveryError,
    EventTypeDelivery,
    InviteeDelivery,
    MeetingRecapDelivery,
    RoutingFormDelivery,
    UnknownDelivery,
    parse_delivery,
)
from tests.webhooks.examples import delivered

TYPES = {
    "invitee": InviteeDelivery,
    "invitee_no_show": InviteeDelivery,
    "routing_form_submission": RoutingFormDelivery,
    "contact": ContactDelivery,
    "meeting_recap": MeetingRecapDelivery,
    "event_type": EventTypeDelivery,
}


def parsed(content: Any) -> Delivery:
    return parse_delivery(json.dumps(content).encode())


def test_there_are_fourteen_events() -> None:
    assert len(get_args(WebhookEvent)) == 14


@pytest.mark.parametrize("event", get_args(WebhookEvent))
def test_each_event_has_its_type_and_keeps_all_its_members(event: str) -> None:
    content = delivered(event)
    delivery = parsed(content)
    assert type(delivery) is TYPES[event.partition(".")[0]]
    assert delivery.event == event
    assert delivery.created_at.utcoffset() is not None
    kept = delivery.model_dump(mode="json", exclude_unset=True)
    assert kept["payload"].keys() == content["payload"].keys()


@pytest.mark.parametrize("event", get_args(WebhookEvent))
def test_members_that_calendly_adds_are_kept_at_every_depth(event: str) -> None:
    content = delivered(event)
    content["added"] = {"deep": [1, 2]}
    content["payload"]["added"] = "here too"
    delivery = parsed(content)
    assert delivery.model_extra == {"added": {"deep": [1, 2]}}
    assert delivery.payload.model_extra["added"] == "here too"


def test_an_event_that_calendly_adds_is_carried_with_all_its_members() -> None:
    content = {"event": "comet.seen", "created_at": "2026-01-02T03:04:05Z", "payload": {"tail": {"km": 7}}, "new": 1}
    delivery = parsed(content)
    assert isinstance(delivery, UnknownDelivery)
    assert (delivery.event, delivery.payload, delivery.model_extra) == ("comet.seen", {"tail": {"km": 7}}, {"new": 1})


def test_the_event_of_an_invitee_comes_along_typed() -> None:
    delivery = parsed(delivered("invitee.canceled"))
    assert isinstance(delivery, InviteeDelivery)
    assert delivery.payload.scheduled_event.uri == delivery.payload.event
    assert delivery.payload.cancellation is not None
    assert delivery.payload.cancellation.canceler_type == "invitee"


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"\xff\xfe",
        b"[]",
        b"null",
        b'"invitee.created"',
        b"NaN",
        b'{"event": "a.b", "created_at": "2026-01-02T03:04:05Z", "payload": {"x": "\\ud800"}}',
        b"[" * 500_000,
        b'{"event":' * 100_000,
        b'{"event": "a.b", "created_at": "2026-01-02T03:04:05Z", "payload": {"x": NaN}}',
    ],
)
def test_a_body_that_is_not_a_json_object_is_refused(body: bytes) -> None:
    with pytest.raises(DeliveryError, match=r"not (JSON|a JSON object)"):
        parse_delivery(body)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"event": None}, "event: string_type"),
        ({"event": ""}, "event: string_too_short"),
        ({"event": ["invitee.created"]}, "event: string_type"),
        ({"created_at": "the other day"}, "created_at: datetime"),
        ({"payload": None}, "payload: model_type"),
        ({"payload": []}, "payload: model_type"),
        ({"payload": {}}, "payload.uri: missing"),
    ],
)
def test_a_delivery_with_a_wrong_member_is_refused_with_its_name(change: dict[str, Any], said: str) -> None:
    with pytest.raises(DeliveryError) as caught:
        parsed({**delivered("invitee.created"), **change})
    assert said.partition(":")[0] in str(caught.value)


def test_an_error_names_members_and_never_shows_what_is_in_them() -> None:
    content = delivered("invitee.created")
    content["payload"]["email"] = {"secret": "jane.doe@example.com"}
    content["payload"]["created_at"] = "jane.doe@example.com"
    with pytest.raises(DeliveryError) as caught:
        parsed(content)
    assert "payload.email" in str(caught.value)
    assert "payload.created_at" in str(caught.value)
    assert "jane" not in repr(caught.value)
    assert caught.value.__cause__ is None


_json = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=10), inner, max_size=4),
    max_leaves=20,
)


@settings(max_examples=50)
@given(st.binary(max_size=300) | _json.map(lambda value: json.dumps(value).encode()))
def test_any_body_is_a_delivery_or_a_typed_error(body: bytes) -> None:
    with contextlib.suppress(DeliveryError):
        assert isinstance(parse_delivery(body), Delivery)


@settings(max_examples=50)
@given(st.sampled_from(get_args(WebhookEvent)), st.data())
def test_a_delivery_with_any_member_replaced_is_one_or_a_typed_error(event: str, data: st.DataObject) -> None:
    content = delivered(event)
    at = data.draw(st.sampled_from([content, content["payload"]]))
    at[data.draw(st.sampled_from(sorted(at)))] = data.draw(_json)
    with contextlib.suppress(DeliveryError):
        assert isinstance(parsed(content), Delivery)
