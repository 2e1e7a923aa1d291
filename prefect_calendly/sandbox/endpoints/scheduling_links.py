"""Scheduling links, each for one booking."""

from __future__ import annotations

from prefect_calendly.sandbox.endpoints.access import visible_event_type
from prefect_calendly.sandbox.errors import invalid
from prefect_calendly.sandbox.routing import MISSING, Answer, Call, Router, resource, uuid_in

router = Router()
route = router.add


@route("POST", "/scheduling_links", body="max_event_count owner owner_type", write="scheduling_link")
def create_scheduling_link(call: Call) -> Answer:
    body = call.members()
    missing = [(name, MISSING) for name in ("max_event_count", "owner", "owner_type") if body.get(name) is None]
    if missing:
        raise invalid(*missing)
    if body["max_event_count"] not in (1, "1") or body["max_event_count"] is True:
        raise invalid(("max_event_count", "invalid"))
    if body["owner_type"] != "EventType":
        raise invalid(("owner_type", "invalid"))
    event_type = visible_event_type(call, uuid_in(body["owner"], "event_types", "owner"))
    url = f"https://calendly.com/d/{call.world.uuid().lower()}/{event_type.slug}"
    return resource({"booking_url": url, "owner": event_type.uri, "owner_type": "EventType"}, 201)
