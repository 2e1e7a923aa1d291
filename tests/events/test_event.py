"""An event has the same id forever, and Prefect can store it, or it is not made."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prefect.events import Event

from prefect_calendly.events.event import (
    CalendlyEvent,
    UnstorableEventError,
    event_id,
    related_resource,
    resource_id,
)
from tests.webhooks.examples import API, NEW


def made(**members: Any) -> CalendlyEvent:
    """An event with other members than usual."""
    usual = {
        "id": event_id("test", NEW),
        "event": "calendly.test",
        "occurred": datetime.now(UTC),
        "resource": {"prefect.resource.id": "calendly.test.1"},
    }
    return CalendlyEvent(**{**usual, **members})


def test_an_id_is_the_same_forever() -> None:
    assert str(event_id("invitee.created", NEW)) == "af7d8024-d94f-571b-9465-3fb46c647625"


@pytest.mark.parametrize("uri", ["", "x", "https://api.calendly.com/", "///", "https://api.calendly.com/users/A/"])
def test_a_resource_always_has_an_id(uri: str) -> None:
    assert resource_id(uri).startswith("calendly.")


def test_a_resource_is_related_once_in_each_role() -> None:
    host, owner = (related_resource(f"{API}/users/HOST", role) for role in ("host", "owner"))
    assert made(related=(host, owner, host)).related == (host, owner)


def test_what_a_database_cannot_store_is_removed_at_any_depth() -> None:
    odd = {"na\x00me": ["Ja\x00ne", ("\x00", 1)], "half": "\ud800", "endless": float("inf"), "huge": 10**30, "at": None}
    assert made(payload=odd).payload == {
        "name": ["Jane", ["", 1]],
        "half": "?",
        "endless": None,
        "huge": None,
        "at": None,
    }
    assert made(resource={"prefect.resource.id": "calendly.test.\x001"}).resource["prefect.resource.id"].endswith(".1")


def nested(depth: int) -> dict[str, Any]:
    return {"deeper": nested(depth - 1)} if depth else {}


@pytest.mark.parametrize(
    "members",
    [
        {"event": "calendly."},
        {"event": "calendly.te\x00st"},
        {"event": "calendly.tést"},
        {"event": f"calendly.{'x' * 201}"},
        {"event": "prefect.flow-run.Completed"},
        {"occurred": datetime(1, 1, 1, tzinfo=timezone(timedelta(hours=14)))},
        {"occurred": datetime.now(UTC) + timedelta(days=4_000)},
        {"occurred": datetime(2026, 1, 1)},  # noqa: DTZ001
        {"resource": {"prefect.resource.id": f"calendly.test.{'é' * 500}"}},
        {"related": (related_resource(f"{API}/users/{'x' * 1_000}", "host"),)},
        {"payload": {"name": "x" * 1_000_000}},
        {"payload": {"name": "é" * 500_000}},
        {"payload": nested(101)},
    ],
    ids=lambda members: next(iter(members)),
)
def test_what_prefect_would_take_and_could_not_store_is_no_event(members: dict[str, Any]) -> None:
    with pytest.raises(UnstorableEventError) as refused:
        made(**members)
    assert "xxx" not in str(refused.value)


_ANY_TEXT = st.text(st.characters(exclude_categories=())) | st.just("\x00") | st.just("\ud800\udc00")
_ANY_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | _ANY_TEXT,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(_ANY_TEXT, inner, max_size=3),
    max_leaves=8,
)


@given(st.dictionaries(_ANY_TEXT, _ANY_JSON, max_size=3), _ANY_TEXT)
def test_whatever_is_in_an_event_prefect_and_postgresql_can_read_its_json(payload: dict[str, Any], label: str) -> None:
    event = made(payload=payload, resource={"prefect.resource.id": f"calendly.test.{label}"})
    text = json.dumps(event.as_json(), allow_nan=False, ensure_ascii=False)
    assert "\\u0000" not in text
    assert Event.model_validate_json(text.encode()).payload == event.payload
