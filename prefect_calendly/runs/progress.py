"""How far a run has come: a percentage in the Prefect UI, and a line in the log now and then."""

from __future__ import annotations

import asyncio
import contextlib
import math
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Final
from uuid import UUID

from prefect.artifacts import acreate_progress_artifact, aupdate_progress_artifact

from prefect_calendly.client import RequestMeter
from prefect_calendly.runs.logger import run_logger
from prefect_calendly.runs.markdown import escape, pluralize


@dataclass(frozen=True)
class Timing:
    """When progress is shown; all in seconds."""

    first_after: float = 2.0
    """Work that is over sooner shows nothing."""
    between_updates: float = 2.0
    between_log_lines: float = 10.0
    at_end: float = 5.0
    """How long a run waits at most until its last percentage is shown."""


DEFAULT_TIMING: Final = Timing()


@dataclass
class Steps:
    """How much work there is, counted in requests: they take the time, and are counted anyway."""

    meter: RequestMeter
    total: int = 0
    """Requests that the work takes, as far as is known; 0: not known."""
    is_over: bool = False
    _before: int = field(init=False)

    def __post_init__(self) -> None:
        self._before = self._sent

    @property
    def _sent(self) -> int:
        return self.meter.requests - self.meter.repeats

    @property
    def done(self) -> int:
        """Requests that were sent, without repeats."""
        return self._sent - self._before

    @property
    def percent(self) -> int:
        """How much is done, in percent; 100 only at the end, because the total is an estimate."""
        if self.is_over:
            return 100
        return min(99, 100 * self.done // self.total) if self.total else 0

    @property
    def in_words(self) -> str:
        """How much is done, such as `43 %, 412 of about 960 requests`."""
        if self.is_over:
            return f"done, {pluralize(self.done, 'request')}"
        if not self.total:
            return f"{pluralize(self.done, 'request')} so far"
        return f"{self.percent} %, {self.done} of about {pluralize(self.total, 'request')}"

    def expect(self, more: int) -> None:
        """Correct the total: this many requests are still to come."""
        self.total = self.done + more


@contextlib.asynccontextmanager
async def progress(
    key: str, what: str, meter: RequestMeter, total: int = 0, *, timing: Timing = DEFAULT_TIMING
) -> AsyncIterator[Steps]:
    """Show how far the work inside the block is, if it takes more than a moment.

    Args:
        key: Key of the progress artifact.
        what: What is being done, such as `Reading the invitees of 4,000 events`.
        meter: Counts the requests of the work.
        total: How many requests it takes; can be corrected later, on what this yields.
        timing: When progress is shown.

    Returns:
        The steps of the work.

    Example:
        ```python
        events = await alist_scheduled_events(credentials, user="AAAAAAAAAAAAAAAA")
        with count_requests() as meter:
            async with progress("reading", "Reading the invitees", meter, len(events)):
                found = await alist_invitees_of_events(credentials, events)
        ```
    """
    steps, end = Steps(meter, total), asyncio.Event()
    showing = asyncio.create_task(_show(key, what, steps, end, timing))
    try:
        yield steps
        steps.is_over = True
    finally:
        end.set()
        # Not canceled at once: an artifact that is being created would stay at its first percentage.
        await asyncio.wait([showing], timeout=timing.at_end)
        showing.cancel()


async def _show(key: str, what: str, steps: Steps, end: asyncio.Event, timing: Timing) -> None:
    artifact: UUID | None = None
    began, logged = time.monotonic(), -math.inf
    pause = timing.first_after
    while not await _comes_within(pause, end):
        pause = timing.between_updates
        # Failing to show progress must not fail the work.
        with contextlib.suppress(Exception):
            now = time.monotonic()
            if now - logged >= timing.between_log_lines:
                logged = now
                run_logger().info("%s: %s, %.0f s", what, steps.in_words, now - began)
            # The list of a run's artifacts shows the description only.
            description = escape(f"{what}: {steps.in_words}")
            if artifact is None:
                artifact = await acreate_progress_artifact(steps.percent, key=key, description=description)
            else:
                await aupdate_progress_artifact(artifact, steps.percent, description)
    if artifact is not None:
        with contextlib.suppress(Exception):
            await aupdate_progress_artifact(artifact, steps.percent, escape(f"{what}: {steps.in_words}"))


async def _comes_within(seconds: float, event: asyncio.Event) -> bool:
    with contextlib.suppress(TimeoutError):
        await asyncio.wait_for(event.wait(), seconds)
    return event.is_set()
