"""When hosts can be booked, and when they are busy: available times, busy times, schedules."""

from __future__ import annotations

from datetime import datetime, timedelta

from prefect_calendly.sandbox import render
from prefect_calendly.sandbox.clock import iso
from prefect_calendly.sandbox.endpoints.access import colleague, visible_event_type
from prefect_calendly.sandbox.errors import denied, invalid, not_found
from prefect_calendly.sandbox.routing import Answer, Call, Router, collection, resource
from prefect_calendly.sandbox.slots import available

router = Router()
route = router.add

AVAILABLE_WINDOW = timedelta(days=31)
BUSY_WINDOW = timedelta(days=7)


@route("GET", "/event_type_available_times", query="event_type start_time end_time")
def list_available_times(call: Call) -> Answer:
    uuid = call.uuid_of("event_type", "event_types", required=True) or ""
    start, end = _window(call, AVAILABLE_WINDOW, "The date range can be no greater than 31 days")
    item = visible_event_type(call, uuid)
    return collection([render.slot(slot, item) for slot in available(call.world, item, start, end)])


def _window(call: Call, longest: timedelta, too_long: str) -> tuple[datetime, datetime]:
    start, end = call.time("start_time", required=True), call.time("end_time", required=True)
    assert start is not None  # noqa: S101 - required above
    assert end is not None  # noqa: S101 - required above
    if start <= call.world.clock.now():
        raise invalid(("start_time", "start_time must be in the future"))
    if start >= end:
        raise invalid(("start_time", "start_time must be before end_time"))
    if end - start > longest:
        raise invalid(("end_time", too_long))
    return start, end


@route("GET", "/user_busy_times", query="user start_time end_time")
def list_busy_times(call: Call) -> Answer:
    call.required("user")
    start, end = _window(call, BUSY_WINDOW, "The date range can be no greater than 7 days")
    user = colleague(call, required=True)
    assert user is not None  # noqa: S101 - required above
    busy = [
        {"type": item.type, "start_time": iso(item.start), "end_time": iso(item.end)}
        for item in user.busy
        if item.start < end and item.end > start
    ]
    busy += [render.busy_event(item) for item in call.world.events_between(user, start, end)]
    return collection(sorted(busy, key=lambda item: str(item["start_time"])))


@route("GET", "/user_availability_schedules", query="user")
def list_schedules(call: Call) -> Answer:
    if not call.query.get("user"):
        raise invalid(("user", "invalid"))
    user = colleague(call)
    assert user is not None  # noqa: S101 - given above
    return collection([render.schedule(item) for item in user.schedules])


@route("GET", "/user_availability_schedules/{uuid}")
def get_schedule(call: Call) -> Answer:
    for user in call.world.users.values():
        for item in user.schedules:
            if item.uuid == call.params["uuid"]:
                if user.organization is not call.caller.organization:
                    raise denied()
                return resource(render.schedule(item))
    raise not_found()
