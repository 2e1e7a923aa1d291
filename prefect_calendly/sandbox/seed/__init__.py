"""The seeded world: the documented examples, a showcase of every situation, and as many more events as requested.

Whatever the seed, tests and examples can rely on the identifiers below, and on the shares of invitees and guests with
blocked domains and of canceled events (see `seeder` and `generated`).
"""

from __future__ import annotations

import gc
import random
from collections.abc import Iterator
from contextlib import contextmanager

from prefect_calendly.sandbox.clock import Clock, parse_time
from prefect_calendly.sandbox.options import Options
from prefect_calendly.sandbox.seed.company import add_acme, add_globex
from prefect_calendly.sandbox.seed.connections import add_connections
from prefect_calendly.sandbox.seed.documented import add_documented_examples
from prefect_calendly.sandbox.seed.generated import add_generated_events
from prefect_calendly.sandbox.seed.identifiers import (
    ALICE,
    CONNECTION,
    EVENT,
    EVENT_TYPE,
    FOREIGN_APP_CONNECTION,
    GROUP,
    INVITEE,
    MEMBERSHIP,
    ORGANIZATION,
    PENDING_CONNECTION,
    QUESTION,
    SECOND_CONNECTION,
    SECOND_ORGANIZATION,
    SECOND_USER,
    WEBHOOK,
)
from prefect_calendly.sandbox.seed.seeder import Seeder
from prefect_calendly.sandbox.seed.showcase import add_showcase
from prefect_calendly.sandbox.world import World

__all__ = [
    "ALICE",
    "CONNECTION",
    "EVENT",
    "EVENT_TYPE",
    "FOREIGN_APP_CONNECTION",
    "GROUP",
    "INVITEE",
    "MEMBERSHIP",
    "ORGANIZATION",
    "PENDING_CONNECTION",
    "QUESTION",
    "SECOND_CONNECTION",
    "SECOND_ORGANIZATION",
    "SECOND_USER",
    "WEBHOOK",
    "build",
]


def build(options: Options) -> World:
    """Build a world, the same for the same options if `now` is one of them; what is added to it later differs."""
    now = parse_time(options.now) if options.now is not None else None
    world = World(options, Clock(now, options.clock_speed), random.Random(options.seed))
    with _without_gc():
        seeder = Seeder(world)
        acme = add_acme(seeder)
        add_documented_examples(seeder, acme)
        taken = add_showcase(seeder, acme)
        add_generated_events(seeder, acme, taken)
        zoe = add_globex(seeder)
        add_connections(world, acme.alice, zoe)
        world.sort_indices()
    # Later identifiers must differ between runs of the sandbox: receivers recognize events by them.
    world.random = random.Random()
    return world


@contextmanager
def _without_gc() -> Iterator[None]:
    """Turn off the garbage collector, which would look through a million new objects again and again."""
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()
