"""Users, event types and busy times."""

from __future__ import annotations

from prefect_calendly.sandbox import factories, render
from prefect_calendly.sandbox.clock import iso, parse_time
from prefect_calendly.sandbox.control.calls import JSON, Calls, ControlCall, last_segment
from prefect_calendly.sandbox.model import Busy, Question, Rule
from prefect_calendly.sandbox.seed import ALICE, ORGANIZATION

calls = Calls()
control = calls.add


@control("POST", "/users")
def add_user(call: ControlCall) -> JSON:
    body, world = call.members("name", "email", "timezone", "role", "organization", "rules", "uuid"), call.world
    organization = world.organizations[last_segment(body.get("organization", ORGANIZATION))]
    rules = None
    if "rules" in body:
        rules = [Rule(r["type"], r[r["type"]], [(i["from"], i["to"]) for i in r["intervals"]]) for r in body["rules"]]
    user = factories.add_user(
        world,
        organization,
        body["name"],
        email=body.get("email"),
        timezone=body.get("timezone", "America/New_York"),
        role=body.get("role", "user"),
        rules=rules,
        uuid=body.get("uuid"),
    )
    event_type = factories.add_event_type(world, "30 Minute Meeting", [user], slug="30min")
    return {
        "uri": user.uri,
        "organization_membership": render.membership(user)["uri"],
        "availability_schedule": user.schedules[0].uri,
        "event_type": event_type.uri,
    }


@control("POST", "/event_types")
def add_event_type(call: ControlCall) -> JSON:
    body = call.members(
        *("hosts", "name", "duration", "kind", "pooling", "limit", "locations", "questions", "active"),
        *("uuid", "team", "slug"),
    )
    hosts = [call.user(name) for name in body.get("hosts", [ALICE])]
    more = {k: v for k, v in body.items() if k not in ("hosts", "name", "duration", "questions")}
    questions = [
        Question(call.world.uuid(), q["name"], q.get("type", "text"), q.get("required", False))
        for q in body.get("questions", ())
    ]
    duration = body.get("duration", 30)
    item = factories.add_event_type(call.world, body["name"], hosts, duration, questions=questions, **more)
    call.world.emit("event_type.created", item)
    return {"uri": item.uri}


@control("POST", "/busy_times")
def add_busy_time(call: ControlCall) -> JSON:
    body = call.members("user", "start_time", "end_time", "type")
    busy = Busy(parse_time(body["start_time"]), parse_time(body["end_time"]), body.get("type", "external"))
    call.user(body.get("user", ALICE)).busy.append(busy)
    return {"start_time": iso(busy.start), "end_time": iso(busy.end), "type": busy.type}
