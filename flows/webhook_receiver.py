"""Proof that a receiver of webhooks can be reached: a signed ping, before anything is subscribed."""

from __future__ import annotations

import asyncio
import json
import time
from datetime import UTC, datetime
from typing import Final

import httpx
from pydantic import SecretStr

from prefect_calendly.client.errors import CalendlyError
from prefect_calendly.runs.quiet_logs import urls_unlogged
from prefect_calendly.webhooks.deliveries import PING
from prefect_calendly.webhooks.signature import HEADER, sign

# A receiver takes up a new key within some two seconds.
_PATIENCE_SECONDS: float = 10
_PAUSE_SECONDS: float = 1
_ANSWER_SECONDS: Final = 10.0
_PASSING: Final = (401, 502, 503, 504)


class ReceiverUnreachableError(CalendlyError):
    """The receiver does not answer to a signed delivery: nothing was subscribed."""

    hint = (
        "Start the receiver (python -m prefect_calendly.webhooks --signing-key-block …) with the same Secret block, "
        "and let callback_url lead to it; or switch check_receiver off."
    )


async def prove(url: str, shown: str, key: SecretStr) -> None:
    """Make sure that the receiver at a URL answers to a ping that is signed with a key.

    It proves that the receiver can be reached from here, which may not be from outside.

    Args:
        url: Where deliveries go.
        shown: What may be shown of it.
        key: The signing key.

    Raises:
        ReceiverUnreachableError: It does not, after some seconds.
    """
    deadline = time.monotonic() + _PATIENCE_SECONDS
    with urls_unlogged():
        async with httpx.AsyncClient(timeout=_ANSWER_SECONDS, follow_redirects=False) as http:
            while (problem := await _ping(http, url, key)) is not None:
                words, passing = problem
                if not passing or time.monotonic() > deadline:
                    raise ReceiverUnreachableError(f"The receiver at {shown} {words}: nothing was subscribed")
                await asyncio.sleep(_PAUSE_SECONDS)


async def _ping(http: httpx.AsyncClient, url: str, key: SecretStr) -> tuple[str, bool] | None:
    """Send one ping; say what is wrong, and whether that may pass."""
    now = datetime.now(UTC)
    body = json.dumps({"event": PING, "created_at": now.isoformat(), "payload": {}}).encode()
    headers = {"content-type": "application/json", HEADER: sign(body, key, now)}
    try:
        async with asyncio.timeout(_ANSWER_SECONDS):
            answer = await http.post(url, content=body, headers=headers)
    except (httpx.HTTPError, OSError, TimeoutError) as error:
        return f"gives no answer ({type(error).__name__})", True
    if answer.status_code == 401:
        return "does not accept the signing key (HTTP 401)", True
    if answer.status_code != 200:
        return f"answers HTTP {answer.status_code}", answer.status_code in _PASSING
    try:
        pong = answer.json() == {"status": "pong"}
    except ValueError:
        pong = False
    return None if pong else ("answers like something else than a receiver", False)
