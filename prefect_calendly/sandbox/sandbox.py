"""`Sandbox`: a sandbox gateway in this process, for tests and notebooks."""

from __future__ import annotations

import socket
import threading
from types import TracebackType
from typing import Any

from prefect_calendly.sandbox.app import App
from prefect_calendly.sandbox.options import Options
from prefect_calendly.sandbox.sandbox_control import SandboxControl
from prefect_calendly.sandbox.server import Server, listen


class Sandbox(SandboxControl):
    """A sandbox gateway: an HTTP server in a thread of this process, for as long as the `with` block runs.

    Args:
        host: Address to listen on.
        port: Port to listen on; 0 takes a free one.
        options: The world, the clock, the limits and the keys: see `prefect_calendly.sandbox.options.Options`.

    Attributes:
        url: The base URL, once the server has started.
        api_key: The gateway's API key.
        second_key: Another API key, which has no Calendly connection.
        native_token: Personal access token for `native_url`.

    Raises:
        ValueError: An option is out of range.
        TypeError: There is no such option.

    Example:
        >>> with Sandbox(events=20, now="2025-03-14T00:00:00Z") as sandbox:
        ...     sandbox.state()["users"]
        6
    """

    def __init__(self, *, host: str = "127.0.0.1", port: int = 0, **options: Any) -> None:
        super().__init__("")
        self._options = Options(**options)
        self._host, self._port = host, port
        self._thread: threading.Thread | None = None
        self.api_key = self._options.api_key
        self.second_key = self._options.second_key
        self.native_token = self._options.native_token

    @property
    def gateway_url(self) -> str:
        """The URL of Calendly behind the gateway; takes the place of https://gateway.maton.ai/calendly."""
        return f"{self.url}/calendly"

    @property
    def connections_url(self) -> str:
        """The URL to which `/connections` is appended; takes the place of https://ctrl.maton.ai."""
        return self.url

    @property
    def native_url(self) -> str:
        """The URL of Calendly without the gateway; takes the place of https://api.calendly.com."""
        return f"{self.url}/native"

    # Starting and stopping

    def __enter__(self) -> Sandbox:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def start(self) -> None:
        """Seed the world and start the server; returns once it accepts connections.

        Raises:
            RuntimeError: The sandbox is already running, or the server did not start.
            OSError: The address is in use.
        """
        if self._thread is not None:
            raise RuntimeError("the sandbox is already running")
        app = App(self._options)
        listener, self.url = listen(self._host, self._port)
        ready = threading.Event()
        self._server = Server(app, ready.set)
        self._thread = threading.Thread(target=self._run, args=(listener, ready), name="calendly-sandbox")
        self._thread.daemon = True
        self._thread.start()
        ready.wait()
        if not self._server.started:
            self.stop()
            raise RuntimeError("the sandbox did not start; see the log")

    def _run(self, listener: socket.socket, ready: threading.Event) -> None:
        try:
            with listener:
                self._server.run(sockets=[listener])
        finally:
            ready.set()  # also if the server fails to start, so that `start` does not wait forever

    def stop(self) -> None:
        """Stop the server at once, whatever it is still answering or delivering; does nothing if it is not running."""
        if self._thread is not None:
            self._server.should_exit = True
            self._thread.join()
            self._thread = None
