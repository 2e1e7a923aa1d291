"""`/_sandbox`: looking into the sandbox and arranging situations in it. No part of what it imitates."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import replace
from datetime import datetime, timedelta
from inspect import isawaitable
from itertools import islice
from typing import TYPE_CHECKING, Any

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route

from . import connections, render, seed
from .deliveries import PORTIONS, Portion
from .faults import Fault
from .model import Busy, Cancellation, Event, EventType, Invitee, Location, Question, Rule, User, iso
from .seed import join_url_of, time_of
from .slots import available
from .world import checked_speed, summary

if TYPE_CHECKING:
    from .app import App

JSON = dict[str, Any]
MOST_IDENTIFIERS = 10_000
MOST_LISTED = 1_000
LARGEST_BURST = 100_000


def control_app(app: App) -> Starlette:
    control = _Control(app)
    routes: list[tuple[str, str, Handler]] = [
        ("GET", "/stats", control.stats),
        ("POST", "/stats/reset", control.reset_stats),
        ("POST", "/reset", control.reset),
        ("GET", "/faults", control.list_faults),
        ("POST", "/faults", control.add_faults),
        ("DELETE", "/faults", control.clear_faults),
        ("GET", "/state", control.state),
        ("GET", "/clock", control.clock),
        ("POST", "/clock", control.set_clock),
        ("POST", "/events", control.add_event),
        ("POST", "/burst", control.burst),
        ("POST", "/events/{uuid}/cancel", control.cancel_event),
        ("POST", "/events/{uuid}/reschedule", control.reschedule_event),
        ("POST", "/events/{uuid}/no_show", control.mark_no_show),
        ("GET", "/deliveries", control.deliveries),
        ("POST", "/deliveries", control.set_deliveries),
        ("POST", "/event_types", control.add_event_type),
        ("POST", "/users", control.add_user),
        ("POST", "/busy_times", control.add_busy_time),
        ("POST", "/webhook_subscriptions/{uuid}", control.change_webhook),
        ("POST", "/connections", control.change_login),
        ("POST", "/connections/{uuid}", control.change_connection),
    ]
    return Starlette(
        routes=[Route(f"/_sandbox{path}", _endpoint(handler), methods=[method]) for method, path, handler in routes]
    )


Handler = Callable[[Request, Any], JSON | Awaitable[JSON]]


def _endpoint(handler: Handler) -> Callable[[Request], Awaitable[JSONResponse]]:
    async def endpoint(request: Request) -> JSONResponse:
        try:
            raw = await request.body()
            answer = handler(request, await request.json() if raw else {})
            return JSONResponse(await answer if isawaitable(answer) else answer)
        except (KeyError, ValueError, TypeError, OverflowError) as error:
            words = f"{error.args[0]!r} is missing or unknown" if isinstance(error, KeyError) else str(error)
            return JSONResponse({"error": words}, 400)

    return endpoint


class _Control:
    def __init__(self, app: App) -> None:
        self.app = app

    def stats(self, request: Request, body: JSON) -> JSON:
        return self.app.stats.as_json()

    def reset_stats(self, request: Request, body: JSON) -> JSON:
        self.app.stats = type(self.app.stats)()
        return {}

    def reset(self, request: Request, body: JSON) -> JSON:
        """Back to what the sandbox was started with, but for the options in the body."""
        self.app.reset(replace(self.app.started_with, **body))
        return summary(self.app.world)

    # Faults

    def list_faults(self, request: Request, body: JSON) -> JSON:
        return {"faults": [{"kind": f.kind, "times": f.times, "seen": f.seen} for f in self.app.faults]}

    def add_faults(self, request: Request, body: Any) -> JSON:
        new = [Fault.parse(item) for item in (body if isinstance(body, list) else [body])]
        self.app.faults += new
        return {"faults": len(self.app.faults)}

    def clear_faults(self, request: Request, body: JSON) -> JSON:
        self.app.faults.clear()
        return {"faults": 0}

    # Looking

    def state(self, request: Request, body: JSON) -> JSON:
        world, now = self.app.world, self.app.world.clock.now()
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
        if request.query_params.get("full") in ("1", "true"):
            some = islice(world.events.values(), MOST_IDENTIFIERS)
            state["events"] = {event.uuid: event.status for event in some}
            state["events_complete"] = len(world.events) <= MOST_IDENTIFIERS
        return state

    # The clock

    def clock(self, request: Request, body: JSON) -> JSON:
        clock = self.app.world.clock
        return {"now": iso(clock.now()), "frozen": clock.frozen, "speed": clock.speed}

    def set_clock(self, request: Request, body: JSON) -> JSON:
        clock = self.app.world.clock
        _only(body, "now", "advance_seconds", "frozen", "speed")
        if "speed" in body:
            clock.run_at(checked_speed(body["speed"]))
        if "frozen" in body:
            clock.freeze(bool(body["frozen"]))
        if "now" in body:
            clock.set(time_of(body["now"]))
        if "advance_seconds" in body:
            clock.set(clock.now() + timedelta(seconds=body["advance_seconds"]))
        self.app.deliveries.wake()
        return self.clock(request, body)

    # Arranging

    def add_event(self, request: Request, body: JSON) -> JSON:
        """Somebody books: as an invitee does on Calendly's page, or as it suits a test."""
        _only(
            body,
            *("host", "hosts", "event_type", "start_time", "duration_minutes", "name", "status", "invitees"),
            *("guests", "location", "created_at", "uuid", "cancellation_reason"),
        )
        world, now = self.app.world, self.app.world.clock.now()
        named = body.get("hosts") or [body.get("host", seed.ALICE)]
        hosts = tuple(self._user(name) for name in named)
        event_type = self._event_type(body.get("event_type"), hosts[0])
        start = self._start(body, event_type)
        made = now if start > now else start - timedelta(days=1)
        created = time_of(body["created_at"]) if "created_at" in body else made
        uuid = body.get("uuid") or world.uuid()
        minutes = body.get("duration_minutes", event_type.duration)
        location = seed.location_for(event_type, uuid)
        if body.get("location"):
            given = body["location"]
            location = Location(
                given["kind"],
                given.get("location"),
                given.get("additional_info"),
                join_url_of(given["kind"], uuid),
            )
        end = start + timedelta(minutes=minutes)
        event = Event(
            *(uuid, event_type, hosts, start, end, created, created, location),
            source="control",
            guests=[(email, created) for email in body.get("guests", ())],
            name=body.get("name"),
        )
        for item in body.get("invitees", [{"email": "invitee@example.com", "name": "Ivy Invitee"}]):
            event.invitees.append(self._invitee(event, item))
        if body.get("status", "active") == "canceled":
            seed.cancel(event, hosts[0].name, "host", body.get("cancellation_reason"))
        world.add_event(event)
        world.tell_booked(event)
        return {"uri": event.uri, "invitees": [invitee.uri for invitee in event.invitees]}

    def _start(self, body: JSON, event_type: EventType) -> datetime:
        """The start that is asked for, or the first from tomorrow on that is open and has nobody yet."""
        if body.get("start_time") is not None:
            return time_of(body["start_time"])
        world = self.app.world
        moment = world.clock.now() + timedelta(days=1)
        last = moment + timedelta(days=400)
        while moment < last:
            until = moment + timedelta(days=7)
            for slot in available(world, event_type, moment, until):
                end = slot.start + timedelta(minutes=event_type.duration)
                if not any(world.events_between(host, slot.start, end) for host in event_type.hosts):
                    return slot.start
            moment = until
        raise ValueError(f"{event_type.name} has no free slot; give a start_time")

    async def burst(self, request: Request, body: JSON) -> JSON:
        """Many bookings at once, the hosts and the invitees' domains by turns."""
        _only(body, "count", "domains", "hosts", "start_time")
        world, count = self.app.world, body["count"]
        if not isinstance(count, int) or not 1 <= count <= LARGEST_BURST:
            raise ValueError(f"count must be a whole number from 1 to {LARGEST_BURST}")
        domains = body.get("domains", ["example.com"])
        if not isinstance(domains, list) or not domains or not all(isinstance(name, str) for name in domains):
            raise ValueError("domains must be a list of names, such as blocked.example")
        ours = world.members(world.organizations[seed.ORGANIZATION])
        hosts = [self._user(name) for name in body["hosts"]] if body.get("hosts") else ours
        types = [self._event_type(None, host) for host in hosts]
        start = time_of(body["start_time"]) if "start_time" in body else world.clock.now() + timedelta(days=1)
        first, uris = len(world.invitees), []
        for number in range(count):
            round_, turn = divmod(number, len(hosts))
            event_type, now = types[turn], world.clock.now()
            length, uuid = timedelta(minutes=event_type.duration), world.uuid()
            begins, place = start + round_ * length, seed.location_for(event_type, uuid)
            event = Event(
                *(uuid, event_type, (hosts[turn],), begins, begins + length, now, now, place), source="control"
            )
            email = f"burst{first + number}@{domains[number % len(domains)]}"
            event.invitees.append(self._invitee(event, {"email": email, "name": f"Burst {first + number}"}))
            world.add_event(event)
            world.tell_booked(event)
            uris.append(event.invitees[0].uri)
            if number % 50 == 49:
                await asyncio.sleep(0)  # others are served meanwhile, and deliveries begin
                if self.app.world is not world:
                    raise ValueError("the sandbox was reset in the middle")
        return {"invitees": uris}

    def _invitee(self, event: Event, item: JSON) -> Invitee:
        _only(item, "email", "name", "status", "timezone", "uuid", "questions_and_answers")
        created = event.created + timedelta(milliseconds=len(event.invitees))
        invitee = Invitee(
            item.get("uuid") or self.app.world.uuid(),
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

    def cancel_event(self, request: Request, body: JSON) -> JSON:
        """Invitees cancel, all of them or one; or the host does, but not through the API."""
        _only(body, "by", "invitee", "reason")
        world, event = self.app.world, self._event(request)
        by, reason = body.get("by", "invitee"), body.get("reason")
        if by not in ("invitee", "host") or (by == "host" and "invitee" in body):
            raise ValueError("by is invitee or host; a host cancels for all invitees")
        if not isinstance(reason, str | None):
            raise ValueError("reason must be a text")
        there = _there(event, body.get("invitee"))
        if by == "host":
            world.cancel(event, event.hosts[0], reason)
        elif "invitee" in body:
            world.leave(there[0], reason)
        else:
            world.cancel(event, there[0], reason)
        return {"uri": event.uri, "status": event.status}

    def mark_no_show(self, request: Request, body: JSON) -> JSON:
        """Invitees did not come, all of them or one; `undo` takes that back."""
        _only(body, "invitee", "undo")
        world, event = self.app.world, self._event(request)
        undo = bool(body.get("undo", False))
        marked = [item for item in _there(event, body.get("invitee")) if (item.no_show is not None) is undo]
        if not marked:
            raise ValueError("nobody is marked as a no-show" if undo else "marked as a no-show already")
        for invitee in marked:
            if invitee.no_show is not None:
                world.unmark_no_show(invitee.no_show)
            else:
                world.mark_no_show(invitee)
        return {"uri": event.uri, "no_shows": [item.no_show.uri for item in event.invitees if item.no_show]}

    def reschedule_event(self, request: Request, body: JSON) -> JSON:
        """An invitee moves an event: Calendly cancels it and makes a new one; both invitees name each other."""
        _only(body, "start_time")
        world, now = self.app.world, self.app.world.clock.now()
        old = self._event(request)
        movers, start = _there(old, None), self._start(body, old.event_type)
        new = Event(
            *(world.uuid(), old.event_type, old.hosts, start, start + (old.end - old.start), now, now, old.location),
            source="control",
            guests=list(old.guests),
            name=old.name,
        )
        for invitee in movers:
            moved = replace(invitee, uuid=world.uuid(), event=new, created=now, updated=now, no_show=None)
            moved.old_invitee = invitee
            new.invitees.append(moved)
            invitee.new_invitee = moved
        world.cancel(old, movers[0], None)
        world.add_event(new)
        world.tell_booked(new)
        return {"uri": new.uri, "invitees": [invitee.uri for invitee in new.invitees]}

    def add_event_type(self, request: Request, body: JSON) -> JSON:
        _only(
            body,
            *("hosts", "name", "duration", "kind", "pooling", "limit", "locations", "questions", "active"),
            *("uuid", "team", "slug"),
        )
        hosts = [self._user(name) for name in body.get("hosts", [seed.ALICE])]
        more = {k: v for k, v in body.items() if k not in ("hosts", "name", "duration", "questions")}
        questions = [
            Question(self.app.world.uuid(), q["name"], q.get("type", "text"), q.get("required", False))
            for q in body.get("questions", ())
        ]
        duration = body.get("duration", 30)
        item = seed.add_event_type(self.app.world, body["name"], hosts, duration, questions=questions, **more)
        self.app.world.tell("event_type.created", item)
        return {"uri": item.uri}

    def add_user(self, request: Request, body: JSON) -> JSON:
        _only(body, "name", "email", "timezone", "role", "organization", "rules", "uuid")
        world = self.app.world
        organization = world.organizations[_tail(body.get("organization", seed.ORGANIZATION))]
        rules = None
        if "rules" in body:
            rules = [
                Rule(r["type"], r[r["type"]], [(i["from"], i["to"]) for i in r["intervals"]]) for r in body["rules"]
            ]
        user = seed.add_user(
            world,
            organization,
            body["name"],
            email=body.get("email"),
            timezone=body.get("timezone", "America/New_York"),
            role=body.get("role", "user"),
            rules=rules,
            uuid=body.get("uuid"),
        )
        event_type = seed.add_event_type(world, "30 Minute Meeting", [user], slug="30min")
        return {
            "uri": user.uri,
            "organization_membership": render.membership(user)["uri"],
            "availability_schedule": user.schedules[0].uri,
            "event_type": event_type.uri,
        }

    def add_busy_time(self, request: Request, body: JSON) -> JSON:
        _only(body, "user", "start_time", "end_time", "type")
        busy = Busy(time_of(body["start_time"]), time_of(body["end_time"]), body.get("type", "external"))
        self._user(body.get("user", seed.ALICE)).busy.append(busy)
        return {"start_time": iso(busy.start), "end_time": iso(busy.end), "type": busy.type}

    def change_webhook(self, request: Request, body: JSON) -> JSON:
        _only(body, "state", "retry_started_at")
        item = self.app.world.webhooks[request.path_params["uuid"]]
        if "state" in body:
            if body["state"] not in ("active", "disabled"):
                raise ValueError("state is active or disabled")
            item.state = body["state"]
        if "retry_started_at" in body:
            value = body["retry_started_at"]
            item.retry_started = time_of(value) if value is not None else None
        item.updated = self.app.world.clock.now()
        self.app.deliveries.wake()
        return render.webhook(item)

    # Webhook deliveries

    async def deliveries(self, request: Request, body: JSON) -> JSON:
        query = request.query_params
        limit = int(query.get("limit", 100))
        if not 0 <= limit <= MOST_LISTED:
            raise ValueError(f"limit must be at most {MOST_LISTED}")
        if "wait" in query:
            await self.app.deliveries.idle(float(query["wait"]))
        return self.app.deliveries.as_json(limit)

    def set_deliveries(self, request: Request, body: JSON) -> JSON:
        """Everything is checked before anything is changed."""
        _only(body, "paused", "at_once", "delay_seconds", "replay", *PORTIONS)
        found = self.app.deliveries
        portions = {name: Portion.parse(name, body[name]) for name in PORTIONS if name in body}
        at_once, paused = body.get("at_once", found.at_once), body.get("paused", found.paused)
        if not isinstance(at_once, int) or not 1 <= at_once <= 1000:
            raise ValueError("at_once must be a whole number from 1 to 1000")
        if not isinstance(paused, bool):
            raise ValueError("paused must be true or false")
        delay = timedelta(seconds=body["delay_seconds"]) if "delay_seconds" in body else found.delay
        if delay < timedelta():
            raise ValueError("delay_seconds must not be negative")
        if "replay" in body:
            found.replay(body["replay"])
        found.paused, found.at_once, found.delay = paused, at_once, delay
        found.portions |= portions
        found.wake()
        return found.as_json(0)

    def change_login(self, request: Request, body: JSON) -> JSON:
        """When pending connections turn active by themselves; null is never."""
        _only(body, "activate_after_gets", "activate_after_seconds")
        world = self.app.world
        world.activate_after_gets = body.get("activate_after_gets", world.activate_after_gets)
        world.activate_after_seconds = body.get("activate_after_seconds", world.activate_after_seconds)
        return {
            "activate_after_gets": world.activate_after_gets,
            "activate_after_seconds": world.activate_after_seconds,
        }

    def change_connection(self, request: Request, body: JSON) -> JSON:
        """A person logs in (`ACTIVE`, as `user`), does not, or loses the connection (`FAILED`)."""
        _only(body, "status", "user")
        world = self.app.world
        item = world.connections[request.path_params["uuid"]]
        if "user" in body:
            item.user = self._user(body["user"])
        status = body.get("status", item.status)
        if status not in connections.STATUSES:
            raise ValueError(f"status is one of {', '.join(connections.STATUSES)}")
        if status == "ACTIVE":
            connections.activate(world, item, world.clock.now())
        item.status, item.updated = status, world.clock.now()
        return render.connection(item)

    # Finding things by URI, identifier or (users) address

    def _event(self, request: Request) -> Event:
        uuid = request.path_params["uuid"]
        event = self.app.world.events.get(uuid)
        if event is None:
            raise ValueError(f"no scheduled event {uuid!r}")
        return event

    def _user(self, name: str) -> User:
        for user in self.app.world.users.values():
            if name in (user.uuid, user.uri, user.email):
                return user
        raise ValueError(f"no user {name!r}")

    def _event_type(self, name: str | None, host: User) -> EventType:
        types = self.app.world.event_types
        if name is not None:
            return types[_tail(name)]
        for item in types.values():
            if item.hosts == [host] and item.kind == "solo" and item.active:
                return item
        raise ValueError(f"{host.name} has no event type; name one")


def _there(event: Event, name: str | None) -> list[Invitee]:
    """The invitees who have not cancelled, or the one of this address, identifier or URI."""
    there = [
        item for item in event.invitees if item.cancellation is None and name in (None, item.email, item.uuid, item.uri)
    ]
    if event.cancellation is not None or (not there and name is None):
        raise ValueError("the event is canceled, or has no invitees left")
    if not there:
        raise ValueError(f"no invitee {name!r} at this event")
    return there


def _tail(uri: str) -> str:
    return uri.rpartition("/")[2]


def _only(body: Any, *known: str) -> None:
    if not isinstance(body, dict):
        raise ValueError("the body must be a JSON object")
    unknown = body.keys() - set(known)
    if unknown:
        raise ValueError(f"unknown: {', '.join(sorted(unknown))}; known: {', '.join(known)}")
