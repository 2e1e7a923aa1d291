"""Handing events over to Prefect: each once, many at a time, and again until they are seen there."""

from __future__ import annotations

import asyncio
import json
import logging
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Final
from uuid import UUID

from prefect_calendly.events.event import CalendlyEvent
from prefect_calendly.webhooks.connection import PrefectConnection
from prefect_calendly.webhooks.errors import (
    BusyError,
    NotTakenError,
    PrefectRefusedError,
    PrefectUnavailableError,
)
from prefect_calendly.webhooks.metrics import Metrics
from prefect_calendly.webhooks.store import EventStore, Unconfirmed

logger = logging.getLogger(__name__)

_MOST_PER_BATCH: Final = 200
_MOST_WAITING: Final = 2_000
_PER_QUESTION: Final = 50
_KEPT_SECONDS: Final = 6 * 86_400.0  # Prefect forgets events after 7 days
_REFUSED_PAUSE_SECONDS: Final = 600.0
_EXPIRE_EVERY_SECONDS: Final = 3_600.0


@dataclass(frozen=True, slots=True)
class _Waiting:
    """An event on its way to Prefect, and all who wait for it: whether it was told now."""

    id: UUID
    body: str
    told: asyncio.Future[bool]


class Handover:
    """Gives events to Prefect and writes down what was given.

    While one batch is on its way, whatever comes waits for the next.

    Args:
        store: Where they are written down.
        connection: Prefect.
        metrics: What is counted.
        within_seconds: How long a delivery may wait.
    """

    most_waiting: ClassVar[int] = _MOST_WAITING

    def __init__(
        self, store: EventStore, connection: PrefectConnection, metrics: Metrics, within_seconds: float
    ) -> None:
        self._store = store
        self._connection = connection
        self._metrics = metrics
        self._within = within_seconds
        self._queue: asyncio.Queue[_Waiting] = asyncio.Queue()
        self._under_way: dict[UUID, asyncio.Future[bool]] = {}
        self._waiting = 0

    @property
    def under_way(self) -> set[UUID]:
        """Events that this receiver is giving to Prefect just now."""
        return set(self._under_way)

    async def hand_over(self, events: Sequence[CalendlyEvent]) -> bool:
        """Give Prefect those of a delivery's events that it was not given yet, and wait until it has taken them.

        Args:
            events: The events.

        Returns:
            Whether there were any.

        Raises:
            NotTakenError: It is not sure that Prefect has taken all. Those that are written down are given later on.
        """
        if self._waiting >= self.most_waiting:
            raise BusyError("too many deliveries are waiting")
        self._waiting += 1
        self._metrics.waiting.set(self._waiting)
        try:
            mine = [self._enqueue(event) for event in events if event.id not in self._under_way]
            theirs = [self._under_way[event.id] for event in events]
            _, late = await asyncio.wait(theirs, timeout=self._within)
            if late:
                raise PrefectUnavailableError("Prefect has not answered in time")
            told = [future.result() for future in (*theirs, *mine)]  # of several that failed, any will do
            return any(told[len(theirs) :])
        finally:
            self._waiting -= 1
            self._metrics.waiting.set(self._waiting)

    def _enqueue(self, event: CalendlyEvent) -> asyncio.Future[bool]:
        told: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        told.add_done_callback(lambda done: done.cancelled() or done.exception())  # nobody may be waiting any longer
        self._under_way[event.id] = told
        self._queue.put_nowait(_Waiting(event.id, json.dumps(event.as_json()), told))
        return told

    async def work(self) -> None:
        """Give Prefect what is waiting, batch by batch, for ever."""
        while True:
            batch = [await self._queue.get()]
            while not self._queue.empty() and len(batch) < _MOST_PER_BATCH:
                batch.append(self._queue.get_nowait())
            try:
                await self._give(batch)
            except NotTakenError as error:
                self._settle(batch, error)
            except Exception as error:
                logger.exception("a batch of events could not be handed over")
                self._settle(batch, error)
            finally:
                self._settle(batch, PrefectUnavailableError("the receiver is stopping"))

    async def _give(self, batch: Sequence[_Waiting]) -> None:
        seen_before = await self._store.add({each.id: each.body for each in batch})
        self._settle([each for each in batch if seen_before.get(each.id)], False)
        await self._tell([each for each in batch if each.id not in seen_before])
        # Written down, and perhaps given too, by one that was killed, that found Prefect away, or by another receiver.
        if late := [each for each in batch if seen_before.get(each.id) is False]:
            known = await self._connection.known([each.id for each in late])
            await self._store.confirm(known)
            self._settle([each for each in late if each.id in known], False)
            await self._tell([each for each in late if each.id not in known])

    async def _tell(self, batch: Sequence[_Waiting]) -> None:
        if not batch:
            return
        refused = await self._connection.post({each.id: each.body for each in batch})
        taken = [each for each in batch if each.id not in refused]
        await self._store.mark_posted([each.id for each in taken])
        self._metrics.posted.inc(len(taken))
        self._settle(taken, True)
        for ident in refused:
            self._metrics.refused.inc()
            logger.error("Prefect refuses an event", extra={"fields": {"id": str(ident)}})
        self._settle([each for each in batch if each.id in refused], PrefectRefusedError("Prefect refuses the event"))

    def _settle(self, batch: Sequence[_Waiting], outcome: bool | Exception) -> None:
        for each in batch:
            if not each.told.done():
                del self._under_way[each.id]
                if isinstance(outcome, Exception):
                    each.told.set_exception(outcome)
                else:
                    each.told.set_result(outcome)

    async def finish(self) -> None:
        """Wait until all that was accepted is handed over, as long as a delivery may wait."""
        if self._under_way:
            await asyncio.wait(list(self._under_way.values()), timeout=self._within)


class Confirmer:
    """Looks whether Prefect shows the events that it has taken, and gives it again what it has forgotten.

    Prefect keeps what it takes in memory for some seconds: a restart loses it.

    Args:
        handover: Who gives events at the same time.
        store: Where they are written down.
        connection: Prefect.
        metrics: What is counted.
        after_seconds: How long after an event was given Prefect is asked for it.
        again_seconds: How long after it was given an event that is not there is given again.
        every_seconds: Pause between two looks.
        remember_days: How long events are remembered.
    """

    def __init__(
        self,
        handover: Handover,
        store: EventStore,
        connection: PrefectConnection,
        metrics: Metrics,
        *,
        after_seconds: float,
        again_seconds: float,
        every_seconds: float,
        remember_days: float,
    ) -> None:
        self._handover = handover
        self._store = store
        self._connection = connection
        self._metrics = metrics
        self._after = after_seconds
        self._again = again_seconds
        self._every = every_seconds
        self._remember = remember_days
        self._expire_at = 0.0
        self._refused: dict[UUID, float] = {}
        self._newest_seen = 0.0
        self._progress_at = time.time()

    async def work(self) -> None:
        """Look, for ever; first at what a receiver that was killed has left."""
        trouble = ""
        while True:
            before, trouble = trouble, ""
            try:
                await self._look()
            except NotTakenError as error:
                trouble = error.reason
                if trouble != before:
                    logger.warning("events cannot be confirmed now: %s", error)
            except Exception as error:
                trouble = type(error).__name__
                if trouble != before:
                    logger.exception("events cannot be confirmed")
            await asyncio.sleep(self._every)

    async def _look(self) -> None:
        if time.monotonic() >= self._expire_at:
            self._expire_at = time.monotonic() + _EXPIRE_EVERY_SECONDS
            for ident in await self._store.expire(self._remember):
                self._metrics.lost.inc()
                logger.error("an event expired and was never seen in Prefect", extra={"fields": {"id": str(ident)}})
        now = time.time()
        self._refused = {ident: until for ident, until in self._refused.items() if until > now}
        leave = self._handover.under_way | self._refused.keys()
        waiting = [each for each in await self._store.unconfirmed(self._after) if each.id not in leave]
        for start in range(0, len(waiting), _PER_QUESTION):
            if not await self._look_at(waiting[start : start + _PER_QUESTION]):
                break  # Prefect is behind; those that it was told later are not there either
        self._metrics.unconfirmed.set(await self._store.count_unconfirmed())

    async def _look_at(self, some: Sequence[Unconfirmed]) -> bool:
        """Return whether there was anything to do."""
        now = time.time()
        known = await self._connection.known([each.id for each in some])
        if known:
            self._progress_at = now
            self._newest_seen = max(self._newest_seen, *(each.posted_at or 0.0 for each in some if each.id in known))
        # What Prefect has forgotten because it was long ago is not told again.
        done = [each.id for each in some if each.id in known or now - (each.posted_at or now) > _KEPT_SECONDS]
        await self._store.confirm(done)
        self._metrics.confirmed.inc(len(done))
        missing = [each for each in some if each.id not in done and self._is_lost(each, now)]
        if missing:
            await self._tell(missing, now)
        return bool(done or missing)

    def _is_lost(self, event: Unconfirmed, now: float) -> bool:
        """Whether Prefect has to be told: it never was, or it has forgotten. One that is busy gets no second copy."""
        if event.posted_at is None:
            return True
        if now - event.posted_at < self._again:
            return False
        # It stores in the order in which it was told: with nothing later there, it may just be behind.
        return event.posted_at < self._newest_seen - 5 or now - self._progress_at >= self._again

    async def _tell(self, events: Sequence[Unconfirmed], now: float) -> None:
        bodies = await self._store.bodies([each.id for each in events])
        refused = await self._connection.post(bodies)
        taken = [each for each in events if each.id in bodies and each.id not in refused]
        await self._store.mark_posted([each.id for each in taken])
        late = sum(each.posted_at is None for each in taken)
        again = len(taken) - late
        self._metrics.posted.inc(late)
        self._metrics.reposted.inc(again)
        if taken:
            counts = {"late": late, "again": again}
            logger.warning("Prefect was told of events that it did not show", extra={"fields": counts})
        for ident in refused:
            self._refused[ident] = now + _REFUSED_PAUSE_SECONDS
            self._metrics.refused.inc()
            logger.error("Prefect refuses an event", extra={"fields": {"id": str(ident)}})
