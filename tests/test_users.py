"""Users, over HTTP."""

import pytest

from prefect_calendly import CalendlyCredentials
from prefect_calendly.client import errors
from prefect_calendly.sandbox import Sandbox
from prefect_calendly.sandbox.seed import ALICE, ORGANIZATION, SECOND_USER
from prefect_calendly.users import User, aget_current_user, aget_user
from tests.support import no_request, uri


async def test_the_current_user_has_every_documented_member(credentials: CalendlyCredentials) -> None:
    user = await aget_current_user.fn(credentials)
    assert user.uri == uri("users", ALICE)
    assert (user.name, user.email, user.slug) == ("Alice Johnson", "alice.johnson@acme.com", "alice-johnson")
    assert user.timezone == "America/New_York"
    assert user.current_organization == uri("organizations", ORGANIZATION)
    assert user.created_at.isoformat() == "2024-01-15T10:30:00+00:00"
    assert (user.resource_type, user.time_notation) == ("User", "12h")
    assert user.model_extra == {}
    assert user.model_fields_set == set(User.model_fields)


async def test_a_user_is_named_by_uri_uuid_model_or_me(credentials: CalendlyCredentials) -> None:
    alice = await aget_user.fn(credentials, ALICE)
    for reference in (uri("users", ALICE), alice, "me"):
        assert await aget_user.fn(credentials, reference) == alice


@pytest.mark.parametrize("wrong", ["", "../me", uri("organizations", "X"), "a@example.com", None])
async def test_what_is_no_user_costs_no_request(wrong: str, credentials: CalendlyCredentials, sandbox: Sandbox) -> None:
    with no_request(sandbox), pytest.raises(ValueError, match=r"user must be the URI .* of a user"):
        await aget_user.fn(credentials, wrong)


async def test_unknown_and_foreign_users_are_told_apart(credentials: CalendlyCredentials) -> None:
    with pytest.raises(errors.NotFoundError, match="404 GET /users/NOBODY"):
        await aget_user.fn(credentials, "NOBODY")
    with pytest.raises(errors.RoleRequiredError, match="do not have permission"):
        await aget_user.fn(credentials, SECOND_USER)


async def test_models_are_immutable_and_keep_what_is_new(credentials: CalendlyCredentials, sandbox: Sandbox) -> None:
    sandbox.fault("extra_member", path="/users/me", member="pronouns", value="she")
    sandbox.fault("enum_value", path="/users/me", member="time_notation", value="36h")
    user = await aget_current_user.fn(credentials)
    assert user.model_extra == {"pronouns": "she"}
    assert user.time_notation == "36h"
    with pytest.raises(ValueError, match="frozen"):
        user.name = "Bob"


@pytest.mark.parametrize("member", ["uri", "name", "email", "scheduling_url", "timezone", "current_organization"])
async def test_a_required_member_that_is_missing_is_named(
    member: str, credentials: CalendlyCredentials, sandbox: Sandbox
) -> None:
    sandbox.fault("missing_member", path="/users/me", member=member)
    with pytest.raises(errors.InvalidAnswerError, match=f"User is unreadable at '{member}'") as caught:
        await aget_current_user.fn(credentials)
    assert (caught.value.resource, caught.value.member) == ("User", member)
    assert "alice" not in str(caught.value).lower()


@pytest.mark.parametrize(
    ("kind", "error"),
    [
        ("unauthorized_gateway", errors.GatewayKeyError),
        ("unauthorized_calendly", errors.CalendlyTokenError),
        ("insufficient_scope", errors.InsufficientScopeError),
        ("plan", errors.PlanRequiredError),
        ("permission_denied", errors.RoleRequiredError),
        ("not_found", errors.NotFoundError),
        ("bad_request_without_details", errors.BadRequestError),
        ("external_calendar", errors.ExternalCalendarError),
        ("server_error", errors.ServerError),
        ("html_502", errors.ServerError),
        ("unavailable", errors.ServerError),
        ("redirect", errors.InvalidAnswerError),
        ("drop_before", errors.NetworkError),
        ("reset", errors.NetworkError),
        ("truncated_body", errors.NetworkError),
        ("malformed_json", errors.InvalidAnswerError),
    ],
)
@pytest.mark.usefixtures("impatient")
async def test_whatever_goes_wrong_on_the_wire_has_its_error(
    kind: str, error: type[errors.CalendlyError], credentials: CalendlyCredentials, sandbox: Sandbox
) -> None:
    sandbox.fault(kind, path="/users/me", times=None)
    with pytest.raises(error) as caught:
        await aget_current_user.fn(credentials)
    assert type(caught.value) is error
    assert "GET /users/me" in str(caught.value)
    assert (caught.value.request_id is None) == (error is errors.NetworkError)
    passes = (
        error in (errors.ExternalCalendarError, errors.ServerError, errors.NetworkError) or kind == "malformed_json"
    )
    assert sandbox.stats()["requests"] == (4 if passes else 1)


@pytest.mark.parametrize("options", [{"shape": "maton"}, {"reset": 1}, {"shape": "maton", "retry_after": 0}])
async def test_a_429_of_either_side_is_waited_out(
    options: dict[str, object], credentials: CalendlyCredentials, sandbox: Sandbox
) -> None:
    sandbox.fault("rate_limited", path="/users/me", **options)
    assert (await aget_current_user.fn(credentials)).uri == uri("users", ALICE)
    assert sandbox.stats()["by_status"] == {"429": 1, "200": 1}
