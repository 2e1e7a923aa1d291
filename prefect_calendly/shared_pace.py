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

import httpx
from prefect import get_client
from prefect.client.orchestration import PrefectClient
from prefect.client.schemas.responses import GlobalConcurrencyLimitResponse
from prefect.context import FlowRunContext, TaskRunContext
from prefect.exceptions import ObjectNotFound
from prefect.logging import get_logger

from prefect_calendly.client.errors import RateLimitedError
from prefect_calendly.client.pace import LONGEST_WAIT_SECONDS, Share, TakeShare

SHARED_PACE = "calendly-requests"
"""Name of the global concurrency limit: its slots are requests, its slot decay is how many all may send a second."""

# Prefect rounds down what has decayed: the fewer times it does, the less of the pace is lost.
_SHARE_SECONDS = 0.5
_LEAST_SHARE = 5
_LOOK_AGAIN_SECONDS = 5.0
# Prefect's client is patient with its server for minutes. Calendly need not wait for that.
_PATIENCE_SECONDS = 10.0

_logger = get_logger("calendly.pace")


def share_of_run() -> TakeShare | None:
    """Return what asks for shares of the pace, in a flow or task run; None elsewhere, where there may be no Prefect."""
    return _take_share if FlowRunContext.get() or TaskRunContext.get() else None


async def _take_share() -> Share | None:
    try:
        async with get_client() as client:
            return await _share(client)
    except ObjectNotFound:
        return None
    except RateLimitedError:
        raise
    except Exception as error:  # whatever Prefect's trouble is, it is not Calendly's
        _tell_alone(f"could not be asked ({type(error).__name__})")
        return None


def _tell_alone(why: str) -> None:
    _logger.warning("The limit %s %s: this process keeps its own pace", SHARED_PACE, why)


async def _share(client: PrefectClient) -> Share | None:
    began = time.monotonic()
    while True:
        limit, read_at = await _read(client), time.monotonic()
        if not limit.active:
            return None
        decay = limit.slot_decay_per_second
        if not decay or not limit.limit:
            _tell_alone("has no slots" if decay else "has no slot decay")
            return None
        requests = min(limit.limit, max(_LEAST_SHARE, round(decay * _SHARE_SECONDS)))
        full = max(0, limit.active_slots + requests - limit.limit) / decay
        ahead = max(limit.active_slots / decay, read_at - began + full)
        if ahead > LONGEST_WAIT_SECONDS:
            raise RateLimitedError(
                f"Other runs have taken all of {SHARED_PACE} for so long; nothing was sent", retry_after_seconds=ahead
            )
        # Where there are too few, Prefect would say no, and forget what has decayed meanwhile.
        if full or not await _taken(client, requests):
            await asyncio.sleep(min(full or requests / decay, _LOOK_AGAIN_SECONDS) * random.uniform(1.0, 1.5))  # noqa: S311
            continue
        then, now = await _read(client), time.monotonic()
        # Who has asked at the same moment reads the same. By chance, one goes before the other, not both at once.
        turns = read_at + limit.active_slots / decay, now + max(0, then.active_slots - requests) / decay
        return Share(requests, max(0.0, random.uniform(*turns) - now))  # noqa: S311


async def _read(client: PrefectClient) -> GlobalConcurrencyLimitResponse:
    async with asyncio.timeout(_PATIENCE_SECONDS):
        return await client.read_global_concurrency_limit_by_name(SHARED_PACE)


async def _taken(client: PrefectClient, requests: int) -> bool:
    """Take slots; False if there are not so many free."""
    try:
        async with asyncio.timeout(_PATIENCE_SECONDS):
            await client.increment_concurrency_slots([SHARED_PACE], requests, "rate_limit")
    except httpx.HTTPStatusError as error:
        if error.response.status_code != httpx.codes.LOCKED:
            raise
        return False
    return True
