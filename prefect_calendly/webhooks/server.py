"""The receiver's HTTP server: uvicorn, with limits for clients that waste its time, connections or memory."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import logging
import math
import signal
import socket
from collections.abc import Generator
from dataclasses import dataclass
from typing import Any, Final, Literal

import h11
import uvicorn
from starlette.applications import Starlette
from starlette.types import ASGIApp
from uvicorn.protocols.http.h11_impl import H11Protocol
from uvicorn.server import ServerState

_MAX_HEAD_BYTES: Final = 16 * 1024
_MAX_SENT_BYTES: Final = 64 * 1024  # in the kernel, for a client that does not read; answers are smaller
_FINISH_SECONDS: Final = 15  # longer than a delivery may take to be handed over

_ClientsTurn = Literal["send a request", "send a body", "read"]


@dataclass(frozen=True, slots=True)
class ServerLimits:
    """What clients may use up.

    Args:
        connections: How many may be open at the same time. One more takes the place of that whose client keeps us
            waiting longest.
        client_seconds: How long a client may take to send a request's head or its body, or to read an answer.
        unread_bytes: How much of a body is read after the request was answered. A client that is cut off in the middle
            may not see the answer.
    """

    connections: int = 500
    client_seconds: float = 15.0
    unread_bytes: int = 64 * 1024 * 1024


async def serve(app: Starlette, listener: socket.socket, path: str) -> None:
    """Serve the receiver until a signal ends it.

    Args:
        app: The receiver.
        listener: Where it listens.
        path: Where deliveries come, for the log.
    """
    host, port = listener.getsockname()[:2]
    url = f"http://{f'[{host}]' if ':' in host else host}:{port}{path}"
    # Not uvicorn's lifespan, which would print what went wrong with a stack trace.
    async with app.router.lifespan_context(app):
        await _Server(server_config(app, lifespan="off"), url).serve(sockets=[listener])


def server_config(app: ASGIApp, limits: ServerLimits | None = None, **changes: Any) -> uvicorn.Config:
    """Return how uvicorn serves the receiver.

    Args:
        app: The receiver.
        limits: What clients may use up.
        changes: Other settings of uvicorn.
    """
    limits = limits or ServerLimits()
    config: dict[str, Any] = {
        "http": functools.partial(_Protocol, limits),
        "ws": "none",
        "loop": "asyncio",
        "log_config": None,
        "access_log": False,
        "server_header": False,
        "limit_concurrency": limits.connections + 1,  # the protocol below refuses connections, not requests
        "h11_max_incomplete_event_size": _MAX_HEAD_BYTES,
        "timeout_keep_alive": 60,  # the protocol below is stricter
        "timeout_graceful_shutdown": _FINISH_SECONDS,
    }
    return uvicorn.Config(app, **{**config, **changes})


class _Server(uvicorn.Server):
    """Logs when it listens, and ends with exit status 0 when a signal stops it."""

    def __init__(self, config: uvicorn.Config, url: str) -> None:
        super().__init__(config)
        self._url = url

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        logging.getLogger(__package__).info("listening", extra={"fields": {"url": self._url}})

    @contextlib.contextmanager
    def capture_signals(self) -> Generator[None, None, None]:
        old = {number: signal.signal(number, self.handle_exit) for number in (signal.SIGINT, signal.SIGTERM)}
        try:
            yield
        finally:
            for number, handler in old.items():
                signal.signal(number, handler)


class _Protocol(H11Protocol):
    """HTTP/1.1 that closes the connections of clients that keep it waiting: uvicorn waits forever."""

    def __init__(
        self,
        limits: ServerLimits,
        config: uvicorn.Config,
        server_state: ServerState,
        app_state: dict[str, Any],
        _loop: asyncio.AbstractEventLoop | None = None,
    ) -> None:
        super().__init__(config, server_state, app_state, _loop)
        self.access_log = False
        self._limits = limits
        self._awaited: _ClientsTurn | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._unread = 0

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        # asyncio does this itself, but not for a listener that it was given; without it an answer may take 40 ms more.
        transport.get_extra_info("socket").setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _MAX_SENT_BYTES)
        if len(self.connections) > self._limits.connections:
            self._make_room()
        self._wait_for_client()

    def data_received(self, data: bytes) -> None:
        if self.cycle is not None and self.cycle.response_complete and self.conn.their_state is h11.SEND_BODY:
            self._unread += len(data)
            if self._unread > self._limits.unread_bytes:
                self._cut_off()
                return
        super().data_received(data)
        self._wait_for_client()

    def on_response_complete(self) -> None:
        super().on_response_complete()
        self._unread = 0
        self._wait_for_client()

    def pause_writing(self) -> None:
        super().pause_writing()
        self._wait_for_client()

    def resume_writing(self) -> None:
        super().resume_writing()
        self._wait_for_client()

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        self._stop_waiting()

    def _turn(self) -> _ClientsTurn | None:
        """What the client has to do now; None while it waits for us."""
        if self.transport.is_closing() or self.flow.write_paused:
            return "read"
        if self.cycle is None or self.cycle.response_complete:
            return "send a request"
        return "send a body" if self.cycle.more_body else None

    def _wait_for_client(self) -> None:
        """Start the timer when it is the client's turn; further bytes do not start it anew."""
        turn = self._turn() if self in self.connections else None
        if turn == self._awaited:
            return
        self._stop_waiting()
        self._awaited = turn
        if turn is not None:
            self._timer = self.loop.call_later(self._limits.client_seconds, self._cut_off)

    def _stop_waiting(self) -> None:
        self._awaited = None
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _make_room(self) -> None:
        """Close the connection that has waited longest for its client; this one if none waits for its client."""
        closed, since = self, math.inf
        for each in self.connections:
            if isinstance(each, _Protocol) and each._timer is not None and each._timer.when() < since:
                closed, since = each, each._timer.when()
        closed._cut_off()

    def _cut_off(self) -> None:
        self._stop_waiting()
        self.connections.discard(self)
        self.transport.abort()
