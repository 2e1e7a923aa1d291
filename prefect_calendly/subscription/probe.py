"""A signed ping to a receiver of webhooks: whether it can be reached, before Calendly is told to deliver there."""

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

_ANSWER_SECONDS: Final = 10.0
_TRANSIENT: Final = (401, 502, 503, 504)


class ReceiverUnreachableError(CalendlyError):
    """The receiver does not answer to a signed ping: nothing was subscribed."""

    hint = (
        "Start the receiver (python -m prefect_calendly.webhooks --signing-key-block …) with the same Secret block, "
        "and let callback_url lead to it; or switch check_receiver off."
    )


async def ping_receiver(
    url: str, key: SecretStr, *, shown_as: str, patience_seconds: float = 10, pause_seconds: float = 1
) -> None:
    """Make sure that the receiver at a URL answers to a ping that is signed with a key.

    This shows that it can be reached from here, which may not be from outside.

    Args:
        url: Where Calendly delivers.
        key: The signing key.
        shown_as: The URL as errors may show it.
        patience_seconds: How long to repeat what may pass: a receiver takes up a new key within some two seconds.
        pause_seconds: Pause between two pings.

    Raises:
        ReceiverUnreachableError: It does not answer as this package's receiver does.

    Example:
        ```python
        from pydantic import SecretStr

        key = SecretStr("the-key-of-the-subscription")
        await ping_receiver("https://hooks.example.com/calendly", key, shown_as="hooks.example.com")
        ```
    """
    deadline = time.monotonic() + patience_seconds
    with urls_unlogged():
        async with httpx.AsyncClient(timeout=_ANSWER_SECONDS, follow_redirects=False) as http:
            while (problem := await _ping(http, url, key)) is not None:
                what, may_pass = problem
                if not may_pass or time.monotonic() > deadline:
                    raise ReceiverUnreachableError(f"The receiver at {shown_as} {what}: nothing was subscribed")
                await asyncio.sleep(pause_seconds)


async def _ping(http: httpx.AsyncClient, url: str, key: SecretStr) -> tuple[str, bool] | None:
    """Send one ping; return what is wrong and whether that may pass, or None."""
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
        return f"answers HTTP {answer.status_code}", answer.status_code in _TRANSIENT
    try:
        pong = answer.json() == {"status": "pong"}
    except ValueError:
        pong = False
    return None if pong else ("does not answer as a receiver of this package does", False)
