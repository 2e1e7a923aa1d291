"""Users."""

from __future__ import annotations

from prefect_calendly.sandbox import render
from prefect_calendly.sandbox.errors import denied, not_found
from prefect_calendly.sandbox.routing import Answer, Call, Router, resource

router = Router()
route = router.add


@route("GET", "/users/me")
@route("GET", "/users/{uuid}")
def get_user(call: Call) -> Answer:
    uuid = call.params.get("uuid", "me")
    user = call.caller if uuid == "me" else call.world.users.get(uuid)
    if user is None:
        raise not_found()
    if user.organization is not call.caller.organization:
        raise denied()
    return resource(render.user(user))
