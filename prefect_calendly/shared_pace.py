"""One pace for the flow runs of many processes, counted by a global concurrency limit of Prefect.

Prefect's `rate_limit` would do, were it fair: a process that it turns away waits by chance, and each one turned away
holds up the decay of what is taken (with two processes, one got 3 of 10 requests a second and stood still for 6 s). So
slots are taken ahead of time, a few at once, and those taken before go first. Only where the limit has too few slots
for all processes do they wait until some are free.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from typing import Literal, Protocol

import httpx
from prefect import get_client
from prefect.client.schemas.responses import GlobalConcurrencyLimitResponse
from prefect.context import FlowRunContext, TaskRunContext
from prefect.exceptions import ObjectNotFound
from prefect.logging import get_logger

from prefect_calendly.client.errors import RateLimitedError
from prefect_calendly.client.pace import LONGEST_WAIT_SECONDS, Clock, Share, TakeShare

SHARED_PACE = "calendly-requests"
"""Name of the global concurrency limit: its slots are requests, its slot decay is how many all may send a second."""

# Prefect rounds down what has decayed: the fewer times it does, the less of the pace is lost.
_SHARE_SECONDS = 0.5
_LEAST_SHARE = 5
_LOOK_AGAIN_SECONDS = 5.0
# Prefect's client waits for its server for minutes. Requests to Calendly need not wait for that.
_PATIENCE_SECONDS = 10.0

_logger = get_logger("calendly.pace")


class ConcurrencyLimits(Protocol):
    """What is used of Prefect's client."""

    async def read_global_concurrency_limit_by_name(self, name: str) -> GlobalConcurrencyLimitResponse: ...

    async def increment_concurrency_slots(
        self, names: list[str], slots: int, mode: Literal["rate_limit"]
    ) -> object: ...


class PrefectShares:
    """Takes shares of the pace out of Prefect's global concurrency limit.

    Args:
        connect: Opens a client of Prefect's API.
        clock: What the seconds are counted with.
    """

    def __init__(
        self,
        connect: Callable[[], AbstractAsyncContextManager[ConcurrencyLimits]] = get_client,
        clock: Clock = time.monotonic,
    ) -> None:
        self._connect = connect
        self._clock = clock

    async def __call__(self) -> Share | None:
        """Take the next share; None where there is no such limit, it is off, or Prefect does not answer.

        Raises:
            RateLimitedError: Other runs have taken all of the pace for minutes.
        """
        try:
            async with self._connect() as prefect:
                return await self._share(prefect)
        except ObjectNotFound:
            return None
        except RateLimitedError:
            raise
        except Exception as error:  # trouble of Prefect must not stop requests to Calendly
            _warn_alone(f"could not be asked ({type(error).__name__})")
            return None

    async def _share(self, prefect: ConcurrencyLimits) -> Share | None:
        began = self._clock()
        while True:
            limit, read_at = await _read(prefect), self._clock()
            if not limit.active:
                return None
            decay = limit.slot_decay_per_second
            if not decay or not limit.limit:
                _warn_alone("has no slots" if decay else "has no slot decay")
                return None
            requests = min(limit.limit, max(_LEAST_SHARE, round(decay * _SHARE_SECONDS)))
            full = max(0, limit.active_slots + requests - limit.limit) / decay
            ahead = max(limit.active_slots / decay, read_at - began + full)
            if ahead > LONGEST_WAIT_SECONDS:
                raise RateLimitedError(
                    f"Other runs have taken all of {SHARED_PACE} for so long; nothing was sent",
                    retry_after_seconds=ahead,
                )
            # Where there are too few, Prefect would say no, and forget what has decayed meanwhile.
            if full or not await _taken(prefect, requests):
                pause = min(full or requests / decay, _LOOK_AGAIN_SECONDS)
                await asyncio.sleep(pause * random.uniform(1.0, 1.5))  # noqa: S311
                continue
            then, now = await _read(prefect), self._clock()
            # Processes that ask at the same moment read the same: by chance, one goes before the other.
            turns = read_at + limit.active_slots / decay, now + max(0, then.active_slots - requests) / decay
            return Share(requests, max(0.0, random.uniform(*turns) - now))  # noqa: S311


async def _read(prefect: ConcurrencyLimits) -> GlobalConcurrencyLimitResponse:
    async with asyncio.timeout(_PATIENCE_SECONDS):
        return await prefect.read_global_concurrency_limit_by_name(SHARED_PACE)


async def _taken(prefect: ConcurrencyLimits, requests: int) -> bool:
    """Take slots; False if there are not so many free."""
    try:
        async with asyncio.timeout(_PATIENCE_SECONDS):
            await prefect.increment_concurrency_slots([SHARED_PACE], requests, "rate_limit")
    except httpx.HTTPStatusError as error:
        if error.response.status_code != httpx.codes.LOCKED:
            raise
        return False
    return True


def _warn_alone(why: str) -> None:
    _logger.warning("The limit %s %s: this process keeps its own pace", SHARED_PACE, why)


_SHARES = PrefectShares()


def share_of_run() -> TakeShare | None:
    """Return what takes shares of the pace, in a flow or task run; None elsewhere, where there may be no Prefect."""
    return _SHARES if FlowRunContext.get() or TaskRunContext.get() else None
