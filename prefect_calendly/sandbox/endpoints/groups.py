"""Groups of an organization."""

from __future__ import annotations

from prefect_calendly.sandbox import render
from prefect_calendly.sandbox.endpoints.access import organization_requested
from prefect_calendly.sandbox.paging import PAGING, sorted_page
from prefect_calendly.sandbox.routing import Answer, Call, Router

router = Router()
route = router.add


@route("GET", "/groups", query=f"organization {PAGING}")
def list_groups(call: Call) -> Answer:
    organization_requested(call, required=True)
    rows = [g for g in call.world.groups.values() if g.organization is call.caller.organization]
    return sorted_page(call, rows, [("name", False)], lambda item, _: item.name, lambda item: item.uuid, render.group)
