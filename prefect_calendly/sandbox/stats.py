"""Figures of the requests to the sandbox; calls of the control surface do not count."""

from __future__ import annotations

import time
from collections import Counter
from typing import Any


class Stats:
    """Requests by route and status, how many were in flight, writes, and faults that fired."""

    def __init__(self) -> None:
        self.requests = 0
        self.by_route: Counter[str] = Counter()
        self.by_status: Counter[str] = Counter()
        self.writes: Counter[str] = Counter()
        self.faults: Counter[str] = Counter()
        self.unknown_parameters: dict[str, None] = {}  # an ordered set
        self.in_flight = self.max_in_flight = 0
        self.since: float | None = None
        self._first = self._last = 0.0

    def begin(self) -> None:
        """A request has arrived."""
        if self.since is None:
            self.since, self._first = time.time(), time.monotonic()
        self.in_flight += 1
        self.max_in_flight = max(self.max_in_flight, self.in_flight)

    def end(self) -> None:
        """A request has been answered."""
        self._last = time.monotonic()
        self.in_flight -= 1

    def as_json(self) -> dict[str, Any]:
        return {
            "requests": self.requests,
            "by_route": dict(self.by_route),
            "by_status": dict(self.by_status),
            "max_in_flight": self.max_in_flight,
            "since": self.since,
            "seconds": max(0.0, self._last - self._first),
            "unknown_parameters": list(self.unknown_parameters),
            "writes": dict(self.writes),
            "faults": dict(self.faults),
        }
