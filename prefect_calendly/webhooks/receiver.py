"""The receiver: an ASGI application that takes Calendly's deliveries and gives Prefect their events.

Cheap checks come first, and nothing of a refused request is kept, answered or logged.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import re
import time
import traceback
import uuid
from collections.abc import AsyncIterator, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Final

from prometheus_client import CONTENT_TYPE_LATEST
from pydantic import SecretStr
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from prefect_calendly.client.identifiers import uri_of
from prefect_calendly.events.event import PREFIX, CalendlyEvent, Payload
from prefect_calendly.webhooks.connection import PrefectConnection
from prefect_calendly.webhooks.deliveries import PING, Delivery, DeliveryError, parse_delivery
from prefect_calendly.webhooks.delivery_events import events_of_delivery
from prefect_calendly.webhooks.errors import BusyError, NoKeyError, NotTakenError
from prefect_calendly.webhooks.handover import Confirmer, Handover
from prefect_calendly.webhooks.keys import SigningKeys
from prefect_calendly.webhooks.metrics import Metrics, event_label
from prefect_calendly.webhooks.signature import Key, Signature, SignatureError, WrongSignatureError
from prefect_calendly.webhooks.store import EventStore, default_store_url, store_url

logger = logging.getLogger(__name__)

DEFAULT_PATH: Final = "/webhooks/calendly"

_MOST_BYTES: Final = 1024 * 1024
_SMALL_BYTES: Final = 64 * 1024  # ten times a delivery's usual size
_MOST_LARGE: Final = 32  # bodies that may be larger at the same time
_READY_SECONDS: Final = 1.0
_LAST_SUMMARY_SECONDS: Final = 3.0
_RETRY_AFTER: Final = {"retry-after": "30"}
_OWN_PATHS: Final = ("/healthz", "/readyz", "/metrics")
_NOT_STARTED: Final = "the receiver was not started: enter its lifespan"


@dataclass(frozen=True)
class ReceiverSettings:
    """How a receiver works.

    Args:
        signing_keys: Keys that deliveries may be signed with; several while a key is being replaced.
        signing_key_block: Name of a saved Secret block with such keys, as text or as `{"keys": [...]}`. It is loaded
            again every minute, and when a signature does not fit. As long as there is none, deliveries get 503.
        insecure: Take deliveries that are not signed. Anybody can start your flows then.
        path: Where deliveries come.
        store: SQLAlchemy URL of SQLite or PostgreSQL; None: `calendly-receiver.db` in Prefect's home folder.
        payload: `standard` leaves out free text, telephone numbers, links to join or cancel; `full` has all.
        organization: URI of the organization, for the events' related resources.
        name: Of this receiver, in the events with its summaries.
        remember_days: How long it knows what was delivered, in days.
        body_seconds: How long a request's body may take.
        handover_seconds: How long Prefect may take.
        summary_seconds: Pause between two summaries.
        confirm_seconds: How long after an event was given Prefect is asked whether it is there.
        again_seconds: How long after it was given an event that is not there is given again.
        look_seconds: Pause between two such questions.

    Raises:
        ValueError: Something cannot be as it is.
    """

    signing_keys: Iterable[Key] = ()
    signing_key_block: str | None = None
    insecure: bool = False
    path: str = DEFAULT_PATH
    store: str | None = field(default=None, repr=False)
    payload: Payload = "standard"
    organization: str | None = None
    name: str = "default"
    remember_days: float = 30
    body_seconds: float = 10
    handover_seconds: float = 8
    summary_seconds: float = 60
    confirm_seconds: float = 10
    again_seconds: float = 60
    look_seconds: float = 3

    def __post_init__(self) -> None:
        keys = tuple(key if isinstance(key, SecretStr) else SecretStr(key) for key in self.signing_keys)
        object.__setattr__(self, "signing_keys", keys)
        if not all(key.get_secret_value() for key in keys):
            raise ValueError("a signing key must not be empty")
        signed = bool(keys) or self.signing_key_block is not None
        if signed and self.insecure:
            raise ValueError("there is a signing key and insecure is set: use one of them")
        if not signed and not self.insecure:
            raise ValueError(
                "there is no signing key: set CALENDLY_WEBHOOK_SIGNING_KEY or name a Secret block (signing_key_block); "
                "insecure takes deliveries that are not signed, by anybody"
            )
        if self.signing_key_block is not None and not re.fullmatch(r"[a-z0-9-]{1,100}", self.signing_key_block):
            raise ValueError("signing_key_block must be the name of a Secret block, such as calendly-webhook-key")
        if not re.fullmatch(r"/[A-Za-z0-9._~/-]*[A-Za-z0-9._~-]", self.path) or self.path in _OWN_PATHS:
            raise ValueError(f"path must be one such as {DEFAULT_PATH}, and none of {', '.join(_OWN_PATHS)}")
        if not re.fullmatch(r"[a-z0-9-]{1,64}", self.name):
            raise ValueError("name must be of lower-case letters, digits and dashes")
        if self.payload not in ("standard", "full"):
            raise ValueError("payload must be standard or full")
        for what in ("remember_days", "body_seconds", "handover_seconds", "summary_seconds", "confirm_seconds"):
            if not getattr(self, what) > 0:
                raise ValueError(f"{what} must be more than 0")
        if self.remember_days < 2:
            raise ValueError("remember_days must be at least 2: Calendly repeats a delivery for 24 hours")
        if self.organization is not None:
            object.__setattr__(self, "organization", uri_of(self.organization, "organizations", "organization"))
        if self.store is not None:
            store_url(self.store)


def create_app(settings: ReceiverSettings) -> Starlette:
    """Make the receiver as an ASGI application.

    It has `POST /webhooks/calendly`, `GET /healthz`, `GET /readyz` and `GET /metrics`; only the first has to be reached
    from outside.

    Args:
        settings: How it works.

    Returns:
        The application. Its lifespan opens the store and the connection to Prefect; an application that mounts it
        has to enter it: `app.router.lifespan_context(app)`.

    Raises:
        ValueError: A setting cannot be as it is; or, when it is started, PREFECT_API_URL is not set.
        StoreUnavailableError: When it is started: the store cannot be used.

    Example:
        ```python
        from starlette.routing import Mount

        receiver = create_app(ReceiverSettings(signing_key_block="calendly-webhook-key"))

        @contextlib.asynccontextmanager
        async def lifespan(app):
            async with receiver.router.lifespan_context(receiver):
                yield

        app = Starlette(routes=[Mount("/calendly", receiver)], lifespan=lifespan)
        ```
    """
    receiver = _Receiver(settings)
    app = Starlette(
        routes=[
            Route(settings.path, receiver.deliver, methods=["POST"]),
            Route("/healthz", receiver.health),
            Route("/readyz", receiver.ready),
            Route("/metrics", receiver.show_metrics),
        ],
        lifespan=lambda _: receiver.running(),
        exception_handlers={HTTPException: receiver.not_here},
    )
    app.router.redirect_slashes = False  # to Calendly a redirect is a failure
    return app


class _Rejection(Exception):
    """A request that is refused."""

    def __init__(self, status: int, reason: str, text: str, headers: Mapping[str, str] | None = None) -> None:
        super().__init__(text)
        self.status = status
        self.reason = reason
        self.headers = dict(headers or {})


class _Receiver:
    """The application's parts, between start and stop."""

    def __init__(self, settings: ReceiverSettings) -> None:
        self._settings = settings
        self._metrics = Metrics()
        self._log = _SparseLog()
        self._large = 0
        self._started = False
        self._readiness: asyncio.Task[dict[str, str]] | None = None
        self._ready_until = 0.0

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Open store and connection; at the end, finish what was accepted."""
        settings = self._settings
        async with contextlib.AsyncExitStack() as exits:
            self._connection = await exits.enter_async_context(PrefectConnection(settings.handover_seconds))
            self._store = EventStore(settings.store or default_store_url())
            await self._store.open()
            exits.push_async_callback(self._store.close)
            given = [key if isinstance(key, SecretStr) else SecretStr(key) for key in settings.signing_keys]
            self._keys = SigningKeys(given, settings.signing_key_block, self._connection)
            self._handover = Handover(self._store, self._connection, self._metrics, settings.handover_seconds)
            confirmer = Confirmer(
                self._handover,
                self._store,
                self._connection,
                self._metrics,
                after_seconds=settings.confirm_seconds,
                again_seconds=settings.again_seconds,
                every_seconds=settings.look_seconds,
                remember_days=settings.remember_days,
            )
            work = [self._handover.work(), confirmer.work(), self._keys.keep_up(), self._summarize()]
            tasks = [asyncio.create_task(each) for each in work]
            exits.push_async_callback(_end, tasks)
            if settings.insecure:
                logger.warning("deliveries are taken without a signature: anybody can start your flows")
            self._started = True
            try:
                yield
            finally:
                self._started = False
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(_LAST_SUMMARY_SECONDS):
                        await self._tell_summary()
                await self._handover.finish()

    # POST /webhooks/calendly

    async def deliver(self, request: Request) -> Response:
        """Take a delivery."""
        self._metrics.received.inc()
        try:
            return JSONResponse({"status": await self._take(request)})
        except _Rejection as error:
            return self._refuse(error.status, error.reason, str(error), error.headers)
        except SignatureError as error:
            return self._refuse(401, f"signature_{error.reason}", str(error))
        except DeliveryError as error:
            return self._refuse(400, "malformed", str(error))
        except NotTakenError as error:
            return self._refuse(503, error.reason, str(error), _RETRY_AFTER)
        except ClientDisconnect:
            return self._refuse(400, "disconnected", "the connection was closed")
        except Exception as error:
            where = [f"{each.filename}:{each.lineno}" for each in traceback.extract_tb(error.__traceback__)][-3:]
            logger.error("a delivery made an error", extra={"fields": {"error": type(error).__name__, "at": where}})
            return self._refuse(500, "internal", "the receiver has made a mistake; its log says where")

    async def _take(self, request: Request) -> str:
        headers = request.headers
        if headers.get("content-type", "").partition(";")[0].strip().lower() != "application/json":
            raise _Rejection(415, "content_type", "the content type must be application/json")
        length = headers.get("content-length", "0")
        if len(length) > 10 or not length.isdecimal() or int(length) > _MOST_BYTES:
            raise _Rejection(413, "too_large", "the body must not have more than 1 MiB")
        if not self._started:
            raise _Rejection(503, "not_started", _NOT_STARTED, _RETRY_AFTER)
        signature = None
        if not self._settings.insecure:
            signature = Signature.read(headers)
            signature.check_time(datetime.now(UTC))
            if not self._keys.current and not await self._keys.reload():
                raise NoKeyError("there is no signing key yet")
        async with self._body(request) as body:
            if signature is not None:
                await self._check(signature, body)
            delivery = parse_delivery(body)
            return await self._hand_over(delivery)

    @contextlib.asynccontextmanager
    async def _body(self, request: Request) -> AsyncIterator[bytes]:
        """The body; those who send a large one must not use up the memory together."""
        body = bytearray()
        large = False
        try:
            try:
                async with asyncio.timeout(self._settings.body_seconds):
                    async for chunk in request.stream():
                        body += chunk
                        if len(body) > _MOST_BYTES:
                            raise _Rejection(413, "too_large", "the body must not have more than 1 MiB")
                        if len(body) > _SMALL_BYTES and not large:
                            if self._large >= _MOST_LARGE:
                                raise BusyError("too many large deliveries are coming")
                            large = True
                            self._large += 1
            except TimeoutError:
                raise _Rejection(408, "slow", "the body took too long", {"connection": "close"}) from None
            yield bytes(body)
        finally:
            self._large -= large

    async def _check(self, signature: Signature, body: bytes) -> None:
        try:
            signature.check_body(body, self._keys.current)
        except WrongSignatureError:
            if not await self._keys.reload() or not self._keys.current:
                raise
            signature.check_body(body, self._keys.current)

    async def _hand_over(self, delivery: Delivery) -> str:
        if delivery.event == PING:
            self._metrics.pings.inc()
            logger.info("ping")
            return "pong"
        settings = self._settings
        events = events_of_delivery(delivery, payload=settings.payload, organization=settings.organization)
        began = time.perf_counter()
        new = await self._handover.hand_over(events)
        seconds = time.perf_counter() - began
        self._metrics.handover_seconds.observe(seconds)
        first, status = events[0], "accepted" if new else "duplicate"
        if new:
            self._metrics.accepted(delivery.event)
        else:
            self._metrics.duplicate(first.id)
        fields = {
            "event": event_label(delivery.event),
            "id": str(first.id),
            "resource": first.resource["prefect.resource.id"],
            "ms": round(seconds * 1000, 1),
        }
        logger.info("%s %s", status, fields["event"], extra={"fields": fields})
        return status

    def _refuse(self, status: int, reason: str, text: str, headers: Mapping[str, str] | None = None) -> Response:
        self._metrics.rejected(reason)
        self._log.refused(reason, status, text)
        return JSONResponse({"error": text}, status, dict(headers or {}))

    async def not_here(self, _request: Request, error: Exception) -> Response:
        """Answer what is not served."""
        assert isinstance(error, HTTPException)  # noqa: S101  (for mypy: it is registered for these)
        self._metrics.received.inc()
        if error.status_code == 405:
            return self._refuse(405, "method", "the method is not allowed here", error.headers)
        return self._refuse(error.status_code, "path", "there is nothing here")

    # For those who run it

    async def health(self, _request: Request) -> Response:
        """Tell that the process answers."""
        return JSONResponse({"status": "ok"})

    async def ready(self, _request: Request) -> Response:
        """Tell whether a delivery would be taken, and what is missing."""
        parts = await self._parts()
        ready = all(state == "ok" for state in parts.values())
        return JSONResponse({"status": "ready" if ready else "not ready", **parts}, 200 if ready else 503)

    async def _parts(self) -> dict[str, str]:
        if not self._started:
            return {"receiver": _NOT_STARTED}
        if self._readiness is None or (self._readiness.done() and time.monotonic() > self._ready_until):
            self._readiness = asyncio.create_task(self._look())
        return await asyncio.shield(self._readiness)

    async def _look(self) -> dict[str, str]:
        if not self._settings.insecure and not self._keys.current:
            await self._keys.reload()
        store, prefect = await asyncio.gather(self._store.is_ready(), self._connection.is_ready())
        self._ready_until = time.monotonic() + _READY_SECONDS
        return {
            "signing_key": "ok" if self._settings.insecure or self._keys.current else "missing",
            "store": "ok" if store else "unavailable",
            "prefect": "ok" if prefect else "unavailable",
        }

    async def show_metrics(self, _request: Request) -> Response:
        """Show what was counted, for Prometheus."""
        self._metrics.keys.set(len(self._keys.current) if self._started else 0)
        return Response(self._metrics.exposed(), headers={"content-type": CONTENT_TYPE_LATEST})

    # Summaries

    async def _summarize(self) -> None:
        while True:
            await asyncio.sleep(self._settings.summary_seconds)
            await self._tell_summary()

    async def _tell_summary(self) -> None:
        """Tell Prefect what has happened since the last time, if anything has; as an event, with all its care."""
        payload = self._metrics.summary()
        if payload is None:
            return
        event = CalendlyEvent(
            uuid.uuid4(),
            f"{PREFIX}receiver.summary",
            datetime.now(UTC),
            {"prefect.resource.id": f"{PREFIX}receiver.{self._settings.name}"},
            payload=payload,
        )
        try:
            await self._handover.hand_over([event])
        except Exception as error:  # it is in the store, or there is no store: nothing hangs on it
            logger.warning("Prefect was not told the summary: %s", error)


async def _end(tasks: Iterable[asyncio.Task[Any]]) -> None:
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


class _SparseLog:
    """Logs refusals, of each kind one a second: who sends many shall not fill the disk."""

    def __init__(self) -> None:
        self._next: dict[str, float] = {}
        self._left_out: dict[str, int] = {}

    def refused(self, reason: str, status: int, text: str) -> None:
        """Log a refusal, or count it."""
        now = time.monotonic()
        if now < self._next.get(reason, 0.0):
            self._left_out[reason] = self._left_out.get(reason, 0) + 1
            return
        self._next[reason] = now + 1
        fields: dict[str, Any] = {"reason": reason, "status": status}
        if left_out := self._left_out.pop(reason, 0):
            fields["more_before"] = left_out
        logger.warning("refused: %s", text, extra={"fields": fields})
