"""The rate limits of the gateway and of Calendly. They go by real time, not by the sandbox's clock."""

from __future__ import annotations

import math
import time
from collections import deque
from collections.abc import Callable

from prefect_calendly.sandbox.errors import Refusal, calendly, gateway
from prefect_calendly.sandbox.options import Options

# Calendly's limits on bookings per user, as (bookings, seconds).
BOOKINGS = ((10, 60), (50, 3600), (100, 86400))
BOOKINGS_ENTERPRISE = ((500, 60),)
WINDOW = 60


class Limits:
    """Counts requests and bookings, and refuses those that exceed a limit.

    Args:
        options: Which limits there are.
        clock: The time in seconds; real time by default.
    """

    def __init__(self, options: Options, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._rps = options.gateway_rps
        self._per_minute = options.calendly_limit
        self._bookings = BOOKINGS_ENTERPRISE if options.plan == "enterprise" else BOOKINGS
        self._tokens: dict[str, tuple[float, float]] = {}
        self._windows: dict[str, tuple[float, int]] = {}
        self._booked: dict[str, deque[float]] = {}

    def gateway(self, key: str) -> None:
        """Count a request of an API key: a bucket of `gateway_rps` tokens, filled at that rate."""
        if not self._rps:
            return
        now, capacity = self._clock(), max(1.0, self._rps)
        tokens, since = self._tokens.get(key, (capacity, now))
        tokens = min(capacity, tokens + (now - since) * self._rps)
        if tokens < 1:
            self._tokens[key] = tokens, now
            raise gateway(429, f"Rate limit of {self._rps:g} requests per second exceeded")
        self._tokens[key] = tokens - 1, now

    def calendly(self, user: str) -> dict[str, str]:
        """Count a request of a user; return the headers for the answer, none if the limit is off."""
        if not self._per_minute:
            return {}
        now = self._clock()
        started, used = self._windows.get(user, (now, 0))
        if now - started >= WINDOW:
            started, used = now, 0
        self._windows[user] = started, used + 1
        headers = _headers(self._per_minute, self._per_minute - used - 1, started + WINDOW - now)
        if used >= self._per_minute:
            raise _exceeded(headers)
        return headers

    def booking(self, user: str) -> None:
        """Count a booking, refused or not, of a user; off together with the limit per minute."""
        if not self._per_minute:
            return
        now = self._clock()
        times = self._booked.setdefault(user, deque())
        while times and now - times[0] >= self._bookings[-1][1]:
            times.popleft()
        for most, seconds in self._bookings:
            recent = [moment for moment in times if now - moment < seconds]
            if len(recent) >= most:
                raise _exceeded(_headers(most, 0, recent[-most] + seconds - now))
        times.append(now)


def _headers(limit: int, remaining: int, reset: float) -> dict[str, str]:
    return {
        "x-ratelimit-limit": str(limit),
        "x-ratelimit-remaining": str(max(0, remaining)),
        # Rounded up, so that nobody comes back too early.
        "x-ratelimit-reset": str(max(1, math.ceil(reset))),
    }


def _exceeded(headers: dict[str, str]) -> Refusal:
    refusal = calendly(429, "Too Many Requests", "You have exceeded the rate limit. Please try again later.")
    refusal.headers |= headers
    return refusal
