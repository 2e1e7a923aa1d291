"""Webhook deliveries: signed POSTs to whoever subscribed, repeated until accepted, and gone wrong on demand.

One attempt is one task in the server's event loop. Nothing polls: `_pump` starts what is due whenever something has
changed (a delivery is new, an attempt has ended, the clock was set), and arms a timer for what is due next.
"""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import random
import time
from collections import Counter, defaultdict, deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from heapq import heappop, heappush, nlargest
from typing import Any

import httpx

from . import render
from .model import EventType, Invitee, Webhook, iso
from .world import World

JSON = dict[str, Any]
# Calendly says "exponential back-off" and "24 hours"; the steps are ours.
FIRST_RETRY, LONGEST_RETRY = timedelta(seconds=30), timedelta(hours=2)
GIVE_UP = timedelta(hours=24)
ATTEMPT_SECONDS = 10.0
AT_ONCE = 20
# Finished deliveries that are kept, to be looked at and replayed.
KEPT = 1000
# A delivery that is held back lets up to so many later ones pass, but waits no longer than this in real time.
MOST_PASSING, HELD_SECONDS = 20, 0.5
STALE_SECONDS = 600
LOOPBACK = ("127.0.0.1", "localhost", "::1")
# Names that are set aside for examples: whoever owns them shall not hear of the sandbox.
EXAMPLES = ("example", "invalid", "example.com", "example.net", "example.org")
PORTIONS = ("duplicate", "reorder", "drop", "bad_signature", "stale")


def deliverable(url: str) -> bool:
    """Whether deliveries could go there: https or, though Calendly itself refuses it, http on this machine."""
    try:
        target = httpx.URL(url)
    except (httpx.InvalidURL, ValueError):
        return False
    return bool(target.host) and (target.scheme == "https" or (target.scheme == "http" and target.host in LOOPBACK))


def sign(key: str, timestamp: int, body: bytes) -> str:
    """The value of `Calendly-Webhook-Signature`."""
    digest = hmac.new(key.encode(), b"%d." % timestamp + body, hashlib.sha256).hexdigest()
    return f"t={timestamp},v1={digest}"


@dataclass(slots=True)
class Portion:
    """Which deliveries something happens to: the next `count`, or a `share` of all."""

    count: int = 0
    share: float = 0.0

    @classmethod
    def parse(cls, name: str, value: Any) -> Portion:
        if isinstance(value, int) and not isinstance(value, bool) and value >= 0:
            return cls(count=value)
        if isinstance(value, float) and 0 <= value <= 1:
            return cls(share=value)
        raise ValueError(f"{name} is a whole number (the next so many) or a fraction from 0.0 to 1.0 (a share of all)")

    def hits(self, chance: random.Random) -> bool:
        if self.count:
            self.count -= 1
            return True
        return self.share > 0 and chance.random() < self.share

    @property
    def value(self) -> int | float:
        return self.count or self.share


@dataclass(slots=True, eq=False, repr=False)
class Delivery:
    id: int
    line: Line
    event: str
    uri: str
    body: bytes
    # An invitee's booking or cancellation is not worth repeating long after the event.
    pointless_from: datetime | None = None
    state: str = "pending"
    attempts: int = 0
    lets_pass: int = 0  # so many later ones, once it is its turn
    first_failure: datetime | None = None
    due: datetime | None = None
    status: int | None = None
    error: str | None = None
    signature: str | None = None
    again: int | None = None  # the delivery that this one repeats
    replay: bool = False  # as an attacker would: the old bytes with the old signature, once

    def as_json(self) -> JSON:
        return {
            "id": self.id,
            "event": self.event,
            "uri": self.uri,
            "subscription": self.line.webhook.uri,
            "state": self.state,
            "attempts": self.attempts,
            "last_status": self.status,
            "last_error": self.error,
            "next_attempt_at": iso(self.due) if self.due else None,
            "repeats": self.again,
            "replay": self.replay,
        }


@dataclass(slots=True, eq=False, repr=False)
class Line:
    """What waits for one subscription, and what is under way."""

    webhook: Webhook
    url: httpx.URL
    ready: deque[Delivery] = field(default_factory=deque)
    later: list[tuple[datetime, int, Delivery]] = field(default_factory=list)
    held: dict[Delivery, int] = field(default_factory=dict)  # how many answers each still waits for
    flying: set[Delivery] = field(default_factory=set)
    failing: bool = False

    def __len__(self) -> int:
        return len(self.ready) + len(self.later) + len(self.held) + len(self.flying)

    def __iter__(self) -> Iterator[Delivery]:
        yield from self.flying
        yield from self.ready
        yield from (item for _, _, item in self.later)
        yield from self.held

    @property
    def disabled_from(self) -> datetime | None:
        since = self.webhook.retry_started
        return since + GIVE_UP if self.failing and since is not None else None


class Deliveries:
    """The deliveries of one world, until the next reset."""

    def __init__(self, world: World, client: Callable[[], httpx.AsyncClient]) -> None:
        self.paused = False
        self.at_once = AT_ONCE
        self.delay = timedelta()
        self.portions = {name: Portion() for name in PORTIONS}
        self._world = world
        self._client = client
        self._chance = random.Random(world.options.seed)
        self._lines: dict[str, Line] = {}
        self._finished: deque[Delivery] = deque(maxlen=KEPT)
        self._made = 0
        self._counts: Counter[str] = Counter()
        self._by_event: defaultdict[str, Counter[str]] = defaultdict(Counter)
        self._by_status: Counter[str] = Counter()
        self._tasks: set[asyncio.Task[None]] = set()
        self._waiters: set[asyncio.Future[None]] = set()
        self._timer: asyncio.TimerHandle | None = None
        self._pump_is_coming = False
        self._stopped = False
        world.tell = self._tell

    # What comes in

    def _tell(self, name: str, item: Invitee | EventType) -> None:
        """Something has happened: make it out as it is now, for each subscription that wants to know."""
        if self._stopped:
            return
        subject = item.event if isinstance(item, Invitee) else item
        bodies: dict[str, bytes] = {}
        payload: JSON | None = None
        now = self._world.clock.now()
        for webhook in self._world.webhooks.values():
            if webhook.state != "active" or name not in webhook.events:
                continue
            if webhook.organization is not subject.organization or not _concerns(webhook, subject.hosts):
                continue
            line = self._line(webhook)
            if line is None:
                continue
            payload = payload or render.payload(item, now)
            creator = webhook.creator
            if creator.uuid not in bodies:
                bodies[creator.uuid] = render.encoded(render.delivery(name, creator, payload, now))
            until = item.event.end + GIVE_UP if isinstance(item, Invitee) and name.startswith("invitee.") else None
            self._file(line, name, item.uri, bodies[creator.uuid], until)

    def _line(self, webhook: Webhook) -> Line | None:
        line = self._lines.get(webhook.uuid)
        if line is None or line.webhook is not webhook:
            line = Line(webhook, httpx.URL(webhook.callback_url))
            if any(line.url.host == name or line.url.host.endswith(f".{name}") for name in EXAMPLES):
                return None
            self._lines[webhook.uuid] = line
        return line

    def _file(self, line: Line, event: str, uri: str, body: bytes, until: datetime | None) -> None:
        item = self._new(line, event, uri, body, until)
        if self._hit("drop"):
            self._finish(item, "dropped")
            return
        copies = [item]
        if self._hit("duplicate"):
            copies.append(self._new(line, event, uri, body, until))
            copies[1].again = item.id
        for copy in copies:
            if self._hit("reorder"):
                copy.lets_pass = self._chance.randint(1, MOST_PASSING)
            if self.delay:
                self._later(copy, self._world.clock.now() + self.delay)
            else:
                line.ready.append(copy)
        self.wake()

    def _new(self, line: Line, event: str, uri: str, body: bytes, until: datetime | None) -> Delivery:
        self._made += 1
        return Delivery(self._made, line, event, uri, body, until)

    def _hit(self, name: str) -> bool:
        return self.portions[name].hits(self._chance)

    def _later(self, item: Delivery, due: datetime) -> None:
        item.due = due
        heappush(item.line.later, (due, item.id, item))

    def _hold(self, item: Delivery) -> None:
        # Those under way are answered first; they do not pass it.
        item.line.held[item] = len(item.line.flying) + item.lets_pass
        item.lets_pass = 0
        asyncio.get_running_loop().call_later(HELD_SECONDS, self._let_go, item)

    def _let_go(self, item: Delivery) -> None:
        if item.line.held.pop(item, None) is not None:
            item.line.ready.appendleft(item)
            self.wake()

    def replay(self, which: int | str) -> int:
        """Send what was sent before once more, byte for byte; how many that are."""
        sent = [
            item for item in self._finished if item.attempts and self._lines.get(item.line.webhook.uuid) is item.line
        ]
        if isinstance(which, str):
            chosen = [item for item in sent if str(item.id) == which]
        elif isinstance(which, int) and not isinstance(which, bool) and which > 0:
            chosen = sent[-which:]
        else:
            raise ValueError("replay is a whole number (the last so many) or the id of a delivery, as text")
        if not chosen:
            raise ValueError(f"nothing to replay: of the last {KEPT} deliveries that are over, none fits")
        for old in chosen:
            copy = self._new(old.line, old.event, old.uri, old.body, None)
            copy.again, copy.signature, copy.replay = old.id, old.signature, True
            copy.line.ready.append(copy)
        self.wake()
        return len(chosen)

    # What goes out

    def wake(self) -> None:
        """Something has changed. What happens in the same breath is looked at together."""
        if not self._pump_is_coming and not self._stopped:
            self._pump_is_coming = True
            asyncio.get_running_loop().call_soon(self._pump)

    def _pump(self) -> None:
        self._pump_is_coming = False
        if self._stopped:
            return
        clock = self._world.clock
        now = clock.now()
        moments: list[datetime] = []
        for line in list(self._lines.values()):
            webhook = line.webhook
            if line.disabled_from is not None and now >= line.disabled_from:
                webhook.state, webhook.updated = "disabled", now
            if webhook.state != "active" or self._world.webhooks.get(webhook.uuid) is not webhook:
                self._close(line)
                continue
            while line.later and line.later[0][0] <= now:
                line.ready.append(heappop(line.later)[2])
            while line.ready and len(line.flying) < self.at_once and not self.paused:
                item = line.ready.popleft()
                if item.lets_pass:
                    self._hold(item)
                else:
                    self._start(item)
            if line.later:
                moments.append(line.later[0][0])
            if line.disabled_from is not None:
                moments.append(line.disabled_from)
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        seconds = clock.real_seconds_until(min(moments)) if moments else None
        if seconds is not None:
            self._timer = asyncio.get_running_loop().call_later(seconds, self.wake)
        if not self._pending():
            self._release_waiters()

    def _close(self, line: Line) -> None:
        """The subscription is gone or disabled: nothing more goes out to it."""
        del self._lines[line.webhook.uuid]
        for item in [item for item in line if item not in line.flying]:
            self._finish(item, "dropped")
        line.ready.clear()
        line.later.clear()
        line.held.clear()

    def _start(self, item: Delivery) -> None:
        item.line.flying.add(item)
        item.due = None
        task = asyncio.get_running_loop().create_task(self._attempt(item))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _attempt(self, item: Delivery) -> None:
        headers = {"content-type": "application/json"}
        if not item.replay:
            item.signature = self._signature(item.line.webhook.signing_key, item.body)
        if item.signature is not None:
            headers["calendly-webhook-signature"] = item.signature
        status = error = None
        client = self._client()
        try:
            async with asyncio.timeout(ATTEMPT_SECONDS):
                request = client.build_request("POST", item.line.url, content=item.body, headers=headers)
                status = (await client.send(request)).status_code
        except Exception as problem:  # whatever it is, the far end has not accepted anything
            error = type(problem).__name__
        self._settle(item, status, error)

    def _signature(self, key: str | None, body: bytes) -> str | None:
        """Signed at the real time, which is that of the receiver's clock."""
        if not key:
            return None
        timestamp = int(time.time())
        if self._hit("stale"):
            timestamp -= STALE_SECONDS
        return sign(f"not {key}" if self._hit("bad_signature") else key, timestamp, body)

    def _settle(self, item: Delivery, status: int | None, error: str | None) -> None:
        line, now = item.line, self._world.clock.now()
        webhook = line.webhook
        line.flying.discard(item)
        item.attempts += 1
        item.status, item.error = status, error
        self._by_status[str(status or error)] += 1
        accepted = status is not None and 200 <= status < 300
        gone = self._lines.get(webhook.uuid) is not line
        if item.replay:
            self._finish(item, "delivered" if accepted else "dropped")
        elif accepted:
            self._finish(item, "delivered")
            if not gone:
                line.failing = False
                if webhook.retry_started is not None:
                    webhook.retry_started, webhook.updated = None, now
        else:
            self._counts["failed_attempts"] += 1
            self._by_event[item.event]["failed_attempts"] += 1
            if gone:
                self._finish(item, "dropped")
            else:
                line.failing = True
                if webhook.retry_started is None:
                    webhook.retry_started = webhook.updated = now
                self._retry(item, now)
        for held in list(line.held):
            line.held[held] -= 1
            if line.held[held] <= 0:
                self._let_go(held)
        self.wake()

    def _retry(self, item: Delivery, now: datetime) -> None:
        item.first_failure = item.first_failure or now
        due = now + min(FIRST_RETRY * 2 ** min(item.attempts - 1, 20), LONGEST_RETRY)
        end = item.first_failure + GIVE_UP
        if due > (min(end, item.pointless_from) if item.pointless_from else end):
            self._finish(item, "dropped")
        else:
            self._later(item, due)

    def _finish(self, item: Delivery, state: str) -> None:
        item.state, item.due = state, None
        self._finished.append(item)
        if item.replay:
            self._counts["replayed"] += 1
            return
        self._counts[state] += 1
        self._by_event[item.event][state] += 1

    # Looking, and the end

    def _pending(self) -> int:
        return sum(map(len, self._lines.values()))

    def as_json(self, limit: int = 100) -> JSON:
        known = [*self._finished, *(item for line in self._lines.values() for item in line)]
        newest = nlargest(limit, known, key=lambda item: item.id)
        return {
            "pending": self._pending(),
            "in_flight": sum(len(line.flying) for line in self._lines.values()),
            **{name: self._counts[name] for name in ("delivered", "failed_attempts", "dropped", "replayed")},
            "by_event": {name: dict(counts) for name, counts in self._by_event.items()},
            "by_status": dict(self._by_status),
            "settings": {
                "paused": self.paused,
                "at_once": self.at_once,
                "delay_seconds": self.delay.total_seconds(),
                **{name: portion.value for name, portion in self.portions.items()},
            },
            "deliveries": [item.as_json() for item in reversed(newest)],
        }

    async def idle(self, seconds: float) -> None:
        """Wait until nothing is pending, but no longer than so many real seconds."""
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
        """Nothing goes out any longer; what is under way is broken off."""
        self._stopped = True
        if self._timer is not None:
            self._timer.cancel()
        for task in self._tasks:
            task.cancel()
        self._release_waiters()

    async def stopped(self) -> None:
        await asyncio.gather(*self._tasks, return_exceptions=True)


def _concerns(webhook: Webhook, hosts: list[Any] | tuple[Any, ...]) -> bool:
    if webhook.group is not None:
        return any(host in webhook.group.members for host in hosts)
    return webhook.user is None or webhook.user in hosts


def _resolve(waiter: asyncio.Future[None]) -> None:
    if not waiter.done():
        waiter.set_result(None)
