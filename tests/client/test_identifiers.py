"""Identifiers are checked before they reach a path or a query."""

import inspect
from dataclasses import dataclass
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from prefect_calendly.client.identifiers import checked_path, filled_path, optional_uris, uri_of, uuid_of
from prefect_calendly.organizations import list_memberships

UUID = "GBGBDCAADAEDCRZ2"
URI = f"https://api.calendly.com/users/{UUID}"


@dataclass
class Model:
    uri: str


@pytest.mark.parametrize("value", [UUID, URI, Model(URI), Model(UUID)])
def test_a_uri_a_uuid_and_a_model_name_the_same(value: Any) -> None:
    assert uuid_of(value, "users", "user") == UUID
    assert uri_of(value, "users", "user") == URI


@pytest.mark.parametrize(
    "value",
    [
        "",
        "../x",
        "..",
        "a/b",
        "a?b",
        "a#b",
        "a b",
        "a%2fb",
        "me\n",
        "ünïcode",
        "bob@example.com",
        "https://api.calendly.com/users/",
        "https://api.calendly.com/users/a/b",
        "https://api.calendly.com/users/../organizations/x",
        "https://api.calendly.com/organizations/BBBB",
        "https://evil.example/users/AAAA",
        "http://api.calendly.com/users/AAAA",
        None,
        7,
        b"AAAA",
        Model("https://api.calendly.com/event_types/AAAA"),
    ],
)
def test_anything_else_is_refused_and_the_argument_named(value: Any) -> None:
    with pytest.raises(ValueError, match=r"^user must be the URI \(https://.*/users/…\) or uuid of a user"):
        uuid_of(value, "users", "user")


def test_a_calendly_uri_in_the_wrong_place_is_shown_and_nothing_else() -> None:
    with pytest.raises(ValueError, match=r"got https://api.calendly.com/organizations/BBBB"):
        uuid_of("https://api.calendly.com/organizations/BBBB", "users", "user")
    with pytest.raises(ValueError, match=r"uuid of an event type$") as caught:
        uuid_of("bob's meeting", "event_types", "event_type")
    assert "bob" not in str(caught.value)


def test_where_a_user_is_wanted_an_address_is_not_shown_and_it_is_said_how_to_look_it_up() -> None:
    with pytest.raises(ValueError, match=r"not an e-mail address: .* `list_memberships\(.*, email=…\)`$") as caught:
        uri_of("bob@example.com", "users", "user")
    assert "bob" not in str(caught.value)
    assert {"organization", "email"} <= inspect.signature(list_memberships).parameters.keys()


@pytest.mark.parametrize(
    ("collection", "noun"),
    [
        ("users", "a user"),
        ("organizations", "an organization"),
        ("groups", "a group"),
        ("event_types", "an event type"),
        ("scheduled_events", "a scheduled event"),
        ("invitees", "an invitee"),
        ("webhook_subscriptions", "a webhook subscription"),
        ("user_availability_schedules", "a user availability schedule"),
        ("organization_memberships", "an organization membership"),
        ("routing_forms", "a routing form"),
    ],
)
def test_what_is_wanted_has_the_name_that_people_use(collection: str, noun: str) -> None:
    with pytest.raises(ValueError, match=f" of {noun}; it is empty$"):
        uuid_of("", collection, "argument")


@pytest.mark.parametrize("value", ["me", "https://api.calendly.com/users/me"])
def test_me_is_a_path_and_no_uri(value: str) -> None:
    assert uuid_of(value, "users", "user") == "me"
    with pytest.raises(ValueError, match="user cannot be 'me': give the URI that `get_current_user` returns"):
        uri_of(value, "users", "user")
    assert uri_of("me", "groups", "group") == "https://api.calendly.com/groups/me"


def test_only_given_references_become_uris() -> None:
    assert optional_uris(user=(UUID, "users"), group=(None, "groups")) == {"user": URI}


@pytest.mark.parametrize("path", ["/users/me", "/event_types/A-b_9", "/x", "/a/b/c.d~e"])
def test_plain_paths_pass(path: str) -> None:
    assert checked_path(path) == path


@pytest.mark.parametrize(
    "path",
    [
        "",
        "users/me",
        "/",
        "//evil.example/x",
        "/users//me",
        "/users/me/",
        "/users/../x",
        "/users/..",
        "/.",
        "/users/me?x=1",
        "/users/me#x",
        "/users/%2e%2e/x",
        "/users\\me",
        "/users/m e",
        "/a\n",
        "https://evil.example/users/me",
        "/calendly/users/me",
        "/calendly",
        "@evil.example/x",
        None,
    ],
)
def test_other_paths_are_refused(path: Any) -> None:
    with pytest.raises(ValueError, match=r"^path m"):
        checked_path(path)


@given(st.text(max_size=30))
def test_no_text_gets_out_of_its_segment(text: str) -> None:
    try:
        uuid = uuid_of(text, "users", "user")
    except ValueError:
        return
    assert filled_path("/users/{uuid}", {"uuid": uuid}).split("/") == ["", "users", uuid]
    assert uuid.isascii()
    assert uuid.replace("-", "").replace("_", "").isalnum() or set(uuid) <= {"-", "_"}
