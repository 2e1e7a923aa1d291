"""Writes that must not happen twice: after a lost answer, look whether the write took effect."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import TypeVar

from prefect_calendly.client.errors import (
    CalendlyError,
    ExternalCalendarError,
    InvalidAnswerError,
    NetworkError,
    ServerError,
    UnconfirmedWriteError,
)
from prefect_calendly.client.retry import DEFAULT_RETRY, Pause, RetryPolicy, is_redirect, never_sent

T = TypeVar("T")

_LOST_ANSWER = (NetworkError, ServerError, InvalidAnswerError, ExternalCalendarError)


async def confirm_write(
    write: Callable[[], Awaitable[T]],
    look_up: Callable[[], Awaitable[T | None]],
    *,
    retry: RetryPolicy = DEFAULT_RETRY,
    pause: Pause = asyncio.sleep,
) -> T:
    """Send a write until its effect is confirmed; see `CalendlyClient.confirm_write`."""
    lost: CalendlyError | None = None
    attempt = 0
    while True:
        attempt += 1
        try:
            return await write()
        except _LOST_ANSWER as error:
            if is_redirect(error) or (never_sent(error) and lost is None):
                raise
            lost = error
        except CalendlyError:
            # A refusal after a lost answer may mean that the earlier attempt took effect.
            if lost is not None and (found := await _look(look_up, lost)) is not None:
                return found
            raise
        if (found := await _look(look_up, lost)) is not None:
            return found
        if attempt >= retry.write_attempts:
            raise lost
        await pause(retry.backoff(attempt))


async def send_once(
    write: Callable[[], Awaitable[T]],
    look_up: Callable[[], Awaitable[T | None]],
    *,
    retry: RetryPolicy = DEFAULT_RETRY,
    pause: Pause = asyncio.sleep,
) -> T:
    """Send a write once, and after a lost answer only look; see `CalendlyClient.send_once`."""
    try:
        return await write()
    except _LOST_ANSWER as error:
        if is_redirect(error) or never_sent(error):
            raise
        lost = error
    if (found := await _look(look_up, lost)) is not None:
        return found
    for seconds in retry.late_look_pauses():
        await pause(seconds)
        if (found := await _look(look_up, lost)) is not None:
            return found
    raise _unconfirmed(lost, "it is not there so far")


async def _look(look_up: Callable[[], Awaitable[T | None]], lost: CalendlyError) -> T | None:
    try:
        return await look_up()
    except UnconfirmedWriteError:
        raise
    except CalendlyError as error:
        raise _unconfirmed(lost, f"looking it up failed ({error})") from error


def _unconfirmed(lost: CalendlyError, why: str) -> UnconfirmedWriteError:
    return UnconfirmedWriteError(
        f"The answer to a write was lost ({lost}), and {why}", method=lost.method, path=lost.path
    )
