"""Running the sandbox: in a thread (`Sandbox`) or in the foreground (the command line)."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import socket
import threading
from collections.abc import Callable, Generator
from datetime import datetime
from types import TracebackType
from typing import Any

import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol
from uvicorn.server import ServerState

from .app import App
from .remote import control
from .seed import time_of
from .world import Options

JSON = dict[str, Any]


class _Protocol(H11Protocol):
    """Hands the transport to the application, which must be able to hang up."""

    def __init__(
        self,
        config: uvicorn.Config,
        server_state: ServerState,
        app_state: dict[str, Any],
        _loop: asyncio.AbstractEventLoop | None = None,
    ) -> None:
        super().__init__(config, server_state, app_state, _loop)
        self.access_log = False

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        # asyncio does so itself, but not for connections of a listener that was handed to it. Without, the
        # two writes of an answer wait for each other for 40 ms.
        transport.get_extra_info("socket").setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.app_state = {**self.app_state, "transport": transport}


class Server(uvicorn.Server):
    def __init__(self, app: App, on_start: Callable[[], None]) -> None:
        config = uvicorn.Config(
            app,
            http=_Protocol,
            ws="none",
            loop="asyncio",
            lifespan="off",
            # The logging of the process we run in stays as it is.
            log_config=None,
            # Longer than any client keeps an idle connection, lest both close and open it at the same time.
            timeout_keep_alive=120,
        )
        super().__init__(config)
        self._app = app
        self._on_start = on_start

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self._on_start()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        await self._app.close()
        await super().shutdown(sockets)

    @contextlib.contextmanager
    def capture_signals(self) -> Generator[None, None, None]:
        """As uvicorn's, but a signal that ended the server is not raised again: that end is a clean one."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        old = {number: signal.signal(number, self.handle_exit) for number in (signal.SIGINT, signal.SIGTERM)}
        try:
            yield
        finally:
            for number, handler in old.items():
                signal.signal(number, handler)


def listen(host: str, port: int) -> tuple[socket.socket, str]:
    """A listening socket and its URL."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.create_server((host, port), family=family, backlog=2048)
    name = f"[{host}]" if ":" in host else host
    return listener, f"http://{name}:{listener.getsockname()[1]}"


class Sandbox:
    """A sandbox gateway in this process, on a free port, for as long as the `with` block runs.

    Takes the options of the command line as keywords:
    `with Sandbox(events=100, seed=1, now="2025-03-14T00:00:00Z") as sandbox: ... sandbox.gateway_url ...`
    """

    def __init__(self, *, host: str = "127.0.0.1", port: int = 0, **options: Any) -> None:
        self._options = Options(**options)
        self._host, self._port = host, port
        self._thread: threading.Thread | None = None
        self.api_key = self._options.api_key
        self.second_key = self._options.second_key
        self.native_token = self._options.native_token
        self.url = ""

    @property
    def gateway_url(self) -> str:
        return f"{self.url}/calendly"

    @property
    def connections_url(self) -> str:
        """What stands for https://ctrl.maton.ai: `/connections` is appended to it."""
        return self.url

    @property
    def native_url(self) -> str:
        return f"{self.url}/native"

    def __enter__(self) -> Sandbox:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def start(self) -> None:
        if self._thread is not None:
            raise RuntimeError("the sandbox is already running")
        app = App(self._options)
        listener, self.url = listen(self._host, self._port)
        ready = threading.Event()
        self._server = Server(app, ready.set)
        # The application's server may fail to start: then nobody must wait for ever.
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
            ready.set()

    def stop(self) -> None:
        if self._thread is not None:
            self._server.should_exit = True
            self._thread.join()
            self._thread = None

    # The control surface

    def control(self, method: str, path: str, body: Any = None, **query: Any) -> JSON:
        """A call of the control surface, such as `control("GET", "/stats")`."""
        return control(self.url, method, path, body, **query)

    def stats(self) -> JSON:
        """Requests by route and status, the highest number in flight, unknown parameters, writes, faults."""
        return self.control("GET", "/stats")

    def reset_stats(self) -> None:
        self.control("POST", "/stats/reset")

    def reset(self, **overrides: Any) -> JSON:
        """Back to the seeded world; options given here differ until the next reset."""
        return self.control("POST", "/reset", overrides)

    def fault(self, kind: str, **options: Any) -> None:
        """Add a fault, such as `fault("server_error", route="/users/me", times=2)`."""
        self.control("POST", "/faults", {"kind": kind, **options})

    def clear_faults(self) -> None:
        self.control("DELETE", "/faults")

    def state(self, full: bool = False) -> JSON:
        """Counts, what was cancelled and booked through the API, webhook subscriptions, connections."""
        return self.control("GET", "/state", full=int(full))

    def clock(self) -> datetime:
        return time_of(self.control("GET", "/clock")["now"])

    def set_clock(
        self,
        now: str | datetime | None = None,
        *,
        advance_seconds: float | None = None,
        frozen: bool | None = None,
        speed: float | None = None,
    ) -> datetime:
        """Set, advance, freeze or release the sandbox's clock, or let it run at another speed; returns its time."""
        change = {"now": now, "advance_seconds": advance_seconds, "frozen": frozen, "speed": speed}
        given = {name: value for name, value in change.items() if value is not None}
        return time_of(self.control("POST", "/clock", given)["now"])

    def add_event(self, start_time: str | datetime | None = None, **members: Any) -> str:
        """A scheduled event, on a free slot unless told when; its URI. Members as in `POST /_sandbox/events`."""
        return str(self.control("POST", "/events", {"start_time": start_time, **members})["uri"])

    def burst(self, count: int, **members: Any) -> list[str]:
        """So many bookings at once; the invitees' URIs. Members (`domains`) as in `POST /_sandbox/burst`."""
        return list(self.control("POST", "/burst", {"count": count, **members})["invitees"])

    def reschedule_event(self, uuid: str, start_time: str | datetime | None = None) -> str:
        """An invitee moves an event, to a free slot unless told when; the URI of the new one."""
        return str(self.control("POST", f"/events/{uuid}/reschedule", {"start_time": start_time})["uri"])

    def cancel_event(self, uuid: str, **members: Any) -> JSON:
        """The invitees (or one: `invitee`, or the host: `by`) cancel an event, with a `reason` or none."""
        return self.control("POST", f"/events/{uuid}/cancel", members)

    def mark_no_show(self, uuid: str, **members: Any) -> JSON:
        """The invitees of an event (or one: `invitee`) did not come; `undo=True` takes that back."""
        return self.control("POST", f"/events/{uuid}/no_show", members)

    def add_event_type(self, name: str, **members: Any) -> str:
        """An event type; its URI. Members as in `POST /_sandbox/event_types`."""
        return str(self.control("POST", "/event_types", {"name": name, **members})["uri"])

    def add_user(self, name: str, **members: Any) -> JSON:
        """A user; the URIs of `uri`, `organization_membership`, `availability_schedule`, `event_type`."""
        return self.control("POST", "/users", {"name": name, **members})

    def add_busy_time(self, start_time: str | datetime, end_time: str | datetime, **members: Any) -> None:
        """A busy time of a user's other calendar (`user`, default Alice; `type`, default `external`)."""
        self.control("POST", "/busy_times", {"start_time": start_time, "end_time": end_time, **members})

    def set_webhook(self, uuid: str, **members: Any) -> JSON:
        """Change `state` or `retry_started_at` of a webhook subscription."""
        return self.control("POST", f"/webhook_subscriptions/{uuid}", members)

    def deliveries(self, limit: int = 100) -> JSON:
        """Counts of webhook deliveries, and the newest so many of them."""
        return self.control("GET", "/deliveries", limit=limit)

    def wait_for_deliveries(self, timeout: float = 10) -> JSON:
        """As `deliveries`, once none is pending; TimeoutError if some still are after so many real seconds."""
        found = self.control("GET", "/deliveries", wait=timeout)
        if found["pending"]:
            raise TimeoutError(f"{found['pending']} deliveries are still pending after {timeout:g} s")
        return found

    def set_deliveries(self, **options: Any) -> JSON:
        """Pause, delay, duplicate, reorder, drop, spoil or replay deliveries, as `POST /_sandbox/deliveries` does."""
        return self.control("POST", "/deliveries", options)

    def set_connection(self, connection_id: str, **members: Any) -> JSON:
        """Change `status` or `user` of a connection: the person logs in, or the grant is lost."""
        return self.control("POST", f"/connections/{connection_id}", members)

    def set_login(self, **members: Any) -> JSON:
        """`activate_after_gets` and `activate_after_seconds` of pending connections; None is never."""
        return self.control("POST", "/connections", members)
