"""The policy is a form: it refuses what is wrong by the field's name, and explains itself."""

import re
from typing import Any

import pytest
from prefect.exceptions import ParameterTypeError
from pydantic import ValidationError

from flows.cancel_blocked_domains import cancel_blocked_domains
from prefect_calendly.screening.policy import DOES_NOT_DECIDE, CancelPolicy
from tests.screening.conftest import policy_of


@pytest.mark.parametrize(
    ("policy", "field", "words"),
    [
        ({"blocked_domains": ["foo@bar.example"]}, "blocked_domains.0", "must be a domain such as"),
        ({"blocked_domains": ["*.secret.example"]}, "blocked_domains.0", "must be a domain such as"),
        ({"blocked_domains": []}, "blocked_domains", "at least 1"),
        ({"blocked_domains": "secret.example"}, "blocked_domains", "list"),
        ({}, "blocked_domains", "required"),
        ({"allowed_domains": ["a@secret.example"]}, "allowed_domains.0", "must be a domain"),
        ({"allowed_emails": ["secret.example"]}, "allowed_emails.0", "must be an e-mail address"),
        ({"allowed_emails": ["a b@secret.example"]}, "allowed_emails.0", "must be an e-mail address"),
        ({"allowed_emails": ["a@secret@x.example"]}, "allowed_emails.0", "must be an e-mail address"),
        ({"alowed_domains": ["secret.example"]}, "alowed_domains", "not permitted"),
        ({"starting_at": "2026-03-02T12:00:00"}, "starting_at", "timezone"),
        ({"horizon_days": 0}, "horizon_days", "greater than or equal to 1"),
        ({"horizon_days": 366}, "horizon_days", "less than or equal to 365"),
        ({"max_cancellations": 0}, "max_cancellations", "greater than or equal to 1"),
        ({"max_cancellations": 1_001}, "max_cancellations", "less than or equal to 1000"),
        ({"reason": "secret " * 1_500}, "reason", "at most 10000"),
        ({"scope": "secret"}, "scope", "'user' or 'organization'"),
        ({"group_events": "secret"}, "group_events", "'report' or 'cancel'"),
        ({"notify": "secret"}, "notify", "slack-webhook/ops"),
    ],
)
def test_a_wrong_policy_is_refused_by_the_name_of_its_field_without_its_value(
    policy: dict[str, Any], field: str, words: str
) -> None:
    if policy and "blocked_domains" not in policy:
        policy = {"blocked_domains": ["blocked.example"], **policy}
    with pytest.raises(ValidationError) as direct:
        CancelPolicy.model_validate(policy)
    with pytest.raises(ParameterTypeError) as through_prefect:
        cancel_blocked_domains.validate_parameters({"credentials": None, "policy": policy})
    for text in (str(direct.value), str(through_prefect.value)):
        assert field in text
        assert words in text
        assert "secret" not in text
        assert "foo@bar" not in text
        assert "2026-03-02" not in text


def test_a_list_holds_each_domain_and_address_once_in_one_form() -> None:
    policy = policy_of("Bücher.example", "xn--bcher-kva.EXAMPLE", "b.example", allowed_emails=["A@B.c", "a@b.C"])
    assert policy.blocked_domains == ["xn--bcher-kva.example", "b.example"]
    assert policy.allowed_emails == ["a@b.c"]


def test_the_form_explains_and_orders_every_field() -> None:
    schema = cancel_blocked_domains.parameters.model_dump()
    asked = ["credentials", "policy", "dry_run", "require_approval", "approval_hours"]
    assert list(schema["properties"]) == asked
    assert all(schema["properties"][name].get("description") for name in asked if name != "policy")
    assert schema["properties"]["credentials"]["description"].startswith("Whose Calendly")
    assert schema["definitions"]["CancelPolicy"]["description"].startswith("Whose bookings")
    assert schema["properties"]["dry_run"]["description"].startswith("Only say")
    assert schema["properties"]["dry_run"]["default"] is True
    fields = schema["definitions"]["CancelPolicy"]["properties"]
    assert list(fields) == list(CancelPolicy.model_fields)
    assert [field["position"] for field in fields.values()] == list(range(len(fields)))
    assert all(field["description"].endswith(".") for field in fields.values())
    domain = fields["blocked_domains"]["items"]
    assert (domain["type"], domain["maxLength"]) == ("string", 253)
    assert re.search(domain["if"]["pattern"], "Bücher.example")
    assert not re.search(domain["if"]["pattern"], "eve@blocked.example")
    # An empty field, and not a choice between a type and nothing; nothing is sent for it.
    assert (fields["starting_at"]["type"], fields["notify"]["type"]) == ("string", "string")
    assert "default" not in fields["starting_at"]
    assert CancelPolicy(blocked_domains=["a.example"], notify="").notify is None
    assert fields["group_events"]["enum"] == ["report", "cancel"]


# What a scan remembers is of use only for a policy that decides the same

CHANGES: dict[str, Any] = {
    "blocked_domains": ["other.example"],
    "include_subdomains": False,
    "allowed_domains": ["other.example"],
    "allowed_emails": ["jane@blocked.example"],
    "protect_own_domains": False,
    "scope": "organization",
    "horizon_days": 7,
    "starting_at": "2026-03-02T12:00:00Z",
    "check_guests": False,
    "group_events": "cancel",
    "max_cancellations": 7,
    "reason": "No.",
    "mask_emails": False,
    "full_scan_hours": 7,
    "notify": "slack-webhook/ops",
}


@pytest.mark.parametrize("name", CancelPolicy.model_fields)
def test_every_field_decides_or_is_known_not_to(name: str) -> None:
    assert name in CHANGES, "say here how a policy differs in this field, and think about DOES_NOT_DECIDE"
    before, after = policy_of(), policy_of(**{name: CHANGES[name]})
    assert before != after
    assert (before.what_decides() == after.what_decides()) == (name in DOES_NOT_DECIDE)


def test_no_field_is_known_not_to_decide_that_does_not_exist() -> None:
    assert DOES_NOT_DECIDE <= CancelPolicy.model_fields.keys() == CHANGES.keys()


def test_a_field_that_is_added_decides_and_the_order_of_a_list_does_not() -> None:
    class Grown(CancelPolicy):
        blocked_emails: list[str]

    one, other = (Grown(blocked_domains=["a.example"], blocked_emails=emails) for emails in ([], ["e@b.example"]))
    assert one.what_decides() != other.what_decides()
    assert policy_of("a.example", "b.example").what_decides() == policy_of("b.example", "a.example").what_decides()
