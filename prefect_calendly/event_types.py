"""Event types: the kinds of meeting that can be booked."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Literal

from prefect_calendly.client import CalendlyClient
from prefect_calendly.client.identifiers import Reference, filled_path, optional_uris, uuid_of
from prefect_calendly.resource import Items, Resource, Time, check_sort
from prefect_calendly.tasks import make_tasks


class EventTypeProfile(Resource):
    """Who offers an event type: a user or a team."""

    type: Literal["User", "Team"] | str
    name: str | None = None
    owner: str


class CustomQuestion(Resource):
    """A question on the booking form; bookings refer to it by its exact `name`."""

    name: str
    type: Literal["string", "text", "phone_number", "single_select", "multi_select"] | str
    position: int
    enabled: bool
    required: bool
    answer_choices: Items[str] = ()
    include_other: bool = False


class LocationConfiguration(Resource):
    """A place that an event type offers; bookings say its `kind`."""

    kind: (
        Literal[
            "physical",
            "ask_invitee",
            "custom",
            "inbound_call",
            "outbound_call",
            "google_conference",
            "zoom_conference",
            "gotomeeting_conference",
            "microsoft_teams_conference",
            "webex_conference",
        ]
        | str
    )
    location: str | None = None
    additional_info: str | None = None
    phone_number: str | None = None


class EventType(Resource):
    """A kind of meeting."""

    uri: str
    name: str | None = None
    active: bool
    slug: str | None = None
    scheduling_url: str
    duration: float
    """Minutes."""
    duration_options: tuple[int, ...] | None = None
    kind: Literal["solo", "group"] | str
    pooling_type: Literal["round_robin", "collective", "multi_pool"] | str | None = None
    type: Literal["StandardEventType", "AdhocEventType"] | str
    color: str | None = None
    created_at: Time
    updated_at: Time
    deleted_at: Time | None = None
    internal_note: str | None = None
    description_plain: str | None = None
    description_html: str | None = None
    is_paid: bool | None = None
    profile: EventTypeProfile | None = None
    secret: bool | None = None
    booking_method: Literal["instant", "poll"] | str | None = None
    custom_questions: Items[CustomQuestion] = ()
    admin_managed: bool | None = None
    locations: tuple[LocationConfiguration, ...] | None = None
    position: int | None = None
    locale: str | None = None


async def list_event_types_via(
    client: CalendlyClient,
    *,
    user: Reference | None = None,
    organization: Reference | None = None,
    active: bool | None = None,
    admin_managed: bool | None = None,
    user_availability_schedule: Reference | None = None,
    sort: str | None = None,
    count: int = 100,
    page_token: str | None = None,
    limit: int | None = None,
) -> AsyncIterator[EventType]:
    """Return the event types that a user hosts, or all of an organization.

    Source: `GET /event_types`.

    Args:
        credentials: The Calendly account to use.
        user: Only those that this user owns or hosts; this or `organization` is required.
        organization: All of this organization (owners and admins only).
        active: True for active ones only, False for inactive ones only; both by default.
        admin_managed: True for those that an admin manages only, False for the others only; both by default.
        user_availability_schedule: Only those that use this availability schedule; requires `user`.
        sort: Comma-separated list of `name`, `position`, `created_at` or `updated_at`, each with `:asc` or `:desc`.
        count: Items per page, 1 to 100.
        page_token: Where to start: the token of an earlier answer to the same call, with the same `count`.
        limit: Return at most this many items; all by default.

    Returns:
        The event types; by name unless `sort` says otherwise.

    Raises:
        ValueError: An argument is missing or out of range.
        CalendlyError: The call failed; see `prefect_calendly.client.errors`.

    Example:
        ```python
        for event_type in list_event_types(credentials, user="AAAAAAAAAAAAAAAA", active=True):
            print(event_type.name, event_type.duration)
        ```
    """
    if user is None and organization is None:
        raise ValueError("give `user` or `organization`")
    if user_availability_schedule is not None and user is None:
        raise ValueError("`user_availability_schedule` needs `user` too")
    check_sort(sort, ("name", "position", "created_at", "updated_at"))
    filters = optional_uris(
        user=(user, "users"),
        organization=(organization, "organizations"),
        user_availability_schedule=(user_availability_schedule, "user_availability_schedules"),
    )
    async for event_type in client.pages(
        "/event_types",
        EventType,
        params={**filters, "active": active, "admin_managed": admin_managed, "sort": sort},
        count=count,
        page_token=page_token,
        limit=limit,
    ):
        yield event_type


alist_event_types, list_event_types = make_tasks("List event types", list_event_types_via)


async def get_event_type_via(client: CalendlyClient, event_type: Reference) -> EventType:
    """Return one event type, with its questions and locations.

    Source: `GET /event_types/{uuid}`.

    Args:
        credentials: The Calendly account to use.
        event_type: URI, uuid or model.

    Returns:
        The event type.

    Raises:
        ValueError: `event_type` does not name an event type.
        CalendlyError: The call failed; see `prefect_calendly.client.errors`.

    Example:
        ```python
        event_type = get_event_type(credentials, "CCCCCCCCCCCCCCCC")
        ```
    """
    uuid = uuid_of(event_type, "event_types", "event_type")
    return await client.resource(filled_path("/event_types/{uuid}", {"uuid": uuid}), EventType)


aget_event_type, get_event_type = make_tasks("Get an event type", get_event_type_via)
