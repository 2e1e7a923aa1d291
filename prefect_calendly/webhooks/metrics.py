"""The receiver's counters: for Prometheus, and for the summary that Prefect gets every minute."""

from __future__ import annotations

from collections import Counter as Tally
from datetime import UTC, datetime
from typing import Any, Final
from uuid import UUID

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

from prefect_calendly.webhooks.deliveries import Delivery

_KNOWN: Final = frozenset(name for kind in Delivery.__subclasses__() for name in kind.names)
_MAX_IDS: Final = 100
_BUCKETS: Final = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)


def event_label(name: str) -> str:
    """Return an event's name if it is known, or `other`: a sender must not choose what is counted or logged."""
    return name if name in _KNOWN else "other"


class Metrics:
    """Counters of one receiver; each request is accepted, a duplicate, a ping or rejected."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        more: dict[str, Any] = {"registry": self.registry, "namespace": "calendly_webhook"}
        self.received = Counter("deliveries_received", "Requests, other than for health and metrics.", **more)
        self._accepted = Counter("deliveries_accepted", "Deliveries whose events Prefect has taken.", ["event"], **more)
        self._duplicate = Counter("deliveries_duplicate", "Deliveries whose events Prefect had before.", **more)
        self.pings = Counter("deliveries_ping", "Signed pings, which show that the receiver can be reached.", **more)
        self._rejected = Counter("deliveries_rejected", "Requests that were refused.", ["reason"], **more)
        self._last = Gauge("last_delivery_timestamp_seconds", "When the last good delivery came.", **more)
        self.handover_seconds = Histogram(
            "handover_seconds",
            "From verifying a delivery until Prefect has taken its events.",
            buckets=_BUCKETS,
            **more,
        )
        self.waiting = Gauge("deliveries_waiting", "Deliveries that are being handed over.", **more)
        self.posted = Counter("events_posted", "Events that Prefect has taken.", **more)
        self.reposted = Counter("events_reposted", "Events that had to be posted again.", **more)
        self.confirmed = Counter("events_confirmed", "Events that were seen in Prefect.", **more)
        self.refused = Counter("events_refused", "Times that Prefect has refused an event.", **more)
        self.lost = Counter("events_lost", "Events that expired before they were seen in Prefect.", **more)
        self.unconfirmed = Gauge("events_unconfirmed", "Events that were not seen in Prefect yet.", **more)
        self.keys = Gauge("signing_keys", "Signing keys that are accepted.", **more)
        self._last_delivery_at: datetime | None = None
        self._begin()

    def _begin(self) -> None:
        self._since = datetime.now(UTC)
        self._accepted_count = self._duplicate_count = 0
        self._duplicate_ids: dict[UUID, None] = {}
        self._reasons: Tally[str] = Tally()

    def accepted(self, event: str) -> None:
        """Count a delivery of an event of this name."""
        self._accepted.labels(event_label(event)).inc()
        self._accepted_count += 1
        self._delivered()

    def duplicate(self, ident: UUID) -> None:
        """Count a delivery of an event that Prefect had before."""
        self._duplicate.inc()
        self._duplicate_count += 1
        if len(self._duplicate_ids) < _MAX_IDS:
            self._duplicate_ids[ident] = None
        self._delivered()

    def _delivered(self) -> None:
        self._last_delivery_at = datetime.now(UTC)
        self._last.set(self._last_delivery_at.timestamp())

    def rejected(self, reason: str) -> None:
        """Count a request that was refused, by its reason in one word."""
        self._rejected.labels(reason).inc()
        self._reasons[reason] += 1

    def summary(self) -> dict[str, Any] | None:
        """Return the counts since the last summary; None if nothing was counted."""
        last = self._last_delivery_at
        summary = {
            "since": self._since.isoformat(),
            "until": datetime.now(UTC).isoformat(),
            "accepted": self._accepted_count,
            "duplicates": self._duplicate_count,
            "rejected": dict(self._reasons),
            "duplicate_ids": [str(ident) for ident in self._duplicate_ids],
            "last_delivery_at": None if last is None else last.isoformat(),
        }
        anything = self._accepted_count or self._duplicate_count or self._reasons
        self._begin()
        return summary if anything else None

    def exposed(self) -> bytes:
        """Return all counters in the text format of Prometheus."""
        return generate_latest(self.registry)
