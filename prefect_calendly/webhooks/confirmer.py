"""Making sure that Prefect has stored the events that it has taken, and posting again those that it has lost.

Prefect keeps what it takes in memory for some seconds: a restart loses it.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Sequence
from typing import Final

from prefect_calendly.webhooks.connection import PrefectConnection
from prefect_calendly.webhooks.errors import NotTakenError, PrefectUnavailableError
from prefect_calendly.webhooks.handover import Handover
from prefect_calendly.webhooks.metrics import Metrics
from prefect_calendly.webhooks.store import EventStore, Unconfirmed
from prefect_calendly.webhooks.suspects import Suspects

logger = logging.getLogger(__name__)

_PER_QUESTION: Final = 50
_RETENTION_SECONDS: Final = 6 * 86_400.0  # Prefect deletes events after 7 days
_EXPIRE_EVERY_SECONDS: Final = 3_600.0


class Confirmer:
    """Asks Prefect for the events that it has taken, until it shows them.

    Args:
        handover: What posts events at the same time.
        store: Where events are written down.
        connection: Prefect.
        metrics: Counters.
        confirm_after_seconds: How long after an event was posted Prefect is asked for it.
        confirm_every_seconds: Pause between two rounds.
        repost_after_seconds: How long after it was posted an event that is not there is posted again.
        remember_days: How long events are remembered, in days.
    """

    def __init__(
        self,
        handover: Handover,
        store: EventStore,
        connection: PrefectConnection,
        metrics: Metrics,
        *,
        confirm_after_seconds: float,
        confirm_every_seconds: float,
        repost_after_seconds: float,
        remember_days: float,
    ) -> None:
        self._handover = handover
        self._store = store
        self._connection = connection
        self._metrics = metrics
        self._confirm_after = confirm_after_seconds
        self._every = confirm_every_seconds
        self._repost_after = repost_after_seconds
        self._remember_days = remember_days
        self._expire_at = 0.0
        self._suspects = Suspects()
        self._newest_seen = 0.0
        self._progress_at = time.time()

    async def work(self) -> None:
        """Ask, forever; first for what a receiver that was killed has left."""
        trouble = ""
        while True:
            before, trouble = trouble, ""
            try:
                await self._round()
            except NotTakenError as error:
                trouble = error.reason
                if trouble != before:
                    logger.warning("events cannot be confirmed now: %s", error)
            except Exception as error:
                trouble = type(error).__name__
                if trouble != before:
                    logger.exception("events cannot be confirmed")
            await asyncio.sleep(self._every)

    async def _round(self) -> None:
        if time.monotonic() >= self._expire_at:
            self._expire_at = time.monotonic() + _EXPIRE_EVERY_SECONDS
            for ident in await self._store.expire(self._remember_days):
                self._metrics.lost.inc()
                logger.error("an event expired and was never seen in Prefect", extra={"fields": {"id": str(ident)}})
        now = time.time()
        leave = self._handover.in_flight | self._suspects.resting(now)
        waiting = [each for each in await self._store.unconfirmed(self._confirm_after) if each.id not in leave]
        lost: list[Unconfirmed] = []
        for start in range(0, len(waiting), _PER_QUESTION):
            if not await self._confirm(waiting[start : start + _PER_QUESTION], lost):
                break  # Prefect is behind: events that were posted later are not there either
        if group := self._suspects.next_to_post([each.id for each in lost], now):
            await self._post([each for each in lost if each.id in group], now)
            self._suspects.posted(group, now)
        self._metrics.unconfirmed.set(await self._store.count_unconfirmed())

    async def _confirm(self, events: Sequence[Unconfirmed], lost: list[Unconfirmed]) -> bool:
        """Confirm or post again some events, or note suspects as lost; return whether there was anything to do."""
        now = time.time()
        known = await self._connection.known([each.id for each in events])
        if known:
            self._progress_at = now
            self._newest_seen = max(self._newest_seen, *(each.posted_at or 0.0 for each in events if each.id in known))
        # An event that Prefect has deleted because of its age is not posted again.
        done = [each.id for each in events if each.id in known or now - (each.posted_at or now) > _RETENTION_SECONDS]
        await self._store.confirm(done)
        self._suspects.arrived(done)
        self._metrics.confirmed.inc(len(done))
        missing = [each for each in events if each.id not in done and self._is_lost(each, now)]
        lost += [each for each in missing if each.id in self._suspects]
        again = [each for each in missing if each.id not in self._suspects]
        self._suspects.add(each.id for each in again if each.posted_at is not None)
        await self._post(again, now)
        return bool(done or missing)

    def _is_lost(self, event: Unconfirmed, now: float) -> bool:
        """Whether to post an event: it never was, or Prefect has lost it. One that is only busy gets no second copy."""
        if event.posted_at is None:
            return True
        if now - event.posted_at < self._repost_after:
            return False
        # Prefect stores events in the order in which it got them: with nothing later there, it may just be behind.
        return event.posted_at < self._newest_seen - 5 or now - self._progress_at >= self._repost_after

    async def _post(self, events: Sequence[Unconfirmed], now: float) -> None:
        if not events:
            return
        bodies = await self._store.bodies([each.id for each in events])
        try:
            refused = await self._connection.post(bodies)
        except PrefectUnavailableError:
            if await self._connection.is_ready():  # it takes others, but not these
                self._suspects.refused(bodies, now)
            raise
        taken = [each for each in events if each.id in bodies and each.id not in refused]
        await self._store.mark_posted([each.id for each in taken])
        late = sum(each.posted_at is None for each in taken)
        again = len(taken) - late
        self._metrics.posted.inc(late)
        self._metrics.reposted.inc(again)
        if taken:
            counts = {"late": late, "again": again}
            logger.warning("events that Prefect did not show were posted", extra={"fields": counts})
        for ident in refused:
            self._suspects.refused([ident], now)
            self._metrics.refused.inc()
            logger.error("Prefect refuses an event", extra={"fields": {"id": str(ident)}})
