"""When the next request may go: the gateway's rate per key, Calendly's quota per connection.

The state is shared by every client of the process that uses the same account, in whatever thread or event loop.
Between processes somebody else has to count: see `Share`.
"""

from __future__ import annotations

import asyncio
import hashlib
import math
import threading
import time
import weakref
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Final, Self

from prefect_calendly.client.errors import RateLimitedError

Clock = Callable[[], float]
"""Seconds of a clock that never goes back, such as `time.monotonic`."""

# A request that would have to wait longer is refused instead.
LONGEST_WAIT_SECONDS: Final = 300.0
# No header closes a limit for longer: one odd figure must not close an account for good.
_LONGEST_PAUSE_SECONDS: Final = 3600.0
# The gateway counts by the second: a 429 that names no time has passed after this long.
_UNNAMED_WAIT_SECONDS: Final = 1.0

# The gateway counts by its own clock, behind a network that can bunch requests up: stay a little below the limit.
_SHARE_OF_RATE: Final = 0.97
_LATENESS_SECONDS: Final = 0.005
# A waiting request looks again this often: an answer that comes meanwhile can change how long it must wait.
_LOOK_AGAIN_SECONDS: Final = 0.5
# A limiter whose last request is longer ago than this slows no other of the same key.
_IN_USE_SECONDS: Final = 5.0
# Where nobody counts for all processes, look after this long whether somebody does by now.
_ALONE_SECONDS: Final = 60.0
# A share that was not used this long after its time is void: other processes send meanwhile.
_SHARE_LASTS_SECONDS: Final = 1.0
# While another client of this process asks for a share, look this often whether it has got one.
_LOOK_FOR_SHARE_SECONDS: Final = 0.05
# Whoever has asked for a share for longer may have ended together with its event loop: the next one asks.
_ASKING_SECONDS: Final = 60.0


@dataclass(frozen=True, slots=True)
class RateLimit:
    """What the headers of one answer say of a limit; None where they say nothing, or no number.

    Attributes:
        limit: `X-RateLimit-Limit`: requests a window.
        remaining: `X-RateLimit-Remaining`: requests left in this window.
        reset_seconds: `X-RateLimit-Reset`: seconds until the window starts anew.
        retry_after_seconds: `Retry-After`: seconds to wait. A date counts as nothing: `reset_seconds` holds then.
    """

    limit: int | None = None
    remaining: int | None = None
    reset_seconds: float | None = None
    retry_after_seconds: float | None = None

    @classmethod
    def from_headers(cls, headers: Mapping[str, str]) -> Self:
        """Read the headers of an answer; their names may be in any case that `headers` finds them in."""
        limit, remaining = _number(headers, "X-RateLimit-Limit"), _number(headers, "X-RateLimit-Remaining")
        return cls(
            limit=None if limit is None else int(limit),
            remaining=None if remaining is None else int(remaining),
            reset_seconds=_number(headers, "X-RateLimit-Reset"),
            retry_after_seconds=_number(headers, "Retry-After"),
        )

    @property
    def of_window(self) -> bool:
        """Whether a window is meant, as Calendly has them; the gateway's own 429 names none."""
        return self.reset_seconds is not None

    @property
    def wait_seconds(self) -> float:
        """Seconds to wait after a 429."""
        for seconds in (self.retry_after_seconds, self.reset_seconds):
            if seconds is not None:
                return seconds
        return _UNNAMED_WAIT_SECONDS


def _number(headers: Mapping[str, str], name: str) -> float | None:
    try:
        number = float(headers[name])
    except (KeyError, ValueError):
        return None
    return max(0.0, number) if math.isfinite(number) else None


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
"""Asks for the next share; None where nobody counts for all processes."""


class Pace:
    """An even pace of requests for one gateway key: that of the slowest limiter in use."""

    def __init__(self, clock: Clock = time.monotonic) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._in_use_until: weakref.WeakKeyDictionary[Limiter, float] = weakref.WeakKeyDictionary()
        self._next_slot = 0.0
        self._paused_until = 0.0
        self._share_left = 0
        self._share_until = 0.0
        self._alone_until = 0.0
        self._asking_until = 0.0

    def pause(self, seconds: float) -> None:
        """Let no request go for that long: the gateway said so."""
        with self._lock:
            self._paused_until = max(self._paused_until, self._clock() + min(seconds, _LONGEST_PAUSE_SECONDS))

    def paused_for(self) -> float:
        """Return the seconds for which no request may go; 0 when the way is free."""
        return max(0.0, self._paused_until - self._clock())

    def take(self, limiter: Limiter) -> float:
        """Take the slot that is due: 0 when taken, else the seconds until one is.

        No slot is taken ahead of time: those who give up waiting would leave theirs unused.
        """
        with self._lock:
            now = self._clock()
            self._use(limiter, now)
            if now < self._next_slot:
                return self._next_slot - now
            # A few milliseconds of waking up late are caught up with.
            self._next_slot = max(self._next_slot, now - _LATENESS_SECONDS) + self._seconds_apart(now)
            self._share_left -= 1
            return 0.0

    def _use(self, limiter: Limiter, now: float) -> None:
        """Count a limiter's rate while it waits for the next slot, and a few seconds more."""
        self._in_use_until[limiter] = max(now, self._next_slot) + _IN_USE_SECONDS

    def _seconds_apart(self, now: float) -> float:
        slowest = min(each.requests_per_second for each, until in self._in_use_until.items() if now < until)
        return 1 / (slowest * _SHARE_OF_RATE)

    def needs_share(self) -> bool:
        """Return whether the next request needs another share, where processes share the pace."""
        now = self._clock()
        return now >= self._alone_until and (self._share_left <= 0 or now >= self._share_until)

    async def ask_for_share(self, limiter: Limiter, take_share: TakeShare) -> None:
        """Ask for a share, or wait a moment while another client of this process, in whatever thread, asks for one."""
        with self._lock:
            now = self._clock()
            others_ask = now < self._asking_until
            if not others_ask:
                mine = self._asking_until = now + _ASKING_SECONDS
        if others_ask:
            await asyncio.sleep(_LOOK_FOR_SHARE_SECONDS)
            return
        try:
            if self.needs_share():  # nobody has got one just now
                self._got_share(await take_share(), limiter)
        finally:
            with self._lock:
                if self._asking_until == mine:
                    self._asking_until = 0.0

    def _got_share(self, share: Share | None, limiter: Limiter) -> None:
        with self._lock:
            now = self._clock()
            if share is None:
                self._alone_until = now + _ALONE_SECONDS
                return
            self._share_left = share.requests
            self._next_slot = max(self._next_slot, now + share.starts_in)
            self._use(limiter, now)
            spent_at = self._next_slot + self._share_left * self._seconds_apart(now)
            self._share_until = spent_at + _SHARE_LASTS_SECONDS


class Quota:
    """A window of requests, such as Calendly's for one user, as the `X-RateLimit` headers tell it."""

    def __init__(self, clock: Clock = time.monotonic) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._remaining: int | None = None  # None until an answer has said it
        self._resets_at = 0.0
        self.under_way = 0

    def closed_for(self) -> float:
        """Return the seconds until the window starts anew; 0 while requests are left in it, or nothing is known."""
        if self._remaining is None or self._remaining > 0:
            return 0.0
        return max(0.0, self._resets_at - self._clock())

    def take(self) -> float:
        """Take one request out of the window: 0 when taken, else the seconds until the window starts anew."""
        with self._lock:
            if closed := self.closed_for():
                return closed
            if self._remaining is not None:
                # After the reset the old figure means nothing: the next answer brings the new one.
                self._remaining = self._remaining - 1 if self._clock() < self._resets_at else None
            self.under_way += 1
            return 0.0

    def answered(self, said: RateLimit) -> None:
        """Note that a request has ended, and what its answer said of the window; `RateLimit()` for nothing."""
        with self._lock:
            self.under_way = max(0, self.under_way - 1)
            if said.remaining is not None and said.reset_seconds is not None:
                # Those under way will be counted too; the last of them to be answered sets the figure right.
                self._remaining = said.remaining - self.under_way
                self._resets_at = self._clock() + min(said.reset_seconds, _LONGEST_PAUSE_SECONDS)

    def exhausted(self, seconds: float) -> None:
        """Note that the window is used up for that long."""
        with self._lock:
            self._remaining = 0
            self._resets_at = max(self._resets_at, self._clock() + min(seconds, _LONGEST_PAUSE_SECONDS))


class Limiter:
    """A pace and a quota together: every request waits here before it is sent."""

    def __init__(
        self, pace: Pace, quota: Quota, requests_per_second: float, take_share: TakeShare | None = None
    ) -> None:
        self.pace = pace
        self.quota = quota
        self.requests_per_second = requests_per_second
        self._take_share = take_share

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
                await self.pace.ask_for_share(self, self._take_share)
                continue
            if until_slot := self.pace.take(self):
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


class Limits:
    """The pace of every key and the quota of every window behind it, for all clients that are given this object.

    Args:
        clock: What the limits run on.
    """

    def __init__(self, clock: Clock = time.monotonic) -> None:
        self.clock = clock
        self._lock = threading.Lock()
        self._paces: dict[bytes, Pace] = {}
        self._quotas: dict[bytes, Quota] = {}

    def limiter(
        self,
        gateway_url: str,
        api_key: str,
        window: str,
        requests_per_second: float,
        take_share: TakeShare | None = None,
    ) -> Limiter:
        """Return a limiter that shares its state with all others of the same account.

        Args:
            gateway_url: Base URL of the gateway that counts the pace.
            api_key: The key that it counts; only its hash is kept.
            window: What has a quota of its own behind this key: a connection, or another host.
            requests_per_second: The pace that this limiter allows.
            take_share: Asks for a share of the pace, where processes share it.
        """
        key = hashlib.sha256(f"{gateway_url}\n{api_key}".encode()).digest()
        counted = hashlib.sha256(key + window.encode()).digest()
        with self._lock:
            pace = self._paces.setdefault(key, Pace(self.clock))
            quota = self._quotas.setdefault(counted, Quota(self.clock))
        return Limiter(pace, quota, requests_per_second, take_share)

    def clear(self) -> None:
        """Forget all pauses and quotas, for a gateway that has forgotten them too, as a sandbox does at a reset."""
        with self._lock:
            self._paces.clear()
            self._quotas.clear()


PROCESS_LIMITS: Final = Limits()
"""The limits of this process: what a client uses unless it is given others."""
