"""`/_sandbox`: looking into the sandbox and arranging situations in it. No part of what it imitates."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import replace
from datetime import timedelta
from itertools import islice
from typing import TYPE_CHECKING, Any

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route

from . import connections, render, seed
from .faults import Fault
from .model import Busy, Cancellation, Event, EventType, Invitee, Location, Question, Rule, User, iso
from .seed import join_url_of, time_of
from .world import summary

if TYPE_CHECKING:
    from .app import App

JSON = dict[str, Any]
MOST_IDENTIFIERS = 10_000


def control_app(app: App) -> Starlette:
    control = _Control(app)
    routes = [
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
        ("POST", "/events/{uuid}/reschedule", control.reschedule_event),
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


Handler = Callable[[Request, Any], JSON]


def _endpoint(handler: Handler) -> Callable[[Request], Awaitable[JSONResponse]]:
    async def endpoint(request: Request) -> JSONResponse:
        try:
            raw = await request.body()
            return JSONResponse(handler(request, await request.json() if raw else {}))
        except (KeyError, ValueError, TypeError) as error:
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
        return {"now": iso(clock.now()), "frozen": clock.frozen}

    def set_clock(self, request: Request, body: JSON) -> JSON:
        clock = self.app.world.clock
        _only(body, "now", "advance_seconds", "frozen")
        if "frozen" in body:
            clock.freeze(bool(body["frozen"]))
        if "now" in body:
            clock.set(time_of(body["now"]))
        if "advance_seconds" in body:
            clock.set(clock.now() + timedelta(seconds=body["advance_seconds"]))
        return self.clock(request, body)

    # Arranging

    def add_event(self, request: Request, body: JSON) -> JSON:
        _only(
            body,
            *("host", "hosts", "event_type", "start_time", "duration_minutes", "name", "status", "invitees"),
            *("guests", "location", "created_at", "uuid", "cancellation_reason"),
        )
        world, now = self.app.world, self.app.world.clock.now()
        named = body.get("hosts") or [body.get("host", seed.ALICE)]
        hosts = tuple(self._user(name) for name in named)
        event_type = self._event_type(body.get("event_type"), hosts[0])
        start = time_of(body["start_time"])
        created = time_of(body["created_at"]) if "created_at" in body else min(now, start - timedelta(days=1))
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
        return {"uri": event.uri, "invitees": [invitee.uri for invitee in event.invitees]}

    def _invitee(self, event: Event, item: JSON) -> Invitee:
        _only(item, "email", "name", "status", "timezone", "uuid", "questions_and_answers")
        created = event.created + timedelta(seconds=len(event.invitees))
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

    def reschedule_event(self, request: Request, body: JSON) -> JSON:
        """An invitee moves an event: Calendly cancels it and makes a new one; both invitees name each other."""
        _only(body, "start_time")
        world, now = self.app.world, self.app.world.clock.now()
        old, start = world.events[request.path_params["uuid"]], time_of(body["start_time"])
        movers = [invitee for invitee in old.invitees if invitee.cancellation is None]
        if old.cancellation is not None or not movers:
            raise ValueError("the event is canceled, or nobody is there to move it")
        new = Event(
            *(world.uuid(), old.event_type, old.hosts, start, start + (old.end - old.start), now, now, old.location),
            source="control",
            guests=list(old.guests),
            name=old.name,
        )
        for invitee in movers:
            moved = replace(invitee, uuid=world.uuid(), event=new, created=now, updated=now, old_invitee=invitee)
            new.invitees.append(moved)
            invitee.new_invitee = moved
        world.cancel(old, movers[0], None)
        world.add_event(new)
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
        return render.webhook(item)

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


def _tail(uri: str) -> str:
    return uri.rpartition("/")[2]


def _only(body: Any, *known: str) -> None:
    if not isinstance(body, dict):
        raise ValueError("the body must be a JSON object")
    unknown = body.keys() - set(known)
    if unknown:
        raise ValueError(f"unknown: {', '.join(sorted(unknown))}; known: {', '.join(known)}")
