"""One request in, an answer or a CalendlyError out. Nothing here repeats anything."""

from __future__ import annotations

import asyncio
import functools
import logging
import ssl
from collections.abc import Mapping
from contextvars import ContextVar
from dataclasses import dataclass
from datetime import datetime
from json import dumps as to_json
from typing import Any, Final, Literal
from urllib.parse import urlsplit

import httpx
from pydantic import SecretStr

from prefect_calendly.about import __version__
from prefect_calendly.client.errors import CalendlyError, InvalidAnswerError, NetworkError, error_for_answer
from prefect_calendly.client.hosts import Host
from prefect_calendly.client.identifiers import HasUri
from prefect_calendly.client.meter import note_answer, note_request, waiting
from prefect_calendly.client.pace import Clock, Limiter, RateLimit
from prefect_calendly.client.times import wire_time

USER_AGENT: Final = f"prefect-calendly/{__version__}"

# A hundred events of a page have about 200 KiB.
MOST_BYTES: Final = 32 * 1024**2
# An answer whose parts each come in time must end some time, too.
_LONGEST_IN_TIMEOUTS: Final = 4
_OF_THE_WIRE: Final = ("content-encoding", "content-length", "transfer-encoding")

Method = Literal["GET", "POST", "PATCH", "PUT", "DELETE"]


@dataclass(frozen=True, slots=True, repr=False)
class Request:
    """A request that is ready to be sent; its repr shows nothing, for query and body hold personal data."""

    method: Method
    url: str
    path: str
    query: Mapping[str, str | list[str]]
    json: Any
    host: Host

    @property
    def is_booking(self) -> bool:
        """Whether it books an event: bookings have limits of their own."""
        return self.method == "POST" and self.path.endswith("/invitees")

    @property
    def counts_in_window(self) -> bool:
        """Whether the rate limit of its answer is Calendly's window of requests."""
        return self.host == "gateway" and not self.is_booking


def query_of(params: Mapping[str, Any] | None) -> dict[str, str | list[str]]:
    """Return query parameters as they are sent; those that are None are left out."""
    return {name: _query_value(name, value) for name, value in (params or {}).items() if value is not None}


def _query_value(name: str, value: Any) -> str | list[str]:
    if isinstance(value, list | tuple | set | frozenset):
        return [str(_query_value(name, item)) for item in value]
    if isinstance(value, datetime):
        return str(wire_time(value, name))
    if isinstance(value, HasUri):
        return value.uri
    return str(value).lower() if isinstance(value, bool) else str(value)


class _WithoutQuery(logging.Filter):
    """httpx logs every URL at INFO: of ours only without the query, which can hold an invitee's address."""

    def filter(self, record: logging.LogRecord) -> bool:
        if _sending.get() and isinstance(record.args, tuple):
            record.args = tuple(arg.copy_with(query=None) if isinstance(arg, httpx.URL) else arg for arg in record.args)
        return True


_sending: ContextVar[bool] = ContextVar("calendly_sending", default=False)
logging.getLogger("httpx").addFilter(_WithoutQuery())


@functools.cache
def _tls_context() -> ssl.SSLContext:
    """One TLS context for the process: building one costs some 50 ms of CPU."""
    return httpx.create_ssl_context()


class Transport:
    """Sends requests with the key, at the pace of the account, a bounded number at once.

    Args:
        api_key: The key, checked.
        limiters: Where the requests to each host wait for their turn.
        connection_id: Which connection of the gateway to name; None names none.
        timeout_seconds: For connecting, and for each read and write; a whole answer may take four times as long.
        max_concurrency: Requests under way at the same time.
        clock: What the seconds of waiting are counted with.
        transport: Another httpx transport, for tests.
    """

    def __init__(
        self,
        api_key: str,
        limiters: Mapping[Host, Limiter],
        *,
        connection_id: str | None,
        timeout_seconds: float,
        max_concurrency: int,
        clock: Clock,
        transport: httpx.AsyncBaseTransport | None,
    ) -> None:
        self._key = api_key.encode()
        self._limiters = limiters
        self._clock = clock
        self._slots = asyncio.Semaphore(max_concurrency)
        self._longest_seconds = _LONGEST_IN_TIMEOUTS * timeout_seconds
        headers = {
            "Authorization": f"Bearer {api_key}",
            "Accept": "application/json",
            "User-Agent": USER_AGENT,
        }
        if connection_id:
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

    async def open(self) -> None:
        """Make it ready to send."""
        await self._http.__aenter__()

    async def close(self) -> None:
        """Close its connections."""
        await self._http.aclose()

    async def send(self, request: Request, *, repeat: bool) -> Any:
        """Send a request once, as soon as the limits let it.

        Args:
            request: What to send.
            repeat: Whether it was sent before, for the meters.

        Returns:
            The decoded JSON; None where there is no body.

        Raises:
            CalendlyError: The fitting error; it is chained to nothing of httpx.
            ValueError: The parameters make no URL.
        """
        limiter = self._limiters[request.host]
        async with self._slots:
            with waiting(self._clock):
                await limiter.wait()
            note_request(repeat=repeat)
            answer: httpx.Response | None = None
            problem: CalendlyError | ValueError | None = None
            sending = _sending.set(True)
            try:
                async with asyncio.timeout(self._longest_seconds):
                    answer = await self._answer(request)
            except TimeoutError:
                problem = NetworkError(
                    f"No whole answer came from {urlsplit(request.url).netloc} within {self._longest_seconds:g} s",
                    maybe_sent=True,
                    method=request.method,
                    path=request.path,
                )
            except httpx.TransportError as error:
                never_sent = isinstance(error, httpx.ConnectError | httpx.ConnectTimeout | httpx.PoolTimeout)
                problem = NetworkError(
                    f"{'No connection to' if never_sent else 'The connection broke to'} "
                    f"{urlsplit(request.url).netloc} ({type(error).__name__})",
                    maybe_sent=not never_sent,
                    method=request.method,
                    path=request.path,
                )
            except httpx.DecodingError as error:
                problem = InvalidAnswerError(
                    f"The answer could not be decoded ({type(error).__name__})",
                    method=request.method,
                    path=request.path,
                )
            except httpx.InvalidURL:
                problem = ValueError(
                    f"the parameters of {request.method} {request.path} make no URL: they are too long"
                )
            finally:
                _sending.reset(sending)
                said = RateLimit()
                if answer is not None and request.counts_in_window:
                    said = RateLimit.from_headers(answer.headers)
                limiter.quota.answered(said)
                note_answer(said.limit, said.remaining)
        # Raised out here, chained to nothing: httpx's error would lead whoever inspects it to the request, and the key.
        if problem is not None:
            raise problem
        assert answer is not None  # noqa: S101  (or there was a problem)
        return self._read(answer, request)

    async def _answer(self, request: Request) -> httpx.Response:
        """Send a request and read its answer, but no more of it than any answer has."""
        # In two steps: a request shows nothing of its body in a traceback with variables, arguments of a call would.
        ready = self._http.build_request(
            request.method, request.url, params=request.query, json=_in_clear(request.json)
        )
        answer = await self._http.send(ready, stream=True)
        try:
            content = bytearray()
            async for part in answer.aiter_bytes():
                content += part
                if len(content) > MOST_BYTES:
                    raise InvalidAnswerError(
                        f"The answer has more than {MOST_BYTES // 1024**2} MiB",
                        method=request.method,
                        path=request.path,
                    )
        finally:
            await answer.aclose()
        answer.stream = httpx.ByteStream(b"")  # it holds the answer, which holds it
        headers = [(name, value) for name, value in answer.headers.multi_items() if name not in _OF_THE_WIRE]
        return httpx.Response(answer.status_code, headers=headers, content=bytes(content))

    def _read(self, answer: httpx.Response, request: Request) -> Any:
        request_id = answer.headers.get("X-Request-Id")
        if answer.status_code >= 300:
            retry_after = None
            if answer.status_code == 429:
                retry_after = self._close_limit(RateLimit.from_headers(answer.headers), request)
            raise error_for_answer(
                answer.status_code,
                self._masked(answer.content, request.json),
                method=request.method,
                path=request.path,
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
                method=request.method,
                path=request.path,
                request_id=request_id,
            ) from None

    def _masked(self, content: bytes, sent: Any) -> bytes:
        """An answer without the key and what was masked in the request: some servers repeat what they refuse."""
        for secret in (self._key, *_secrets_of(sent)):
            for ascii_only in (True, False):  # as JSON may spell it
                content = content.replace(to_json(secret.decode(), ensure_ascii=ascii_only)[1:-1].encode(), b"***")
            content = content.replace(secret, b"***")
        return content

    def _close_limit(self, rate_limit: RateLimit, request: Request) -> float:
        """After a 429: make every caller of this account wait for as long as the server says; return the seconds."""
        limiter, seconds = self._limiters[request.host], rate_limit.wait_seconds
        if not rate_limit.of_window:  # the gateway's pace, of this key
            limiter.pace.pause(seconds)
        elif not request.is_booking:  # a booking has narrower limits of its own, of up to a day: reading goes on
            limiter.quota.exhausted(seconds)
        return seconds


def _in_clear(json: Any) -> Any:
    """A body as it is sent: without the masks of its members."""
    if not isinstance(json, dict):
        return json
    return {name: value.get_secret_value() if isinstance(value, SecretStr) else value for name, value in json.items()}


def _secrets_of(json: Any) -> list[bytes]:
    """What is masked in a body."""
    values = json.values() if isinstance(json, dict) else ()
    return [value.get_secret_value().encode() for value in values if isinstance(value, SecretStr) and value]
