"""Figures, reset, faults, state and clock."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from itertools import islice

from prefect_calendly.sandbox import render
from prefect_calendly.sandbox.clock import check_speed, iso, parse_time
from prefect_calendly.sandbox.control.calls import JSON, Calls, ControlCall
from prefect_calendly.sandbox.faults import Fault
from prefect_calendly.sandbox.world import summary

calls = Calls()
control = calls.add

MAX_LISTED_EVENTS = 10_000


@control("GET", "/stats")
def get_stats(call: ControlCall) -> JSON:
    return call.state.stats.as_json()


@control("POST", "/stats/reset")
def reset_stats(call: ControlCall) -> JSON:
    call.state.reset_stats()
    return {}


@control("POST", "/reset")
def reset(call: ControlCall) -> JSON:
    """Go back to what the sandbox was started with, except for the options in the body."""
    call.state.reset(replace(call.state.started_with, **call.body))
    return summary(call.world)


@control("GET", "/faults")
def list_faults(call: ControlCall) -> JSON:
    return {"faults": [{"kind": f.kind, "times": f.times, "seen": f.seen} for f in call.state.faults]}


@control("POST", "/faults")
def add_faults(call: ControlCall) -> JSON:
    new = [Fault.parse(item) for item in (call.body if isinstance(call.body, list) else [call.body])]
    call.state.faults += new
    return {"faults": len(call.state.faults)}


@control("DELETE", "/faults")
def clear_faults(call: ControlCall) -> JSON:
    call.state.faults.clear()
    return {"faults": 0}


@control("GET", "/state")
def get_state(call: ControlCall) -> JSON:
    world, now = call.world, call.world.clock.now()
    state: JSON = {
        **summary(world),
        "now": iso(now),
        "canceled_by_api": [
            {**render.event(event, now), "invitees": [i.uri for i in event.invitees]}
            for event in world.events.values()
            if event.canceled_through_api
        ],
        "bookings": [render.invitee(item) for item in world.bookings],
        "webhook_subscription_list": [render.webhook(item) for item in world.webhooks.values()],
        "connection_list": [render.connection(item) for item in world.connections.values()],
    }
    if call.query.get("full") in ("1", "true"):
        listed = islice(world.events.values(), MAX_LISTED_EVENTS)
        state["events"] = {event.uuid: event.status for event in listed}
        state["events_complete"] = len(world.events) <= MAX_LISTED_EVENTS
    return state


@control("GET", "/clock")
def get_clock(call: ControlCall) -> JSON:
    clock = call.world.clock
    return {"now": iso(clock.now()), "frozen": clock.frozen, "speed": clock.speed}


@control("POST", "/clock")
def set_clock(call: ControlCall) -> JSON:
    body, clock = call.members("now", "advance_seconds", "frozen", "speed"), call.world.clock
    if "speed" in body:
        clock.run_at(check_speed(body["speed"]))
    if "frozen" in body:
        clock.freeze(bool(body["frozen"]))
    if "now" in body:
        clock.set(parse_time(body["now"]))
    if "advance_seconds" in body:
        clock.set(clock.now() + timedelta(seconds=body["advance_seconds"]))
    call.state.deliveries.wake()
    return get_clock(call)
