"""The form: what a person may enter, and what a wrong entry is answered."""

from __future__ import annotations

import contextlib
from typing import Any

import pytest
from prefect.exceptions import ParameterTypeError
from pydantic import ValidationError

from flows.ensure_webhook_subscription import ensure_webhook_subscription
from prefect_calendly.subscription.spec import Account, SubscriptionSpec
from tests.subscription.conftest import Subscriber
from tests.subscription.examples import ACCOUNT, API, HIDDEN, URL
from tests.support import form_errors


@pytest.mark.parametrize(
    ("members", "field"),
    [
        ({"callback_url": "http://hooks.example.com/x"}, "callback_url"),
        ({"callback_url": "https://user:pw@hooks.example.com/x"}, "callback_url"),
        ({"events": ["invitee.invented"]}, "events.0"),
        ({"events": []}, "events"),
        ({"events": ["meeting_recap.created"], "scope": "organization"}, "events"),
        ({"events": ["routing_form_submission.created"], "scope": "user"}, "events"),
        ({"scope": "planet"}, "scope"),
        ({"scope": "group"}, "group"),
        ({"group": "SOMEGROUP"}, "group"),
        ({"scope": "group", "group": f"{API}/users/AAAA"}, "group"),
        ({"signing_key_block": "S3cr3t Key!"}, "signing_key_block"),
        ({"notify": "not a reference"}, "notify"),
        ({"evnets": ["invitee.created"]}, "evnets"),
    ],
)
def test_a_bad_field_is_refused_by_its_name_without_its_value(members: dict[str, Any], field: str) -> None:
    with pytest.raises(ValidationError) as caught:
        SubscriptionSpec.model_validate({"callback_url": URL, **members})
    assert [".".join(map(str, error["loc"])) for error in caught.value.errors()] == [field]
    assert "input_value" not in str(caught.value)
    assert HIDDEN not in str(caught.value)
    assert "S3cr3t" not in str(caught.value)


@pytest.mark.parametrize(
    "bad", [{"callback_url": "http://x.example"}, {"callback_url": URL, "event": ["invitee.created"]}]
)
async def test_a_run_with_a_bad_field_sends_no_request(bad: dict[str, Any], account: Subscriber) -> None:
    with pytest.raises(ParameterTypeError, match=r"subscription\.(callback_url|event)"):
        await ensure_webhook_subscription(account.credentials, bad)  # type: ignore[arg-type]
    assert account.sandbox.stats()["requests"] == 0


def test_the_form_has_help_and_a_position_for_every_field_and_selects_for_names() -> None:
    properties = SubscriptionSpec.model_json_schema()["properties"]
    assert sorted(item["position"] for item in properties.values()) == list(range(len(properties)))
    assert all(item["description"].endswith(".") for item in properties.values())
    assert "invitee_no_show.created" in properties["events"]["items"]["enum"]
    assert properties["scope"]["enum"] == ["organization", "user", "group"]
    assert not any("anyOf" in item or item.get("default", "") is None for item in properties.values())


@pytest.mark.parametrize(
    ("entered", "said"),
    [
        ({"callback_url": "http://hooks.example.com/x"}, "'a URL that begins with https' was expected"),
        ({"callback_url": "https://hooks.example.com/#x"}, "'a URL that begins with https' was expected"),
        ({"events": ["invitee.invented"]}, "is not one of ['invitee.created', "),
        ({"events": []}, "should be non-empty"),
        ({"scope": "planet"}, "is not one of ['organization', 'user', 'group']"),
        ({"signing_key_block": "S3cr3t Key!"}, "'the name of a Secret block, such as calendly-key' was"),
        ({"notify": "not a reference"}, "'type/name of a saved block, such as slack-webhook/ops' was expected"),
    ],
)
def test_the_form_refuses_a_bad_entry_and_says_what_is_wanted(entered: dict[str, Any], said: str) -> None:
    [message] = form_errors(SubscriptionSpec, **{"callback_url": URL, **entered})
    assert said in message


@pytest.mark.parametrize(
    "entered", [{}, {"group": "", "signing_key_block": "", "notify": ""}, {"callback_url": f" {URL} "}]
)
def test_the_form_lets_through_what_the_flow_takes(entered: dict[str, Any]) -> None:
    entered = {"callback_url": URL, **entered}
    assert form_errors(SubscriptionSpec, **entered) == []
    assert SubscriptionSpec.model_validate(entered) == SubscriptionSpec(callback_url=URL)


def test_a_url_is_shown_by_host_and_hash_only() -> None:
    one, two = SubscriptionSpec(callback_url=URL), SubscriptionSpec(callback_url=URL + "x")
    assert one.masked_url.startswith("https://hooks.example.com/… (sha256 ")
    assert one.masked_url != two.masked_url


@pytest.mark.parametrize(
    ("host", "refused"),
    [
        ("hooks.example.com", True),
        ("example.org:8443", True),
        ("Hooks.EXAMPLE.net.", True),
        ("my.example", True),
        ("none.invalid", True),
        ("hooks.acme.com", False),
        ("notexample.com", False),
        ("example.com.acme.io", False),
    ],
)
def test_a_placeholder_reaches_no_gateway_but_a_sandbox(host: str, refused: bool) -> None:
    spec = SubscriptionSpec(callback_url=f"https://{host}/{HIDDEN}")
    spec.check_callback("http://127.0.0.1:8321/calendly")
    for gateway in ("https://gateway.maton.ai/calendly", "https://api.calendly.com"):
        with pytest.raises(ValueError, match="is a placeholder") if refused else contextlib.nullcontext() as caught:
            spec.check_callback(gateway)
        assert HIDDEN not in str(caught)


@pytest.mark.parametrize("members", [{"rotate_key_after_days": 30}, {"check_receiver": True}])
def test_what_needs_a_key_says_so(members: dict[str, Any]) -> None:
    with pytest.raises(ValidationError, match="needs signing_key_block"):
        SubscriptionSpec(callback_url=URL, **members)


def test_a_state_is_kept_for_each_gateway_organization_owner_and_url() -> None:
    spec, own = SubscriptionSpec(callback_url=URL), SubscriptionSpec(callback_url=URL, scope="user")
    gateway, organization, user = ACCOUNT.gateway, ACCOUNT.organization, ACCOUNT.user
    names = {
        spec.state_name(ACCOUNT),
        spec.state_name(Account("https://other.example", organization, user)),
        spec.state_name(Account(gateway, f"{API}/organizations/OTHER", user)),
        own.state_name(ACCOUNT),
        own.state_name(Account(gateway, organization, f"{API}/users/OTHER")),
        SubscriptionSpec(callback_url=URL, scope="group", group="ONE").state_name(ACCOUNT),
        SubscriptionSpec(callback_url=URL, scope="group", group="TWO").state_name(ACCOUNT),
        SubscriptionSpec(callback_url=URL + "2").state_name(ACCOUNT),
    }
    assert len(names) == 8
    # An organization's subscription is the same, whichever of its admins keeps it.
    assert spec.state_name(Account(gateway, organization, f"{API}/users/OTHER")) == spec.state_name(ACCOUNT)
