"""How often and after which pauses a client repeats what is safe to repeat."""

from __future__ import annotations

import random
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass
from typing import Any, Final

from prefect_calendly.client.errors import (
    CalendlyError,
    ExternalCalendarError,
    InvalidAnswerError,
    NetworkError,
    RateLimitedError,
    ServerError,
)
from prefect_calendly.client.pace import LONGEST_WAIT_SECONDS, Clock
from prefect_calendly.client.transport import Request, Transport

Pause = Callable[[float], Awaitable[None]]
"""Waits for that many seconds."""

# A limit that names no time opens at some moment: look often enough to lose little of what it allows.
LONGEST_LIMITED_BACKOFF_SECONDS: Final = 5.0


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """How often a client repeats a request, and how long it pauses before each repeat.

    Args:
        attempts: How often a read is sent at most, the first time included; also a write that never left this machine.
        write_attempts: How often `confirm_write` sends a write at most.
        late_looks: How often `send_once` looks again for the effect of a write whose answer was lost.
        first_backoff_seconds: Longest pause before the first repeat; it doubles with each failure. The pauses of
            `send_once` are 2, 4, 8, … times this.
        longest_backoff_seconds: Longest pause before any repeat.

    Raises:
        ValueError: A figure is out of range.

    Example:
        ```python
        patient = RetryPolicy(attempts=8, longest_backoff_seconds=60)
        async with CalendlyClient(api_key, retry=patient) as client:
            answer = await client.request("GET", "/users/me")
        ```
    """

    attempts: int = 4
    write_attempts: int = 3
    late_looks: int = 4
    first_backoff_seconds: float = 0.5
    longest_backoff_seconds: float = 20.0

    def __post_init__(self) -> None:
        if self.attempts < 1 or self.write_attempts < 1:
            raise ValueError("attempts and write_attempts must be at least 1")
        if self.late_looks < 0 or self.first_backoff_seconds < 0 or self.longest_backoff_seconds < 0:
            raise ValueError("late_looks, first_backoff_seconds and longest_backoff_seconds cannot be below 0")

    def backoff(self, failures: int) -> float:
        """Return the seconds to pause after that many failures in a row."""
        return self._jittered(failures, self.longest_backoff_seconds)

    def limited_backoff(self, refusals: int) -> float:
        """Return the seconds to pause after that many 429 in a row that name no time."""
        return self._jittered(refusals, min(self.longest_backoff_seconds, LONGEST_LIMITED_BACKOFF_SECONDS))

    def late_look_pauses(self) -> Iterator[float]:
        """Yield the seconds before each late look of `send_once`."""
        for number in range(1, self.late_looks + 1):
            yield self.first_backoff_seconds * 2**number

    def _jittered(self, failures: int, longest: float) -> float:
        # Full jitter, so that many callers do not come back at the same moment.
        longest = min(longest, self.first_backoff_seconds * 2 ** (failures - 1))
        return float(random.uniform(0.1, 1.0) * longest)  # noqa: S311


DEFAULT_RETRY: Final = RetryPolicy()


def never_sent(error: CalendlyError) -> bool:
    """Return whether the request certainly never left this machine."""
    return isinstance(error, NetworkError) and not error.maybe_sent


def is_redirect(error: CalendlyError) -> bool:
    """Return whether the error is a refused redirect: repeating does not help."""
    return error.status is not None and 300 <= error.status < 400


async def send_with_retries(
    transport: Transport, request: Request, policy: RetryPolicy, clock: Clock, pause: Pause
) -> Any:
    """Send a request, and repeat it where that is safe; see `CalendlyClient.request`."""
    failures = limited = 0
    limited_since = 0.0
    while True:
        try:
            return await transport.send(request, repeat=bool(failures + limited))
        except RateLimitedError as error:
            limited += 1
            limited_since = limited_since or clock()
            named = error.retry_after_seconds or 0.0
            wait = max(named, policy.limited_backoff(limited) if limited > 1 else 0.0)
            if clock() - limited_since + wait > LONGEST_WAIT_SECONDS:
                raise
            # The limiter makes all requests wait as long as the answer named; only what goes beyond is waited here.
            await pause(wait if request.is_booking else wait - named)
        except (NetworkError, ServerError, ExternalCalendarError, InvalidAnswerError) as error:
            failures += 1
            safe = request.method == "GET" or never_sent(error)
            if failures >= policy.attempts or is_redirect(error) or not safe:
                raise
            await pause(policy.backoff(failures))
