"""Scheduled events and their cancellation."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from datetime import datetime

from prefect_calendly.sandbox import render
from prefect_calendly.sandbox.clock import iso
from prefect_calendly.sandbox.endpoints.access import colleague, organization_requested, require_manager, visible_event
from prefect_calendly.sandbox.errors import denied, invalid
from prefect_calendly.sandbox.model import Event, Group
from prefect_calendly.sandbox.paging import PAGING, page
from prefect_calendly.sandbox.routing import MISSING, Answer, Call, Router, resource

router = Router()
route = router.add


@route(
    "GET",
    "/scheduled_events",
    query=f"user organization group invitee_email status min_start_time max_start_time sort {PAGING}",
)
def list_events(call: Call) -> Answer:
    owner, group = _owner_of_events(call)
    status = call.choice("status", ("active", "canceled"))
    earliest, latest = call.time("min_start_time"), call.time("max_start_time")
    email = call.email("invitee_email")
    ((_, descending),) = call.sort(("start_time",), "start_time:asc")[:1]
    if email is not None:
        found = call.world.by_email.get(email.lower(), [])
        rows = [e for e in found if _belongs_to(e, owner) and (status is None or e.status == status)]
    else:
        rows = call.world.by_owner.get((owner, status), [])
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


def _belongs_to(event: Event, owner: str) -> bool:
    return event.organization.uuid == owner or any(host.uuid == owner for host in event.hosts)


class _Window:
    """The events of an index that start within two times, without copying them."""

    def __init__(self, rows: list[Event], earliest: datetime | None, latest: datetime | None) -> None:
        self._rows = rows
        self._low = 0 if earliest is None else bisect_left(rows, earliest, key=_start_of)
        self._high = len(rows) if latest is None else bisect_right(rows, latest, key=_start_of)

    def __len__(self) -> int:
        return max(0, self._high - self._low)

    def __getitem__(self, index: int) -> Event:
        return self._rows[self._low + index]


def _start_of(event: Event) -> datetime:
    return event.start


def _owner_of_events(call: Call) -> tuple[str, Group | None]:
    """Whose events are requested: the owner's identifier in the index and, if given, the group that narrows it."""
    everybody = organization_requested(call)
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
            require_manager(call)
        return group.organization.uuid, group
    user = colleague(call)
    if user is not None:
        if user is not call.caller:
            if not everybody:
                raise denied(
                    "Please also specify organization when requesting events for a user within your organization."
                )
            require_manager(call)
        return user.uuid, None
    if not everybody:
        raise invalid(("user", MISSING), ("organization", MISSING), ("group", MISSING))
    require_manager(call)
    return call.caller.organization.uuid, None


@route("GET", "/scheduled_events/{uuid}")
def get_event(call: Call) -> Answer:
    event = visible_event(call, call.params["uuid"])
    return resource(render.event(event, call.world.clock.now()))


@route("POST", "/scheduled_events/{uuid}/cancellation", body="reason", write="cancellation")
def cancel_event(call: Call) -> Answer:
    event = visible_event(call, call.params["uuid"], "You are not allowed to cancel this event")
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
    return resource(render.cancellation(call.world.cancel(event, call.caller, reason)), 201)
