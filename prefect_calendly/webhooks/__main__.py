"""`python -m prefect_calendly.webhooks`: the receiver on the command line."""

from __future__ import annotations

import argparse
import asyncio
import os
import re
import signal
import socket
import sys
from typing import Final, NoReturn

from pydantic import SecretStr

from prefect_calendly.webhooks.errors import StoreUnavailableError
from prefect_calendly.webhooks.json_logs import log_json
from prefect_calendly.webhooks.receiver import create_app
from prefect_calendly.webhooks.server import serve
from prefect_calendly.webhooks.settings import DEFAULT_PATH, ReceiverSettings

KEYS: Final = "CALENDLY_WEBHOOK_SIGNING_KEY"
STORE: Final = "CALENDLY_RECEIVER_STORE"


class _Parser(argparse.ArgumentParser):
    """A parser whose errors are one line."""

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"{self.prog}: {message}\n")


def main(arguments: list[str] | None = None) -> int:
    """Run the receiver until it is stopped.

    Args:
        arguments: Those of the command line; by default `sys.argv[1:]`.

    Returns:
        The exit status: 0 after a signal has stopped it, 1 if it cannot start. A bad argument exits with 2.
    """
    parser = _Parser(
        prog="python -m prefect_calendly.webhooks",
        description="Takes Calendly's webhook deliveries and gives Prefect their events.",
        epilog=f"{KEYS} holds signing keys, separated by blanks or commas. PREFECT_API_URL says where Prefect is.",
    )
    add = parser.add_argument
    add("--host", default="127.0.0.1", help="address to listen on (default: 127.0.0.1)")
    add("--port", type=_port, default=8765, help="port to listen on; 0 takes a free one (default: 8765)")
    add("--path", default=DEFAULT_PATH, help=f"path of deliveries (default: {DEFAULT_PATH})")
    add("--signing-key-block", metavar="NAME", help="saved Secret block with signing keys; it may be made later")
    add("--insecure", action="store_true", help="take deliveries that are not signed, by anybody")
    add(
        "--store",
        metavar="URL",
        default=os.environ.get(STORE) or None,
        help=f"SQLAlchemy URL of SQLite or PostgreSQL (default: {STORE}, or a file in Prefect's home folder)",
    )
    add(
        "--payload",
        choices=("standard", "full"),
        default="standard",
        help="how much the events show (default: standard)",
    )
    add("--organization", metavar="URI", help="your Calendly organization, for the events' related resources")
    add("--name", default="default", help="name of this receiver, in the events with its summaries (default: default)")
    add(
        "--remember-days",
        type=float,
        default=30,
        help="how long deliveries are recognized when they come again (default: 30)",
    )
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
    log_json()
    try:
        with listener:
            asyncio.run(serve(app, listener, options.path))
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


if __name__ == "__main__":
    sys.exit(main())
