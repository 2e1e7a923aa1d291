"""The receiver: an ASGI application that takes Calendly's deliveries and gives Prefect their events.

Cheap checks come first, and nothing of a refused request is kept, answered or logged.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
import traceback
import uuid
from collections.abc import AsyncIterator, Iterable, Mapping
from datetime import UTC, datetime
from typing import Any, Final

from prometheus_client import CONTENT_TYPE_LATEST
from pydantic import SecretStr
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from prefect_calendly.events.event import PREFIX, CalendlyEvent
from prefect_calendly.webhooks.confirmer import Confirmer
from prefect_calendly.webhooks.connection import PrefectConnection
from prefect_calendly.webhooks.deliveries import PING, Delivery, DeliveryError, parse_delivery
from prefect_calendly.webhooks.delivery_events import events_of_delivery
from prefect_calendly.webhooks.errors import BusyError, NoKeyError, NotTakenError
from prefect_calendly.webhooks.handover import Handover
from prefect_calendly.webhooks.keys import SigningKeys
from prefect_calendly.webhooks.metrics import Metrics, event_label
from prefect_calendly.webhooks.refusals import RefusalLog, Rejection
from prefect_calendly.webhooks.settings import ReceiverSettings
from prefect_calendly.webhooks.signature import Signature, SignatureError, WrongSignatureError
from prefect_calendly.webhooks.store import EventStore, default_store_url

logger = logging.getLogger(__name__)

_MAX_BYTES: Final = 1024 * 1024
_SMALL_BYTES: Final = 64 * 1024  # ten times the usual size of a delivery
_LAST_SUMMARY_SECONDS: Final = 3.0
_RETRY_AFTER: Final = {"retry-after": "30"}
_NOT_STARTED: Final = "the receiver was not started: enter its lifespan"


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
        ValueError: When it is started: PREFECT_API_URL is not set.
        StoreUnavailableError: When it is started: the store cannot be used.

    Example:
        ```python
        import contextlib
        from collections.abc import AsyncIterator

        from starlette.applications import Starlette
        from starlette.routing import Mount

        receiver = create_app(ReceiverSettings(signing_key_block="calendly-webhook-key"))

        @contextlib.asynccontextmanager
        async def lifespan(app: Starlette) -> AsyncIterator[None]:
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
        exception_handlers={HTTPException: receiver.not_served},
    )
    app.router.redirect_slashes = False  # to Calendly a redirect is a failure
    return app


class _Receiver:
    """The application's parts, between start and stop."""

    def __init__(self, settings: ReceiverSettings) -> None:
        self._settings = settings
        self._metrics = Metrics()
        self._log = RefusalLog()
        self._large_bodies = 0
        self._started = False
        self._readiness: asyncio.Task[dict[str, str]] | None = None
        self._ready_until = 0.0

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Open store and connection; at the end, finish what was accepted."""
        settings = self._settings
        async with contextlib.AsyncExitStack() as exits:
            self._connection = await exits.enter_async_context(PrefectConnection(settings.handover_seconds))
            self._store = EventStore(settings.store or default_store_url(), lock_seconds=settings.lock_seconds)
            await self._store.open()
            exits.push_async_callback(self._store.close)
            given = [key if isinstance(key, SecretStr) else SecretStr(key) for key in settings.signing_keys]
            self._keys = SigningKeys(
                given, settings.signing_key_block, self._connection, pause_seconds=settings.key_pause_seconds
            )
            self._handover = Handover(
                self._store,
                self._connection,
                self._metrics,
                within_seconds=settings.handover_seconds,
                max_waiting=settings.max_waiting,
            )
            confirmer = Confirmer(
                self._handover,
                self._store,
                self._connection,
                self._metrics,
                confirm_after_seconds=settings.confirm_after_seconds,
                confirm_every_seconds=settings.confirm_every_seconds,
                repost_after_seconds=settings.repost_after_seconds,
                remember_days=settings.remember_days,
            )
            work = [self._handover.work(), confirmer.work(), self._keys.keep_up(), self._summarize()]
            tasks = [asyncio.create_task(each) for each in work]
            exits.push_async_callback(_cancel, tasks)
            if settings.insecure:
                logger.warning("deliveries are taken without a signature: anybody can start your flows")
            self._started = True
            try:
                yield
            finally:
                self._started = False
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(_LAST_SUMMARY_SECONDS):
                        await self._post_summary()
                await self._handover.finish()

    # POST /webhooks/calendly

    async def deliver(self, request: Request) -> Response:
        """Take a delivery."""
        self._metrics.received.inc()
        try:
            return JSONResponse({"status": await self._take(request)})
        except Rejection as error:
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
            logger.error("internal error", extra={"fields": {"error": type(error).__name__, "at": where}})
            return self._refuse(500, "internal", "internal error; the receiver's log says where")

    async def _take(self, request: Request) -> str:
        headers = request.headers
        if headers.get("content-type", "").partition(";")[0].strip().lower() != "application/json":
            raise Rejection(415, "content_type", "the content type must be application/json")
        length = headers.get("content-length", "0")
        if len(length) > 10 or not length.isdecimal() or int(length) > _MAX_BYTES:
            raise Rejection(413, "too_large", "the body must not have more than 1 MiB")
        if not self._started:
            raise Rejection(503, "not_started", _NOT_STARTED, _RETRY_AFTER)
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
        """Read the body; only some large ones at a time, so that together they do not use up the memory."""
        body = bytearray()
        large = False
        try:
            try:
                async with asyncio.timeout(self._settings.body_seconds):
                    async for chunk in request.stream():
                        body += chunk
                        if len(body) > _MAX_BYTES:
                            raise Rejection(413, "too_large", "the body must not have more than 1 MiB")
                        if len(body) > _SMALL_BYTES and not large:
                            if self._large_bodies >= self._settings.max_large_bodies:
                                raise BusyError("too many large deliveries at the same time")
                            large = True
                            self._large_bodies += 1
            except TimeoutError:
                raise Rejection(408, "slow", "the body took too long", {"connection": "close"}) from None
            yield bytes(body)
        finally:
            self._large_bodies -= large

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

    async def not_served(self, _request: Request, error: Exception) -> Response:
        """Answer a request for another path or by another method."""
        assert isinstance(error, HTTPException)  # noqa: S101  (for mypy: it is registered for these)
        self._metrics.received.inc()
        if error.status_code == 405:
            return self._refuse(405, "method", "the method is not allowed here", error.headers)
        return self._refuse(error.status_code, "path", "there is nothing here")

    # For those who run it

    async def health(self, _request: Request) -> Response:
        """Say that the process answers."""
        return JSONResponse({"status": "ok"})

    async def ready(self, _request: Request) -> Response:
        """Say whether a delivery would be taken, and which part is missing."""
        parts = await self._parts()
        ready = all(state == "ok" for state in parts.values())
        return JSONResponse({"status": "ready" if ready else "not ready", **parts}, 200 if ready else 503)

    async def _parts(self) -> dict[str, str]:
        if not self._started:
            return {"receiver": _NOT_STARTED}
        if self._readiness is None or (self._readiness.done() and time.monotonic() > self._ready_until):
            self._readiness = asyncio.create_task(self._ask_parts())
        return await asyncio.shield(self._readiness)

    async def _ask_parts(self) -> dict[str, str]:
        if not self._settings.insecure and not self._keys.current:
            await self._keys.reload()
        store, prefect = await asyncio.gather(self._store.is_ready(), self._connection.is_ready())
        self._ready_until = time.monotonic() + self._settings.ready_seconds
        return {
            "signing_key": "ok" if self._settings.insecure or self._keys.current else "missing",
            "store": "ok" if store else "unavailable",
            "prefect": "ok" if prefect else "unavailable",
        }

    async def show_metrics(self, _request: Request) -> Response:
        """Show the counters to Prometheus."""
        self._metrics.keys.set(len(self._keys.current) if self._started else 0)
        return Response(self._metrics.exposed(), headers={"content-type": CONTENT_TYPE_LATEST})

    # Summaries

    async def _summarize(self) -> None:
        while True:
            await asyncio.sleep(self._settings.summary_seconds)
            await self._post_summary()

    async def _post_summary(self) -> None:
        """Give Prefect a summary of what was counted since the last one, as an event like any other."""
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
        except Exception as error:  # it is in the store, or the store is away: no delivery depends on it
            logger.warning("the summary was not posted: %s", error)


async def _cancel(tasks: Iterable[asyncio.Task[Any]]) -> None:
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
