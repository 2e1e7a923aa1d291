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
from prefect.client.orchestration import PrefectClient
from prefect.context import SettingsContext, get_settings_context
from prefect.exceptions import ObjectNotFound
from prefect.settings import get_current_settings

from prefect_calendly.events.prefect_api import check_ready, events_client, known_events, post_bodies
from prefect_calendly.webhooks.errors import PrefectUnavailableError

T = TypeVar("T")

_REFUSED: Final = (400, 413, 422)  # what was sent is at fault; anything else may pass
_PAUSES_SECONDS: Final = (0.1, 0.3, 1.0)
_SHORT_SECONDS: Final = 3.0  # where nobody waits for longer
_MAX_EVENTS: Final = 200
_MAX_BYTES: Final = 2 * 1024 * 1024


class PrefectConnection:
    """One client of the Prefect API for the whole process.

    Prefect's client repeats a request for minutes, and Calendly does not wait as long. Here a call is repeated for
    `within_seconds`; while Prefect is known to be away, it is tried once.

    Args:
        within_seconds: How long a call may take.
    """

    def __init__(self, within_seconds: float) -> None:
        self._within = within_seconds
        self._answers = True
        self._takes_posts = False

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
        self._context = _context_without_retries()
        timeout = httpx.Timeout(self._within, connect=min(self._within, 3.0))
        self._client: PrefectClient = await events_client(timeout=timeout).__aenter__()
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
            Ids of those that Prefect refuses. It has taken the others, which does not mean that they are stored.

        Raises:
            PrefectUnavailableError: It does not answer; it may have taken some.
        """
        refused: set[UUID] = set()
        for some in _portions(bodies):
            refused |= await self._post(some)
        return refused

    async def _post(self, events: Sequence[tuple[UUID, str]]) -> set[UUID]:
        try:
            await self._patiently(lambda: post_bodies(self._client, [body for _, body in events]))
        except httpx.HTTPStatusError:
            if len(events) == 1:
                return {events[0][0]}
            # One event that Prefect refuses must not hold up the others.
            middle = len(events) // 2
            return await self._post(events[:middle]) | await self._post(events[middle:])
        except PrefectUnavailableError:
            self._takes_posts = False
            raise
        self._takes_posts = True
        return set()

    async def known(self, ids: Collection[UUID]) -> set[UUID]:
        """Return those of some events that Prefect has stored.

        Raises:
            PrefectUnavailableError: It does not answer.
        """
        try:
            return set(await self._patiently(lambda: known_events(self._client, ids)))
        except httpx.HTTPStatusError:
            raise PrefectUnavailableError("Prefect does not say which events it has") from None

    async def is_ready(self) -> bool:
        """Say whether Prefect answers and takes events; unless the last post went well, by posting none."""
        try:
            await self._once(lambda: check_ready(self._client), _SHORT_SECONDS)
            if not self._takes_posts:
                await self._once(lambda: post_bodies(self._client, []), _SHORT_SECONDS)
                self._takes_posts = True
        except (httpx.HTTPError, TimeoutError, OSError):
            return False
        return True

    async def secret(self, name: str) -> Any:
        """Return what a saved Secret block holds; None if there is no such block.

        `Secret.aload` would emit an event each time.

        Raises:
            PrefectUnavailableError: Prefect does not answer.
        """
        try:
            block = await self._once(
                lambda: self._client.read_block_document_by_name(name, "secret", include_secrets=True), _SHORT_SECONDS
            )
        except ObjectNotFound:
            return None
        except (httpx.HTTPError, TimeoutError, OSError, ValueError):  # whose text may show the secret
            raise PrefectUnavailableError("Prefect does not answer") from None
        return block.data.get("value")

    async def _patiently(self, call: Callable[[], Awaitable[T]]) -> T:
        """Repeat a call for some seconds; of HTTP errors, raise only that Prefect refuses what it was sent."""
        deadline = time.monotonic() + (self._within if self._answers else min(self._within, _SHORT_SECONDS))
        for pause in itertools.chain(_PAUSES_SECONDS, itertools.repeat(_PAUSES_SECONDS[-1])):
            try:
                answer = await self._once(call, deadline - time.monotonic())
            except httpx.HTTPStatusError as error:
                if error.response.status_code in _REFUSED:
                    raise
            except httpx.DecodingError as error:  # it answers, and not as Prefect does
                raise PrefectUnavailableError(str(error)) from None
            except (httpx.HTTPError, TimeoutError, OSError):
                pass
            else:
                self._answers = True
                return answer
            if not self._answers or time.monotonic() + pause >= deadline:
                break
            await asyncio.sleep(pause)
        self._answers = False
        raise PrefectUnavailableError("Prefect does not answer")

    async def _once(self, call: Callable[[], Awaitable[T]], seconds: float) -> T:
        async def called() -> T:
            return await call()

        async with asyncio.timeout(seconds):
            return await asyncio.create_task(called(), context=self._context.copy())


def _context_without_retries() -> contextvars.Context:
    """Return a context in which Prefect's client does not repeat requests: it reads its settings at each request."""
    current = get_settings_context()
    client = current.settings.client.model_copy(update={"max_retries": 0})
    settings = current.settings.model_copy(update={"client": client})
    with SettingsContext(profile=current.profile, settings=settings):
        return contextvars.copy_context()


def _portions(bodies: Mapping[UUID, str]) -> Iterator[list[tuple[UUID, str]]]:
    some: list[tuple[UUID, str]] = []
    size = 0
    for ident, body in bodies.items():
        if some and (len(some) == _MAX_EVENTS or size + len(body) > _MAX_BYTES):
            yield some
            some, size = [], 0
        some.append((ident, body))
        size += len(body)
    if some:
        yield some
