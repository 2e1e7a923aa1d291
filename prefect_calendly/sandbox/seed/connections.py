"""The gateway's connections: one of each account, a pending one, and one of another app."""

from __future__ import annotations

from prefect_calendly.sandbox.clock import parse_time
from prefect_calendly.sandbox.model import Connection, User
from prefect_calendly.sandbox.seed.identifiers import (
    CONNECTION,
    FOREIGN_APP_CONNECTION,
    PENDING_CONNECTION,
    SECOND_CONNECTION,
)
from prefect_calendly.sandbox.world import World


def add_connections(world: World, alice: User, zoe: User) -> None:
    """Add the connections of the API key, and that of the second key."""
    key = world.options.api_key
    documented = parse_time("2025-12-08T07:20:53.488460Z"), parse_time("2026-01-31T20:03:32.593153Z")
    newer, newest = parse_time("2026-02-01T09:00:00.000001Z"), parse_time("2026-02-02T09:00:00.000001Z")
    for id_, owner, app, status, created, updated, user in (
        (CONNECTION, key, "calendly", "ACTIVE", *documented, alice),
        (SECOND_CONNECTION, key, "calendly", "ACTIVE", newer, newer, zoe),
        (PENDING_CONNECTION, key, "calendly", "PENDING", newest, newest, None),
        (FOREIGN_APP_CONNECTION, world.options.second_key, "slack", "ACTIVE", newer, newer, None),
    ):
        token = f"{world.random.getrandbits(128):032x}"
        world.connections[id_] = Connection(id_, owner, app, status, created, updated, token, user)
