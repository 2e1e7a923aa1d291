"""CalendlyClient: what the rest of the package, and anybody without Prefect, calls Calendly with."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping
from typing import Any, Self, TypeVar
from urllib.parse import urlsplit

import httpx
from pydantic import BaseModel

from prefect_calendly.client import fan_out, paging, writes
from prefect_calendly.client.answers import member_of, parsed
from prefect_calendly.client.errors import NotFoundError
from prefect_calendly.client.fan_out import Outcome
from prefect_calendly.client.hosts import (
    DEFAULT_CONNECTIONS_URL,
    DEFAULT_GATEWAY_URL,
    Host,
    checked_base_url,
    checked_key,
)
from prefect_calendly.client.identifiers import checked_path
from prefect_calendly.client.meter import waiting
from prefect_calendly.client.pace import PROCESS_LIMITS, Limiter, Limits, TakeShare
from prefect_calendly.client.retry import DEFAULT_RETRY, RetryPolicy, send_with_retries
from prefect_calendly.client.transport import Method, Request, Transport, query_of

M = TypeVar("M", bound=BaseModel)
T = TypeVar("T")
I = TypeVar("I")  # noqa: E741  (an item)


class CalendlyClient:
    """An async client of Calendly behind the Maton gateway, or of Calendly itself.

    Use it with `async with`; it stays in the event loop that opened it.

    Args:
        api_key: Maton API key, or a Calendly token for a `gateway_url` of https://api.calendly.com.
        gateway_url: Base URL that native Calendly paths are appended to.
        connections_url: Base URL of the gateway's `/connections`; None where there are none.
        connection_id: Which connection of the gateway to use; None lets the gateway choose.
        timeout_seconds: Limit for connecting, and for each read and write; a whole answer may take four times as long.
        requests_per_second: Pace of this client. All clients of a key share one pace: that of the slowest in use.
        max_concurrency: Requests under way at the same time in this client.
        retry: How often, and after which pauses, requests are repeated.
        limits: Where pace and quotas are counted; by default one place for all clients of this process.
        take_share: Asks for this process's share of a pace that several processes share.
        transport: Another httpx transport, for tests.

    Raises:
        ValueError: The key, a URL or a figure is not usable; the text does not repeat the key.

    Example:
        ```python
        async with CalendlyClient(api_key) as client:
            user = await client.resource("/users/me", User)
        ```
    """

    def __init__(
        self,
        api_key: str,
        *,
        gateway_url: str = DEFAULT_GATEWAY_URL,
        connections_url: str | None = DEFAULT_CONNECTIONS_URL,
        connection_id: str | None = None,
        timeout_seconds: float = 30.0,
        requests_per_second: float = 10.0,
        max_concurrency: int = 16,
        retry: RetryPolicy = DEFAULT_RETRY,
        limits: Limits = PROCESS_LIMITS,
        take_share: TakeShare | None = None,
        transport: httpx.AsyncBaseTransport | None = None,
    ) -> None:
        api_key = checked_key(api_key)
        if requests_per_second <= 0 or max_concurrency < 1 or timeout_seconds <= 0:
            raise ValueError("timeout_seconds, requests_per_second and max_concurrency must be above 0")
        self.gateway_url = checked_base_url(gateway_url, "gateway_url")
        self.connections_url = checked_base_url(connections_url, "connections_url") if connections_url else None
        self.max_concurrency = max_concurrency
        self.direct = urlsplit(self.gateway_url).hostname == "api.calendly.com"
        self.retry = retry
        self.clock = limits.clock

        def limiter(window: str) -> Limiter:
            return limits.limiter(self.gateway_url, api_key, window, requests_per_second, take_share)

        self._transport = Transport(
            api_key,
            # One pace for both hosts, which the gateway counts by key; Calendly's quota holds for its own host only.
            {"gateway": limiter(f"connection {connection_id}"), "connections": limiter(f"host {connections_url}")},
            connection_id=None if self.direct else connection_id,
            timeout_seconds=timeout_seconds,
            max_concurrency=max_concurrency,
            clock=self.clock,
            transport=transport,
        )

    async def __aenter__(self) -> Self:
        await self._transport.open()
        return self

    async def __aexit__(self, *exc_info: Any) -> None:
        await self._transport.close()

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.gateway_url!r})"

    # One request

    async def request(
        self,
        method: Method,
        path: str,
        *,
        params: Mapping[str, Any] | None = None,
        json: Any = None,
        host: Host = "gateway",
    ) -> Any:
        """Send one request, and repeat it where that is safe.

        A GET is repeated after 429, 424, 5xx, a broken connection and an unreadable answer; a write only after a
        429 (it was not processed) and when the connection was never made. After a lost answer, what a write does is
        up to its caller: see `confirm_write` and `send_once`.

        Args:
            method: HTTP method.
            path: Native Calendly path, such as `/users/me`.
            params: Query parameters: strings, numbers, booleans, aware datetimes, models with a URI, or a list of
                those for a repeated parameter; None values are left out.
            json: Body, for writes; a SecretStr in an object is sent in clear, and shown nowhere.
            host: Which of the two configured hosts.

        Returns:
            The decoded JSON; None where there is no body.

        Raises:
            CalendlyError: The fitting error; see `prefect_calendly.client.errors`.
            ValueError: The path is no plain path, or a parameter cannot be sent.
        """
        url = self._base_url(host) + checked_path(path)
        request = Request(method, url, path, query_of(params), json, host)
        return await send_with_retries(self._transport, request, self.retry, self.clock, self._pause)

    def _base_url(self, host: Host) -> str:
        if host == "gateway":
            return self.gateway_url
        if self.connections_url is None or self.direct:
            raise ValueError("there are no Maton connections here: `gateway_url` is Calendly itself")
        return self.connections_url

    async def _pause(self, seconds: float) -> None:
        if seconds > 0:
            with waiting(self.clock):
                await asyncio.sleep(seconds)

    # One resource, and lists of them

    async def resource(
        self,
        path: str,
        model: type[M],
        *,
        method: Method = "GET",
        params: Mapping[str, Any] | None = None,
        json: Any = None,
        host: Host = "gateway",
        member: str = "resource",
    ) -> M:
        """Send one request, and read the `{"resource": {…}}` of its answer.

        Args:
            path: Native Calendly path.
            model: What the resource is.
            method: HTTP method.
            params: Query parameters.
            json: Body, for writes.
            host: Which of the two configured hosts.
            member: The member of the answer that holds the resource.

        Returns:
            The resource.

        Raises:
            InvalidAnswerError: The answer holds no such resource.
            CalendlyError: As for `request`.
        """
        body = await self.request(method, path, params=params, json=json, host=host)
        return parsed(member_of(body, member, dict, method, path), model, method, path)

    async def collection(
        self,
        path: str,
        model: type[M],
        *,
        params: Mapping[str, Any] | None = None,
        host: Host = "gateway",
        member: str = "collection",
    ) -> list[M]:
        """Return all items of a list that has no pages.

        Args:
            path: Native Calendly path.
            model: What each item is.
            params: Query parameters.
            host: Which of the two configured hosts.
            member: The member of the answer that holds the items.

        Returns:
            The items.

        Raises:
            InvalidAnswerError: The answer is no collection of such items.
            CalendlyError: As for `request`.
        """
        body = await self.request("GET", path, params=params, host=host)
        return [parsed(item, model, "GET", path) for item in member_of(body, member, list, "GET", path)]

    def pages(
        self,
        path: str,
        model: type[M],
        *,
        params: Mapping[str, Any] | None = None,
        count: int = 100,
        page_token: str | None = None,
        limit: int | None = None,
    ) -> AsyncIterator[M]:
        """Go through a paged list by its tokens, holding one page at a time; `next_page` is never followed.

        Should a token go stale meanwhile, the list is read again from where it began; what was given is left out.

        Args:
            path: Native Calendly path.
            model: What each item is.
            params: Filters; sent again with each page.
            count: Items per page, 1 to 100.
            page_token: Where to start; from the beginning by default.
            limit: Stop after that many items.

        Yields:
            The items, in the server's order.

        Raises:
            ValueError: `count` or `limit` is out of range.
            InvalidAnswerError: A page is no page, its token leads back to an earlier one, or the list never ends:
                nothing was new on twenty pages in a row.
            CalendlyError: As for `request`.
        """

        async def get(query: Mapping[str, Any]) -> Any:
            return await self.request("GET", path, params=query)

        return paging.pages(get, path, model, params=params, count=count, page_token=page_token, limit=limit)

    # Writes that must not happen twice

    async def confirm_write(self, write: Callable[[], Awaitable[T]], look_up: Callable[[], Awaitable[T | None]]) -> T:
        """Send a write until its effect is confirmed: after a lost answer, look first, and repeat what is not there.

        For writes whose effect shows at once, such as a cancellation. For those that can take effect late, and would
        then happen twice, there is `send_once`.

        Args:
            write: Sends the request.
            look_up: Returns the effect of the write if it is there, None if it is not.

        Returns:
            What the write returned, or what was found.

        Raises:
            UnconfirmedWriteError: The answer was lost, and the effect could not be looked up.
            CalendlyError: The write was refused, or it failed as often as `retry` allows and is not there.

        Example:
            ```python
            async with CalendlyClient(api_key) as client:
                user = await get_current_user_via(client)
                latest = list_scheduled_events_via(client, user=user, sort="start_time:desc", limit=1)
                uuid = [event.uri.rpartition("/")[2] async for event in latest][0]

                async def cancel() -> Cancellation | None:
                    path = f"/scheduled_events/{uuid}/cancellation"
                    return await client.resource(path, Cancellation, method="POST", json={})

                async def canceled() -> Cancellation | None:
                    event = await get_scheduled_event_via(client, uuid)
                    return event.cancellation if event.status == "canceled" else None

                print(await client.confirm_write(cancel, canceled))
            ```
        """
        return await writes.confirm_write(write, look_up, retry=self.retry, pause=self._pause)

    async def send_once(self, write: Callable[[], Awaitable[T]], look_up: Callable[[], Awaitable[T | None]]) -> T:
        """Send a write once; after a lost answer, only look for its effect, for some 15 seconds.

        For writes that can take effect late, such as a booking: a repeat could make a second one.

        Args:
            write: Sends the request.
            look_up: Returns the effect of the write if it is there, None if it is not.

        Returns:
            What the write returned, or what was found.

        Raises:
            UnconfirmedWriteError: The answer was lost, and the effect was not found, or could not be looked up.
            CalendlyError: The write was refused, or never left this machine.
        """
        return await writes.send_once(write, look_up, retry=self.retry, pause=self._pause)

    async def delete(self, path: str, *, host: Host = "gateway") -> None:
        """Delete what a path names; after a lost answer, look whether it is gone before repeating.

        Args:
            path: Native path of the resource.
            host: Which of the two configured hosts.

        Raises:
            NotFoundError: There was no such resource.
            CalendlyError: As for `request`.
        """

        async def delete() -> bool:
            await self.request("DELETE", path, host=host)
            return True

        async def gone() -> bool | None:
            try:
                await self.request("GET", path, host=host)
            except NotFoundError:
                return True
            return None

        await self.confirm_write(delete, gone)

    # Many requests

    async def each(
        self, items: Iterable[I], call: Callable[[I], Awaitable[T]], *, at_once: int | None = None
    ) -> list[Outcome[I, T]]:
        """Call a coroutine function for every item, a bounded number at once; one failure does not stop the others.

        A refused key or a missing connection does: it would fail for every other item too.

        Args:
            items: What to call it with.
            call: Called with one item.
            at_once: How many run at the same time; `max_concurrency` by default.

        Returns:
            One outcome per item, in the items' order.

        Raises:
            ValueError: `at_once` is below 1.
            AuthenticationError: The key or token was refused.
            NoConnectionError: There is no Calendly connection.
        """
        return await fan_out.each(items, call, self.max_concurrency if at_once is None else at_once)

    async def all(self, items: Iterable[I], call: Callable[[I], Awaitable[T]]) -> list[T]:
        """Call a coroutine function for every item, a bounded number at once, and return all values.

        Args:
            items: What to call it with.
            call: Called with one item.

        Returns:
            The values, in the items' order.

        Raises:
            CalendlyError: The first error in the items' order, after all have ended.
        """
        return fan_out.values_of(await self.each(items, call))
