"""Polling a large organization: what a run holds in memory, and how many requests it sends."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from benchmarks.claims import Claim
from benchmarks.stack import measured, prefect_server, sandbox
from prefect_calendly.sandbox.remote import control

EVENTS, CHANGES = 100_000, 100


def polling() -> Iterator[Claim]:
    """A first run of `poll_bookings` where 100,000 events lie ahead, and one after 100 bookings.

    Each run has a process of its own, as a worker would start it. Memory is the most that the process has had, beyond
    what it had after import.
    """
    # Some of the events lie behind all the same.
    world: dict[str, Any] = {"events": EVENTS * 101 // 100, "invitees": EVENTS * 6 // 5, "upcoming": True}
    with prefect_server() as environment, sandbox(**world, gateway_rps=0, rate_limit_per_minute=0) as url:
        first = measured(url, "flow_polling", environment=environment)
        for _ in range(CHANGES):
            control(url, "POST", "/events", {"invitees": [{"email": "guest@good.example"}]})
        second = measured(url, "flow_polling", environment=environment)
    assert first["seeded"], first
    assert first["events"] >= EVENTS, first
    assert second["emitted"] == CHANGES, second
    name, detail = f"memory of polling {EVENTS:,} events", f"the most of two runs, {second['events']} events"
    most = max(first["megabytes"], second["megabytes"])
    yield Claim(name, f"{most:.0f} MB", "0 MB", most, "MB", 200, True, detail)
    least = [1 - -first["events"] // 100, 1 - -second["events"] // 100 + CHANGES]
    sent = [first["requests"], second["requests"]]
    name, detail = f"requests of polling {EVENTS:,} events", "of both runs, beyond pages and changed events"
    yield Claim(name, f"{sum(sent)}", f"{sum(least)}", sum(sent) - sum(least), "requests", 0, True, detail)
