"""One request in, an answer or a CalendlyError out. Nothing here repeats anything."""

from __future__ import annotations

import asyncio
import functools
import json
import logging
import ssl
from collections.abc import Mapping, Sequence
from contextvars import ContextVar
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final, Literal
from urllib.parse import urlsplit

import httpx
from pydantic import SecretStr

from prefect_calendly.about import __version__
from prefect_calendly.client.bodies import ACCEPT_ENCODING, read_body
from prefect_calendly.client.errors import CalendlyError, InvalidAnswerError, NetworkError
from prefect_calendly.client.hosts import Host
from prefect_calendly.client.identifiers import HasUri
from prefect_calendly.client.meter import note_answer, note_request, waiting
from prefect_calendly.client.pace import Clock, Limiter, RateLimit
from prefect_calendly.client.refusals import error_for_answer
from prefect_calendly.client.secret import Secret
from prefect_calendly.client.times import wire_time

USER_AGENT: Final = f"prefect-calendly/{__version__}"

# A hundred events of a page have about 200 KiB.
MOST_BYTES: Final = 32 * 1024**2
# An answer whose parts each come in time must end some time, too.
_LONGEST_IN_TIMEOUTS: Final = 4

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
    secrets: Sequence[Secret] = field(init=False)
    """What is masked in the body."""

    def __post_init__(self) -> None:
        values = self.json.values() if isinstance(self.json, dict) else ()
        secrets = [Secret(value.get_secret_value()) for value in values if isinstance(value, SecretStr)]
        object.__setattr__(self, "secrets", secrets)

    @property
    def is_booking(self) -> bool:
        """Whether it books an event: bookings have limits of their own."""
        return self.method == "POST" and self.path.endswith("/invitees")

    @property
    def counts_in_window(self) -> bool:
        """Whether the rate limit of its answer is Calendly's window of requests."""
        return self.host == "gateway" and not self.is_booking


@dataclass(frozen=True, slots=True, repr=False)
class Answer:
    """What came back: its headers as they are, whatever is in them, and the body unpacked."""

    status: int
    headers: httpx.Headers
    content: bytes


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
        self._key = Secret(api_key)
        self._limiters = limiters
        self._clock = clock
        self._slots = asyncio.Semaphore(max_concurrency)
        self._longest_seconds = _LONGEST_IN_TIMEOUTS * timeout_seconds
        headers = {
            "Authorization": f"Bearer {api_key}",
            "Accept": "application/json",
            "Accept-Encoding": ACCEPT_ENCODING,
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
            # A proxy of the environment would read the key of a request that is not encrypted.
            mounts={"http://": None},
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
            RuntimeError: The client is closed.
        """
        if self._http.is_closed:
            raise RuntimeError("this client is closed: use it inside of its `async with`")
        limiter = self._limiters[request.host]
        async with self._slots:
            with waiting(self._clock):
                await limiter.wait()
            note_request(repeat=repeat)
            said = RateLimit()
            sending = _sending.set(True)
            try:
                answer = await self._exchange(request)
                if isinstance(answer, Answer) and request.counts_in_window:
                    said = RateLimit.from_headers(answer.headers)
            finally:
                _sending.reset(sending)
                limiter.quota.answered(said)
                note_answer(said.limit, said.remaining)
        if isinstance(answer, Answer):
            return self._read(answer, request)
        raise answer

    async def _exchange(self, request: Request) -> Answer | CalendlyError | ValueError:
        """Send a request and read its answer; return what goes wrong on the way.

        It is raised elsewhere, chained to nothing: httpx's error would lead whoever inspects it to the request, and
        the key.
        """
        context: dict[str, Any] = {"method": request.method, "path": request.path}
        # In two steps: a request shows nothing of its body in a traceback with variables, arguments of a call would.
        try:
            ready = self._http.build_request(
                request.method, request.url, params=request.query, json=_in_clear(request.json)
            )
        except httpx.InvalidURL:
            return ValueError(f"the parameters of {request.method} {request.path} make no URL: they are too long")
        try:
            async with asyncio.timeout(self._longest_seconds):
                answer = await self._http.send(ready, stream=True)
                try:
                    content = await read_body(answer, MOST_BYTES)
                finally:
                    await answer.aclose()
            answer.stream = httpx.ByteStream(b"")  # it holds the answer, which holds it
            return Answer(answer.status_code, answer.headers, content)
        except TimeoutError:
            problem = f"No whole answer came from {_host(request)} within {self._longest_seconds:g} s"
            return NetworkError(problem, maybe_sent=True, **context)
        except httpx.TransportError as error:
            never_sent = isinstance(error, httpx.ConnectError | httpx.ConnectTimeout | httpx.PoolTimeout)
            what = "No connection to" if never_sent else "The connection broke to"
            problem = f"{what} {_host(request)} ({type(error).__name__})"
            return NetworkError(problem, maybe_sent=not never_sent, **context)
        except httpx.DecodingError as error:
            return InvalidAnswerError(str(error), **context)
        except Exception as error:  # whatever it is, the request may have taken effect
            return InvalidAnswerError(f"The answer could not be read ({type(error).__name__})", **context)

    def _read(self, answer: Answer, request: Request) -> Any:
        context = {
            "method": request.method,
            "path": request.path,
            "request_id": answer.headers.get("X-Request-Id"),
        }
        if answer.status >= 300:
            retry_after = None
            if answer.status == 429:
                retry_after = self._close_limit(RateLimit.from_headers(answer.headers), request)
            raise error_for_answer(answer.status, answer.content, retry_after_seconds=retry_after, **context)
        if answer.status == 204 or not answer.content:
            return None
        try:
            return json.loads(answer.content)
        except (ValueError, RecursionError):
            pass  # it is raised below, chained to nothing: Python's error holds the whole answer
        raise InvalidAnswerError("The answer is not JSON", status=answer.status, **context)

    def _close_limit(self, rate_limit: RateLimit, request: Request) -> float:
        """After a 429: make every caller of this account wait for as long as the server says; return the seconds."""
        limiter, seconds = self._limiters[request.host], rate_limit.wait_seconds
        if not rate_limit.of_window:  # the gateway's pace, of this key
            limiter.pace.pause(seconds)
        elif not request.is_booking:  # a booking has narrower limits of its own, of up to a day: reading goes on
            limiter.quota.exhausted(seconds)
        return seconds


def _host(request: Request) -> str:
    return urlsplit(request.url).netloc


def _in_clear(body: Any) -> Any:
    """A body as it is sent: without the masks of its members."""
    if not isinstance(body, dict):
        return body
    return {name: value.get_secret_value() if isinstance(value, SecretStr) else value for name, value in body.items()}
