"""The gateway's connections: logging in, and losing the permission."""

from __future__ import annotations

from prefect_calendly.sandbox import render
from prefect_calendly.sandbox.control.calls import JSON, Calls, ControlCall
from prefect_calendly.sandbox.endpoints.connections import STATUSES, activate

calls = Calls()
control = calls.add


@control("POST", "/connections")
def change_activation(call: ControlCall) -> JSON:
    """Change when pending connections become active by themselves; null is never."""
    body, world = call.members("activate_after_gets", "activate_after_seconds"), call.world
    world.activate_after_gets = body.get("activate_after_gets", world.activate_after_gets)
    world.activate_after_seconds = body.get("activate_after_seconds", world.activate_after_seconds)
    return {
        "activate_after_gets": world.activate_after_gets,
        "activate_after_seconds": world.activate_after_seconds,
    }


@control("POST", "/connections/{connection_id}")
def change_connection(call: ControlCall) -> JSON:
    """Let a user log in (`ACTIVE`, as `user`), or lose the permission (`FAILED`)."""
    body, world = call.members("status", "user"), call.world
    item = world.connections[call.path["connection_id"]]
    if "user" in body:
        item.user = call.user(body["user"])
    status = body.get("status", item.status)
    if status not in STATUSES:
        raise ValueError(f"status must be one of {', '.join(STATUSES)}")
    if status == "ACTIVE":
        activate(world, item, world.clock.now())
    item.status, item.updated = status, world.clock.now()
    return render.connection(item)
