"""Organizations and their memberships."""

from __future__ import annotations

from prefect_calendly.sandbox import render
from prefect_calendly.sandbox.clock import iso
from prefect_calendly.sandbox.endpoints.access import colleague, organization_requested, require_manager
from prefect_calendly.sandbox.errors import denied, invalid, not_found
from prefect_calendly.sandbox.paging import PAGING, sorted_page
from prefect_calendly.sandbox.routing import MISSING, Answer, Call, Router, resource

router = Router()
route = router.add


@route("GET", "/organizations/{uuid}")
def get_organization(call: Call) -> Answer:
    item = call.world.organizations.get(call.params["uuid"])
    if item is None:
        raise not_found()
    if item is not call.caller.organization:
        raise denied()
    return resource(render.organization(item))


@route("GET", "/organization_memberships", query=f"user organization email role {PAGING}")
def list_memberships(call: Call) -> Answer:
    everybody = organization_requested(call)
    user, email = colleague(call), call.email("email")
    role = call.choice("role", ("owner", "admin", "user"))
    if not everybody and user is None:
        raise invalid(("user", MISSING), ("organization", MISSING))
    if user is not call.caller:
        require_manager(call)
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
            return resource(render.membership(item))
    raise not_found()
