"""An ASGI application on a port of its own, in a thread."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import threading
import time

import uvicorn
from starlette.types import ASGIApp

from prefect_calendly.webhooks.server import ServerLimits, server_config
from tests.settings import changed_settings


class _Server(uvicorn.Server):
    async def main_loop(self) -> None:
        """Like uvicorn's, which looks less often whether it is to end."""
        count = 0
        while not await self.on_tick(count):
            count = (count + 1) % 1000
            await asyncio.sleep(0.01)


class Served:
    """An ASGI application that is served as the receiver is.

    Args:
        app: The application.
        prefect: The PREFECT_API_URL that it sees; the current one by default.
        port: Where it listens; a free port by default.
        limits: As for `server_config`.
    """

    def __init__(
        self, app: ASGIApp, prefect: str | None = None, port: int = 0, limits: ServerLimits | None = None
    ) -> None:
        self._listener = socket.create_server(("127.0.0.1", port))
        self.port: int = self._listener.getsockname()[1]
        self._server = _Server(server_config(app, limits))
        self._prefect = prefect
        self._thread = threading.Thread(target=self._run)
        self._thread.start()
        while not self._server.started:
            assert self._thread.is_alive(), "it did not start"
            time.sleep(0.002)

    def _run(self) -> None:
        with changed_settings("api.url", self._prefect) if self._prefect else contextlib.nullcontext(), self._listener:
            self._server.run(sockets=[self._listener])

    @property
    def connections(self) -> int:
        """How many are open."""
        return len(self._server.server_state.connections)

    def stop(self) -> None:
        self._server.should_exit = True
        self._thread.join()
