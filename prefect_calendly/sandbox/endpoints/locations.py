"""Locations that a user can offer."""

from __future__ import annotations

from prefect_calendly.sandbox.endpoints.access import colleague
from prefect_calendly.sandbox.model import CONFERENCES, LOCATION_KINDS
from prefect_calendly.sandbox.routing import Answer, Call, Router, collection

router = Router()
route = router.add


@route("GET", "/locations", query="user")
def list_locations(call: Call) -> Answer:
    user = colleague(call, required=True)
    offered = {
        location["kind"]
        for item in call.world.event_types.values()
        if user in item.hosts
        for location in item.locations
    }
    return collection(
        [
            {"kind": kind, "connected": kind in offered} if kind in CONFERENCES else {"kind": kind}
            for kind in LOCATION_KINDS
        ]
    )
