"""Finding what a request names, and refusing what the caller may not see."""

from __future__ import annotations

from prefect_calendly.sandbox.errors import LOW_ROLE, NOT_IN_ORGANIZATION, denied, not_found
from prefect_calendly.sandbox.model import Event, EventType, User
from prefect_calendly.sandbox.routing import Call

VIEW_EVENT = "You are not allowed to view this event"


def organization_requested(call: Call, *, required: bool = False) -> bool:
    """Whether the query names the caller's organization; another one is refused."""
    uuid = call.uuid_of("organization", "organizations", required=required)
    if uuid is None:
        return False
    if uuid != call.caller.organization.uuid:
        raise denied()
    return True


def colleague(call: Call, name: str = "user", *, required: bool = False) -> User | None:
    """The user in a query parameter, who must be in the caller's organization."""
    uuid = call.uuid_of(name, "users", required=required)
    if uuid is None:
        return None
    user = call.world.users.get(uuid)
    if user is None or user.organization is not call.caller.organization:
        raise denied(NOT_IN_ORGANIZATION)
    return user


def require_manager(call: Call) -> None:
    """Refuse callers who are neither admin nor owner."""
    if not call.caller.manages:
        raise denied(LOW_ROLE)


def visible_event_type(call: Call, uuid: str) -> EventType:
    """An event type of the caller's organization."""
    item = call.world.event_types.get(uuid)
    if item is None:
        raise not_found()
    if item.organization is not call.caller.organization:
        raise denied()
    return item


def visible_event(call: Call, uuid: str, refusal: str = VIEW_EVENT) -> Event:
    """An event that the caller hosts, or manages as an admin; `refusal` is the message to others."""
    event = call.world.events.get(uuid)
    if event is None:
        raise not_found()
    if event.organization is not call.caller.organization or not (call.caller.manages or call.caller in event.hosts):
        raise denied(refusal)
    return event
