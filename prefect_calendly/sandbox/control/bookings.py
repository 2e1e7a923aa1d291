"""What invitees and hosts do without the API: booking, canceling, rescheduling, not showing up."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from datetime import datetime, timedelta

from prefect_calendly.sandbox.clock import parse_time
from prefect_calendly.sandbox.control.calls import JSON, Calls, ControlCall, only
from prefect_calendly.sandbox.factories import cancel_before_adding, join_url_of, location_for
from prefect_calendly.sandbox.model import Cancellation, Event, EventType, Invitee, Location
from prefect_calendly.sandbox.seed import ALICE, ORGANIZATION
from prefect_calendly.sandbox.slots import available

calls = Calls()
control = calls.add

MAX_BURST = 100_000
# How far ahead a free slot is looked for, a week at a time.
SEARCH_DAYS, SEARCH_STEP = 400, timedelta(days=7)


@control("POST", "/events")
def add_event(call: ControlCall) -> JSON:
    """Book as an invitee does on Calendly's page, or in whatever way a test needs."""
    body = call.members(
        *("host", "hosts", "event_type", "start_time", "duration_minutes", "name", "status", "invitees"),
        *("guests", "location", "created_at", "uuid", "cancellation_reason"),
    )
    world, now = call.world, call.world.clock.now()
    hosts = tuple(call.user(name) for name in body.get("hosts") or [body.get("host", ALICE)])
    event_type = call.event_type(body.get("event_type"), hosts[0])
    start = _start(call, body, event_type)
    created = now if start > now else start - timedelta(days=1)
    if "created_at" in body:
        created = parse_time(body["created_at"])
    uuid = body.get("uuid") or world.uuid()
    minutes = body.get("duration_minutes", event_type.duration)
    location = location_for(event_type, uuid)
    if body.get("location"):
        given = body["location"]
        kind = given["kind"]
        location = Location(kind, given.get("location"), given.get("additional_info"), join_url_of(kind, uuid))
    end = start + timedelta(minutes=minutes)
    event = Event(
        *(uuid, event_type, hosts, start, end, created, created, location),
        source="control",
        guests=[(email, created) for email in body.get("guests", ())],
        name=body.get("name"),
    )
    for item in body.get("invitees", [{"email": "invitee@example.com", "name": "Ivy Invitee"}]):
        event.invitees.append(_invitee(call, event, item))
    if body.get("status", "active") == "canceled":
        cancel_before_adding(event, hosts[0].name, "host", body.get("cancellation_reason"))
    world.add_event(event)
    world.emit_booked(event)
    return {"uri": event.uri, "invitees": [invitee.uri for invitee in event.invitees]}


@control("POST", "/burst")
async def burst(call: ControlCall) -> JSON:
    """Book many events at once; hosts and the domains of invitees take turns."""
    body, world = call.members("count", "domains", "hosts", "start_time"), call.world
    count = body["count"]
    if not isinstance(count, int) or not 1 <= count <= MAX_BURST:
        raise ValueError(f"count must be an integer from 1 to {MAX_BURST}")
    domains = body.get("domains", ["example.com"])
    if not isinstance(domains, list) or not domains or not all(isinstance(name, str) for name in domains):
        raise ValueError("domains must be a list of domain names such as blocked.example")
    members = world.members(world.organizations[ORGANIZATION])
    hosts = [call.user(name) for name in body["hosts"]] if body.get("hosts") else members
    types = [call.event_type(None, host) for host in hosts]
    start = parse_time(body["start_time"]) if "start_time" in body else world.clock.now() + timedelta(days=1)
    first, uris = len(world.invitees), []
    for number in range(count):
        round_, turn = divmod(number, len(hosts))
        event_type, now = types[turn], world.clock.now()
        length, uuid = timedelta(minutes=event_type.duration), world.uuid()
        begins, place = start + round_ * length, location_for(event_type, uuid)
        event = Event(*(uuid, event_type, (hosts[turn],), begins, begins + length, now, now, place), source="control")
        email = f"burst{first + number}@{domains[number % len(domains)]}"
        event.invitees.append(_invitee(call, event, {"email": email, "name": f"Burst {first + number}"}))
        world.add_event(event)
        world.emit_booked(event)
        uris.append(event.invitees[0].uri)
        if number % 50 == 49:
            await asyncio.sleep(0)  # lets other requests and the first deliveries pass
            if call.world is not world:
                raise ValueError("the sandbox was reset before the burst ended")
    return {"invitees": uris}


@control("POST", "/events/{uuid}/cancel")
def cancel_event(call: ControlCall) -> JSON:
    """Cancel for all invitees, for one of them, or as the host, but not through the API."""
    body, world, event = call.members("by", "invitee", "reason"), call.world, call.event()
    by, reason = body.get("by", "invitee"), body.get("reason")
    if by not in ("invitee", "host") or (by == "host" and "invitee" in body):
        raise ValueError("by must be invitee or host; a host cancels for all invitees")
    if not isinstance(reason, str | None):
        raise ValueError("reason must be a string")
    invitees = _active_invitees(event, body.get("invitee"))
    if by == "host":
        world.cancel(event, event.hosts[0], reason)
    elif "invitee" in body:
        world.cancel_invitee(invitees[0], reason)
    else:
        world.cancel(event, invitees[0], reason)
    return {"uri": event.uri, "status": event.status}


@control("POST", "/events/{uuid}/reschedule")
def reschedule_event(call: ControlCall) -> JSON:
    """Reschedule as Calendly does: cancel the event and make a new one; old and new invitees refer to each other."""
    body, world, now = call.members("start_time"), call.world, call.world.clock.now()
    old = call.event()
    invitees, start = _active_invitees(old, None), _start(call, body, old.event_type)
    new = Event(
        *(world.uuid(), old.event_type, old.hosts, start, start + (old.end - old.start), now, now, old.location),
        source="control",
        guests=list(old.guests),
        name=old.name,
    )
    for invitee in invitees:
        moved = replace(invitee, uuid=world.uuid(), event=new, created=now, updated=now, no_show=None)
        moved.old_invitee = invitee
        new.invitees.append(moved)
        invitee.new_invitee = moved
    world.cancel(old, invitees[0], None)
    world.add_event(new)
    world.emit_booked(new)
    return {"uri": new.uri, "invitees": [invitee.uri for invitee in new.invitees]}


@control("POST", "/events/{uuid}/no_show")
def mark_no_show(call: ControlCall) -> JSON:
    """Mark all invitees as no-shows, or one of them; `undo` removes the marks."""
    body, world, event = call.members("invitee", "undo"), call.world, call.event()
    undo = bool(body.get("undo", False))
    marked = [item for item in _active_invitees(event, body.get("invitee")) if (item.no_show is not None) is undo]
    if not marked:
        raise ValueError("no invitee is marked as a no-show" if undo else "already marked as a no-show")
    for invitee in marked:
        if invitee.no_show is not None:
            world.unmark_no_show(invitee.no_show)
        else:
            world.mark_no_show(invitee)
    return {"uri": event.uri, "no_shows": [item.no_show.uri for item in event.invitees if item.no_show]}


def _start(call: ControlCall, body: JSON, event_type: EventType) -> datetime:
    """The requested start, or the first open slot from tomorrow on in which no host has another event."""
    if body.get("start_time") is not None:
        return parse_time(body["start_time"])
    world = call.world
    moment = world.clock.now() + timedelta(days=1)
    last = moment + timedelta(days=SEARCH_DAYS)
    while moment < last:
        until = moment + SEARCH_STEP
        for slot in available(world, event_type, moment, until):
            end = slot.start + timedelta(minutes=event_type.duration)
            if not any(world.events_between(host, slot.start, end) for host in event_type.hosts):
                return slot.start
        moment = until
    raise ValueError(f"{event_type.name} has no free slot; give a start_time")


def _invitee(call: ControlCall, event: Event, item: JSON) -> Invitee:
    only(item, "email", "name", "status", "timezone", "uuid", "questions_and_answers")
    created = event.created + timedelta(milliseconds=len(event.invitees))
    invitee = Invitee(
        item.get("uuid") or call.world.uuid(),
        event,
        item["email"],
        item.get("name", item["email"].partition("@")[0]),
        item.get("timezone", "Europe/Berlin"),
        created,
        created,
        answers=tuple(
            (answer["question"], answer["answer"], number)
            for number, answer in enumerate(item.get("questions_and_answers", ()))
        ),
        scheduling_method="instant_book",
    )
    if item.get("status", "active") == "canceled":
        invitee.cancellation = Cancellation(invitee.name, None, "invitee", created)
    return invitee


def _active_invitees(event: Event, name: str | None) -> list[Invitee]:
    """The invitees who have not canceled, or the one of them with this address, identifier or URI."""
    found = [
        item for item in event.invitees if item.cancellation is None and name in (None, item.email, item.uuid, item.uri)
    ]
    if event.cancellation is not None or (not found and name is None):
        raise ValueError("the event is canceled, or has no invitees left")
    if not found:
        raise ValueError(f"no invitee {name!r} at this event")
    return found
