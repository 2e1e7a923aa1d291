"""The only place that speaks HTTP: authentication, paging, pace, retries, errors. No Prefect in here."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import ipaddress
import logging
import math
import random
import ssl
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator, Mapping
from contextvars import ContextVar
from dataclasses import dataclass, field
from datetime import datetime
from json import dumps as to_json
from typing import Any, Final, Generic, Literal, Self, TypeVar
from urllib.parse import urlsplit

import httpx
from pydantic import BaseModel, SecretStr, ValidationError

from prefect_calendly.about import __version__
from prefect_calendly.client.errors import (
    AuthenticationError,
    BadRequestError,
    CalendlyError,
    ExternalCalendarError,
    InvalidAnswerError,
    NetworkError,
    NoConnectionError,
    NotFoundError,
    RateLimitedError,
    ServerError,
    UnconfirmedWriteError,
    error_for_answer,
)
from prefect_calendly.client.identifiers import HasUri, checked_path
from prefect_calendly.client.pace import LONGEST_WAIT_SECONDS, TakeShare, limiter_for
from prefect_calendly.client.times import wire_time

DEFAULT_GATEWAY_URL: Final = "https://gateway.maton.ai/calendly"
DEFAULT_CONNECTIONS_URL: Final = "https://ctrl.maton.ai"
USER_AGENT: Final = f"prefect-calendly/{__version__}"

Method = Literal["GET", "POST", "PATCH", "PUT", "DELETE"]

_ATTEMPTS: Final = 4
_WRITE_ATTEMPTS: Final = 3
_LATE_LOOKS: Final = 4
_FIRST_BACKOFF_SECONDS: Final = 0.5
_LONGEST_BACKOFF_SECONDS: Final = 20.0
# A limit that tells no time opens at some moment: it is looked for often enough to lose little of what it allows.
_LONGEST_LIMITED_BACKOFF_SECONDS: Final = 5.0
# A hundred events of a page have about 200 KiB.
_MOST_BYTES: Final = 32 * 1024**2
# An answer whose parts each come in time must end some time, too.
_LONGEST_IN_TIMEOUTS: Final = 4
_MOST_RESTARTS: Final = 3
_OF_THE_WIRE: Final = ("content-encoding", "content-length", "transfer-encoding")

M = TypeVar("M", bound=BaseModel)
T = TypeVar("T")
I = TypeVar("I")  # noqa: E741  (an item)


@functools.cache
def _tls_context() -> ssl.SSLContext:
    """One TLS context for the process: building one costs some 50 ms of CPU."""
    return httpx.create_ssl_context()


def checked_base_url(url: str, name: str) -> str:
    """Check a base URL that the key will be sent to: https, or http within the machine or its private network.

    Args:
        url: The URL; a slash at its end is dropped.
        name: What the caller calls it, for the error text.

    Returns:
        The URL without a slash at its end.

    Raises:
        ValueError: It is no such URL.
    """
    wanted = f"{name} must be a plain URL such as {DEFAULT_GATEWAY_URL}: no user, query or fragment"
    try:
        parts = urlsplit(url.rstrip("/"))
        host, _ = parts.hostname or "", parts.port  # the port is checked when it is read
    except ValueError:
        raise ValueError(wanted) from None
    if not host.isascii() or host.endswith("."):  # other spellings of a host, which the checks below would not know
        raise ValueError(f"{name} must name its host in plain ASCII, without a dot at the end")
    if not host or parts.username or parts.password or parts.query or parts.fragment:
        raise ValueError(wanted)
    try:
        private = ipaddress.ip_address(host).is_private
    except ValueError:
        # Not a bare number: that would be the address of a public host in disguise.
        private = ("." not in host and not host[0].isdigit()) or host.endswith((".localhost", ".local", ".internal"))
    if parts.scheme != "https" and not (parts.scheme == "http" and private):
        raise ValueError(f"{name} must begin with https:// (http:// only within a private network)")
    return parts.geturl()


def checked_key(key: str) -> str:
    """Check an API key: not empty, and only characters that can stand in a header.

    Args:
        key: The key; blanks around it are dropped.

    Returns:
        The key without blanks around it.

    Raises:
        ValueError: It is no key; the text does not repeat it.
    """
    key = key.strip()
    if not key:
        raise ValueError("there is no API key: fill in `api_key`, or set the environment variable MATON_API_KEY")
    if not key.isascii() or not key.isprintable() or " " in key:
        raise ValueError("api_key has characters that no key has (blanks, line breaks, accents): copy it again")
    return key


class _WithoutQuery(logging.Filter):
    """httpx logs every URL at INFO: of ours only without the query, which can hold an invitee's address."""

    def filter(self, record: logging.LogRecord) -> bool:
        if _sending.get() and isinstance(record.args, tuple):
            record.args = tuple(arg.copy_with(query=None) if isinstance(arg, httpx.URL) else arg for arg in record.args)
        return True


_sending: ContextVar[bool] = ContextVar("calendly_sending", default=False)
logging.getLogger("httpx").addFilter(_WithoutQuery())


@dataclass
class RequestMeter:
    """What a stretch of work cost: requests sent, of them repeats, and seconds in which one of them had to wait.

    A request waits for a limit or before a repeat; what waits at the same time counts once. `least_left` is the least
    that was left of Calendly's `limit` of requests a minute, as its answers said; None where none did.
    """

    requests: int = 0
    repeats: int = 0
    seconds_waited: float = 0.0
    limit: int | None = None
    least_left: int | None = None
    _waiting: int = field(default=0, repr=False)
    _since: float = field(default=0.0, repr=False)

    def answered(self, limit: int | None, left: int | None) -> None:
        """Note what an answer said of Calendly's limit."""
        if left is not None and (self.least_left is None or left <= self.least_left):
            self.least_left, self.limit = left, limit

    @contextlib.contextmanager
    def waiting(self) -> Iterator[None]:
        """Note that a request waits for as long as the block lasts."""
        if self._waiting == 0:
            self._since = time.monotonic()
        self._waiting += 1
        try:
            yield
        finally:
            self._waiting -= 1
            if self._waiting == 0:
                self.seconds_waited += time.monotonic() - self._since


_meters: ContextVar[tuple[RequestMeter, ...]] = ContextVar("calendly_request_meters", default=())


@contextlib.contextmanager
def count_requests() -> Iterator[RequestMeter]:
    """Count the requests of every client used inside the block, in tasks of a flow too.

    Example:
        >>> with count_requests() as meter:
        ...     pass
        >>> meter.requests
        0
    """
    meter = RequestMeter()
    token = _meters.set((*_meters.get(), meter))
    try:
        yield meter
    finally:
        _meters.reset(token)


@contextlib.contextmanager
def _waiting() -> Iterator[None]:
    with contextlib.ExitStack() as stack:
        for meter in _meters.get():
            stack.enter_context(meter.waiting())
        yield


@dataclass(frozen=True, slots=True)
class Outcome(Generic[I, T]):
    """How one item of a fan-out ended: with a value, or with an error."""

    item: I
    value: T | None = None
    error: CalendlyError | None = None


class CalendlyClient:
    """An async client of Calendly behind the Maton gateway, or of Calendly itself.

    Use it with `async with`; it stays in the event loop that opened it.

    Args:
        api_key: Maton API key, or a Calendly token for a `gateway_url` of https://api.calendly.com.
        gateway_url: Where native Calendly paths are appended.
        connections_url: Host of the gateway's `/connections`; None where there are none.
        connection_id: Which connection of the gateway to use; None lets the gateway choose.
        timeout_seconds: For connecting, and for each read and write; a whole answer may take four times as long.
        requests_per_second: Pace, shared by all clients of this key in the process.
        max_concurrency: Requests under way at the same time in this client.
        take_share: Where the pace is shared with other processes, what asks for the next requests' share of it.
        transport: Another httpx transport, for tests.

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
        self._key = api_key.encode()
        self._limiter = limiter_for(self.gateway_url, api_key, connection_id, requests_per_second, take_share)
        self._slots = asyncio.Semaphore(max_concurrency)
        self._longest_seconds = _LONGEST_IN_TIMEOUTS * timeout_seconds
        headers = {
            "Authorization": f"Bearer {api_key}",
            "Accept": "application/json",
            "User-Agent": USER_AGENT,
        }
        if connection_id and not self.direct:
            headers["Maton-Connection"] = connection_id
        self._http = httpx.AsyncClient(
            headers=headers,
            timeout=httpx.Timeout(timeout_seconds, pool=None),
            # The semaphore bounds what is under way. A bound of the pool would count what was canceled for ever.
            limits=httpx.Limits(max_connections=None, max_keepalive_connections=max_concurrency),
            follow_redirects=False,
            verify=_tls_context(),
            transport=transport,
        )

    async def __aenter__(self) -> Self:
        await self._http.__aenter__()
        return self

    async def __aexit__(self, *exc_info: Any) -> None:
        await self._http.aclose()

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
        host: Literal["gateway", "connections"] = "gateway",
    ) -> Any:
        """Send one request, and repeat it where that is safe.

        A GET is repeated after 429, 424, 5xx, a broken connection and an unreadable answer; a write only after a
        429 (it was not looked at) and when the connection was never made. What a write does about a lost answer
        is up to its caller: see `settle`.

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
        query = {name: _query_value(name, value) for name, value in (params or {}).items() if value is not None}
        failures = limited = 0
        limited_since = 0.0
        while True:
            try:
                return await self._send(method, url, path, query, json, host, repeat=bool(failures + limited))
            except RateLimitedError as error:
                limited += 1
                limited_since = limited_since or time.monotonic()
                told = error.retry_after_seconds or 0.0
                wait = max(told, _backoff(limited, _LONGEST_LIMITED_BACKOFF_SECONDS) if limited > 1 else 0.0)
                if time.monotonic() - limited_since + wait > LONGEST_WAIT_SECONDS:
                    raise
                # The limiter holds everybody back for as long as told; only what goes beyond that is waited here.
                await self._sleep(wait if _books(method, path) else wait - told)
            except (NetworkError, ServerError, ExternalCalendarError, InvalidAnswerError) as error:
                failures += 1
                if failures >= _ATTEMPTS or _is_redirect(error) or not (method == "GET" or _never_sent(error)):
                    raise
                await self._sleep(_backoff(failures))

    def _base_url(self, host: Literal["gateway", "connections"]) -> str:
        if host == "gateway":
            return self.gateway_url
        if self.connections_url is None or self.direct:
            raise ValueError("there are no Maton connections here: `gateway_url` is Calendly itself")
        return self.connections_url

    async def _send(
        self,
        method: Method,
        url: str,
        path: str,
        query: dict[str, str | list[str]],
        json: Any,
        host: Literal["gateway", "connections"],
        *,
        repeat: bool,
    ) -> Any:
        async with self._slots:
            with _waiting():
                await self._limiter.wait()
            for meter in _meters.get():
                meter.requests += 1
                meter.repeats += repeat
            answer: httpx.Response | None = None
            problem: CalendlyError | ValueError | None = None
            sending = _sending.set(True)
            try:
                async with asyncio.timeout(self._longest_seconds):
                    answer = await self._answer(method, url, path, query, json)
            except TimeoutError:
                problem = NetworkError(
                    f"No whole answer came from {urlsplit(url).netloc} within {self._longest_seconds:g} s",
                    maybe_sent=True,
                    method=method,
                    path=path,
                )
            except httpx.TransportError as error:
                never_sent = isinstance(error, httpx.ConnectError | httpx.ConnectTimeout | httpx.PoolTimeout)
                problem = NetworkError(
                    f"{'No connection to' if never_sent else 'The connection broke to'} {urlsplit(url).netloc} "
                    f"({type(error).__name__})",
                    maybe_sent=not never_sent,
                    method=method,
                    path=path,
                )
            except httpx.DecodingError as error:
                problem = InvalidAnswerError(
                    f"The answer could not be decoded ({type(error).__name__})", method=method, path=path
                )
            except httpx.InvalidURL:
                problem = ValueError(f"the parameters of {method} {path} make no URL: they are too long")
            finally:
                _sending.reset(sending)
                of_window = answer if host == "gateway" and not _books(method, path) else None
                limit, remaining = _count(of_window, "X-RateLimit-Limit"), _count(of_window, "X-RateLimit-Remaining")
                self._limiter.quota.answered(remaining, _number(of_window, "X-RateLimit-Reset"))
                for meter in _meters.get():
                    meter.answered(limit, remaining)
        # Only here: an error that was chained to httpx's would lead whoever inspects it to what was sent, the key too.
        if problem is not None:
            raise problem
        assert answer is not None  # noqa: S101  (or there was a problem)
        return self._read(answer, method, path, json)

    async def _answer(
        self, method: Method, url: str, path: str, query: dict[str, str | list[str]], json: Any
    ) -> httpx.Response:
        """Send a request and read its answer, but no more of it than any answer has."""
        # In two steps: a request shows nothing of its body in a traceback with variables, arguments of a call would.
        request = self._http.build_request(method, url, params=query, json=_in_clear(json))
        answer = await self._http.send(request, stream=True)
        try:
            content = bytearray()
            async for part in answer.aiter_bytes():
                content += part
                if len(content) > _MOST_BYTES:
                    raise InvalidAnswerError(
                        f"The answer has more than {_MOST_BYTES // 1024**2} MiB", method=method, path=path
                    )
        finally:
            await answer.aclose()
        answer.stream = httpx.ByteStream(b"")  # it holds the answer, which holds it
        headers = [(name, value) for name, value in answer.headers.multi_items() if name not in _OF_THE_WIRE]
        return httpx.Response(answer.status_code, headers=headers, content=bytes(content))

    def _read(self, answer: httpx.Response, method: Method, path: str, sent: Any) -> Any:
        request_id = answer.headers.get("X-Request-Id")
        if answer.status_code >= 300:
            retry_after = None
            if answer.status_code == 429:
                retry_after = self._hold_back(answer, books=_books(method, path))
            raise error_for_answer(
                answer.status_code,
                self._masked(answer.content, sent),
                method=method,
                path=path,
                request_id=request_id,
                retry_after_seconds=retry_after,
            )
        if answer.status_code == 204 or not answer.content:
            return None
        try:
            return answer.json()
        except (ValueError, RecursionError):
            raise InvalidAnswerError(
                "The answer is not JSON",
                status=answer.status_code,
                method=method,
                path=path,
                request_id=request_id,
            ) from None

    def _masked(self, content: bytes, sent: Any) -> bytes:
        """An answer without the key and what was masked in the request: some servers repeat what they refuse."""
        for secret in (self._key, *_secrets_of(sent)):
            for ascii_only in (True, False):  # as JSON may spell it
                content = content.replace(to_json(secret.decode(), ensure_ascii=ascii_only)[1:-1].encode(), b"***")
            content = content.replace(secret, b"***")
        return content

    def _hold_back(self, answer: httpx.Response, *, books: bool) -> float:
        """After a 429: let every caller of this account wait for as long as the server says."""
        reset = _number(answer, "X-RateLimit-Reset")
        told = _number(answer, "Retry-After")
        if told is None:
            told = reset
        if reset is not None:  # Calendly's window, of this connection
            seconds = told if told is not None else reset
            if not books:  # bookings have narrower limits of their own, up to a day: reading goes on
                self._limiter.quota.exhausted(seconds)
        else:  # the gateway's pace, of this key; its limit is counted by the second
            seconds = told if told is not None else 1.0
            self._limiter.pace.pause(seconds)
        return seconds

    @staticmethod
    async def _sleep(seconds: float) -> None:
        if seconds > 0:
            with _waiting():
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
        host: Literal["gateway", "connections"] = "gateway",
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
        return parsed(_member(body, member, dict, method, path), model, method, path)

    async def collection(
        self,
        path: str,
        model: type[M],
        *,
        params: Mapping[str, Any] | None = None,
        host: Literal["gateway", "connections"] = "gateway",
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
        return [parsed(item, model, "GET", path) for item in _member(body, member, list, "GET", path)]

    async def pages(
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
            InvalidAnswerError: A page is no page, or its token leads back to an earlier one.
            CalendlyError: As for `request`.
        """
        check_paging(count, limit)
        left, beginning, restarts = limit, page_token, 0
        # The same on every page, and with a token of the caller's as it was: a token is bound to its `count`.
        size = count if limit is None or page_token is not None else min(count, limit)
        seen, given = {page_token}, set[int]()
        while True:
            try:
                body = await self.request(
                    "GET", path, params={**(params or {}), "count": size, "page_token": page_token}
                )
            except BadRequestError as error:
                if page_token == beginning or not _is_stale(error) or restarts == _MOST_RESTARTS:
                    raise
                restarts += 1
                page_token, seen = beginning, {beginning}
                continue
            for item in _member(body, "collection", list, "GET", path):
                uri = item.get("uri") if isinstance(item, dict) else None
                if restarts and hash(uri) in given:
                    continue
                if uri is not None:
                    given.add(hash(uri))
                yield parsed(item, model, "GET", path)
                if left is not None:
                    left -= 1
                    if left == 0:
                        return
            pagination = body.get("pagination")
            following = pagination.get("next_page_token") if isinstance(pagination, dict) else None
            if not following:
                return
            page_token = str(following)
            if page_token in seen:
                raise InvalidAnswerError("The next page is an earlier page again", method="GET", path=path)
            seen.add(page_token)

    async def delete(self, path: str, *, host: Literal["gateway", "connections"] = "gateway") -> None:
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

        await settle(delete, gone)

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
        if at_once is not None and at_once < 1:
            raise ValueError(f"at_once must be at least 1, not {at_once!r}")
        waiting = list(items)
        outcomes: list[Outcome[I, T] | None] = [None] * len(waiting)
        numbered = iter(enumerate(waiting))

        async def work() -> None:
            for index, item in numbered:
                try:
                    outcomes[index] = Outcome(item, value=await call(item))
                except (AuthenticationError, NoConnectionError):
                    raise
                except CalendlyError as error:
                    outcomes[index] = Outcome(item, error=error)

        try:
            async with asyncio.TaskGroup() as group:
                for _ in range(min(at_once or self.max_concurrency, len(waiting))):
                    group.create_task(work())
        except BaseExceptionGroup as failed:
            raise failed.exceptions[0] from None
        return [outcome for outcome in outcomes if outcome is not None]

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
        outcomes = await self.each(items, call)
        for outcome in outcomes:
            if outcome.error is not None:
                raise outcome.error
        return [outcome.value for outcome in outcomes]  # type: ignore[misc]  # no error: each has its value


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

    for attempt in range(1, (_WRITE_ATTEMPTS if repeat else 1) + 1):
        try:
            return await write()
        except (NetworkError, ServerError, InvalidAnswerError, ExternalCalendarError) as error:
            if _is_redirect(error) or (_never_sent(error) and lost is None):
                raise
            lost = error
        except CalendlyError:
            # Refused. If an earlier answer was lost, the refusal may mean that the write is there already.
            if lost is not None and (found := await look()) is not None:
                return found
            raise
        if (found := await look()) is not None:
            return found
        if repeat and attempt < _WRITE_ATTEMPTS:
            with _waiting():
                await asyncio.sleep(_backoff(attempt))
    assert lost is not None  # noqa: S101  (there was at least one attempt)
    if repeat:
        raise lost
    for number in range(1, _LATE_LOOKS + 1):
        with _waiting():
            await asyncio.sleep(_FIRST_BACKOFF_SECONDS * 2**number)
        if (found := await look()) is not None:
            return found
    raise unconfirmed("it is not there so far")


def parsed(item: Any, model: type[M], method: str, path: str) -> M:
    """Read one resource of an answer.

    Args:
        item: Decoded JSON.
        model: What it should be.
        method: HTTP method of the request.
        path: Path of the request.

    Returns:
        The model.

    Raises:
        InvalidAnswerError: A required member is missing or of the wrong type; it names resource and member.
    """
    try:
        return model.model_validate(item)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False, include_context=False)[0]
        member = ".".join(str(part) for part in first["loc"]) or "resource"
        raise InvalidAnswerError(
            f"The answer's {model.__name__} is unreadable at {member!r}: {first['msg']}",
            resource=model.__name__,
            member=member,
            method=method,
            path=path,
        ) from None


def check_paging(count: int, limit: int | None) -> None:
    """Check the paging arguments: `count` 1 to 100, `limit` at least 1; raise ValueError otherwise."""
    if isinstance(count, bool) or not isinstance(count, int) or not 1 <= count <= 100:
        raise ValueError(f"count must be 1 to 100 items per page, not {count!r}")
    if limit is not None and (isinstance(limit, bool) or not isinstance(limit, int) or limit < 1):
        raise ValueError(f"limit must be at least 1, or None for all, not {limit!r}")


def _member(body: Any, member: str, kind: type[T], method: str, path: str) -> T:
    """Return a member of an answer; raise InvalidAnswerError if it is not there, or of another kind."""
    value = body.get(member) if isinstance(body, dict) else None
    if not isinstance(value, kind):
        raise InvalidAnswerError(
            f"The answer has no {member!r}", resource="answer", member=member, method=method, path=path
        )
    return value


def _never_sent(error: CalendlyError) -> bool:
    return isinstance(error, NetworkError) and not error.maybe_sent


def _is_stale(error: BadRequestError) -> bool:
    return any(detail.parameter == "page_token" for detail in error.details)


def _is_redirect(error: CalendlyError) -> bool:
    return error.status is not None and 300 <= error.status < 400


def _query_value(name: str, value: Any) -> str | list[str]:
    if isinstance(value, list | tuple | set | frozenset):
        return [str(_query_value(name, item)) for item in value]
    if isinstance(value, datetime):
        return str(wire_time(value, name))
    if isinstance(value, HasUri):
        return value.uri
    return str(value).lower() if isinstance(value, bool) else str(value)


def _in_clear(json: Any) -> Any:
    """A body as it is sent: without the masks of its members."""
    if not isinstance(json, dict):
        return json
    return {name: value.get_secret_value() if isinstance(value, SecretStr) else value for name, value in json.items()}


def _secrets_of(json: Any) -> list[bytes]:
    """What is masked in a body."""
    values = json.values() if isinstance(json, dict) else ()
    return [value.get_secret_value().encode() for value in values if isinstance(value, SecretStr) and value]


def _books(method: Method, path: str) -> bool:
    """Whether a request is a booking: those have limits of their own."""
    return method == "POST" and path.endswith("/invitees")


def _number(answer: httpx.Response | None, header: str) -> float | None:
    """A header's figure; None if it is missing or no number (a `Retry-After` may be a date: then X-RateLimit rules)."""
    try:
        number = float(answer.headers[header]) if answer is not None else math.nan
    except (KeyError, ValueError):
        return None
    return max(0.0, number) if math.isfinite(number) else None


def _count(answer: httpx.Response | None, header: str) -> int | None:
    number = _number(answer, header)
    return None if number is None else int(number)


def _backoff(failures: int, longest: float = _LONGEST_BACKOFF_SECONDS) -> float:
    """Seconds before the next attempt: doubling, with full jitter, so that many callers do not come back together."""
    longest = min(longest, _FIRST_BACKOFF_SECONDS * 2 ** (failures - 1))
    return float(random.uniform(0.1, 1.0) * longest)  # noqa: S311
