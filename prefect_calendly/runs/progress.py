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
from prefect_calendly.runs.markdown import pluralize

# A run that is over sooner shows no percentage.
_PATIENCE_SECONDS: Final = 2.0
_BETWEEN_UPDATES_SECONDS: Final = 2.0
_BETWEEN_LINES_SECONDS: Final = 10.0
# How long a run waits for its last percentage to be shown.
_LAST_SECONDS: Final = 5.0


@dataclass
class Steps:
    """How much there is to do, counted in requests: what takes the time, and is counted anyway."""

    meter: RequestMeter
    total: int = 0
    is_over: bool = False
    _before: int = field(init=False)

    def __post_init__(self) -> None:
        self._before = self._sent

    @property
    def _sent(self) -> int:
        return self.meter.requests - self.meter.repeats

    @property
    def done(self) -> int:
        """How many requests were sent; repeats do not count."""
        return self._sent - self._before

    @property
    def percent(self) -> int:
        """How much is done, in per cent; 100 only when it is over, for the total is an estimate."""
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
        """Set the total to what is done and this many more."""
        self.total = self.done + more


@contextlib.asynccontextmanager
async def progress(key: str, what: str, meter: RequestMeter, total: int = 0) -> AsyncIterator[Steps]:
    """Show how far the work inside the block is, if it lasts.

    Args:
        key: Key of the progress artifact.
        what: What is being done, such as `Reading the invitees of 4,000 events`.
        meter: Counts the requests of the work.
        total: How many requests it takes; may be set later, on what this yields.

    Returns:
        The steps, of which the total can be corrected as more is known.

    Example:
        ```python
        events = await alist_scheduled_events(credentials, user="AAAAAAAAAAAAAAAA")
        with count_requests() as meter:
            async with progress("reading", "Reading the invitees", meter, len(events)):
                found = await alist_invitees_of_events(credentials, events)
        ```
    """
    steps, end = Steps(meter, total), asyncio.Event()
    showing = asyncio.create_task(_show(key, what, steps, end))
    try:
        yield steps
        steps.is_over = True
    finally:
        end.set()
        # Not canceled at once: an artifact that is just being made would be left at its first percentage.
        await asyncio.wait([showing], timeout=_LAST_SECONDS)
        showing.cancel()


async def _show(key: str, what: str, steps: Steps, end: asyncio.Event) -> None:
    artifact: UUID | None = None
    began, said = time.monotonic(), -math.inf
    pause = _PATIENCE_SECONDS
    while not await _comes_within(pause, end):
        pause = _BETWEEN_UPDATES_SECONDS
        # What is shown is worth less than what is done: a failure here is no failure of the run.
        with contextlib.suppress(Exception):
            now = time.monotonic()
            if now - said >= _BETWEEN_LINES_SECONDS:
                said = now
                run_logger().info("%s: %s, %.0f s", what, steps.in_words, now - began)
            # In the description too: the list of a run's artifacts shows nothing else.
            description = f"{what}: {steps.in_words}"
            if artifact is None:
                artifact = await acreate_progress_artifact(steps.percent, key=key, description=description)
            else:
                await aupdate_progress_artifact(artifact, steps.percent, description)
    if artifact is not None:
        with contextlib.suppress(Exception):
            await aupdate_progress_artifact(artifact, steps.percent, f"{what}: {steps.in_words}")


async def _comes_within(seconds: float, event: asyncio.Event) -> bool:
    with contextlib.suppress(TimeoutError):
        await asyncio.wait_for(event.wait(), seconds)
    return event.is_set()
