"""Writes that must not happen twice: after a lost answer, look at the state."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import TypeVar

from prefect_calendly.client import retry
from prefect_calendly.client.errors import (
    CalendlyError,
    ExternalCalendarError,
    InvalidAnswerError,
    NetworkError,
    ServerError,
    UnconfirmedWriteError,
)
from prefect_calendly.client.meter import waiting

T = TypeVar("T")


async def settle(
    write: Callable[[], Awaitable[T]], look_up: Callable[[], Awaitable[T | None]], *, repeat: bool = True
) -> T:
    """Do a write that must not happen twice: after a lost answer, look at the state.

    Args:
        write: Sends the request.
        look_up: Returns the effect of the write if it is there, None if it is not.
        repeat: Whether to send it again once it is known not to be there. A write that can take effect late, and
            twice, is looked for some 15 seconds instead, and never sent again.

    Returns:
        What the write returned, or what was found.

    Raises:
        UnconfirmedWriteError: The answer was lost, and so far the effect was not found, or could not be looked up.
        CalendlyError: The write was refused, or it failed as often as allowed and is not there.
    """
    lost: CalendlyError | None = None

    def unconfirmed(why: str) -> UnconfirmedWriteError:
        return UnconfirmedWriteError(
            f"The answer to a write was lost ({lost}), and {why}",
            method=lost.method if lost else None,
            path=lost.path if lost else None,
        )

    async def look() -> T | None:
        try:
            return await look_up()
        except UnconfirmedWriteError:
            raise
        except CalendlyError as error:
            raise unconfirmed(f"looking it up failed ({error})") from error

    for attempt in range(1, (retry.WRITE_ATTEMPTS if repeat else 1) + 1):
        try:
            return await write()
        except (NetworkError, ServerError, InvalidAnswerError, ExternalCalendarError) as error:
            if retry.is_redirect(error) or (retry.never_sent(error) and lost is None):
                raise
            lost = error
        except CalendlyError:
            # Refused. If an earlier answer was lost, the refusal may mean that the write is there already.
            if lost is not None and (found := await look()) is not None:
                return found
            raise
        if (found := await look()) is not None:
            return found
        if repeat and attempt < retry.WRITE_ATTEMPTS:
            with waiting():
                await asyncio.sleep(retry.backoff(attempt))
    assert lost is not None  # noqa: S101  (there was at least one attempt)
    if repeat:
        raise lost
    for number in range(1, retry.LATE_LOOKS + 1):
        with waiting():
            await asyncio.sleep(retry.FIRST_BACKOFF_SECONDS * 2**number)
        if (found := await look()) is not None:
            return found
    raise unconfirmed("it is not there so far")
