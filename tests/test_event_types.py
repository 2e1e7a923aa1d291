"""Event types, over HTTP."""

import pytest

from prefect_calendly import CalendlyCredentials
from prefect_calendly.availability import alist_availability_schedules
from prefect_calendly.client import errors
from prefect_calendly.event_types import EventType, aget_event_type, alist_event_types
from prefect_calendly.sandbox import Sandbox
from prefect_calendly.sandbox.seed import ALICE, EVENT_TYPE, ORGANIZATION
from tests.support import no_request, nothing_unknown, uri


async def test_an_event_type_has_every_documented_member(credentials: CalendlyCredentials) -> None:
    event_type = await aget_event_type.fn(credentials, EVENT_TYPE)
    assert (event_type.name, event_type.duration, event_type.active) == ("30 Minute Meeting", 30, True)
    assert event_type.model_fields_set == set(EventType.model_fields)
    assert event_type.model_extra == {}
    (question,) = event_type.custom_questions
    assert question.name == "What would you like to discuss?"
    assert event_type.profile is not None
    assert event_type.profile.owner == uri("users", ALICE)
    for reference in (event_type, event_type.uri):
        assert await aget_event_type.fn(credentials, reference) == event_type


async def test_every_filter_sort_and_page_size(credentials: CalendlyCredentials, sandbox: Sandbox) -> None:
    evenings = [item for item in await alist_availability_schedules.fn(credentials, ALICE) if item.name == "Evenings"]
    with nothing_unknown(sandbox):
        mine = await alist_event_types.fn(credentials, user=ALICE)
        everybodys = await alist_event_types.fn(credentials, organization=ORGANIZATION)
        active = await alist_event_types.fn(credentials, user=ALICE, active=True)
        inactive = await alist_event_types.fn(credentials, user=ALICE, active=False)
        assert await alist_event_types.fn(credentials, user=ALICE, admin_managed=True) == []
        assert await alist_event_types.fn(credentials, user=ALICE, admin_managed=False) == mine
        evening = await alist_event_types.fn(credentials, user=ALICE, user_availability_schedule=evenings[0])
        assert await alist_event_types.fn(credentials, user=ALICE, count=2) == mine
        assert await alist_event_types.fn(credentials, user=ALICE, count=2, limit=3) == mine[:3]
        by_position = await alist_event_types.fn(credentials, user=ALICE, sort="position:desc,created_at:asc")
    assert [item.name for item in mine] == sorted(item.name or "" for item in mine)
    assert {item.uri for item in mine} < {item.uri for item in everybodys}
    assert {item.uri for item in active} | {item.uri for item in inactive} == {item.uri for item in mine}
    assert [item.name for item in inactive] == ["Old Coffee Chat"]
    assert [item.name for item in evening] == ["Evening Call"]
    assert [item.position for item in by_position] == sorted((item.position or 0 for item in mine), reverse=True)
    kinds = {location.kind for item in mine for location in item.locations or ()}
    assert {"physical", "outbound_call", "zoom_conference"} <= kinds


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({}, "give `user` or `organization`"),
        ({"organization": ORGANIZATION, "user_availability_schedule": "S"}, "needs `user` too"),
        ({"user": ALICE, "user_availability_schedule": ALICE + "/x"}, "user_availability_schedule must be"),
        (
            {"user": ALICE, "sort": "color:asc"},
            "sort must be a comma-separated list of name, position, created_at, updated_at",
        ),
        ({"user": ALICE, "sort": "name"}, "with :asc or :desc, not 'name'"),
        ({"user": ALICE, "sort": ""}, "sort must be"),
        ({"user": ALICE, "sort": "name:up"}, "sort must be"),
        ({"user": ALICE, "count": 101}, "count must be 1 to 100"),
        ({"user": ALICE, "limit": -1}, "limit must be at least 1"),
    ],
)
async def test_bad_arguments_cost_no_request(
    arguments: dict[str, object], words: str, credentials: CalendlyCredentials, sandbox: Sandbox
) -> None:
    with no_request(sandbox), pytest.raises(ValueError, match=words):
        await alist_event_types.fn(credentials, **arguments)
    with no_request(sandbox), pytest.raises(ValueError, match=r"event_type must be the URI .* of an event type"):
        await aget_event_type.fn(credentials, "")


async def test_an_unknown_event_type_is_not_found(credentials: CalendlyCredentials) -> None:
    with pytest.raises(errors.NotFoundError):
        await aget_event_type.fn(credentials, "NONE")


async def test_new_members_and_values_of_enumerations_are_kept(
    credentials: CalendlyCredentials, sandbox: Sandbox
) -> None:
    sandbox.fault("enum_value", route="/event_types/{uuid}", member="kind", value="crowd")
    sandbox.fault("enum_value", route="/event_types/{uuid}", member="pooling_type", value="auction")
    sandbox.fault("extra_member", route="/event_types/{uuid}", member="profile.badge", value=1)
    event_type = await aget_event_type.fn(credentials, EVENT_TYPE)
    assert (event_type.kind, event_type.pooling_type) == ("crowd", "auction")
    assert event_type.profile is not None
    assert event_type.profile.model_extra == {"badge": 1}


async def test_one_broken_item_of_a_list_is_named(credentials: CalendlyCredentials, sandbox: Sandbox) -> None:
    sandbox.fault("missing_member", route="/event_types", member="scheduling_url", item=1)
    with pytest.raises(errors.InvalidAnswerError, match="EventType is unreadable at 'scheduling_url'"):
        await alist_event_types.fn(credentials, user=ALICE)
