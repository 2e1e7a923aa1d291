"""Calendly's endpoints, each once: who may, what is valid, what changes, what comes back."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from datetime import datetime, timedelta
from functools import partial
from typing import Any

from . import booking, render
from .deliveries import deliverable
from .errors import LOW_ROLE, NOT_IN_ORGANIZATION, already_exists, denied, invalid, not_found
from .model import CONFERENCES, LOCATION_KINDS, Event, EventType, Group, NoShow, User, Webhook, iso
from .paging import PAGING, page, sorted_page
from .routing import MISSING, Answer, Call, Router, uuid_in
from .slots import available

router = Router()
route = router.add

AVAILABLE_WINDOW = timedelta(days=31)
BUSY_WINDOW = timedelta(days=7)


def _resource(body: Any, status: int = 200) -> Answer:
    return Answer(status, {"resource": body})


def _collection(items: list[Any]) -> Answer:
    return Answer(200, {"collection": items})


def _own_organization(call: Call, *, required: bool = False) -> bool:
    """Whether `organization` is given; anybody else's is refused."""
    uuid = call.uuid_of("organization", "organizations", required=required)
    if uuid is None:
        return False
    if uuid != call.caller.organization.uuid:
        raise denied()
    return True


def _colleague(call: Call, name: str = "user", *, required: bool = False) -> User | None:
    """The user of a query parameter, who must be in the caller's organisation."""
    uuid = call.uuid_of(name, "users", required=required)
    if uuid is None:
        return None
    user = call.world.users.get(uuid)
    if user is None or user.organization is not call.caller.organization:
        raise denied(NOT_IN_ORGANIZATION)
    return user


def _needs_role(call: Call) -> None:
    if not call.caller.manages:
        raise denied(LOW_ROLE)


# Users


@route("GET", "/users/me")
@route("GET", "/users/{uuid}")
def get_user(call: Call) -> Answer:
    uuid = call.params.get("uuid", "me")
    user = call.caller if uuid == "me" else call.world.users.get(uuid)
    if user is None:
        raise not_found()
    if user.organization is not call.caller.organization:
        raise denied()
    return _resource(render.user(user))


# Event types

EVENT_TYPE_FIELDS = ("name", "position", "created_at", "updated_at")


@route(
    "GET",
    "/event_types",
    query=f"user organization active admin_managed user_availability_schedule sort {PAGING}",
)
def list_event_types(call: Call) -> Answer:
    everybody = _own_organization(call)
    user = _colleague(call)
    if not everybody and user is None:
        raise invalid(("user", MISSING), ("organization", MISSING))
    if user is None:
        _needs_role(call)
    active, managed = call.flag("active"), call.flag("admin_managed")
    schedule = call.uuid_of("user_availability_schedule", "user_availability_schedules")
    if schedule is not None and user is None:
        raise invalid(("user", MISSING))
    order = call.sort(EVENT_TYPE_FIELDS, "name:asc")
    rows = [
        item
        for item in call.world.event_types.values()
        if item.organization is call.caller.organization
        and (user is None or user in item.hosts)
        and (active is None or item.active is active)
        and not managed
        and (schedule is None or (user is not None and item.schedule_of(user).uuid == schedule))
    ]
    return sorted_page(call, rows, order, _event_type_value, lambda item: item.uuid, render.event_type)


def _event_type_value(item: EventType, name: str) -> Any:
    if name.endswith("_at"):
        return iso(item.created if name == "created_at" else item.updated)
    return item.position if name == "position" else item.name


def _event_type(call: Call, uuid: str) -> EventType:
    item = call.world.event_types.get(uuid)
    if item is None:
        raise not_found()
    if item.organization is not call.caller.organization:
        raise denied()
    return item


@route("GET", "/event_types/{uuid}")
def get_event_type(call: Call) -> Answer:
    return _resource(render.event_type(_event_type(call, call.params["uuid"])))


@route("GET", "/event_type_memberships", query=f"event_type {PAGING}")
def list_event_type_memberships(call: Call) -> Answer:
    item = _event_type(call, call.uuid_of("event_type", "event_types", required=True) or "")
    return sorted_page(
        call,
        item.hosts,
        [("name", False)],
        lambda host, _: host.name,
        lambda host: host.uuid,
        partial(render.event_type_membership, item),
    )


@route("GET", "/event_type_available_times", query="event_type start_time end_time")
def list_available_times(call: Call) -> Answer:
    uuid = call.uuid_of("event_type", "event_types", required=True) or ""
    start, end = _window(call, AVAILABLE_WINDOW, "The date range can be no greater than 31 days")
    item = _event_type(call, uuid)
    return _collection([render.slot(slot, item) for slot in available(call.world, item, start, end)])


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


# Availability


@route("GET", "/user_busy_times", query="user start_time end_time")
def list_busy_times(call: Call) -> Answer:
    call.required("user")
    start, end = _window(call, BUSY_WINDOW, "The date range can be no greater than 7 days")
    user = _colleague(call, required=True)
    assert user is not None  # noqa: S101 - required above
    busy = [
        {"type": item.type, "start_time": iso(item.start), "end_time": iso(item.end)}
        for item in user.busy
        if item.start < end and item.end > start
    ]
    busy += [render.busy_event(item) for item in call.world.events_between(user, start, end)]
    return _collection(sorted(busy, key=lambda item: str(item["start_time"])))


@route("GET", "/user_availability_schedules", query="user")
def list_schedules(call: Call) -> Answer:
    if not call.query.get("user"):
        raise invalid(("user", "invalid"))
    user = _colleague(call)
    assert user is not None  # noqa: S101 - given above
    return _collection([render.schedule(item) for item in user.schedules])


@route("GET", "/user_availability_schedules/{uuid}")
def get_schedule(call: Call) -> Answer:
    for user in call.world.users.values():
        for item in user.schedules:
            if item.uuid == call.params["uuid"]:
                if user.organization is not call.caller.organization:
                    raise denied()
                return _resource(render.schedule(item))
    raise not_found()


# Scheduled events

EVENT_FILTERS = "user organization group invitee_email status min_start_time max_start_time sort"


@route("GET", "/scheduled_events", query=f"{EVENT_FILTERS} {PAGING}")
def list_events(call: Call) -> Answer:
    owner, group = _owner_of_events(call)
    status = call.choice("status", ("active", "canceled"))
    earliest, latest = call.time("min_start_time"), call.time("max_start_time")
    email = call.email("invitee_email")
    ((_, descending),) = call.sort(("start_time",), "start_time:asc")[:1]
    by_owner = call.world.by_owner
    if email is not None:
        mine = call.world.by_email.get(email.lower(), [])
        rows = [e for e in mine if _belongs(e, owner) and (status is None or e.status == status)]
    else:
        rows = by_owner.get((owner, status), [])
    if earliest is not None or latest is not None:
        rows = _Window(rows, earliest, latest)  # type: ignore[assignment]
    members = set(group.members) if group is not None else None
    now = call.world.clock.now()
    return page(
        call,
        rows,
        lambda event: [iso(event.start), event.uuid],
        lambda event: render.event(event, now),
        where=None if members is None else lambda event: not members.isdisjoint(event.hosts),
        descending=descending,
    )


def _belongs(event: Event, owner: str) -> bool:
    return event.organization.uuid == owner or any(host.uuid == owner for host in event.hosts)


class _Window:
    """The part of an index that starts within two times, without copying it."""

    def __init__(self, rows: list[Event], earliest: datetime | None, latest: datetime | None) -> None:
        self._rows = rows
        start = _start_of
        self._low = 0 if earliest is None else bisect_left(rows, earliest, key=start)
        self._high = len(rows) if latest is None else bisect_right(rows, latest, key=start)

    def __len__(self) -> int:
        return max(0, self._high - self._low)

    def __getitem__(self, index: int) -> Event:
        return self._rows[self._low + index]


def _start_of(event: Event) -> datetime:
    return event.start


def _owner_of_events(call: Call) -> tuple[str, Group | None]:
    """Whose events are asked for: the owner's identifier in the index, and the group that narrows it."""
    everybody = _own_organization(call)
    group_uuid = call.uuid_of("group", "groups")
    if group_uuid is not None:
        if not everybody:
            raise denied(
                "Please also specify organization when requesting events for a group within your organization."
            )
        group = call.world.groups.get(group_uuid)
        if group is None or group.organization is not call.caller.organization:
            raise denied()
        if call.caller not in group.admins:
            _needs_role(call)
        return group.organization.uuid, group
    user = _colleague(call)
    if user is not None:
        if user is not call.caller:
            if not everybody:
                raise denied(
                    "Please also specify organization when requesting events for a user within your organization."
                )
            _needs_role(call)
        return user.uuid, None
    if not everybody:
        raise invalid(("user", MISSING), ("organization", MISSING), ("group", MISSING))
    _needs_role(call)
    return call.caller.organization.uuid, None


def _event(call: Call, uuid: str, refusal: str) -> Event:
    event = call.world.events.get(uuid)
    if event is None:
        raise not_found()
    if event.organization is not call.caller.organization or not (call.caller.manages or call.caller in event.hosts):
        raise denied(refusal)
    return event


VIEW_EVENT = "You are not allowed to view this event"


@route("GET", "/scheduled_events/{uuid}")
def get_event(call: Call) -> Answer:
    event = _event(call, call.params["uuid"], VIEW_EVENT)
    return _resource(render.event(event, call.world.clock.now()))


@route("POST", "/scheduled_events/{uuid}/cancellation", body="reason", write="cancellation")
def cancel_event(call: Call) -> Answer:
    event = _event(call, call.params["uuid"], "You are not allowed to cancel this event")
    reason = call.body.get("reason") if isinstance(call.body, dict) else None
    if (call.body is not None and not isinstance(call.body, dict)) or not (
        reason is None or (isinstance(reason, str) and len(reason) <= 10_000)
    ):
        raise invalid(("reason", "invalid"))
    if event.cancellation is not None:
        raise denied("Event is already canceled")
    if event.start <= call.world.clock.now():
        raise denied("Event in the past")
    event.canceled_through_api = True
    return _resource(render.cancellation(call.world.cancel(event, call.caller, reason)), 201)


# Invitees


@route("GET", "/scheduled_events/{uuid}/invitees", query=f"status email sort {PAGING}")
def list_invitees(call: Call) -> Answer:
    event = _event(call, call.params["uuid"], VIEW_EVENT)
    status, email = call.choice("status", ("active", "canceled")), call.email("email")
    order = call.sort(("created_at",), "created_at:asc")
    rows = [
        item
        for item in event.invitees
        if (status is None or item.status == status) and (email is None or item.email.lower() == email.lower())
    ]
    return sorted_page(call, rows, order, lambda item, _: iso(item.created), lambda item: item.uuid, render.invitee)


@route("GET", "/scheduled_events/{event_uuid}/invitees/{invitee_uuid}")
def get_invitee(call: Call) -> Answer:
    event = _event(call, call.params["event_uuid"], "You do not have permission to view this event")
    invitee = call.world.invitees.get(call.params["invitee_uuid"])
    if invitee is None or invitee.event is not event:
        raise not_found()
    return _resource(render.invitee(invitee))


_LOCATION_AND_REST = "location location.kind location.location questions_and_answers event_guests tracking " + " ".join(
    f"tracking.{name}" for name in render.TRACKING
)


@route(
    "POST",
    "/invitees",
    body="event_type start_time invitee invitee.name invitee.first_name invitee.last_name invitee.email"
    " invitee.timezone invitee.text_reminder_number questions_and_answers.question"
    f" questions_and_answers.answer questions_and_answers.position {_LOCATION_AND_REST}",
    write="booking",
)
def create_invitee(call: Call) -> Answer:
    body = call.members()
    if body.get("event_type") is None:
        raise invalid(("event_type", MISSING))
    event_type = _event_type(call, uuid_in(body["event_type"], "event_types", "event_type"))
    return _resource(render.invitee(booking.book(call, event_type, body)), 201)


@route(
    "POST",
    "/event_types/{uuid}/invitees",
    body="start_time email name first_name last_name timezone text_reminder_number"
    f" questions_and_answers.question_uuid questions_and_answers.answer {_LOCATION_AND_REST}",
    write="booking",
)
def create_invitee_as_ordered(call: Call) -> Answer:
    """The route of the order, which Calendly does not have: its flat body is turned into the official one."""
    event_type = _event_type(call, call.params["uuid"])
    body = booking.official_body(event_type, call.members())
    return _resource(render.invitee(booking.book(call, event_type, body)), 201)


@route("POST", "/invitee_no_shows", body="invitee", write="no_show")
def create_no_show(call: Call) -> Answer:
    value = call.members().get("invitee")
    if value is None:
        raise invalid(("invitee", MISSING))
    event_uuid, _, uuid = value.rpartition("/invitees/") if isinstance(value, str) else ("", "", "")
    invitee = call.world.invitees.get(uuid)
    event = _event(call, uuid_in(event_uuid, "scheduled_events", "invitee"), VIEW_EVENT)
    if invitee is None or invitee.event is not event:
        raise not_found()
    if invitee.no_show is not None:
        raise already_exists()
    if event.start > call.world.clock.now():
        raise invalid(("invitee", "event has not started"))
    return _resource(render.no_show(call.world.mark_no_show(invitee)), 201)


def _no_show(call: Call) -> NoShow:
    item = call.world.no_shows.get(call.params["uuid"])
    if item is None:
        raise not_found()
    _event(call, item.invitee.event.uuid, VIEW_EVENT)
    return item


@route("GET", "/invitee_no_shows/{uuid}")
def get_no_show(call: Call) -> Answer:
    return _resource(render.no_show(_no_show(call)))


@route("DELETE", "/invitee_no_shows/{uuid}", write="no_show_deleted")
def delete_no_show(call: Call) -> Answer:
    call.world.unmark_no_show(_no_show(call))
    return Answer(204)


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
    event_type = _event_type(call, uuid_in(body["owner"], "event_types", "owner"))
    url = f"https://calendly.com/d/{call.world.uuid().lower()}/{event_type.slug}"
    return _resource({"booking_url": url, "owner": event_type.uri, "owner_type": "EventType"}, 201)


@route("GET", "/locations", query="user")
def list_locations(call: Call) -> Answer:
    user = _colleague(call, required=True)
    offered = {
        location["kind"]
        for item in call.world.event_types.values()
        if user in item.hosts
        for location in item.locations
    }
    return _collection(
        [
            {"kind": kind, "connected": kind in offered} if kind in CONFERENCES else {"kind": kind}
            for kind in LOCATION_KINDS
        ]
    )


# Organisations


@route("GET", "/organizations/{uuid}")
def get_organization(call: Call) -> Answer:
    item = call.world.organizations.get(call.params["uuid"])
    if item is None:
        raise not_found()
    if item is not call.caller.organization:
        raise denied()
    return _resource(render.organization(item))


@route("GET", "/organization_memberships", query=f"user organization email role {PAGING}")
def list_memberships(call: Call) -> Answer:
    everybody = _own_organization(call)
    user, email = _colleague(call), call.email("email")
    role = call.choice("role", ("owner", "admin", "user"))
    if not everybody and user is None:
        raise invalid(("user", MISSING), ("organization", MISSING))
    if user is not call.caller:
        _needs_role(call)
    rows = [
        item
        for item in call.world.members(call.caller.organization)
        if (user is None or item is user)
        and (email is None or item.email.lower() == email.lower())
        and (role is None or item.role == role)
    ]
    return sorted_page(
        call,
        rows,
        [("created_at", False)],
        lambda item, _: iso(item.created),
        lambda item: item.membership,
        render.membership,
    )


@route("GET", "/organization_memberships/{uuid}")
def get_membership(call: Call) -> Answer:
    for item in call.world.users.values():
        if item.membership == call.params["uuid"]:
            if item.organization is not call.caller.organization:
                raise denied()
            return _resource(render.membership(item))
    raise not_found()


@route("GET", "/groups", query=f"organization {PAGING}")
def list_groups(call: Call) -> Answer:
    _own_organization(call, required=True)
    rows = [g for g in call.world.groups.values() if g.organization is call.caller.organization]
    return sorted_page(call, rows, [("name", False)], lambda item, _: item.name, lambda item: item.uuid, render.group)


# Webhook subscriptions

_ANY = ("organization", "user", "group")
WEBHOOK_EVENTS: dict[str, tuple[str, ...]] = {
    "invitee.created": _ANY,
    "invitee.canceled": _ANY,
    "invitee_no_show.created": _ANY,
    "invitee_no_show.deleted": _ANY,
    "routing_form_submission.created": ("organization",),
    "contact.created": _ANY,
    "contact.updated": _ANY,
    "contact.deleted": _ANY,
    "meeting_recap.created": ("user",),
    "meeting_recap.updated": ("user",),
    "meeting_recap.deleted": ("user",),
    "event_type.created": _ANY,
    "event_type.updated": _ANY,
    "event_type.deleted": _ANY,
}


def _scope(call: Call, given: dict[str, Any]) -> tuple[str, User | None, Group | None]:
    """The scope of a webhook request with its user or group, checked against the caller's rights."""
    missing = [(name, MISSING) for name in ("organization", "scope") if not given.get(name)]
    if missing:
        raise invalid(*missing)
    scope = given["scope"]
    if scope not in _ANY:
        raise invalid(("scope", "invalid"))
    if scope != "organization" and not given.get(scope):
        raise invalid((scope, MISSING))
    if uuid_in(given["organization"], "organizations", "organization") != call.caller.organization.uuid:
        raise denied()
    user = group = None
    if scope == "user":
        user = call.world.users.get(uuid_in(given["user"], "users", "user"))
        if user is None or user.organization is not call.caller.organization:
            raise denied()
    elif scope == "group":
        group = call.world.groups.get(uuid_in(given["group"], "groups", "group"))
        if group is None or group.organization is not call.caller.organization:
            raise denied()
    if not _may_use(call.caller, user, group):
        raise denied(LOW_ROLE)
    return scope, user, group


def _may_use(caller: User, user: User | None, group: Group | None) -> bool:
    return caller.manages or caller is user or (group is not None and caller in group.admins)


@route("GET", "/webhook_subscriptions", query=f"organization scope user group sort {PAGING}")
def list_webhooks(call: Call) -> Answer:
    scope, user, group = _scope(call, dict(call.query))
    order = call.sort(("created_at",), "created_at:asc")
    rows = [
        item
        for item in call.world.webhooks.values()
        if item.organization is call.caller.organization and (item.scope, item.user, item.group) == (scope, user, group)
    ]
    return sorted_page(call, rows, order, lambda item, _: iso(item.created), lambda item: item.uuid, render.webhook)


@route(
    "POST",
    "/webhook_subscriptions",
    body="url events organization scope user group signing_key",
    write="webhook_subscription",
)
def create_webhook(call: Call) -> Answer:
    body = call.members()
    missing = [(name, MISSING) for name in ("url", "events") if not body.get(name)]
    if missing:
        raise invalid(*missing)
    if not isinstance(body["url"], str) or not deliverable(body["url"]):
        raise invalid(("url", "invalid"))
    scope, user, group = _scope(call, body)
    if call.caller.organization.plan == "basic":
        raise denied("Please upgrade your Calendly account to Standard")
    events = body["events"]
    if not isinstance(events, list) or any(
        not isinstance(name, str) or scope not in WEBHOOK_EVENTS.get(name, ()) for name in events
    ):
        raise invalid(("events", "invalid"))
    key = body.get("signing_key")
    if key is not None and not (isinstance(key, str) and key.encode("utf-8", "ignore").decode() == key):
        raise invalid(("signing_key", "invalid"))
    organization = call.caller.organization
    if any(w.callback_url == body["url"] and w.organization is organization for w in _hooks(call)):
        raise already_exists("Hook with this url already exists")
    now = call.world.clock.now()
    item = Webhook(
        call.world.uuid(),
        body["url"],
        list(dict.fromkeys(events)),
        scope,
        organization,
        call.caller,
        now,
        now,
        user,
        group,
        signing_key=key,
    )
    call.world.webhooks[item.uuid] = item
    return _resource(render.webhook(item), 201)


def _hooks(call: Call) -> list[Webhook]:
    return list(call.world.webhooks.values())


def _webhook(call: Call) -> Webhook:
    item = call.world.webhooks.get(call.params["uuid"])
    if item is None:
        raise not_found()
    if item.organization is not call.caller.organization or not _may_use(call.caller, item.user, item.group):
        raise denied()
    return item


@route("GET", "/webhook_subscriptions/{uuid}")
def get_webhook(call: Call) -> Answer:
    return _resource(render.webhook(_webhook(call)))


@route("DELETE", "/webhook_subscriptions/{uuid}", write="webhook_subscription_deleted")
def delete_webhook(call: Call) -> Answer:
    del call.world.webhooks[_webhook(call).uuid]
    return Answer(204)


@route("GET", "/sample_webhook_data", query="event organization scope user group")
def sample_webhook_data(call: Call) -> Answer:
    """A sample delivery made of what the organisation really has; 400 for families it has nothing of."""
    name = call.required("event")
    scope, _, _ = _scope(call, dict(call.query))
    family = name.partition(".")[0]
    if scope not in WEBHOOK_EVENTS.get(name, ()):
        raise invalid(("event", "invalid"))
    now = call.world.clock.now()
    organization = call.caller.organization
    if family == "event_type":
        item = next(t for t in call.world.event_types.values() if t.organization is organization)
        return Answer(200, render.delivery(name, call.caller, render.payload(item, now), now))
    if family not in ("invitee", "invitee_no_show"):
        raise invalid(("event", "invalid"))
    wanted = "canceled" if name == "invitee.canceled" else "active"
    events = call.world.by_owner.get((organization.uuid, wanted))
    if not events:
        raise not_found()
    return Answer(200, render.delivery(name, call.caller, render.payload(events[0].invitees[0], now), now))
