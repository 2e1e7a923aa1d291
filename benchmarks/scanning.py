"""Scanning a large organization again in which nothing has changed: how many requests it takes."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

from benchmarks.claims import Claim
from benchmarks.stack import measured, prefect_server, sandbox

EVENTS = 10_000


def scanning() -> Iterator[Claim]:
    """A second scan of 10,000 coming events, one in twenty with a group: it reads the listing, and no invitee."""
    # One in ten is canceled, and some lie behind all the same.
    world: dict[str, Any] = {"events": EVENTS * 9 // 8, "invitees": EVENTS * 27 // 20, "upcoming": True}
    with prefect_server() as environment, sandbox(**world, gateway_rps=0, rate_limit_per_minute=0) as url:
        first, second = (measured(url, "flow_scan", "nobody.example", environment=environment) for _ in range(2))
        floor = measured(url, "bare_scan", datetime.now(UTC).isoformat())
    assert first["read"] == first["events"] >= EVENTS, first
    assert (second["read"], floor["read"]) == (0, 0), (second, floor)
    ours, least = second["requests"], floor["requests"]
    detail = f"the first one: {first['requests']:,}"
    name = f"requests of a second scan, {EVENTS:,} events"
    yield Claim(name, f"{ours}", f"{least}", ours - least, "requests", 0, True, detail)
