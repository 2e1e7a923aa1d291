"""Connections of the gateway: as which Calendly users an API key may act."""

from __future__ import annotations

import uuid
from datetime import datetime

from prefect_calendly.sandbox import render
from prefect_calendly.sandbox.errors import gateway, unprocessable
from prefect_calendly.sandbox.model import Connection
from prefect_calendly.sandbox.routing import Answer, Call, Router
from prefect_calendly.sandbox.seed import ALICE
from prefect_calendly.sandbox.world import World

router = Router()
route = router.add

STATUSES = ("ACTIVE", "PENDING", "FAILED")
METHODS = ("API_KEY", "BASIC", "JWT", "OAUTH1", "OAUTH2", "MCP")


def connections_of(world: World, key: str) -> list[Connection]:
    """The connections of an API key, oldest first."""
    activate_due(world)
    mine = (item for item in world.connections.values() if item.key == key)
    return sorted(mine, key=lambda item: (item.created, item.id))


def connection_for(world: World, key: str, wanted: str | None) -> Connection:
    """The connection that a request to Calendly uses: the one of the header, else the oldest active one."""
    mine = [item for item in connections_of(world, key) if item.app == "calendly"]
    if wanted is not None:
        for item in mine:
            if item.id == wanted:
                if item.status != "ACTIVE":
                    raise gateway(400, f"Connection {wanted} is not active (status {item.status})")
                return item
        raise gateway(400, f"No calendly connection with id {wanted} found")
    for item in mine:
        if item.status == "ACTIVE":
            return item
    raise gateway(400, "No active calendly connection found")


def activate_due(world: World) -> None:
    """Activate the pending connections that have waited for `activate_after_seconds`."""
    if world.activate_after_seconds is not None:
        now = world.clock.now()
        for item in world.connections.values():
            waited = (now - item.created).total_seconds()
            if item.status == "PENDING" and waited >= world.activate_after_seconds:
                activate(world, item, now)


def activate(world: World, item: Connection, now: datetime) -> None:
    """Activate a connection, as if its user (Alice, unless the control surface has set another) had logged in."""
    item.status, item.updated = "ACTIVE", now
    item.user = item.user or world.users[ALICE]


@route("GET", "/connections", query="app status method limit")
def list_connections(call: Call) -> Answer:
    status, method, limit = (call.query.get(name) for name in ("status", "method", "limit"))
    for name, value, known in (("status", status, STATUSES), ("method", method, METHODS)):
        if value is not None and value not in known:
            raise unprocessable((["query", name], f"Input should be one of {', '.join(known)}"))
    if limit is not None and not (limit.isascii() and limit.isdecimal() and int(limit) > 0):
        raise unprocessable((["query", "limit"], "Input should be a positive integer"))
    found = [
        item
        for item in connections_of(call.world, call.key)
        if call.query.get("app") in (None, item.app) and status in (None, item.status) and method in (None, "OAUTH2")
    ]
    return Answer(200, {"connections": [render.connection(item) for item in found[: int(limit or 0) or None]]})


@route("POST", "/connections", body="app method", write="connection")
def create_connection(call: Call) -> Answer:
    if not isinstance(call.body, dict):
        raise unprocessable((["body"], "Input should be a valid dictionary"))
    app, method = call.body.get("app"), call.body.get("method")
    if not isinstance(app, str) or not app:
        raise unprocessable((["body", "app"], "Field required" if app is None else "Input should be a string"))
    if method is not None and method not in METHODS:
        raise unprocessable((["body", "method"], f"Input should be one of {', '.join(METHODS)}"))
    now = call.world.clock.now()
    item = Connection(
        str(uuid.UUID(int=call.world.random.getrandbits(128), version=4)),
        call.key,
        app,
        "PENDING",
        now,
        now,
        f"{call.world.random.getrandbits(128):032x}",
        None,
    )
    call.world.connections[item.id] = item
    return Answer(200, {"connection": render.connection(item)})


def _connection(call: Call) -> Connection:
    activate_due(call.world)
    item = call.world.connections.get(call.params["connection_id"])
    if item is None or item.key != call.key:
        raise gateway(404, "Connection not found")
    return item


@route("GET", "/connections/{connection_id}")
def get_connection(call: Call) -> Answer:
    item = _connection(call)
    item.gets += 1
    after = call.world.activate_after_gets
    if item.status == "PENDING" and after is not None and item.gets >= after:
        activate(call.world, item, call.world.clock.now())
    return Answer(200, {"connection": render.connection(item)})


@route("DELETE", "/connections/{connection_id}", write="connection_deleted")
def delete_connection(call: Call) -> Answer:
    del call.world.connections[_connection(call).id]
    return Answer(200, {})
