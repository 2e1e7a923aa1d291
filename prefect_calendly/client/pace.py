"""When the next request may go: the gateway's rate per key, Calendly's quota per connection.

The state is shared by every client of the process that uses the same account, in whatever thread or event loop.
Between processes somebody else has to count: see `Share`.
"""

from __future__ import annotations

import asyncio
import hashlib
import threading
import time
import weakref
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from prefect_calendly.client.errors import RateLimitedError

# Whoever would have to wait longer is told so instead.
LONGEST_WAIT_SECONDS = 300.0
# After so long it is tried anew, whatever an answer said: one odd header must not close an account for good.
_LONGEST_PAUSE_SECONDS = 3600.0

# The gateway counts by its own clock, behind a network that can bunch requests up: stay a little below the limit.
_SHARE_OF_RATE = 0.97
_LATENESS_SECONDS = 0.005
# A waiting request looks again this often, for an answer that comes in meanwhile can change how long it must wait.
_LOOK_AGAIN_SECONDS = 0.5
# Where nobody counts for all processes, somebody may begin to.
_ALONE_SECONDS = 60.0
# What was not sent so long after its time may not be sent any more: others send meanwhile.
_SHARE_LASTS_SECONDS = 1.0
# While another client of this process asks for a share, what it gets is looked for this often.
_LOOK_FOR_SHARE_SECONDS = 0.05


@dataclass(frozen=True, slots=True)
class Share:
    """What this process may send of that which all processes of an account may send together.

    Args:
        requests: How many requests.
        starts_in: Seconds until the first of them may go; those that others have asked for before go first.
    """

    requests: int
    starts_in: float


TakeShare = Callable[[], Awaitable[Share | None]]


class Pace:
    """An even pace of requests for one gateway key: that of the slowest client in use."""

    def __init__(self) -> None:
        self._users: weakref.WeakSet[Limiter] = weakref.WeakSet()
        self._lock = threading.Lock()
        self._next_slot = 0.0
        self._paused_until = 0.0
        self._share_left = 0
        self._share_until = 0.0
        self._alone_until = 0.0
        self._somebody_asks = False

    def add(self, limiter: Limiter) -> None:
        """Take a limiter's rate into account for as long as it lives."""
        with self._lock:
            self._users.add(limiter)

    def pause(self, seconds: float) -> None:
        """Let nobody go for that long: the gateway said so."""
        with self._lock:
            self._paused_until = max(self._paused_until, time.monotonic() + min(seconds, _LONGEST_PAUSE_SECONDS))

    def paused_for(self) -> float:
        """Seconds for which nobody may go; 0 when the way is free."""
        return max(0.0, self._paused_until - time.monotonic())

    def take(self) -> float:
        """Take the slot that is due: 0 when taken, else the seconds until one is.

        No slot is taken ahead of time: those who give up waiting would leave theirs unused.
        """
        with self._lock:
            now = time.monotonic()
            if now < self._next_slot:
                return self._next_slot - now
            # A few milliseconds of waking up late are caught up with.
            self._next_slot = max(self._next_slot, now - _LATENESS_SECONDS) + self._seconds_apart()
            self._share_left -= 1
            return 0.0

    def _seconds_apart(self) -> float:
        return 1 / (min(limiter.requests_per_second for limiter in self._users) * _SHARE_OF_RATE)

    def needs_share(self) -> bool:
        """Say whether the next request needs another share, where processes share the pace."""
        now = time.monotonic()
        return now >= self._alone_until and (self._share_left <= 0 or now >= self._share_until)

    async def ask_for_share(self, take_share: TakeShare) -> None:
        """Ask for a share, or wait a moment while another client of this process, in whatever thread, asks for one."""
        with self._lock:
            mine, self._somebody_asks = not self._somebody_asks, True
        if not mine:
            await asyncio.sleep(_LOOK_FOR_SHARE_SECONDS)
            return
        try:
            if self.needs_share():  # nobody has got one just now
                self._got_share(await take_share())
        finally:
            self._somebody_asks = False

    def _got_share(self, share: Share | None) -> None:
        with self._lock:
            now = time.monotonic()
            if share is None:
                self._alone_until = now + _ALONE_SECONDS
                return
            self._share_left = share.requests
            self._next_slot = max(self._next_slot, now + share.starts_in)
            spent_at = self._next_slot + self._share_left * self._seconds_apart()
            self._share_until = spent_at + _SHARE_LASTS_SECONDS


class Quota:
    """Calendly's window of requests for one user, as its `X-RateLimit` headers tell it."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._remaining: int | None = None  # None until an answer has told
        self._resets_at = 0.0
        self._under_way = 0

    def closed_for(self) -> float:
        """Seconds until the window starts anew; 0 while requests are left in it, or nothing is known."""
        if self._remaining is None or self._remaining > 0:
            return 0.0
        return max(0.0, self._resets_at - time.monotonic())

    def take(self) -> float:
        """Take one request out of the window: 0 when taken, else the seconds until the window starts anew."""
        with self._lock:
            if closed := self.closed_for():
                return closed
            if self._remaining is not None:
                # After the reset the old figure means nothing: the next answer tells the new one.
                self._remaining = self._remaining - 1 if time.monotonic() < self._resets_at else None
            self._under_way += 1
            return 0.0

    def answered(self, remaining: int | None, reset_seconds: float | None) -> None:
        """Note that a request has ended, and what its answer said of the window.

        Args:
            remaining: `X-RateLimit-Remaining`, where the answer had it.
            reset_seconds: `X-RateLimit-Reset`: seconds until the window starts anew.
        """
        with self._lock:
            self._under_way = max(0, self._under_way - 1)
            if remaining is not None and reset_seconds is not None:
                # Those under way will be counted too; the last of them to be answered sets the figure right.
                self._remaining = remaining - self._under_way
                self._resets_at = time.monotonic() + min(reset_seconds, _LONGEST_PAUSE_SECONDS)

    def exhausted(self, seconds: float) -> None:
        """Note that the window is used up for that long."""
        with self._lock:
            self._remaining = 0
            self._resets_at = max(self._resets_at, time.monotonic() + min(seconds, _LONGEST_PAUSE_SECONDS))


class Limiter:
    """Both limits of one account together; every request waits here before it is sent."""

    def __init__(
        self, pace: Pace, quota: Quota, requests_per_second: float, take_share: TakeShare | None = None
    ) -> None:
        self.pace = pace
        self.quota = quota
        self.requests_per_second = requests_per_second
        self._take_share = take_share
        pace.add(self)

    async def wait(self) -> None:
        """Wait until a request may go, and count it; `quota.answered` must follow when it has ended.

        Raises:
            RateLimitedError: The limit opens again only after minutes; nothing was sent.
        """
        while True:
            if paused := self.pace.paused_for():  # before anything is taken that would be used up meanwhile
                await self._wait_until_free(paused)
                continue
            if self._take_share and self.pace.needs_share():
                await self.pace.ask_for_share(self._take_share)
                continue
            if until_slot := self.pace.take():
                await asyncio.sleep(until_slot)
                continue
            wait = self.pace.paused_for() or self.quota.take()
            if not wait:
                return
            # Whoever waited here takes a new slot: all go on at the pace, not at once.
            await self._wait_until_free(wait)

    async def _wait_until_free(self, wait: float) -> None:
        while wait > 0:
            if wait > LONGEST_WAIT_SECONDS:
                raise RateLimitedError("An earlier answer closed the limit; nothing was sent", retry_after_seconds=wait)
            await asyncio.sleep(min(wait, _LOOK_AGAIN_SECONDS))
            wait = self.pace.paused_for() or self.quota.closed_for()


_paces: dict[bytes, Pace] = {}
_quotas: dict[bytes, Quota] = {}
_registry_lock = threading.Lock()


def limiter_for(
    base_url: str,
    api_key: str,
    connection_id: str | None,
    requests_per_second: float,
    take_share: TakeShare | None = None,
) -> Limiter:
    """Return a limiter that shares its state with all others of the same account in the process."""
    key = hashlib.sha256(f"{base_url}\n{api_key}".encode()).digest()
    connection = hashlib.sha256(key + (connection_id or "").encode()).digest()
    with _registry_lock:
        pace, quota = _paces.setdefault(key, Pace()), _quotas.setdefault(connection, Quota())
    return Limiter(pace, quota, requests_per_second, take_share)
