"""Webhook subscriptions and sample deliveries."""

from __future__ import annotations

from typing import Any

from prefect_calendly.sandbox import render
from prefect_calendly.sandbox.clock import iso
from prefect_calendly.sandbox.deliveries.sending import deliverable
from prefect_calendly.sandbox.errors import LOW_ROLE, already_exists, denied, invalid, not_found
from prefect_calendly.sandbox.model import Group, User, Webhook
from prefect_calendly.sandbox.paging import PAGING, sorted_page
from prefect_calendly.sandbox.routing import MISSING, Answer, Call, Router, resource, uuid_in

router = Router()
route = router.add

SCOPES = ("organization", "user", "group")
# The events, each with the scopes in which it can be subscribed.
EVENTS: dict[str, tuple[str, ...]] = {
    "invitee.created": SCOPES,
    "invitee.canceled": SCOPES,
    "invitee_no_show.created": SCOPES,
    "invitee_no_show.deleted": SCOPES,
    "routing_form_submission.created": ("organization",),
    "contact.created": SCOPES,
    "contact.updated": SCOPES,
    "contact.deleted": SCOPES,
    "meeting_recap.created": ("user",),
    "meeting_recap.updated": ("user",),
    "meeting_recap.deleted": ("user",),
    "event_type.created": SCOPES,
    "event_type.updated": SCOPES,
    "event_type.deleted": SCOPES,
}


def _scope(call: Call, given: dict[str, Any]) -> tuple[str, User | None, Group | None]:
    """The scope of a subscription with its user or group, refused where the caller may not have it."""
    missing = [(name, MISSING) for name in ("organization", "scope") if not given.get(name)]
    if missing:
        raise invalid(*missing)
    scope = given["scope"]
    if scope not in SCOPES:
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
    if not _may_subscribe(call.caller, user, group):
        raise denied(LOW_ROLE)
    return scope, user, group


def _may_subscribe(caller: User, user: User | None, group: Group | None) -> bool:
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
        not isinstance(name, str) or scope not in EVENTS.get(name, ()) for name in events
    ):
        raise invalid(("events", "invalid"))
    key = body.get("signing_key")
    if key is not None and not (isinstance(key, str) and key.encode("utf-8", "ignore").decode() == key):
        raise invalid(("signing_key", "invalid"))
    organization = call.caller.organization
    if any(w.callback_url == body["url"] and w.organization is organization for w in call.world.webhooks.values()):
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
    return resource(render.webhook(item), 201)


def _webhook(call: Call) -> Webhook:
    item = call.world.webhooks.get(call.params["uuid"])
    if item is None:
        raise not_found()
    if item.organization is not call.caller.organization or not _may_subscribe(call.caller, item.user, item.group):
        raise denied()
    return item


@route("GET", "/webhook_subscriptions/{uuid}")
def get_webhook(call: Call) -> Answer:
    return resource(render.webhook(_webhook(call)))


@route("DELETE", "/webhook_subscriptions/{uuid}", write="webhook_subscription_deleted")
def delete_webhook(call: Call) -> Answer:
    del call.world.webhooks[_webhook(call).uuid]
    return Answer(204)


@route("GET", "/sample_webhook_data", query="event organization scope user group")
def sample_webhook_data(call: Call) -> Answer:
    """A sample delivery made of real records; 400 for events whose records the sandbox does not have."""
    name = call.required("event")
    scope, _, _ = _scope(call, dict(call.query))
    family = name.partition(".")[0]
    if scope not in EVENTS.get(name, ()):
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
