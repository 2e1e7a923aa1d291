"""One pace for the flow runs of many processes, counted by a global concurrency limit of Prefect.

Prefect's `rate_limit` would do, were it fair: a process that it turns away waits by chance, and each one turned away
holds up the decay of what is taken (with two processes, one got 3 of 10 requests a second and stood still for 6 s). So
nobody is turned away here. Slots are taken ahead of time, a few at once, and those taken before go first.
"""

from __future__ import annotations

import asyncio
import random

import httpx
from prefect import get_client
from prefect.client.schemas.responses import GlobalConcurrencyLimitResponse
from prefect.context import FlowRunContext, TaskRunContext
from prefect.exceptions import ObjectNotFound
from prefect.logging import get_logger

from prefect_calendly.pace import Share, TakeShare

SHARED_PACE = "calendly-requests"
"""Name of the global concurrency limit: its slots are requests, its slot decay is how many all may send a second."""

# Prefect rounds down what has decayed: the fewer times it does, the less of the pace is lost.
_SHARE_SECONDS = 0.5

_logger = get_logger("calendly.pace")


def share_of_run() -> TakeShare | None:
    """Return what asks for shares of the pace, in a flow or task run; None elsewhere, where there may be no Prefect."""
    return _take_share if FlowRunContext.get() or TaskRunContext.get() else None


async def _take_share() -> Share | None:
    try:
        async with get_client() as client:
            while True:
                limit = await client.read_global_concurrency_limit_by_name(SHARED_PACE)
                if not limit.active:
                    return None
                if not limit.slot_decay_per_second:
                    _logger.warning("The limit %s has no slot decay: this process keeps its own pace", SHARED_PACE)
                    return None
                requests = _chunk(limit)
                if full := max(0, limit.active_slots + requests - limit.limit):
                    # Prefect would say no, and forget what has decayed meanwhile.
                    await asyncio.sleep(full / limit.slot_decay_per_second * random.uniform(1.0, 1.5))  # noqa: S311
                    continue
                try:
                    await client.increment_concurrency_slots([SHARED_PACE], requests, "rate_limit")
                except httpx.HTTPStatusError as error:
                    if error.response.status_code != httpx.codes.LOCKED:
                        raise
                    continue  # somebody was faster: it is full now
                return Share(requests, limit.active_slots / limit.slot_decay_per_second)
    except ObjectNotFound:
        return None
    except Exception as error:  # whatever Prefect's trouble is, it is not Calendly's
        _logger.warning(
            "The limit %s could not be asked (%s): this process keeps its own pace", SHARED_PACE, type(error).__name__
        )
        return None


def _chunk(limit: GlobalConcurrencyLimitResponse) -> int:
    return max(1, min(limit.limit, round(limit.slot_decay_per_second * _SHARE_SECONDS)))
