"""A delivery, and the queue of a subscription in which it waits."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from heapq import heappop, heappush
from typing import Any

import httpx

from prefect_calendly.sandbox.clock import iso
from prefect_calendly.sandbox.model import Webhook

# How long Calendly repeats a delivery, and how long a subscription may fail before it is disabled.
GIVE_UP = timedelta(hours=24)


@dataclass(slots=True, eq=False, repr=False)
class Delivery:
    """One delivery with its attempts so far; `state` is `pending`, `delivered` or `dropped`."""

    id: int
    queue: Queue
    event: str
    uri: str
    body: bytes
    # When it is given up even within `GIVE_UP`: nobody needs to know of a booking long after the meeting.
    expires: datetime | None = None
    state: str = "pending"
    attempts: int = 0
    # How many later deliveries may overtake it when its turn comes.
    overtaken_by: int = 0
    first_failure: datetime | None = None
    due: datetime | None = None
    status: int | None = None
    error: str | None = None
    signature: str | None = None
    # The delivery that this one is a copy of.
    repeats: int | None = None
    # Whether it is sent as an attacker would: the old bytes with the old signature, once.
    replay: bool = False

    def as_json(self) -> dict[str, Any]:
        return {
            "id": self.id,
            "event": self.event,
            "uri": self.uri,
            "subscription": self.queue.webhook.uri,
            "state": self.state,
            "attempts": self.attempts,
            "last_status": self.status,
            "last_error": self.error,
            "next_attempt_at": iso(self.due) if self.due else None,
            "repeats": self.repeats,
            "replay": self.replay,
        }


@dataclass(slots=True, eq=False, repr=False)
class Queue:
    """The deliveries of one subscription that are not finished."""

    webhook: Webhook
    url: httpx.URL
    ready: deque[Delivery] = field(default_factory=deque)
    scheduled: list[tuple[datetime, int, Delivery]] = field(default_factory=list)  # a heap
    held_back: dict[Delivery, int] = field(default_factory=dict)  # how many answers each still waits for
    in_flight: set[Delivery] = field(default_factory=set)
    failing: bool = False

    def __len__(self) -> int:
        return len(self.ready) + len(self.scheduled) + len(self.held_back) + len(self.in_flight)

    def __iter__(self) -> Iterator[Delivery]:
        yield from self.in_flight
        yield from self.ready
        yield from (item for _, _, item in self.scheduled)
        yield from self.held_back

    def schedule(self, item: Delivery, due: datetime) -> None:
        """Let a delivery wait until `due`."""
        item.due = due
        heappush(self.scheduled, (due, item.id, item))

    def ready_until(self, now: datetime) -> None:
        """Make the scheduled deliveries ready that are due."""
        while self.scheduled and self.scheduled[0][0] <= now:
            self.ready.append(heappop(self.scheduled)[2])

    def clear(self) -> list[Delivery]:
        """Take out all deliveries that are not in flight."""
        removed = [item for item in self if item not in self.in_flight]
        self.ready.clear()
        self.scheduled.clear()
        self.held_back.clear()
        return removed

    @property
    def disabled_from(self) -> datetime | None:
        """When the subscription is disabled unless a delivery succeeds before."""
        since = self.webhook.retry_started
        return since + GIVE_UP if self.failing and since is not None else None
