"""`python -m prefect_calendly.webhooks`: the receiver on the command line."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import logging
import os
import re
import signal
import socket
import sys
import traceback
from collections.abc import Generator
from datetime import UTC, datetime
from typing import Any, Final, NoReturn

import h11
import uvicorn
from pydantic import SecretStr
from starlette.applications import Starlette
from starlette.types import ASGIApp
from uvicorn.protocols.http.h11_impl import H11Protocol
from uvicorn.server import ServerState

from prefect_calendly.webhooks.errors import StoreUnavailableError
from prefect_calendly.webhooks.receiver import DEFAULT_PATH, ReceiverSettings, create_app

KEYS: Final = "CALENDLY_WEBHOOK_SIGNING_KEY"
STORE: Final = "CALENDLY_RECEIVER_STORE"

_MOST_CONNECTIONS: Final = 500
_CLIENT_SECONDS: Final = 15.0  # to send a request's head, the first or the next
# Of a request that was answered already: who is cut off in the middle may not see the answer.
_MOST_UNREAD_BYTES: Final = 64 * 1024 * 1024
_LONGEST_HEAD_BYTES: Final = 16 * 1024
_FINISH_SECONDS: Final = 15  # more than handing over a delivery may take


class _Parser(argparse.ArgumentParser):
    """A parser whose errors are one line."""

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"{self.prog}: {message}\n")


def main(arguments: list[str] | None = None) -> int:
    """Run the receiver until it is stopped; return 0 then, 1 if it cannot start, 2 for a bad argument."""
    parser = _Parser(
        prog="python -m prefect_calendly.webhooks",
        description="Takes Calendly's webhook deliveries and gives Prefect their events.",
        epilog=f"{KEYS} holds signing keys, separated by blanks or commas. PREFECT_API_URL says where Prefect is.",
    )
    add = parser.add_argument
    add("--host", default="127.0.0.1", help="address to listen on (default: 127.0.0.1)")
    add("--port", type=_port, default=8765, help="port to listen on; 0 takes a free one (default: 8765)")
    add("--path", default=DEFAULT_PATH, help=f"where deliveries come (default: {DEFAULT_PATH})")
    add("--signing-key-block", metavar="NAME", help="saved Secret block with signing keys; it may come later")
    add("--insecure", action="store_true", help="take deliveries that are not signed, by anybody")
    add(
        "--store",
        metavar="URL",
        default=os.environ.get(STORE) or None,
        help=f"SQLAlchemy URL of SQLite or PostgreSQL (default: {STORE}, or a file in Prefect's home folder)",
    )
    add("--payload", choices=("standard", "full"), default="standard", help="of the events (default: standard)")
    add("--organization", metavar="URI", help="of your Calendly organization, for the events' related resources")
    add("--name", default="default", help="of this receiver, in the events with its summaries (default: default)")
    add("--remember-days", type=float, default=30, help="how long deliveries are known again (default: 30)")
    options = parser.parse_args(arguments)
    try:
        app = create_app(
            ReceiverSettings(
                signing_keys=[SecretStr(key) for key in re.split(r"[\s,]+", os.environ.get(KEYS, "")) if key],
                signing_key_block=options.signing_key_block,
                insecure=options.insecure,
                path=options.path,
                store=options.store,
                payload=options.payload,
                organization=options.organization,
                name=options.name,
                remember_days=options.remember_days,
            )
        )
    except ValueError as error:
        parser.error(_with_options(str(error)))
    try:
        listener = socket.create_server(
            (options.host, options.port),
            family=socket.AF_INET6 if ":" in options.host else socket.AF_INET,
            backlog=1024,
        )
    except (OSError, OverflowError) as error:
        return _failed(parser, f"cannot listen on {options.host}:{options.port}: {error}")
    _log_json()
    try:
        with listener:
            asyncio.run(_serve(app, listener, options.path))
    except ValueError as error:
        parser.error(str(error))
    except StoreUnavailableError as error:
        return _failed(parser, str(error))
    except KeyboardInterrupt:
        return 128 + signal.SIGINT
    return 0


def _port(text: str) -> int:
    if not text.isascii() or not text.isdigit() or not int(text) <= 65535:
        raise argparse.ArgumentTypeError(f"{text!r} is no port; give a number from 0 to 65535")
    return int(text)


def _with_options(text: str) -> str:
    """Name the options of the command line instead of the settings."""
    for name in ("signing_key_block", "remember_days", "insecure"):
        text = re.sub(rf"\b{name}\b", f"--{name.replace('_', '-')}", text)
    return text


def _failed(parser: argparse.ArgumentParser, text: str) -> int:
    print(f"{parser.prog}: {text}", file=sys.stderr)  # noqa: T201
    return 1


async def _serve(app: Starlette, listener: socket.socket, path: str) -> None:
    host, port = listener.getsockname()[:2]
    url = f"http://{f'[{host}]' if ':' in host else host}:{port}{path}"
    # Not uvicorn's lifespan, which would print what went wrong with a stack trace.
    async with app.router.lifespan_context(app):
        await _Server(config_of(app, lifespan="off"), url).serve(sockets=[listener])


def config_of(app: ASGIApp, **changes: Any) -> uvicorn.Config:
    """Return how uvicorn serves the receiver."""
    config: dict[str, Any] = {
        "http": _Protocol,
        "ws": "none",
        "loop": "asyncio",
        "log_config": None,
        "access_log": False,
        "server_header": False,
        "limit_concurrency": _MOST_CONNECTIONS,
        "h11_max_incomplete_event_size": _LONGEST_HEAD_BYTES,
        "timeout_keep_alive": 60,  # the protocol below is stricter
        "timeout_graceful_shutdown": _FINISH_SECONDS,
    }
    return uvicorn.Config(app, **{**config, **changes})


class _Server(uvicorn.Server):
    """Says when it listens, and takes a signal that ends it for a clean end."""

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
    """HTTP with clients who keep the server waiting sent away: uvicorn itself waits for a request's head for ever."""

    def __init__(
        self,
        config: uvicorn.Config,
        server_state: ServerState,
        app_state: dict[str, Any],
        _loop: asyncio.AbstractEventLoop | None = None,
    ) -> None:
        super().__init__(config, server_state, app_state, _loop)
        self.access_log = False
        self._patience: asyncio.TimerHandle | None = None
        self._unread = 0

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        # asyncio does so itself, but not for a listener that was handed to it; without, an answer may take 40 ms more.
        transport.get_extra_info("socket").setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if len(self.connections) > _MOST_CONNECTIONS:
            transport.abort()
        self._wait_for_client()

    def data_received(self, data: bytes) -> None:
        if self.cycle is not None and self.cycle.response_complete and self.conn.their_state is h11.SEND_BODY:
            self._unread += len(data)
            if self._unread > _MOST_UNREAD_BYTES:
                self.transport.abort()
                return
        super().data_received(data)
        self._wait_for_client()

    def on_response_complete(self) -> None:
        super().on_response_complete()
        self._unread = 0
        self._wait_for_client()

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        self._wait_no_longer()

    def _wait_for_client(self) -> None:
        """Keep time while it is the client's turn; it does not begin anew with each byte."""
        if self.transport.is_closing() or (self.cycle is not None and not self.cycle.response_complete):
            self._wait_no_longer()
        elif self._patience is None:
            self._patience = self.loop.call_later(_CLIENT_SECONDS, self.transport.abort)

    def _wait_no_longer(self) -> None:
        if self._patience is not None:
            self._patience.cancel()
            self._patience = None


def _log_json() -> None:
    """Write all logs as lines of JSON, whatever Prefect and uvicorn have set up."""
    handler = logging.StreamHandler()
    handler.setFormatter(_JsonFormatter())
    logging.captureWarnings(True)
    for name in list(logging.root.manager.loggerDict):
        logger = logging.getLogger(name)
        logger.handlers.clear()
        logger.propagate = True
    logging.basicConfig(handlers=[handler], level=logging.WARNING, force=True)
    logging.getLogger("prefect_calendly").setLevel(logging.INFO)
    # At INFO httpx logs URLs; uvicorn warns of each bad request, as often as somebody likes.
    for name, level in (("httpx", logging.WARNING), ("prefect", logging.WARNING), ("uvicorn", logging.ERROR)):
        logging.getLogger(name).setLevel(level)


class _JsonFormatter(logging.Formatter):
    """A line of JSON; of an exception its type and place, as its text may hold anything."""

    def format(self, record: logging.LogRecord) -> str:
        line: dict[str, Any] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
            **getattr(record, "fields", {}),
        }
        if record.exc_info and record.exc_info[1] is not None:
            error = record.exc_info[1]
            line["error"] = type(error).__name__
            line["at"] = [f"{each.filename}:{each.lineno}" for each in traceback.extract_tb(error.__traceback__)][-5:]
        return json.dumps(line)


if __name__ == "__main__":
    sys.exit(main())
