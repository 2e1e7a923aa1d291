"""The receiver's connection to Prefect: it gives up in time, and tells a refusal from an outage."""

from __future__ import annotations

import asyncio
import contextvars
import itertools
import time
from collections.abc import Awaitable, Callable, Collection, Iterator, Mapping, Sequence
from types import TracebackType
from typing import Any, Final, TypeVar
from uuid import UUID

import httpx
from prefect.client.orchestration import PrefectClient, get_client
from prefect.exceptions import ObjectNotFound
from prefect.settings import PREFECT_CLIENT_MAX_RETRIES, get_current_settings, temporary_settings

from prefect_calendly.events.prefect_api import known_events
from prefect_calendly.webhooks.errors import PrefectUnavailableError

T = TypeVar("T")

_REFUSED: Final = (400, 413, 422)  # what is sent is at fault; all else may pass
_PAUSES_SECONDS: Final = (0.1, 0.3, 1.0)
_ASIDE_SECONDS: Final = 3.0  # for what nobody waits for longer
_MOST_EVENTS: Final = 200
_MOST_BYTES: Final = 2 * 1024 * 1024


class PrefectConnection:
    """One client of the Prefect API for the whole process.

    Prefect's client repeats for minutes, and nobody who delivers waits as long. Here a call is repeated for
    `within_seconds`; while Prefect is known to be away, it is tried once.

    Args:
        within_seconds: How long a call may take.
    """

    def __init__(self, within_seconds: float) -> None:
        self._within = within_seconds
        self._there = True

    async def __aenter__(self) -> PrefectConnection:
        """Make the client; Prefect need not be there yet.

        Raises:
            ValueError: No Prefect server is configured, or not by a URL.
        """
        url = get_current_settings().api.url
        if not url or not url.startswith(("http://", "https://")):
            raise ValueError(
                f"PREFECT_API_URL is {'no URL' if url else 'not set'}: "
                "events need a Prefect server that stays, such as http://127.0.0.1:4200/api"
            )
        # The client reads it at each request. Tasks that ask get this context, whoever starts them.
        with temporary_settings({PREFECT_CLIENT_MAX_RETRIES: 0}):
            self._context = contextvars.copy_context()
        timeout = httpx.Timeout(self._within, connect=min(self._within, 3.0))
        self._client: PrefectClient = await get_client(httpx_settings={"timeout": timeout}).__aenter__()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._client.__aexit__(kind, error, trace)

    async def post(self, bodies: Mapping[UUID, str]) -> set[UUID]:
        """Give Prefect events.

        Args:
            bodies: The events as JSON, by id.

        Returns:
            Those that it refuses: the others are taken, which does not mean that they are stored.

        Raises:
            PrefectUnavailableError: It gives no answer; some may be taken.
        """
        refused: set[UUID] = set()
        for some in _portions(bodies):
            refused |= await self._post(some)
        return refused

    async def _post(self, events: Sequence[tuple[UUID, str]]) -> set[UUID]:
        content = f"[{','.join(body for _, body in events)}]".encode()
        headers = {"content-type": "application/json"}
        try:
            answer = await self._patiently(
                lambda: self._client.request("POST", "/events", content=content, headers=headers)
            )
        except httpx.HTTPStatusError:
            if len(events) == 1:
                return {events[0][0]}
            # One that it cannot take must not hold up the others.
            middle = len(events) // 2
            return await self._post(events[:middle]) | await self._post(events[middle:])
        if answer.status_code != 204:  # a page to log in at, perhaps
            raise PrefectUnavailableError("what is at PREFECT_API_URL does not answer as Prefect does")
        return set()

    async def known(self, ids: Collection[UUID]) -> set[UUID]:
        """Return those of some events that Prefect has stored.

        Raises:
            PrefectUnavailableError: It gives no answer.
        """
        try:
            return set(await self._patiently(lambda: known_events(self._client, ids)))
        except (httpx.HTTPStatusError, ValueError, LookupError, TypeError):
            raise PrefectUnavailableError("Prefect does not tell which events it has") from None

    async def is_ready(self) -> bool:
        """Tell whether Prefect answers, and its database too."""
        try:
            await self._once(lambda: self._client.request("GET", "/ready"), _ASIDE_SECONDS)
        except (httpx.HTTPError, TimeoutError, OSError):
            return False
        return True

    async def secret(self, name: str) -> Any:
        """Return what a saved Secret block holds; None if there is no such block.

        Not by `Secret.aload`, which tells Prefect's event feed each time.

        Raises:
            PrefectUnavailableError: Prefect gives no answer.
        """
        try:
            block = await self._once(
                lambda: self._client.read_block_document_by_name(name, "secret", include_secrets=True), _ASIDE_SECONDS
            )
        except ObjectNotFound:
            return None
        except (httpx.HTTPError, TimeoutError, OSError, ValueError):  # whose text may hold the secret
            raise PrefectUnavailableError("Prefect does not answer") from None
        return block.data.get("value")

    async def _patiently(self, call: Callable[[], Awaitable[T]]) -> T:
        """Repeat it for some seconds; let through only that Prefect refuses what it was sent."""
        deadline = time.monotonic() + (self._within if self._there else min(self._within, _ASIDE_SECONDS))
        for pause in itertools.chain(_PAUSES_SECONDS, itertools.repeat(_PAUSES_SECONDS[-1])):
            try:
                answer = await self._once(call, deadline - time.monotonic())
            except httpx.HTTPStatusError as error:
                if error.response.status_code in _REFUSED:
                    raise
            except (httpx.HTTPError, TimeoutError, OSError):
                pass
            else:
                self._there = True
                return answer
            if not self._there or time.monotonic() + pause >= deadline:
                break
            await asyncio.sleep(pause)
        self._there = False
        raise PrefectUnavailableError("Prefect does not answer")

    async def _once(self, call: Callable[[], Awaitable[T]], seconds: float) -> T:
        async def called() -> T:
            return await call()

        async with asyncio.timeout(seconds):
            return await asyncio.create_task(called(), context=self._context.copy())


def _portions(bodies: Mapping[UUID, str]) -> Iterator[list[tuple[UUID, str]]]:
    some: list[tuple[UUID, str]] = []
    size = 0
    for ident, body in bodies.items():
        if some and (len(some) == _MOST_EVENTS or size + len(body) > _MOST_BYTES):
            yield some
            some, size = [], 0
        some.append((ident, body))
        size += len(body)
    if some:
        yield some
