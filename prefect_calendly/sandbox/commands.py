"""The commands for a running sandbox, such as `python -m prefect_calendly.sandbox book EMAIL`."""

from __future__ import annotations

import argparse
import os
import re
import sys
from http.client import HTTPException
from typing import Any
from urllib.parse import quote, urlsplit

from prefect_calendly.sandbox.remote import control

COMMANDS = ("book", "cancel", "move", "no-show")
PROGRAM = "python -m prefect_calendly.sandbox"
URL_VARIABLE = "CALENDLY_SANDBOX_URL"


def run(arguments: list[str]) -> int:
    """Run a command; prints the URI of the event, or one line with the error. Returns the exit code."""
    given = vars(_parser().parse_args(arguments))
    url = (given["url"] or "").rstrip("/")
    if not url:
        return _fail(f"no sandbox given: use --url or set {URL_VARIABLE}, for example to http://127.0.0.1:8321")
    try:
        parts = urlsplit(url)
        usable = parts.scheme in ("http", "https") and parts.hostname and url.isascii() and not re.search(r"\s", url)
    except ValueError:
        usable = False
    if not usable:
        return _fail(f"{url!r} is not the URL of a sandbox, for example http://127.0.0.1:8321")
    path, body = _call(given)
    try:
        answer = control(url, "POST", path, {name: value for name, value in body.items() if value is not None})
        print(answer["uri"])  # noqa: T201
    except (ValueError, KeyError) as error:
        return _fail(str(error))
    except (OSError, HTTPException):
        return _fail(f"no sandbox is running at {url}; start one with `{PROGRAM} --port PORT`")
    return 0


def _call(given: dict[str, Any]) -> tuple[str, dict[str, Any]]:
    """The path and body of a command's control call."""
    if given["command"] == "book":
        person = {name: given[name] for name in ("email", "name") if given[name] is not None}
        return "/events", {"start_time": given["start"], "host": given["host"], "invitees": [person]}
    path = f"/events/{quote(given['event'].rstrip('/').rpartition('/')[2], safe='')}"
    if given["command"] == "move":
        return f"{path}/reschedule", {"start_time": given["start"]}
    if given["command"] == "cancel":
        return f"{path}/cancel", {name: given[name] for name in ("by", "invitee", "reason")}
    return f"{path}/no_show", {"invitee": given["invitee"], "undo": given["undo"]}


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog=PROGRAM, description="Change bookings in a running sandbox.")
    commands = parser.add_subparsers(dest="command", required=True)

    def command(name: str, text: str) -> argparse.ArgumentParser:
        added = commands.add_parser(name, help=text, description=text)
        added.add_argument(
            "--url", default=os.environ.get(URL_VARIABLE), help=f"base URL of the sandbox (default: {URL_VARIABLE})"
        )
        return added

    start = "ISO 8601 time, UTC unless it has an offset (default: the first free slot from tomorrow on)"
    one = "email address of the only invitee to change (default: all)"
    book = command("book", "Let an invitee book; prints the URI of the event.")
    book.add_argument("email", type=_email, help="email address of the invitee")
    book.add_argument("--start", help=start)
    book.add_argument("--host", help="email address or identifier of the host (default: Alice)")
    book.add_argument("--name", help="name of the invitee (default: the part of the address before the @)")
    cancel = command("cancel", "Let the invitees or the host cancel an event; prints its URI.")
    move = command("move", "Let the invitees reschedule an event; prints the URI of the new one.")
    no_show = command("no-show", "Mark the invitees of an event as no-shows; prints its URI.")
    for added in (cancel, move, no_show):
        added.add_argument("event", metavar="EVENT_UUID", type=_event, help="identifier or URI of the event")
    cancel.add_argument("--by", choices=("invitee", "host"), help="who cancels (default: invitee)")
    cancel.add_argument("--reason", help="reason of the cancellation")
    move.add_argument("--start", help=start)
    no_show.add_argument("--undo", action="store_true", help="remove the marks")
    for added in (cancel, no_show):
        added.add_argument("--invitee", help=one)
    return parser


def _email(text: str) -> str:
    if not re.fullmatch(r"[^@\s]+@[^@\s]+", text):
        raise argparse.ArgumentTypeError(f"{text!r} is not an email address")
    return text


def _event(text: str) -> str:
    if not text.strip("/ "):
        raise argparse.ArgumentTypeError("give the identifier or URI of a scheduled event")
    return text


def _fail(message: str) -> int:
    print(f"{PROGRAM}: {message}", file=sys.stderr)  # noqa: T201
    return 1
