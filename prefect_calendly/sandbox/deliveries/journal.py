"""What has become of the deliveries: figures, and the last ones that are finished."""

from __future__ import annotations

from collections import Counter, defaultdict, deque
from collections.abc import Iterable
from heapq import nlargest
from typing import Any

from prefect_calendly.sandbox.deliveries.queue import Delivery

# How many finished deliveries are kept for listing and replaying.
MAX_FINISHED = 1000


class Journal:
    """Counts attempts and finished deliveries, and keeps the last `MAX_FINISHED` of these."""

    def __init__(self) -> None:
        self.finished: deque[Delivery] = deque(maxlen=MAX_FINISHED)
        self._counts: Counter[str] = Counter()
        self._by_event: defaultdict[str, Counter[str]] = defaultdict(Counter)
        self._by_status: Counter[str] = Counter()

    def attempted(self, item: Delivery) -> None:
        self._by_status[str(item.status or item.error)] += 1

    def failed(self, item: Delivery) -> None:
        self._count(item, "failed_attempts")

    def finish(self, item: Delivery, state: str) -> None:
        item.state, item.due = state, None
        self.finished.append(item)
        if item.replay:
            self._counts["replayed"] += 1
        else:
            self._count(item, state)

    def _count(self, item: Delivery, name: str) -> None:
        self._counts[name] += 1
        self._by_event[item.event][name] += 1

    def as_json(self) -> dict[str, Any]:
        return {
            **{name: self._counts[name] for name in ("delivered", "failed_attempts", "dropped", "replayed")},
            "by_event": {name: dict(counts) for name, counts in self._by_event.items()},
            "by_status": dict(self._by_status),
        }

    def newest(self, limit: int, pending: Iterable[Delivery]) -> list[dict[str, Any]]:
        """The newest `limit` of the finished and the pending deliveries, the oldest of them first."""
        found = nlargest(limit, [*self.finished, *pending], key=lambda item: item.id)
        return [item.as_json() for item in reversed(found)]
