"""Time: the sandbox's clock, and times as text."""

from __future__ import annotations

import math
import time
from datetime import UTC, datetime, timedelta
from typing import Any

MAX_SPEED = 1_000_000


class Clock:
    """The sandbox's time: it runs on from where it was set, at a speed of its own, or stands still."""

    def __init__(self, now: datetime | None = None, speed: float = 1) -> None:
        self.frozen = False
        self.speed = speed
        self.set(now or datetime.now(UTC))

    def now(self) -> datetime:
        if self.frozen:
            return self._base
        return self._base + timedelta(seconds=(time.monotonic() - self._since) * self.speed)

    def set(self, now: datetime) -> None:
        self._base = now.astimezone(UTC)
        self._since = time.monotonic()

    def freeze(self, frozen: bool) -> None:
        self.set(self.now())
        self.frozen = frozen

    def run_at(self, speed: float) -> None:
        self.set(self.now())
        self.speed = speed

    def real_seconds_until(self, moment: datetime) -> float | None:
        """Real seconds until the clock shows `moment` at its current speed; None while it stands still."""
        return None if self.frozen else max(0.0, (moment - self.now()).total_seconds() / self.speed)


def check_speed(value: Any) -> float:
    """Check a clock speed: how many seconds of the sandbox's clock pass in one real second."""
    number = isinstance(value, int | float) and not isinstance(value, bool)
    if not number or not math.isfinite(value) or not 0 < value <= MAX_SPEED:
        raise ValueError(f"speed must be a number above 0 and at most {MAX_SPEED}; 1 is real time")
    return float(value)


def iso(moment: datetime) -> str:
    """Format a time as Calendly does: UTC, six fractional digits, `Z`."""
    return moment.astimezone(UTC).isoformat(timespec="microseconds")[:-6] + "Z"


def parse_time(value: str | datetime) -> datetime:
    """Read an ISO 8601 text, or take a datetime; UTC is assumed where there is no offset."""
    if not isinstance(value, str | datetime):
        raise ValueError(f"a time must be an ISO 8601 string such as 2025-03-14T15:00:00Z, not {value!r}")
    moment = datetime.fromisoformat(value) if isinstance(value, str) else value
    return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).astimezone(UTC)
