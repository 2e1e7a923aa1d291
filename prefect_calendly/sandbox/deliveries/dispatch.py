"""Which deliveries there are, and when each goes out.

An attempt is a task in the server's event loop. Nothing polls: `_pump` starts what is due whenever something has
changed (a new delivery, an attempt that has ended, the clock), and sets a timer for what is due next.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any

import httpx

from prefect_calendly.sandbox import render
from prefect_calendly.sandbox.deliveries.disturbances import DISTURBANCES, Disturbance
from prefect_calendly.sandbox.deliveries.journal import MAX_FINISHED, Journal
from prefect_calendly.sandbox.deliveries.queue import GIVE_UP, Delivery, Queue
from prefect_calendly.sandbox.deliveries.sending import Sender, is_reserved, sign
from prefect_calendly.sandbox.model import EventType, Invitee, User, Webhook
from prefect_calendly.sandbox.world import World

JSON = dict[str, Any]
# Calendly documents "exponential back-off" and "24 hours"; the steps are our choice.
FIRST_RETRY, LONGEST_RETRY = timedelta(seconds=30), timedelta(hours=2)
MAX_AT_ONCE = 20
# A delivery that is held back is overtaken by at most this many later ones, and waits at most this long in real time.
MAX_OVERTAKING, MAX_HELD_SECONDS = 20, 0.5
STALE_SECONDS = 600


class Deliveries:
    """The deliveries of one world."""

    def __init__(self, world: World, sender: Sender) -> None:
        self.paused = False
        self.at_once = MAX_AT_ONCE
        self.delay = timedelta()
        self.disturbances = {name: Disturbance() for name in DISTURBANCES}
        self._world = world
        self._sender = sender
        self._random = random.Random(world.options.seed)
        self._queues: dict[str, Queue] = {}
        self._journal = Journal()
        self._last_id = 0
        self._tasks: set[asyncio.Task[None]] = set()
        self._waiters: set[asyncio.Future[None]] = set()
        self._timer: asyncio.TimerHandle | None = None
        self._pump_is_scheduled = False
        self._stopped = False
        world.emit = self._on_event

    # What comes in

    def _on_event(self, name: str, item: Invitee | EventType) -> None:
        """Queue a delivery, with the state of this moment, for each subscription to a webhook event."""
        if self._stopped:
            return
        subject = item.event if isinstance(item, Invitee) else item
        bodies: dict[str, bytes] = {}
        payload: JSON | None = None
        now = self._world.clock.now()
        for webhook in self._world.webhooks.values():
            if webhook.state != "active" or name not in webhook.events:
                continue
            if webhook.organization is not subject.organization or not _covers(webhook, subject.hosts):
                continue
            queue = self._queue_of(webhook)
            if queue is None:
                continue
            payload = payload or render.payload(item, now)
            creator = webhook.creator
            if creator.uuid not in bodies:
                bodies[creator.uuid] = render.encoded(render.delivery(name, creator, payload, now))
            expires = item.event.end + GIVE_UP if isinstance(item, Invitee) and name.startswith("invitee.") else None
            self._enqueue(queue, name, item.uri, bodies[creator.uuid], expires)

    def _queue_of(self, webhook: Webhook) -> Queue | None:
        """The queue of a subscription; None if its host must not receive anything."""
        queue = self._queues.get(webhook.uuid)
        if queue is None or queue.webhook is not webhook:
            queue = Queue(webhook, httpx.URL(webhook.callback_url))
            if is_reserved(queue.url.host):
                return None
            self._queues[webhook.uuid] = queue
        return queue

    def _enqueue(self, queue: Queue, event: str, uri: str, body: bytes, expires: datetime | None) -> None:
        item = self._new(queue, event, uri, body, expires)
        if self._hit("drop"):
            self._journal.finish(item, "dropped")
            return
        copies = [item]
        if self._hit("duplicate"):
            copies.append(self._new(queue, event, uri, body, expires))
            copies[1].repeats = item.id
        for copy in copies:
            if self._hit("reorder"):
                copy.overtaken_by = self._random.randint(1, MAX_OVERTAKING)
            if self.delay:
                queue.schedule(copy, self._world.clock.now() + self.delay)
            else:
                queue.ready.append(copy)
        self.wake()

    def _new(self, queue: Queue, event: str, uri: str, body: bytes, expires: datetime | None) -> Delivery:
        self._last_id += 1
        return Delivery(self._last_id, queue, event, uri, body, expires)

    def _hit(self, name: str) -> bool:
        return self.disturbances[name].hits(self._random)

    def replay(self, which: int | str) -> int:
        """Send finished deliveries once more, byte for byte.

        Args:
            which: How many of the last ones, or the id of one as text.

        Returns:
            How many are sent.

        Raises:
            ValueError: There is no such delivery, or its subscription has ended.
        """
        sent = [
            item
            for item in self._journal.finished
            if item.attempts and self._queues.get(item.queue.webhook.uuid) is item.queue
        ]
        if isinstance(which, str):
            chosen = [item for item in sent if str(item.id) == which]
        elif isinstance(which, int) and not isinstance(which, bool) and which > 0:
            chosen = sent[-which:]
        else:
            raise ValueError("replay must be an integer (how many of the last ones) or the id of a delivery as text")
        if not chosen:
            raise ValueError(f"nothing to replay: none of the last {MAX_FINISHED} finished deliveries matches")
        for old in chosen:
            copy = self._new(old.queue, old.event, old.uri, old.body, None)
            copy.repeats, copy.signature, copy.replay = old.id, old.signature, True
            copy.queue.ready.append(copy)
        self.wake()
        return len(chosen)

    # What goes out

    def wake(self) -> None:
        """Start what is due, once for all changes made in the same step of the event loop."""
        if not self._pump_is_scheduled and not self._stopped:
            self._pump_is_scheduled = True
            asyncio.get_running_loop().call_soon(self._pump)

    def _pump(self) -> None:
        self._pump_is_scheduled = False
        if self._stopped:
            return
        clock = self._world.clock
        now = clock.now()
        moments: list[datetime] = []
        for queue in list(self._queues.values()):
            webhook = queue.webhook
            if queue.disabled_from is not None and now >= queue.disabled_from:
                webhook.state, webhook.updated = "disabled", now
            if webhook.state != "active" or self._world.webhooks.get(webhook.uuid) is not webhook:
                self._close(queue)
                continue
            queue.ready_until(now)
            while queue.ready and len(queue.in_flight) < self.at_once and not self.paused:
                item = queue.ready.popleft()
                if item.overtaken_by:
                    self._hold_back(item)
                else:
                    self._start(item)
            if queue.scheduled:
                moments.append(queue.scheduled[0][0])
            if queue.disabled_from is not None:
                moments.append(queue.disabled_from)
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        seconds = clock.real_seconds_until(min(moments)) if moments else None
        if seconds is not None:
            self._timer = asyncio.get_running_loop().call_later(seconds, self.wake)
        if not self._pending():
            self._release_waiters()

    def _close(self, queue: Queue) -> None:
        """The subscription was deleted or disabled: nothing more goes out to it."""
        del self._queues[queue.webhook.uuid]
        for item in queue.clear():
            self._journal.finish(item, "dropped")

    def _hold_back(self, item: Delivery) -> None:
        # Deliveries in flight are answered first; they do not count as overtaking.
        item.queue.held_back[item] = len(item.queue.in_flight) + item.overtaken_by
        item.overtaken_by = 0
        asyncio.get_running_loop().call_later(MAX_HELD_SECONDS, self._release, item)

    def _release(self, item: Delivery) -> None:
        if item.queue.held_back.pop(item, None) is not None:
            item.queue.ready.appendleft(item)
            self.wake()

    def _start(self, item: Delivery) -> None:
        item.queue.in_flight.add(item)
        item.due = None
        task = asyncio.get_running_loop().create_task(self._attempt(item))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _attempt(self, item: Delivery) -> None:
        if not item.replay:
            item.signature = self._signature(item.queue.webhook.signing_key, item.body)
        item.status, item.error = await self._sender.post(item.queue.url, item.body, item.signature)
        self._finish_attempt(item)

    def _signature(self, key: str | None, body: bytes) -> str | None:
        """Sign with the real time, because the receiver compares it with its own clock."""
        if not key:
            return None
        timestamp = int(time.time())
        if self._hit("stale"):
            timestamp -= STALE_SECONDS
        return sign(f"not {key}" if self._hit("bad_signature") else key, timestamp, body)

    def _finish_attempt(self, item: Delivery) -> None:
        queue, now = item.queue, self._world.clock.now()
        webhook = queue.webhook
        queue.in_flight.discard(item)
        item.attempts += 1
        self._journal.attempted(item)
        accepted = item.status is not None and 200 <= item.status < 300
        closed = self._queues.get(webhook.uuid) is not queue
        if item.replay:
            self._journal.finish(item, "delivered" if accepted else "dropped")
        elif accepted:
            self._journal.finish(item, "delivered")
            if not closed:
                queue.failing = False
                if webhook.retry_started is not None:
                    webhook.retry_started, webhook.updated = None, now
        else:
            self._journal.failed(item)
            if closed:
                self._journal.finish(item, "dropped")
            else:
                queue.failing = True
                if webhook.retry_started is None:
                    webhook.retry_started = webhook.updated = now
                self._retry(item, now)
        for held in list(queue.held_back):
            queue.held_back[held] -= 1
            if queue.held_back[held] <= 0:
                self._release(held)
        self.wake()

    def _retry(self, item: Delivery, now: datetime) -> None:
        item.first_failure = item.first_failure or now
        due = now + min(FIRST_RETRY * 2 ** min(item.attempts - 1, 20), LONGEST_RETRY)
        end = item.first_failure + GIVE_UP
        if due > (min(end, item.expires) if item.expires else end):
            self._journal.finish(item, "dropped")
        else:
            item.queue.schedule(item, due)

    # Reading, waiting, stopping

    def _pending(self) -> int:
        return sum(map(len, self._queues.values()))

    def as_json(self, limit: int = 100) -> JSON:
        return {
            "pending": self._pending(),
            "in_flight": sum(len(queue.in_flight) for queue in self._queues.values()),
            **self._journal.as_json(),
            "settings": {
                "paused": self.paused,
                "at_once": self.at_once,
                "delay_seconds": self.delay.total_seconds(),
                **{name: disturbance.value for name, disturbance in self.disturbances.items()},
            },
            "deliveries": self._journal.newest(limit, (item for queue in self._queues.values() for item in queue)),
        }

    async def idle(self, seconds: float) -> None:
        """Wait until nothing is pending, at most this many real seconds."""
        if self._stopped or not self._pending():
            return
        loop = asyncio.get_running_loop()
        waiter: asyncio.Future[None] = loop.create_future()
        self._waiters.add(waiter)
        timer = loop.call_later(seconds, _resolve, waiter)
        try:
            await waiter
        finally:
            timer.cancel()
            self._waiters.discard(waiter)

    def _release_waiters(self) -> None:
        for waiter in self._waiters:
            _resolve(waiter)

    def stop(self) -> None:
        """Send nothing more, and cancel the attempts in flight."""
        self._stopped = True
        if self._timer is not None:
            self._timer.cancel()
        for task in self._tasks:
            task.cancel()
        self._release_waiters()

    async def stopped(self) -> None:
        """Wait for the attempts that `stop` has canceled."""
        await asyncio.gather(*self._tasks, return_exceptions=True)


def _covers(webhook: Webhook, hosts: Sequence[User]) -> bool:
    """Whether a subscription's scope includes what these hosts are concerned with."""
    if webhook.group is not None:
        return any(host in webhook.group.members for host in hosts)
    return webhook.user is None or webhook.user in hosts


def _resolve(waiter: asyncio.Future[None]) -> None:
    if not waiter.done():
        waiter.set_result(None)
