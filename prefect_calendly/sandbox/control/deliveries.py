"""Webhook subscriptions and their deliveries."""

from __future__ import annotations

from datetime import timedelta

from prefect_calendly.sandbox import render
from prefect_calendly.sandbox.clock import parse_time
from prefect_calendly.sandbox.control.calls import JSON, Calls, ControlCall
from prefect_calendly.sandbox.deliveries.disturbances import DISTURBANCES, Disturbance

calls = Calls()
control = calls.add

MAX_LISTED = 1_000
MAX_AT_ONCE = 1_000


@control("POST", "/webhook_subscriptions/{uuid}")
def change_webhook(call: ControlCall) -> JSON:
    body, item = call.members("state", "retry_started_at"), call.world.webhooks[call.path["uuid"]]
    if "state" in body:
        if body["state"] not in ("active", "disabled"):
            raise ValueError("state must be active or disabled")
        item.state = body["state"]
    if "retry_started_at" in body:
        value = body["retry_started_at"]
        item.retry_started = parse_time(value) if value is not None else None
    item.updated = call.world.clock.now()
    call.state.deliveries.wake()
    return render.webhook(item)


@control("GET", "/deliveries")
async def list_deliveries(call: ControlCall) -> JSON:
    limit = int(call.query.get("limit", 100))
    if not 0 <= limit <= MAX_LISTED:
        raise ValueError(f"limit must be at most {MAX_LISTED}")
    if "wait" in call.query:
        await call.state.deliveries.idle(float(call.query["wait"]))
    return call.state.deliveries.as_json(limit)


@control("POST", "/deliveries")
def set_deliveries(call: ControlCall) -> JSON:
    """Change settings, and replay; everything is checked before anything changes."""
    body = call.members("paused", "at_once", "delay_seconds", "replay", *DISTURBANCES)
    deliveries = call.state.deliveries
    disturbances = {name: Disturbance.parse(name, body[name]) for name in DISTURBANCES if name in body}
    at_once, paused = body.get("at_once", deliveries.at_once), body.get("paused", deliveries.paused)
    if not isinstance(at_once, int) or not 1 <= at_once <= MAX_AT_ONCE:
        raise ValueError(f"at_once must be an integer from 1 to {MAX_AT_ONCE}")
    if not isinstance(paused, bool):
        raise ValueError("paused must be true or false")
    delay = timedelta(seconds=body["delay_seconds"]) if "delay_seconds" in body else deliveries.delay
    if delay < timedelta():
        raise ValueError("delay_seconds must not be negative")
    if "replay" in body:
        deliveries.replay(body["replay"])
    deliveries.paused, deliveries.at_once, deliveries.delay = paused, at_once, delay
    deliveries.disturbances |= disturbances
    deliveries.wake()
    return deliveries.as_json(0)
