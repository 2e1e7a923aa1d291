"""An event has the same id forever, and Prefect can store it."""

import pytest

from prefect_calendly.events.event import event_id, related_resource, related_resources, resource_id, storable
from tests.webhooks.examples import API, NEW


def test_an_id_is_the_same_forever() -> None:
    assert str(event_id("invitee.created", NEW)) == "af7d8024-d94f-571b-9465-3fb46c647625"


@pytest.mark.parametrize("uri", ["", "x", "https://api.calendly.com/", "///", "https://api.calendly.com/users/A/"])
def test_a_resource_always_has_an_id(uri: str) -> None:
    assert resource_id(uri).startswith("calendly.")


def test_a_resource_is_related_once_in_each_role() -> None:
    host, owner = (related_resource(f"{API}/users/HOST", role) for role in ("host", "owner"))
    assert related_resources([host, owner, host]) == (host, owner)


def test_what_postgresql_cannot_store_is_removed_at_any_depth() -> None:
    assert storable({"na\x00me": ["Ja\x00ne", ("\x00", 1)], "at": None}) == {"name": ["Jane", ["", 1]], "at": None}
