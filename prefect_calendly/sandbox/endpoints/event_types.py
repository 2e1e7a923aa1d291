"""Event types and their hosts."""

from __future__ import annotations

from functools import partial
from typing import Any

from prefect_calendly.sandbox import render
from prefect_calendly.sandbox.clock import iso
from prefect_calendly.sandbox.endpoints.access import (
    colleague,
    organization_requested,
    require_manager,
    visible_event_type,
)
from prefect_calendly.sandbox.errors import invalid
from prefect_calendly.sandbox.model import EventType
from prefect_calendly.sandbox.paging import PAGING, sorted_page
from prefect_calendly.sandbox.routing import MISSING, Answer, Call, Router, resource

router = Router()
route = router.add

SORT_FIELDS = ("name", "position", "created_at", "updated_at")


@route(
    "GET",
    "/event_types",
    query=f"user organization active admin_managed user_availability_schedule sort {PAGING}",
)
def list_event_types(call: Call) -> Answer:
    everybody = organization_requested(call)
    user = colleague(call)
    if not everybody and user is None:
        raise invalid(("user", MISSING), ("organization", MISSING))
    if user is None:
        require_manager(call)
    active, managed = call.flag("active"), call.flag("admin_managed")
    schedule = call.uuid_of("user_availability_schedule", "user_availability_schedules")
    if schedule is not None and user is None:
        raise invalid(("user", MISSING))
    order = call.sort(SORT_FIELDS, "name:asc")
    rows = [
        item
        for item in call.world.event_types.values()
        if item.organization is call.caller.organization
        and (user is None or user in item.hosts)
        and (active is None or item.active is active)
        and not managed
        and (schedule is None or (user is not None and item.schedule_of(user).uuid == schedule))
    ]
    return sorted_page(call, rows, order, _sort_value, lambda item: item.uuid, render.event_type)


def _sort_value(item: EventType, name: str) -> Any:
    if name.endswith("_at"):
        return iso(item.created if name == "created_at" else item.updated)
    return item.position if name == "position" else item.name


@route("GET", "/event_types/{uuid}")
def get_event_type(call: Call) -> Answer:
    return resource(render.event_type(visible_event_type(call, call.params["uuid"])))


@route("GET", "/event_type_memberships", query=f"event_type {PAGING}")
def list_event_type_memberships(call: Call) -> Answer:
    item = visible_event_type(call, call.uuid_of("event_type", "event_types", required=True) or "")
    return sorted_page(
        call,
        item.hosts,
        [("name", False)],
        lambda host, _: host.name,
        lambda host: host.uuid,
        partial(render.event_type_membership, item),
    )
