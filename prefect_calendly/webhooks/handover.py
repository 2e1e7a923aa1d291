"""Handing events over to Prefect: each once, and many at a time."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final
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
from prefect_calendly.webhooks.store import EventStore

logger = logging.getLogger(__name__)

_MAX_PER_BATCH: Final = 200


@dataclass(frozen=True, slots=True)
class _Waiting:
    """An event on its way to Prefect."""

    id: UUID
    body: str
    posted: asyncio.Future[bool]
    """For all who wait for it: whether Prefect has taken it just now, or had it before."""


class Handover:
    """Gives events to Prefect, and writes down which.

    While one batch is on its way, whatever comes waits for the next.

    Args:
        store: Where events are written down.
        connection: Prefect.
        metrics: Counters.
        within_seconds: How long a delivery may wait.
        max_waiting: How many deliveries may wait at the same time.
    """

    def __init__(
        self,
        store: EventStore,
        connection: PrefectConnection,
        metrics: Metrics,
        *,
        within_seconds: float,
        max_waiting: int,
    ) -> None:
        self._store = store
        self._connection = connection
        self._metrics = metrics
        self._within = within_seconds
        self._max_waiting = max_waiting
        self._queue: asyncio.Queue[_Waiting] = asyncio.Queue()
        self._in_flight: dict[UUID, asyncio.Future[bool]] = {}
        self._waiting = 0

    @property
    def in_flight(self) -> set[UUID]:
        """Ids of the events that this receiver is giving to Prefect just now."""
        return set(self._in_flight)

    async def hand_over(self, events: Sequence[CalendlyEvent]) -> bool:
        """Give Prefect those of a delivery's events that it was not given yet, and wait until it has taken them.

        Args:
            events: The events.

        Returns:
            Whether there were any.

        Raises:
            NotTakenError: Prefect may not have taken all. Those that are written down are posted later on.
        """
        if self._waiting >= self._max_waiting:
            raise BusyError("too many deliveries are waiting")
        self._waiting += 1
        self._metrics.waiting.set(self._waiting)
        try:
            mine = [self._enqueue(event) for event in events if event.id not in self._in_flight]
            all_of_them = [self._in_flight[event.id] for event in events]
            _, late = await asyncio.wait(all_of_them, timeout=self._within)
            if late:
                raise PrefectUnavailableError("Prefect has not answered in time")
            for future in all_of_them:
                future.result()  # of several that failed, any will do
            return any(future.result() for future in mine)
        finally:
            self._waiting -= 1
            self._metrics.waiting.set(self._waiting)

    def _enqueue(self, event: CalendlyEvent) -> asyncio.Future[bool]:
        posted: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        # Whoever waits may have given up: asyncio would complain of an exception that nobody has looked at.
        posted.add_done_callback(lambda done: done.cancelled() or done.exception())
        self._in_flight[event.id] = posted
        self._queue.put_nowait(_Waiting(event.id, json.dumps(event.as_json()), posted))
        return posted

    async def work(self) -> None:
        """Give Prefect what is waiting, batch by batch, forever."""
        while True:
            batch = [await self._queue.get()]
            while not self._queue.empty() and len(batch) < _MAX_PER_BATCH:
                batch.append(self._queue.get_nowait())
            try:
                await self._give(batch)
            except NotTakenError as error:
                self._resolve(batch, error)
            except Exception as error:
                logger.exception("a batch of events could not be handed over")
                self._resolve(batch, error)
            finally:
                self._resolve(batch, PrefectUnavailableError("the receiver is stopping"))

    async def _give(self, batch: Sequence[_Waiting]) -> None:
        posted_before = await self._store.add({each.id: each.body for each in batch})
        self._resolve([each for each in batch if posted_before.get(each.id)], False)
        await self._post([each for each in batch if each.id not in posted_before])
        # Written down earlier and not marked as posted: by a receiver that was killed, by one that found Prefect away,
        # or by another one just now. Prefect may have them all the same.
        if unsure := [each for each in batch if posted_before.get(each.id) is False]:
            known = await self._connection.known([each.id for each in unsure])
            await self._store.confirm(known)
            self._resolve([each for each in unsure if each.id in known], False)
            await self._post([each for each in unsure if each.id not in known])

    async def _post(self, batch: Sequence[_Waiting]) -> None:
        if not batch:
            return
        refused = await self._connection.post({each.id: each.body for each in batch})
        taken = [each for each in batch if each.id not in refused]
        await self._store.mark_posted([each.id for each in taken])
        self._metrics.posted.inc(len(taken))
        self._resolve(taken, True)
        for ident in refused:
            self._metrics.refused.inc()
            logger.error("Prefect refuses an event", extra={"fields": {"id": str(ident)}})
        self._resolve([each for each in batch if each.id in refused], PrefectRefusedError("Prefect refuses the event"))

    def _resolve(self, batch: Sequence[_Waiting], outcome: bool | Exception) -> None:
        for each in batch:
            if not each.posted.done():
                del self._in_flight[each.id]
                if isinstance(outcome, Exception):
                    each.posted.set_exception(outcome)
                else:
                    each.posted.set_result(outcome)

    async def finish(self) -> None:
        """Wait until all that was accepted is handed over, as long as a delivery may wait."""
        if self._in_flight:
            await asyncio.wait(list(self._in_flight.values()), timeout=self._within)
